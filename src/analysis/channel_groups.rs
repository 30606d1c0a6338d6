//! Channel groups: layers whose output channels can only go together, and the layers that read them.
//!
//! What a sum adds has to keep the same channels, so all that write into a residual stream are one group; the hidden channels
//! between two convolutions are a group of one writer. Where channels are split over several axes, as attention splits them into heads,
//! what goes is a part, such as a head of queries, keys and values alike. [`reach`] follows the channels of each writer.

use rustc_hash::{FxHashMap, FxHashSet};

use super::dependencies::{Join, Obstacle, Place, Reach, Reader, reach, reach_parts};
use crate::ir::channels::dense_axis;
use crate::ir::regroup::Spread;
use crate::ir::{Graph, NodeId, Op, Value};

/// Channels that go together.
#[derive(Debug)]
pub struct ChannelGroup {
    /// How many channels, or parts of them.
    pub channels: usize,
    /// The layers that write them.
    pub writers: Vec<Writer>,
    /// The convolutions with a kernel of its own for each channel, between writers and readers.
    pub depthwise: Vec<NodeId>,
    /// The layers that read them, by a weight that mixes them.
    pub readers: Vec<Reader>,
}

/// A layer that writes channels of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Writer {
    /// The layer.
    pub node: NodeId,
    /// Where the group's channels are among its output channels.
    pub at: Spread,
}

impl Writer {
    /// How many output channels write so many of the group's.
    pub fn outputs(&self, channels: usize) -> usize {
        self.at.len(channels)
    }
}

/// What a layer writes, or parts of it, and where that goes.
struct Written {
    writer: Writer,
    channels: Option<usize>,
    reach: Reach,
}

/// The groups of a graph that can lose channels, and for the others the name of a writer and what stands in the way.
pub fn channel_groups(graph: &Graph) -> (Vec<ChannelGroup>, Vec<(NodeId, String)>) {
    let order = graph.topological_order().unwrap_or_default();
    let all: Vec<Written> = order
        .into_iter()
        .filter_map(|node| Some(written(graph, node, output_axis(graph, node)?)))
        .flatten()
        .collect();
    let mut parents: Vec<usize> = (0..all.len()).collect();
    let mut at_join: FxHashMap<(NodeId, Option<usize>), usize> = FxHashMap::default();
    for (i, written) in all.iter().enumerate() {
        for Join { at, .. } in written.reach.obstacles.iter().filter_map(aligned) {
            let first = *at_join.entry((*at, written.channels)).or_insert(i);
            let (a, b) = (root(&parents, first), root(&parents, i));
            parents[b.max(a)] = a.min(b);
        }
    }
    let (mut groups, mut missed) = (Vec::new(), Vec::new());
    for first in (0..all.len()).filter(|i| root(&parents, *i) == *i) {
        let members = (first..all.len()).filter(|i| root(&parents, *i) == first);
        let members: Vec<&Written> = members.map(|i| &all[i]).collect();
        match group(graph, &members) {
            Ok(group) => groups.push(group),
            Err(why) => missed.push((all[first].writer.node, why)),
        }
    }
    (groups, missed)
}

/// What a layer writes along an axis: all of its channels; or, where those are split, the parts that go somewhere as a whole.
fn written(graph: &Graph, node: NodeId, axis: usize) -> Vec<Written> {
    let whole = reach(graph, node.into(), axis);
    let split = whole.obstacles.iter().flat_map(|obstacle| &obstacle.parts);
    let mut parts: Vec<Written> = Vec::new();
    for regroup in split.filter(|regroup| regroup.channels > 1) {
        let reach = reach_parts(graph, node.into(), regroup);
        let at = regroup.from;
        let is_new = parts.iter().all(|known| known.writer.at != at);
        if is_new && reach.obstacles.iter().all(|o| aligned(o).is_some()) {
            parts.push(Written {
                writer: Writer { node, at },
                channels: Some(regroup.channels),
                reach,
            });
        }
    }
    if !parts.is_empty() {
        return parts;
    }
    vec![Written {
        writer: Writer {
            node,
            at: Spread::WHOLE,
        },
        channels: graph.ty(node.into()).len(axis),
        reach: whole,
    }]
}

/// The channels that an obstacle is about, where all can go together.
fn aligned(obstacle: &Obstacle) -> Option<&Join> {
    obstacle.join.as_ref().filter(|join| join.aligned)
}

fn root(parents: &[usize], mut i: usize) -> usize {
    while parents[i] != i {
        i = parents[i];
    }
    i
}

/// The axis of the output channels of a layer that can lose some: a convolution of one group, or a linear layer, of a constant
/// weight that nobody else reads.
fn output_axis(graph: &Graph, node: NodeId) -> Option<usize> {
    let op = graph.op(node)?;
    let dense = matches!(op, Op::Conv { groups: 1, .. } | Op::Linear {});
    let weight = *graph.operands(node).get(1)?;
    let rank = graph.ty(node.into()).rank()?;
    (dense && is_weight(graph, weight)).then(|| dense_axis(op, rank))
}

/// Whether a value is a constant of floating point numbers that one operator alone reads.
fn is_weight(graph: &Graph, weight: Value) -> bool {
    let constant = graph.constant(weight.node);
    constant.is_some_and(|c| c.tensor.dtype().is_float()) && graph.only_reader(weight).is_some()
}

fn group(graph: &Graph, members: &[&Written]) -> Result<ChannelGroup, String> {
    let channels = members[0].channels;
    let seen: FxHashSet<Place> = members
        .iter()
        .flat_map(|member| member.reach.places.iter().copied())
        .collect();
    let mut found = ChannelGroup {
        channels: channels.ok_or("how many channels it has is not known")?,
        writers: members.iter().map(|member| member.writer).collect(),
        depthwise: Vec::new(),
        readers: Vec::new(),
    };
    for Written { writer, reach, .. } in members {
        let stays = |o: &&Obstacle| aligned(o).is_none_or(|join| !seen.contains(&join.with));
        if let Some(obstacle) = reach.obstacles.iter().find(stays) {
            return Err(obstacle.text.clone());
        }
        for node in &reach.depthwise {
            let why = if !is_weight(graph, graph.operands(*node)[1]) {
                "its weight is no constant of its own"
            } else if writer.at != Spread::WHOLE {
                "it has a kernel for each channel of a part"
            } else {
                if !found.depthwise.contains(node) {
                    found.depthwise.push(*node);
                }
                continue;
            };
            return Err(refused(graph, *node, why));
        }
        for reader in &reach.readers {
            found.add(graph, reader)?;
        }
    }
    if found.readers.is_empty() {
        return Err("nothing mixes its channels".into());
    }
    Ok(found)
}

impl ChannelGroup {
    /// Notes a layer in whose weight channels end.
    fn add(&mut self, graph: &Graph, reader: &Reader) -> Result<(), String> {
        let Reader { node, columns } = reader;
        let op = graph.op(*node);
        let dense = matches!(op, Some(Op::Conv { groups: 1, .. } | Op::Linear {}));
        let each = columns.first().map_or(0, Vec::len);
        let why = match self.readers.iter().find(|known| known.node == *node) {
            _ if !dense || !is_weight(graph, graph.operands(*node)[1]) => {
                "its weight cannot lose input channels"
            }
            _ if columns.len() != self.channels => "how many it reads is not known",
            _ if each == 0 || columns.iter().any(|c| c.len() != each) => {
                "it reads some more often than others"
            }
            Some(known) if known.columns != *columns => "it reads them in two ways",
            Some(_) => return Ok(()),
            None => {
                self.readers.push(reader.clone());
                return Ok(());
            }
        };
        Err(refused(graph, *node, why))
    }
}

fn refused(graph: &Graph, reader: NodeId, why: &str) -> String {
    format!("`{}` reads it: {why}", graph.node(reader).name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Vec<String>, Vec<String>) {
        let graph: Graph = text.parse().unwrap();
        let name = |node: &NodeId| graph.node(*node).name.to_string();
        let names = |nodes: &[NodeId]| nodes.iter().map(name).collect::<Vec<_>>().join("+");
        let (groups, missed) = channel_groups(&graph);
        let group = |group: &ChannelGroup| {
            let readers: Vec<NodeId> = group.readers.iter().map(|r| r.node).collect();
            let writers: Vec<NodeId> = group.writers.iter().map(|w| w.node).collect();
            let [writers, depthwise, readers] =
                [&writers, &group.depthwise, &readers].map(|nodes| names(nodes));
            format!("{writers} > {depthwise} > {readers}")
        };
        let missed = missed
            .iter()
            .map(|(node, why)| format!("{}: {why}", name(node)));
        (groups.iter().map(group).collect(), missed.collect())
    }

    #[test]
    fn what_is_added_goes_together_and_what_is_between_two_layers_alone() {
        let (groups, missed) = found(
            "graph net(%x: f32[N,3,8,8]) {
               @stem.weight = parameter 1 : f32[4,3,1,1]
               @a.weight = parameter 1 : f32[8,4,1,1]
               @d.weight = parameter 1 : f32[8,1,3,3]
               @b.weight = parameter 1 : f32[4,8,1,1]
               @head.weight = parameter 1 : f32[2,4,1,1]
               %stem = conv(%x, @stem.weight)
               %a = conv(%stem, @a.weight)
               %d = conv(%a, @d.weight) {pad=[1,1], groups=8}
               %relu = relu(%d)
               %b = conv(%relu, @b.weight)
               %sum = add(%stem, %b)
               %head = conv(%sum, @head.weight)
               return %head
             }",
        );
        assert_eq!(groups, ["stem+b >  > a+head", "a > d > b"]);
        assert_eq!(missed, ["head: coupled to the graph output `head`"]);
    }

    #[test]
    fn a_sum_with_what_cannot_lose_channels_keeps_its_own() {
        let (groups, missed) = found(
            "graph net(%x: f32[N,4,8,8]) {
               @a.weight = parameter 1 : f32[4,4,1,1]
               @b.weight = parameter 1 : f32[2,4,1,1]
               %a = conv(%x, @a.weight)
               %sum = add(%x, %a)
               %b = conv(%sum, @b.weight)
               return %b
             }",
        );
        assert!(groups.is_empty());
        assert_eq!(missed[0], "a: joined by `sum` with `x`");
    }

    #[test]
    fn channels_are_found_behind_a_concatenation_and_a_flatten() {
        let graph: Graph = "graph net(%x: f32[N,2,2,2]) {
               @a.weight = parameter 1 : f32[2,2,1,1]
               @b.weight = parameter 1 : f32[1,2,1,1]
               @c.weight = parameter 1 : f32[1,12]
               %a = conv(%x, @a.weight)
               %b = conv(%x, @b.weight)
               %both = concat(%b, %a) {axis=1}
               %flat = flatten(%both) {start=1, end=3}
               %c = linear(%flat, @c.weight)
               return %c
             }"
        .parse()
        .unwrap();
        let (groups, _) = channel_groups(&graph);
        assert_eq!(groups[0].readers[0].columns, [[4, 5, 6, 7], [8, 9, 10, 11]]);
        assert_eq!(groups[1].readers[0].columns, [[0, 1, 2, 3]]);
    }

    /// Attention with two heads of three channels, its queries, keys and values from one layer or from three.
    fn attention(layers: &str) -> String {
        format!(
            "graph net(%x: f32[N,5,6]) {{
               {layers}
               @o.weight = parameter 4 : f32[6,6]
               %kt = transpose(%k) {{perm=[0,1,3,2]}}
               %scores = matmul(%q, %kt)
               %p = softmax(%scores) {{axis=3}}
               %mixed = matmul(%p, %v)
               %back = transpose(%mixed) {{perm=[0,2,1,3]}}
               %joined = reshape(%back) {{shape=[N,5,6]}}
               %o = linear(%joined, @o.weight)
               return %o
             }}"
        )
    }

    #[test]
    fn heads_go_with_their_queries_keys_and_values() {
        let layer = |name: &str| {
            format!(
                "@{name}l.weight = parameter 1 : f32[6,6]
                 %{name}l = linear(%x, @{name}l.weight)
                 %{name}s = reshape(%{name}l) {{shape=[N,5,2,3]}}
                 %{name} = transpose(%{name}s) {{perm=[0,2,1,3]}}\n"
            )
        };
        let three = attention(&["q", "k", "v"].map(layer).concat());
        let (groups, _) = found(&three);
        // The values' channels can go, too, the same of every head.
        assert_eq!(groups, ["ql+kl+vl >  > o", "vl >  > o"]);
        let graph: Graph = three.parse().unwrap();
        let (groups, _) = channel_groups(&graph);
        assert_eq!(groups[0].channels, 2);
        assert_eq!(groups[0].writers[0].outputs(1), 3);
        assert_eq!(groups[0].readers[0].columns, [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(groups[1].readers[0].columns, [[0, 3], [1, 4], [2, 5]]);
    }

    #[test]
    fn heads_of_one_layer_are_found_behind_its_three_parts() {
        let part = |name: &str, i: usize| {
            let end = i + 1;
            format!(
                "%{name}p = slice(%t) {{axis=0, start={i}, end={end}}}
                 %{name} = squeeze(%{name}p) {{axes=[0]}}\n"
            )
        };
        let parts = [part("q", 0), part("k", 1), part("v", 2)].concat();
        let one = attention(&format!(
            "@qkv.weight = parameter 1 : f32[18,6]
             %qkv = linear(%x, @qkv.weight)
             %s = reshape(%qkv) {{shape=[N,5,3,2,3]}}
             %t = transpose(%s) {{perm=[2,0,3,1,4]}}
             {parts}"
        ));
        let graph: Graph = one.parse().unwrap();
        let (groups, missed) = channel_groups(&graph);
        assert_eq!(groups.len(), 1, "{missed:?}");
        assert_eq!(
            (groups[0].channels, groups[0].writers[0].outputs(1)),
            (2, 9)
        );
        assert_eq!(groups[0].readers[0].columns, [[0, 1, 2], [3, 4, 5]]);
    }
}
