//! `hash=kde`: where the modes of a layer's density make neurons equal or dead, these become so, and nothing else changes.
//!
//! The paper replaces every weight by its mode. A neuron that becomes equal to none gains nothing by that and keeps its own
//! weights (ours); those that become equal get the average of their own, and what the mean of a neuron loses goes into the
//! bias. What a layer loses is judged by what it computes: by samples where there are any, else by the moments that batch norms
//! promise, else as if all that it reads counted the same.

use rustc_hash::{FxHashMap, FxHashSet};

use super::hashing::{Outcome, hash_weights};
use super::merging::{Layer, layers};
use crate::Result;
use crate::analysis::kernels::{KernelLayout, PatchMoment};
use crate::egraph::channel_map::Partition;
use crate::egraph::constants::Rows;
use crate::ir::{Graph, NodeId};
use crate::passes::activations::{Activations, PriorMoments, activations};
use crate::pipeline::PassContext;

/// Errors of the weights that bandwidths are looked for with: each is tried, and of those which keep to the budget the one that
/// rids the layer of most is taken.
const ERRORS: [f64; 7] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64];

/// What hashing would make of the layers of a graph.
pub(super) struct Hashing {
    layers: Vec<Hashed>,
}

struct Hashed {
    layer: Layer,
    layout: KernelLayout,
    /// What each bandwidth makes redundant.
    gone: Vec<Gone>,
    /// The mean of each element that the kernels meet.
    mean: Vec<f64>,
}

/// The neurons that a bandwidth makes redundant.
struct Gone {
    /// Those that are equal, bias included.
    equal: Vec<Vec<usize>>,
    /// Those with no weights left.
    dead: Vec<usize>,
    /// Input channels that are no longer read.
    unread: Vec<usize>,
    /// How many values the weights have as modes.
    modes: usize,
    /// What the result loses, squared and relative to how it varies.
    loss: f64,
}

impl Gone {
    /// What `weight` becomes.
    fn of(&self, layout: &KernelLayout, weight: &[f64]) -> Vec<f64> {
        let mut changed = weight.to_vec();
        let unread: FxHashSet<usize> = self.unread.iter().copied().collect();
        for channel in 0..layout.inputs {
            let mut kernels = layout.matrix(&changed, channel);
            for tap in 0..layout.taps {
                let mut column = kernels.col_mut(tap);
                for members in &self.equal {
                    let sum: f64 = members.iter().map(|o| column[*o]).sum();
                    members
                        .iter()
                        .for_each(|o| column[*o] = sum / members.len() as f64);
                }
                self.dead.iter().for_each(|o| column[*o] = 0.0);
                if unread.contains(&channel) {
                    column.iter_mut().for_each(|w| *w = 0.0);
                }
            }
            layout.set_matrix(&mut changed, channel, &kernels);
        }
        changed
    }

    fn count(&self) -> usize {
        let equal: usize = self.equal.iter().map(|members| members.len() - 1).sum();
        equal + self.dead.len() + self.unread.len()
    }

    /// `2 of 16 neurons dead, 3 equal to others`
    fn text(&self, layout: &KernelLayout) -> String {
        let equal: usize = self.equal.iter().map(|members| members.len() - 1).sum();
        let parts = [
            (self.dead.len(), layout.outputs, "neurons dead"),
            (equal, layout.outputs, "neurons equal to others"),
            (self.unread.len(), layout.inputs, "channels unread"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(n, ..)| *n > 0)
            .map(|(n, all, what)| format!("{n} of {all} {what}"))
            .collect();
        format!(
            "{} at {} values: by their moments the result changes by {:.2} %",
            parts.join(", "),
            self.modes,
            100.0 * self.loss.sqrt()
        )
    }
}

impl Hashing {
    /// Finds what each bandwidth would make redundant in each layer.
    ///
    /// # Errors
    /// When the samples do not fit the network.
    pub(super) fn new(
        graph: &Graph,
        prior: &PriorMoments,
        context: &mut PassContext<'_>,
    ) -> Result<Hashing> {
        let mut found = Vec::new();
        let mut seen: FxHashMap<NodeId, usize> = FxHashMap::default();
        let all = layers(graph);
        let total = all.len().max(1) as f64;
        for (i, layer) in all.into_iter().enumerate() {
            let name = graph.node(layer.weight).name.clone();
            context.progress(&name, 0.3 * i as f64 / total)?;
            if *seen
                .entry(layer.weight)
                .and_modify(|n| *n += 1)
                .or_insert(1)
                > 1
            {
                continue;
            }
            let (Some(constant), Some(op)) = (graph.constant(layer.weight), graph.op(layer.node))
            else {
                continue;
            };
            let Some(layout) = KernelLayout::dense(op, constant.tensor.shape()) else {
                continue;
            };
            match candidates(graph, &layer) {
                Ok(gone) if !gone.is_empty() => found.push(Hashed {
                    layer,
                    layout,
                    gone,
                    mean: Vec::new(),
                }),
                Ok(_) => context.missed(&name, "not hashed: no neurons would be equal or dead"),
                Err(reason) => context.missed(&name, format!("not hashed: {reason}")),
            }
        }
        let places: Vec<_> = found.iter().map(|h| (h.layer.node, h.layout)).collect();
        let reads = activations(graph, &places, prior, context)?;
        for (hashed, reads) in found.iter_mut().zip(reads) {
            let Activations { patches, mean, .. } = reads;
            let weight = graph.operand_elements(hashed.layer.node, 1);
            let whole = energy(&hashed.layout, &weight, &patches).max(f64::MIN_POSITIVE);
            for gone in &mut hashed.gone {
                let changed = gone.of(&hashed.layout, &weight);
                let lost: Vec<f64> = weight.iter().zip(changed).map(|(a, b)| a - b).collect();
                gone.loss = energy(&hashed.layout, &lost, &patches) / whole;
            }
            hashed.mean = mean;
        }
        Ok(Hashing { layers: found })
    }

    /// Whether nothing can be made redundant.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The graph in which no layer loses more than `error`, and what became of each layer by that; `None` if nothing changes.
    pub(super) fn within(&self, graph: &Graph, error: f64) -> Option<Graph> {
        let mut changed = graph.clone();
        let mut any = false;
        for hashed in &self.layers {
            let (layer, layout) = (&hashed.layer, &hashed.layout);
            let Some(gone) = best(&hashed.gone, error) else {
                continue;
            };
            any = true;
            let weight = graph.operand_elements(layer.node, 1);
            let elements = gone.of(layout, &weight);
            let lost: Vec<f64> = weight.iter().zip(&elements).map(|(a, b)| a - b).collect();
            let mut shift = layout.apply(&lost, &hashed.mean);
            for members in &gone.equal {
                // Or they would not be equal.
                let sum: f64 = members.iter().map(|o| shift[*o]).sum();
                members
                    .iter()
                    .for_each(|o| shift[*o] = sum / members.len() as f64);
            }
            changed.set_operand_elements(layer.node, 1, elements);
            if shift.iter().any(|s| *s != 0.0) {
                changed.shift_bias(layer.node, &shift);
            }
        }
        any.then_some(changed)
    }

    /// How many neurons and channels each layer is rid of.
    pub(super) fn chosen(&self, error: f64) -> Vec<usize> {
        let of = |hashed: &Hashed| best(&hashed.gone, error).map_or(0, Gone::count);
        self.layers.iter().map(of).collect()
    }

    /// The channels of its result that a layer keeps.
    pub(super) fn kept(&self, error: f64) -> impl Iterator<Item = (NodeId, Vec<usize>)> {
        self.layers.iter().filter_map(move |hashed| {
            let gone = best(&hashed.gone, error)?;
            let goes = |o: &usize| {
                gone.dead.contains(o) || gone.equal.iter().any(|members| members[1..].contains(o))
            };
            let kept = (0..hashed.layout.outputs).filter(|o| !goes(o)).collect();
            Some((hashed.layer.node, kept))
        })
    }

    /// Says what became of each layer.
    pub(super) fn explain(&self, graph: &Graph, error: f64, context: &mut PassContext<'_>) {
        for Hashed {
            layer,
            layout,
            gone,
            ..
        } in &self.layers
        {
            let name = graph.node(layer.weight).name.clone();
            match best(gone, error) {
                Some(gone) => context.applied(&name, gone.text(layout)),
                None => context.missed(&name, "not hashed: it would lose more than it may"),
            }
        }
    }
}

/// Of those whose loss is at most `error`, not squared, the one that rids the layer of most.
fn best(gone: &[Gone], error: f64) -> Option<&Gone> {
    let within = gone.iter().filter(|gone| gone.loss <= error * error);
    within.max_by(|a, b| a.count().cmp(&b.count()).then(b.loss.total_cmp(&a.loss)))
}

/// What each bandwidth makes redundant in a layer, where that is something.
fn candidates(graph: &Graph, layer: &Layer) -> std::result::Result<Vec<Gone>, String> {
    let constant = graph.constant(layer.weight).ok_or("it is computed")?;
    let before = [layer.output, layer.input].map(|axis| Rows::of(&constant.tensor, axis));
    let bias = match layer.bias.map(|bias| graph.constant(bias)) {
        Some(None) => return Err("its bias is computed".into()),
        Some(Some(bias)) => Some(bias.tensor.elements::<f64>()),
        None => None,
    };
    let (mut found, mut refused) = (Vec::new(), None);
    for error in ERRORS {
        let (tensor, modes) = match hash_weights(&constant.tensor, error) {
            Outcome::Hashed { tensor, modes, .. } => (tensor, modes),
            Outcome::Unchanged { reason } => {
                refused = refused.or(Some(reason));
                continue;
            }
        };
        let after = [layer.output, layer.input].map(|axis| Rows::of(&tensor, axis));
        let new = |side: usize| -> Vec<usize> {
            let zero = |c: &usize| after[side].zero[*c] && !before[side].zero[*c];
            (0..after[side].zero.len()).filter(zero).collect()
        };
        // Averages of rows would not be masked as they are.
        let rows = match constant.mask {
            Some(_) => 0,
            None => after[0].zero.len(),
        };
        let alive = (0..rows).filter(|o| !after[0].zero[*o]).collect::<Vec<_>>();
        let key = |o: &usize| {
            let bias = bias.as_ref().map(|bias| bias[*o].to_bits());
            (after[0].equal.class[*o], bias)
        };
        let classes = Partition::by_key(alive.iter().map(key));
        let mut equal: Vec<Vec<usize>> = vec![Vec::new(); classes.first.len()];
        classes
            .class
            .iter()
            .zip(&alive)
            .for_each(|(class, o)| equal[*class].push(*o));
        let were = |o: &usize| before[0].equal.class[*o];
        equal.retain(|members| members.iter().any(|o| were(o) != were(&members[0])));
        let gone = Gone {
            equal,
            dead: new(0),
            unread: new(1),
            modes,
            loss: f64::INFINITY,
        };
        if gone.count() > 0 {
            found.push(gone);
        }
    }
    match (found.is_empty(), refused) {
        (true, Some(reason)) => Err(reason),
        _ => Ok(found),
    }
}

/// How much what a weight computes varies, over all results.
fn energy(layout: &KernelLayout, weight: &[f64], patches: &[PatchMoment]) -> f64 {
    let of_channel = |(channel, PatchMoment(moment)): (usize, &PatchMoment)| {
        let kernels = layout.matrix(weight, channel);
        let through = &kernels * moment;
        let places = (0..layout.outputs).flat_map(|o| (0..layout.taps).map(move |t| (o, t)));
        places.map(|at| through[at] * kernels[at]).sum::<f64>()
    };
    patches.iter().enumerate().map(of_channel).sum()
}
