//! The code of a graph: one class a kind of module, one `forward`.

mod forward;
mod layout;
mod sizes;

use std::fmt::Write as _;

use rustc_hash::{FxHashMap, FxHashSet};

pub(super) use layout::{Layout, Module};
use sizes::Sizes;

use super::interface::Source;
use super::value::{print_float, print_str};
use crate::error::FormatError;
use crate::formats::aten::{self, Expression, Written};
use crate::formats::dtypes::names;
use crate::formats::identifiers::{RESERVED, identifier, is_identifier, unused};
use crate::ir::{Dim, Graph, NodeId, NodeKind, Op, Role, Tensor, Type, Value};

/// What messages call the format.
const FORMAT: &str = "TorchScript";

/// PyTorch's number for row-major order.
const CONTIGUOUS_FORMAT: i64 = 0;

/// The finished code, and what it needs beside the modules.
pub(super) struct Code {
    pub text: String,
    /// `CONSTANTS.c0`, `CONSTANTS.c1` ..
    pub constants: Vec<Tensor>,
    /// Class of each module, by path.
    pub classes: FxHashMap<String, String>,
}

/// Writes the code of a graph.
pub(super) fn write_code(
    graph: &Graph,
    source: &Source,
    layout: &Layout,
) -> Result<Code, FormatError> {
    let mut writer = Writer::new(graph, source, layout);
    let body = writer.forward()?;
    let (classes, mut text) = writer.classes(&body);
    for (name, fields) in &source.named_tuples {
        let _ = write!(text, "class {name}(NamedTuple):\n{fields}");
    }
    Ok(Code {
        text,
        constants: writer.constants,
        classes,
    })
}

struct Writer<'w> {
    graph: &'w Graph,
    source: &'w Source,
    layout: &'w Layout,
    /// The expression of each value that has one.
    values: FxHashMap<Value, String>,
    constants: Vec<Tensor>,
    sizes: Sizes<'w>,
    taken: FxHashSet<String>,
    body: String,
}

impl<'w> Writer<'w> {
    fn new(graph: &'w Graph, source: &'w Source, layout: &'w Layout) -> Self {
        let sizes = Sizes {
            graph,
            known: FxHashMap::default(),
            missing: None,
            inputs: Vec::new(),
            prefix: "size".to_owned(),
            pending: String::new(),
        };
        let taken = RESERVED
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        let (values, constants, body) = Default::default();
        Writer {
            graph,
            source,
            layout,
            values,
            constants,
            sizes,
            taken,
            body,
        }
    }

    fn variable(&mut self, name: &str) -> String {
        let is_size = |name: &str| {
            let rest = name.strip_prefix(&self.sizes.prefix);
            rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        };
        let used = |name: &str| is_size(name) || self.taken.contains(name);
        let name = unused(&identifier(name), used);
        self.taken.insert(name.clone());
        name
    }

    fn node(&mut self, id: NodeId) -> Result<(), FormatError> {
        let node = self.graph.node(id);
        let NodeKind::Op(op) = &node.kind else {
            return Ok(());
        };
        let operands = self.graph.operands(id);
        let numbers = operands
            .iter()
            .map(|value| aten::number(self.graph, *value));
        let expressions = aten::operands(op, &numbers.collect::<Vec<_>>());
        let mut texts = Vec::with_capacity(operands.len());
        for (value, expression) in operands.iter().zip(&expressions) {
            texts.push(match expression {
                Expression::Operand(_) => self.value(*value)?,
                _ => String::new(),
            });
        }
        let types: Vec<&Type> = operands.iter().map(|v| self.graph.ty(*v)).collect();
        let text = match op {
            Op::Opaque(opaque) => {
                let sizes = &mut self.sizes;
                let size = &mut |dim: &Dim| sizes.expression(dim);
                Ok(fill(&opaque.template, &texts, &opaque.sizes, size))
            }
            op => aten::write(&Written {
                op,
                operands: expressions,
                types: &types,
                core: false,
                in_order: false,
            })
            .map(|expression| self.expression(&expression, &texts)),
        };
        let text = text
            .map_err(|what| FormatError::unwritable(FORMAT, format!("`{}`: {what}", node.name)))?;
        self.flush_sizes(&node.name)?;
        let name = node.name.clone();
        let names: Vec<String> = match node.outputs.len() {
            1 => vec![self.variable(&name)],
            n => (0..n)
                .map(|i| self.variable(&format!("{name}_{i}")))
                .collect(),
        };
        let comma = if names.len() == 1 { "" } else { "," };
        let _ = writeln!(self.body, "    {}{comma} = {text}", names.join(", "));
        self.values.extend(self.graph.results(id).zip(names));
        Ok(())
    }

    /// An expression as text, given those of the operands.
    fn expression(&mut self, expression: &Expression, operands: &[String]) -> String {
        match expression {
            Expression::Operand(i) => operands.get(*i).cloned().unwrap_or_default(),
            Expression::None => "None".to_owned(),
            Expression::Bool(true) => "True".to_owned(),
            Expression::Bool(false) => "False".to_owned(),
            Expression::Int(n) => n.to_string(),
            Expression::Float(x) => print_float(*x),
            Expression::Str(text) => print_str(text),
            Expression::Dtype(dtype) => names(*dtype).aten.to_string(),
            Expression::Contiguous => CONTIGUOUS_FORMAT.to_string(),
            Expression::Size(dim) => self.sizes.expression(dim),
            Expression::List(items) => {
                let items = items.iter().map(|item| self.expression(item, operands));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            Expression::Constant(tensor) => constant(&mut self.constants, tensor.clone()),
            Expression::Call(call) => {
                let mut arguments = Vec::new();
                for argument in &call.positional {
                    arguments.push(self.expression(argument, operands));
                }
                for (name, argument) in &call.keyword {
                    arguments.push(format!("{name}={}", self.expression(argument, operands)));
                }
                let text = format!("torch.{}({})", call.name, arguments.join(", "));
                if call.others.is_empty() {
                    text
                } else {
                    format!("({text})[0]")
                }
            }
        }
    }

    fn value(&mut self, value: Value) -> Result<String, FormatError> {
        if let Some(text) = self.values.get(&value) {
            return Ok(text.clone());
        }
        let node = self.graph.node(value.node);
        let NodeKind::Constant(constant) = &node.kind else {
            return Err(FormatError::mistake(
                FORMAT,
                format!("`{}` is read before it is computed", node.name),
            ));
        };
        let text = match self.layout.places.get(&value.node) {
            Some(place) => place.clone(),
            None => self::constant(&mut self.constants, constant.tensor.clone()),
        };
        self.values.insert(value, text.clone());
        Ok(text)
    }

    fn flush_sizes(&mut self, user: &str) -> Result<(), FormatError> {
        if let Some(symbol) = &self.sizes.missing {
            return Err(FormatError::mistake(
                FORMAT,
                format!("`{user}` needs the size {symbol}, which is no size of an input"),
            ));
        }
        self.body.push_str(&std::mem::take(&mut self.sizes.pending));
        Ok(())
    }

    /// The classes of all modules; modules of the same make share one.
    fn classes(&self, forward: &str) -> (FxHashMap<String, String>, String) {
        let mut classes: FxHashMap<String, String> = FxHashMap::default();
        let mut by_body: FxHashMap<String, String> = FxHashMap::default();
        let mut names: FxHashSet<String> = self.source.named_tuples.keys().cloned().collect();
        let mut text = String::new();
        // Children come after their parents: backwards, each class is there before it is named.
        for (path, module) in self.layout.modules.iter().rev() {
            let mut body = self.class_body(module, &classes);
            if path.is_empty() {
                body.push_str(forward);
            }
            let key = format!("{}\n{body}", module.class);
            let class = by_body.entry(key).or_insert_with(|| {
                let name = unused(&module.class, |name| names.contains(name));
                names.insert(name.clone());
                let _ = write!(text, "class {name}(Module):\n{body}");
                name
            });
            classes.insert(path.clone(), class.clone());
        }
        (classes, text)
    }

    fn class_body(&self, module: &Module, classes: &FxHashMap<String, String>) -> String {
        let mut body = String::new();
        for (list, role) in [
            ("__parameters__", Role::Parameter),
            ("__buffers__", Role::Buffer),
        ] {
            let names = module.tensors.iter().filter(|(_, a)| a.role == role);
            let names: String = names
                .map(|(name, _)| format!("{}, ", print_str(name)))
                .collect();
            let _ = writeln!(body, "  {list} = [{names}]");
        }
        let mut declare = |name: &str, ty: &str| {
            let _ = if is_identifier(name) {
                writeln!(body, "  {name} : {ty}")
            } else {
                writeln!(body, "  __annotations__[{}] = {ty}", print_str(name))
            };
        };
        for name in module.tensors.keys() {
            declare(name, "Tensor");
        }
        if module.has_training {
            declare("training", "bool");
        }
        for (name, path) in &module.children {
            declare(
                name,
                &format!(
                    "__torch__.{}",
                    classes.get(path).map_or("Module", String::as_str)
                ),
            );
        }
        body
    }
}

fn constant(constants: &mut Vec<Tensor>, tensor: Tensor) -> String {
    let known = constants.iter().position(|t| t.same_memory(&tensor));
    let i = known.unwrap_or_else(|| {
        constants.push(tensor);
        constants.len() - 1
    });
    format!("CONSTANTS.c{i}")
}

/// Fills a template's places.
fn fill(
    template: &str,
    operands: &[String],
    sizes: &[Dim],
    size: &mut dyn FnMut(&Dim) -> String,
) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        let Some(end) = tail.find('}').filter(|_| tail.starts_with('{')) else {
            out.push_str(&tail[..1]);
            rest = &tail[1..];
            continue;
        };
        match tail[1..end].strip_prefix('$') {
            Some(i) => {
                if let Some(dim) = i.parse().ok().and_then(|i: usize| sizes.get(i)) {
                    out.push_str(&size(dim));
                }
            }
            None => {
                if let Some(operand) = tail[1..end]
                    .parse()
                    .ok()
                    .and_then(|i: usize| operands.get(i))
                {
                    out.push_str(operand);
                }
            }
        }
        rest = &tail[end + 1..];
    }
    out.push_str(rest);
    out
}
