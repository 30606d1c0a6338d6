//! libtorch on files of TorchScript.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{CModule, Device, IValue};

use super::runtime::{Optimisations, Output, Runtime, Session};
use crate::exec::torch::kind_of;
use crate::ir::{Bytes, DType, Tensor};
use crate::profile::torch::VERSION;

/// The libtorch that this build is linked with.
pub(super) struct LibTorch {
    /// Its threads where it is timed; 0 for as many as it likes.
    pub threads: usize,
}

impl Runtime for LibTorch {
    fn title(&self) -> String {
        format!("libtorch {VERSION}")
    }

    fn open(&self, path: &Path, _: Optimisations) -> Result<Box<dyn Session>, String> {
        match CModule::load_on_device(path, Device::Cpu) {
            Ok(module) => Ok(Box::new(Open {
                module,
                threads: self.threads.max(1) as i32,
            })),
            Err(error) => Err(reason(&error)),
        }
    }
}

struct Open {
    module: CModule,
    threads: i32,
}

impl Session for Open {
    fn run(&mut self, feed: &[(String, Tensor)]) -> Result<Vec<Output>, String> {
        let inputs = inputs(feed)?;
        let result = tch::no_grad(|| self.module.forward_is(&inputs)).map_err(|e| reason(&e))?;
        let mut outputs = Vec::new();
        flatten(result, String::new(), &mut outputs)?;
        Ok(outputs)
    }

    fn repeat(&mut self, feed: &[(String, Tensor)], runs: usize) -> Result<Duration, String> {
        let inputs = inputs(feed)?;
        let threads = tch::get_num_threads();
        tch::set_num_threads(self.threads);
        let start = Instant::now();
        let mut ran = (0..runs).map(|_| tch::no_grad(|| self.module.forward_is(&inputs)).map(drop));
        let ran = ran.find(Result::is_err).unwrap_or(Ok(()));
        let took = start.elapsed();
        tch::set_num_threads(threads);
        ran.map_err(|e| reason(&e))?;
        Ok(took)
    }
}

fn inputs(feed: &[(String, Tensor)]) -> Result<Vec<IValue>, String> {
    let inputs = feed.iter().map(|(_, x)| to_torch(x).map(IValue::Tensor));
    inputs.collect()
}

/// The last line that says something; before it stands where in libtorch's own code it was said.
fn reason(error: &tch::TchError) -> String {
    let text = error.to_string();
    let text = text
        .split("Exception raised from")
        .next()
        .unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it does not say why").trim().to_string()
}

fn to_torch(tensor: &Tensor) -> Result<tch::Tensor, String> {
    let shape: Vec<i64> = tensor.shape().iter().map(|n| *n as i64).collect();
    tch::Tensor::f_from_data_size(&tensor.bytes(), &shape, kind_of(tensor.dtype()))
        .map_err(|e| reason(&e))
}

/// The tensors of a result, named by where they stand in it: `0`, `1.0`, `boxes`.
fn flatten(value: IValue, name: String, outputs: &mut Vec<Output>) -> Result<(), String> {
    let below = |key: &str| {
        if name.is_empty() {
            key.to_string()
        } else {
            format!("{name}.{key}")
        }
    };
    match value {
        IValue::Tensor(tensor) => outputs.push(of_torch(&tensor, name)?),
        IValue::TensorList(tensors) => {
            for (i, tensor) in tensors.iter().enumerate() {
                outputs.push(of_torch(tensor, below(&i.to_string()))?);
            }
        }
        IValue::Tuple(values) | IValue::GenericList(values) => {
            for (i, value) in values.into_iter().enumerate() {
                flatten(value, below(&i.to_string()), outputs)?;
            }
        }
        IValue::GenericDict(entries) => {
            for (i, (key, value)) in entries.into_iter().enumerate() {
                let key = match key {
                    IValue::String(key) => key,
                    _ => i.to_string(),
                };
                flatten(value, below(&key), outputs)?;
            }
        }
        _ => outputs.push(Output { name, tensor: None }),
    }
    Ok(())
}

fn of_torch(tensor: &tch::Tensor, name: String) -> Result<Output, String> {
    let name = if name.is_empty() {
        "output".to_string()
    } else {
        name
    };
    let dtype = DType::ALL.iter().map(|(dtype, _)| *dtype);
    let Some(dtype) = dtype
        .into_iter()
        .find(|dtype| kind_of(*dtype) == tensor.kind())
    else {
        return Ok(Output { name, tensor: None });
    };
    let contiguous = tensor.contiguous();
    let shape: Vec<usize> = contiguous
        .size()
        .iter()
        .map(|n| (*n).max(0) as usize)
        .collect();
    let count = contiguous.numel();
    let mut bytes = vec![0; count * dtype.size()];
    contiguous
        .f_copy_data_u8(&mut bytes, count)
        .map_err(|e| reason(&e))?;
    let tensor = Tensor::new(dtype, &shape, Bytes::new(Arc::new(bytes)))?;
    Ok(Output {
        name,
        tensor: Some(tensor),
    })
}
