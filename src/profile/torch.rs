//! libtorch, which this build is linked with.

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::{Prepared, Runner};
use crate::analysis::latency::Runtime;
use crate::ir::Graph;
use crate::{Error, Model, Result};

/// The name that `--runtime` and tables have for it.
pub const NAME: &str = "torch";

/// The release that tch links.
pub const VERSION: &str = "2.11.0";

/// libtorch on the processor, with TorchScript modules.
pub struct Torch {
    threads: usize,
}

impl Torch {
    /// Sets the number of threads, for all that this process does in libtorch.
    pub fn new(threads: usize) -> Torch {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        Torch { threads }
    }
}

impl Runner for Torch {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: NAME.to_string(),
            version: VERSION.to_string(),
        }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn prepare<'a>(&'a mut self, graph: &Graph) -> Result<Prepared<'a>> {
        let failed = |error: tch::TchError| Error::Usage {
            what: format!("libtorch cannot run the network to time: {error}"),
            help: String::new(),
        };
        let file = tempfile::Builder::new()
            .suffix(".pt")
            .tempfile()
            .map_err(|source| Error::Io {
                doing: "write to",
                path: std::env::temp_dir(),
                source,
            })?;
        crate::write(&Model::new(graph.clone()), file.path())?;
        let module = CModule::load_on_device(file.path(), Device::Cpu).map_err(failed)?;
        let mut inputs = Vec::new();
        for node in graph.inputs() {
            let (shape, elements) = super::input(graph, *node);
            let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
            let tensor = Tensor::from_slice(&elements).to_kind(Kind::Float);
            inputs.push(IValue::Tensor(tensor.reshape(shape)));
        }
        Ok(Box::new(move || {
            tch::no_grad(|| module.forward_is(&inputs).map(drop)).map_err(failed)
        }))
    }
}
