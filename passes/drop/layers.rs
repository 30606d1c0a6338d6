//! What is pruned: the kernels of a network, one [`Layer`] each.

use std::sync::Arc;

use crate::ir::{DType, Graph, Mask, NodeId, Op, Role, Tensor};

/// The operand of a convolution or a linear layer that is its kernel.
const KERNEL: usize = 1;

/// The kernel of a convolution or a linear layer, and what became of its weights.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The constant.
    pub node: NodeId,
    pub name: Arc<str>,
    /// Its position among the layers of the network, which random numbers are drawn by.
    pub position: u64,
    /// In row-major order: of a weight that is kept its value, of a pruned one the last that it had, to return with.
    pub values: Vec<f32>,
    /// Which weights are kept.
    pub mask: Mask,
    /// Which may ever be: all but those that were masked before.
    pub free: Mask,
    /// The standard deviation of the weights as they came.
    deviation: f32,
}

impl Layer {
    pub(super) fn new(position: u64, node: NodeId, name: Arc<str>, values: Vec<f32>) -> Layer {
        let all = Mask::from_fn(values.len(), |_| true);
        Layer {
            node,
            name,
            position,
            deviation: deviation(&values),
            values,
            mask: all.clone(),
            free: all,
        }
    }

    /// All kernels of `graph` that can be pruned, in its order; and those that cannot, by name with the reason. A bias or a norm
    /// is never a kernel.
    pub(super) fn all(graph: &Graph) -> (Vec<Layer>, Vec<(Arc<str>, &'static str)>) {
        let (mut layers, mut others): (Vec<Layer>, _) = (Vec::new(), Vec::new());
        for node in graph.nodes() {
            let Some(constant) = graph.constant(node) else {
                continue;
            };
            let is_kernel = |(reader, operand): &(NodeId, usize)| {
                let op = graph.op(*reader);
                let is_layer = |op: &Op| {
                    matches!(
                        op,
                        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear { .. }
                    )
                };
                *operand == KERNEL && op.is_some_and(is_layer)
            };
            let readers = graph.readers(node.into());
            if !readers.iter().any(is_kernel) || constant.tensor.is_empty() {
                continue;
            }
            let name = graph.node(node).name.clone();
            let is_masked_away = constant.mask.as_ref().is_some_and(|mask| mask.count() == 0);
            let obstacle = if !readers.iter().all(is_kernel) {
                Some("not pruned: it is read as something else than a kernel too")
            } else if constant.role != Role::Parameter || !constant.tensor.dtype().is_float() {
                Some("not pruned: it is no trained parameter")
            } else if is_masked_away {
                Some("not pruned: it is all masked")
            } else {
                None
            };
            if let Some(why) = obstacle {
                others.push((name, why));
                continue;
            }
            let values = constant.tensor.elements::<f32>().into_owned();
            let mut layer = Layer::new(layers.len() as u64, node, name, values);
            if let Some(mask) = &constant.mask {
                layer.mask = mask.clone();
                layer.free = mask.clone();
            }
            layers.push(layer);
        }
        (layers, others)
    }

    /// The number of weights.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The number of weights that are not kept.
    pub(super) fn pruned(&self) -> usize {
        self.len() - self.mask.count()
    }

    /// How important the weight at `position` is, or was when it was pruned: its magnitude in deviations of the layer.
    pub(super) fn importance(&self, position: usize) -> f32 {
        self.values[position].abs() / self.deviation
    }

    /// Puts the weights that are kept into `graph`, and the mask.
    pub(super) fn write(&self, graph: &mut Graph) {
        let Some(constant) = graph.constant(self.node) else {
            return;
        };
        let values = self.values.iter().map(|value| f64::from(*value));
        let (dtype, shape) = (constant.tensor.dtype(), constant.tensor.shape().to_vec());
        graph.set_mask(self.node, None); // The old one would keep zeros where weights return.
        graph.set_tensor(self.node, Tensor::from_f64(dtype, &shape, values));
        graph.set_mask(self.node, Some(self.mask.clone()));
    }

    /// Takes the weights that are kept from `graph`, where they were trained.
    pub(super) fn read(&mut self, graph: &Graph) {
        let Some(constant) = graph.constant(self.node) else {
            return;
        };
        let trained = constant.tensor.elements::<f32>();
        for (position, (value, trained)) in self.values.iter_mut().zip(&*trained).enumerate() {
            if self.mask.keeps(position) {
                *value = *trained;
            }
        }
    }

    /// The values and the mask, by the names under which a checkpoint has them.
    pub(super) fn tensors(&self) -> [(String, Tensor); 2] {
        let mask = self.mask.iter().map(|kept| f64::from(u8::from(kept)));
        [
            (
                format!("values/{}", self.name),
                Tensor::from_vec(&[self.len()], self.values.clone()),
            ),
            (
                format!("mask/{}", self.name),
                Tensor::from_f64(DType::Bool, &[self.len()], mask),
            ),
        ]
    }

    /// Takes what [`Layer::tensors`] gave; the name of the tensor that is not there.
    pub(super) fn restore<'t>(
        &mut self,
        saved: impl Fn(&str) -> Option<&'t Tensor>,
    ) -> Result<(), String> {
        let [values, mask] = self.tensors().map(|(name, tensor)| {
            let saved = saved(&name).filter(|saved| saved.shape() == tensor.shape());
            saved.ok_or(name)
        });
        self.values = values?.elements::<f32>().into_owned();
        self.mask = Mask::of(mask?);
        Ok(())
    }
}

/// The standard deviation; 1 where there is none to divide by.
fn deviation(values: &[f32]) -> f32 {
    let moment = |mean: f64, power: i32| {
        let sum: f64 = values
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(power))
            .sum();
        sum / values.len().max(1) as f64
    };
    let deviation = moment(moment(0.0, 1), 2).sqrt() as f32;
    if deviation > 0.0 && deviation.is_finite() {
        deviation
    } else {
        1.0
    }
}
