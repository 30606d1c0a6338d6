//! Conditions that only the running network knows: what both branches compute is selected from when it runs.

use ruff_python_ast::{Expr, Stmt};

use super::{Env, Eval, Evaluator, Flow, Stop};
use crate::formats::aten::{Builder, Caller, Template, TensorRef, fresh, view_or_copy};
use crate::formats::spelling;
use crate::formats::torchscript::value::Value;
use crate::formats::words::among;
use crate::ir::{self, NodeKind, Op, Type};

impl<'a> Evaluator<'a> {
    /// Evaluates both branches, where neither does more than compute numbers and pointwise functions, which may be computed in
    /// vain; whether that was so. `test`: the condition; `why`: what it depends on.
    pub(super) fn both_branches(
        &mut self,
        (test, why): (&Value<'a>, &str),
        branches: [&'a [Stmt]; 2],
        env: &mut Env<'a>,
    ) -> Eval<bool> {
        let test = match test {
            Value::Unknown {
                run: Some(test), ..
            }
            | Value::Run(test) => *test,
            _ => return Ok(false),
        };
        let (before, depth, place) = (self.graph.len(), self.depth, self.place);
        let quiet = std::mem::replace(&mut self.quiet, true);
        let mut ends = Vec::new();
        for branch in branches {
            let mut end = env.clone();
            match self.block(branch, &mut end) {
                Ok(Flow::Next) => ends.push(end),
                Err(Stop::Restart) => return Err(Stop::Restart),
                _ => break,
            }
        }
        (self.quiet, self.depth, self.place) = (quiet, depth, place);
        let harmless = |node| self.is_harmless(node);
        if ends.len() < 2 || !self.graph.nodes().skip(before).all(harmless) {
            return Ok(false);
        }
        let mut names = Vec::new();
        branches
            .iter()
            .for_each(|branch| assigned(branch, &mut names));
        for name in names {
            let value = match (ends[0].names.get(name), ends[1].names.get(name)) {
                (Some(a), Some(b)) => match self.select((test, why), a, b, before)? {
                    Some(value) => value,
                    None => return Ok(false),
                },
                _ => {
                    env.names.remove(name);
                    continue;
                }
            };
            env.names.insert(name, value);
        }
        Ok(true)
    }

    /// Whether a node computes nothing that could fail or take long.
    fn is_harmless(&self, node: ir::NodeId) -> bool {
        let NodeKind::Op(op) = &self.graph.node(node).kind else {
            return true;
        };
        let operands = self.graph.operands(node);
        let shape = |v: &ir::Value| self.graph.ty(*v).shape();
        let scalar = |v: &ir::Value| shape(v).is_some_and(<[_]>::is_empty);
        match op {
            Op::Opaque(opaque) => {
                const NAMES: &str = "eq ne lt le gt ge __contains__ __not__ __and__ __or__ dim numel add sub mul neg";
                let number = opaque.outputs.iter().all(|ty| matches!(ty, Type::Other(_)));
                let name = opaque.name.strip_prefix("aten::");
                &*opaque.name == "prim::If" || number && name.is_some_and(|name| among(NAMES, name))
            }
            Op::Add {} | Op::Sub {} | Op::Mul {} | Op::Div {} | Op::Maximum {} | Op::Minimum {} => {
                let [a, b] = operands[..] else {
                    return false;
                };
                scalar(&a) || scalar(&b) || shape(&a).is_some() && shape(&a) == shape(&b)
            }
            op => spelling::of_op(op).is_some() && operands.len() == 1,
        }
    }

    /// `a if test else b`; `None` if that is no single value. Nodes up to `before` were there before the branches.
    fn select(
        &mut self,
        (test, why): (ir::Value, &str),
        a: &Value<'a>,
        b: &Value<'a>,
        before: usize,
    ) -> Eval<Option<Value<'a>>> {
        let ty = match (a, b) {
            (Value::Tensor(a), Value::Tensor(b)) => {
                let (a, b) = (self.read(a)?, self.read(b)?);
                match (self.graph.ty(a), self.graph.ty(b)) {
                    (Type::Tensor(dtype, shape), Type::Tensor(other, _)) if dtype == other => {
                        let same = self.shape(a) == self.shape(b);
                        Type::Tensor(*dtype, shape.clone().filter(|_| same))
                    }
                    _ => return Ok(None),
                }
            }
            _ => match (self.type_name(a), self.type_name(b)) {
                (Some(a), Some(b)) if a == b && a != "Tensor" => Type::Other(a.into()),
                _ => return Ok(None),
            },
        };
        let mut template = Template::default();
        template.text.push('(');
        self.render(a, &mut template)?;
        template.text.push_str(" if ");
        self.render(&Value::Run(test), &mut template)?;
        template.text.push_str(" else ");
        self.render(b, &mut template)?;
        template.text.push(')');
        let run = self.add_opaque("prim::If", template, vec![ty])?.into();
        let (Value::Tensor(a), Value::Tensor(b)) = (a, b) else {
            let why = why.into();
            return Ok(Some(Value::Unknown {
                why,
                run: Some(run),
            }));
        };
        // What is one of two tensors that were there already cannot be followed through both.
        let old = |cell: &TensorRef| cell.borrow().value.node.index() < before;
        Ok(match (old(a), old(b)) {
            (true, true) if !std::rc::Rc::ptr_eq(a, b) => None,
            (true, _) => Some(Value::Tensor(view_or_copy(a, run))),
            (_, true) => Some(Value::Tensor(view_or_copy(b, run))),
            _ => Some(Value::Tensor(fresh(run))),
        })
    }

    /// Stops where evaluating both branches of a condition would do more than compute.
    pub fn changes_something(&self) -> Eval<()> {
        if self.quiet {
            self.unknown_python("a change in a branch that may not be taken")
        } else {
            Ok(())
        }
    }
}

/// The names that statements assign to.
fn assigned<'a>(body: &'a [Stmt], names: &mut Vec<&'a str>) {
    for statement in body {
        let target = match statement {
            Stmt::Assign(assign) => assign.targets.first(),
            Stmt::AnnAssign(assign) => Some(&*assign.target),
            Stmt::If(branch) => {
                assigned(&branch.body, names);
                let others = branch.elif_else_clauses.iter();
                others.for_each(|clause| assigned(&clause.body, names));
                None
            }
            Stmt::For(each) => {
                assigned(&each.body, names);
                Some(&*each.target)
            }
            Stmt::While(each) => {
                assigned(&each.body, names);
                None
            }
            _ => None,
        };
        let targets = match target {
            Some(Expr::Tuple(tuple)) => &tuple.elts[..],
            Some(target) => std::slice::from_ref(target),
            None => &[],
        };
        for target in targets {
            if let Expr::Name(name) = target
                && !names.contains(&name.id.as_str())
            {
                names.push(name.id.as_str());
            }
        }
    }
}
