//! Checkpoints: files from which a run that was broken off goes on, and ends with the bytes of one that was not.
//!
//! A checkpoint is a safetensors file. Beside tensors it says which run it belongs to, item by item (version, model, data,
//! pipeline ..), so that one of another run is refused by the name of what differs; and it holds a [`State`] for each pass
//! that saved one. Passes before those are run again: they give the same graph again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Pipeline, RunOptions};
use crate::exec::State;
use crate::ir::{Bytes, DType, Graph, Tensor};
use crate::{Error, Result};

/// The checkpoint of one run of a pipeline.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    header: Header,
    /// By the number of the pass, counted as they run.
    states: BTreeMap<usize, State>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Header {
    /// What the run is, item by item, in the order in which they are compared.
    run: Vec<(String, String)>,
    notes: BTreeMap<usize, BTreeMap<String, String>>,
}

/// Where the header is in the file's own.
const HEADER: &str = "optc";

impl Checkpoint {
    /// What is saved at `path` of this run.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and those of reading data.
    pub(super) fn of(
        path: &Path,
        pipeline: &Pipeline,
        original: &Graph,
        options: &RunOptions,
    ) -> Result<Checkpoint> {
        let sizes = original
            .bindings
            .iter()
            .map(|(symbol, n)| format!("{symbol}={n}"))
            .collect::<Vec<_>>();
        let data = match &options.data {
            None => "none".to_string(),
            Some(data) => {
                let some = data.sample(FINGERPRINT, 0)?;
                let samples = some.inputs.iter().flat_map(|input| &input.samples);
                let bits = samples.flat_map(|sample| sample.elements::<f32>().into_owned());
                let bits: Vec<u32> = bits.map(f32::to_bits).collect();
                let hash = hash(&(data.len(), bits, some.labels));
                format!("{} #{hash}", data.name())
            }
        };
        let samples = options.samples.as_ref().map_or(0, |samples| samples.len());
        Checkpoint::open(
            path,
            &[
                ("version of optc", env!("CARGO_PKG_VERSION").to_string()),
                // Weights are printed as hashes.
                ("model", format!("#{}", hash(&original.to_string()))),
                ("size of the input", sizes.join(" ")),
                ("pipeline", pipeline.to_string()),
                ("data", data),
                ("number of samples", samples.to_string()),
                ("cost", options.cost.to_string()),
                ("seed", options.seed.to_string()),
                ("device", options.device.to_string()),
            ],
        )
    }

    /// What is saved at `path` of the run that these items describe; nothing where there is no file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Checkpoint`] when it is none, or one of another run.
    pub fn open(path: &Path, run: &[(&str, String)]) -> Result<Checkpoint> {
        let run: Vec<(String, String)> = run
            .iter()
            .map(|(item, value)| (item.to_string(), value.clone()))
            .collect();
        let wrong = |what: String| Error::Checkpoint {
            path: path.to_path_buf(),
            what,
            help: "give the options of that run again, or remove the file to begin anew".into(),
        };
        // A device may have no end.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(wrong("it is no checkpoint: it is no file".into()));
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let notes = BTreeMap::new();
                return Ok(Checkpoint {
                    path: path.to_path_buf(),
                    header: Header { run, notes },
                    states: BTreeMap::new(),
                });
            }
            Err(source) => {
                return Err(Error::Io {
                    doing: "read",
                    path: path.to_path_buf(),
                    source,
                });
            }
        };
        let broken = |why: &dyn std::fmt::Display| wrong(format!("it is no checkpoint: {why}"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(&error))?;
        let header = metadata.metadata().as_ref();
        let header = header.and_then(|texts| texts.get(HEADER));
        let header = header.ok_or_else(|| broken(&"another program wrote it"))?;
        let header: Header = serde_json::from_str(header).map_err(|error| broken(&error))?;
        for (item, wanted) in &run {
            let found = header.run.iter().find(|(other, _)| other == item);
            let found = found.map_or("nothing", |(_, value)| value);
            if found != wanted {
                return Err(wrong(format!(
                    "it belongs to another run, whose {item} is {found}; here it is {wanted}"
                )));
            }
        }
        let mut states: BTreeMap<usize, State> = header
            .notes
            .iter()
            .map(|(pass, notes)| {
                (
                    *pass,
                    State {
                        notes: notes.clone(),
                        ..State::default()
                    },
                )
            })
            .collect();
        for (name, view) in SafeTensors::deserialize(&bytes)
            .map_err(|error| broken(&error))?
            .tensors()
        {
            let unknown = || broken(&format_args!("the tensor `{name}` is none of ours"));
            let (pass, own) = name.split_once('/').ok_or_else(unknown)?;
            let state = pass.parse().ok().and_then(|pass| states.get_mut(&pass));
            let dtype = DTYPES.iter().find(|(_, theirs)| *theirs == view.dtype());
            let (state, (dtype, _)) = state.zip(dtype).ok_or_else(unknown)?;
            let bytes = Bytes::new(Arc::new(view.data().to_vec()));
            let tensor = Tensor::new(*dtype, view.shape(), bytes).map_err(|why| broken(&why))?;
            state.tensors.insert(own.to_string(), tensor);
        }
        Ok(Checkpoint {
            path: path.to_path_buf(),
            header,
            states,
        })
    }

    /// Where the file is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a pass has saved anything.
    pub fn is_saved(&self) -> bool {
        !self.states.is_empty()
    }

    /// What the pass of this number saved.
    pub(super) fn state(&self, pass: usize) -> Option<&State> {
        self.states.get(&pass)
    }

    /// Removes what is saved at `path`, and what is left of a write that was broken off, if there is any.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn remove(path: &Path) -> Result<()> {
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        for path in [path, &part(&file)] {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Io {
                        doing: "remove",
                        path: path.to_path_buf(),
                        source,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces what the pass of this number saved, and the file, whole or not at all.
    pub(super) fn save(&mut self, pass: usize, state: State) -> Result<()> {
        let is_first = !self.is_saved();
        self.header.notes.insert(pass, state.notes.clone());
        self.states.insert(pass, state);
        let wrong = |why: String| Error::Checkpoint {
            path: self.path.clone(),
            what: format!("it cannot be written: {why}"),
            help: format!(
                "make room for it, or name another place with --checkpoint{}",
                if is_first {
                    ""
                } else {
                    "; what was saved before is still there"
                }
            ),
        };
        let mut tensors = Vec::new();
        for (pass, state) in &self.states {
            let named = state.tensors.iter();
            tensors.extend(named.map(|(name, t)| (format!("{pass}/{name}"), t, t.bytes())));
        }
        let mut views = Vec::with_capacity(tensors.len());
        for (name, tensor, bytes) in &tensors {
            let dtype = DTYPES.iter().find(|(ours, _)| *ours == tensor.dtype());
            let dtype = dtype.map_or(Dtype::U8, |(_, theirs)| *theirs); // All are there.
            let view = TensorView::new(dtype, tensor.shape().to_vec(), bytes);
            views.push((name, view.map_err(|error| wrong(error.to_string()))?));
        }
        let header = serde_json::to_string(&self.header).map_err(|e| wrong(e.to_string()))?;
        let metadata = HashMap::from([(HEADER.to_string(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata));
        let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
        replace(&self.path, &bytes).map_err(|error| wrong(error.to_string()))
    }
}

/// Where the file at `path` is written before it takes that name. It always has the same name, and not one of its own: the run
/// that goes on where one was killed writes over what that left.
fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Replaces the file at `path`, which stays as it was if that fails.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link is written through, not replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let part = part(path);
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // Of room that there is too little of it takes the rest.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Samples that tell data of the same name apart.
const FINGERPRINT: usize = 16;

fn hash(what: &impl Hash) -> String {
    let mut hasher = rustc_hash::FxHasher::default();
    what.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

const DTYPES: [(DType, Dtype); 10] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U8, Dtype::U8),
    (DType::Bool, Dtype::BOOL),
];
