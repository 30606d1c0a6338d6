//! Tensors of the file, and the constants of the graph that they become.

use std::sync::Arc;

use super::Importer;
use crate::formats::onnx::content::Content;
use crate::formats::onnx::error::OnnxError;
use crate::formats::onnx::kept::Form;
use crate::formats::onnx::tensor;
use crate::formats::onnx::view::View;
use crate::ir::{Constant, DType, Role, Tensor, Value};

/// A tensor of the file: an initializer, or a `Constant`.
pub(in crate::formats::onnx) struct Weight<'m> {
    pub name: &'m str,
    pub tensor: Tensor,
    /// Its further names.
    aliases: Vec<Arc<str>>,
    /// The constants of the graph that it is, by shape and whether transposed.
    pub forms: Vec<(Form, Value)>,
}

impl<'m> Importer<'m> {
    /// Makes a tensor known, which becomes a constant when somebody reads it.
    pub fn weight(&mut self, name: &'m str, tensor: Tensor) {
        self.weight_names.insert(name, self.weights.len());
        self.weights.push(Weight {
            name,
            tensor,
            aliases: Vec::new(),
            forms: Vec::new(),
        });
    }

    /// Gives a weight another name: exporters say so by `Identity` that several layers have the same one.
    pub(super) fn alias(&mut self, view: &View<'m>) -> Option<()> {
        let (from, to) = (view.input(0)?, view.output(0)?);
        let at = *self.weight_names.get(from)?;
        let returned = self.returned.contains(to);
        if view.op() != "Identity" || returned {
            return None;
        }
        self.weight_names.insert(to, at);
        let weight = self.weights.get_mut(at)?;
        weight.aliases.push(to.into());
        // It may be there already, under its first name.
        let known = weight.forms.first().map(|(_, value)| value.node);
        if let Some(node) = known.filter(|_| weight.tensor.dtype().is_float()) {
            self.graph.add_aliases(node, [to.into()]);
        }
        Some(())
    }

    /// A `Constant` of a type that the graph has.
    pub(super) fn constant(&mut self, view: &View<'m>) -> Result<bool, OnnxError> {
        if view.op() != "Constant" || view.node.attribute.len() != 1 {
            return Ok(false);
        }
        let name = view.name();
        let found = if let Some(proto) = view.attribute("value").and_then(|a| a.t.as_deref()) {
            tensor::tensor(proto, name, None, &mut self.external)?
        } else if let Some(x) = view.attribute("value_float").and_then(|a| a.f) {
            Some(Tensor::from_f64(DType::F32, &[], [x.into()]))
        } else if let Some(attribute) = view.attribute("value_floats") {
            let values = attribute.floats.iter().map(|x| f64::from(*x));
            Some(Tensor::from_f64(DType::F32, &[values.len()], values))
        } else {
            match (view.attribute("value_int"), view.attribute("value_ints")) {
                (Some(attribute), _) => tensor::of_ints(&[], &[attribute.i()]),
                (_, Some(attribute)) => tensor::of_ints(&[attribute.ints.len()], &attribute.ints),
                _ => None,
            }
        };
        let Some(tensor) = found else {
            return Ok(false);
        };
        self.weight(name, tensor);
        Ok(true)
    }

    /// A tensor that a layer keeps beside its parameters, such as a running mean.
    pub fn buffer(&mut self, name: &str) -> Option<Value> {
        if let Some(value) = self.values.get(name) {
            return Some(*value);
        }
        self.formed(name, Form::AsIs, Some(Role::Buffer))
    }

    /// A matrix of the file, transposed.
    pub fn transposed(&mut self, name: &str) -> Option<Value> {
        self.formed(name, Form::Transposed, None)
    }

    /// A tensor of the file under another shape.
    pub fn reshaped(&mut self, name: &str, shape: &[usize]) -> Option<Value> {
        if self.tensor(name)?.shape() == shape {
            self.formed(name, Form::AsIs, None)
        } else {
            self.formed(name, Form::Reshaped(shape.to_vec()), None)
        }
    }

    pub(super) fn formed(&mut self, name: &str, form: Form, role: Option<Role>) -> Option<Value> {
        let at = *self.weight_names.get(name)?;
        let weight = self.weights.get(at)?;
        if let Some((_, value)) = weight.forms.iter().find(|(f, _)| *f == form) {
            return Some(*value);
        }
        let tensor = match &form {
            Form::AsIs => weight.tensor.clone(),
            Form::Transposed => weight.tensor.transposed()?,
            Form::Reshaped(shape) => weight.tensor.reshaped(shape).ok()?,
        };
        let plain = !tensor.dtype().is_float() || tensor.shape().is_empty();
        let role = role.unwrap_or(if plain {
            Role::Literal
        } else {
            Role::Parameter
        });
        let first = weight.forms.is_empty();
        let own_name = if first {
            weight.name.to_owned()
        } else {
            self.fresh(&format!("{}.form", weight.name))
        };
        let mut constant = Constant::new(tensor, role);
        if first && constant.tensor.dtype().is_float() {
            constant.aliases.clone_from(&weight.aliases);
        }
        let value: Value = self.graph.add_constant(&own_name, constant).into();
        self.weights.get_mut(at)?.forms.push((form, value));
        Some(value)
    }

    /// A parameter that is a tensor of this name times a factor.
    pub fn scaled(&mut self, name: &str, tensor: &Tensor, by: f64) -> Value {
        let name = self.fresh(&format!("{name}.scaled"));
        let elements = tensor.elements::<f64>();
        let scaled = elements.iter().map(|x| x * by);
        let scaled = Tensor::from_f64(tensor.dtype(), tensor.shape(), scaled);
        let constant = Constant::new(scaled, Role::Parameter);
        self.graph.add_constant(&name, constant).into()
    }

    /// The tensor with this name, if it is one of the file.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = self.weight_names.get(name)?;
        self.weights.get(*at).map(|weight| &weight.tensor)
    }

    /// What a value is known to hold.
    pub fn content(&mut self, name: &'m str) -> Option<&Content> {
        if !self.contents.contains_key(name) {
            let content = Content::of(self.tensor(name)?)?;
            self.contents.insert(name, content);
        }
        self.contents.get(name)
    }
}
