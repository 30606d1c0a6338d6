//! ONNX's operators that optc does not know, each run by ONNX Runtime as a model of its own.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::builder::GraphOptimizationLevel;
use rustc_hash::FxHashMap;

use super::onnxruntime::{Open, one_line};
use super::runtime::Session;
use crate::exec::{Foreign, Operand};
use crate::formats::onnx::{Source, single};
use crate::ir::{DType, Dialect, Opaque, Tensor};
use crate::profile::onnxruntime::{OnnxRuntime, find_library};
use crate::{Model, Result};

/// ONNX Runtime for single operators of one file.
pub struct Operators {
    runtime: OnnxRuntime,
    source: Arc<Source>,
    open: Mutex<FxHashMap<Key, Opened>>,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    template: Arc<str>,
    operands: Vec<(DType, usize, Option<Place>)>,
}

/// Where the elements of a constant are, and its shape.
type Place = ((usize, Range<usize>), Vec<usize>);

#[derive(Default)]
struct Opened {
    /// What nobody runs at the moment.
    idle: Vec<Open>,
    /// The constants that sessions have: while these are here, no others are in their place.
    #[allow(dead_code, reason = "kept, not read")]
    constants: Vec<Tensor>,
}

impl Operators {
    /// For the operators that optc does not know in `model`; `None` where there are none, or they are not ONNX's.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) when ONNX Runtime is not here; it says how to get it.
    pub fn of(model: &Model) -> Result<Option<Operators>> {
        let Some(source) = model.onnx_source() else {
            return Ok(None);
        };
        Ok(Some(Operators {
            // One thread each: results then do not depend on how many there are.
            runtime: OnnxRuntime::load(&find_library()?, 1)?,
            source,
            open: Mutex::default(),
        }))
    }

    fn open(&self, opaque: &Opaque, operands: &[Operand]) -> Result<Open, String> {
        let each = operands.iter().map(|operand| {
            let tensor = &operand.tensor;
            let constant = operand.constant.then_some(tensor);
            (tensor.dtype(), tensor.shape().len(), constant)
        });
        let each: Vec<_> = each.collect();
        let bytes = single::model(&self.source, opaque, &each)?;
        let said = |error: &dyn fmt::Display| one_line(&error.to_string());
        let level = GraphOptimizationLevel::All;
        let mut builder = self.runtime.session(level).map_err(|e| said(&e))?;
        let session = builder.commit_from_memory(&bytes).map_err(|e| said(&e))?;
        Ok(Open(session))
    }

    fn take(&self, key: &Key) -> Option<Open> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_mut(key)?.idle.pop()
    }

    fn give_back(&self, key: Key, session: Open, operands: &[Operand]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = open.entry(key).or_default();
        if opened.constants.is_empty() {
            let constants = operands.iter().filter(|operand| operand.constant);
            opened.constants = constants.map(|operand| operand.tensor.clone()).collect();
        }
        opened.idle.push(session);
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title())
    }
}

impl Foreign for Operators {
    fn title(&self) -> String {
        format!("ONNX Runtime {}", self.runtime.version())
    }

    fn knows(&self, opaque: &Opaque) -> bool {
        opaque.dialect == Dialect::Onnx
    }

    fn run(&self, opaque: &Opaque, _: &[i64], operands: &[Operand]) -> Result<Vec<Tensor>, String> {
        let name = &opaque.name;
        let failed = |what: String| format!("{} and {name}: {what}", self.title());
        let each = operands.iter().map(|operand| {
            let tensor = &operand.tensor;
            let place = || (tensor.place(), tensor.shape().to_vec());
            (
                tensor.dtype(),
                tensor.shape().len(),
                operand.constant.then(place),
            )
        });
        let key = Key {
            template: opaque.template.clone(),
            operands: each.collect(),
        };
        let mut session = match self.take(&key) {
            Some(session) => session,
            None => self.open(opaque, operands).map_err(failed)?,
        };
        let fed: Vec<(String, Tensor)> = { operands.iter().enumerate() }
            .filter(|(_, operand)| !operand.constant)
            .map(|(at, operand)| (single::operand_name(at), operand.tensor.clone()))
            .collect();
        let mut outputs = session.run(&fed).map_err(failed)?;
        let count = opaque.outputs.len();
        let results = (0..count).map(|port| {
            let name = single::result_name(port);
            let mut outputs = outputs.iter_mut();
            let found = outputs.find(|output| output.name == name);
            let tensor = found.and_then(|output| output.tensor.take());
            tensor.ok_or_else(|| failed(format!("its result {port} is no array of numbers")))
        });
        let results = results.collect::<Result<_, _>>()?;
        self.give_back(key, session, operands);
        Ok(results)
    }
}
