//! Matrix products: as linear layers where one side is a weight.

use super::pointwise;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::ir::{Ints, Op, Tensor, Value};

/// A matrix of the file with at least one row and column.
fn is_weight<'m>(im: &Importer<'m>, name: &str) -> bool {
    im.tensor(name)
        .is_some_and(|t| t.shape().len() == 2 && !t.is_empty() && t.dtype().is_float())
}

pub(super) fn matmul<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let (a, b) = (view.input(0)?, view.input(1)?);
    let x = im.value(a)?;
    if !im.is_float(x) || im.rank(x) == Some(0) {
        return None;
    }
    if is_weight(im, b) {
        let weight = im.transposed(b)?;
        return if im.dtype(x) == im.dtype(weight) {
            im.last(view, Op::Linear {}, &[x, weight])
        } else {
            None
        };
    }
    let y = im.value(b)?;
    if im.dtype(x) != im.dtype(y) {
        return None;
    }
    // The transpose of a weight is what a linear layer has.
    if let Some(Op::Transpose { perm }) = im.graph.op(y.node)
        && perm[..] == [1, 0]
        && let [weight] = im.graph.operands(y.node)[..]
        && im.graph.constant(weight.node).is_some()
    {
        return im.last(view, Op::Linear {}, &[x, weight]);
    }
    im.last(view, Op::MatMul {}, &[x, y])
}

/// A sum: as the bias of a linear layer, where it adds one number an output to a product that nobody else reads.
pub(super) fn sum<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    match biased(im, view, 0, 1).or_else(|| biased(im, view, 1, 0)) {
        Some(layer) => Some(layer),
        None => pointwise::binary(im, view, Op::Add {}),
    }
}

/// The linear layer whose product is operand `product` and whose bias is operand `bias`.
fn biased<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    product: usize,
    bias: usize,
) -> Option<Value> {
    let (product, bias) = (view.input(product)?, view.input(bias)?);
    let layer = *im.values.get(product)?;
    let [x, weight] = im.graph.operands(layer.node)[..] else {
        return None;
    };
    let Some(Op::Linear {}) = im.graph.op(layer.node) else {
        return None;
    };
    let outputs = im.ty(weight).len(0)?;
    let tensor = im.tensor(bias)?;
    let fits = tensor.len() == outputs
        && tensor.shape().last() == Some(&outputs)
        && tensor.shape().len() <= im.rank(layer)?
        && Some(tensor.dtype()) == im.dtype(layer);
    if !fits || im.shared.contains(product) {
        return None;
    }
    let bias = im.reshaped(bias, &[outputs])?;
    let layer = im.last(view, Op::Linear {}, &[x, weight, bias])?;
    if let Some(info) = im.source.nodes.get_mut(view.name()) {
        info.product = Some(product.to_owned());
    }
    Some(layer)
}

/// `alpha A B + beta C`. What is constant takes its factor in, so that every pass meets a linear layer.
pub(super) fn gemm<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let (mut alpha, mut beta) = (view.float("alpha", 1.0), view.float("beta", 1.0));
    let mut x = im.operand(view, 0)?;
    let dtype = im.dtype(x).filter(|dtype| dtype.is_float())?;
    if view.int("transA", 0) != 0 {
        let perm = Ints::from_slice(&[1, 0]);
        x = im.step(view, "transposed", Op::Transpose { perm }, &[x])?;
    }
    let weight = weight(im, view, &mut alpha)?;
    let alike = |im: &Importer<'m>, value: Value| im.dtype(value) == Some(dtype);
    if !alike(im, weight) || im.rank(x)? != 2 {
        return None;
    }
    let outputs = im.ty(weight).len(0);
    let mut steps = Vec::new();
    if alpha != 1.0 {
        steps.push((Op::Mul {}, im.scalar(view, alpha, dtype)));
    }
    if let Some(name) = view.input(2).filter(|_| beta != 0.0) {
        let bias = shift(im, name, &mut beta, outputs)?;
        if !alike(im, bias) {
            return None;
        }
        let rank = im.rank(bias)?;
        if steps.is_empty()
            && rank == 1
            && im.ty(bias).len(0) == outputs
            && im.graph.constant(bias.node).is_some()
        {
            return im.last(view, Op::Linear {}, &[x, weight, bias]);
        }
        let shift = if beta == 1.0 {
            bias
        } else {
            let beta = im.scalar(view, beta, dtype);
            im.step(view, "shift", Op::Mul {}, &[bias, beta])?
        };
        steps.push((Op::Add {}, shift));
    }
    let Some((op, operand)) = steps.pop() else {
        return im.last(view, Op::Linear {}, &[x, weight]);
    };
    let mut product = im.step(view, "product", Op::Linear {}, &[x, weight])?;
    for (op, operand) in steps {
        product = im.step(view, "scaled", op, &[product, operand])?;
    }
    im.last(view, op, &[product, operand])
}

/// Operand B as a linear layer has its weight, with `alpha` in it where that can be.
fn weight<'m>(im: &mut Importer<'m>, view: &View<'m>, alpha: &mut f64) -> Option<Value> {
    let name = view.input(1)?;
    let outputs_first = view.int("transB", 0) != 0;
    match (is_weight(im, name), outputs_first) {
        (true, _) if *alpha != 1.0 && !im.shared.contains(name) => {
            let by = std::mem::replace(alpha, 1.0);
            let weight = im.tensor(name)?.clone();
            let weight = if outputs_first {
                weight
            } else {
                weight.transposed()?
            };
            Some(im.scaled(name, &weight, by))
        }
        (true, false) => im.transposed(name),
        (_, true) => im.value(name),
        (false, false) => {
            let other = im.value(name)?;
            let perm = Ints::from_slice(&[1, 0]);
            im.step(view, "transposed", Op::Transpose { perm }, &[other])
        }
    }
}

/// Operand C as a bias where it is one number an output, however it is shaped; with `beta` in it where it is constant.
fn shift<'m>(
    im: &mut Importer<'m>,
    name: &'m str,
    beta: &mut f64,
    outputs: Option<usize>,
) -> Option<Value> {
    let is_bias = |tensor: &Tensor| {
        Some(tensor.len()) == outputs && tensor.shape().last() == outputs.as_ref()
    };
    match im.tensor(name).cloned() {
        Some(tensor) if *beta != 1.0 => {
            let by = std::mem::replace(beta, 1.0);
            let tensor = if is_bias(&tensor) {
                tensor.reshaped(&[tensor.len()]).ok()?
            } else {
                tensor
            };
            Some(im.scaled(name, &tensor, by))
        }
        Some(tensor) if is_bias(&tensor) => im.reshaped(name, &[tensor.len()]),
        _ => im.value(name),
    }
}
