//! A file of statistics: what layers read, as it was measured in one run and is read in the next ones on the same model and data.
//!
//! It is a safetensors file of `f64` arrays. Its header says whose statistics these are, item by item, so that those of another
//! model or of other samples are refused by the name of what differs. An array's name begins with a hash of the network that was
//! measured: exact passes may have changed it before, and what they leave is looked up as it is.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use faer::Mat;
use rustc_hash::{FxHashMap, FxHasher};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::analysis::calibration::PatchMoments;
use crate::analysis::kernels::KernelLayout;
use crate::data::Samples;
use crate::error::FormatError;
use crate::files::{MappedFile, write_whole};
use crate::ir::{DType, Graph, NodeId, Tensor};
use crate::{Error, Result};

/// Where the header is in the file's own.
const HEADER: &str = "optc";

/// What is known of the layers of one model by one set of samples.
#[derive(Debug)]
pub(crate) struct StatisticsFile {
    path: PathBuf,
    /// Whose statistics these are.
    of: BTreeMap<String, String>,
    arrays: BTreeMap<String, Tensor>,
}

impl StatisticsFile {
    /// What is in the file at `path` of this model and these samples; nothing where there is no file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Data`] when it holds no statistics, or others.
    pub(super) fn open(path: &Path, model: &Graph, samples: &Samples) -> Result<StatisticsFile> {
        let mut file = StatisticsFile {
            path: path.to_path_buf(),
            of: whose(model, samples),
            arrays: BTreeMap::new(),
        };
        // What is no file may have no end.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(file.wrong("it is no file"));
        }
        let bytes = match MappedFile::open(path) {
            Ok(bytes) => bytes,
            Err(FormatError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(file);
            }
            Err(error) => return Err(Error::format(path, error)),
        };
        let broken = |error| file.wrong(&format!("it holds no statistics: {error}"));
        let (_, metadata) = SafeTensors::read_metadata(bytes.as_ref()).map_err(broken)?;
        let header = metadata.metadata().as_ref();
        let header = header.and_then(|texts| serde_json::from_str(texts.get(HEADER)?).ok());
        let header: BTreeMap<String, String> =
            header.ok_or_else(|| file.wrong("it holds no statistics: another program wrote it"))?;
        for (item, wanted) in &file.of {
            let found = header.get(item).map_or("nothing", String::as_str);
            if found != wanted {
                let what = format!("its statistics are those of another {item}: ");
                return Err(file.wrong(&format!("{what}{found}, and here it is {wanted}")));
            }
        }
        let start = bytes.as_ref().as_ptr() as usize;
        let mut arrays = BTreeMap::new();
        let tensors = SafeTensors::deserialize(bytes.as_ref()).map_err(broken)?;
        for (name, view) in tensors.tensors() {
            // It stays where it lies in the file.
            let at = view.data().as_ptr() as usize - start;
            let stretch = bytes.slice(at..at + view.data().len());
            let stretch = stretch.filter(|_| view.dtype() == Dtype::F64);
            let array = stretch.and_then(|bytes| Tensor::new(DType::F64, view.shape(), bytes).ok());
            let array = array.ok_or_else(|| file.wrong(&format!("`{name}` is no array of f64")))?;
            arrays.insert(name, array);
        }
        file.arrays = arrays;
        Ok(file)
    }

    /// Where the file is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What [`patch_moments`](crate::analysis::calibration::patch_moments) would measure; `None` where the file has not all of it.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is damaged.
    pub(crate) fn read(
        &self,
        graph: &Graph,
        layers: &[(NodeId, KernelLayout)],
        most_joint: usize,
    ) -> Result<Option<FxHashMap<NodeId, PatchMoments>>> {
        let key = key(graph);
        let of = |(node, layout): &(NodeId, KernelLayout)| {
            let found = self.layer(&key(*node), layout, most_joint)?;
            Ok(found.map(|moments| (*node, moments)))
        };
        layers.iter().map(of).collect()
    }

    /// Adds what was measured, and writes the file anew, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub(crate) fn keep(
        &mut self,
        graph: &Graph,
        measured: &FxHashMap<NodeId, PatchMoments>,
    ) -> Result<()> {
        let key = key(graph);
        for (node, moments) in measured {
            self.add(&key(*node), moments);
        }
        self.write()
    }

    /// The moments of a layer; `None` where they are not there as they would be measured.
    fn layer(
        &self,
        key: &str,
        layout: &KernelLayout,
        most_joint: usize,
    ) -> Result<Option<PatchMoments>> {
        let (inputs, taps) = (layout.inputs, layout.taps);
        let all = inputs * taps;
        let is_joint = layout.groups == 1 && all <= most_joint;
        let joint = self.arrays.get(&format!("{key}/joint"));
        if !self.arrays.contains_key(&format!("{key}/mean")) || joint.is_some() != is_joint {
            return Ok(None);
        }
        let covariance = self.elements(key, "covariance", &[inputs, taps, taps])?;
        Ok(Some(PatchMoments {
            mean: self.elements(key, "mean", &[all])?,
            covariance: covariance
                .chunks_exact((taps * taps).max(1))
                .map(|elements| square(elements, taps))
                .collect(),
            joint: match joint {
                Some(_) => Some(square(&self.elements(key, "joint", &[all, all])?, all)),
                None => None,
            },
            count: self.elements(key, "count", &[1])?[0],
        }))
    }

    /// The elements of an array that has to be there, of this shape.
    fn elements(&self, key: &str, what: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let name = format!("{key}/{what}");
        let array = self.arrays.get(&name);
        let array = array.filter(|array| array.shape() == shape && !array.has_non_finite());
        let array = array.ok_or_else(|| {
            self.wrong(&format!(
                "`{name}` is damaged: it is no array of {shape:?} numbers"
            ))
        })?;
        Ok(array.elements::<f64>().into_owned())
    }

    fn add(&mut self, key: &str, moments: &PatchMoments) {
        let mut add = |what: &str, shape: &[usize], elements: Vec<f64>| {
            let array = Tensor::from_f64(DType::F64, shape, elements);
            self.arrays.insert(format!("{key}/{what}"), array);
        };
        let taps = moments.covariance.first().map_or(0, Mat::nrows);
        let all = moments.covariance.iter().flat_map(elements).collect();
        add("covariance", &[moments.covariance.len(), taps, taps], all);
        add("mean", &[moments.mean.len()], moments.mean.clone());
        add("count", &[1], vec![moments.count]);
        if let Some(joint) = &moments.joint {
            add(
                "joint",
                &[joint.nrows(), joint.ncols()],
                elements(joint).collect(),
            );
        }
    }

    fn write(&self) -> Result<()> {
        let refused = |source| Error::Io {
            doing: "write",
            path: self.path.clone(),
            source,
        };
        let bytes = self
            .arrays
            .iter()
            .map(|(name, array)| (name, array, array.bytes()));
        let bytes: Vec<_> = bytes.collect();
        let views = bytes.iter().map(|(name, array, bytes)| {
            TensorView::new(Dtype::F64, array.shape().to_vec(), bytes).map(|view| (*name, view))
        });
        let views: Result<Vec<_>, _> = views.collect();
        let header = serde_json::to_string(&self.of).map_err(|e| refused(e.into()))?;
        let header = HashMap::from([(HEADER.to_string(), header)]);
        let file = views.and_then(|views| safetensors::serialize(views, Some(header)));
        let file = file.map_err(|error| refused(io::Error::other(error)))?;
        write_whole(&self.path, |out| out.write_all(&file).map_err(refused))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Data {
            path: self.path.clone(),
            what: what.to_string(),
            help: "name another file with --statistics, or remove this one to measure anew".into(),
        }
    }
}

/// Under what names arrays of a layer are, in a network as it is.
fn key(graph: &Graph) -> impl Fn(NodeId) -> String {
    let network = hash_of(graph);
    move |node| format!("{network:016x}/{}", graph.node(node).name)
}

/// Rows of a square matrix.
fn square(elements: &[f64], n: usize) -> Mat<f64> {
    Mat::from_fn(n, n, |i, j| elements[i * n + j])
}

/// The elements of a matrix, row by row.
fn elements(matrix: &Mat<f64>) -> impl Iterator<Item = f64> + '_ {
    let at = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)));
    at.map(|at| matrix[at])
}

/// What statistics of a model by some samples are told from others by.
fn whose(model: &Graph, samples: &Samples) -> BTreeMap<String, String> {
    let mut hasher = FxHasher::default();
    for input in &samples.inputs {
        (&input.name, input.whole).hash(&mut hasher);
        let all = input.samples.iter();
        all.for_each(|sample| hasher.write_u64(sample.content_hash()));
    }
    let samples = samples.len();
    let items = [
        ("version of optc", env!("CARGO_PKG_VERSION").to_string()),
        ("model", format!("#{:016x}", hash_of(model))),
        (
            "set of samples",
            format!("{samples} of #{:016x}", hasher.finish()),
        ),
    ];
    items.map(|(item, what)| (item.to_string(), what)).into()
}

/// A hash of a network, its weights, and the sizes that are known of it.
fn hash_of(graph: &Graph) -> u64 {
    let mut hasher = FxHasher::default();
    graph.to_string().hash(&mut hasher);
    // In the text there is less of their hashes.
    for constant in graph.nodes().filter_map(|node| graph.constant(node)) {
        hasher.write_u64(constant.tensor.content_hash());
    }
    let mut sizes: Vec<_> = graph.bindings.iter().collect();
    sizes.sort();
    sizes.hash(&mut hasher);
    let defaults = graph.defaults.iter();
    let mut defaults: Vec<_> = defaults.map(|(name, x)| (name, x.content_hash())).collect();
    defaults.sort();
    defaults.hash(&mut hasher);
    hasher.finish()
}
