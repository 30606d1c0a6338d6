//! Merging: equality saturation over all rules, and what it did and did not do.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::Result;
use crate::analysis::dependencies::{obstacles, reach};
use crate::analysis::liveness::unread_outputs;
use crate::egraph::constants::Rows;
use crate::egraph::{Bounds, Saturated, saturate};
use crate::ir::channels::{WeightAxes, dense_axis};
use crate::ir::{Dim, Graph, NodeId, Op};
use crate::passes::rules;
use crate::pipeline::{Changed, PassContext};

/// A layer with a dense weight that is a constant: node, weight, bias, and the axes of its output and input channels.
pub(super) struct Layer {
    pub node: NodeId,
    pub weight: NodeId,
    pub bias: Option<NodeId>,
    pub output: usize,
    pub input: usize,
}

pub(super) fn layers(graph: &Graph) -> Vec<Layer> {
    layers_where(graph, |op, _| op.weight_axes())
}

/// These, products with a matrix, and grouped convolutions, of which `input` is the axis of the channels of a group.
fn all_layers(graph: &Graph) -> Vec<Layer> {
    let grouped = WeightAxes {
        output: 0,
        input: 1,
    };
    layers_where(graph, |op, rank| match op {
        Op::Conv { .. } => Some(grouped),
        op => op.product_axes(rank),
    })
}

fn layers_where(graph: &Graph, axes: impl Fn(&Op, usize) -> Option<WeightAxes>) -> Vec<Layer> {
    let layer = |node: NodeId| {
        let operands = graph.operands(node);
        let weight = operands.get(1)?.node;
        let axes = axes(
            graph.op(node)?,
            graph.constant(weight)?.tensor.shape().len(),
        )?;
        Some(Layer {
            node,
            weight,
            bias: operands.get(2).map(|bias| bias.node),
            output: axes.output,
            input: axes.input,
        })
    };
    graph.nodes().filter_map(layer).collect()
}

/// For operations of a graph that was changed, the one that each was or was made from before the changes.
pub(super) struct Origins(FxHashMap<NodeId, NodeId>);

impl Origins {
    /// Where nothing has changed.
    pub fn of(graph: &Graph) -> Origins {
        Origins(graph.nodes().map(|node| (node, node)).collect())
    }

    /// Through a saturation whose graph is taken.
    pub fn follow(&mut self, saturated: &Saturated) {
        if saturated.graph.is_some() {
            let earlier = saturated.origins.iter();
            let earlier = earlier.filter_map(|(node, from)| Some((*node, *self.0.get(from)?)));
            self.0 = earlier.collect();
        }
    }
}

/// Saturates with all rules, again where that leaves neurons that nobody reads.
pub(super) fn merge(
    graph: &mut Graph,
    origins: &mut Origins,
    context: &mut PassContext<'_>,
) -> Result<Changed> {
    let mut changed = Changed::No;
    for _ in 0..MOST_ROUNDS {
        let saturated = saturated(graph, context)?;
        say_rounds(&saturated, context);
        origins.follow(&saturated);
        if let Some(refusal) = saturated.refusal() {
            context.missed("", refusal);
        }
        context.stop_reason = Some(saturated.stop_reason);
        let Some(after) = saturated.graph else {
            break;
        };
        changed = Changed::Yes;
        *graph = after;
        if without_unread(graph).is_none() {
            break;
        }
    }
    Ok(changed)
}

/// The graph without what is redundant; `None` if nothing is.
pub(in crate::passes) fn exact_rules(
    graph: &Graph,
    context: &mut PassContext<'_>,
) -> Result<Option<Graph>> {
    let mut merged = graph.clone();
    let changed = merge(&mut merged, &mut Origins::of(graph), context)?;
    Ok(changed.is_yes().then_some(merged))
}

/// How often saturation is repeated at most: each time because products became zero that were not.
const MOST_ROUNDS: usize = 8;

/// Saturates with all rules.
pub(super) fn saturated(graph: &Graph, context: &PassContext<'_>) -> Result<Saturated> {
    let zeroed = without_unread(graph);
    let graph = zeroed.as_ref().unwrap_or(graph);
    saturate(graph, rules::ALL, &context.cost, Bounds::default())
}

/// The graph with zeros for the weights of neurons that nobody reads; `None` if there are none but zeros. Rules look at one reader
/// at a time, and several may leave different channels; what is zero is constant for all of them. A head of attention that nobody
/// reads becomes one that somebody does: a softmax leaves nothing constant, but what is equal stays equal.
fn without_unread(graph: &Graph) -> Option<Graph> {
    let mut replaced: Option<Graph> = None;
    for (node, channels) in unread_outputs(graph) {
        let axis = match graph.op(node)? {
            Op::MatMul {} | Op::ConvTranspose { .. } => 1,
            _ => 0,
        };
        let twins = twins(graph, node, &channels);
        for (position, axis) in [(1, axis), (2, 0)] {
            let Some(operand) = graph.operands(node).get(position).copied() else {
                continue;
            };
            let before = graph.operand_elements(node, position);
            let lengths = graph.ty(operand).shape()?.iter().map(Dim::as_len);
            let shape: Vec<usize> = lengths.collect::<Option<_>>()?;
            let inner = shape[axis + 1..].iter().product::<usize>().max(1);
            let mut elements = before.clone();
            let mut changed = false;
            for (i, slice) in elements.chunks_mut(inner).enumerate() {
                let channel = i % shape[axis];
                if channels.binary_search(&channel).is_err() {
                    continue;
                }
                match twins.get(&channel) {
                    None => slice.fill(0.0),
                    Some(twin) => {
                        let from = (i - channel + twin) * inner;
                        slice.copy_from_slice(&before[from..from + inner]);
                    }
                }
                changed |= *slice != before[i * inner..][..inner];
            }
            if changed {
                let replaced = replaced.get_or_insert_with(|| graph.clone());
                replaced.set_operand_elements(node, position, elements);
            }
        }
    }
    replaced
}

/// For the unread channels of a layer that are a whole head of several, those of one that is read.
fn twins(graph: &Graph, node: NodeId, unread: &[usize]) -> FxHashMap<usize, usize> {
    let mut twins = FxHashMap::default();
    let Some((op, rank)) = graph.op(node).zip(graph.ty(node.into()).rank()) else {
        return twins;
    };
    let reach = reach(graph, node.into(), dense_axis(op, rank));
    for parts in reach.obstacles.iter().flat_map(|obstacle| &obstacle.parts) {
        let positions = |part: usize| parts.from.positions(parts.channels, part);
        let is_unread = |part: &usize| positions(*part).all(|c| unread.binary_search(&c).is_ok());
        let (gone, kept): (Vec<usize>, Vec<usize>) = (0..parts.channels).partition(is_unread);
        if let (false, Some(first)) = (gone.is_empty(), kept.first()) {
            for part in gone {
                twins.extend(positions(part).zip(positions(*first)));
            }
            break;
        }
    }
    twins
}

fn say_rounds(saturated: &Saturated, context: &mut PassContext<'_>) {
    let applied = saturated.applied.iter().filter(|(_, n)| **n > 0);
    let counts: Vec<String> = applied.map(|(rule, n)| format!("{rule} {n}")).collect();
    let counts = if counts.is_empty() {
        "no rule applied".to_string()
    } else {
        counts.join(", ")
    };
    context.analysis(
        "",
        format!(
            "{} after {} rounds: {} terms in {} classes; {counts}",
            saturated.stop_reason, saturated.iterations, saturated.terms, saturated.classes,
        ),
    );
}

/// The channels of a layer, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    inputs: usize,
    outputs: usize,
    groups: usize,
}

impl Size {
    fn of(graph: &Graph, layer: &Layer) -> Option<Size> {
        let shape = graph.constant(layer.weight)?.tensor.shape();
        let groups = groups(graph, layer.node);
        Some(Size {
            inputs: shape.get(layer.input)? * groups,
            outputs: *shape.get(layer.output)?,
            groups,
        })
    }

    fn is_depthwise(self) -> bool {
        self.groups == self.inputs && self.groups == self.outputs
    }
}

fn groups(graph: &Graph, node: NodeId) -> usize {
    let geometry = graph.op(node).and_then(Op::convolution);
    geometry.map_or(1, |(.., groups)| groups)
}

/// A remark for every layer that lost channels, or that has equal ones and kept them.
pub(super) fn explain(
    before: &Graph,
    last: &Graph,
    origins: &Origins,
    context: &mut PassContext<'_>,
) {
    let mut left: FxHashMap<NodeId, Layer> = FxHashMap::default();
    for layer in all_layers(last) {
        if let Some(origin) = origins.0.get(&layer.node) {
            left.entry(*origin).or_insert(layer);
        }
    }
    for layer in all_layers(before) {
        let (name, old) = (&before.node(layer.node).name, Size::of(before, &layer));
        let Some(new) = left.get(&layer.node) else {
            context.applied(name, "removed");
            continue;
        };
        if let (Some(old), Some(size)) = (old, Size::of(last, new))
            && old != size
        {
            let separated = reads_depthwise(last, new.node) && !reads_depthwise(before, layer.node);
            context.applied(name, became(old, size, separated));
        }
        if let Some(why) = missed(last, new) {
            context.missed(name, why);
        }
    }
}

fn became(old: Size, new: Size, separated: bool) -> String {
    let first = format!("{} -> {} channels", old.inputs, old.outputs);
    let (inputs, outputs) = (new.inputs, new.outputs);
    if separated {
        return format!("{first}: separated, with {inputs} depthwise kernels");
    }
    let groups = if old.is_depthwise() || old.groups == new.groups {
        String::new()
    } else {
        format!(", and {} groups {}", old.groups, new.groups)
    };
    format!("{first} became {inputs} -> {outputs}{groups}")
}

/// Whether the layer reads a depthwise stage.
fn reads_depthwise(graph: &Graph, layer: NodeId) -> bool {
    let operand = graph.operands(layer).first().copied();
    let geometry = operand.and_then(|x| graph.op(x.node)?.convolution());
    geometry.is_some_and(|(.., groups)| groups > 1)
}

/// Why a layer with redundant neurons kept them; `None` if it has none.
fn missed(graph: &Graph, layer: &Layer) -> Option<String> {
    let rows = Rows::of(&graph.constant(layer.weight)?.tensor, layer.output);
    let groups = groups(graph, layer.node).max(1);
    let outputs = (rows.equal.class.len() / groups).max(1);
    let redundant = |group: &[usize]| {
        let distinct: FxHashSet<usize> = group.iter().copied().collect();
        group.len() - distinct.len()
    };
    let each = rows.equal.class.chunks(outputs).map(redundant);
    let each: Vec<usize> = each.collect();
    let all: usize = each.iter().sum();
    let op: &Op = graph.op(layer.node)?;
    let axis = dense_axis(op, graph.ty(layer.node.into()).rank()?);
    let obstacles = obstacles(graph, layer.node.into(), axis);
    if all == 0 {
        let (what, otherwise) = nearly(graph, layer, &rows, groups)?;
        let why = if obstacles.is_empty() {
            otherwise.to_string()
        } else {
            obstacles.join("; ")
        };
        return Some(format!("{what}, and stay: {why}"));
    }
    let why = match each.iter().position(|redundant| *redundant == 0) {
        Some(group) => format!(
            "group {group} of its {groups} has none, and a convolution without it would cost more"
        ),
        None if obstacles.is_empty() => "cost would rise".to_string(),
        None => obstacles.join("; "),
    };
    Some(format!(
        "{all} neurons have the weights of others, and stay: {why}"
    ))
}

/// What neurons of a layer without equal ones have in common, and why they stay where nothing is in their way: they are constant, or
/// multiples of others with their biases.
fn nearly(
    graph: &Graph,
    layer: &Layer,
    rows: &Rows,
    groups: usize,
) -> Option<(String, &'static str)> {
    let constant = rows.zero.iter().filter(|zero| **zero).count();
    if constant > 0 {
        let why = "padding, or what follows, makes them vary, or cost would rise";
        return Some((format!("{constant} neurons have no weights but zeros"), why));
    }
    // A kernel of one number is a multiple of every other.
    let count = rows.zero.len();
    let elements = graph.constant(layer.weight)?.tensor.len();
    if groups > 1 || elements <= count {
        return None;
    }
    let bias = layer.bias.and_then(|bias| graph.constant(bias));
    let bias = bias.map(|bias| bias.tensor.elements::<f64>());
    let bias = |neuron: usize| { bias.as_ref() }.map_or(0.0, |bias| bias[neuron]);
    let multiple = |neuron: &usize| {
        let first = rows.proportional.first[rows.proportional.class[*neuron]];
        let expected = rows.factor[*neuron] * bias(first);
        first != *neuron && (bias(*neuron) - expected).abs() <= 1e-6 * expected.abs()
    };
    let multiples = (0..count).filter(multiple).count();
    let why = "what follows does not let factors through, or cost would rise";
    (multiples > 0).then(|| (format!("{multiples} neurons are multiples of others"), why))
}
