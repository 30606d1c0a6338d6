//! The archive: which of its entries is what, and the tensors in it.

use std::cell::RefCell;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::numbers;
use super::read::DAMAGED;
use super::schema::{Payload, PayloadConfig, Program, STRIDED, TensorMeta, tagged};
use crate::error::FormatError;
use crate::files::archive::Archive;
use crate::formats::dtypes::called;
use crate::formats::pickle::{Object, Pickle};
use crate::formats::storage::{Geometry, Storages, check_byte_order};
use crate::ir::{DType, Tensor};

/// The schema's version that is read; fields that a later minor version adds are kept.
pub(super) const MAJOR: i64 = 8;

pub(super) const WEIGHTS: &str = "data/weights/";
pub(super) const CONSTANTS: &str = "data/constants/";
const MODELS: &str = "models/";
/// The program, where archives have no folders.
pub(super) const FLAT: &str = "serialized_exported_program.json";

/// How tensors and the program are kept in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// Each tensor as an entry, listed in a configuration for weights that has this word in its name.
    Entries { weights: &'static str },
    /// In folders, weights and constants as one archive of `torch.save` each: PyTorch 2.8.
    Saved,
    /// The same without folders: PyTorch 2.7 and earlier.
    Flat,
}

/// Whether an archive is what `torch.export.save` writes, or PyTorch's compiler in the same format.
pub(super) fn is_package(archive: &Archive) -> bool {
    archive.contains("archive_format")
        || archive.contains(FLAT)
        || model_names(archive).next().is_some()
}

/// The names of the programs in an archive.
fn model_names(archive: &Archive) -> impl Iterator<Item = &str> {
    let file = |name: &'_ str| -> Option<_> {
        name.strip_prefix(MODELS)?
            .strip_suffix(".json")
            .map(str::len)
    };
    archive.names().filter_map(move |name| {
        let length = file(name)?;
        Some(&name[MODELS.len()..MODELS.len() + length])
    })
}

/// An archive with one exported program.
pub(super) struct Package<'a> {
    archive: &'a Archive,
    pub container: Container,
    /// The program's name, usually `model`.
    pub model: String,
    pub program: Program,
    weights: Tensors,
    constants: Tensors,
    storages: Storages<'a>,
    /// Tensors that were read, so that those that are tied are one.
    read: RefCell<FxHashMap<Place, Tensor>>,
}

/// Tensors by their full names.
enum Tensors {
    Listed(PayloadConfig),
    Saved(IndexMap<String, Tensor>),
}

impl Tensors {
    fn names(&self) -> Vec<&str> {
        match self {
            Tensors::Listed(list) => list.config.keys().map(String::as_str).collect(),
            Tensors::Saved(tensors) => tensors.keys().map(String::as_str).collect(),
        }
    }
}

/// Where a tensor is, and how it lies there.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    entry: String,
    dtype: DType,
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

impl<'a> Package<'a> {
    pub fn open(archive: &'a Archive) -> Result<Self, FormatError> {
        if archive.contains_under("data/aotinductor/") {
            let what = "it holds code that AOTInductor compiled";
            return Err(refused(
                what,
                "the compiled code would not follow what passes change; save the program itself with torch.export.save, optimise \
                 that, and compile the result",
            ));
        }
        let mut names = model_names(archive);
        let model = match (names.next(), names.next()) {
            (Some(model), None) => model.to_owned(),
            (None, _) if archive.contains(FLAT) => "model".to_owned(),
            (None, _) => {
                return Err(FormatError::Missing {
                    entry: "`models/model.json`".to_owned(),
                });
            }
            (Some(_), Some(_)) => {
                return Err(refused(
                    "it holds several programs",
                    "save each of them to a file of its own",
                ));
            }
        };
        check_byte_order(archive, "data/weights/weight_0")?;
        let container = container(archive, &model);
        let entry = match container {
            Container::Flat => FLAT.to_owned(),
            _ => format!("{MODELS}{model}.json"),
        };
        let text = archive.read_text(&entry)?;
        let text = numbers::quoted(&text);
        check_version(&text, &entry)?;
        let program: Program = parse(&text, &entry)?;
        let [weights, constants] = container.lists(&model);
        let tensors = |entry: &str| match container {
            Container::Entries { .. } => {
                parse(&archive.read_text(entry)?, entry).map(Tensors::Listed)
            }
            _ => saved(archive, entry).map(Tensors::Saved),
        };
        let none = || Tensors::Saved(IndexMap::new());
        Ok(Package {
            archive,
            container,
            model,
            program,
            weights: tensors(&weights)?,
            constants: if archive.contains(&constants) {
                tensors(&constants)?
            } else {
                none()
            },
            storages: Storages::new(archive),
            read: RefCell::default(),
        })
    }

    /// The names of the state dict.
    pub fn weight_names(&self) -> Vec<&str> {
        self.weights.names()
    }

    /// The tensor of a name in the state dict, or of a constant.
    pub fn tensor(&self, name: &str, is_constant: bool) -> Result<Tensor, FormatError> {
        let both = [(WEIGHTS, &self.weights), (CONSTANTS, &self.constants)];
        // Where buffers that are not persistent are, has changed between versions.
        let order = if is_constant { [1, 0] } else { [0, 1] };
        for (folder, tensors) in order.map(|i| both[i]) {
            match tensors {
                Tensors::Listed(list) => {
                    if let Some(payload) = list.config.get(name) {
                        return self.payload(name, folder, payload);
                    }
                }
                Tensors::Saved(tensors) => {
                    if let Some(tensor) = tensors.get(name) {
                        return Ok(tensor.clone());
                    }
                }
            }
        }
        Err(FormatError::Missing {
            entry: format!("tensor `{name}`, which its graph reads"),
        })
    }

    fn payload(&self, name: &str, folder: &str, payload: &Payload) -> Result<Tensor, FormatError> {
        let unsupported = |kind: &str, help: &str| FormatError::TensorKind {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: help.to_owned(),
        };
        let meta = match &payload.tensor_meta {
            Some(meta) if !payload.use_pickle => meta,
            _ => {
                return Err(unsupported(
                    "a pickled object",
                    "make it an ordinary tensor before exporting",
                ));
            }
        };
        if meta.layout != STRIDED {
            return Err(unsupported(
                "sparse",
                "make it dense (to_dense()) before exporting",
            ));
        }
        let dtype = dtype(meta).ok_or_else(|| {
            unsupported(
                &format!("of type {}", dtype_name(meta.dtype)),
                "convert the model to float32 before exporting",
            )
        })?;
        let damaged = || FormatError::Program {
            what: format!("the sizes or strides of tensor `{name}` are no numbers of 0 or more"),
            at: format!("{folder}*_config.json"),
            help: "the file is damaged; save the model again".to_owned(),
        };
        let numbers = |list: &[Json]| list.iter().map(number).collect::<Option<Vec<u64>>>();
        let place = Place {
            entry: format!("{folder}{}", payload.path_name),
            dtype,
            offset: number(&meta.storage_offset).ok_or_else(damaged)?,
            shape: numbers(&meta.sizes).ok_or_else(damaged)?,
            strides: numbers(&meta.strides).ok_or_else(damaged)?,
        };
        if place.shape.len() != place.strides.len() {
            return Err(damaged());
        }
        if let Some(tensor) = self.read.borrow().get(&place) {
            return Ok(tensor.clone());
        }
        let geometry = Geometry {
            offset: place.offset,
            shape: &place.shape,
            strides: &place.strides,
        };
        let tensor = self.storages.tensor(&place.entry, dtype, geometry, name)?;
        self.read.borrow_mut().insert(place, tensor.clone());
        Ok(tensor)
    }

    /// The entries that are kept as they are: sample inputs and extra files.
    pub fn extra(&self) -> Result<Vec<(String, crate::ir::Bytes)>, FormatError> {
        let kept = |name: &&str| match self.container {
            Container::Flat => {
                name.starts_with("extra_files/")
                    || ["serialized_example_inputs.pt", "version"].contains(name)
            }
            _ => ["data/sample_inputs/", "extra/"]
                .iter()
                .any(|folder| name.starts_with(folder)),
        };
        let names: Vec<&str> = self.archive.names().filter(kept).collect();
        let read = |name: &str| Ok((name.to_owned(), self.archive.read(name)?));
        names.into_iter().map(read).collect()
    }
}

impl Container {
    /// The entries that list the weights and the constants, or are those.
    pub fn lists(self, model: &str) -> [String; 2] {
        match self {
            Container::Entries { weights } => [
                format!("{WEIGHTS}{model}_{weights}_config.json"),
                format!("{CONSTANTS}{model}_constants_config.json"),
            ],
            Container::Saved => [
                format!("{WEIGHTS}{model}.pt"),
                format!("{CONSTANTS}{model}.pt"),
            ],
            Container::Flat => {
                ["serialized_state_dict.pt", "serialized_constants.pt"].map(str::to_owned)
            }
        }
    }
}

fn container(archive: &Archive, model: &str) -> Container {
    let older = Container::Entries {
        weights: "model_param",
    };
    let known = [Container::Flat, Container::Saved, older].into_iter();
    let found = known.filter(|known| *known != Container::Flat || archive.contains(FLAT));
    let mut found = found.filter(|known| archive.contains(&known.lists(model)[0]));
    found
        .next()
        .unwrap_or(Container::Entries { weights: "weights" })
}

/// The tensors of a dictionary that `torch.save` wrote, an archive inside the archive.
fn saved(archive: &Archive, entry: &str) -> Result<IndexMap<String, Tensor>, FormatError> {
    let bytes = archive.read(entry)?;
    if bytes.as_ref().is_empty() {
        return Ok(IndexMap::new());
    }
    let inner = Archive::open(bytes)?;
    let pickle = Pickle::parse(&inner.read_text("data.pkl")?, &format!("{entry}/data.pkl"))?;
    let Object::Dict(items) = pickle.get(pickle.root()) else {
        return Err(FormatError::Program {
            what: "its tensors are no dictionary".to_owned(),
            at: entry.to_owned(),
            help: DAMAGED.to_owned(),
        });
    };
    let storages = Storages::new(&inner);
    let mut tensors = IndexMap::new();
    for &(key, value) in items {
        if let (Object::Str(name), Object::Tensor(tensor)) = (pickle.get(key), pickle.get(value)) {
            tensors.insert(name.to_string(), storages.pickled(tensor, "data", name)?);
        }
    }
    Ok(tensors)
}

/// Refuses what another major version of the schema means otherwise, before anything else is looked at.
fn check_version(text: &[u8], entry: &str) -> Result<(), FormatError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema_version: super::schema::Version,
    }
    let version = parse::<Versioned>(text, entry)?.schema_version;
    if version.major == MAJOR {
        return Ok(());
    }
    let (major, minor) = (version.major, version.minor);
    let help = if major > MAJOR {
        "export the model with an earlier PyTorch (2.6 to 2.15 write schema 8), or use a later optc"
    } else {
        "export the model again with PyTorch 2.6 or later"
    };
    Err(refused(
        &format!("it is of schema {major}.{minor}, and {MAJOR} is read"),
        help,
    ))
}

fn refused(what: &str, help: &str) -> FormatError {
    FormatError::Program {
        what: what.to_owned(),
        at: "the archive".to_owned(),
        help: help.to_owned(),
    }
}

fn parse<T: DeserializeOwned>(text: &[u8], entry: &str) -> Result<T, FormatError> {
    serde_json::from_slice(text).map_err(|error| FormatError::Json {
        entry: entry.to_owned(),
        detail: error.to_string(),
    })
}

/// The number in `{"as_int": 3}`, if it is 0 or more.
fn number(json: &Json) -> Option<u64> {
    match tagged(json)? {
        ("as_int", n) => n.as_u64(),
        _ => None,
    }
}

/// The element type of a tensor, if there is such a one.
pub(super) fn dtype(meta: &TensorMeta) -> Option<DType> {
    called(|names| names.program == meta.dtype)
}

/// PyTorch's name for an element type that there is not here.
pub(super) fn dtype_name(code: i64) -> String {
    let known = match code {
        9 => "complex32",
        10 => "complex64",
        11 => "complex128",
        28 => "uint16",
        29 => "float8_e4m3fn",
        30 => "float8_e5m2",
        31 => "float8_e4m3fnuz",
        32 => "float8_e5m2fnuz",
        _ => return format!("number {code}"),
    };
    known.to_owned()
}
