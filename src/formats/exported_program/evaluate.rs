//! What some of PyTorch's operators compute that the IR does not have: look-ups, masks and comparisons, as language models use
//! them. Only what samples say depends on it, so that the graph stays as it is.

use std::fmt;

use ndarray::{ArrayD, Axis, IxDyn, Zip};
use serde_json::Value as Json;

use super::numbers::float;
use super::opaque::Place;
use super::schema::tagged;
use crate::exec::{Foreign, Operand, broadcast_shape, element_count};
use crate::formats::sizes::positions;
use crate::formats::words::among;
use crate::ir::{DType, Dialect, Opaque, Tensor};

/// The operators, run here.
pub(crate) struct Operators;

/// Their names, up to what follows a dot.
const KNOWN: &str = "
    embedding arange ones zeros full new_ones new_zeros ge gt le lt eq ne __and__ __or__ bitwise_and bitwise_or logical_and
    logical_or logical_not bitwise_not index where masked_fill linalg_vector_norm";

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title())
    }
}

impl Foreign for Operators {
    fn title(&self) -> String {
        "its operators for PyTorch".to_string()
    }

    fn knows(&self, opaque: &Opaque) -> bool {
        opaque.dialect == Dialect::ExportedProgram && among(KNOWN, short(&opaque.name))
    }

    fn run(
        &self,
        opaque: &Opaque,
        sizes: &[i64],
        operands: &[Operand],
    ) -> Result<Vec<Tensor>, String> {
        let json: Json = serde_json::from_str(&opaque.template).map_err(|e| e.to_string())?;
        let call = Call {
            name: short(&opaque.name),
            inputs: json.get("inputs").and_then(Json::as_array).cloned(),
            sizes,
            operands,
        };
        let result = call
            .run()
            .map_err(|what| format!("{}: {what}", opaque.name))?;
        let dtype = opaque.outputs.first().and_then(|ty| ty.dtype());
        let dtype = dtype.ok_or("the type of its result is unknown")?;
        let shape = result.shape().to_vec();
        Ok(vec![Tensor::from_f64(dtype, &shape, result)])
    }
}

/// `embedding` of `aten::embedding.default`.
fn short(name: &str) -> &str {
    let name = name.rsplit_once("::").map_or(name, |(_, name)| name);
    name.split('.').next().unwrap_or(name)
}

/// A node with numbers for all that it reads.
struct Call<'c> {
    name: &'c str,
    inputs: Option<Vec<Json>>,
    sizes: &'c [i64],
    operands: &'c [Operand],
}

impl Call<'_> {
    fn run(&self) -> Result<ArrayD<f64>, String> {
        match self.name {
            "embedding" => rows(&self.tensor("weight")?, &[self.tensor("indices")?]),
            "index" => rows(&self.tensor("self")?, &self.tensors("indices")?),
            "arange" => {
                let end = self.number("end")?.max(0.0) as usize;
                element_count::<f64>(&[end])?;
                Ok(ArrayD::from_shape_fn(vec![end], |at| at[0] as f64))
            }
            "ones" | "new_ones" => self.filled(1.0),
            "zeros" | "new_zeros" => self.filled(0.0),
            "full" => self.filled(self.number("fill_value")?),
            "logical_not" | "bitwise_not" => Ok(self.tensor("self")?.mapv(|x| truth(x == 0.0))),
            "where" => {
                let condition = self.tensor("condition")?;
                let (a, b) = (self.value("self")?, self.value("other")?);
                let shape = common(common(condition.shape(), a.shape())?.as_slice(), b.shape())?;
                let [condition, a, b] = [&condition, &a, &b].map(|x| spread(x, &shape));
                select(&condition?, &a?, &b?)
            }
            "masked_fill" => {
                let (x, mask) = (self.tensor("self")?, self.tensor("mask")?);
                let value = self.value("value")?;
                let shape = common(x.shape(), mask.shape())?;
                select(
                    &spread(&mask, &shape)?,
                    &spread(&value, &shape)?,
                    &spread(&x, &shape)?,
                )
            }
            "linalg_vector_norm" => self.norm(),
            name => self.two(name),
        }
    }

    /// A function of two truth values or numbers.
    fn two(&self, name: &str) -> Result<ArrayD<f64>, String> {
        let function: fn(f64, f64) -> bool = match name {
            "ge" => |a, b| a >= b,
            "gt" => |a, b| a > b,
            "le" => |a, b| a <= b,
            "lt" => |a, b| a < b,
            "eq" => |a, b| a == b,
            "ne" => |a, b| a != b,
            "__and__" | "bitwise_and" | "logical_and" => |a, b| a != 0.0 && b != 0.0,
            "__or__" | "bitwise_or" | "logical_or" => |a, b| a != 0.0 || b != 0.0,
            _ => return Err("it is not known".into()),
        };
        let bits = name.starts_with('_') || name.starts_with("bitwise");
        if bits
            && self
                .operands
                .iter()
                .any(|x| x.tensor.dtype() != DType::Bool)
        {
            return Err("it is for truth values only".into());
        }
        let (a, b) = (self.value("self")?, self.value("other")?);
        let shape = common(a.shape(), b.shape())?;
        let (a, b) = (spread(&a, &shape)?, spread(&b, &shape)?);
        Ok(Zip::from(&a)
            .and(&b)
            .map_collect(|a, b| truth(function(*a, *b))))
    }

    fn norm(&self) -> Result<ArrayD<f64>, String> {
        let x = self.tensor("self")?;
        if self.number("ord").unwrap_or(2.0) != 2.0 {
            return Err("only the Euclidean norm is known".into());
        }
        let dims = match self.argument("dim") {
            Some(arg) => self.list(arg)?,
            None => (0..x.ndim() as i64).collect(),
        };
        let keep = self.argument("keepdim").and_then(tagged);
        let keep = keep.and_then(|(_, keep)| keep.as_bool()).unwrap_or(false);
        let mut axes = positions(&dims, x.ndim()).ok_or("there is no such axis")?;
        axes.sort_unstable();
        axes.dedup();
        let mut sums = x.mapv(|x| x * x);
        for axis in axes.iter().rev() {
            sums = sums.sum_axis(Axis(*axis));
            if keep {
                sums = sums.insert_axis(Axis(*axis));
            }
        }
        Ok(sums.mapv(f64::sqrt))
    }

    fn filled(&self, number: f64) -> Result<ArrayD<f64>, String> {
        let sizes = self.argument("size").ok_or("there is no size")?;
        let shape = self.list(sizes)?;
        let shape: Vec<usize> = { shape.iter() }
            .map(|n| usize::try_from(*n).map_err(|_| format!("a size is {n}")))
            .collect::<Result<_, _>>()?;
        element_count::<f64>(&shape)?;
        Ok(ArrayD::from_elem(shape, number))
    }

    fn argument(&self, name: &str) -> Option<&Json> {
        let mut inputs = self.inputs.iter().flatten();
        let named = |input: &&Json| input.get("name").and_then(Json::as_str) == Some(name);
        inputs.find(named)?.get("arg")
    }

    fn tensor(&self, name: &str) -> Result<ArrayD<f64>, String> {
        let argument = self.argument(name).ok_or(format!("there is no {name}"))?;
        self.operand(argument)
    }

    /// What a tensor's name stands for.
    fn operand(&self, argument: &Json) -> Result<ArrayD<f64>, String> {
        let within = tagged(argument).and_then(|(_, content)| content.get("name"));
        let name = argument.get("name").or(within).and_then(Json::as_str);
        let Some(Place::Operand(at)) = name.and_then(Place::parse) else {
            return Err("an argument is no tensor".into());
        };
        let operand = self.operands.get(at).ok_or("an operand is missing")?;
        let elements = operand.tensor.elements::<f64>().into_owned();
        ArrayD::from_shape_vec(operand.tensor.shape(), elements).map_err(|e| e.to_string())
    }

    fn tensors(&self, name: &str) -> Result<Vec<ArrayD<f64>>, String> {
        let argument = self.argument(name).and_then(tagged);
        let (_, items) = argument.ok_or(format!("there is no {name}"))?;
        let items = items.as_array().ok_or("it is no list")?;
        items.iter().map(|item| self.operand(item)).collect()
    }

    /// A tensor, or a number.
    fn value(&self, name: &str) -> Result<ArrayD<f64>, String> {
        let tensor = self.argument(name).and_then(tagged);
        match tensor {
            Some(("as_tensor", _)) => self.tensor(name),
            _ => Ok(ArrayD::from_elem(vec![], self.number(name)?)),
        }
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        let argument = self.argument(name).ok_or(format!("there is no {name}"))?;
        self.number_of(argument)
            .ok_or(format!("{name} is no number"))
    }

    fn number_of(&self, argument: &Json) -> Option<f64> {
        let place = |text: &str| match Place::parse(text)? {
            Place::Size(at) => self.sizes.get(at).map(|n| *n as f64),
            _ => None,
        };
        match tagged(argument) {
            Some(("as_int", n)) => n.as_i64().map(|n| n as f64),
            Some(("as_float", x)) => float(x),
            Some(("as_bool", b)) => b.as_bool().map(|b| f64::from(u8::from(b))),
            Some(("as_name", name)) => place(name.as_str()?),
            Some((_, inner)) => self.number_of(inner),
            None => argument.as_i64().map(|n| n as f64),
        }
    }

    fn list(&self, argument: &Json) -> Result<Vec<i64>, String> {
        let (_, items) = tagged(argument).ok_or("a list is of no kind")?;
        let items = items.as_array().ok_or("it is no list")?;
        let numbers = items.iter().map(|item| self.number_of(item));
        let numbers = numbers.map(|n| {
            n.map(|n| n as i64)
                .ok_or("an item is no number".to_string())
        });
        numbers.collect()
    }
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// The shape that both are broadcast to.
fn common(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let shape = broadcast_shape(a, b)?;
    element_count::<f64>(&shape)?;
    Ok(shape)
}

fn spread(x: &ArrayD<f64>, shape: &[usize]) -> Result<ArrayD<f64>, String> {
    let all = x.broadcast(IxDyn(shape));
    all.map(|all| all.to_owned())
        .ok_or_else(|| format!("{:?} does not go to {shape:?}", x.shape()))
}

fn select(
    condition: &ArrayD<f64>,
    a: &ArrayD<f64>,
    b: &ArrayD<f64>,
) -> Result<ArrayD<f64>, String> {
    let choose = |c: &f64, a: &f64, b: &f64| if *c != 0.0 { *a } else { *b };
    Ok(Zip::from(condition).and(a).and(b).map_collect(choose))
}

/// What stands in a table at some places, whose first axes the indices are for.
fn rows(table: &ArrayD<f64>, indices: &[ArrayD<f64>]) -> Result<ArrayD<f64>, String> {
    let Some((first, others)) = indices.split_first() else {
        return Err("there are no indices".into());
    };
    if indices.len() > table.ndim() {
        return Err("there are too many indices".into());
    }
    let mut shape = first.shape().to_vec();
    for other in others {
        shape = common(&shape, other.shape())?;
    }
    let indices: Vec<ArrayD<f64>> = { indices.iter() }
        .map(|index| spread(index, &shape))
        .collect::<Result<_, _>>()?;
    let (places, inner) = table.shape().split_at(indices.len());
    let length: usize = inner.iter().product();
    let all = [&shape[..], inner].concat();
    let mut found = Vec::with_capacity(element_count::<f64>(&all)?);
    let table = table.as_standard_layout();
    let elements = table.as_slice().unwrap_or_default();
    for at in ndarray::indices(IxDyn(&shape)) {
        let mut row = 0usize;
        for (index, n) in indices.iter().zip(places) {
            let at = index[&at];
            let at = if at < 0.0 { at + *n as f64 } else { at };
            if !(0.0..*n as f64).contains(&at) {
                return Err(format!("the index {at} is outside of {n} rows"));
            }
            row = row * n + at as usize;
        }
        found.extend_from_slice(&elements[row * length..(row + 1) * length]);
    }
    ArrayD::from_shape_vec(all, found).map_err(|error| error.to_string())
}
