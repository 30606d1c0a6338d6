//! A model of one opaque operator, for a runtime to run it.

use prost::Message;
use rustc_hash::FxHashMap;

use super::proto::{
    Dimension, GraphProto, ModelProto, TensorProto, TensorShapeProto, TensorType, TypeProto,
    TypeValue, ValueInfoProto,
};
use super::source::Source;
use super::{captures, opaque, tensor};
use crate::ir::{DType, Opaque, Tensor};

/// The name of an operand in the model, and so what it is fed as.
pub(crate) fn operand_name(at: usize) -> String {
    format!("optc.operand.{at}")
}

/// The name of a result in the model.
pub(crate) fn result_name(port: usize) -> String {
    format!("optc.result.{port}")
}

/// The bytes of a model whose only node is `op`, with the operators of the file that it is from. Operands are constants, which become
/// weights, or have a type and a rank.
///
/// # Errors
/// That the operator's template is damaged.
pub(crate) fn model(
    source: &Source,
    op: &Opaque,
    operands: &[(DType, usize, Option<&Tensor>)],
) -> Result<Vec<u8>, String> {
    let parsed = opaque::parse(&op.template)?;
    let mut node = parsed.node;
    let known = |at: usize| match operands.get(at) {
        Some(_) => Ok(operand_name(at)),
        None => Err(format!("there is no operand {at}")),
    };
    for place in parsed.inputs {
        let name = place.map_or(Ok(String::new()), known)?;
        node.input.push(name);
    }
    let mut outputs = Vec::new();
    for place in parsed.outputs {
        let name = place.map(result_name);
        if let (Some(port), Some(name)) = (place, &name) {
            let dtype = op.outputs.get(port).and_then(|ty| ty.dtype());
            outputs.push(info(name, dtype.map(|dtype| (dtype, None))));
        }
        node.output.push(name.unwrap_or_default());
    }
    let mut renamed = FxHashMap::default();
    for (inside, at) in parsed.captures {
        renamed.insert(inside, known(at)?);
    }
    captures::rename(&mut node, &renamed);
    let mut graph = GraphProto {
        node: vec![node],
        name: Some("operator".to_owned()),
        output: outputs,
        ..GraphProto::default()
    };
    for (at, (dtype, rank, constant)) in operands.iter().enumerate() {
        let name = operand_name(at);
        match constant {
            Some(tensor) => graph.initializer.push(weight(name, tensor)),
            None => graph.input.push(info(&name, Some((*dtype, Some(*rank))))),
        }
    }
    let model = ModelProto {
        ir_version: source.model.ir_version,
        opset_import: source.model.opset_import.clone(),
        functions: source.model.functions.clone(),
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

fn info(name: &str, ty: Option<(DType, Option<usize>)>) -> ValueInfoProto {
    let ty = ty.map(|(dtype, rank)| TypeProto {
        value: Some(TypeValue::Tensor(TensorType {
            elem_type: Some(tensor::code(dtype)),
            shape: rank.map(|rank| TensorShapeProto {
                dim: vec![Dimension::default(); rank],
            }),
        })),
        denotation: None,
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: ty,
        ..ValueInfoProto::default()
    }
}

fn weight(name: String, elements: &Tensor) -> TensorProto {
    TensorProto {
        dims: elements.shape().iter().map(|n| *n as i64).collect(),
        data_type: Some(tensor::code(elements.dtype())),
        name: Some(name),
        raw_data: Some(elements.bytes().into_owned().into()),
        ..TensorProto::default()
    }
}
