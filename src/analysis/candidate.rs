//! Candidate cost: what operators would cost that are in no graph yet.

use super::cost_model::CostModel;
use crate::analysis::op_macs;
use crate::ir::infer::infer;
use crate::ir::{Bindings, Op, Type};

/// An operator with the types of its operands and results.
#[derive(Clone, Debug)]
pub struct CandidateOp {
    op: Op,
    operands: Vec<Type>,
    results: Vec<Type>,
}

impl CandidateOp {
    /// `op` on operands of these types; `None` if they do not fit it.
    pub fn new(op: Op, operands: Vec<Type>) -> Option<CandidateOp> {
        let results = infer(&op, &operands.iter().collect::<Vec<_>>()).ok()?;
        Some(CandidateOp {
            op,
            operands,
            results: results.to_vec(),
        })
    }

    /// The type of its first result.
    pub fn result(&self) -> Type {
        self.results[0].clone()
    }

    /// The operator.
    pub(crate) fn op(&self) -> &Op {
        &self.op
    }

    /// The types of its operands.
    pub(crate) fn operands(&self) -> &[Type] {
        &self.operands
    }

    /// The types of its results.
    pub(crate) fn results(&self) -> &[Type] {
        &self.results
    }

    /// Its multiply-adds; `None` where they depend on sizes without a number.
    pub fn macs(&self, bindings: &Bindings) -> Option<u64> {
        let operands: Vec<&Type> = self.operands.iter().collect();
        op_macs(&self.op, &operands, &self.results)?.eval(bindings)
    }

    /// The elements of its weights: of all operands but the first.
    pub fn weights(&self) -> Option<u64> {
        let weights = self.operands.iter().skip(1);
        let size = |ty: &Type| -> Option<u64> {
            let lengths = ty.shape()?.iter().map(|n| Some(n.as_len()? as u64));
            lengths.product()
        };
        weights.map(size).sum()
    }

    /// What it costs.
    pub fn cost(&self, model: &CostModel) -> u64 {
        let operands: Vec<&Type> = self.operands.iter().collect();
        model.op(&self.op, &operands, &self.results)
    }
}

/// The multiply-adds and the cost of operators together, each on the result of the one before; `None` where they depend on sizes
/// without a number, or the runtime in which they are timed refuses them.
pub fn total(plan: &[CandidateOp], bindings: &Bindings, model: &CostModel) -> Option<(u64, u64)> {
    let macs = plan.iter().try_fold(0u64, |macs, step| {
        Some(macs.saturating_add(step.macs(bindings)?))
    })?;
    Some((macs, model.plan(plan)?))
}
