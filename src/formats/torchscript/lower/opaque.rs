//! Operators that the IR does not know: nodes that carry the call itself, as a template.

use std::fmt::Write as _;

use smallvec::SmallVec;

use super::shapes::range_shape;
use super::unknown;

use crate::formats::aten::{Caller, Template};
use crate::formats::dtypes::called;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::read::simple_name;
use crate::formats::torchscript::value::{Value, print_float, print_str};
use crate::ir::{self, DType, Dialect, Dims, Type};

impl<'a> Evaluator<'a> {
    /// The types of an unknown operator's results, as far as its name tells.
    pub(super) fn opaque_types(
        &mut self,
        name: &str,
        args: &Args<'a>,
        arity: Option<usize>,
    ) -> Vec<Type> {
        // What is chosen from, not the condition, gives `where` its type.
        let skipped = usize::from(name == "where" && args.positional.len() == 3);
        let first = args.all().skip(skipped).find_map(|v| match v {
            Value::Tensor(cell) => Some(self.graph.ty(cell.borrow().value).clone()),
            Value::List(list) => list.items.borrow().iter().find_map(|v| match v {
                Value::Tensor(cell) => Some(self.graph.ty(cell.borrow().value).clone()),
                _ => None,
            }),
            _ => None,
        });
        let given = args
            .keyword
            .iter()
            .find(|(k, _)| *k == "dtype")
            .and_then(|(_, v)| v.as_int())
            .and_then(|code| called(|names| names.aten == code));
        let base = first.as_ref().and_then(Type::dtype).unwrap_or(DType::F32);
        let fractions = args.all().any(|v| match v {
            Value::Float(_) => true,
            Value::Tensor(cell) => {
                let dtype = self.graph.ty(cell.borrow().value).dtype();
                dtype.is_some_and(|dtype| dtype.is_float())
            }
            _ => false,
        });
        let dtype = given
            .or(unknown::result_dtype(name, base, fractions))
            .unwrap_or(base);
        if let Some(n) = arity {
            return vec![Type::Tensor(dtype, None); n];
        }
        if name == "size" {
            let ty = if args.positional.len() > 1 {
                "int"
            } else {
                "List[int]"
            };
            return vec![Type::Other(ty.into())];
        }
        // Lists are sliced and joined by operators of the same names as tensors.
        if let ("add" | "mul" | "slice" | "list" | "copy", Some(list)) =
            (name, args.positional.first())
            && let Some(ty) = self.list_type(list)
        {
            return vec![Type::Other(ty.into())];
        }
        if let Some(ty) = unknown::result_type(name) {
            return vec![Type::Other(ty.into())];
        }
        let beside = args.all().filter(|v| matches!(v, Value::Tensor(_))).count() > 1;
        let shape = match unknown::shape_argument(name) {
            Some(i) => args
                .positional
                .get(i)
                .and_then(Value::items)
                .and_then(|items| items.iter().map(Value::as_dim).collect::<Option<Dims>>()),
            None if unknown::keeps_shape(name, beside) => {
                first.as_ref().and_then(Type::shape).map(Dims::from)
            }
            None if unknown::broadcasts(name) => self.broadcast_shape(args),
            None => match name {
                "embedding" => self.embedding_shape(args),
                "repeat_interleave" => self.repeated_shape(args),
                "arange" => range_shape(args),
                "einsum" => self.einsum_shape(args),
                "index" => self.index_shape(args),
                _ => unknown::reduction(name).and_then(|at| self.reduced_shape(args, at)),
            },
        };
        vec![Type::Tensor(dtype, shape)]
    }

    /// An operator kept as the text of its call.
    pub fn opaque(&mut self, path: &str, args: Args<'a>, outputs: Vec<Type>) -> Eval<Value<'a>> {
        let mut template = Template::default();
        template.text.push_str(path);
        template.text.push('(');
        self.render_args(&args, 0, &mut template)?;
        let name = match path.split_once('.') {
            Some(("torch", name)) => format!("aten::{name}"),
            Some(("ops", name)) => name.replacen('.', "::", 1),
            _ => path.to_owned(),
        };
        let node = self.add_opaque(&name, template, outputs)?;
        let mut values = self.results(node);
        Ok(match values.len() {
            1 => values.remove(0),
            _ => Value::tuple(values),
        })
    }

    /// `{0}` unpacked into `n` results.
    pub fn opaque_unpack(&mut self, args: Args<'a>, n: usize) -> Eval<Vec<Value<'a>>> {
        let mut template = Template::default();
        self.render(&args.positional[0], &mut template)?;
        let types = vec![Type::Tensor(DType::F32, None); n];
        let node = self.add_opaque("prim::ListUnpack", template, types)?;
        Ok(self.results(node))
    }

    /// The results of an opaque operator.
    pub fn results(&self, node: ir::NodeId) -> Vec<Value<'a>> {
        let values = self.graph.results(node);
        values.map(|value| self.run_value(value)).collect()
    }

    /// `list[index]`, of which `ty` is the type.
    pub fn opaque_item(
        &mut self,
        list: &Value<'a>,
        index: &Value<'a>,
        ty: &str,
    ) -> Eval<Value<'a>> {
        let mut template = Template::default();
        // Parentheses, as a list in the code is no name.
        template.text.push('(');
        self.render(list, &mut template)?;
        template.text.push_str(")[");
        self.render(index, &mut template)?;
        template.text.push(']');
        let ty = match ty {
            "Tensor" => Type::Tensor(DType::F32, None),
            ty => Type::Other(ty.into()),
        };
        let node = self.add_opaque("aten::__getitem__", template, vec![ty])?;
        Ok(self.run_value(node.into()))
    }

    pub fn add_opaque(
        &mut self,
        name: &str,
        template: Template,
        outputs: Vec<Type>,
    ) -> Eval<ir::NodeId> {
        self.step()?;
        let label = name.rsplit([':', '.']).next().unwrap_or(name).to_owned();
        let outputs: SmallVec<[Type; 1]> = outputs.into();
        let (op, operands) = template.opaque(Dialect::TorchScript, name, outputs.clone());
        let name = self.node_name(&label);
        Ok(self.graph.add_typed_op(&name, op, &operands, outputs))
    }

    pub(super) fn render_args(
        &mut self,
        args: &Args<'a>,
        from: usize,
        template: &mut Template,
    ) -> Eval<()> {
        let mut first = from == 0;
        for value in &args.positional[from.min(args.positional.len())..] {
            separate(template, &mut first);
            self.render(value, template)?;
        }
        for (name, value) in &args.keyword {
            separate(template, &mut first);
            template.text.push_str(name);
            template.text.push('=');
            self.render(value, template)?;
        }
        template.text.push(')');
        Ok(())
    }

    /// A value as an argument in the code.
    pub fn render(&mut self, value: &Value<'a>, template: &mut Template) -> Eval<()> {
        self.step()?;
        if template.text.len() > MAX_TEMPLATE {
            let what = format!("the arguments of one operator take over {MAX_TEMPLATE} characters");
            return self.limit(what, "trace the model instead of scripting it");
        }
        match value {
            Value::None => template.text.push_str("None"),
            Value::Bool(b) => template.text.push_str(if *b { "True" } else { "False" }),
            Value::Int(n) => {
                let _ = write!(template.text, "{n}");
            }
            Value::Float(x) => template.text.push_str(&print_float(*x)),
            Value::Size(dim) => {
                let place = template.size(dim);
                template.text.push_str(&place);
            }
            Value::Str(text) => literal(template, &print_str(text)),
            Value::Device(name) => literal(template, &format!("torch.device({})", print_str(name))),
            Value::ZeroDim(inner) => {
                template.text.push_str("ops.prim.NumToTensor(");
                self.render(inner, template)?;
                template.text.push(')');
            }
            Value::Tensor(cell) => {
                operand(template, self.read(cell)?);
            }
            Value::Run(value)
            | Value::Unknown {
                run: Some(value), ..
            } => operand(template, *value),
            Value::List(list) => {
                let items = list.items.borrow().clone();
                match (&list.ty, items.is_empty()) {
                    (Some(ty), true) => literal(template, &format!("annotate({ty}, [])")),
                    _ => self.render_items("[", &items, "]", template)?,
                }
            }
            Value::Tuple(tuple) => {
                // The class of a named tuple is marked, as its name in the file to be written is not known here.
                if let Some(class) = &tuple.class {
                    let _ = write!(template.text, "\u{0}{}\u{0}", simple_name(class));
                }
                let close = if tuple.items.len() == 1 && tuple.class.is_none() {
                    ",)"
                } else {
                    ")"
                };
                self.render_items("(", &tuple.items, close, template)?;
            }
            Value::Dict(dict) => {
                literal(template, "{");
                let mut first = true;
                for (key, value) in dict.items.borrow().iter() {
                    separate(template, &mut first);
                    self.render(key, template)?;
                    template.text.push_str(": ");
                    self.render(value, template)?;
                }
                literal(template, "}");
            }
            Value::Unknown { why, .. } => return self.depends_on_data(&**why),
            Value::Module(_) | Value::Object(_) | Value::Function(_) | Value::Uninitialized => {
                return self.beyond(format!("an operator takes {}", value.kind()));
            }
        }
        Ok(())
    }

    fn render_items(
        &mut self,
        open: &str,
        items: &[Value<'a>],
        close: &str,
        template: &mut Template,
    ) -> Eval<()> {
        template.text.push_str(open);
        let mut first = true;
        for item in items {
            separate(template, &mut first);
            self.render(item, template)?;
        }
        template.text.push_str(close);
        Ok(())
    }
}

/// The text of an opaque operator may not grow past this.
const MAX_TEMPLATE: usize = 1 << 20;

/// Adds a comma before all arguments but the first.
fn separate(template: &mut Template, first: &mut bool) {
    if !std::mem::replace(first, false) {
        template.text.push_str(", ");
    }
}

/// Adds text that has no places: its braces are doubled.
fn literal(template: &mut Template, text: &str) {
    let text = text.replace('{', "{{").replace('}', "}}");
    template.text.push_str(&text);
}

fn operand(template: &mut Template, value: ir::Value) {
    let place = template.operand(value);
    template.text.push_str(&place);
}
