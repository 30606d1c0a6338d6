//! The inputs of a network: what is told of them beforehand, and what the parameters of `forward` make of them.

use ruff_python_ast::{Expr, ParameterWithDefault};

use crate::files::archive::Archive;
use crate::formats::ReadOptions;
use crate::formats::aten::fresh;
use crate::formats::dtypes::called;
use crate::formats::pickle::{Object, Pickle};
use crate::formats::torchscript::code::Class;
use crate::formats::torchscript::eval::{Eval, Evaluator, InputFacts};
use crate::formats::torchscript::interface::Content;
use crate::formats::torchscript::value::Value;
use crate::ir::{DType, Dim, Dims, Type};

/// The parameters of `forward` but `self`.
pub(super) fn parameters<'a>(
    class: &Class<'a>,
) -> impl Iterator<Item = &'a ParameterWithDefault> + use<'a> {
    let list = class
        .methods
        .get("forward")
        .map(|method| &method.def.parameters);
    list.into_iter().flat_map(|p| {
        p.posonlyargs
            .iter()
            .chain(&p.args)
            .skip(1)
            .chain(&p.kwonlyargs)
    })
}

/// What `--input` tells about the inputs, and where that is silent what a trace recorded of its example: ranks and element
/// types, never sizes.
pub(super) fn given_facts(
    archive: &Archive,
    class: &Class<'_>,
    options: &ReadOptions,
) -> InputFacts {
    let mut facts = InputFacts::default();
    let mut names = Vec::new();
    for parameter in parameters(class) {
        let annotation = parameter.parameter.annotation.as_deref();
        leaves(parameter.parameter.name.as_str(), annotation, &mut names);
    }
    for (name, (rank, dtype)) in names.iter().zip(traced_inputs(archive)) {
        facts.shapes.insert(name.clone(), vec![None; rank]);
        facts.dtypes.insert(name.clone(), dtype);
    }
    let given = options.shapes_of(names.iter().map(String::as_str));
    for (name, given) in names.iter().zip(given) {
        if let Some(given) = given {
            let sizes = vec![None; given.shape.len()];
            facts.shapes.insert(name.clone(), sizes);
        }
    }
    facts
}

/// The names of the inputs that a parameter of this declared type makes.
fn leaves(name: &str, annotation: Option<&Expr>, names: &mut Vec<String>) {
    match annotation.and_then(tuple_items) {
        Some(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, item)| leaves(&format!("{name}.{i}"), Some(item), names)),
        None => names.push(name.to_owned()),
    }
}

/// The types in `Tuple[...]`.
fn tuple_items(annotation: &Expr) -> Option<&[Expr]> {
    let Expr::Subscript(subscript) = annotation else {
        return None;
    };
    match &*subscript.value {
        Expr::Name(name) if name.id == "Tuple" => Some(match &*subscript.slice {
            Expr::Tuple(items) => &items.elts,
            item => std::slice::from_ref(item),
        }),
        _ => None,
    }
}

/// Rank and element type of each example input that a trace left in the archive; nothing depends on their being there.
fn traced_inputs(archive: &Archive) -> Vec<(usize, DType)> {
    let name = "traced_inputs.pkl";
    let pickle = archive
        .contains(name)
        .then(|| archive.read_text(name).ok())
        .flatten();
    let Some(pickle) = pickle.and_then(|bytes| Pickle::parse(&bytes, name).ok()) else {
        return Vec::new();
    };
    let Object::Dict(methods) = pickle.get(pickle.root()) else {
        return Vec::new();
    };
    let is_forward = |key| matches!(pickle.get(key), Object::Str(name) if &**name == "forward");
    let Some((_, list)) = methods.iter().find(|(key, _)| is_forward(*key)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut waiting = vec![*list];
    while let Some(id) = waiting
        .pop()
        .filter(|_| found.len() < 64 && waiting.len() < 1024)
    {
        match pickle.get(id) {
            Object::List(items) | Object::Tuple(items) => waiting.extend(items.iter().rev()),
            Object::Tensor(tensor) => {
                match called(|names| names.storage == &*tensor.storage.class) {
                    Some(dtype) => found.push((tensor.shape.len(), dtype)),
                    None => break,
                }
            }
            _ => break,
        }
    }
    found
}

/// The value that a parameter of `forward` holds when evaluation begins.
pub(super) fn input<'a>(
    ev: &mut Evaluator<'a>,
    name: &str,
    annotation: Option<&'a Expr>,
    ty: &str,
    default: Option<&str>,
    single: bool,
) -> Eval<(Content, Value<'a>)> {
    if ty == "Tensor" || (ty == "Optional[Tensor]" && default.is_none()) {
        return Ok(tensor_input(ev, name, single));
    }
    if let Some(items) = annotation.and_then(tuple_items) {
        let (mut contents, mut values) = (Vec::new(), Vec::new());
        for (i, item) in items.iter().enumerate() {
            let ty = match item {
                Expr::Name(name) => name.id.as_str(),
                _ => "a container",
            };
            let (content, value) = input(ev, &format!("{name}.{i}"), Some(item), ty, None, false)?;
            contents.push(content);
            values.push(value);
        }
        return Ok((Content::Tuple(contents), Value::tuple(values)));
    }
    let fixed = match (default, ty) {
        (Some("None"), _) => Some((Value::None, format!("torch.__isnot__({name}, None)"))),
        (Some(text @ ("True" | "False")), "bool") => {
            let not = if text == "True" {
                format!("torch.__not__({name})")
            } else {
                name.to_owned()
            };
            Some((Value::Bool(text == "True"), not))
        }
        (Some(text), "int") => text
            .parse()
            .ok()
            .map(|n| (Value::Int(n), format!("torch.ne({name}, {text})"))),
        (Some(text), "float") => text
            .parse()
            .ok()
            .map(|x| (Value::Float(x), format!("torch.ne({name}, {text})"))),
        _ => None,
    };
    match fixed {
        Some((value, check)) => Ok((Content::Fixed(check), value)),
        None => ev.fail(
            format!("forward's parameter `{name}` is of type {ty}"),
            "optc reads networks whose inputs are tensors or tuples of tensors: wrap the model in a module that takes those",
        ),
    }
}

fn tensor_input<'a>(ev: &mut Evaluator<'a>, name: &str, single: bool) -> (Content, Value<'a>) {
    let said = ev.facts.dtypes.get(name).copied();
    let dtype = said.unwrap_or(DType::F32);
    let shape = ev.facts.shapes.get(name).map(|sizes| {
        let symbols = symbols(sizes.len());
        let prefix = if single {
            String::new()
        } else {
            format!("{name}.")
        };
        let dim = |(i, size): (usize, &Option<i64>)| match size {
            Some(n) => Dim::from(*n),
            None => Dim::symbol(format!(
                "{prefix}{}",
                symbols
                    .get(i)
                    .map_or_else(|| format!("D{i}"), |s| (*s).to_owned())
            )),
        };
        sizes.iter().enumerate().map(dim).collect::<Dims>()
    });
    let index = ev.graph.inputs().len();
    let clash = ev.is_parameter_name(name);
    let node = ev.graph.add_input(
        &if clash {
            format!("{name}.input")
        } else {
            name.to_owned()
        },
        Type::Tensor(dtype, shape),
    );
    if said.is_none() {
        ev.graph.guess_dtype(node);
    }
    let cell = fresh(node.into());
    ev.inputs.push((node, cell.clone()));
    (Content::Input(index), Value::Tensor(cell))
}

/// The customary names of the sizes of a tensor of this rank.
fn symbols(rank: usize) -> &'static [&'static str] {
    match rank {
        1 => &["N"],
        2 => &["N", "C"],
        3 => &["N", "C", "L"],
        4 => &["N", "C", "H", "W"],
        5 => &["N", "C", "D", "H", "W"],
        _ => &[],
    }
}
