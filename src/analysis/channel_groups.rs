//! Channel groups: layers whose output channels can only go together, and the layers that read them.
//!
//! What a sum adds has to keep the same channels, so all that write into a residual stream are one group; the hidden channels
//! between two convolutions are a group of one writer. [`reach`] follows the channels of each writer.

use rustc_hash::{FxHashMap, FxHashSet};

use super::dependencies::{Join, Obstacle, Place, Reach, Reader, reach};
use crate::ir::channels::dense_axis;
use crate::ir::{Graph, NodeId, Op, Value};

/// Channels that go together.
#[derive(Debug)]
pub struct ChannelGroup {
    /// How many channels.
    pub channels: usize,
    /// The layers that write them, one output channel each.
    pub writers: Vec<NodeId>,
    /// The convolutions with a kernel of its own for each channel, between writers and readers.
    pub depthwise: Vec<NodeId>,
    /// The layers that read them, by a weight that mixes them.
    pub readers: Vec<Reader>,
}

/// The groups of a graph that can lose channels, and for the others the name of a writer and what stands in the way.
pub fn channel_groups(graph: &Graph) -> (Vec<ChannelGroup>, Vec<(NodeId, String)>) {
    let writers: Vec<(NodeId, usize)> = graph
        .topological_order()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|node| Some((node, output_axis(graph, node)?)))
        .collect();
    let reached: Vec<Reach> = writers
        .iter()
        .map(|(node, axis)| reach(graph, (*node).into(), *axis))
        .collect();
    let mut parents: Vec<usize> = (0..reached.len()).collect();
    let mut at_join: FxHashMap<NodeId, usize> = FxHashMap::default();
    for (i, reach) in reached.iter().enumerate() {
        for Join { at, .. } in reach.obstacles.iter().filter_map(aligned) {
            let first = *at_join.entry(*at).or_insert(i);
            let (a, b) = (root(&parents, first), root(&parents, i));
            parents[b.max(a)] = a.min(b);
        }
    }
    let (mut groups, mut missed) = (Vec::new(), Vec::new());
    for first in (0..reached.len()).filter(|i| root(&parents, *i) == *i) {
        let members: Vec<usize> = (first..reached.len())
            .filter(|i| root(&parents, *i) == first)
            .collect();
        match group(graph, &writers, &reached, &members) {
            Ok(group) => groups.push(group),
            Err(why) => missed.push((writers[first].0, why)),
        }
    }
    (groups, missed)
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

fn group(
    graph: &Graph,
    writers: &[(NodeId, usize)],
    reached: &[Reach],
    members: &[usize],
) -> Result<ChannelGroup, String> {
    let (first, axis) = writers[members[0]];
    let channels = graph.ty(first.into()).len(axis);
    let channels = channels.ok_or("how many channels it has is not known")?;
    let seen: FxHashSet<Place> = members
        .iter()
        .flat_map(|i| reached[*i].places.iter().copied())
        .collect();
    let mut found = ChannelGroup {
        channels,
        writers: members.iter().map(|i| writers[*i].0).collect(),
        depthwise: Vec::new(),
        readers: Vec::new(),
    };
    for reach in members.iter().map(|i| &reached[*i]) {
        let stays = |o: &&Obstacle| aligned(o).is_none_or(|join| !seen.contains(&join.with));
        if let Some(obstacle) = reach.obstacles.iter().find(stays) {
            return Err(obstacle.text.clone());
        }
        for node in &reach.depthwise {
            if !is_weight(graph, graph.operands(*node)[1]) {
                return Err(refused(
                    graph,
                    *node,
                    "its weight is no constant of its own",
                ));
            }
            if !found.depthwise.contains(node) {
                found.depthwise.push(*node);
            }
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
            let [writers, depthwise, readers] =
                [&group.writers, &group.depthwise, &readers].map(|nodes| names(nodes));
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
}
