//! Channel dependency analysis: where a layer's channels go, and what stands between them and their removal.

use rustc_hash::FxHashSet;

use crate::ir::channels::{Flow, Source, flow};
use crate::ir::regroup::{Regroup, Spread, shuffle};
use crate::ir::{Graph, NodeId, NodeKind, Op, Type, Value};

/// Where the channels of an axis of a value go, followed through operators that keep channels.
#[derive(Debug, Default)]
pub struct Reach {
    /// Why channels may have to stay as they are: what their readers cannot let go. In words, each naming a node; empty if
    /// nothing stands in the way.
    pub obstacles: Vec<String>,
    /// Operators on the way that treat every channel in its own way, by constants.
    pub uneven: Vec<NodeId>,
    /// Whether one of them lets no positive factor of a channel pass.
    pub fixed_scale: bool,
    /// Where they end: in weights that mix them.
    pub readers: Vec<Reader>,
}

/// A layer that mixes channels by its weight.
#[derive(Debug)]
pub struct Reader {
    /// The layer.
    pub node: NodeId,
    /// The input channels of the layer that each channel became; none if their number is unknown.
    pub columns: Columns,
}

/// For each channel followed, where it is found along an axis of a value.
type Columns = Vec<Vec<usize>>;

/// Follows the channels of `axis` of `value`.
pub fn reach(graph: &Graph, value: Value, axis: usize) -> Reach {
    let mut found = Reach::default();
    let mut seen = FxHashSet::default();
    let channels = graph.ty(value).len(axis).unwrap_or(0);
    let columns: Columns = (0..channels).map(|c| vec![c]).collect();
    let mut open = vec![(value, axis, columns)];
    while let Some(place) = open.pop() {
        if !seen.insert(place.clone()) {
            continue;
        }
        let (value, axis, columns) = place;
        if let Some(output) = graph.output_of(value) {
            let obstacle = format!("coupled to the graph output `{}`", output.name);
            found.obstacles.push(obstacle);
        }
        for (reader, operand) in graph.readers(value) {
            open.extend(found.follow(graph, reader, operand, axis, &columns));
        }
    }
    found.obstacles.dedup();
    found
}

/// What stands in the way of removing channels of `axis` of `value`, as in [`Reach::obstacles`].
pub fn obstacles(graph: &Graph, value: Value, axis: usize) -> Vec<String> {
    reach(graph, value, axis).obstacles
}

impl Reach {
    /// Notes the operands that channels meet in `reader`.
    fn join(&mut self, graph: &Graph, reader: NodeId, others: impl Iterator<Item = Value>) {
        let name = |node: NodeId| &graph.node(node).name;
        for other in others {
            if graph.constant(other.node).is_some() {
                self.uneven.push(reader);
                continue;
            }
            let what = format!("joined by `{}` with `{}`", name(reader), name(other.node));
            self.obstacles.push(what);
        }
    }

    /// Where the channels go through `reader`: a result, the axis, and the places there. Notes where they end.
    fn follow(
        &mut self,
        graph: &Graph,
        reader: NodeId,
        operand: usize,
        axis: usize,
        columns: &Columns,
    ) -> Option<(Value, usize, Columns)> {
        let node = graph.node(reader);
        let NodeKind::Op(op) = &node.kind else {
            return None;
        };
        if let Op::Opaque(opaque) = op {
            self.obstacles.push(format!(
                "the opaque operator {} reads it (`{}`)",
                opaque.name, node.name
            ));
            return None;
        }
        let operands = graph.operands(reader);
        let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
        let moved = |to: &dyn Fn(usize) -> Vec<usize>| -> Columns {
            let all = columns.iter();
            all.map(|places| places.iter().flat_map(|c| to(*c)).collect())
                .collect()
        };
        if let Some((last, order)) = channel_shuffle(graph, reader, axis) {
            let mut place = vec![0; order.len()];
            order
                .iter()
                .enumerate()
                .for_each(|(i, from)| place[*from] = i);
            let places = |c: usize| vec![place[c]];
            return Some((last.into(), axis, moved(&places)));
        }
        let result = &node.outputs[0];
        let mut refusal = None;
        for out in 0..result.rank().unwrap_or(0) {
            match flow(op, out, &types, result) {
                Flow::Keeps(keeps) if keeps.axes.get(operand) == Some(&Some(axis)) => {
                    self.fixed_scale |= !keeps.factors.allow(2.0);
                    let others = operands.iter().zip(&keeps.axes).enumerate();
                    let others = others.filter(|(i, (_, a))| *i != operand && a.is_some());
                    self.join(graph, reader, others.map(|(_, (other, _))| *other));
                    return Some((reader.into(), out, columns.clone()));
                }
                Flow::Selects { axis: from, source } if from == axis => {
                    let picks = |c: usize| {
                        let places = source.iter().enumerate();
                        let of = places.filter(|(_, source)| **source == Source::Channel(c));
                        of.map(|(i, _)| i).collect()
                    };
                    return Some((reader.into(), out, moved(&picks)));
                }
                Flow::Regroups(all) => {
                    let Some(Regroup {
                        channels, from, to, ..
                    }) = all.into_iter().find(|r| r.axis == axis)
                    else {
                        continue;
                    };
                    if from == Spread::WHOLE {
                        let spread = |c: usize| to.positions(channels, c).collect();
                        return Some((reader.into(), out, moved(&spread)));
                    }
                    refusal = Some("it splits the channels over several axes");
                }
                Flow::Groups { axis: from, .. } if operand == 0 && from == axis => {
                    refusal = Some("a grouped convolution ties its channels to their groups");
                }
                Flow::Offsets { axis: from } if from == axis => {
                    let before = types[..operand].iter().map(|ty| ty.len(axis));
                    let places = match before.sum::<Option<usize>>() {
                        Some(offset) => moved(&|c| vec![c + offset]),
                        None => Columns::new(),
                    };
                    return Some((reader.into(), out, places));
                }
                Flow::Mixes { axis: from } if operand == 0 && from == axis => {
                    self.readers.push(Reader {
                        node: reader,
                        columns: columns.clone(),
                    });
                    return None;
                }
                Flow::Refuses(why) => refusal = refusal.or(Some(why)),
                _ => {}
            }
        }
        let why = refusal.unwrap_or("it mixes them");
        let obstacle = format!("`{}` ({}) reads it: {why}", node.name, op.name());
        self.obstacles.push(obstacle);
        None
    }
}

/// The channel shuffle of `axis` that `reader` begins, as ShuffleNet has it: the operation that ends it, and the order.
fn channel_shuffle(graph: &Graph, reader: NodeId, axis: usize) -> Option<(NodeId, Vec<usize>)> {
    let alone = |node: NodeId| match graph.only_reader(node.into())? {
        (reader, 0) => Some(reader),
        _ => None,
    };
    let shape = |value: Value| graph.ty(value).shape();
    let Op::Reshape { shape: split } = graph.op(reader)? else {
        return None;
    };
    let transpose = alone(reader)?;
    let Op::Transpose { perm } = graph.op(transpose)? else {
        return None;
    };
    let join = alone(transpose)?;
    if !matches!(graph.op(join)?, Op::Reshape { .. } | Op::Flatten { .. }) {
        return None;
    }
    let operand = *graph.operands(reader).first()?;
    let (shuffled, order) = shuffle(shape(operand)?, split, perm, shape(join.into())?)?;
    (shuffled == axis).then_some((join, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_followed_to_the_columns_that_read_them() {
        let text = "
            graph net(%x: f32[N,2,2,2]) {
              @a.weight = parameter 1 : f32[2,2,1,1]
              @b.weight = parameter 1 : f32[1,2,1,1]
              @c.weight = parameter 1 : f32[1,12]
              %a = conv(%x, @a.weight)
              %b = conv(%x, @b.weight)
              %relu = relu(%a)
              %both = concat(%b, %relu) {axis=1}
              %flat = flatten(%both) {start=1, end=3}
              %c = linear(%flat, @c.weight)
              return %c
            }";
        let graph: Graph = text.parse().unwrap();
        let found = reach(&graph, graph.find("a").unwrap().into(), 1);
        assert!(found.obstacles.is_empty() && found.uneven.is_empty() && !found.fixed_scale);
        let [reader] = &found.readers[..] else {
            panic!()
        };
        assert_eq!(reader.columns, [[4, 5, 6, 7], [8, 9, 10, 11]]);
    }

    #[test]
    fn shuffled_channels_are_followed_and_split_ones_are_not() {
        let text = "
            graph net(%x: f32[N,2,H,W]) {
              @a.weight = parameter 1 : f32[4,2,1,1]
              @b.weight = parameter 1 : f32[1,4,1,1]
              %a = conv(%x, @a.weight)
              %split = reshape(%a) {shape=[N,2,2,H,W]}
              %deal = transpose(%split) {perm=[0,2,1,3,4]}
              %join = reshape(%deal) {shape=[N,4,H,W]}
              %b = conv(%join, @b.weight)
              %apart = reshape(%b) {shape=[N,1,H*W]}
              return %apart
            }";
        let graph: Graph = text.parse().unwrap();
        let found = reach(&graph, graph.find("a").unwrap().into(), 1);
        assert!(found.obstacles.is_empty());
        assert_eq!(found.readers[0].columns, [[0], [2], [1], [3]]);
        let split = text.replace("return %apart", "return %split, %apart");
        let graph: Graph = split.parse().unwrap();
        let found = reach(&graph, graph.find("a").unwrap().into(), 1);
        assert_eq!(
            found.obstacles,
            ["`split` (reshape) reads it: it splits the channels over several axes"]
        );
    }
}
