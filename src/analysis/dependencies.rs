//! Channel dependency analysis: where a layer's channels go, and what stands between them and their removal.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::ir::channels::{Flow, Keeps, Source, flow};
use crate::ir::regroup::{Regroup, shuffle};
use crate::ir::{Graph, NodeId, NodeKind, Op, Type, Value};

/// Where the channels of an axis of a value go, followed through operators that keep channels.
#[derive(Debug, Default)]
pub struct Reach {
    /// Why channels may have to stay as they are: what their readers cannot let go. Empty if nothing stands in the way.
    pub obstacles: Vec<Obstacle>,
    /// Where they are found, each at its own position.
    pub places: Vec<Place>,
    /// Convolutions on the way with a kernel of its own for each channel.
    pub depthwise: Vec<NodeId>,
    /// Operators on the way that treat every channel in its own way, by constants.
    pub uneven: Vec<NodeId>,
    /// Whether one of them lets no positive factor of a channel pass.
    pub fixed_scale: bool,
    /// Where they end: in weights that mix them.
    pub readers: Vec<Reader>,
}

/// An axis of a value, where channels are.
pub type Place = (Value, usize);

/// Why channels may have to stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Obstacle {
    /// In words, naming a node.
    pub text: String,
    /// Where it is other channels that these meet: all may go together.
    pub join: Option<Join>,
    /// Where they are split over several axes: the parts, of which each goes as a whole, such as heads.
    pub parts: SmallVec<[Regroup; 2]>,
}

/// An operator that combines channels with others.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The operator.
    pub at: NodeId,
    /// Where the others are.
    pub with: Place,
    /// Whether each channel meets the one at its own position.
    pub aligned: bool,
}

/// A layer that mixes channels by its weight.
#[derive(Clone, Debug)]
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
    let channels = graph.ty(value).len(axis).unwrap_or(0);
    reached(graph, value, axis, (0..channels).map(|c| vec![c]).collect())
}

/// Follows parts of an axis of `value`, of which each goes as a whole.
pub fn reach_parts(graph: &Graph, value: Value, parts: &Regroup) -> Reach {
    let positions = |part: usize| parts.from.positions(parts.channels, part).collect();
    let columns = (0..parts.channels).map(positions).collect();
    reached(graph, value, parts.axis, columns)
}

/// Follows what is at `columns` of an axis.
fn reached(graph: &Graph, value: Value, axis: usize, columns: Columns) -> Reach {
    let mut found = Reach::default();
    let mut seen = FxHashSet::default();
    let mut open = vec![(value, axis, columns)];
    while let Some(place) = open.pop() {
        if !seen.insert(place.clone()) {
            continue;
        }
        let (value, axis, columns) = place;
        if is_identity(&columns) {
            found.places.push((value, axis));
        }
        if let Some(output) = graph.output_of(value) {
            found.refuse(format!("coupled to the graph output `{}`", output.name));
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
    let obstacles = reach(graph, value, axis).obstacles.into_iter();
    obstacles.map(|obstacle| obstacle.text).collect()
}

/// Where channels are after a change of shape, if each of them goes as a whole.
fn regrouped(columns: &Columns, regroup: &Regroup) -> Option<Columns> {
    let mut owners: Vec<Option<usize>> = vec![None; regroup.from.len(regroup.channels)];
    for (channel, positions) in columns.iter().enumerate() {
        for at in positions {
            *owners.get_mut(*at)? = Some(channel);
        }
    }
    let mut moved = vec![Vec::new(); columns.len()];
    for part in 0..regroup.channels {
        let mut of = regroup.from.positions(regroup.channels, part);
        let owner = owners[of.next()?];
        if of.any(|at| owners[at] != owner) {
            return None;
        }
        if let Some(channel) = owner {
            moved[channel].extend(regroup.to.positions(regroup.channels, part));
        }
    }
    Some(moved)
}

/// Whether each channel is at its own position alone.
fn is_identity(columns: &Columns) -> bool {
    columns.iter().enumerate().all(|(c, at)| at[..] == [c])
}

impl Reach {
    fn refuse(&mut self, text: String) {
        self.split(text, SmallVec::new());
    }

    fn split(&mut self, text: String, parts: SmallVec<[Regroup; 2]>) {
        let join = None;
        self.obstacles.push(Obstacle { text, join, parts });
    }

    /// Notes the operands that channels meet in `reader`.
    fn join(
        &mut self,
        graph: &Graph,
        reader: NodeId,
        others: impl Iterator<Item = Place>,
        aligned: bool,
    ) {
        let name = |node: NodeId| &graph.node(node).name;
        for with in others {
            let other = with.0.node;
            if graph.constant(other).is_some() {
                self.uneven.push(reader);
                continue;
            }
            self.obstacles.push(Obstacle {
                text: format!("joined by `{}` with `{}`", name(reader), name(other)),
                join: Some(Join {
                    at: reader,
                    with,
                    aligned,
                }),
                parts: SmallVec::new(),
            });
        }
    }

    /// Notes an operator that computes each channel from the same one of its operands.
    fn keep(
        &mut self,
        graph: &Graph,
        (reader, operand): (NodeId, usize),
        keeps: &Keeps,
        columns: &Columns,
    ) {
        self.fixed_scale |= !keeps.factors.allow(2.0);
        let operands = graph.operands(reader);
        let others = operands.iter().zip(&keeps.axes).enumerate();
        let others = others.filter(|(i, _)| *i != operand);
        let others = others.filter_map(|(_, (other, axis))| Some((*other, (*axis)?)));
        self.join(graph, reader, others, is_identity(columns));
        let convolution = graph.op(reader).and_then(Op::convolution);
        if convolution.is_some() {
            self.depthwise.push(reader);
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
            self.refuse(format!(
                "the opaque operator {} reads it (`{}`)",
                opaque.name, node.name
            ));
            return None;
        }
        let operands = graph.operands(reader);
        let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
        let moved = |to: &dyn Fn(usize) -> Vec<usize>| moved(columns, to);
        if let Some((last, order)) = channel_shuffle(graph, reader, axis) {
            let mut place = vec![0; order.len()];
            for (i, from) in order.iter().enumerate() {
                place[*from] = i;
            }
            return Some((last.into(), axis, moved(&|c| vec![place[c]])));
        }
        let result = &node.outputs[0];
        let mut refusal = None;
        let mut parts = SmallVec::new();
        for out in 0..result.rank().unwrap_or(0) {
            match flow(op, out, &types, result) {
                Flow::Keeps(keeps) if keeps.axes.get(operand) == Some(&Some(axis)) => {
                    self.keep(graph, (reader, operand), &keeps, columns);
                    return Some((reader.into(), out, columns.clone()));
                }
                Flow::Selects { axis: from, source } if from == axis => {
                    return Some((reader.into(), out, moved(&|c| picks(&source, c))));
                }
                Flow::Regroups(all) => {
                    let Some(regroup) = all.into_iter().find(|r| r.axis == axis) else {
                        continue;
                    };
                    if let Some(columns) = regrouped(columns, &regroup) {
                        return Some((reader.into(), out, columns));
                    }
                    parts.push(regroup);
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
        let text = format!("`{}` ({}) reads it: {why}", node.name, op.name());
        self.split(text, parts);
        None
    }
}

/// The places to which those of each column go.
fn moved(columns: &Columns, to: &dyn Fn(usize) -> Vec<usize>) -> Columns {
    let column = |places: &Vec<usize>| places.iter().flat_map(|c| to(*c)).collect();
    columns.iter().map(column).collect()
}

/// The places where a channel is picked.
fn picks(source: &[Source], channel: usize) -> Vec<usize> {
    let places = source.iter().enumerate();
    let of = places.filter(|(_, source)| **source == Source::Channel(channel));
    of.map(|(i, _)| i).collect()
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
        assert_eq!(
            obstacles(&graph, graph.find("a").unwrap().into(), 1),
            ["`split` (reshape) reads it: it splits the channels over several axes"]
        );
    }
}
