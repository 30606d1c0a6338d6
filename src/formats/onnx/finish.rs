//! The model around its nodes: inputs, outputs, and all that the file said beside.

use rustc_hash::{FxHashMap, FxHashSet};

use super::proto::{
    Dimension, DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto,
    TensorType, TypeProto, TypeValue, ValueInfoProto,
};
use super::tensor;
use super::write::{OPSET, Weight, Writer, Written};
use crate::ir::{Dim, NodeId, Type};

/// The version of the format that goes with the operators of models that do not come from ONNX.
const IR_VERSION: i64 = 9;

impl Writer<'_> {
    /// What the file says of an input or an output: what it said, if that is still so.
    fn describe_value(&self, name: &str, ty: &Type) -> ValueInfoProto {
        match self.source.values.get(name) {
            Some((info, was)) if was == ty => info.clone(),
            _ => value_info(name, ty),
        }
    }

    /// The finished model.
    pub(super) fn finish(mut self) -> Written {
        let mut model = self.header();
        let mut graph = model.graph.take().unwrap_or_else(|| GraphProto {
            name: Some(self.graph.name.clone()),
            ..GraphProto::default()
        });
        // In earlier versions all weights are inputs.
        let all = model.ir_version.is_some_and(|version| version < 4);
        graph.input = self.inputs(std::mem::take(&mut graph.input), all);
        graph.output = self
            .graph
            .outputs()
            .iter()
            .map(|output| self.describe_value(&output.name, self.graph.ty(output.value)))
            .collect();
        self.describe_values(&mut graph);
        graph.node = std::mem::take(&mut self.nodes);
        model.graph = Some(graph);
        Written {
            model,
            weights: self.weights,
        }
    }

    /// The model without its graph, or with what the file had beside the nodes of its graph.
    fn header(&self) -> ModelProto {
        let mut model = self.source.model.clone();
        if self.source.opset == 0 {
            model.ir_version = Some(IR_VERSION);
            model.producer_name = Some("optc".to_owned());
            model.producer_version = Some(env!("CARGO_PKG_VERSION").to_owned());
            model.opset_import = vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(OPSET),
            }];
        }
        model
    }

    /// The inputs, and weights that are inputs, in the order of the file; what the file did not have comes last.
    fn inputs(&self, listed: Vec<ValueInfoProto>, all: bool) -> Vec<ValueInfoProto> {
        let mut weights: FxHashMap<&str, &Weight> = self
            .weights
            .iter()
            .filter_map(|w| Some((w.header.name.as_deref()?, w)))
            .collect();
        let input = |input: &NodeId| {
            let name = &*self.graph.node(*input).name;
            let ty = self.graph.ty((*input).into());
            (name, self.describe_value(name, ty))
        };
        let own = self.graph.inputs();
        let mut inputs: FxHashMap<&str, ValueInfoProto> = own.iter().map(input).collect();
        let mut found = Vec::new();
        for info in listed {
            if let Some(input) = inputs.remove(info.name()) {
                found.push(input);
            } else if let Some(weight) = weights.remove(info.name()) {
                found.push(self.weight_info(weight));
            }
        }
        let missing = own.iter().map(|input| &*self.graph.node(*input).name);
        found.extend(missing.filter_map(|name| inputs.remove(name)));
        if all {
            let further = self
                .weights
                .iter()
                .filter(|w| weights.contains_key(w.header.name()));
            found.extend(further.map(|weight| self.weight_info(weight)));
        }
        found
    }

    /// A weight as an input.
    fn weight_info(&self, weight: &Weight) -> ValueInfoProto {
        let header = &weight.header;
        let known = self.source.weight_inputs.get(header.name());
        let length = |n: &i64| Dimension {
            value: Some(DimensionValue::DimValue(*n)),
            denotation: None,
        };
        let shape = header.dims.iter().map(length).collect();
        ValueInfoProto {
            name: Some(header.name().to_owned()),
            r#type: Some(tensor_type(header.data_type(), Some(shape))),
            ..known.cloned().unwrap_or_default()
        }
    }

    /// Keeps what the file says of values that are still there and of the type that they were of.
    fn describe_values(&self, graph: &mut GraphProto) {
        let mut alive: FxHashSet<&str> = self
            .weights
            .iter()
            .filter_map(|w| w.header.name.as_deref())
            .collect();
        for node in self.graph.nodes() {
            for value in self.graph.results(node) {
                let Some(name) = self.names.get(&value) else {
                    continue;
                };
                alive.insert(name);
                if let Some((info, was)) = self.source.values.get(name.as_str())
                    && was == self.graph.ty(value)
                {
                    graph.value_info.push(info.clone());
                }
            }
        }
        let returned: FxHashSet<&str> = self.graph.outputs().iter().map(|o| &*o.name).collect();
        let inputs = graph.input.iter().filter_map(|info| info.name.as_deref());
        let said: FxHashSet<&str> = inputs.chain(returned.iter().copied()).collect();
        graph
            .value_info
            .retain(|info| !info.name.as_deref().is_some_and(|n| said.contains(n)));
        alive.extend(returned);
        alive.extend(self.given.iter().map(String::as_str));
        graph.quantization_annotation.retain(|a| {
            a.tensor_name
                .as_deref()
                .is_some_and(|name| alive.contains(name))
        });
    }
}

/// What a file says of a value of this type.
fn value_info(name: &str, ty: &Type) -> ValueInfoProto {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim.as_number() {
            Some(n) => DimensionValue::DimValue(n),
            None => DimensionValue::DimParam(dim.to_string()),
        }),
        denotation: None,
    };
    let ty = ty.dtype().map(|dtype| {
        let shape = ty.shape().map(|shape| shape.iter().map(dim).collect());
        tensor_type(tensor::code(dtype), shape)
    });
    info(name, ty)
}

/// A value of this name and type.
pub(super) fn info(name: &str, ty: Option<TypeProto>) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: ty,
        ..ValueInfoProto::default()
    }
}

/// The type of a tensor whose elements have this number.
pub(super) fn tensor_type(code: i32, dim: Option<Vec<Dimension>>) -> TypeProto {
    let shape = dim.map(|dim| TensorShapeProto { dim });
    let ty = TensorType {
        elem_type: Some(code),
        shape,
    };
    TypeProto {
        value: Some(TypeValue::Tensor(ty)),
        denotation: None,
    }
}
