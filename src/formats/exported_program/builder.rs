//! What the table of [`aten`](crate::formats::aten) needs to add operators to the graph.

use rustc_hash::FxHashMap;

use super::opaque;
use super::read::Reader;
use crate::formats::aten::{Builder, Eval, Stop};
use crate::ir::{self, Constant, DType, Dim, Op, Role, Tensor};

impl Builder for Reader<'_> {
    fn graph(&self) -> &ir::Graph {
        &self.graph
    }

    fn emit(&mut self, label: &str, op: Op, operands: &[ir::Value]) -> Eval<Option<ir::Value>> {
        // What does not fit is for PyTorch to judge: the node then stays as it is.
        let Ok(outputs) = self.graph.infer(&op, operands) else {
            return Ok(None);
        };
        Ok(Some(self.add_node(label, op, operands, outputs).into()))
    }

    fn scalars(&mut self) -> &mut FxHashMap<(u64, DType), ir::Value> {
        &mut self.scalars
    }

    fn literal(&mut self, name: &str, tensor: Tensor) -> ir::Value {
        let name = if self.is_state(name) {
            format!("{name}.literal")
        } else {
            name.to_owned()
        };
        let constant = Constant::new(tensor, Role::Literal);
        let unique = self.unique(&name);
        self.graph.add_constant(&unique, constant).into()
    }

    fn demand(&mut self, _: ir::Value, _: &[Option<i64>], _: Option<DType>) -> Eval<()> {
        Ok(())
    }

    fn training(&self, what: &str) -> Stop {
        let help = "call model.eval() before torch.export.export, and save it again";
        self.error(format!("{what} runs as in training"), help)
            .into()
    }

    fn slice_scatter(
        &mut self,
        whole_and_part: [ir::Value; 2],
        axis: usize,
        bounds: [&Dim; 2],
        step: usize,
    ) -> Eval<ir::Value> {
        let template = opaque::slice_scatter(whole_and_part, axis, bounds, step);
        let ty = self.graph.ty(whole_and_part[0]).clone();
        let name = "aten::slice_scatter.default";
        let node = self.add_opaque("slice_scatter", name, template, [ty].into());
        Ok(node.into())
    }
}
