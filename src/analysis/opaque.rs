//! The multiply-adds of operators that the IR does not know: counted for recurrent layers, whose weights say how many, and said not to
//! be known for whatever else may multiply.

use super::cost::Macs;
use crate::ir::{Dim, Opaque, Type};

/// Multiply-adds of an opaque operator on operands of these types; `None` where it multiplies and how often is not known.
pub(super) fn macs(opaque: &Opaque, operands: &[&Type]) -> Option<Macs> {
    let (domain, name) = opaque.name.rsplit_once("::").unwrap_or(("", &opaque.name));
    let operator = name.split('.').next().unwrap_or(name);
    match (domain, operator) {
        ("onnx", "LSTM" | "GRU" | "RNN") => recurrent(operands.first()?, operands.get(1..3)?),
        ("aten", "lstm" | "gru" | "rnn_tanh" | "rnn_relu") => {
            // Behind the input and the state come weights and biases.
            let is_weight = |ty: &&&Type| ty.rank() == Some(2);
            let weights: Vec<&Type> = operands[1..].iter().filter(is_weight).copied().collect();
            recurrent(operands.first()?, &weights)
        }
        _ if multiplies(domain, operator) => None,
        _ => Some(Macs::from(Dim::from(0))),
    }
}

/// Every weight is multiplied once at each position of each sequence: the input is `[steps, batch, features]`, or these two the other
/// way round.
fn recurrent(input: &Type, weights: &[&Type]) -> Option<Macs> {
    let [steps, batch, _] = input.shape()? else {
        return None;
    };
    let mut each = 0usize;
    for weight in weights {
        let sizes = weight.shape()?.iter().map(Dim::as_len);
        let sizes: Vec<usize> = sizes.collect::<Option<_>>()?;
        each = each.checked_add(sizes.into_iter().try_fold(1usize, usize::checked_mul)?)?;
    }
    let sizes = [steps.clone(), batch.clone(), Dim::from(each)];
    (each > 0).then(|| Macs::from_iter(sizes))
}

/// Words in the names of operators that multiply matrices, or run networks of their own.
const WORDS: [&str; 28] = [
    "addbmm",
    "addmm",
    "addmv",
    "attention",
    "attn",
    "baddbmm",
    "bilinear",
    "bmm",
    "cdist",
    "conv",
    "dft",
    "einsum",
    "fft",
    "gemm",
    "gru",
    "if",
    "linear",
    "loop",
    "lstm",
    "matmul",
    "mm",
    "mv",
    "outer",
    "rfft",
    "rnn",
    "scan",
    "stft",
    "tensordot",
];

/// Words in the names of operators that only look like those.
const OTHERS: [&str; 3] = ["convert", "quantizelinear", "upsample"];

/// Domains whose operators have names that tell whether they multiply; of others nobody can know.
const DOMAINS: [&str; 7] = [
    "",
    "onnx",
    "aten",
    "prim",
    "prims",
    "com.microsoft",
    "quantized",
];

/// Whether an operator multiplies matrices, as far as its name tells.
fn multiplies(domain: &str, operator: &str) -> bool {
    if !DOMAINS.contains(&domain) {
        return true;
    }
    let name = operator.to_ascii_lowercase();
    if OTHERS.iter().any(|word| name.contains(word)) {
        return false;
    }
    WORDS.iter().any(|word| match word.len() {
        // Short words are whole names, or parts of one between underscores.
        0..=3 => name.split('_').any(|part| part == *word),
        _ => name.contains(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Bindings, Dialect};

    fn counted(name: &str, operands: &[&str]) -> Option<u64> {
        let operands: Vec<Type> = operands.iter().map(|ty| ty.parse().unwrap()).collect();
        let operands: Vec<&Type> = operands.iter().collect();
        let opaque = Opaque {
            dialect: Dialect::Onnx,
            name: name.into(),
            template: "".into(),
            sizes: Default::default(),
            outputs: Default::default(),
        };
        macs(&opaque, &operands)?.eval(&Bindings::from([("T".into(), 7)]))
    }

    #[test]
    fn recurrent_layers_multiply_every_weight_at_every_step() {
        // Two directions, three gates of four units, five features: 2 * 7 * 3 * (2 * 12 * 5 + 2 * 12 * 4).
        let onnx = ["f32[T,3,5]", "f32[2,12,5]", "f32[2,12,4]", "f32[2,24]"];
        assert_eq!(counted("onnx::GRU", &onnx), Some(7 * 3 * (2 * 60 + 2 * 48)));
        let aten = [
            "f32[T,3,5]",
            "f32[1,3,4]",
            "f32[1,3,4]",
            "f32[16,5]",
            "f32[16,4]",
            "f32[16]",
        ];
        assert_eq!(counted("aten::lstm.input", &aten), Some(7 * 3 * (80 + 64)));
        assert_eq!(
            counted("onnx::LSTM", &["f32[*]", "f32[1,16,5]", "f32[1,16,4]"]),
            None
        );
    }

    #[test]
    fn what_may_multiply_is_not_known_and_the_rest_counts_nothing() {
        for name in [
            "onnx::Einsum",
            "onnx::QLinearConv",
            "aten::mm",
            "aten::_addmm_activation",
            "my.domain::Thing",
            "onnx::If",
        ] {
            assert_eq!(counted(name, &["f32[2,2]", "f32[2,2]"]), None, "{name}");
        }
        for name in [
            "onnx::Where",
            "aten::clamp",
            "onnx::NonMaxSuppression",
            "prim::NumToTensor",
            "aten::upsample_bilinear2d.vec",
        ] {
            assert_eq!(counted(name, &["f32[2,2]"]), Some(0), "{name}");
        }
    }
}
