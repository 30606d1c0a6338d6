//! Nodes that were kept as they are.

use rustc_hash::FxHashMap;

use super::{Weight, Writer};
use crate::formats::onnx::error::OnnxError;
use crate::formats::onnx::proto::TensorProto;
use crate::formats::onnx::{captures, opaque};
use crate::ir::{NodeId, Opaque, Value};

impl Writer<'_> {
    /// Adds the node of an opaque operator.
    pub(super) fn opaque(
        &mut self,
        id: NodeId,
        op: &Opaque,
        operands: &[Value],
    ) -> Result<(), OnnxError> {
        let name = &self.graph.node(id).name;
        let broken = |what: String| {
            OnnxError::unwritable(
                format!("`{name}`: {what}"),
                "the operator's template is damaged",
            )
        };
        let parsed = opaque::parse(&op.template).map_err(broken)?;
        let mut proto = parsed.node;
        if let ([], [attribute], Some("Constant"), [Some(0)]) = (
            operands,
            proto.attribute.as_slice(),
            proto.op_type.as_deref(),
            parsed.outputs.as_slice(),
        ) && attribute.name.as_deref() == Some("value")
            && let Some(tensor) = &attribute.t
        {
            let mut header = TensorProto::clone(tensor);
            header.name = self.names.get(&id.into()).cloned();
            self.weights.push(Weight { header, data: None });
            return Ok(());
        }
        let operand = |at: usize| {
            let value = operands.get(at).copied();
            value.ok_or_else(|| broken(format!("there is no operand {at}")))
        };
        for place in parsed.inputs {
            let input = match place {
                Some(at) => self.value(operand(at)?)?,
                None => String::new(),
            };
            proto.input.push(input);
        }
        for place in parsed.outputs {
            let name = place.and_then(|port| {
                let port = port as u32;
                self.names.get(&Value { node: id, port }).cloned()
            });
            proto.output.push(name.unwrap_or_default());
        }
        let mut renamed = FxHashMap::default();
        for (inside, at) in parsed.captures {
            let mut outside = self.value(operand(at)?)?;
            if outside == inside {
                continue;
            }
            // A name that the subgraph has a meaning of its own for cannot be used in it.
            if captures::defines(&proto, &outside) {
                let copy = self.fresh(&format!("{inside}.outer"));
                self.emit("Identity", &[outside], vec![], &copy);
                outside = copy;
            }
            renamed.insert(inside, outside);
        }
        if !renamed.is_empty() {
            captures::rename(&mut proto, &renamed);
        }
        self.describe(&mut proto, name);
        self.nodes.push(proto);
        Ok(())
    }
}
