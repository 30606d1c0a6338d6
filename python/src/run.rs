//! A run on a thread of its own: the caller's waits without the interpreter, hands progress on and looks for Ctrl-C.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use optc::data::Data;
use optc::ir::Tensor;
use optc::job::{Given, Settings, Told};
use optc::pipeline::Cancellation;
use optc::report::Inspection;
use optc::{Model, ReadOptions};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{Error, raised};
use crate::memory;

/// How often the caller's thread looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);
/// What the main thread of a process has.
const STACK: usize = 8 << 20;

/// Where a model is.
#[derive(FromPyObject)]
pub enum Place<'py> {
    #[pyo3(annotation = "bytes")]
    Bytes(Bound<'py, PyBytes>),
    #[pyo3(annotation = "path")]
    Path(PathBuf),
}

/// Arrays by name.
type Arrays<'py> = Vec<(String, Bound<'py, PyAny>)>;

/// What is run, with nothing of Python's but memory.
struct Job {
    model: Source,
    read: ReadOptions,
    passes: Option<String>,
    settings: Settings,
    data: Option<Vec<(String, Tensor)>>,
    eval: Option<Vec<(String, Tensor)>>,
    output: Option<PathBuf>,
}

enum Source {
    Bytes(optc::ir::Bytes),
    Path(PathBuf),
}

impl Source {
    fn of(place: Place<'_>) -> Source {
        match place {
            Place::Bytes(object) => Source::Bytes(memory::bytes(&object)),
            Place::Path(path) => Source::Path(path),
        }
    }

    fn read(self, options: &ReadOptions) -> optc::Result<Model> {
        match self {
            Source::Bytes(bytes) => optc::read_bytes(bytes, options),
            Source::Path(path) => optc::read_with(path, options),
        }
    }
}

/// Bytes of the result, unless it went to a file, and the report as JSON.
type Made = (Option<Vec<u8>>, String);

impl Job {
    /// Does the work; `told` gets every step, if somebody wants to know.
    fn run(self, cancellation: Cancellation, told: Option<Sender<Step>>) -> optc::Result<Made> {
        let mut model = self.model.read(&self.read)?;
        let pipeline = self
            .settings
            .pipeline(self.passes.as_deref(), self.data.is_some())?;
        let data = |arrays: Option<Vec<(String, Tensor)>>| {
            let opened = arrays.map(|arrays| Data::of_arrays(arrays, &model.graph));
            opened.transpose()
        };
        let given = Given {
            data: data(self.data)?,
            eval: data(self.eval)?,
            names_passes: self.passes.is_some(),
        };
        let options = self.settings.options(&model, given, cancellation)?;
        let mut watch = Told(|pass: &str, layer: &str, fraction| {
            if let Some(told) = &told {
                // Nobody listens where the run was asked to end.
                let _ = told.send((pass.to_string(), layer.to_string(), fraction));
            }
        });
        let report = pipeline.run_with(&mut model, &options, &mut watch)?;
        let bytes = match &self.output {
            Some(path) => {
                optc::write(&model, path)?;
                None
            }
            None => Some(optc::write_bytes(&model, None)?),
        };
        Ok((bytes, report.to_json()))
    }
}

/// Optimises a model, given as `bytes` or by its path; gives the bytes of the result, or None where `output` names a file, and the report
/// as JSON.
#[pyfunction]
#[pyo3(signature = (model, passes, settings, inputs, data, eval, output, progress))]
#[expect(
    clippy::too_many_arguments,
    reason = "called from one place in Python, which names them"
)]
pub fn optimize<'py>(
    py: Python<'py>,
    model: Place<'py>,
    passes: Option<String>,
    settings: &str,
    inputs: Vec<String>,
    data: Option<Arrays<'py>>,
    eval: Option<Arrays<'py>>,
    output: Option<PathBuf>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<(Option<Bound<'py, PyBytes>>, String)> {
    let job = Job {
        model: Source::of(model),
        read: reading(&inputs)?,
        passes,
        settings: Settings::parse(settings).map_err(|error| raised(&error))?,
        data: data.map(tensors).transpose()?,
        eval: eval.map(tensors).transpose()?,
        output,
    };
    let (told, mut steps) = channel();
    let cancellation = Cancellation::default();
    let wanted = progress.is_some().then_some(told.clone());
    let asked = cancellation.clone();
    let worker = thread::Builder::new()
        .name("optc".to_string())
        .stack_size(STACK);
    let worker = worker.spawn(move || {
        // Dropped when the work is done, which is how the caller's thread knows.
        let _told = told;
        job.run(asked, wanted)
    })?;
    let ended = attend(py, &mut steps, progress.as_ref(), &cancellation);
    drop(steps);
    let joined = py.detach(|| worker.join());
    // What Python raised comes first: the run ended for it.
    ended?;
    let (bytes, report) = match joined {
        Ok(made) => made.map_err(|error| raised(&error))?,
        Err(_) => {
            let what = "internal error: this is a mistake in optc; please report it with the model if you can";
            return Err(Error::new_err(what));
        }
    };
    Ok((bytes.map(|bytes| PyBytes::new(py, &bytes)), report))
}

/// What is in a model, as JSON.
#[pyfunction]
pub fn inspect(py: Python<'_>, model: Place<'_>, inputs: Vec<String>) -> PyResult<String> {
    let (model, read) = (Source::of(model), reading(&inputs)?);
    let inspected = py.detach(|| Ok(Inspection::of(&model.read(&read)?).to_json()));
    inspected.map_err(|error: optc::Error| raised(&error))
}

fn reading(inputs: &[String]) -> PyResult<ReadOptions> {
    let shapes = inputs.iter().map(|shape| shape.parse());
    let inputs = shapes.collect::<optc::Result<_>>();
    let inputs = inputs.map_err(|error| raised(&error))?;
    Ok(ReadOptions { inputs })
}

fn tensors(arrays: Arrays<'_>) -> PyResult<Vec<(String, Tensor)>> {
    let tensor = |(name, array): (String, Bound<'_, PyAny>)| {
        let tensor = memory::array(&name, &array)?;
        Ok((name, tensor))
    };
    arrays.into_iter().map(tensor).collect()
}

/// Where a run is: the pass, the layer, and how much of the pass is done.
type Step = (String, String, f64);

/// Waits for the run's end, and tells `progress` of it. What that raises, and Ctrl-C, asks the run to end.
fn attend(
    py: Python<'_>,
    steps: &mut Receiver<Step>,
    progress: Option<&Bound<'_, PyAny>>,
    cancellation: &Cancellation,
) -> PyResult<()> {
    loop {
        // Handed over for the while: a receiver belongs to one thread at a time.
        let receiver = &mut *steps;
        let told = match py.detach(move || receiver.recv_timeout(LOOK)) {
            Ok(step) => progress.map_or(Ok(()), |progress| progress.call1(step).map(drop)),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        if let Err(error) = told.and_then(|()| py.check_signals()) {
            cancellation.request();
            return Err(error);
        }
    }
}
