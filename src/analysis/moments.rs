//! Mean and variance of every channel, without data.
//!
//! A batch norm says what it makes of its input: channels of mean `shift` and variance `scale²` (all but what `eps` takes).
//! From there moments are propagated forward: through activations as those of a Gaussian, through sums as those of independent
//! values, through whatever only moves channels unchanged. Where nothing is known, nothing is said: a network whose batch
//! norms were folded has no moments.

use rustc_hash::FxHashMap;

use crate::ir::channels::{Flow, Source, flow};
use crate::ir::regroup::{Regroup, Spread};
use crate::ir::{Class, Graph, NodeId, NodeKind, Op, Type, Value};

/// Mean and variance of each channel of a value, over images and positions; channels lie on axis 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The mean of each channel.
    pub mean: Vec<f64>,
    /// The variance of each channel.
    pub variance: Vec<f64>,
}

/// The axis that channels lie on.
const CHANNELS: usize = 1;

/// How many points a Gaussian is sampled at, and how far out in standard deviations.
const POINTS: usize = 256;
const REACH: f64 = 6.0;

/// Points at which a standard Gaussian is sampled to integrate what becomes of it, each with its density up to a factor.
pub fn gaussian_points() -> impl Iterator<Item = (f64, f64)> {
    (0..POINTS).map(|k| {
        let x = (2.0 * (k as f64 + 0.5) / POINTS as f64 - 1.0) * REACH;
        (x, (-x * x / 2.0).exp())
    })
}

impl Moments {
    /// `E[x²]` of each channel.
    pub fn second(&self) -> impl Iterator<Item = f64> + '_ {
        let moments = self.mean.iter().zip(&self.variance);
        moments.map(|(mean, variance)| mean * mean + variance)
    }

    /// Constant channels.
    fn constant(mean: Vec<f64>) -> Moments {
        let variance = vec![0.0; mean.len()];
        Moments { mean, variance }
    }

    /// `n` channels made of these and another's, channel by channel; a single channel counts for all.
    fn zip(&self, other: &Moments, of: impl Fn([f64; 2], [f64; 2]) -> [f64; 2]) -> Option<Moments> {
        let (a, b) = (self.mean.len(), other.mean.len());
        let n = a.max(b);
        let at = |moments: &Moments, c: usize| {
            let c = if moments.mean.len() == 1 { 0 } else { c };
            [moments.mean[c], moments.variance[c]]
        };
        let fits = [a, b].iter().all(|len| *len == n || *len == 1);
        fits.then(|| (0..n).map(|c| of(at(self, c), at(other, c))).collect())
    }

    /// What a function of one variable makes of them, each channel being Gaussian.
    fn through(&self, op: &Op) -> Option<Moments> {
        let (points, density): (Vec<f64>, Vec<f64>) = gaussian_points().unzip();
        let mut samples = [0.0f64; POINTS];
        let total: f64 = density.iter().sum();
        let mut channels = self.mean.iter().zip(&self.variance);
        channels.try_fold(
            Moments::constant(Vec::new()),
            |mut result, (mean, variance)| {
                let deviation = variance.sqrt();
                (0..POINTS).for_each(|k| samples[k] = mean + deviation * points[k]);
                if !op.apply(&mut samples) {
                    return None;
                }
                let expect = |of: &dyn Fn(f64) -> f64| {
                    let weighted = samples.iter().zip(&density).map(|(y, p)| of(*y) * p);
                    weighted.sum::<f64>() / total
                };
                let mean = expect(&|y| y);
                let variance = expect(&|y| (y - mean).powi(2));
                let finite = mean.is_finite() && variance.is_finite();
                result.mean.push(mean);
                result.variance.push(variance);
                finite.then_some(result)
            },
        )
    }
}

impl FromIterator<[f64; 2]> for Moments {
    fn from_iter<I: IntoIterator<Item = [f64; 2]>>(channels: I) -> Moments {
        let (mean, variance) = channels.into_iter().map(|[m, v]| (m, v)).unzip();
        Moments { mean, variance }
    }
}

/// The moments of every value that has known ones.
pub fn moments(graph: &Graph) -> FxHashMap<Value, Moments> {
    propagate(graph, FxHashMap::default(), |_, _| None)
}

/// Moments that are known, and those of every value that follow from them; `mixed` says what a layer that mixes channels of
/// these moments makes of them, where nothing else is known of its result.
pub fn propagate(
    graph: &Graph,
    mut known: FxHashMap<Value, Moments>,
    mixed: impl Fn(NodeId, &Moments) -> Option<Moments>,
) -> FxHashMap<Value, Moments> {
    for node in graph.topological_order().unwrap_or_default() {
        let found = of_node(graph, node, &known).or_else(|| {
            let x = graph.operands(node).first().copied()?;
            let unknown = !known.contains_key(&node.into());
            unknown.then(|| mixed(node, known.get(&x)?)).flatten()
        });
        if let Some(moments) = found {
            known.insert(node.into(), moments);
        }
    }
    known
}

/// What the batch norm that alone reads a layer multiplies each of its results with, without sign; `None` if there is none.
pub fn scales(graph: &Graph, layer: NodeId) -> Option<Vec<f64>> {
    let (norm, 0) = graph.only_reader(layer.into())? else {
        return None;
    };
    let Some(Op::BatchNorm { eps }) = graph.op(norm) else {
        return None;
    };
    let (scale, variance) = (
        graph.operand_elements(norm, 1),
        graph.operand_elements(norm, 4),
    );
    let scales = scale
        .iter()
        .zip(&variance)
        .map(|(s, v)| s.abs() / (v + eps.0).sqrt());
    (scale.len() == variance.len() && !scale.is_empty()).then(|| scales.collect())
}

fn of_node(graph: &Graph, node: NodeId, known: &FxHashMap<Value, Moments>) -> Option<Moments> {
    let NodeKind::Op(op) = &graph.node(node).kind else {
        return None;
    };
    let operands = graph.operands(node);
    let constant = |i: usize| -> Option<Vec<f64>> {
        let constant = graph.constant(operands.get(i)?.node)?;
        Some(constant.tensor.elements::<f64>().into_owned())
    };
    let of = |i: usize| known.get(operands.get(i)?).cloned();
    match op {
        Op::BatchNorm { eps } => {
            let (scale, shift, variance) = (constant(1)?, constant(2)?, constant(4)?);
            let normalised = variance.iter().map(|v| v / (v + eps.0));
            let variance = scale.iter().zip(normalised).map(|(s, v)| s * s * v);
            Some(Moments {
                mean: shift,
                variance: variance.collect(),
            })
        }
        Op::Add {} | Op::Sub {} | Op::Mul {} => {
            let rank = graph.ty(node.into()).rank()?;
            let operand = |i: usize| of(i).or_else(|| of_constant(graph, operands[i], rank));
            operand(0)?.zip(&operand(1)?, |[a, va], [b, vb]| match op {
                Op::Add {} => [a + b, va + vb],
                Op::Sub {} => [a - b, va + vb],
                _ => [a * b, va * vb + va * b * b + vb * a * a],
            })
        }
        Op::Conv { groups, .. } if *groups > 1 => {
            let x = of(0).filter(|x| x.mean.len() == *groups)?;
            let (weight, bias) = (constant(1)?, constant(2));
            let taps = weight.len() / groups;
            let kernels = weight.chunks_exact(taps).enumerate();
            let depthwise = graph.ty(operands[1]).len(0) == Some(*groups);
            depthwise.then(|| {
                let channel = |(c, kernel): (usize, &[f64])| {
                    let sum: f64 = kernel.iter().sum();
                    let squares: f64 = kernel.iter().map(|w| w * w).sum();
                    let bias = bias.as_ref().map_or(0.0, |bias| bias[c]);
                    [x.mean[c] * sum + bias, x.variance[c] * squares]
                };
                kernels.map(channel).collect()
            })
        }
        Op::Concat { axis: CHANNELS } => {
            let mut all = Moments::constant(Vec::new());
            for i in 0..operands.len() {
                let part = of(i)?;
                all.mean.extend(part.mean);
                all.variance.extend(part.variance);
            }
            Some(all)
        }
        op => {
            let x = of(0)?;
            x.through(op).or_else(|| moved(graph, node, op, &x))
        }
    }
}

/// The channels of a constant operand that is broadcast to a value of this rank.
fn of_constant(graph: &Graph, value: Value, rank: usize) -> Option<Moments> {
    let tensor = &graph.constant(value.node)?.tensor;
    let offset = rank.checked_sub(tensor.shape().len())?;
    let channels = match CHANNELS.checked_sub(offset) {
        Some(axis) => *tensor.shape().get(axis)?,
        None => 1,
    };
    let elements = tensor.elements::<f64>();
    (elements.len() == channels).then(|| Moments::constant(elements.into_owned()))
}

/// Moments of what the channel table says is made of the operand's channels, one by one or whole: pools, pads and resizes
/// among them, which change moments a little, by how much depending on more than moments.
fn moved(graph: &Graph, node: NodeId, op: &Op, x: &Moments) -> Option<Moments> {
    let operands = graph.operands(node);
    let types: Vec<&Type> = operands.iter().map(|value| graph.ty(*value)).collect();
    let picked = |source: &Source| match source {
        Source::Channel(c) => [x.mean[*c], x.variance[*c]],
        Source::Constant(value) => [*value, 0.0],
    };
    match flow(op, CHANNELS, &types, graph.ty(node.into())) {
        Flow::Selects {
            axis: CHANNELS,
            source,
        } => Some(source.iter().map(picked).collect()),
        Flow::Regroups(all) => {
            let whole = |r: &&Regroup| {
                (r.axis, r.channels, r.from) == (CHANNELS, x.mean.len(), Spread::WHOLE)
            };
            let Regroup { channels, to, .. } = *all.iter().find(whole)?;
            let mut found = vec![None; to.len(channels)];
            for c in 0..channels {
                let moments = Some(picked(&Source::Channel(c)));
                to.positions(channels, c).for_each(|at| found[at] = moments);
            }
            found.into_iter().collect()
        }
        Flow::Keeps(keeps) if operands.len() == 1 && keeps.axes[0] == Some(CHANNELS) => {
            let unchanged = match op.class() {
                Class::Window | Class::Shape | Class::View => true,
                Class::Reduction => !matches!(op, Op::ReduceSum { .. }),
                _ => matches!(op, Op::Pad { .. }),
            };
            unchanged.then(|| x.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(mean: f64, variance: f64) -> Moments {
        [[mean, variance]].into_iter().collect()
    }

    #[test]
    fn a_rectified_gaussian_is_integrated() {
        // Mean s phi(m/s) + m Phi(m/s), second moment (m² + s²) Phi(m/s) + m s phi(m/s).
        for (m, s) in [(0.0, 1.0), (0.7, 2.0), (-1.0, 0.5)] {
            let z: f64 = m / s;
            let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let below = 0.5 * (1.0 + libm::erf(z / 2.0f64.sqrt()));
            let mean = s * density + m * below;
            let second = (m * m + s * s) * below + m * s * density;
            let rectified = gaussian(m, s * s).through(&Op::Relu {}).unwrap();
            assert!((rectified.mean[0] - mean).abs() < 1e-3 * s);
            assert!((rectified.second().next().unwrap() - second).abs() < 1e-3 * s * s);
        }
        assert_eq!(gaussian(-1.0, 1.0).through(&Op::Log {}), None);
    }

    #[test]
    fn moments_of_batch_norms_are_propagated() {
        let text = "
            graph net(%x: f32[N,2,8,8]) {
              @bn.weight = parameter [2.0, 0.5] : f32[2]
              @bn.bias = parameter [1.0, -1.0] : f32[2]
              @bn.running_mean = buffer [9.0, 9.0] : f32[2]
              @bn.running_var = buffer [1.0, 1.0] : f32[2]
              %y = batch_norm(%x, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var) {eps=0.0}
              @shift = literal [[[3.0]], [[4.0]]] : f32[2,1,1]
              %moved = add(%y, @shift)
              %sum = add(%moved, %y)
              %pooled = max_pool(%sum) {kernel=[2,2], stride=[2,2]}
              %unknown = relu(%x)
              %both = concat(%pooled, %pooled) {axis=1}
              %neither = concat(%sum, %unknown) {axis=1}
              return %both, %neither
            }";
        let graph: Graph = text.parse().unwrap();
        let known = moments(&graph);
        let of = |name: &str| known.get(&graph.find(name).unwrap().into());
        let both = Moments {
            mean: vec![5.0, 2.0, 5.0, 2.0],
            variance: vec![8.0, 0.5, 8.0, 0.5],
        };
        assert_eq!(of("both"), Some(&both));
        assert_eq!((of("unknown"), of("neither"), of("x")), (None, None, None));
    }
}
