//! Which layers can lose filters, what they cost in pieces, and how the pieces come into the graph.

use crate::analysis::CostModel;
use crate::analysis::candidate::{CandidateOp, total};
use crate::analysis::kernels::KernelLayout;
use crate::analysis::price::share;
use crate::ir::{Constant, Graph, NodeId, Op, Tensor, Type, Value};
use crate::pipeline::{Cost, PassContext};

use super::factor::{Kept, Pieces};

/// A layer that LRF is for.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// The convolution or linear layer.
    pub node: NodeId,
    /// How its weight lies.
    pub layout: KernelLayout,
    /// Multiply-adds, and cost, as it is.
    whole: (u64, u64),
}

/// The layers that LRF is for, in the order in which they run, and remarks on those that it is not for.
///
/// These are convolutions with kernels of several elements but for the network's first; if `all`, pointwise convolutions and
/// linear layers too.
pub fn layers(graph: &Graph, all: bool, context: &mut PassContext<'_>) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut first = true;
    for node in graph.topological_order().unwrap_or_default() {
        let Some(op) = graph.op(node) else { continue };
        let operands = graph.operands(node);
        let Some(weight) = operands.get(1).map(|weight| graph.ty(*weight)) else {
            continue;
        };
        let shape: Option<Vec<usize>> = weight
            .shape()
            .and_then(|s| s.iter().map(|n| n.as_len()).collect());
        let Some(layout) = shape.and_then(|shape| KernelLayout::dense(op, &shape)) else {
            continue;
        };
        let is_first = layout.taps > 1 && std::mem::take(&mut first);
        if layout.taps == 1 && !all || layout.inputs == 0 || layout.outputs == 0 {
            continue;
        }
        let model = CostModel::new(&context.cost, &graph.bindings);
        let types = operands.iter().map(|v| graph.ty(*v).clone()).collect();
        let whole = CandidateOp::new(op.clone(), types);
        let whole = whole.and_then(|whole| total(&[whole], &graph.bindings, &model));
        let floats = weight.dtype().is_some_and(|dtype| dtype.is_float());
        let missed = match whole {
            _ if is_first => Some("left whole: the first convolution of the network"),
            _ if graph.constant(operands[1].node).is_none() || !floats => {
                Some("left whole: its weight is not a constant of floating point numbers")
            }
            _ if graph.mask(operands[1].node).is_some() => Some(
                "left whole: its weight is masked, and combinations of its filters would not be",
            ),
            _ if layout.outputs == 1 => Some("left whole: it has one filter in each group"),
            None => Some(
                "left whole: its multiply-adds depend on sizes that have no number; give the input's shape",
            ),
            _ => None,
        };
        match (missed, whole) {
            (Some(why), _) => context.missed(&graph.node(node).name, why),
            (None, Some(whole)) => layers.push(Layer {
                node,
                layout,
                whole,
            }),
            (None, None) => {}
        }
    }
    layers
}

impl Layer {
    /// All of it.
    pub fn all(&self) -> Kept {
        Kept {
            inputs: self.layout.inputs / self.layout.groups,
            outputs: self.layout.outputs,
        }
    }

    /// Whether its channels are eliminated apart from its filters. A pointwise or linear layer is a matrix: without filters it is
    /// one of lower rank already.
    pub fn has_two_sides(&self) -> bool {
        self.layout.taps > 1
    }

    /// The multiply-adds.
    pub fn macs(&self) -> u64 {
        self.whole.0
    }

    /// The multiply-adds in pieces; `None` where that does not pay.
    pub fn flops_in_pieces(&self, graph: &Graph, kept: Kept, model: &CostModel) -> Option<u64> {
        let (macs, cost) = total(&self.plan(graph, kept)?, &graph.bindings, model)?;
        (macs < self.whole.0 && model.pays(cost, self.whole.1)).then_some(macs)
    }

    /// The share of its price that its pieces cost.
    pub fn share(&self, graph: &Graph, kept: Kept, cost: &Cost) -> Option<f64> {
        share(graph, self.node, &self.plan(graph, kept)?, cost)
    }

    fn plan(&self, graph: &Graph, kept: Kept) -> Option<Vec<CandidateOp>> {
        let op = graph.op(self.node)?;
        let operands = graph.operands(self.node);
        let weight = graph.ty(operands[1]);
        let dtype = weight.dtype()?;
        let mut x = graph.ty(operands[0]).clone();
        let mut plan = Vec::new();
        let all = self.all();
        let around = [kept.inputs < all.inputs, kept.outputs < all.outputs];
        for piece in self.shapes(graph, op, kept, around) {
            let shape = piece.shape.iter().map(|n| (*n).into());
            let step = CandidateOp::new(piece.op, vec![x, Type::tensor(dtype, shape)])?;
            x = step.result();
            plan.push(step);
        }
        Some(plan)
    }

    /// The operators that the layer becomes, with the shapes of their weights: its own and, as `around` says, a 1x1 convolution
    /// before it and one behind.
    fn shapes(&self, graph: &Graph, op: &Op, kept: Kept, around: [bool; 2]) -> Vec<Piece> {
        let KernelLayout {
            groups,
            outputs,
            transposed,
            ..
        } = self.layout;
        let all = self.all();
        let whole = graph
            .ty(graph.operands(self.node)[1])
            .shape()
            .unwrap_or_default();
        let kernel: Vec<usize> = whole.iter().skip(2).filter_map(|n| n.as_len()).collect();
        let pointwise = |place: Place, rows: usize, columns: usize| {
            let mut shape = vec![rows, columns];
            shape.resize(2 + kernel.len(), 1);
            let op = match op {
                Op::Linear {} => Op::Linear {},
                _ => Op::pointwise(kernel.len(), groups),
            };
            Piece { place, op, shape }
        };
        let (rows, columns) = if transposed {
            (kept.inputs * groups, kept.outputs)
        } else {
            (kept.outputs * groups, kept.inputs)
        };
        let core = Piece {
            place: Place::Core,
            op: op.clone(),
            shape: [rows, columns]
                .into_iter()
                .chain(kernel.iter().copied())
                .collect(),
        };
        let squeeze =
            around[0].then(|| pointwise(Place::Squeeze, kept.inputs * groups, all.inputs));
        let expand = around[1].then(|| pointwise(Place::Expand, outputs * groups, kept.outputs));
        squeeze.into_iter().chain([core]).chain(expand).collect()
    }

    /// Puts the pieces in the layer's place. The last takes its name, its bias and its readers. What they are, in order.
    ///
    /// # Errors
    /// When the pieces do not fit each other, which is a mistake here.
    pub fn replace(&self, graph: &mut Graph, kept: Kept, pieces: Pieces) -> Result<Placed, String> {
        let mut placed = Placed::whole(self.node);
        let Some(op) = graph.op(self.node).cloned() else {
            return Ok(placed);
        };
        let name = graph.node(self.node).name.to_string();
        let operands = graph.operands(self.node);
        let (weight, bias) = (operands[1], operands.get(2).copied());
        let Some(Constant { tensor, role, .. }) = graph.constant(weight.node).cloned() else {
            return Ok(placed);
        };
        let around = [pieces.squeeze.is_some(), pieces.expand.is_some()];
        let shapes = self.shapes(graph, &op, kept, around);
        let last = shapes.len() - 1;
        let tied = graph.only_reader(weight).is_none();
        let Pieces {
            squeeze,
            core,
            expand,
            ..
        } = pieces;
        let (mut squeeze, mut core, mut expand) = (squeeze, Some(core), expand);
        let mut x = operands[0];
        for (i, Piece { place, op, shape }) in shapes.into_iter().enumerate() {
            let (elements, suffix) = match place {
                Place::Squeeze => (squeeze.take(), "squeeze"),
                Place::Core => (core.take(), "core"),
                Place::Expand => (expand.take(), "expand"),
            };
            let elements = elements.ok_or("a piece is missing")?;
            let tensor = Tensor::from_f64(tensor.dtype(), &shape, elements);
            let constant: Value = if let (Place::Core, false) = (place, tied) {
                graph.set_tensor(weight.node, tensor);
                weight
            } else {
                let name = match place {
                    Place::Core => graph.node(weight.node).name.to_string(),
                    _ => format!("{name}.{suffix}.weight"),
                };
                let constant = Constant::new(tensor, role);
                graph.add_constant(&name, constant).into()
            };
            let node = if i == last {
                let operands: Vec<Value> = [x, constant].into_iter().chain(bias).collect();
                graph.replace_op(self.node, op, &operands)?;
                self.node
            } else {
                graph.add_op(&format!("{name}.{suffix}"), op, &[x, constant])?
            };
            x = node.into();
            match place {
                Place::Squeeze => placed.squeeze = Some(node),
                Place::Core => placed.core = node,
                Place::Expand => placed.expand = Some(node),
            }
        }
        Ok(placed)
    }
}

/// What a layer is in the graph.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The 1x1 convolution before it.
    pub squeeze: Option<NodeId>,
    /// The layer with what it has kept.
    pub core: NodeId,
    /// The 1x1 convolution behind it.
    pub expand: Option<NodeId>,
}

impl Placed {
    /// A layer that is not in pieces.
    pub fn whole(core: NodeId) -> Placed {
        Placed {
            squeeze: None,
            core,
            expand: None,
        }
    }

    /// What makes the layer's results.
    pub fn last(&self) -> NodeId {
        self.expand.unwrap_or(self.core)
    }
}

/// One of the operators that a layer becomes.
struct Piece {
    place: Place,
    op: Op,
    shape: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Place {
    Squeeze,
    Core,
    Expand,
}
