//! Calls to be written, free of the format that they are written in.

use super::arithmetic::takes_numbers;
use super::{arithmetic, convolution, layout, normalisation, pointwise, pool, reduce};
use crate::formats::spelling::{self, Formula};
use crate::ir::{self, DType, Dim, Graph, Op, Role, Tensor, Type};

/// An argument of a call, or a result.
#[derive(Clone)]
pub(in crate::formats) enum Expression {
    /// Operand `i` of the node.
    Operand(usize),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'static str),
    Dtype(DType),
    /// The memory format of row-major order.
    Contiguous,
    Size(Dim),
    List(Vec<Expression>),
    /// A constant made for this call.
    Constant(Tensor),
    /// The result of a call; of several, the first.
    Call(Box<Invocation>),
}

/// A call.
#[derive(Clone)]
pub(in crate::formats) struct Invocation {
    pub name: &'static str,
    /// Which of the operators of this name.
    pub overload: &'static str,
    pub positional: Vec<Expression>,
    pub keyword: Vec<(&'static str, Expression)>,
    /// The types of its results but the first.
    pub others: Vec<Type>,
    /// The type of its first result, where that is not the node's.
    pub ty: Option<Type>,
}

impl Expression {
    /// A call with these arguments.
    pub(super) fn call(
        name: &'static str,
        overload: &'static str,
        positional: impl IntoIterator<Item = Expression>,
    ) -> Expression {
        Expression::Call(Box::new(Invocation {
            name,
            overload,
            positional: positional.into_iter().collect(),
            keyword: Vec::new(),
            others: Vec::new(),
            ty: None,
        }))
    }

    fn map_call(mut self, change: impl FnOnce(&mut Invocation)) -> Expression {
        if let Expression::Call(call) = &mut self {
            change(call);
        }
        self
    }

    /// The same call with one more argument.
    pub(super) fn positional(self, value: Expression) -> Expression {
        self.map_call(|call| call.positional.push(value))
    }

    /// The same call with an argument by name.
    pub(super) fn keyword(self, name: &'static str, value: Expression) -> Expression {
        self.map_call(|call| call.keyword.push((name, value)))
    }

    /// The same call, with these results beside the first.
    pub(super) fn beside(self, others: impl IntoIterator<Item = Type>) -> Expression {
        self.map_call(|call| call.others = others.into_iter().collect())
    }

    /// The same call, its result not the node's own but of this type.
    pub(super) fn typed(self, ty: Type) -> Expression {
        self.map_call(|call| call.ty = Some(ty))
    }

    pub(super) fn ints<'i>(items: impl IntoIterator<Item = &'i usize>) -> Expression {
        let int = |n: &usize| Expression::Int(i64::try_from(*n).unwrap_or(i64::MAX));
        Expression::List(items.into_iter().map(int).collect())
    }

    pub(super) fn sizes<'i>(items: impl IntoIterator<Item = &'i Dim>) -> Expression {
        Expression::List(items.into_iter().map(|dim| size(dim.clone())).collect())
    }
}

/// A size, as a number where it is one.
pub(super) fn size(dim: Dim) -> Expression {
    match dim.as_number() {
        Some(n) => Expression::Int(n),
        None => Expression::Size(dim),
    }
}

pub(super) fn int(n: usize) -> Expression {
    Expression::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// The names of an operator on one, two and three spatial dimensions.
macro_rules! dimensions {
    ($name:literal) => {
        [
            concat!($name, "1d"),
            concat!($name, "2d"),
            concat!($name, "3d"),
        ]
    };
}
pub(super) use dimensions;

/// The name of an operator on `n` spatial dimensions.
pub(super) fn by_dimension(names: [&'static str; 3], n: usize) -> Result<&'static str, String> {
    let name = names.get(n.wrapping_sub(1)).copied();
    name.ok_or_else(|| "it has more than three spatial dimensions".to_owned())
}

/// What a writer knows of the node that it writes.
#[derive(Clone)]
pub(in crate::formats) struct Written<'w> {
    pub op: &'w Op,
    /// The operands; a number where a call takes one.
    pub operands: Vec<Expression>,
    pub types: &'w [&'w Type],
    /// Whether the call is to be of those operators that decomposed programs consist of, where there is one.
    pub core: bool,
    /// Whether operand 0 is known to have its elements in row-major order.
    pub in_order: bool,
}

impl Written<'_> {
    pub(super) fn x(&self) -> Expression {
        self.optional(0)
    }

    /// An operand that may be left out.
    pub(super) fn optional(&self, i: usize) -> Expression {
        self.operands.get(i).cloned().unwrap_or(Expression::None)
    }

    pub(super) fn ty(&self, i: usize) -> Result<&Type, String> {
        let unknown = || format!("{} has too few operands", self.op.name());
        self.types.get(i).copied().ok_or_else(unknown)
    }

    /// Operand 0 with its elements in row-major order, as a view of it demands.
    pub(super) fn row_major(&self) -> Expression {
        match (self.in_order, self.types.first()) {
            (false, Some(ty)) => Expression::call("clone", "default", [self.x()])
                .keyword("memory_format", Expression::Contiguous)
                .typed(Type::clone(ty)),
            _ => self.x(),
        }
    }

    /// The shape of operand `i`.
    pub(super) fn shape(&self, i: usize) -> Result<&[Dim], String> {
        let unknown = || "its shape is not known".to_owned();
        self.ty(i)?.shape().ok_or_else(unknown)
    }

    /// Another operator on `x`, which is of type `ty`, as an argument of the call; and its type.
    pub(super) fn before(
        &self,
        op: &Op,
        x: Expression,
        ty: &Type,
    ) -> Result<(Expression, Type), String> {
        self.on(op, vec![x], &[ty])
    }

    /// Another operator on several operands.
    pub(super) fn on(
        &self,
        op: &Op,
        operands: Vec<Expression>,
        types: &[&Type],
    ) -> Result<(Expression, Type), String> {
        let result = ir::infer::infer(op, types)?;
        let ty = result.into_iter().next().ok_or("it has no result")?;
        let (core, in_order) = match operands.first() {
            Some(Expression::Operand(0)) => (self.core, self.in_order),
            // What a call in between computes is.
            other => (self.core, matches!(other, Some(Expression::Call(_)))),
        };
        let call = write(&Written {
            op,
            operands,
            types,
            core,
            in_order,
        })?;
        Ok((call.typed(ty.clone()), ty))
    }
}

/// The operands of an operator as its call has them, of which some are these numbers: they stand in the call itself where it takes
/// numbers beside a tensor.
pub(in crate::formats) fn operands(op: &Op, numbers: &[Option<f64>]) -> Vec<Expression> {
    let inline = takes_numbers(op) && !numbers.iter().all(Option::is_some);
    let operand = |(i, number): (usize, &Option<f64>)| match number {
        Some(number) if inline => Expression::Float(*number),
        _ => Expression::Operand(i),
    };
    numbers.iter().enumerate().map(operand).collect()
}

/// The number that a literal constant without dimensions is.
pub(in crate::formats) fn number(graph: &Graph, value: ir::Value) -> Option<f64> {
    let constant = graph.constant(value.node)?;
    let tensor = Some(&constant.tensor).filter(|_| constant.role == Role::Literal)?;
    let plain = tensor.shape().is_empty() && tensor.dtype().is_float();
    plain.then(|| tensor.elements::<f64>().first().copied())?
}

/// The call that computes an operator; `Err` says why PyTorch cannot.
pub(in crate::formats) fn write(written: &Written<'_>) -> Result<Expression, String> {
    let writers = [
        pointwise::write,
        arithmetic::write,
        convolution::write,
        normalisation::write,
        pool::write,
        reduce::write,
        layout::write,
    ];
    for writer in writers {
        if let Some(expression) = writer(written)? {
            return Ok(expression);
        }
    }
    let formula = spelling::of_op(written.op).and_then(|row| row.formula);
    match formula {
        Some(formula) => Ok(compose(written, &formula())?.0),
        None => Err(format!(
            "there is no such operator as {} in PyTorch",
            written.op.name()
        )),
    }
}

/// The calls that compute a formula, and their result's type.
fn compose(written: &Written<'_>, formula: &Formula) -> Result<(Expression, Type), String> {
    match formula {
        Formula::X => Ok((written.x(), written.ty(0)?.clone())),
        Formula::Number(x) => {
            let dtype = written.ty(0)?.dtype().unwrap_or(DType::F32);
            Ok((Expression::Float(*x), Type::tensor(dtype, [])))
        }
        Formula::Of(op, parts) => {
            let parts = parts.iter().map(|part| compose(written, part));
            let (operands, types): (Vec<_>, Vec<_>) = parts
                .collect::<Result<Vec<_>, String>>()?
                .into_iter()
                .unzip();
            written.on(op, operands, &types.iter().collect::<Vec<_>>())
        }
    }
}
