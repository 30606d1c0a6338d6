//! Channel groups: layers whose output channels can only go together, and the layers that read them.
//!
//! What a sum adds has to keep the same channels, so all that write into a residual stream are one group; the hidden channels
//! between two convolutions are a group of one writer. `ir::channels` says how each operator moves channels.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ir::channels::{Flow, dense_axis, flow};
use crate::ir::regroup::{Regroup, Spread};
use crate::ir::{Graph, NodeId, Op, Type, Value};

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
    pub readers: Vec<GroupReader>,
}

/// A layer that mixes the channels of a group.
#[derive(Debug)]
pub struct GroupReader {
    /// The layer.
    pub node: NodeId,
    /// The input channels of the layer that each channel of the group became.
    pub columns: Columns,
}

/// For each channel of a group, where it is found along an axis of a value.
type Columns = Vec<Vec<usize>>;

/// A place in the graph where channels are.
type Place = (Value, usize);

/// The groups of a graph that can lose channels, and for the others the name of a writer and what stands in the way.
pub fn channel_groups(graph: &Graph) -> (Vec<ChannelGroup>, Vec<(NodeId, String)>) {
    let writers: Vec<(NodeId, usize)> = graph
        .topological_order()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|node| Some((node, output_axis(graph, node)?)))
        .collect();
    let traces: Vec<Trace> = writers
        .iter()
        .map(|(node, axis)| Trace::of(graph, (*node).into(), *axis))
        .collect();
    let mut parents: Vec<usize> = (0..traces.len()).collect();
    let mut at_join: FxHashMap<NodeId, usize> = FxHashMap::default();
    for (i, trace) in traces.iter().enumerate() {
        for join in &trace.joins {
            let first = *at_join.entry(*join).or_insert(i);
            let (a, b) = (root(&parents, first), root(&parents, i));
            parents[b.max(a)] = a.min(b);
        }
    }
    let (mut groups, mut missed) = (Vec::new(), Vec::new());
    for first in (0..traces.len()).filter(|i| root(&parents, *i) == *i) {
        let members: Vec<usize> = (first..traces.len())
            .filter(|i| root(&parents, *i) == first)
            .collect();
        match group(graph, &writers, &traces, &members) {
            Ok(group) => groups.push(group),
            Err(why) => missed.push((writers[first].0, why)),
        }
    }
    (groups, missed)
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
    traces: &[Trace],
    members: &[usize],
) -> Result<ChannelGroup, String> {
    let seen: FxHashSet<Place> = members
        .iter()
        .flat_map(|i| traces[*i].places.iter().copied())
        .collect();
    let mut found = ChannelGroup {
        channels: traces[members[0]].channels,
        writers: members.iter().map(|i| writers[*i].0).collect(),
        depthwise: Vec::new(),
        readers: Vec::new(),
    };
    for trace in members.iter().map(|i| &traces[*i]) {
        if let Some(why) = trace.obstacles.first() {
            return Err(why.clone());
        }
        if let Some((value, _)) = trace.partners.iter().find(|place| !seen.contains(*place)) {
            let name = &graph.node(value.node).name;
            return Err(format!("joined with `{name}`, whose channels cannot go"));
        }
        for node in &trace.depthwise {
            if !found.depthwise.contains(node) {
                found.depthwise.push(*node);
            }
        }
        for (node, columns) in &trace.readers {
            match found.readers.iter().find(|reader| reader.node == *node) {
                Some(reader) if reader.columns == *columns => {}
                Some(_) => {
                    let name = &graph.node(*node).name;
                    return Err(format!("`{name}` reads its channels in two ways"));
                }
                None => found.readers.push(GroupReader {
                    node: *node,
                    columns: columns.clone(),
                }),
            }
        }
    }
    if found.readers.is_empty() {
        return Err("nothing mixes its channels".into());
    }
    Ok(found)
}

/// Where the output channels of one layer go.
#[derive(Default)]
struct Trace {
    channels: usize,
    /// Where they are found, each channel at its own position.
    places: Vec<Place>,
    /// Operators that combine them with channels of others.
    joins: Vec<NodeId>,
    /// Those others.
    partners: Vec<Place>,
    depthwise: Vec<NodeId>,
    readers: Vec<(NodeId, Columns)>,
    obstacles: Vec<String>,
}

impl Trace {
    fn of(graph: &Graph, value: Value, axis: usize) -> Trace {
        let mut trace = Trace::default();
        let Some(channels) = graph.ty(value).len(axis) else {
            trace
                .obstacles
                .push("how many channels it has is not known".into());
            return trace;
        };
        trace.channels = channels;
        let mut seen = FxHashSet::default();
        let columns: Columns = (0..channels).map(|c| vec![c]).collect();
        let mut open = vec![(value, axis, columns)];
        while let Some((value, axis, columns)) = open.pop() {
            if !seen.insert((value, axis)) {
                continue;
            }
            if is_identity(&columns) {
                trace.places.push((value, axis));
            }
            if let Some(output) = graph.output_of(value) {
                let what = format!("the network returns it as `{}`", output.name);
                trace.obstacles.push(what);
            }
            for (reader, operand) in graph.readers(value) {
                match trace.follow(graph, reader, operand, axis, &columns) {
                    Ok(next) => open.extend(next),
                    Err(why) => trace.obstacles.push(why),
                }
            }
        }
        trace
    }

    /// Where the channels are in the result of `reader`; nowhere where they end in its weight.
    fn follow(
        &mut self,
        graph: &Graph,
        reader: NodeId,
        operand: usize,
        axis: usize,
        columns: &[Vec<usize>],
    ) -> Result<Option<(Value, usize, Columns)>, String> {
        let refused = |why: &str| format!("`{}` reads it: {why}", graph.node(reader).name);
        let Some(op) = graph.op(reader) else {
            return Ok(None);
        };
        let operands = graph.operands(reader);
        let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
        let result = graph.ty(reader.into());
        let mut why = None;
        for out in 0..result.rank().unwrap_or(0) {
            match flow(op, out, &types, result) {
                Flow::Keeps(keeps) if keeps.axes.get(operand) == Some(&Some(axis)) => {
                    self.pass(graph, reader, operand, &keeps.axes, columns)
                        .map_err(refused)?;
                    return Ok(Some((reader.into(), out, columns.to_vec())));
                }
                Flow::Regroups(all) => {
                    let found = all.into_iter().find(|r| r.axis == axis);
                    if let Some(Regroup {
                        channels, from, to, ..
                    }) = found
                        && from == Spread::WHOLE
                    {
                        let spread = |c: &usize| to.positions(channels, *c).collect::<Vec<_>>();
                        let moved = columns.iter().map(|c| c.iter().flat_map(spread).collect());
                        return Ok(Some((reader.into(), out, moved.collect())));
                    }
                }
                Flow::Offsets { axis: from } if from == axis => {
                    let before = types[..operand].iter().map(|ty| ty.len(axis));
                    let offset = before.sum::<Option<usize>>();
                    let offset = offset.ok_or_else(|| refused("sizes beside it are not known"))?;
                    let moved = columns
                        .iter()
                        .map(|c| c.iter().map(|c| c + offset).collect());
                    return Ok(Some((reader.into(), out, moved.collect())));
                }
                Flow::Mixes { axis: from } if operand == 0 && from == axis => {
                    return self.end(graph, reader, columns).map_err(refused);
                }
                Flow::Groups { axis: from, .. } if operand == 0 && from == axis => {
                    why = Some("a grouped convolution ties its channels to their groups");
                }
                Flow::Refuses(because) => why = why.or(Some(because)),
                _ => {}
            }
        }
        Err(refused(why.unwrap_or("it mixes the channels")))
    }

    /// Notes what an operator that keeps the channels does with them besides.
    fn pass(
        &mut self,
        graph: &Graph,
        reader: NodeId,
        operand: usize,
        axes: &[Option<usize>],
        columns: &[Vec<usize>],
    ) -> Result<(), &'static str> {
        let operands = graph.operands(reader);
        if graph
            .op(reader)
            .is_some_and(|op| op.convolution().is_some())
        {
            if !is_weight(graph, operands[1]) {
                return Err("its weight is no constant of its own");
            }
            self.depthwise.push(reader);
            return Ok(());
        }
        let others = operands.iter().zip(axes).enumerate();
        for (i, (other, other_axis)) in others {
            let Some(other_axis) = other_axis.filter(|_| i != operand) else {
                continue;
            };
            if graph.constant(other.node).is_some() {
                continue;
            }
            if !is_identity(columns) {
                return Err("it joins them at other positions");
            }
            self.partners.push((*other, other_axis));
            self.joins.push(reader);
        }
        Ok(())
    }

    /// Notes the layer in whose weight channels end.
    fn end(
        &mut self,
        graph: &Graph,
        reader: NodeId,
        columns: &[Vec<usize>],
    ) -> Result<Option<(Value, usize, Columns)>, &'static str> {
        let dense = matches!(
            graph.op(reader),
            Some(Op::Conv { groups: 1, .. } | Op::Linear {})
        );
        if !dense || !is_weight(graph, graph.operands(reader)[1]) {
            return Err("its weight cannot lose input channels");
        }
        self.readers.push((reader, columns.to_vec()));
        Ok(None)
    }
}

fn is_identity(columns: &[Vec<usize>]) -> bool {
    columns.iter().enumerate().all(|(c, at)| at[..] == [c])
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
        assert_eq!(missed, ["head: the network returns it as `head`"]);
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
        assert_eq!(missed[0], "a: joined with `x`, whose channels cannot go");
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
