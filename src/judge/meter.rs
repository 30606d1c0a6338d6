//! ONNX Runtime as what times networks.

use std::fmt;
use std::time::Duration;

use ort::session::builder::GraphOptimizationLevel;

use super::onnxruntime::{Open, one_line};
use crate::Result;
use crate::analysis::latency::{Meter, Runtime, Time};
use crate::formats::onnx::{Source, write_bytes};
use crate::ir::{DType, Dim, Graph, Tensor, Type};
use crate::profile::Runner;
use crate::profile::onnxruntime::{OnnxRuntime, find_library};

/// How long a turn is, about.
const TURN: Duration = Duration::from_millis(4);
/// The runs of a turn, where they are not as long as a turn themselves.
const RUNS: std::ops::RangeInclusive<usize> = 3..=1000;

/// ONNX Runtime, which times networks as files that are written for it.
pub(super) struct OrtMeter {
    runtime: OnnxRuntime,
}

impl OrtMeter {
    /// The runtime, found as `optc profile` finds it.
    pub(super) fn load(threads: usize) -> Result<OrtMeter> {
        Ok(OrtMeter {
            runtime: OnnxRuntime::load(&find_library()?, threads)?,
        })
    }
}

impl fmt::Debug for OrtMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime {}", self.runtime.version())
    }
}

impl Meter for OrtMeter {
    fn runtime(&self) -> Runtime {
        Runner::runtime(&self.runtime)
    }

    fn threads(&self) -> usize {
        Runner::threads(&self.runtime)
    }

    fn time(&self, network: &Graph) -> Result<Time, String> {
        let said = |error: &dyn fmt::Display| one_line(&error.to_string());
        let bytes = write_bytes(network, &Source::default()).map_err(|e| said(&e))?;
        let builder = self.runtime.session(GraphOptimizationLevel::All);
        let mut builder = builder.map_err(|e| said(&e))?;
        let session = builder.commit_from_memory(&bytes).map_err(|e| said(&e))?;
        drop(bytes);
        let mut open = Open(session);
        let inputs = network.inputs().iter().enumerate();
        let feed: Vec<(String, Tensor)> = inputs
            .map(|(k, node)| {
                let name = network.node(*node).name.to_string();
                (name, input(network.ty((*node).into()), k))
            })
            .collect();
        // Memory is laid out in the first run.
        open.times(&feed, 1)?;
        let warm = open.times(&feed, 2)?.into_iter().min().unwrap_or_default();
        let runs = TURN.as_nanos() / warm.as_nanos().max(1);
        let runs = match runs {
            0 => 1,
            runs => (runs as usize).clamp(*RUNS.start(), *RUNS.end()),
        };
        Time::of_turns(|| {
            let mut times = open.times(&feed, runs)?;
            times.sort();
            Ok(times[times.len() / 2].as_nanos() as f64)
        })
    }
}

/// An input: numbers that are neither equal nor extreme, and zeros where they may be positions.
fn input(ty: &Type, k: usize) -> Tensor {
    let dims = ty.shape().unwrap_or_default().iter();
    let shape: Vec<usize> = dims.filter_map(Dim::as_len).collect();
    let dtype = ty.dtype().unwrap_or(DType::F32);
    let mut random = fastrand::Rng::with_seed(k as u64);
    let range = if dtype.is_float() { 1.0 } else { 0.0 };
    let numbers = (0..shape.iter().product()).map(|_| range * (2.0 * random.f64() - 1.0));
    Tensor::from_f64(dtype, &shape, numbers)
}
