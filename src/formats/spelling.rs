//! How the formats spell the functions of single elements, and of two.
//!
//! A row has an operator, PyTorch's names for it, ONNX's with the version since which there is one, and what it is made of where a
//! format or a version lacks it. The IR's table of operators has the rows of those without attributes.

use std::f64::consts::{PI, SQRT_2};
use std::ops::{Add, Div, Mul};

use crate::ir::{Float, Ints, Op, operators};

/// A row of the table.
pub(super) struct Spelling {
    /// The operator, with this number for its attribute if it has one.
    make: fn(f64) -> Op,
    /// The operator's number, or any if it has none; `None` for another operator.
    number: fn(&Op) -> Option<f64>,
    /// PyTorch's call; without names if there is none.
    pub aten: Aten,
    /// ONNX's node, and since which version there is one.
    pub onnx: Option<(Onnx, i64)>,
    /// The same out of other operators.
    pub formula: Option<fn() -> Formula>,
}

/// An operator as PyTorch calls it.
#[derive(Clone, Copy)]
pub(super) struct Aten {
    /// What it is called: the first where it is written.
    pub names: &'static [&'static str],
    /// The names of operands and attributes, in order.
    pub parameters: &'static [&'static str],
    pub attributes: &'static [Attribute],
    /// Whether an operand may be a number.
    pub numbers: bool,
}

impl Aten {
    const NONE: Aten = Aten {
        names: &[],
        parameters: &[],
        attributes: &[],
        numbers: false,
    };
}

/// An operator as a node of ONNX.
#[derive(Clone, Copy)]
pub(super) struct Onnx {
    pub name: &'static str,
    pub attributes: &'static [Attribute],
}

/// An attribute as a format has it.
#[derive(Clone, Copy)]
pub(super) struct Attribute {
    pub name: &'static str,
    pub meaning: Meaning,
}

/// What an attribute of a format has to do with the operator.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// It is the operator's number, which is this where it is left out.
    Own(f64),
    /// It has the first value, or the operator is another one; left out, it has the second.
    Is(Value<'static>, Value<'static>),
    /// It is left out, or has this value.
    Only(Value<'static>),
    /// It is left out, or a number of at least this.
    AtLeast(f64),
    /// It is left out.
    Absent,
    /// A factor of the last operand.
    Factor,
}

/// What an attribute is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Value<'v> {
    Real(f64),
    Text(&'v str),
}

impl Value<'_> {
    /// Whether it is this as far as single precision tells.
    fn is(self, other: Value<'_>) -> bool {
        match (self, other) {
            (Real(a), Real(b)) => (a - b).abs() < 1e-6,
            (a, b) => a == b,
        }
    }
}

use Meaning::*;
use Value::{Real, Text};

/// A row of words: `Relu {} [aten("relu") onnx("Relu" 1)]`.
macro_rules! spelling {
    ($op:ident { $($field:tt)* } $(of $number:ident)? [
        $(libtorch($libtorch:ident))?
        $(aten($($aten:literal)+ $(($kind:ident $operand:literal))? $(, $parameter:literal = $meaning:expr)*))?
        $(onnx($onnx:literal $since:literal $(, $attribute:literal = $means:expr)*))?
        $(else $formula:expr)?
    ]) => {
        Spelling {
            make: |_number| {
                $(let $number = Float::from(_number);)?
                Op::$op { $($field)* }
            },
            number: |op| match op {
                Op::$op { $($field)* } => Some([$($number.0,)? 0.0][0]),
                _ => None,
            },
            aten: [$(Aten {
                names: &[$($aten),+],
                parameters: &["self", $($operand,)? $($parameter),*],
                attributes: &[$(Attribute { name: $parameter, meaning: $meaning }),*],
                numbers: [$(spelling!($kind),)? false][0],
            },)? Aten::NONE][0],
            onnx: [$(Some((
                Onnx { name: $onnx, attributes: &[$(Attribute { name: $attribute, meaning: $means }),*] },
                $since,
            )),)? None][0],
            formula: [$(Some((|| $formula) as fn() -> Formula),)? None][0],
        }
    };
    (tensor) => { false };
    (number) => { true };
}

macro_rules! spellings {
    ($(
        $(#[$doc:meta])* $op:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? }
        $class:ident($numbers:ident, $factors:expr) $(= $function:expr)? $(=> [$($words:tt)*])?;
    )*) => {
        /// The operators without attributes that the IR's table says the names of.
        const NAMED: &[Spelling] = &[$($(spelling!($op {} [$($words)*]),)?)*];
    };
}

operators!(spellings);

/// Those with attributes of their own.
#[rustfmt::skip]
const WITH_ATTRIBUTES: &[Spelling] = &[
    spelling!(Gelu { tanh: false } [
        aten("gelu", "approximate" = Only(Text("none")))
        onnx("Gelu" 20, "approximate" = Is(Text("none"), Text("none")))
        else gelu((X / SQRT_2).then(Op::Erf {}))
    ]),
    spelling!(Gelu { tanh: true } [
        aten("gelu", "approximate" = Is(Text("tanh"), Text("none")))
        onnx("Gelu" 20, "approximate" = Is(Text("tanh"), Text("none")))
        else gelu(((X + X.cubed() * 0.044715) * (2.0 / PI).sqrt()).then(Op::Tanh {}))
    ]),
    spelling!(LeakyRelu { slope } of slope [
        aten("leaky_relu", "negative_slope" = Own(0.01))
        onnx("LeakyRelu" 1, "alpha" = Own(0.01))
    ]),
    spelling!(Elu { alpha } of alpha [
        aten("elu", "alpha" = Own(1.0), "scale" = Only(Real(1.0)), "input_scale" = Only(Real(1.0)))
        onnx("Elu" 1, "alpha" = Own(1.0))
    ]),
];

fn rows() -> impl Iterator<Item = &'static Spelling> {
    NAMED.iter().chain(WITH_ATTRIBUTES)
}

/// `x (1 + inner) / 2`, as runtimes look for it to make it one operator.
fn gelu(inner: Formula) -> Formula {
    X * 0.5 * (inner + 1.0)
}

/// A function of one tensor, made of operators.
pub(super) enum Formula {
    /// The tensor.
    X,
    Number(f64),
    Of(Box<Op>, Vec<Formula>),
}

use Formula::{Number, X};

fn of(op: Op) -> Formula {
    X.then(op)
}

impl Formula {
    /// A function of what this one gives.
    fn then(self, op: Op) -> Formula {
        Formula::Of(op.into(), vec![self])
    }

    fn cubed(self) -> Formula {
        Formula::Of(Op::Pow {}.into(), vec![self, 3.0.into()])
    }
}

impl From<f64> for Formula {
    fn from(x: f64) -> Formula {
        Formula::Number(x)
    }
}

macro_rules! operation {
    ($trait:ident $function:ident $op:ident) => {
        impl<T: Into<Formula>> $trait<T> for Formula {
            type Output = Formula;
            fn $function(self, other: T) -> Formula {
                Formula::Of(Op::$op {}.into(), vec![self, other.into()])
            }
        }
    };
}
operation!(Add add Add);
operation!(Mul mul Mul);
operation!(Div div Div);

impl Spelling {
    /// Whether it has no meaning on whole numbers.
    pub fn needs_float(&self) -> bool {
        (self.make)(0.0).needs_float()
    }

    /// How many operands the operator has.
    pub fn operands(&self) -> usize {
        *(self.make)(0.0).arity().end()
    }

    /// The operator that is meant where a format's attributes have these values; `None` where one is left out.
    pub fn read<'v>(
        &self,
        attributes: &[Attribute],
        value: impl Fn(&str) -> Option<Value<'v>>,
    ) -> Option<Op> {
        let mut number = 0.0;
        for attribute in attributes {
            match (attribute.meaning, value(attribute.name)) {
                (Own(default), None) => number = default,
                (Own(_), Some(Real(x))) => number = x,
                (Is(wanted, default), given) if wanted.is(given.unwrap_or(default)) => {}
                (Only(_) | AtLeast(_) | Absent, None) | (Factor, _) => {}
                (Only(wanted), Some(given)) if wanted == given => {}
                (AtLeast(least), Some(Real(x))) if x >= least => {}
                _ => return None,
            }
        }
        Some((self.make)(number))
    }

    /// The attributes with which a format writes an operator of this row.
    pub fn write<'a>(
        &self,
        op: &Op,
        attributes: &'a [Attribute],
    ) -> impl Iterator<Item = (&'static str, Value<'static>)> + use<'a> {
        let number = (self.number)(op).unwrap_or_default();
        attributes.iter().filter_map(move |attribute| {
            let value = match attribute.meaning {
                Own(_) => Real(number),
                Is(value, _) => value,
                Only(_) | AtLeast(_) | Absent | Factor => return None,
            };
            Some((attribute.name, value))
        })
    }
}

/// A reduction over axes as the formats spell it.
pub(super) struct Reduction {
    pub make: fn(Ints, bool) -> Op,
    /// PyTorch's name, and which of the operators of this name takes axes.
    pub aten: (&'static str, &'static str),
    /// ONNX's name, and since which version axes are an operand.
    pub onnx: (&'static str, i64),
}

macro_rules! reductions {
    ($($op:ident aten($name:literal $overload:literal) onnx($onnx:literal $since:literal);)*) => {
        /// Every reduction that all formats have.
        pub(super) const REDUCTIONS: &[Reduction] = &[$(Reduction {
            make: |axes, keep| Op::$op { axes, keep },
            aten: ($name, $overload),
            onnx: ($onnx, $since),
        }),*];

        /// The row of a reduction, its axes, and whether they stay.
        pub(super) fn of_reduction(op: &Op) -> Option<(&'static Reduction, &[usize], bool)> {
            let (name, axes, keep) = match op {
                $(Op::$op { axes, keep } => ($onnx, axes, *keep),)*
                _ => return None,
            };
            let row = REDUCTIONS.iter().find(|row| row.onnx.0 == name)?;
            Some((row, axes, keep))
        }
    };
}

reductions! {
    ReduceMean aten("mean" "dim") onnx("ReduceMean" 18);
    ReduceSum aten("sum" "dim_IntList") onnx("ReduceSum" 13);
    ReduceMax aten("amax" "default") onnx("ReduceMax" 18);
}

/// The row of an operator.
pub(super) fn of_op(op: &Op) -> Option<&'static Spelling> {
    rows().find(|row| (row.number)(op).is_some())
}

/// The rows of what PyTorch calls so.
pub(super) fn of_aten(name: &str) -> impl Iterator<Item = &'static Spelling> {
    rows().filter(move |row| row.aten.names.contains(&name))
}

/// The rows of what ONNX calls so, and how.
pub(super) fn of_onnx(name: &str) -> impl Iterator<Item = (&'static Spelling, &'static Onnx)> {
    rows().filter_map(move |row| {
        let (onnx, _) = row.onnx.as_ref().filter(|(onnx, _)| onnx.name == name)?;
        Some((row, onnx))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Array, Verification, compare, evaluate};
    use crate::formats::{self, Model};
    use crate::ir::{Bindings, Graph};

    fn run(op: &Op, operands: impl IntoIterator<Item = f64>) -> f64 {
        let arrays = operands
            .into_iter()
            .map(|x| Array::from(ndarray::arr0(x).into_dyn()));
        let y = evaluate(op, arrays, &Bindings::default()).unwrap();
        y.view().iter().copied().next().unwrap()
    }

    fn value(formula: &Formula, x: f64) -> f64 {
        match formula {
            X => x,
            Number(number) => *number,
            Formula::Of(op, parts) => run(op, parts.iter().map(|part| value(part, x))),
        }
    }

    #[test]
    fn a_formula_computes_what_its_operator_does() {
        for row in rows() {
            let Some(formula) = row.formula else { continue };
            for x in [0.25, 1.5, 7.0] {
                let (op, expected) = ((row.make)(0.0), value(&formula(), x));
                assert!((run(&op, [x]) - expected).abs() < 1e-12, "{op:?} of {x}");
            }
        }
    }

    #[test]
    fn every_operator_can_be_written_in_every_format() {
        for row in rows() {
            let op = (row.make)(0.5);
            assert_eq!((row.number)(&op).map(row.make), Some(op.clone()));
            assert!(row.onnx.is_some() || row.formula.is_some(), "{op:?}");
            assert!(
                !row.aten.names.is_empty() || row.formula.is_some(),
                "{op:?}"
            );
        }
    }

    #[test]
    fn every_function_is_read_from_every_format_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for row in rows().filter(|row| row.operands() == 1) {
            let mut graph = Graph::new("alone");
            let x = graph.add_input("x", "f32[2,3]".parse().unwrap());
            let op = (row.make)(0.5);
            let y = graph.add_op("y", op.clone(), &[x.into()]).unwrap();
            graph.add_output("y", y.into());
            for (suffix, named) in [
                (
                    "onnx",
                    row.onnx.as_ref().is_some_and(|(_, since)| *since <= 20),
                ),
                ("pt", !row.aten.names.is_empty()),
                ("pt2", !row.aten.names.is_empty()),
            ] {
                let path = folder.path().join(format!("{}.{suffix}", op.name()));
                formats::write(&Model::new(graph.clone()), &path).unwrap();
                let again = formats::read(&path).unwrap().graph;
                let ops: Vec<&Op> = again.nodes().filter_map(|node| again.op(node)).collect();
                if named {
                    assert_eq!(ops, [&op], "{suffix}");
                }
                match compare::<f64>(&graph, &again, 1, 0).unwrap() {
                    Verification::Measured { moved, .. } if moved.max_rel < 1e-6 => {}
                    other => panic!("{op:?} in {suffix}: {other:?}"),
                }
            }
        }
    }
}
