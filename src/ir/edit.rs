//! The constants that one operation reads: looked at, and changed for it and nobody else.

use super::graph::{Constant, Graph, NodeId, Role};
use super::tensor::{DType, Tensor};

impl Graph {
    /// The elements of the constant that is operand `position` of `node`; none if it is no constant.
    #[doc(hidden)]
    pub fn operand_elements(&self, node: NodeId, position: usize) -> Vec<f64> {
        let operands = self.operands(node);
        let constant = operands.get(position).and_then(|v| self.constant(v.node));
        constant.map_or_else(Vec::new, |c| c.tensor.elements::<f64>().into_owned())
    }

    /// Gives the constant that is operand `position` of `node` other elements, as many as it has; those that its mask does not
    /// keep stay zero. A constant with another reader stays for that one, and `node` gets its own. Nothing happens where the operand is no constant.
    #[doc(hidden)]
    pub fn set_operand_elements(&mut self, node: NodeId, position: usize, elements: Vec<f64>) {
        let mut operands = self.operands(node);
        let Some(at) = operands.get(position).copied() else {
            return;
        };
        let Some(constant) = self.constant(at.node) else {
            return;
        };
        let (dtype, role, mask) = (
            constant.tensor.dtype(),
            constant.role,
            constant.mask.clone(),
        );
        let tensor = Tensor::from_f64(dtype, constant.tensor.shape(), elements);
        if self.only_reader(at).is_some() {
            return self.set_tensor(at.node, tensor);
        }
        let name = self.node(at.node).name.clone();
        let own = Constant {
            mask,
            ..Constant::new(tensor, role)
        };
        operands[position] = self.add_constant(&name, own).into();
        self.set_operands(node, &operands);
    }

    /// Gives a convolution or linear layer this bias, one element an output channel.
    pub(crate) fn set_bias(&mut self, node: NodeId, elements: Vec<f64>) {
        let operands = self.operands(node);
        let [x, weight] = operands[..] else {
            return self.set_operand_elements(node, 2, elements);
        };
        let dtype = self.ty(weight).dtype().unwrap_or(DType::F32);
        let bias = Constant::new(
            Tensor::from_f64(dtype, &[elements.len()], elements),
            Role::Parameter,
        );
        let name = format!("{}.bias", self.node(node).name);
        let bias = self.add_constant(&name, bias);
        self.set_operands(node, &[x, weight, bias.into()]);
    }

    /// Adds to a layer's bias, which it gets if it has none.
    pub(crate) fn shift_bias(&mut self, node: NodeId, shift: &[f64]) {
        let old = self.operands(node).get(2).map(|bias| bias.node);
        let sum = match old.map(|bias| self.constant(bias)) {
            None => shift.to_vec(),
            Some(Some(bias)) => {
                let old = bias.tensor.elements::<f64>();
                old.iter().zip(shift).map(|(b, s)| b + s).collect()
            }
            // A bias that is computed stays as it is.
            Some(None) => return,
        };
        self.set_bias(node, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Mask;

    #[test]
    fn what_another_reads_stays() {
        let text = "
            graph net(%x: f32[N,2]) {
              @a.weight = parameter 1 : f32[2,2]
              %a = linear(%x, @a.weight)
              %b = linear(%a, @a.weight)
              return %b
            }";
        let mut graph: Graph = text.parse().unwrap();
        let (a, b) = (graph.find("a").unwrap(), graph.find("b").unwrap());
        graph.set_operand_elements(b, 1, vec![2.0; 4]);
        graph.shift_bias(b, &[1.0, 2.0]);
        graph.shift_bias(b, &[1.0, 2.0]);
        let element = |node: NodeId, position: usize| {
            let operand = graph.operands(node)[position].node;
            graph.constant(operand).unwrap().tensor.elements::<f64>()[1]
        };
        assert_eq!(
            (element(a, 1), element(b, 1), element(b, 2)),
            (1.0, 2.0, 4.0)
        );
        assert!(graph.find("b.bias").is_some());
    }

    #[test]
    fn what_is_masked_stays_zero_and_a_copy_is_masked_too() {
        let text = "
            graph net(%x: f32[N,2]) {
              @w = parameter 1 mask [1, 0, 0, 1] : f32[2,2]
              %a = linear(%x, @w)
              %b = linear(%a, @w)
              return %b
            }";
        let mut graph: Graph = text.parse().unwrap();
        let (b, w) = (graph.find("b").unwrap(), graph.find("w").unwrap());
        graph.set_operand_elements(b, 1, vec![2.0; 4]);
        assert_eq!(graph.operand_elements(b, 1), [2.0, 0.0, 0.0, 2.0]);
        let copy = graph.operands(b)[1].node;
        assert!(copy != w && graph.mask(copy) == graph.mask(w));
        graph.set_tensor(w, Tensor::from_vec(&[2, 2], vec![3f32; 4]));
        let elements = |graph: &Graph| {
            let tensor = &graph.constant(w).unwrap().tensor;
            tensor.elements::<f64>().into_owned()
        };
        assert_eq!(elements(&graph), [3.0, 0.0, 0.0, 3.0]);
        graph.set_mask(w, Some(Mask::from_fn(4, |i| i < 1)));
        assert_eq!(elements(&graph), [3.0, 0.0, 0.0, 0.0]);
        graph.set_mask(w, None);
        assert_eq!((elements(&graph)[0], graph.mask(w)), (3.0, None));
        // A mask is for one shape.
        graph.set_tensor(copy, Tensor::from_vec(&[4, 1], vec![3f32; 4]));
        assert_eq!(graph.mask(copy), None);
    }
}
