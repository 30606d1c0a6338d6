//! The interface of a network, which passes keep.

use std::sync::Arc;

use super::{Rule, Validated, Violation};
use crate::ir::infer::are_different;
use crate::ir::{Dim, Type};

/// What a network shows to its users: names and types of inputs and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Names and types of the inputs, in order.
    pub inputs: Vec<(Arc<str>, Type)>,
    /// Names and types of the outputs, in order.
    pub outputs: Vec<(Arc<str>, Type)>,
}

impl Interface {
    /// The interface of a graph that keeps the rules.
    pub fn of(graph: Validated<'_>) -> Interface {
        let inputs = graph.inputs().iter().map(|n| {
            let ty = graph.ty((*n).into()).clone();
            (graph.node(*n).name.clone(), ty)
        });
        let outputs = graph.outputs().iter();
        Interface {
            inputs: inputs.collect(),
            outputs: outputs
                .map(|o| (o.name.clone(), graph.ty(o.value).clone()))
                .collect(),
        }
    }

    /// Checks that `after` is still this interface, by [`Rule::Interface`].
    ///
    /// # Errors
    /// All violations.
    pub fn check(&self, after: &Interface) -> Result<(), Vec<Violation>> {
        let mut violations = Vec::new();
        for (what, old, new) in [
            ("input", &self.inputs, &after.inputs),
            ("output", &self.outputs, &after.outputs),
        ] {
            for i in 0..old.len().max(new.len()) {
                let print = |entry: Option<&(Arc<str>, Type)>| match entry {
                    Some((name, ty)) => format!("{what} {name}: {ty}"),
                    None => format!("no {what} {i}"),
                };
                let (old, new) = (old.get(i), new.get(i));
                let kept = match (old, new) {
                    (Some((name, ty)), Some((new_name, new_ty))) => {
                        name == new_name && is_kept(ty, new_ty)
                    }
                    _ => false,
                };
                if !kept {
                    violations.push(Violation {
                        rule: Rule::Interface,
                        node: None,
                        text: print(new),
                        what: format!("before there was {}", print(old)),
                    });
                }
            }
        }
        if violations.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }
}

/// Whether a value of type `new` is what users of one of type `old` expect.
fn is_kept(old: &Type, new: &Type) -> bool {
    match (old, new) {
        (Type::Tensor(old, None), Type::Tensor(new, _)) => old == new,
        (Type::Tensor(old, Some(old_shape)), Type::Tensor(new, Some(new_shape))) => {
            let is_kept = |(old, new): (&Dim, &Dim)| {
                let frozen = old.as_number().is_none() && new.as_number().is_some();
                !frozen && !are_different(old, new)
            };
            old == new
                && old_shape.len() == new_shape.len()
                && old_shape.iter().zip(new_shape).all(is_kept)
        }
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(text: &str) -> Type {
        text.parse().unwrap()
    }

    #[test]
    fn the_interface_may_learn_but_not_change() {
        let interface = |inputs: &[&str]| Interface {
            inputs: inputs.iter().map(|t| ("x".into(), ty(t))).collect(),
            outputs: Vec::new(),
        };
        let check = |old: &[&str], new: &[&str]| interface(old).check(&interface(new)).is_ok();
        assert!(check(&["f32[N,3]"], &["f32[N,3]"]));
        assert!(check(&["f32[*]"], &["f32[N,3]"]));
        assert!(!check(&["f32[N,3]"], &["f32[*]"]));
        assert!(!check(&["f32[N,3]"], &["f32[1,3]"]));
        assert!(!check(&["f32[N,3]"], &["f32[N,4]"]));
        assert!(!check(&["f32[N,3]"], &["f16[N,3]"]));
        assert!(!check(&["f32[N]"], &[]));
        let violations = interface(&["f32[N]"]).check(&interface(&[])).unwrap_err();
        assert_eq!(
            violations[0].to_string(),
            "`no input 0`: the interface stays, but before there was input x: f32[N]"
        );
    }
}
