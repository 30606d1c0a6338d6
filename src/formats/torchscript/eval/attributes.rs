//! What names stand for: globals of the code, attributes of modules, objects of the pickle.

use std::rc::Rc;

use super::{Env, Eval, Evaluator, join};
use crate::error::FormatError;
use crate::formats::aten::state;
use crate::formats::pickle::{self, Object, PickledTensor};
use crate::formats::torchscript::objects::TensorKey;
use crate::formats::torchscript::value::{ModuleRef, Value};
use crate::ir::{Constant, Role};

impl<'a> Evaluator<'a> {
    /// `CONSTANTS.c0`, or a function taken as a value.
    pub(super) fn global(&mut self, path: &str) -> Eval<Value<'a>> {
        if let Some(index) = path
            .strip_prefix("CONSTANTS.c")
            .and_then(|i| i.parse().ok())
        {
            let objects = self.objects;
            return match objects.constant(index) {
                Some(tensor) => self.tensor_constant(tensor, "constants", path, Role::Literal, &[]),
                None => self.damaged(format!("the archive has no constant `{path}`")),
            };
        }
        match self.program.functions.get(path) {
            Some(&function) => Ok(Value::Function(function)),
            None => self.damaged(format!("`{path}` is not defined")),
        }
    }

    /// An attribute of a module, a named tuple or an object.
    pub(super) fn attribute(&mut self, value: &Value<'a>, name: &str) -> Eval<Value<'a>> {
        match value {
            Value::Module(module) => self.module_attribute(module, name),
            Value::Object(object) => {
                match object.attrs.borrow().iter().find(|(k, _)| &**k == name) {
                    Some((_, value)) => Ok(value.clone()),
                    None => self.damaged(format!("an object has no attribute `{name}`")),
                }
            }
            Value::Tuple(tuple) => {
                let class = tuple.class.as_deref();
                let class = class.and_then(|class| self.program.classes.get(class));
                let field = class.and_then(|class| class.annotations.get_index_of(name));
                match field.and_then(|i| tuple.items.get(i)) {
                    Some(value) => Ok(value.clone()),
                    None => self.damaged(format!("a tuple has no field `{name}`")),
                }
            }
            _ => self.damaged(format!("{} has no attribute `{name}`", value.kind())),
        }
    }

    fn module_attribute(&mut self, module: &ModuleRef, name: &str) -> Eval<Value<'a>> {
        let objects = self.objects;
        if let Some(id) = objects.data.attr(module.id, name) {
            return self.pickled(id, join(&module.path, name), Some((module.id, name)));
        }
        let class = match objects.data.get(module.id) {
            Object::Instance { class, .. } => self.program.classes.get(&**class),
            _ => None,
        };
        if let Some(class) = class
            && let Some(value) = class.constants.get(name)
        {
            return self.expr(value, &Env::of(class.file));
        }
        self.damaged(format!(
            "there is no attribute `{}`",
            join(&module.path, name)
        ))
    }

    /// A value of `data.pkl`. `owner`: the module that holds it, and under which name.
    fn pickled(
        &mut self,
        id: pickle::Id,
        path: Rc<str>,
        owner: Option<(pickle::Id, &str)>,
    ) -> Eval<Value<'a>> {
        self.step()?;
        self.deeper()?;
        let objects = self.objects;
        let value = match objects.data.get(id) {
            Object::None => Value::None,
            Object::Bool(b) => Value::Bool(*b),
            Object::Int(n) => Value::Int(*n),
            Object::Float(x) => Value::Float(*x),
            Object::Str(text) => Value::str(text),
            Object::Device(name) => Value::Device((&**name).into()),
            Object::List(items) | Object::Tuple(items) => {
                let list = items
                    .iter()
                    .enumerate()
                    .map(|(i, &id)| self.pickled(id, join(&path, &i.to_string()), None));
                let list = list.collect::<Eval<Vec<_>>>()?;
                match objects.data.get(id) {
                    Object::Tuple(_) => Value::tuple(list),
                    _ => Value::list(list),
                }
            }
            Object::Dict(items) => {
                let mut list = Vec::with_capacity(items.len());
                for &(key, value) in items {
                    list.push((
                        self.pickled(key, path.clone(), None)?,
                        self.pickled(value, path.clone(), None)?,
                    ));
                }
                Value::dict(None, list)
            }
            Object::Tensor(tensor) => {
                let places = self
                    .tree
                    .tensors
                    .get(&TensorKey::new(tensor, "data"))
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let role = owner.map_or(Role::Literal, |(module, name)| self.role(module, name));
                self.tensor_constant(tensor, "data", &path, role, places)?
            }
            // Classes of C++, nearly all of them packed quantized weights.
            Object::Instance { class, .. } if class.starts_with("__torch__.torch.classes.") => {
                return Err(FormatError::TensorKind {
                    name: path.to_string(),
                    kind: format!("packed in a `{class}`"),
                    help: "export the model before quantizing it".to_owned(),
                }
                .into());
            }
            Object::Instance { .. } => Value::Module(ModuleRef { id, path }),
            Object::Storage(_) | Object::Global(_) | Object::Mark => {
                return self.damaged(format!(
                    "attribute `{path}` is of no type that is supported"
                ));
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn role(&self, module: pickle::Id, name: &str) -> Role {
        let Object::Instance { class, .. } = self.objects.data.get(module) else {
            return Role::Literal;
        };
        match self.program.classes.get(&**class) {
            Some(class) if class.parameters.contains(&name) => Role::Parameter,
            Some(class) if class.buffers.contains(&name) => Role::Buffer,
            _ => Role::Literal,
        }
    }

    /// A constant node: one a tensor of the file, however often and by whatever path it is read.
    fn tensor_constant(
        &mut self,
        tensor: &PickledTensor,
        folder: &'static str,
        path: &str,
        role: Role,
        places: &[(String, pickle::Id)],
    ) -> Eval<Value<'a>> {
        let key = TensorKey::new(tensor, folder);
        if let Some(cell) = self.constants.get(&key) {
            return Ok(Value::Tensor(cell.clone()));
        }
        // The first path of the file names the constant; all others are kept, each is a key of the state dict.
        let in_state = |(path, module): &&(String, pickle::Id)| {
            self.role(*module, path.rsplit('.').next().unwrap_or_default()) != Role::Literal
        };
        let names = places.iter().filter(in_state);
        let mut names = names.map(|(path, _)| path.as_str());
        let (name, role) = match (names.next(), role) {
            (Some(name), Role::Literal) => (name, Role::Buffer),
            (Some(name), role) => (name, role),
            (None, _) => (path, Role::Literal),
        };
        let aliases = names.map(Into::into).collect();
        let tensor = self.objects.tensor(tensor, folder, name)?;
        let mut constant = Constant::new(tensor, role);
        constant.aliases = aliases;
        let node = self.graph.add_constant(name, constant);
        let cell = state(node.into());
        self.constants.insert(key, cell.clone());
        Ok(Value::Tensor(cell))
    }
}
