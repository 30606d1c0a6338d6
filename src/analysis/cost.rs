//! What a network costs: multiply-adds, stored weights, bytes, operations.

use indexmap::IndexMap;
use rustc_hash::FxHashSet;
use serde::Serialize;
use smallvec::{SmallVec, smallvec};

use crate::ir::{Bindings, Dim, Graph, NodeId, NodeKind, Op, Role, Type, Value, no_products};

/// Size and cost of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Stored weights: elements of floating-point constants, tied ones once. What a format keeps as a buffer (running means,
    /// say) is not counted, as the field does not.
    pub params: u64,
    /// Multiply-adds of one run, without those of `uncounted`; `None` where they depend on a size without a number.
    pub macs: Option<u64>,
    /// Operators that multiply and are not counted, and how many operations of each there are: opaque ones, and those whose
    /// operands' shapes are not known.
    pub uncounted: IndexMap<String, usize>,
    /// Bytes of all constants, buffers included; tied ones once.
    pub bytes: u64,
    /// Operations.
    pub nodes: usize,
    /// How many operations of each operator there are, in order of first use; opaque ones by their format's name.
    #[serde(skip)]
    pub operators: IndexMap<String, usize>,
}

impl Stats {
    /// What is not counted, as a line of a table; `None` if nothing is left out.
    pub fn left_out(&self) -> Option<String> {
        let names = self.uncounted.iter().map(|(name, n)| format!("{n} {name}"));
        let names = names.collect::<Vec<_>>().join(", ");
        (!names.is_empty())
            .then(|| format!("multiply-adds without those of {names}, which are not counted"))
    }

    /// Measures a graph; sizes have the numbers that its bindings give them.
    pub fn of(graph: &Graph) -> Stats {
        let mut stats = Stats {
            macs: Some(0),
            ..Stats::default()
        };
        let mut seen = FxHashSet::default();
        for node in graph.nodes() {
            match &graph.node(node).kind {
                NodeKind::Input => {}
                NodeKind::Op(op) => {
                    let name = match op {
                        Op::Opaque(opaque) => &opaque.name,
                        op => op.name(),
                    };
                    stats.nodes += 1;
                    *stats.operators.entry(name.to_string()).or_default() += 1;
                    match node_macs(graph, node) {
                        None => *stats.uncounted.entry(name.to_string()).or_default() += 1,
                        Some(macs) => {
                            let macs = macs.eval(&graph.bindings);
                            stats.macs = stats.macs.zip(macs).map(|(a, b)| a.saturating_add(b));
                        }
                    }
                }
                NodeKind::Constant(constant) => {
                    let tensor = &constant.tensor;
                    if !seen.insert(tensor.place()) {
                        continue;
                    }
                    stats.bytes += tensor.byte_len() as u64;
                    if tensor.dtype().is_float() && constant.role != Role::Buffer {
                        stats.params += tensor.len() as u64;
                    }
                }
            }
        }
        stats
    }
}

/// Multiply-adds of one run of `graph`, without the operations whose multiply-adds are not known or have no number.
pub fn known_macs(graph: &Graph) -> u64 {
    let of_node = |node| node_macs(graph, node)?.eval(&graph.bindings);
    let macs = graph.nodes().filter_map(of_node);
    macs.fold(0, u64::saturating_add)
}

/// Multiply-adds of one run of an operation: the product of these sizes, which may be too long for one expression.
#[derive(Clone, Debug)]
pub struct Macs(SmallVec<[Dim; 8]>);

impl From<Dim> for Macs {
    fn from(size: Dim) -> Macs {
        Macs(smallvec![size])
    }
}

impl FromIterator<Dim> for Macs {
    fn from_iter<I: IntoIterator<Item = Dim>>(sizes: I) -> Macs {
        Macs(sizes.into_iter().collect())
    }
}

impl Macs {
    /// Whether they are none whatever the sizes.
    pub fn is_zero(&self) -> bool {
        self.0.iter().any(|size| size.as_number() == Some(0))
    }

    /// The number under `bindings`; `None` where a symbol has none.
    pub fn eval(&self, bindings: &Bindings) -> Option<u64> {
        let mut sizes = self.0.iter();
        sizes.try_fold(1u64, |product, size| {
            let size = u64::try_from(size.eval(bindings)?).ok()?;
            Some(product.saturating_mul(size))
        })
    }

    /// The number where `number` gives one for every size.
    pub fn number(&self, number: impl Fn(&Dim) -> u64) -> u64 {
        self.0.iter().map(number).fold(1, u64::saturating_mul)
    }
}

/// Multiply-adds of one run of an operation, as [`op_macs`] counts them; `None` for other nodes too.
pub fn node_macs(graph: &Graph, node: NodeId) -> Option<Macs> {
    let operands = graph.operands(node);
    let operands: Vec<&Type> = operands.iter().map(|v: &Value| graph.ty(*v)).collect();
    op_macs(graph.op(node)?, &operands, &graph.node(node).outputs)
}

/// Multiply-adds of `op` on operands of these types, as the field counts them: convolutions, linear layers, matrix products
/// attention, and the weights of recurrent layers; element-wise operators, pools, normalisations and biases count nothing.
///
/// `None` if a shape that matters is unknown, and for another opaque operator that may multiply.
pub fn op_macs(op: &Op, operands: &[&Type], results: &[Type]) -> Option<Macs> {
    let shape = |i: usize| operands.get(i)?.shape();
    let result = || results.first()?.shape();
    let both = |a: &[Dim], b: &[Dim]| a.iter().chain(b).cloned().collect();
    let last = |i: usize| shape(i)?.last().map(std::slice::from_ref);
    Some(Macs(match op {
        // Every element of the result is a sum over a kernel, every element of the operand contributes to one.
        Op::Conv { .. } => both(result()?, shape(1)?.get(1..)?),
        Op::ConvTranspose { .. } => both(shape(0)?, shape(1)?.get(1..)?),
        Op::Linear {} => both(result()?, last(1)?),
        Op::MatMul {} => both(result()?, last(0)?),
        Op::Attention { .. } => {
            let [.., keys, features] = shape(1)? else {
                return None;
            };
            let [queries @ .., values] = result()? else {
                return None;
            };
            both(queries, &[keys.clone(), features.clone() + values.clone()])
        }
        Op::Opaque(opaque) => return super::opaque::macs(opaque, operands),
        no_products!() => smallvec![Dim::from(0)],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Constant, Padding, Tensor, infer::infer};

    fn ty(shape: &str) -> Type {
        format!("f32{shape}").parse().unwrap()
    }

    /// With an `N` of 3.
    fn macs(op: &Op, operands: &[&str]) -> u64 {
        let operands: Vec<Type> = operands.iter().map(|t| ty(t)).collect();
        let operands: Vec<&Type> = operands.iter().collect();
        let results = infer(op, &operands).unwrap();
        let macs = op_macs(op, &operands, &results).unwrap();
        let bindings = Bindings::from_iter([("N".into(), 3)]);
        assert_eq!(macs.is_zero(), macs.eval(&bindings) == Some(0));
        macs.eval(&bindings).unwrap()
    }

    fn conv(groups: usize) -> Op {
        Op::Conv {
            stride: smallvec![2, 2],
            pad: Padding::symmetric([1, 1]),
            dilation: smallvec![1, 1],
            groups,
        }
    }

    #[test]
    fn multiply_adds_are_counted_as_the_field_does() {
        assert_eq!(
            macs(&conv(1), &["[1,16,8,8]", "[32,16,3,3]", "[32]"]),
            73728
        );
        assert_eq!(macs(&conv(16), &["[1,16,8,8]", "[16,1,3,3]"]), 2304);
        assert_eq!(macs(&Op::Linear {}, &["[N,5]", "[4,5]"]), 60);
        assert_eq!(macs(&Op::MatMul {}, &["[2,3,4]", "[4,5]"]), 120);
        let attention = Op::Attention {
            scale: None,
            causal: false,
        };
        let heads = ["[1,2,3,4]", "[1,2,5,4]", "[1,2,5,6]"];
        assert_eq!(macs(&attention, &heads), 300);
        assert_eq!(macs(&Op::Relu {}, &["[N,5]"]), 0);
    }

    #[test]
    fn tied_weights_are_stored_once_and_symbols_have_no_number() {
        let mut graph = Graph::new("tied");
        let x = graph.add_input("x", ty("[N,2]"));
        let tensor = Tensor::from_vec(&[2, 2], vec![1.0f32; 4]);
        let mut last = x.into();
        for name in ["a.weight", "b.weight"] {
            let constant = Constant::new(tensor.clone(), Role::Parameter);
            let weight = graph.add_constant(name, constant);
            let node = graph.add_op("layer", Op::Linear {}, &[last, weight.into()]);
            last = node.unwrap().into();
        }
        let cost = Stats::of(&graph);
        assert_eq!((cost.params, cost.bytes, cost.nodes), (4, 16, 2));
        assert_eq!(cost.macs, None);
        assert_eq!(cost.operators, IndexMap::from([("linear".to_string(), 2)]));
        graph.bindings.insert("N".into(), 3);
        assert_eq!(Stats::of(&graph).macs, Some(24));
        graph.bindings.insert("N".into(), i64::MAX);
        assert_eq!(Stats::of(&graph).macs, Some(u64::MAX));
        assert_eq!(known_macs(&graph), u64::MAX);
    }
}
