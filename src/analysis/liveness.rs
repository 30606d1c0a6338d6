//! Which channels of a value anybody reads, all readers and their readers taken together.
//!
//! A channel is unread where every way from it to an output of the network ends in weights that are zero. One reader alone may
//! say so for more channels than another; what all agree on is found by going from the outputs backwards.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::ir::channels::{Flow, Source, WeightAxes, dense_axis, flow};
use crate::ir::regroup::Regroup;
use crate::ir::{DType, Graph, NodeId, NodeKind, Op, Real, Type, Value};

/// For each value and axis that has channels, which of them somebody reads. What is not there, nobody reads.
type Read = FxHashMap<(Value, usize), Vec<bool>>;

/// The output channels of each layer with a constant weight that nobody reads: layers that have some, in topological order.
pub fn unread_outputs(graph: &Graph) -> Vec<(NodeId, Vec<usize>)> {
    let Ok(order) = graph.topological_order() else {
        return Vec::new();
    };
    let mut read = Read::default();
    for output in graph.outputs() {
        for axis in 0..graph.ty(output.value).rank().unwrap_or(0) {
            mark_all(graph, &mut read, output.value, axis);
        }
    }
    for node in order.iter().rev() {
        mark_operands(graph, &mut read, *node);
    }
    let unread = |node: &NodeId| {
        let axis = product(graph, *node)?.axis;
        let all = read.get(&((*node).into(), axis))?;
        let unread: Vec<usize> = (0..all.len()).filter(|c| !all[*c]).collect();
        (!unread.is_empty()).then_some((*node, unread))
    };
    order.iter().filter_map(unread).collect()
}

/// A product of an activation with a constant weight.
struct Product {
    axes: WeightAxes,
    groups: usize,
    /// The axis of channels of operand and result.
    axis: usize,
    operand: usize,
}

fn product(graph: &Graph, node: NodeId) -> Option<Product> {
    let op = graph.op(node)?;
    let operands = graph.operands(node);
    let weight = &graph.constant(operands.get(1)?.node)?.tensor;
    let rank = graph.ty(node.into()).rank()?;
    let axes = match op {
        Op::Conv { .. } => WeightAxes {
            output: 0,
            input: 1,
        },
        op => op.product_axes(weight.shape().len())?,
    };
    Some(Product {
        axes,
        groups: op.convolution().map_or(1, |(.., groups)| groups),
        axis: dense_axis(op, rank),
        operand: dense_axis(op, graph.ty(operands[0]).rank()?),
    })
}

fn mark(graph: &Graph, read: &mut Read, value: Value, axis: usize, channels: &[usize]) {
    let Some(n) = graph.ty(value).len(axis) else {
        return;
    };
    let all = read.entry((value, axis)).or_insert_with(|| vec![false; n]);
    for c in channels {
        if let Some(channel) = all.get_mut(*c) {
            *channel = true;
        }
    }
}

fn mark_all(graph: &Graph, read: &mut Read, value: Value, axis: usize) {
    if let Some(n) = graph.ty(value).len(axis) {
        read.insert((value, axis), vec![true; n]);
    }
}

/// Marks what a node reads of its operands, from what is read of its results.
fn mark_operands(graph: &Graph, read: &mut Read, node: NodeId) {
    let Some(reader) = Reader::of(graph, node) else {
        return;
    };
    for (position, operand) in reader.operands.iter().enumerate() {
        if graph.constant(operand.node).is_some() {
            continue;
        }
        for axis in 0..graph.ty(*operand).rank().unwrap_or(0) {
            let Some(n) = graph.ty(*operand).len(axis) else {
                continue;
            };
            match reader.wanted(read, position, axis, n) {
                Some(channels) => mark(graph, read, *operand, axis, &channels),
                None => mark_all(graph, read, *operand, axis),
            }
        }
    }
}

/// An operation that reads others, all of whose results are known to be read or not.
struct Reader<'g> {
    graph: &'g Graph,
    node: NodeId,
    operands: SmallVec<[Value; 4]>,
    product: Option<Product>,
    /// How the channels of each axis of the result come about.
    flows: Vec<Flow>,
    /// Where the channels of each operand begin in the result that joins them, if it does; as far as sizes are known.
    offsets: Vec<usize>,
}

impl<'g> Reader<'g> {
    fn of(graph: &'g Graph, node: NodeId) -> Option<Reader<'g>> {
        let NodeKind::Op(op) = &graph.node(node).kind else {
            return None;
        };
        let operands = graph.operands(node);
        let result = &graph.node(node).outputs[0];
        let types: Vec<&Type> = operands.iter().map(|value| graph.ty(*value)).collect();
        let flows: Vec<Flow> = (0..result.rank().unwrap_or(0))
            .map(|axis| flow(op, axis, &types, result))
            .collect();
        let joined = flows.iter().find_map(|flow| match flow {
            Flow::Offsets { axis } => Some(*axis),
            _ => None,
        });
        let mut offset = Some(0);
        let offsets = types.iter().map_while(|ty| {
            let own = offset?;
            offset = ty.len(joined?).map(|n| own + n);
            Some(own)
        });
        Some(Reader {
            graph,
            node,
            offsets: offsets.collect(),
            product: product(graph, node),
            flows,
            operands,
        })
    }

    /// The channels that a node reads of an axis of an operand; `None` for all.
    fn wanted(&self, read: &Read, position: usize, axis: usize, n: usize) -> Option<Vec<usize>> {
        let of_result = |axis: usize| read.get(&(Value::from(self.node), axis));
        if let Some(product) = &self.product
            && (position, axis) == (0, product.operand)
        {
            return Some(self.columns(product, of_result(product.axis), n));
        }
        let mut split: Option<Vec<bool>> = None;
        for (out, flow) in self.flows.iter().enumerate() {
            let wanted = of_result(out);
            match flow {
                Flow::Keeps(keeps) if keeps.axes.get(position) == Some(&Some(axis)) => {
                    let all = wanted?;
                    return Some((0..n).filter(|c| all.get(*c) != Some(&false)).collect());
                }
                Flow::Selects { axis: from, source } if position == 0 && *from == axis => {
                    let picked = source.iter().zip(wanted?).filter(|(_, read)| **read);
                    let channel = |(source, _): (&Source, _)| match source {
                        Source::Channel(c) => Some(*c),
                        Source::Constant(_) => None,
                    };
                    return Some(picked.filter_map(channel).collect());
                }
                Flow::Offsets { axis: from } if *from == axis => {
                    let offset = self.offsets.get(position)?;
                    let all = wanted?;
                    return Some(
                        (0..n)
                            .filter(|c| all.get(c + offset) != Some(&false))
                            .collect(),
                    );
                }
                Flow::Regroups(all) => {
                    // A position is read where each of its factors is.
                    for regroup in all.iter().filter(|r| r.axis == axis) {
                        let factor = factor(regroup, wanted?);
                        let known = split.get_or_insert_with(|| vec![true; n]);
                        for (channel, read) in factor.iter().enumerate().filter(|(_, read)| !**read)
                        {
                            let places = regroup.from.positions(regroup.channels, channel);
                            places.for_each(|at| known[at] = *read);
                        }
                    }
                }
                _ => {}
            }
        }
        split.map(|read| (0..n).filter(|c| read[*c]).collect())
    }

    /// The input channels that a product multiplies by anything but zero, for results that are read.
    fn columns(&self, product: &Product, read: Option<&Vec<bool>>, n: usize) -> Vec<usize> {
        let weight = &self.operands[1];
        let Some(tensor) = self.graph.constant(weight.node).map(|c| &c.tensor) else {
            return (0..n).collect();
        };
        let mut wanted = vec![false; n];
        let (mut shape, mut axes) = (SmallVec::<[usize; 4]>::from(tensor.shape()), product.axes);
        if tensor.by_columns().is_some() {
            // In the order in which they lie: large ones are not copied.
            shape.reverse();
            (axes.output, axes.input) = (axes.input, axes.output);
        }
        let product = Product { axes, ..*product };
        match tensor.dtype() {
            DType::F32 => {
                product.columns(&tensor.stored_elements::<f32>(), &shape, read, &mut wanted)
            }
            _ => product.columns(&tensor.stored_elements::<f64>(), &shape, read, &mut wanted),
        }
        (0..n).filter(|c| wanted[*c]).collect()
    }
}

/// Which channels of a factor are read anywhere along the result's axis.
fn factor(regroup: &Regroup, read: &[bool]) -> Vec<bool> {
    let Regroup { channels, to, .. } = *regroup;
    let channel = |c: usize| {
        to.positions(channels, c)
            .any(|at| read.get(at) != Some(&false))
    };
    (0..channels).map(channel).collect()
}

impl Product {
    /// Sets the input channels of all groups that a weight of this shape, `[O, C/groups, ..]` or with both axes exchanged, does not
    /// multiply by zeros alone.
    fn columns<T: Real>(
        &self,
        weight: &[T],
        shape: &[usize],
        read: Option<&Vec<bool>>,
        wanted: &mut [bool],
    ) {
        let taps: usize = shape[2..].iter().product();
        let (outputs, inputs) = (shape[self.axes.output], shape[self.axes.input]);
        let is_read = |o: usize| read.is_none_or(|read| read.get(o) != Some(&false));
        for (i, kernel) in weight.chunks_exact(taps.max(1)).enumerate() {
            let place = [i / shape[1], i % shape[1]];
            let (o, c) = (place[self.axes.output], place[self.axes.input]);
            let Some(wanted) = wanted.get_mut(o * self.groups / outputs * inputs + c) else {
                continue;
            };
            // A NaN is not zero.
            *wanted = *wanted || is_read(o) && kernel.iter().any(|w| !(Real::to_f64(*w) == 0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_readers_leave_is_unread_though_each_leaves_more() {
        let text = "
            graph net(%x: f32[N,2,4,4]) {
              @a.weight = parameter 1 : f32[4,2,1,1]
              @b.weight = parameter columns(rows(normal(1), [0, 1, 2, 3]), [0, 0.0*1, 0.0*2, 3]) : f32[4,4,1,1]
              @c.weight = parameter columns(normal(2), [0.0*0, 1, 0.0*2, 3]) : f32[1,4]
              %a = conv(%x, @a.weight)
              %b = conv(%a, @b.weight)
              %sum = add(%a, %b)
              %split = reshape(%sum) {shape=[N,2,2,16]}
              %mean = mean(%split) {axes=[3]}
              %flat = reshape(%mean) {shape=[N,4]}
              %c = linear(%flat, @c.weight)
              return %c
            }";
        let graph: Graph = text.parse().unwrap();
        let found = unread_outputs(&graph);
        let names = found
            .iter()
            .map(|(node, unread)| (graph.node(*node).name.to_string(), unread.clone()));
        let names: Vec<_> = names.collect();
        assert_eq!(
            names,
            [("a".to_string(), vec![2]), ("b".to_string(), vec![0, 2])]
        );
    }
}
