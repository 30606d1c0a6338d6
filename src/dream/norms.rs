//! What batch norms recorded, and how far a batch of samples is from it.

use ndarray::ArrayViewD;
use rustc_hash::FxHashSet;

use crate::exec::reachable;
use crate::ir::{Graph, NodeId, Op, Value};
use crate::{Error, Result};

/// The batch norms of a network that the gradient comes back from.
pub struct Norms {
    pub all: Vec<Norm>,
    /// The scores of classes, where the network gives such.
    pub logits: Option<Value>,
    /// How many classes.
    pub classes: usize,
}

/// What one batch norm recorded of what it reads.
pub struct Norm {
    pub x: Value,
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Whether no other batch norm lies between it and the input.
    pub first: bool,
}

/// Sums of the elements of each channel, and of their squares.
#[derive(Clone, Default)]
pub struct Sums {
    channels: Vec<[f64; 2]>,
    /// Elements of a channel.
    count: usize,
}

/// What a batch norm adds to the derivative by each element of a channel: `constant + slope x`.
pub type Slopes = Vec<[f32; 2]>;

impl Norms {
    /// Those of `graph`.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are none.
    pub fn of(graph: &Graph) -> Result<Norms> {
        let (reached, obstacle) = reachable(graph)?;
        let mut all: Vec<Norm> = graph
            .nodes()
            .filter_map(|node| Norm::of(graph, node))
            .collect();
        let there = all.len();
        all.retain(|norm| reached.contains(&norm.x));
        let help = "export the network without folding (in PyTorch, before eval-mode fusion or `torch.jit.freeze`), or give samples: \
            --data npz:FILE or folder:DIR";
        match (all.is_empty(), obstacle.filter(|_| there > 0)) {
            (true, None) => Err(Error::Usage {
                what: "samples are made of what batch norms recorded, and this network has none; they may have been folded".to_string(),
                help: help.to_string(),
            }),
            (true, Some(obstacle)) => Err(Error::Usage {
                what: format!("samples are made of what batch norms recorded, and none can be reached: {obstacle}"),
                help: "give samples: --data npz:FILE or folder:DIR".to_string(),
            }),
            (false, _) => {
                let logits = logits(graph, &reached);
                Ok(Norms {
                    classes: logits.and_then(|value| graph.ty(value).len(1)).unwrap_or(0),
                    logits,
                    all,
                })
            }
        }
    }

    /// What batch norms read.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.all.iter().map(|norm| norm.x)
    }
}

impl Norm {
    fn of(graph: &Graph, node: NodeId) -> Option<Norm> {
        let Op::BatchNorm { .. } = graph.op(node)? else {
            return None;
        };
        let x = graph.operands(node)[0];
        let (mean, variance) = (
            graph.operand_elements(node, 3),
            graph.operand_elements(node, 4),
        );
        let finite = mean.iter().chain(&variance).all(|x| x.is_finite());
        (finite && !mean.is_empty() && mean.len() == variance.len()).then(|| Norm {
            first: !behind_another(graph, x),
            x,
            mean,
            variance,
        })
    }

    /// How far sums over a whole batch are from what was recorded, and what that adds to derivatives.
    pub fn compare(&self, sums: &Sums) -> (f64, Slopes) {
        let mut loss = 0.0;
        let count = (sums.count as f64).max(1.0);
        let channels = self.mean.len() as f64;
        // A channel that never changed is held to its mean, on the scale of the others.
        let floor = 1e-3 * self.variance.iter().sum::<f64>() / channels + 1e-12;
        let recorded = self.mean.iter().zip(&self.variance);
        let slopes = recorded
            .zip(&sums.channels)
            .map(|((mean, variance), [sum, squares])| {
                let scale = variance.max(floor);
                let found = sum / count;
                let deviation = (squares / count - found * found).max(1e-3 * floor).sqrt();
                let (by_mean, by_deviation) = (found - mean, deviation - variance.max(0.0).sqrt());
                loss += (by_mean * by_mean + by_deviation * by_deviation) / (scale * channels);
                let factor = 2.0 / (scale * channels * count);
                let slope = factor * by_deviation / deviation;
                [(factor * by_mean - slope * found) as f32, slope as f32]
            });
        let slopes = slopes.collect();
        (loss, slopes)
    }
}

/// Whether a batch norm lies between a value and the input.
fn behind_another(graph: &Graph, value: Value) -> bool {
    let mut seen = FxHashSet::from_iter([value.node]);
    let mut waiting = vec![value.node];
    while let Some(node) = waiting.pop() {
        if let Some(Op::BatchNorm { .. }) = graph.op(node) {
            return true;
        }
        let operands = graph.operands(node);
        waiting.extend(
            operands
                .iter()
                .map(|v| v.node)
                .filter(|node| seen.insert(*node)),
        );
    }
    false
}

/// The first output that is a row of numbers a sample, before a softmax.
fn logits(graph: &Graph, reached: &FxHashSet<Value>) -> Option<Value> {
    let is_row =
        |value: &Value| graph.ty(*value).rank() == Some(2) && graph.ty(*value).len(1) > Some(1);
    let mut value = graph
        .outputs()
        .iter()
        .map(|output| output.value)
        .find(is_row)?;
    while let Some(Op::Softmax { .. } | Op::LogSoftmax { .. }) = graph.op(value.node) {
        value = graph.operands(value.node)[0];
    }
    reached.contains(&value).then_some(value)
}

impl Sums {
    /// Those of `[n, C, ...]`.
    pub fn of(x: &ArrayViewD<f32>) -> Sums {
        let [samples, channels, spatial @ ..] = x.shape() else {
            return Sums::default();
        };
        let plane: usize = spatial.iter().product::<usize>().max(1);
        let mut sums = Sums {
            channels: vec![[0.0; 2]; *channels],
            count: samples * plane,
        };
        let x = x.as_standard_layout();
        let planes = x.as_slice().unwrap_or_default().chunks_exact(plane);
        pulp::Arch::new().dispatch(|| {
            for (i, plane) in planes.enumerate() {
                let [sum, squares] = &mut sums.channels[i % channels];
                let [more, more_squares] = of_plane(plane);
                *sum += more;
                *squares += more_squares;
            }
        });
        sums
    }

    /// Adds those of more samples.
    pub fn add(&mut self, other: &Sums) {
        self.count += other.count;
        self.channels
            .resize(other.channels.len().max(self.channels.len()), [0.0; 2]);
        for (sum, more) in self.channels.iter_mut().zip(&other.channels) {
            sum[0] += more[0];
            sum[1] += more[1];
        }
    }
}

/// The sum of the elements and that of their squares, eight side by side.
#[inline(always)]
fn of_plane(plane: &[f32]) -> [f64; 2] {
    let mut sums = [[0.0f64; 8]; 2];
    let blocks = plane.chunks_exact(8);
    let rest = blocks.remainder();
    for block in blocks {
        for (i, x) in block.iter().enumerate() {
            let x = f64::from(*x);
            sums[0][i] += x;
            sums[1][i] += x * x;
        }
    }
    for (i, x) in rest.iter().enumerate() {
        let x = f64::from(*x);
        sums[0][i] += x;
        sums[1][i] += x * x;
    }
    sums.map(|sums| sums.iter().sum())
}
