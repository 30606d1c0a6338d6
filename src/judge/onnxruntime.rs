//! ONNX Runtime on files.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, ValueType};

use super::runtime::{Output, Runtime, Session};
use super::{Optimisations, Options};
use crate::Result;
use crate::ir::{Bytes, DType, Tensor};
use crate::profile::onnxruntime::{OnnxRuntime, find_library};

/// How long a network may run: a file may hold a loop without end.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// The runtime, found as `optc profile` finds it.
pub(super) fn load(options: &Options) -> Result<Judge> {
    Ok(Judge {
        runtime: OnnxRuntime::load(&find_library()?, options.threads)?,
    })
}

/// ONNX Runtime as a judge.
pub(super) struct Judge {
    runtime: OnnxRuntime,
}

impl Runtime for Judge {
    fn title(&self) -> String {
        format!("ONNX Runtime {}", self.runtime.version())
    }

    fn open(&self, path: &Path, optimisations: Optimisations) -> Result<Box<dyn Session>, String> {
        let said = |error: &dyn std::fmt::Display| one_line(&error.to_string());
        let level = match optimisations {
            Optimisations::All => GraphOptimizationLevel::All,
            Optimisations::Off => GraphOptimizationLevel::Disable,
        };
        let mut builder = self.runtime.session(level).map_err(|e| said(&e))?;
        let session = builder.commit_from_file(path).map_err(|e| said(&e))?;
        Ok(Box::new(Open(session)))
    }
}

/// A network that is open in ONNX Runtime.
pub(super) struct Open(pub(super) ort::session::Session);

impl Session for Open {
    fn run(&mut self, feed: &[(String, Tensor)]) -> Result<Vec<Output>, String> {
        let inputs = self.inputs(feed)?;
        let limit = Limit::start()?;
        let outputs = self.0.run_with_options(inputs, &*limit.options);
        let outputs = outputs.map_err(said)?;
        let outputs = outputs.iter();
        outputs
            .map(|(name, value)| {
                Ok(Output {
                    name: name.to_string(),
                    tensor: of_runtime(&value)?,
                })
            })
            .collect()
    }

    fn repeat(&mut self, feed: &[(String, Tensor)], runs: usize) -> Result<Duration, String> {
        Ok(self.times(feed, runs)?.iter().sum())
    }
}

impl Open {
    /// How long each of so many runs takes.
    pub(super) fn times(
        &mut self,
        feed: &[(String, Tensor)],
        runs: usize,
    ) -> Result<Vec<Duration>, String> {
        let inputs = self.inputs(feed)?;
        let limit = Limit::start()?;
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            let views = inputs.iter().map(|(name, value)| (name.as_str(), value));
            let views: Vec<(&str, SessionInputValue)> = views
                .map(|(name, value)| (name, value.view().into()))
                .collect();
            let outputs = self.0.run_with_options(views, &*limit.options);
            drop(outputs.map_err(said)?);
            times.push(start.elapsed());
        }
        Ok(times)
    }

    /// What the network takes, in the runtime's own form.
    fn inputs(&self, feed: &[(String, Tensor)]) -> Result<Vec<(String, DynValue)>, String> {
        let of = |input: &ort::value::Outlet| {
            let name = input.name();
            let Some((_, tensor)) = feed.iter().find(|(fed, _)| fed == name) else {
                return Err(format!("it takes an input `{name}`, which was not read"));
            };
            Ok((name.to_string(), to_runtime(tensor).map_err(said)?))
        };
        self.0.inputs().iter().map(of).collect()
    }
}

/// A clock that ends runs which take too long, for as long as it is held.
struct Limit {
    options: Arc<RunOptions>,
    _held: mpsc::Sender<()>,
}

impl Limit {
    fn start() -> Result<Limit, String> {
        let options = Arc::new(RunOptions::new().map_err(said)?);
        let (held, waits) = mpsc::channel::<()>();
        let watched = options.clone();
        std::thread::spawn(move || {
            // An error means that the runs are over, and the other end of the channel gone.
            if waits.recv_timeout(RUN_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = watched.terminate();
            }
        });
        Ok(Limit {
            options,
            _held: held,
        })
    }
}

fn said(error: ort::Error) -> String {
    one_line(&error.to_string())
}

/// What the runtime says is long, and ends in the file of its own where it was said.
pub(super) fn one_line(text: &str) -> String {
    const LENGTH: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

fn to_runtime(tensor: &Tensor) -> ort::Result<DynValue> {
    let shape: Vec<i64> = tensor.shape().iter().map(|n| *n as i64).collect();
    let bytes = tensor.bytes();
    macro_rules! value {
        ($type:ty) => {
            OrtTensor::from_array((shape, bytemuck::pod_collect_to_vec::<u8, $type>(&bytes)))?
                .into_dyn()
        };
    }
    Ok(match tensor.dtype() {
        DType::F64 => value!(f64),
        DType::F32 => value!(f32),
        DType::F16 => value!(half::f16),
        DType::BF16 => value!(half::bf16),
        DType::I64 => value!(i64),
        DType::I32 => value!(i32),
        DType::I16 => value!(i16),
        DType::I8 => value!(i8),
        DType::U8 => value!(u8),
        DType::Bool => {
            let elements: Vec<bool> = bytes.iter().map(|byte| *byte != 0).collect();
            OrtTensor::from_array((shape, elements))?.into_dyn()
        }
    })
}

/// The array, in a type that optc has; `None` for what is none.
fn of_runtime(value: &DynValue) -> Result<Option<Tensor>, String> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Ok(None);
    };
    macro_rules! tensor {
        ($type:ty, $dtype:expr, $convert:expr) => {{
            let (shape, elements) = value
                .try_extract_tensor::<$type>()
                .map_err(|e| e.to_string())?;
            let shape: Vec<usize> = shape.iter().map(|n| (*n).max(0) as usize).collect();
            let elements: Vec<_> = elements.iter().map($convert).collect();
            let bytes: Vec<u8> = bytemuck::cast_slice(&elements).to_vec();
            Some(Tensor::new($dtype, &shape, Bytes::new(Arc::new(bytes)))?)
        }};
    }
    Ok(match ty {
        TensorElementType::Float64 => tensor!(f64, DType::F64, |x| *x),
        TensorElementType::Float32 => tensor!(f32, DType::F32, |x| *x),
        TensorElementType::Float16 => tensor!(half::f16, DType::F16, |x| *x),
        TensorElementType::Bfloat16 => tensor!(half::bf16, DType::BF16, |x| *x),
        TensorElementType::Int64 => tensor!(i64, DType::I64, |x| *x),
        TensorElementType::Int32 => tensor!(i32, DType::I32, |x| *x),
        TensorElementType::Int16 => tensor!(i16, DType::I16, |x| *x),
        TensorElementType::Int8 => tensor!(i8, DType::I8, |x| *x),
        TensorElementType::Uint8 => tensor!(u8, DType::U8, |x| *x),
        TensorElementType::Uint16 => tensor!(u16, DType::I64, |x| i64::from(*x)),
        TensorElementType::Uint32 => tensor!(u32, DType::I64, |x| i64::from(*x)),
        TensorElementType::Uint64 => tensor!(u64, DType::I64, |x| *x as i64),
        TensorElementType::Bool => tensor!(bool, DType::Bool, |x| u8::from(*x)),
        _ => None,
    })
}
