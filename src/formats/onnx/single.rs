//! A model of one opaque operator, for a runtime to run it.

use prost::Message;
use rustc_hash::FxHashMap;

use super::finish::{info, tensor_type};
use super::proto::{Dimension, GraphProto, ModelProto, TensorProto};
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
            let ty = dtype.map(|dtype| tensor_type(tensor::code(dtype), None));
            outputs.push(info(name, ty));
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
            Some(tensor) => graph.initializer.push(TensorProto {
                raw_data: Some(tensor.bytes().into_owned().into()),
                ..tensor::header(&name, tensor)
            }),
            None => {
                let dim = vec![Dimension::default(); *rank];
                let ty = tensor_type(tensor::code(*dtype), Some(dim));
                graph.input.push(info(&name, Some(ty)));
            }
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
