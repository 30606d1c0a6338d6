//! The usual values of attributes, which the text form leaves out.

use super::super::op::Op;

/// Names and printed usual values of the attributes of the operator `op`, on operands of these ranks.
///
/// Lists of one number a spatial dimension have a usual value only where some operand's rank says how many there are.
pub(super) fn defaults(op: &str, ranks: &[Option<usize>]) -> Vec<(&'static str, String)> {
    let spatial = || {
        let rank = ranks.iter().take(2).copied().flatten().next();
        rank.and_then(|rank| rank.checked_sub(2))
            .filter(|n| (1..=3).contains(n))
    };
    let list = |number: &str| spatial().map(|n| format!("[{}]", vec![number; n].join(",")));
    let word = |text: &str| Some(text.to_string());
    let usual: &[(&'static str, Option<String>)] = match op {
        "conv" | "conv_transpose" => &[
            ("stride", list("1")),
            ("pad", list("0")),
            ("output_pad", list("0").filter(|_| op == "conv_transpose")),
            ("dilation", list("1")),
            ("groups", word("1")),
        ],
        "max_pool" => &[
            ("pad", list("0")),
            ("dilation", list("1")),
            ("ceil", word("false")),
        ],
        "avg_pool" => &[
            ("pad", list("0")),
            ("ceil", word("false")),
            ("count_pad", word("true")),
        ],
        "batch_norm" | "group_norm" => &[("eps", word("1e-5"))],
        "layer_norm" => &[("axes", word("1")), ("eps", word("1e-5"))],
        "gelu" => &[("tanh", word("false"))],
        "attention" => &[("scale", word("none")), ("causal", word("false"))],
        "mean" | "sum" | "max" => &[("keep", word("false"))],
        "pad" => &[("mode", word("constant")), ("value", word("0.0"))],
        "slice" => &[("start", word("0")), ("step", word("1"))],
        _ => &[],
    };
    debug_assert!(usual.is_empty() || Op::NAMES.contains(&op));
    usual
        .iter()
        .filter_map(|(name, text)| Some((*name, text.clone()?)))
        .collect()
}
