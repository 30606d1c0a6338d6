//! The partial evaluator: runs the model's code, control flow and all, and leaves tensor operations as graph nodes.
//!
//! Here are its state, its limits and the calls of functions; `statements`, `expressions` and `attributes` are Python's.

mod attributes;
mod branches;
mod errors;
mod expressions;
mod statements;

use std::rc::Rc;

use ruff_text_size::{Ranged, TextRange};
use rustc_hash::{FxHashMap, FxHashSet};

use super::code::{Function, Program, SourceFile};
use super::objects::{Objects, TensorKey, Tree};
use super::value::{ModuleRef, Value};
use crate::error::Location;
use crate::formats::aten::{Arguments, TensorRef};
pub(super) use crate::formats::aten::{Eval, Stop};
use crate::formats::pickle::Object;
use crate::ir::{self, DType, Graph};

/// Statements and calls that one reading may evaluate: a hundred times what the largest networks take.
const MAX_STEPS: u64 = 4_000_000;
/// Calls and expressions inside one another.
const MAX_DEPTH: usize = 5_000;
/// Containers inside one another.
const MAX_CONTAINERS: u32 = 64;
/// Elements of one list or characters of one string that the code may build.
pub(super) const MAX_ITEMS: usize = 1 << 20;

/// What a statement does to those after it.
enum Flow<'a> {
    Next,
    Return(Value<'a>),
    Break,
    Continue,
}

/// What the names in a function stand for, and the file that it is in.
#[derive(Clone)]
pub(super) struct Env<'a> {
    names: FxHashMap<&'a str, Value<'a>>,
    file: &'a SourceFile,
}

impl<'a> Env<'a> {
    fn of(file: &'a SourceFile) -> Env<'a> {
        let names = FxHashMap::default();
        Env { names, file }
    }
}

/// The arguments of a call.
pub(super) type Args<'a> = Arguments<'a, Value<'a>>;

/// What `--input` and the operators tell about the inputs.
#[derive(Clone, Default, Debug)]
pub(super) struct InputFacts {
    /// By input name: the sizes, as far as known; the length is the rank.
    pub shapes: FxHashMap<String, Vec<Option<i64>>>,
    /// By input name: the element type, if it is not a float.
    pub dtypes: FxHashMap<String, DType>,
}

/// The state of one evaluation.
pub(super) struct Evaluator<'a> {
    pub program: &'a Program<'a>,
    pub objects: &'a Objects<'a>,
    pub tree: &'a Tree,
    pub graph: Graph,
    pub facts: InputFacts,
    /// The inputs as the code sees them.
    pub inputs: Vec<(ir::NodeId, TensorRef)>,
    /// Module path of the method being evaluated; names of operations derive from it.
    pub scope: Rc<str>,
    place: Option<(&'a SourceFile, TextRange)>,
    constants: FxHashMap<TensorKey, TensorRef>,
    pub scalars: FxHashMap<(u64, DType), ir::Value>,
    parameter_names: FxHashSet<&'a str>,
    /// First results as the graph says them, and as those of the whole call.
    pub firsts: Vec<(ir::Value, ir::Value)>,
    /// Whether a branch is evaluated that may not be taken: it changes nothing, and tells nothing about the inputs.
    pub quiet: bool,
    steps: u64,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        program: &'a Program<'a>,
        objects: &'a Objects<'a>,
        tree: &'a Tree,
        name: &str,
        facts: InputFacts,
    ) -> Self {
        Evaluator {
            program,
            objects,
            tree,
            graph: Graph::new(name),
            facts,
            inputs: Vec::new(),
            scope: "".into(),
            place: None,
            constants: FxHashMap::default(),
            scalars: FxHashMap::default(),
            parameter_names: tree
                .tensors
                .values()
                .flatten()
                .map(|(path, _)| path.as_str())
                .collect(),
            firsts: Vec::new(),
            quiet: false,
            steps: 0,
            depth: 0,
        }
    }

    /// The statement or call being evaluated.
    pub(super) fn location(&self) -> Location {
        match &self.place {
            Some((file, range)) => file.at(range),
            None => Location {
                file: "data.pkl".into(),
                line: 1,
                text: String::new(),
            },
        }
    }

    /// Notes what is being evaluated, for messages.
    pub(super) fn set_place(&mut self, file: &'a SourceFile, node: &impl Ranged) {
        self.place = Some((file, node.range()));
    }

    /// Whether the module being evaluated has no submodules.
    pub(super) fn is_leaf(&self) -> bool {
        self.tree.modules.get(&*self.scope).is_some_and(|&id| {
            let data = &self.objects.data;
            !data
                .attrs(id)
                .any(|(_, value)| matches!(data.get(value), Object::Instance { .. }))
        })
    }

    /// Whether a parameter or buffer has this name.
    pub(super) fn is_parameter_name(&self, name: &str) -> bool {
        self.parameter_names.contains(name)
    }

    /// Counts work, so that no model can make reading endless.
    pub(super) fn step(&mut self) -> Eval<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            let help =
                "a loop of the model does not end, or is too long to unroll; trace a smaller model";
            return self.limit(
                format!("evaluating the code took over {MAX_STEPS} steps"),
                help,
            );
        }
        Ok(())
    }

    /// Counts the work of going over `n` elements.
    pub(super) fn spend(&mut self, n: usize) -> Eval<()> {
        self.steps = self.steps.saturating_add(n as u64 / 16);
        self.step()
    }

    fn deeper(&mut self) -> Eval<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("calls nest over {MAX_DEPTH} deep");
            return self.limit(what, "the model calls itself; trace it instead");
        }
        Ok(())
    }

    /// Calls a method of a module.
    pub(super) fn call_method(
        &mut self,
        module: &ModuleRef,
        name: &str,
        args: Args<'a>,
    ) -> Eval<Value<'a>> {
        let Object::Instance { class, .. } = self.objects.data.get(module.id) else {
            return self.damaged(format!("`{}` is no module", module.path));
        };
        let Some(class_def) = self.program.classes.get(&**class) else {
            return self.damaged(format!("the archive has no code of class `{class}`"));
        };
        let Some(&method) = class_def.methods.get(name) else {
            return self.damaged(format!("class `{class}` has no method `{name}`"));
        };
        let scope = std::mem::replace(&mut self.scope, module.path.clone());
        let result = self.call_function(method, Some(Value::Module(module.clone())), args);
        self.scope = scope;
        result
    }

    /// Calls a function of the archive's code.
    pub(super) fn call_function(
        &mut self,
        function: Function<'a>,
        receiver: Option<Value<'a>>,
        args: Args<'a>,
    ) -> Eval<Value<'a>> {
        self.deeper()?;
        let place = self.place;
        let parameters = &function.def.parameters;
        let mut env = Env::of(function.file);
        let mut positional = receiver.into_iter().chain(args.positional);
        let mut keyword = args.keyword;
        for parameter in parameters
            .posonlyargs
            .iter()
            .chain(&parameters.args)
            .chain(&parameters.kwonlyargs)
        {
            let name = parameter.parameter.name.as_str();
            let value = match positional.next() {
                Some(value) => value,
                None => match keyword.iter().position(|(k, _)| *k == name) {
                    Some(i) => keyword.swap_remove(i).1,
                    None => match &parameter.default {
                        Some(default) => self.expr(default, &env)?,
                        None => {
                            let what =
                                format!("`{}` is called without `{name}`", function.def.name);
                            return self.damaged(what);
                        }
                    },
                },
            };
            env.names.insert(name, value);
        }
        if positional.next().is_some() {
            return self.damaged(format!(
                "`{}` is called with too many arguments",
                function.def.name
            ));
        }
        let flow = self.block(&function.def.body, &mut env)?;
        // After the outermost call its last statement is as near as a message can get.
        self.place = place.or(self.place);
        self.depth -= 1;
        Ok(match flow {
            Flow::Return(value) => value,
            _ => Value::None,
        })
    }
}

/// `a.b` under `prefix`.
pub(super) fn join(prefix: &str, name: &str) -> Rc<str> {
    if prefix.is_empty() {
        name.into()
    } else {
        format!("{prefix}.{name}").into()
    }
}
