//! ONNX Runtime, from a shared library that is looked for when it is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ort::editor::{self, Node, ONNX_DOMAIN, Opset};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::operator::Attribute;
use ort::session::SessionInputValue;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType};

use super::{Prepared, Runner};
use crate::analysis::latency::Runtime;
use crate::ir::{self, Dim, NodeKind, Op, Padding, Value};
use crate::{Error, Result};

/// The name that `--runtime` and tables have for it.
pub const NAME: &str = "onnxruntime";

/// The opset of the graphs that are timed.
const OPSET: u32 = 17;

/// ONNX Runtime on the processor.
pub struct OnnxRuntime {
    loaded: Loaded,
    threads: usize,
}

/// The library: a process can load one, and has one environment in it.
#[derive(Clone)]
struct Loaded {
    path: PathBuf,
    environment: Environment,
    version: String,
}

impl Loaded {
    /// The library at `path`, loaded now or before.
    fn get(path: &Path) -> Result<Loaded> {
        static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
        let refused = |error: &dyn std::fmt::Display| {
            Error::Usage {
            what: format!("cannot load ONNX Runtime from {}: {error}", path.display()),
            help: "it takes libonnxruntime.so, version 1.22 or newer: pip install onnxruntime, or give its path in ORT_DYLIB_PATH".into(),
        }
        };
        // Whoever panicked while holding it has not changed it.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        // A path that is not absolute would be looked for beside this program.
        let absolute = std::path::absolute(path).map_err(|error| refused(&error))?;
        if let Some(loaded) = loaded.as_ref() {
            return if loaded.path == absolute {
                Ok(loaded.clone())
            } else {
                Err(refused(&format!(
                    "this process has loaded {} already",
                    loaded.path.display()
                )))
            };
        }
        let builder = ort::init_from(&absolute).map_err(|error| refused(&error))?;
        let environment = builder
            .with_name("optc")
            .with_telemetry(false)
            .build()
            .map_err(|error| refused(&error))?;
        let real = absolute.canonicalize();
        let version = version_of(real.as_deref().unwrap_or(&absolute));
        let new = Loaded {
            path: absolute,
            environment,
            version: version.unwrap_or_else(|| build().to_string()),
        };
        Ok(loaded.insert(new).clone())
    }
}

impl OnnxRuntime {
    /// Loads the library at `path`, once a process; models then run with so many threads.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be loaded or is older than 1.22, or when the process has loaded another.
    pub fn load(path: &Path, threads: usize) -> Result<OnnxRuntime> {
        Ok(OnnxRuntime {
            loaded: Loaded::get(path)?,
            threads,
        })
    }
}

/// The library that ORT_DYLIB_PATH names, or else the one of the package `onnxruntime` of `python3`.
///
/// # Errors
/// [`Error::Usage`] when there is none; it says how to get one.
pub fn find_library() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    library_of_python().ok_or_else(|| Error::Usage {
        what: "ONNX Runtime is not here: ORT_DYLIB_PATH is not set, and python3 has no package onnxruntime".into(),
        help: "pip install onnxruntime, or give the path of libonnxruntime.so in ORT_DYLIB_PATH".into(),
    })
}

/// The version in a library's name, `libonnxruntime.so.1.22.0`.
pub fn version_of(library: &Path) -> Option<String> {
    let name = library.file_name()?.to_str()?;
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let version = name[digits..].trim_end_matches(".dylib");
    let numbers = version.split('.').all(|n| n.parse::<u32>().is_ok());
    numbers.then(|| version.to_string())
}

/// What the library says of itself: the branch it was built from.
fn build() -> &'static str {
    let info = ort::info();
    let branch = info.split_once("git-branch=").map(|(_, rest)| rest);
    let branch = branch.and_then(|rest| rest.split([',', ' ']).next());
    branch.map_or(info, |branch| branch.trim_start_matches("rel-"))
}

/// Asks without importing the package, which would take a second.
fn library_of_python() -> Option<PathBuf> {
    const ASK: &str = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])";
    let output = Command::new("python3").args(["-c", ASK]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let files = std::fs::read_dir(Path::new(folder.trim()).join("capi")).ok()?;
    let is_library = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        name.starts_with("libonnxruntime.") || name == "onnxruntime.dll"
    };
    files.flatten().map(|file| file.path()).find(is_library)
}

impl OnnxRuntime {
    /// The version of the library.
    pub fn version(&self) -> &str {
        &self.loaded.version
    }

    /// What opens files, with the threads of this runtime, or as many as it likes where these are 0.
    pub(crate) fn session(&self, level: GraphOptimizationLevel) -> ort::Result<SessionBuilder> {
        let builder =
            SessionBuilder::new(&self.loaded.environment)?.with_optimization_level(level)?;
        let builder = builder.with_log_level(ort::logging::LogLevel::Fatal)?;
        Ok(builder.with_intra_threads(self.threads)?)
    }
}

impl Runner for OnnxRuntime {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: NAME.to_string(),
            version: self.loaded.version.clone(),
        }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn prepare<'a>(&'a mut self, graph: &ir::Graph) -> Result<Prepared<'a>> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Error::Usage {
            what: format!("ONNX Runtime cannot {what} the network to time: {error}"),
            help: String::new(),
        };
        let built = build_model(graph).map_err(|error| failed("build", &error))?;
        let builder =
            SessionBuilder::new(&self.loaded.environment).map_err(|e| failed("load", &e))?;
        let builder = builder
            .with_intra_threads(self.threads)
            .map_err(|e| failed("load", &e))?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(|e| failed("load", &e))?;
        let mut session = built
            .into_session(&builder)
            .map_err(|e| failed("load", &e))?;
        let mut inputs = Vec::new();
        for node in graph.inputs() {
            let (shape, elements) = super::input(graph, *node);
            let tensor = Tensor::from_array((shape, elements)).map_err(|e| failed("feed", &e))?;
            inputs.push(SessionInputValue::from(tensor));
        }
        Ok(Box::new(move || {
            session
                .run(inputs.as_slice())
                .map(drop)
                .map_err(|error| failed("run", &error))
        }))
    }
}

/// The graph as a model of ONNX, in memory.
fn build_model(graph: &ir::Graph) -> Result<editor::Model, Box<dyn std::error::Error>> {
    let name = |value: Value| format!("{}:{}", graph.node(value.node).name, value.port);
    let outlet = |value: Value| {
        let dims = graph.ty(value).shape().unwrap_or_default();
        let dims: Vec<i64> = dims.iter().filter_map(Dim::as_number).collect();
        let ty = ValueType::Tensor {
            ty: TensorElementType::Float32,
            dimension_symbols: SymbolicDimensions::empty(dims.len()),
            shape: Shape::new(dims),
        };
        Outlet::new(name(value), ty)
    };
    let mut built = editor::Graph::new()?;
    built.set_inputs(graph.inputs().iter().map(|node| outlet((*node).into())))?;
    built.set_outputs(graph.outputs().iter().map(|output| outlet(output.value)))?;
    for node in graph.topological_order().map_err(|_| "a cycle")? {
        let value = Value::from(node);
        match &graph.node(node).kind {
            NodeKind::Input => {}
            NodeKind::Constant(constant) => {
                let shape: Vec<i64> = constant.tensor.shape().iter().map(|n| *n as i64).collect();
                let mut tensor = Tensor::<f32>::new(&Allocator::default(), shape)?;
                let elements = constant.tensor.elements::<f32>();
                tensor.extract_tensor_mut().1.copy_from_slice(&elements);
                built.add_initializer(name(value), tensor, false)?;
            }
            NodeKind::Op(op) => {
                let mut operands: Vec<String> =
                    graph.operands(node).iter().map(|v| name(*v)).collect();
                if let Op::Gather { index, .. } = op {
                    let at = format!("{}.index", name(value));
                    let mut tensor = Tensor::<i64>::new(&Allocator::default(), [index.len()])?;
                    let elements = tensor.extract_tensor_mut().1;
                    elements
                        .iter_mut()
                        .zip(index.iter())
                        .for_each(|(to, i)| *to = i64::from(*i));
                    built.add_initializer(&at, tensor, false)?;
                    operands.push(at);
                }
                let (kind, attributes) = onnx(op)?;
                let unique = &graph.node(node).name;
                let results = [name(value)];
                built.add_node(Node::new(
                    kind,
                    ONNX_DOMAIN,
                    unique,
                    operands,
                    results,
                    attributes,
                )?)?;
            }
        }
    }
    let mut model = editor::Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(built)?;
    Ok(model)
}

/// The name and the attributes that ONNX has for an operator; only for those that are timed.
fn onnx(op: &Op) -> Result<(&'static str, Vec<Attribute>), Box<dyn std::error::Error>> {
    let ints = |values: &[usize]| values.iter().map(|n| *n as i64).collect::<Vec<_>>();
    let dims = |values: &[Dim]| values.iter().filter_map(Dim::as_number).collect::<Vec<_>>();
    let pads = |pad: &Padding| [ints(&pad.before), ints(&pad.after)].concat();
    Ok(match op {
        Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        } => (
            "Conv",
            vec![
                Attribute::new("strides", ints(stride))?,
                Attribute::new("pads", pads(pad))?,
                Attribute::new("dilations", ints(dilation))?,
                Attribute::new("group", *groups as i64)?,
            ],
        ),
        Op::Gather { axis, .. } => ("Gather", vec![Attribute::new("axis", *axis as i64)?]),
        Op::Linear {} => ("Gemm", vec![Attribute::new("transB", 1i64)?]),
        Op::Relu {} => ("Relu", vec![]),
        Op::Add {} => ("Add", vec![]),
        Op::BatchNorm { eps } => (
            "BatchNormalization",
            vec![Attribute::new("epsilon", eps.0 as f32)?],
        ),
        Op::MaxPool {
            kernel,
            stride,
            pad,
            ..
        } => (
            "MaxPool",
            vec![
                Attribute::new("kernel_shape", dims(kernel))?,
                Attribute::new("strides", dims(stride))?,
                Attribute::new("pads", pads(pad))?,
            ],
        ),
        op => return Err(format!("no translation of {}", op.name()).into()),
    })
}
