//! The names of values: those of constants make them weights of the file.

use super::{Weight, Writer};
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::formats::onnx::kept::Form;
use crate::formats::onnx::tensor;
use crate::ir::{DType, Tensor, Value};

impl Writer<'_> {
    /// The name of a value.
    pub fn value(&mut self, value: Value) -> Result<String, OnnxError> {
        if let Some(name) = self.names.get(&value) {
            return Ok(name.clone());
        }
        self.formed(value, Form::AsIs)
    }

    /// The names of several values.
    pub fn values(&mut self, values: &[Value]) -> Result<Vec<String>, OnnxError> {
        values.iter().map(|value| self.value(*value)).collect()
    }

    /// The name of the transpose of a constant matrix.
    pub fn transposed(&mut self, value: Value) -> Result<String, OnnxError> {
        self.formed(value, Form::Transposed)
    }

    /// The name of a constant under another shape.
    pub fn reshaped(&mut self, value: Value, shape: &[usize]) -> Result<String, OnnxError> {
        match self.graph.constant(value.node) {
            Some(constant) if constant.tensor.shape() == shape => self.formed(value, Form::AsIs),
            _ => self.formed(value, Form::Reshaped(shape.to_vec())),
        }
    }

    fn formed(&mut self, value: Value, form: Form) -> Result<String, OnnxError> {
        let node = self.graph.node(value.node);
        let Some(constant) = self.graph.constant(value.node) else {
            let what = format!("`{}` is read before it is computed", node.name);
            return Err(OnnxError::unwritable(what, MISTAKE));
        };
        let known = self.forms.get(&value.node);
        if let Some(name) = known.and_then(|forms| forms.get(&form)) {
            return Ok(name.clone());
        }
        if let Some(name) = self.original(value.node, &form)? {
            return Ok(name);
        }
        let origin = self.origin(value.node).filter(|(of, _)| *of == node.name);
        let as_in_file = origin.is_some_and(|(_, own)| *own == form);
        // In another layout the name stays free for what has it in the file, if somebody may read that.
        let free = origin.is_none() || as_in_file || !self.needed.contains(&*node.name);
        let first = !self.forms.contains_key(&value.node) && free;
        let name = if first {
            self.claim(&node.name)
        } else {
            self.fresh(&node.name)
        };
        let tensor = &constant.tensor;
        let tensor = match &form {
            Form::AsIs => Ok(tensor.clone()),
            Form::Reshaped(shape) => tensor.reshaped(shape).map_err(String::from),
            Form::Transposed => tensor
                .transposed()
                .ok_or_else(|| format!("`{}` is no matrix", node.name)),
        };
        let tensor = tensor.map_err(|what| OnnxError::unwritable(what, MISTAKE))?;
        self.store(&name, tensor, first);
        if name == *node.name {
            let names = if as_in_file {
                &mut self.given
            } else {
                &mut self.claimed
            };
            names.insert(name.clone());
        }
        let forms = self.forms.entry(value.node).or_default();
        forms.insert(form, name.clone());
        Ok(name)
    }

    /// A constant that is no weight: the same for all that need the same.
    pub fn literal(&mut self, tensor: Tensor) -> String {
        let key = (
            tensor.dtype(),
            tensor.shape().to_vec(),
            tensor.bytes().into_owned(),
        );
        if let Some(name) = self.literals.get(&key) {
            return name.clone();
        }
        let name = self.fresh("constant");
        let header = tensor::header(&name, &tensor);
        let data = Some(tensor);
        self.weights.push(Weight { header, data });
        self.literals.insert(key, name.clone());
        name
    }

    /// A number without dimensions.
    pub fn scalar(&mut self, x: f64, dtype: DType) -> String {
        self.literal(Tensor::from_f64(dtype, &[], [x]))
    }

    /// A list of whole numbers.
    pub fn int_list(&mut self, ints: impl IntoIterator<Item = i64>) -> String {
        let ints: Vec<i64> = ints.into_iter().collect();
        let tensor = tensor::of_ints(&[ints.len()], &ints);
        tensor.map_or_else(String::new, |tensor| self.literal(tensor))
    }
}
