//! What running an operator costs: the one place that says so, for extraction and for every pass that has a choice.

use std::fmt;
use std::sync::Arc;

use super::candidate::CandidateOp;
use super::cost::op_macs;
use super::latency::Latency;
use crate::ir::{Bindings, Dim, Graph, Op, Symbol, Type};

/// What sizes without a number count as, where two alternatives are weighed against each other.
const UNKNOWN_SIZE: i64 = 16;

/// Multiply-adds that an element written counts as: enough that nothing is moved about for nothing, and little enough that what
/// is counted are multiply-adds. How long memory takes is for [`Cost::Latency`] to say.
const WRITE: u64 = 2;

/// What a product with weights costs beyond its multiply-adds, and any other operator beyond what it writes: with equal numbers of
/// both, fewer operators are better, and a layer is not taken apart to save the views of its parts.
const PRODUCT: u64 = 8;
const OTHER: u64 = 1;

/// How much faster something has to be predicted to be than what is there, as a fraction of its time: operators that are timed
/// alone are faster than in a network, where others take the cache.
const MARGIN: f64 = 0.15;
/// The same for operators that were timed themselves: little more than times scatter.
const MEASURED_MARGIN: f64 = 0.05;

/// The most that one operator costs, so that a sum over a graph cannot overflow.
const MOST: u64 = (u32::MAX as u64) << 20;

/// What a pass makes smaller where it has a choice; [`CostModel`](crate::analysis::CostModel) weighs operators by it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Cost {
    /// Multiply-adds of one run; stored weights decide between equals.
    #[default]
    Macs,
    /// Stored weights; multiply-adds decide between equals.
    Params,
    /// The time of one run; stored weights decide between equals. Every size needs a number.
    Latency(Arc<Latency>),
}

/// `macs`, `params`, `latency: table of ...`, `time: ...`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cost::Macs => f.write_str("macs"),
            Cost::Params => f.write_str("params"),
            Cost::Latency(latency) => write!(f, "{}: {latency}", self.name()),
        }
    }
}

impl Cost {
    /// The word for it: `macs`, `params`, `latency`, or `time` where that is measured.
    #[doc(hidden)]
    pub fn name(&self) -> &'static str {
        match self {
            Cost::Macs => "macs",
            Cost::Params => "params",
            Cost::Latency(latency) => match **latency {
                Latency::Measured(_) => "time",
                _ => "latency",
            },
        }
    }

    /// The cost as it is printed, and how much was measured so far.
    #[doc(hidden)]
    pub fn described(&self) -> String {
        match self {
            Cost::Latency(latency) => match &**latency {
                Latency::Measured(measured) => format!("time: {}", measured.described()),
                _ => self.to_string(),
            },
            _ => self.to_string(),
        }
    }
}

/// Weighs operators under a [`Cost`].
///
/// ```
/// use optc::analysis::CostModel;
/// use optc::ir::{Bindings, Op, Type};
/// use optc::pipeline::Cost;
///
/// let (cost, bindings) = (Cost::Macs, Bindings::from([("N".into(), 2)]));
/// let model = CostModel::new(&cost, &bindings);
/// let [x, weight, y] = ["f32[N,8]", "f32[4,8]", "f32[N,4]"].map(|t| t.parse::<Type>().unwrap());
/// let running = model.op(&Op::Linear {}, &[&x, &weight], &[y]);
/// assert_eq!(running, 2 * 4 * 8 + 2 * 2 * 4 + 8);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CostModel<'a> {
    cost: &'a Cost,
    bindings: &'a Bindings,
}

impl<'a> CostModel<'a> {
    /// A model of `cost` where symbols have the numbers that `bindings` give them, and 16 where those give none.
    pub fn new(cost: &'a Cost, bindings: &'a Bindings) -> CostModel<'a> {
        CostModel { cost, bindings }
    }

    /// What one run of `op` on operands of these types costs; at least 1, so that fewer operators are better.
    ///
    /// For [`Cost::Latency`] the unit is the picosecond. For the others it is the multiply-add, and an element written counts as
    /// 2 of them, for moving data is not free; a slice or another shape writes nothing, as runtimes look at the same memory.
    /// Only costs of the same model can be compared.
    pub fn op(&self, op: &Op, operands: &[&Type], results: &[Type]) -> u64 {
        if let Cost::Latency(latency) = self.cost {
            let ns = latency.nanoseconds(op, operands, results, &|dim| self.number(dim));
            return picoseconds(ns);
        }
        let macs = op_macs(op, operands, results);
        let macs = macs.map_or(0, |macs| macs.number(|size| self.number(size)));
        let written = results
            .iter()
            .filter_map(Type::shape)
            .map(|shape| self.product(shape))
            .fold(0, u64::saturating_add);
        let written = if op.class().moves_nothing() {
            0
        } else {
            written
        };
        let own = match op {
            Op::Linear {} | Op::MatMul {} => PRODUCT,
            op if op.convolution().is_some() => PRODUCT,
            _ => OTHER,
        };
        (macs.saturating_add(written.saturating_mul(WRITE)) + own).min(MOST)
    }

    /// What one run of these operators costs, each on the result of the one before; `None` where the runtime in which they are timed
    /// refuses them.
    pub(super) fn plan(&self, plan: &[CandidateOp]) -> Option<u64> {
        if let Cost::Latency(latency) = self.cost
            && let Latency::Measured(measured) = &**latency
        {
            let ns = measured.chain(plan, &|dim| self.number(dim));
            return ns.map(picoseconds);
        }
        Some(
            plan.iter()
                .map(|step| step.cost(self))
                .fold(0, u64::saturating_add),
        )
    }

    /// The cost of a chain of operators that together do one thing, each on the result of the one before.
    /// All take time; counted in multiply-adds, only what the last writes is for a purpose.
    pub fn steps(&self, costs: impl IntoIterator<Item = u64>) -> u64 {
        let costs = costs.into_iter();
        match self.cost {
            Cost::Latency(_) => costs.fold(0, u64::saturating_add).clamp(1, MOST),
            Cost::Macs | Cost::Params => costs.last().unwrap_or(1),
        }
    }

    /// What numbers of channels should be multiples of, if `wanted` is 0; else `wanted`. Runtimes compute whole vectors.
    pub fn alignment(&self, wanted: usize) -> usize {
        match (wanted, self.cost) {
            (0, Cost::Latency(_)) => 8,
            (wanted, _) => wanted.max(1),
        }
    }

    /// How many alternatives for a layer are weighed where it could be `most`: each that has to be timed takes a while.
    pub fn alternatives(&self, most: usize) -> usize {
        match self.cost {
            Cost::Latency(latency) if matches!(**latency, Latency::Measured(_)) => most.div_ceil(3),
            _ => most,
        }
    }

    /// Whether operators of cost `new` are worth having for those of cost `old`, as far as the prediction can be trusted.
    pub fn pays(&self, new: u64, old: u64) -> bool {
        let margin = match self.cost {
            Cost::Latency(latency) => match **latency {
                Latency::Measured(_) => MEASURED_MARGIN,
                _ => MARGIN,
            },
            Cost::Macs | Cost::Params => return new < old,
        };
        (new as f64) < (1.0 - margin) * old as f64
    }

    /// The seconds that one run of a graph is predicted to take; `None` unless the cost is [`Cost::Latency`] and every size has a
    /// number.
    pub fn seconds(&self, graph: &Graph) -> Option<f64> {
        let Cost::Latency(latency) = self.cost else {
            return None;
        };
        let mut types = graph.nodes().flat_map(|node| &graph.node(node).outputs);
        let known = |dim: &Dim| dim.eval(self.bindings).is_some();
        if !types.all(|ty| ty.shape().unwrap_or_default().iter().all(known)) {
            return None;
        }
        let of_node = |node| {
            let operands = graph.operands(node);
            let operands: Vec<&Type> = operands.iter().map(|value| graph.ty(*value)).collect();
            let results = &graph.node(node).outputs;
            let number = |dim: &Dim| self.number(dim);
            Some(latency.nanoseconds(graph.op(node)?, &operands, results, &number))
        };
        Some(graph.nodes().filter_map(of_node).sum::<f64>() / 1e9)
    }

    /// What `running`, a sum of [`CostModel::op`], and `stored` weights cost together: what the [`Cost`] aims at in the upper
    /// half, the other, which decides between equals, in the lower.
    pub fn total(&self, running: u64, stored: u64) -> u128 {
        let (running, stored) = (u128::from(running), u128::from(stored));
        match self.cost {
            Cost::Macs | Cost::Latency(_) => running << 64 | stored,
            Cost::Params => stored << 64 | running,
        }
    }

    fn product(&self, shape: &[Dim]) -> u64 {
        shape
            .iter()
            .map(|dim| self.number(dim))
            .fold(1, u64::saturating_mul)
    }

    fn number(&self, dim: &Dim) -> u64 {
        let replace =
            |name: &Symbol| Some(Dim::from(*self.bindings.get(name).unwrap_or(&UNKNOWN_SIZE)));
        dim.substitute(&replace)
            .as_number()
            .map_or(0, |n| n.max(0) as u64)
            .min(MOST)
    }
}

/// Picoseconds that an operator costs.
fn picoseconds(ns: f64) -> u64 {
    ((1000.0 * ns).round() as u64).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::latency::{Latency, Roofline};

    #[test]
    fn time_has_to_be_predicted_clearly_shorter_and_multiply_adds_only_fewer() {
        let bindings = Bindings::default();
        let latency = Cost::Latency(Latency::Roofline(Roofline::new(1, 8)).into());
        let pays = |cost: &Cost, new| CostModel::new(cost, &bindings).pays(new, 100);
        assert!(pays(&Cost::Macs, 99) && !pays(&Cost::Macs, 100));
        assert!(pays(&latency, 84) && !pays(&latency, 86));
    }
}
