//! Reading: from the mapped file to a graph and the [`Source`] to write it back.

mod inputs;

use ruff_python_ast::ParameterWithDefault;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::code::{Class, Program, parse_files};
use super::eval::{Args, Eval, Evaluator, Stop};
use super::interface::{ModuleInfo, Parameter, ResultText, Source};
use super::objects::{Objects, Tree};
use super::value::ModuleRef;
use crate::error::FormatError;
use crate::files::archive::{Archive, other_zip};
use crate::formats::ReadOptions;
use crate::formats::aten::{Template, add_outputs, is_written};
use crate::formats::pickle::Object;
use crate::ir::{Bytes, Graph, Role};
use inputs::{given_facts, input, parameters};

/// Parsing and evaluation recurse as deeply as the code nests; both are bounded, this holds the bounds.
const STACK: usize = 512 << 20;
/// How often evaluation may start again because an operator told something about an input.
const MAX_ROUNDS: usize = 256;

/// Reads a TorchScript archive.
pub(crate) fn read_bytes(
    bytes: Bytes,
    options: &ReadOptions,
) -> Result<(Graph, Source), FormatError> {
    let archive = Archive::open(bytes)?;
    if let Some(foreign) = other_zip(&archive) {
        return Err(FormatError::Foreign(foreign));
    }
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || evaluate(&archive, options));
        let reader = reader.map_err(|source| FormatError::Io {
            doing: "cannot start a thread",
            source,
        })?;
        match reader.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn evaluate(archive: &Archive, options: &ReadOptions) -> Result<(Graph, Source), FormatError> {
    let objects = Objects::load(archive)?;
    let tree = objects.walk()?;
    let files = parse_files(archive)?;
    let program = Program::new(&files);
    let root = objects.data.root();
    let Object::Instance { class: name, .. } = objects.data.get(root) else {
        return Err(FormatError::Damaged {
            detail: "`data.pkl` holds no module".to_owned(),
        });
    };
    let missing = |what: &str| FormatError::Missing {
        entry: format!("{what} of class `{name}` under `code/`"),
    };
    let class = program
        .classes
        .get(&**name)
        .ok_or_else(|| missing("code"))?;
    if !class.methods.contains_key("forward") {
        return Err(missing("method `forward`"));
    }
    let mut facts = given_facts(archive, class, options);
    for _ in 0..MAX_ROUNDS {
        let mut evaluator = Evaluator::new(&program, &objects, &tree, simple_name(name), facts);
        match forward(&mut evaluator, class) {
            Ok((parameters, result, named_tuples)) => {
                let mut graph = evaluator.graph;
                let written = evaluator.inputs.iter();
                let written = written.filter(|(node, cell)| is_written(cell, (*node).into()));
                let written = written.map(|(node, _)| graph.node(*node).name.to_string());
                let written_inputs = written.collect();
                graph.remove_dead();
                for (first, call) in evaluator.firsts {
                    // Something reads its other results.
                    if graph.get(first.node).is_some() && graph.get(call.node).is_some() {
                        graph.replace_uses(first, call);
                    }
                }
                graph.remove_dead();
                let mut source = Source {
                    parameters,
                    result,
                    named_tuples,
                    written_inputs,
                    ..describe(archive, &objects, &program, &tree)?
                };
                let mut read = FxHashSet::default();
                for node in graph.nodes() {
                    read.insert(graph.node(node).name.clone());
                    let aliases = graph.constant(node).map(|constant| &constant.aliases);
                    read.extend(aliases.into_iter().flatten().cloned());
                }
                source.unread.retain(|(path, ..)| !read.contains(&**path));
                return Ok((graph, source));
            }
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Restart) => facts = evaluator.facts,
        }
    }
    let what = "what operators demand of the inputs does not settle".to_owned();
    Err(FormatError::Limit {
        what,
        help: "give the inputs' shapes with --input".to_owned(),
    })
}

type Interface = (
    Vec<Parameter>,
    ResultText,
    indexmap::IndexMap<String, String>,
);

/// Evaluates `forward` with its parameters unknown.
fn forward<'a>(ev: &mut Evaluator<'a>, class: &Class<'a>) -> Eval<Interface> {
    let Some(&method) = class.methods.get("forward") else {
        return ev.fail("there is no `forward`", "");
    };
    let declared: Vec<&'a ParameterWithDefault> = parameters(class).collect();
    let single = declared.len() == 1;
    let mut list = Vec::new();
    let mut args = Args::of([]);
    for parameter in declared {
        let name = parameter.parameter.name.as_str();
        let annotation = parameter.parameter.annotation.as_deref();
        let ty = annotation
            .map_or("Tensor", |a| method.file.text(a))
            .to_owned();
        ev.set_place(method.file, &parameter.parameter);
        let default = parameter
            .default
            .as_deref()
            .map(|d| method.file.text(d).to_owned());
        let (content, value) = input(ev, name, annotation, &ty, default.as_deref(), single)?;
        args.positional.push(value);
        list.push(Parameter {
            name: name.to_owned(),
            ty,
            default,
            content,
        });
    }
    let root = ModuleRef {
        id: ev.objects.data.root(),
        path: "".into(),
    };
    let value = ev.call_method(&root, "forward", args)?;
    let mut template = Template::default();
    ev.render(&value, &mut template)?;
    add_outputs(&mut ev.graph, &template.operands);
    let ty = method
        .def
        .returns
        .as_deref()
        .map_or("Tensor", |r| method.file.text(r))
        .to_owned();
    let (ty, named_tuples) = named_tuples(ev, ty)?;
    let mut text = template.text;
    for name in named_tuples.keys() {
        text = text.replace(&format!("\u{0}{name}\u{0}"), &format!("__torch__.{name}"));
    }
    if text.contains('\u{0}') {
        return ev.fail(
            "forward returns a named tuple that its declared type does not name".to_owned(),
            "return tensors, or tuples, lists and dictionaries of tensors",
        );
    }
    Ok((
        list,
        ResultText {
            template: text.into(),
            sizes: template.sizes,
            ty,
        },
        named_tuples,
    ))
}

/// The named tuples of a declared type, moved into the one file that is written.
fn named_tuples(
    ev: &Evaluator<'_>,
    mut ty: String,
) -> Eval<(String, indexmap::IndexMap<String, String>)> {
    let mut classes = indexmap::IndexMap::new();
    while let Some(start) = ty.find("__torch__.").filter(|_| classes.len() < 64) {
        let end = ty[start..]
            .find([',', ']', ' '])
            .map_or(ty.len(), |i| start + i);
        let path = ty[start..end].to_owned();
        let Some(class) = ev
            .program
            .classes
            .get(&path)
            .filter(|c| c.base == Some("NamedTuple"))
        else {
            return ev.fail(
                format!("forward returns a `{path}`"),
                "return tensors, or tuples, lists and dictionaries of tensors",
            );
        };
        let name = simple_name(&path).to_owned();
        let fields = class
            .annotations
            .iter()
            .map(|(field, ty)| format!("  {field} : {}\n", class.file.text(*ty)));
        classes.insert(name.clone(), fields.collect());
        ty = ty.replace(&path, &format!("\u{0}{name}"));
    }
    Ok((ty.replace('\u{0}', "__torch__."), classes))
}

pub(super) fn simple_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// What the archive holds beside the graph.
fn describe(
    archive: &Archive,
    objects: &Objects<'_>,
    program: &Program<'_>,
    tree: &Tree,
) -> Result<Source, FormatError> {
    let mut source = Source {
        version: "3\n".to_owned(),
        ..Source::default()
    };
    if archive.contains("version") {
        let version = String::from_utf8_lossy(&archive.read_text("version")?).into_owned();
        // A number, and nothing that grew there since.
        if version.trim().parse::<u32>().is_ok() {
            source.version = version;
        }
    }
    let class_of = |id| match objects.data.get(id) {
        Object::Instance { class, .. } => Some(&**class),
        _ => None,
    };
    for (path, &id) in &tree.modules {
        let class = class_of(id).map_or("Module", simple_name).to_owned();
        let has_training = objects.data.attr(id, "training").is_some();
        source.modules.insert(
            path.clone(),
            ModuleInfo {
                class,
                has_training,
            },
        );
        let Some(class) = class_of(id).and_then(|class| program.classes.get(class)) else {
            continue;
        };
        for (name, value) in objects.data.attrs(id) {
            let role = match name {
                name if class.parameters.contains(&name) => Role::Parameter,
                name if class.buffers.contains(&name) => Role::Buffer,
                _ => continue,
            };
            let Object::Tensor(tensor) = objects.data.get(value) else {
                continue;
            };
            let path = super::eval::join(path, name).to_string();
            source.order.insert(path.clone(), role);
            if !tensor.requires_grad {
                source.untrained.insert(path.clone());
            }
            // Tensors that are read are in the graph; of the others the map is all that is held.
            if let Ok(tensor) = objects.tensor(tensor, "data", &path) {
                source.unread.push((path, role, tensor));
            }
        }
    }
    let extra: SmallVec<[&str; 4]> = archive
        .names()
        .filter(|name| name.starts_with("extra/"))
        .collect();
    for name in extra {
        source.extra.push((name.to_owned(), archive.read(name)?));
    }
    Ok(source)
}
