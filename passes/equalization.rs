//! Cross-layer equalization: factors moved between layers, so that neither has weights far larger than the other's.
//!
//! A channel that one layer makes and the next alone reads, with nothing between them but what a positive factor passes through,
//! can be made larger by the first and smaller by the second. What passes compute leaves such pairs as they come, some of 1e-6
//! and 1e6: the same function, but the gradient of the small one is then that much too large. With equal norms it is not (Nagel
//! et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, there for rounding). Factors are powers
//! of two, so no weight is rounded.
//!
//! Only what is out of all scale is touched. A network as people initialise and train it has norms that differ for good reasons,
//! such as few outputs behind a wide layer; equal ones would multiply the gradients of the wide layer, and the rate that it takes
//! would be another.

use crate::ir::{Graph, NodeId, Op, Value};

/// Sweeps over the network: a layer between two others is in two pairs.
const SWEEPS: usize = 8;

/// How far apart the norms of weights that make a channel and of those that read it must be to be made equal.
const APART: f64 = 100.0;

/// How large the larger must be besides. Where a layer keeps the scale of what it reads, which is what initialisation and batch
/// norms are for, norms are near 1; a channel that training let die has one far smaller, and none that is large.
const LARGE: f64 = 10.0;

/// Equalizes the pairs of layers that are out of scale; the function stays the same to the bit.
pub(crate) fn equalize(graph: &mut Graph) {
    let pairs: Vec<Pair> = graph
        .nodes()
        .filter_map(|node| Pair::from(graph, node))
        .collect();
    for _ in 0..SWEEPS {
        let mut changed = false;
        for pair in &pairs {
            changed |= pair.equalize(graph);
        }
        if !changed {
            break;
        }
    }
}

/// Two layers of which the second alone reads the first.
struct Pair {
    first: NodeId,
    second: NodeId,
    channels: usize,
}

impl Pair {
    fn from(graph: &Graph, first: NodeId) -> Option<Pair> {
        let channels = rows(graph, first)?;
        let mut value = Value::from(first);
        let second = loop {
            let (reader, 0) = graph.only_reader(value)? else {
                return None;
            };
            match graph.op(reader)? {
                Op::Relu {} | Op::LeakyRelu { .. } | Op::Identity {} | Op::Dropout { .. } => {
                    value = reader.into();
                }
                _ => break reader,
            }
        };
        rows(graph, second)?;
        let linear = |node| matches!(graph.op(node), Some(Op::Linear {}));
        (linear(first) == linear(second)).then_some(Pair {
            first,
            second,
            channels,
        })
    }

    fn equalize(&self, graph: &mut Graph) -> bool {
        let mut making = graph.operand_elements(self.first, 1);
        let mut bias = graph.operand_elements(self.first, 2);
        let mut reading = graph.operand_elements(self.second, 1);
        let groups = match graph.op(self.second) {
            Some(Op::Conv { groups, .. }) => *groups,
            _ => 1,
        };
        let row = making.len() / self.channels;
        let columns = self.channels / groups;
        let taps = taps(graph, self.second);
        let rows = reading.len() / (columns * taps);
        // The elements of the second weight that read a channel: one run of taps in each row of its group.
        let readers = |channel: usize| {
            let group = channel / columns;
            let rows = group * rows / groups..(group + 1) * rows / groups;
            rows.flat_map(move |row| {
                let start = (row * columns + channel % columns) * taps;
                start..start + taps
            })
        };
        let mut changed = false;
        for channel in 0..self.channels {
            let own = &mut making[channel * row..(channel + 1) * row];
            let energy: f64 = own.iter().map(|w| w * w).sum();
            let other: f64 = readers(channel).map(|i| reading[i] * reading[i]).sum();
            let [made, reads] = [energy, other].map(f64::sqrt);
            let is_apart = made.max(reads) > APART * made.min(reads);
            let factor = (reads / made).sqrt().log2().round().exp2();
            if !is_apart || made.max(reads) < LARGE || !factor.is_normal() {
                continue; // One that is not normal: one of both is zero, or not finite.
            }
            own.iter_mut().for_each(|w| *w *= factor);
            readers(channel).for_each(|i| reading[i] /= factor);
            if let Some(bias) = bias.get_mut(channel) {
                *bias *= factor;
            }
            changed = true;
        }
        if changed {
            graph.set_operand_elements(self.first, 1, making);
            graph.set_operand_elements(self.first, 2, bias);
            graph.set_operand_elements(self.second, 1, reading);
        }
        changed
    }
}

/// How many channels a layer makes, if its weight and bias are its own, and of a type with room for factors.
fn rows(graph: &Graph, node: NodeId) -> Option<usize> {
    if !matches!(graph.op(node)?, Op::Conv { .. } | Op::Linear {}) {
        return None;
    }
    let operands = graph.operands(node);
    let is_own = |value: &Value| {
        let constant = graph.constant(value.node);
        let wide =
            constant.is_some_and(|c| c.tensor.dtype().is_float() && c.tensor.dtype().size() >= 4);
        wide && graph.only_reader(*value).is_some()
    };
    if !operands[1..].iter().all(is_own) {
        return None;
    }
    let weight = &graph.constant(operands.get(1)?.node)?.tensor;
    (!weight.is_empty()).then(|| weight.shape()[0])
}

/// The elements of a kernel.
fn taps(graph: &Graph, node: NodeId) -> usize {
    let weight = graph
        .operands(node)
        .get(1)
        .and_then(|v| graph.constant(v.node));
    weight.map_or(1, |weight| weight.tensor.shape()[2..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Reference;
    use crate::report::Verification;

    #[test]
    fn norms_become_alike_and_the_function_stays() -> Result<(), Box<dyn std::error::Error>> {
        let before: Graph = "graph net(%x: f32[N,4,6,6]) {
  @a = parameter uniform(1, -1e-6, 1e-6) : f32[6,1,3,3]
  @a.bias = parameter uniform(2, -1e-6, 1e-6) : f32[6]
  @b = parameter uniform(3, -1e6, 1e6) : f32[4,3,1,1]
  @c = parameter uniform(4, -1, 1) : f32[5,4,3,3]
  @d = parameter uniform(5, -9000, 9000) : f32[5,5,1,1]
  %g = gather(%x) {axis=1, index=[0,1,2,3,0,1]}
  %first = conv(%g, @a, @a.bias) {groups=6, pad=[1,1]}
  %relu = relu(%first)
  %second = conv(%relu, @b) {groups=2}
  %third = conv(%second, @c)
  %fourth = conv(%third, @d)
  return %fourth, %third
}"
        .parse()?;
        let mut after = before.clone();
        equalize(&mut after);
        match Reference::<f32>::new(&before, 3, 0)?.compare(&after)? {
            Verification::Measured { moved, .. } => assert_eq!(moved.max_abs, 0.0),
            Verification::Skipped { skipped } => return Err(skipped.into()),
        }
        let norms = |graph: &Graph, name: &str, rows: usize| -> Vec<f64> {
            let weight = graph.find(name).and_then(|node| graph.constant(node));
            let elements = weight.map(|weight| weight.tensor.elements::<f64>().into_owned());
            let elements = elements.unwrap_or_default();
            let norm = |row: &[f64]| row.iter().map(|w| w * w).sum::<f64>().sqrt();
            elements.chunks(elements.len() / rows).map(norm).collect()
        };
        for (name, rows) in [("a", 6), ("b", 4)] {
            for norm in norms(&after, name, rows) {
                assert!((0.05..20.0).contains(&norm), "{name}: {norm}");
            }
        }
        // An output reads what `c` makes.
        assert_eq!(norms(&after, "d", 5), norms(&before, "d", 5));
        Ok(())
    }

    /// Wide layers before few outputs, and a channel that has died.
    #[test]
    fn a_network_as_it_is_initialised_is_left_alone() -> Result<(), Box<dyn std::error::Error>> {
        let lenet = include_str!("../examples/lenet5.ir");
        let wide = "graph net(%x: f32[N,64]) {
  @a = parameter uniform(1, -0.125, 0.125) : f32[2048,64]
  @b = parameter uniform(2, -0.022, 0.022) : f32[1,2048]
  %first = linear(%x, @a)
  %relu = relu(%first)
  %second = linear(%relu, @b)
  return %second
}";
        let dead = "graph net(%x: f32[N,1]) {
  @a = parameter [1, 0.00001, -1] : f32[3,1]
  @b = parameter [0.3, 0.4, 0.5] : f32[1,3]
  %first = linear(%x, @a)
  %relu = relu(%first)
  %second = linear(%relu, @b)
  return %second
}";
        for text in [lenet, wide, dead] {
            let before: Graph = text.parse()?;
            let mut after = before.clone();
            equalize(&mut after);
            assert_eq!(after.to_string(), before.to_string());
        }
        Ok(())
    }
}
