//! A model: the graph that passes change, and what its file format needs to write it back.

#[cfg(feature = "onnxruntime")]
use std::sync::Arc;

use super::Origin;
#[cfg(feature = "onnxruntime")]
use super::onnx;
use crate::ir::{Dialect, Graph};

/// A network as it was read from a file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The network. Passes change this and nothing else.
    pub graph: Graph,
    /// Where it came from, and what its format holds beside the graph.
    pub(crate) origin: Origin,
}

impl Model {
    /// A model of this graph, from no file.
    pub fn new(graph: Graph) -> Model {
        Model {
            graph,
            origin: Origin::None,
        }
    }

    /// The inputs into which the network that was read writes. What is computed from them is kept; that its caller sees the
    /// change is not: what is written of this model leaves its inputs as they are.
    #[doc(hidden)]
    pub fn written_inputs(&self) -> &[String] {
        self.origin.written_inputs()
    }

    /// The format that it is from; `None` for the text form.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        match &self.origin {
            Origin::None => None,
            Origin::TorchScript(_) => Some(Dialect::TorchScript),
            Origin::ExportedProgram(_) => Some(Dialect::ExportedProgram),
            Origin::Onnx(_) => Some(Dialect::Onnx),
        }
    }

    /// What its ONNX file holds beside the graph; `None` for other models.
    #[cfg(feature = "onnxruntime")]
    pub(crate) fn onnx_source(&self) -> Option<Arc<onnx::Source>> {
        match &self.origin {
            Origin::Onnx(source) => Some(source.clone()),
            _ => None,
        }
    }

    /// The names of parameters and buffers of modules of which nothing is read, in order. They are not written again.
    #[doc(hidden)]
    pub fn left_out(&self) -> Vec<&str> {
        self.origin.left_out(&self.graph)
    }
}
