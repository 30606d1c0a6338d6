//! Cut: channels go, and what reads them makes up for it with the channels that stay.
//!
//! No operator is added, so every runtime is faster at once. A channel goes if the others predict what it gives its readers: RED's
//! merging of neurons, taken to combinations of neurons. Channels that go together, as in a residual stream or in a head of
//! attention, are weighed over all their readers. The readers' weights for what goes become zero, and those for what stays the
//! least squares fit; then nobody reads the channels, and the exact rules remove them wherever they come from.

use std::sync::Arc;

use faer::Mat;

use super::market::{AloneOptions, alone};
use crate::Result;
use crate::analysis::candidate::CandidateOp;
use crate::analysis::channel_groups::{ChannelGroup, channel_groups};
use crate::analysis::dependencies;
use crate::analysis::elimination::{BlockReader, Features, compensate, eliminate_blocks};
use crate::analysis::price::share;
use crate::analysis::prior::Activations;
use crate::analysis::{CostModel, Statistics};
use crate::ir::regroup::Spread;
use crate::ir::{Graph, NodeId, Op, Type};
use crate::pipeline::{Kind, Lot, Method, Offer, PassContext, PassInfo, Unit};

/// `cut`.
pub static CUT: PassInfo = PassInfo {
    name: "cut",
    summary: "remove channels and heads of attention that the others predict, with a least squares fit in what reads them",
    kind: Kind::Lossy,
    options: AloneOptions::SPECS,
    build: |options| alone(&CUT, Channels, options),
};

/// Numbers of channels that are offered for a group, about.
const OFFERS: usize = 16;

/// The channels of every group.
struct Channels;

impl Method for Channels {
    fn name(&self) -> &'static str {
        CUT.name
    }

    fn offers(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Lot>> {
        let (groups, missed) = channel_groups(graph);
        for (node, why) in missed {
            context.missed(&graph.node(node).name, format!("its channels stay: {why}"));
        }
        let mut lots = Vec::new();
        let total = groups.len();
        for (i, group) in groups.into_iter().enumerate() {
            let name = graph.node(group.writers[0].node).name.clone();
            context.progress(&name, i as f64 / total as f64)?;
            match offers(graph, group, statistics, context) {
                Some(lot) => lots.push(lot),
                None => {
                    context.missed(&name, "its channels stay: what reads them cannot be fitted")
                }
            }
        }
        Ok(lots)
    }
}

/// A layer that reads a group's channels, and what it takes to fit it to fewer.
struct Reader {
    node: NodeId,
    /// The features that each channel is.
    blocks: Vec<Vec<usize>>,
    reads: Arc<Activations>,
}

fn offers(
    graph: &Graph,
    group: ChannelGroup,
    statistics: &Statistics,
    context: &PassContext<'_>,
) -> Option<Lot> {
    let mut readers = Vec::new();
    let mut blocks = Vec::new();
    for reader in &group.readers {
        let reads = statistics.reads(reader.node)?;
        let (of, block) = weighed(graph, reader, reads)?;
        readers.push(of);
        blocks.push(block);
    }
    let model = CostModel::new(&context.cost, &graph.bindings);
    let (align, most) = (model.alignment(0), model.alternatives(OFFERS));
    // A head is several channels: as many heads as make up whole blocks.
    let each = group.writers[0].outputs(1);
    let is_whole = |heads: &usize| (heads * each).is_multiple_of(align);
    let align = (1..align).find(is_whole).unwrap_or(align);
    let every = align * (group.channels / align / most).max(1);
    let kept: Vec<usize> = (1..group.channels).filter(|n| n % every == 0).collect();
    let found = eliminate_blocks(blocks, group.channels - kept.first()?)?;
    let (readers, order) = (Arc::new(readers), Arc::new(found.order));
    let offer = |kept: usize| {
        let gone = group.channels - kept;
        let losses = readers.iter().zip(&found.losses);
        let (readers, order) = (readers.clone(), order.clone());
        Some(Offer {
            what: format!("{kept} of {} {}", group.channels, parts(&group)),
            losses: losses
                .map(|(reader, losses)| (reader.node, losses[gone]))
                .collect(),
            costs: costs(graph, &group, kept, context)?,
            apply: Box::new(move |graph| {
                let gone = &order[..gone];
                readers.iter().for_each(|reader| reader.drop(graph, gone));
                Ok(())
            }),
        })
    };
    Some(Lot {
        of: Unit::Channels(group.writers[0].node),
        offers: kept.into_iter().filter_map(offer).collect(),
    })
}

/// What goes as a whole.
fn parts(group: &ChannelGroup) -> &'static str {
    match group.writers[0].at {
        Spread::WHOLE => "channels",
        Spread { block: 1, .. } => "channels of every head",
        _ => "heads",
    }
}

/// A reader, as elimination takes it: errors are relative to the variance of its result.
fn weighed(
    graph: &Graph,
    reader: &dependencies::Reader,
    reads: &Arc<Activations>,
) -> Option<(Reader, BlockReader)> {
    let shape = graph.ty(graph.operands(reader.node)[1]).shape()?;
    let lengths: Vec<usize> = shape.iter().map(|n| n.as_len()).collect::<Option<_>>()?;
    let (outputs, inputs) = (lengths[0], lengths[1]);
    let taps: usize = lengths[2..].iter().product();
    let elements = graph.operand_elements(reader.node, 1);
    let weight = Mat::from_fn(outputs, inputs * taps, |o, f| {
        elements[o * inputs * taps + f]
    });
    let features = |columns: &Vec<usize>| {
        let taps = |c: &usize| c * taps..(c + 1) * taps;
        columns.iter().flat_map(taps).collect::<Vec<_>>()
    };
    let blocks: Vec<Vec<usize>> = reader.columns.iter().map(features).collect();
    let known = match &reads.joint {
        Some(joint) => Features::Joint(joint.clone()),
        None => Features::Blocks(reads.patches.iter().map(|patch| patch.0.clone()).collect()),
    };
    let energy = match &known {
        Features::Joint(joint) => energy(&weight, joint),
        Features::Blocks(patches) => patches
            .iter()
            .enumerate()
            .map(|(c, patch)| energy(&weight.subcols(c * taps, taps).to_owned(), patch))
            .sum(),
    };
    let scale = energy.max(f64::MIN_POSITIVE).sqrt().recip();
    let relative = BlockReader {
        reads: known,
        weight: weight * faer::Scale(scale),
        blocks: blocks.clone(),
        counts: 1.0,
    };
    let reader = Reader {
        node: reader.node,
        blocks,
        reads: reads.clone(),
    };
    Some((reader, relative))
}

/// The variance of a layer's results, in all.
fn energy(weight: &Mat<f64>, covariance: &Mat<f64>) -> f64 {
    let through = weight * covariance;
    let at = (0..weight.nrows()).flat_map(|o| (0..weight.ncols()).map(move |i| (o, i)));
    at.map(|at| through[at] * weight[at]).sum()
}

impl Reader {
    /// Lets the layer do without channels: their weights become zero, and the others the best fit.
    fn drop(&self, graph: &mut Graph, gone: &[usize]) {
        let mut elements = graph.operand_elements(self.node, 1);
        let n = self.reads.mean.len();
        let mut stays = vec![true; n];
        for feature in gone.iter().flat_map(|q| &self.blocks[*q]) {
            stays[*feature] = false;
        }
        let before = elements.clone();
        let outputs = elements.len() / n;
        let fitted = self.reads.joint.as_ref().and_then(|joint| {
            let kept: Vec<usize> = (0..n).filter(|i| stays[*i]).collect();
            let weight = Mat::from_fn(outputs, n, |o, i| before[o * n + i]);
            Some((compensate(joint, &weight, &kept)?, kept))
        });
        for (i, x) in elements.iter_mut().enumerate() {
            if !stays[i % n] {
                *x = 0.0;
            }
        }
        if let Some((fitted, kept)) = fitted {
            for o in 0..outputs {
                for (a, i) in kept.iter().enumerate() {
                    elements[o * n + i] = fitted[(o, a)];
                }
            }
        }
        // The bias takes the mean of what is lost.
        let lost = |o: usize| {
            let features =
                (0..n).map(|i| (before[o * n + i] - elements[o * n + i]) * self.reads.mean[i]);
            features.sum::<f64>()
        };
        let lost: Vec<f64> = (0..outputs).map(lost).collect();
        graph.set_operand_elements(self.node, 1, elements);
        if lost.iter().any(|lost| *lost != 0.0) {
            graph.shift_bias(self.node, &lost);
        }
    }
}

/// What share of their price the layers of a group cost with so many channels.
fn costs(
    graph: &Graph,
    group: &ChannelGroup,
    kept: usize,
    context: &PassContext<'_>,
) -> Option<Vec<(NodeId, f64)>> {
    let all = group.channels;
    let share = |node: NodeId, plan: Option<CandidateOp>| {
        Some((node, share(graph, node, &[plan?], &context.cost)?))
    };
    let writers = group.writers.iter().map(|writer| {
        let outputs = writer.outputs(kept);
        share(
            writer.node,
            resized(graph, writer.node, None, Some(outputs)),
        )
    });
    let between = group
        .depthwise
        .iter()
        .map(|node| share(*node, resized(graph, *node, None, Some(kept))));
    let readers = group.readers.iter().map(|reader| {
        let columns: usize = reader.columns.iter().map(Vec::len).sum();
        let gone = columns / all * (all - kept);
        share(reader.node, resized(graph, reader.node, Some(gone), None))
    });
    writers.chain(between).chain(readers).collect()
}

/// A layer that reads so many channels less, or gives so many.
fn resized(
    graph: &Graph,
    node: NodeId,
    gone: Option<usize>,
    outputs: Option<usize>,
) -> Option<CandidateOp> {
    let operands = graph.operands(node);
    let mut types: Vec<Type> = operands.iter().map(|v| graph.ty(*v).clone()).collect();
    let mut op = graph.op(node)?.clone();
    let axis = match op {
        Op::Linear {} => types[0].rank()? - 1,
        _ => 1,
    };
    if let Some(gone) = gone {
        let left = types[0].len(axis)? - gone;
        types[0] = types[0].with_len(axis, left)?;
        types[1] = types[1].with_len(1, left)?;
    }
    if let Some(outputs) = outputs {
        for parameter in types.iter_mut().skip(1) {
            *parameter = parameter.with_len(0, outputs)?;
        }
        if op.convolution().is_some_and(|(.., groups)| groups > 1) {
            types[0] = types[0].with_len(axis, outputs)?;
            op = op.with_groups(outputs);
        }
    }
    CandidateOp::new(op, types)
}
