//! What passes over weights say of networks whose weights are integers already.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::{Graph, Op};
use crate::pipeline::PassContext;

/// Whether an operator of this name quantises, or computes with what is quantised, in ONNX (`QuantizeLinear`, `QLinearConv`,
/// `ConvInteger`, ..) or in PyTorch (`quantized::conv2d`, `quantized_decomposed::..`, `aten::quantize_per_tensor`).
fn is_quantised(name: &str) -> bool {
    let (domain, name) = name.rsplit_once("::").unwrap_or(("", name));
    domain.starts_with("quantized")
        || ["Quantize", "quantize", "QLinear", "QGemm", "QAttention"]
            .iter()
            .any(|word| name.contains(word))
        || name.ends_with("Integer")
}

/// Says which quantised operators are left as they are. Their weights are on grids of their own: changed or chosen among other ones,
/// they would need other grids, which only a calibration can give.
pub(super) fn explain(graph: &Graph, context: &mut PassContext<'_>) {
    let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for node in graph.nodes() {
        if let Some(Op::Opaque(opaque)) = graph.op(node)
            && is_quantised(&opaque.name)
        {
            *counts.entry(&opaque.name).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return;
    }
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect::<Vec<String>>()
        .join(", ");
    context.missed(
        "",
        format!(
            "left as it is, with the weights it reads: what is quantised ({counts}); prune the network before it is quantised"
        ),
    );
}
