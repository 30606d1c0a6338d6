//! Operators that optc does not know, run by a runtime that does.
//!
//! The interpreter holds all numbers in one floating-point type. What a foreign operator returns in another type is kept beside
//! that as it is, so that the next one gets indices and truth values as they were.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::array::{Array, element_count};
use super::evaluate::number;
use crate::data::Samples;
use crate::ir::{Bindings, DType, Dim, Graph, NodeId, Op, Opaque, Tensor, Type, Value};

/// What runs operators that optc does not know.
pub trait Foreign: fmt::Debug + Send + Sync {
    /// Its name and version, for reports.
    fn title(&self) -> String;

    /// Whether it knows such operators.
    fn knows(&self, opaque: &Opaque) -> bool;

    /// The results of an operator, whose [sizes](Opaque::sizes) have these numbers.
    ///
    /// # Errors
    /// Why it cannot be run.
    fn run(
        &self,
        opaque: &Opaque,
        sizes: &[i64],
        operands: &[Operand],
    ) -> Result<Vec<Tensor>, String>;
}

/// An operand of a foreign operator.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Its elements.
    pub tensor: Tensor,
    /// Whether they are the same in each run.
    pub constant: bool,
}

/// Samples to run a network on, and what runs the operators that optc does not know.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The samples.
    pub samples: Arc<Samples>,
    /// `None` where there is nothing, or no need.
    pub foreign: Option<Arc<dyn Foreign>>,
    /// How many bytes of activations stay in memory at most, while they wait; more do in a temporary file.
    pub in_memory: usize,
}

impl Sampled {
    /// How many bytes of activations stay in memory at most, if nothing else is said.
    pub(crate) const IN_MEMORY: usize = 512 << 20;
}

impl From<Samples> for Sampled {
    fn from(samples: Samples) -> Sampled {
        Sampled {
            samples: samples.into(),
            foreign: None,
            in_memory: Sampled::IN_MEMORY,
        }
    }
}

/// The names of operators that neither optc nor `foreign` knows, each once.
pub fn unknown_operators(graph: &Graph, foreign: Option<&dyn Foreign>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for node in graph.nodes() {
        if let Some(Op::Opaque(opaque)) = graph.op(node)
            && !foreign.is_some_and(|foreign| foreign.knows(opaque))
            && !names.iter().any(|name| *name == *opaque.name)
        {
            names.push(opaque.name.to_string());
        }
    }
    names
}

/// What foreign operators returned in one run of a network.
#[derive(Debug, Default)]
pub(super) struct Returned(FxHashMap<Value, Tensor>);

impl Returned {
    /// Forgets a value that nobody reads any more.
    pub(super) fn forget(&mut self, value: Value) {
        self.0.remove(&value);
    }

    /// Takes a value from another run.
    pub(super) fn copy(&mut self, from: &Returned, value: Value) {
        if let Some(tensor) = from.0.get(&value) {
            self.0.insert(value, tensor.clone());
        }
    }

    /// Runs a node that optc does not know. Sizes that only it tells get their numbers.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub(super) fn run<'a>(
        &mut self,
        graph: &Graph,
        node: NodeId,
        operands: &[Array<'_, f32>],
        bindings: &mut Bindings,
        foreign: Option<&dyn Foreign>,
    ) -> Result<Vec<Array<'a, f32>>, String> {
        let Some(Op::Opaque(opaque)) = graph.op(node) else {
            return Err("it is no foreign operator".into());
        };
        let Some(foreign) = foreign.filter(|foreign| foreign.knows(opaque)) else {
            return Err(format!(
                "optc does not know what the operator {} computes",
                opaque.name
            ));
        };
        let values = graph.operands(node);
        let operands: Vec<Operand> = { values.iter().zip(operands) }
            .map(|(value, array)| self.operand(graph, *value, array))
            .collect();
        let sizes = opaque.sizes.iter().map(|dim| number(dim, bindings));
        let sizes: Vec<i64> = sizes.collect::<Result<_, _>>()?;
        let results = foreign.run(opaque, &sizes, &operands)?;
        let mut arrays = Vec::with_capacity(results.len());
        for (port, tensor) in results.into_iter().enumerate() {
            let value = Value {
                node,
                port: port as u32,
            };
            learn(graph, value, tensor.shape(), bindings);
            element_count::<f32>(tensor.shape())?;
            let elements = tensor.elements::<f32>().into_owned();
            let array = ArrayD::from_shape_vec(tensor.shape(), elements);
            arrays.push(Array::from(array.map_err(|error| error.to_string())?));
            if tensor.dtype() != DType::F32 {
                self.0.insert(value, tensor);
            }
        }
        Ok(arrays)
    }

    /// An array in the type that the value has.
    fn operand(&self, graph: &Graph, value: Value, array: &Array<'_, f32>) -> Operand {
        let constant = graph.constant(value.node);
        let known = constant.map(|constant| &constant.tensor);
        if let Some(tensor) = known.or_else(|| self.0.get(&value)) {
            return Operand {
                tensor: tensor.clone(),
                constant: constant.is_some(),
            };
        }
        let dtype = graph.ty(value).dtype().unwrap_or(DType::F32);
        let array = array.contiguous();
        let tensor = match dtype {
            DType::F32 => Tensor::from_vec(array.shape(), array.iter().copied().collect()),
            dtype => {
                let elements = array.iter().map(|x| f64::from(*x));
                Tensor::from_f64(dtype, array.shape(), elements)
            }
        };
        Operand {
            tensor,
            constant: false,
        }
    }
}

/// Gives symbols that no input tells the numbers that a result has.
pub(super) fn learn(graph: &Graph, value: Value, shape: &[usize], bindings: &mut Bindings) {
    let ty = graph.node(value.node).outputs.get(value.port as usize);
    let Some(dims) = ty
        .and_then(Type::shape)
        .filter(|dims| dims.len() == shape.len())
    else {
        return;
    };
    let of_inputs: SmallVec<[&Dim; 8]> = { graph.inputs().iter() }
        .filter_map(|input| graph.ty((*input).into()).shape())
        .flatten()
        .collect();
    for (dim, n) in dims.iter().zip(shape) {
        if let (Some(symbol), Ok(n)) = (dim.as_symbol(), i64::try_from(*n))
            && !of_inputs.contains(&dim)
        {
            bindings.insert(symbol.clone(), n);
        }
    }
}
