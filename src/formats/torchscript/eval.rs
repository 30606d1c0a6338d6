//! The partial evaluator: runs the model's code, control flow and all, and leaves tensor operations as graph nodes.

use std::rc::Rc;

use ruff_python_ast::{Expr, ExprCall, Number, Stmt, UnaryOp};
use ruff_text_size::{Ranged, TextRange};
use rustc_hash::{FxHashMap, FxHashSet};

use super::alias::{TensorRef, state};
use super::code::{Function, Program, SourceFile};
use super::objects::{Objects, TensorKey, Tree};
use super::pickle::{self, Object, PickledTensor};
use super::value::{ModuleRef, Value};
use crate::formats::error::{FormatError, Location};
use crate::ir::{self, Constant, DType, Graph, Role};

/// Statements and calls that one reading may evaluate: a hundred times what the largest networks take.
const MAX_STEPS: u64 = 4_000_000;
/// Calls and expressions inside one another.
const MAX_DEPTH: usize = 5_000;
/// Containers inside one another.
const MAX_CONTAINERS: u32 = 64;
/// Elements of one list or characters of one string that the code may build.
pub(super) const MAX_ITEMS: usize = 1 << 20;

/// Why evaluation stopped.
pub(super) enum Stop {
    /// The model cannot be read.
    Error(FormatError),
    /// An operator told something about an input that earlier ones would have used: evaluate again, knowing it.
    Learned,
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Stop::Error(error)
    }
}

pub(super) type Eval<T> = Result<T, Stop>;

/// What a statement does to those after it.
enum Flow<'a> {
    Next,
    Return(Value<'a>),
    Break,
    Continue,
}

type Env<'a> = FxHashMap<&'a str, Value<'a>>;

/// The arguments of a call.
#[derive(Clone, Default)]
pub(super) struct Args<'a> {
    pub positional: Vec<Value<'a>>,
    pub keyword: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Args<'a> {
    /// Position `i`, or keyword `name`.
    pub(super) fn get(&self, i: usize, name: &str) -> Option<&Value<'a>> {
        self.positional.get(i).or_else(|| {
            self.keyword
                .iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| v)
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Value<'a>> {
        self.positional
            .iter()
            .chain(self.keyword.iter().map(|(_, v)| v))
    }
}

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
    /// Module path of the method being evaluated; names of operations derive from it.
    pub scope: Rc<str>,
    place: Option<(&'a SourceFile, TextRange)>,
    constants: FxHashMap<TensorKey, TensorRef>,
    pub scalars: FxHashMap<(u64, DType), ir::Value>,
    parameter_names: FxHashSet<&'a str>,
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

    pub(super) fn fail<T>(&self, what: impl Into<String>, help: impl Into<String>) -> Eval<T> {
        Err(Stop::Error(FormatError::Code {
            what: what.into(),
            at: self.location(),
            help: help.into(),
        }))
    }

    /// The code uses Python that TorchScript does not write.
    fn unknown_python<T>(&self, what: &str) -> Eval<T> {
        self.fail(
            format!("{what} is not supported"),
            "trace the model (torch.jit.trace) instead of scripting it",
        )
    }

    /// An operator that behaves differently in training, called as in training.
    pub(super) fn training(&self, what: &str) -> Stop {
        let what = format!("{what} runs as in training");
        Stop::Error(FormatError::Training {
            what,
            at: self.location(),
        })
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
            let what = format!(
                "evaluating the code took over {MAX_STEPS} steps\n  at {}",
                self.location()
            );
            let help =
                "a loop of the model does not end, or is too long to unroll; trace a smaller model"
                    .to_owned();
            return Err(FormatError::Limit { what, help }.into());
        }
        Ok(())
    }

    fn deeper(&mut self) -> Eval<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("calls nest over {MAX_DEPTH} deep\n  at {}", self.location());
            return Err(FormatError::Limit {
                what,
                help: "the model calls itself; trace it instead".to_owned(),
            }
            .into());
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
            return self.fail(
                format!("`{}` is no module", module.path),
                "save the model again",
            );
        };
        let Some(class_def) = self.program.classes.get(&**class) else {
            return self.fail(
                format!("the archive has no code of class `{class}`"),
                "save the model again",
            );
        };
        let Some(&method) = class_def.methods.get(name) else {
            return self.fail(
                format!("class `{class}` has no method `{name}`"),
                "save the model again",
            );
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
        let mut env = Env::default();
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
                        Some(default) => self.expr(default, &env, function.file)?,
                        None => {
                            let what =
                                format!("`{}` is called without `{name}`", function.def.name);
                            return self.fail(what, "save the model again");
                        }
                    },
                },
            };
            env.insert(name, value);
        }
        if positional.next().is_some() {
            return self.fail(
                format!("`{}` is called with too many arguments", function.def.name),
                "save the model again",
            );
        }
        let flow = self.block(&function.def.body, &mut env, function.file)?;
        // After the outermost call its last statement is as near as a message can get.
        self.place = place.or(self.place);
        self.depth -= 1;
        Ok(match flow {
            Flow::Return(value) => value,
            _ => Value::None,
        })
    }

    fn block(
        &mut self,
        body: &'a [Stmt],
        env: &mut Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<Flow<'a>> {
        self.deeper()?;
        let mut flow = Flow::Next;
        for statement in body {
            flow = self.statement(statement, env, file)?;
            if !matches!(flow, Flow::Next) {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn statement(
        &mut self,
        statement: &'a Stmt,
        env: &mut Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<Flow<'a>> {
        self.step()?;
        self.place = Some((file, statement.range()));
        match statement {
            Stmt::Assign(assign) => {
                let [target] = assign.targets.as_slice() else {
                    return self.unknown_python("a chained assignment");
                };
                let arity = match target {
                    Expr::Tuple(tuple) => Some(tuple.elts.len()),
                    _ => None,
                };
                let value = self.expr_with_arity(&assign.value, env, file, arity)?;
                self.assign(target, value, env, file)?;
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    let value = self.expr(value, env, file)?;
                    let value = retype(value, file.text(&*assign.annotation));
                    self.assign(&assign.target, value, env, file)?;
                }
            }
            Stmt::Expr(expr) => {
                self.expr(&expr.value, env, file)?;
            }
            Stmt::Return(ret) => {
                let value = match &ret.value {
                    Some(value) => self.expr(value, env, file)?,
                    None => Value::None,
                };
                return Ok(Flow::Return(value));
            }
            Stmt::Pass(_) => {}
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::If(branch) => {
                let test = self.expr(&branch.test, env, file)?;
                self.place = Some((file, branch.test.range()));
                let mut other: &'a [Stmt] = &[];
                if let Some(clause) = branch.elif_else_clauses.first() {
                    if clause.test.is_some() || branch.elif_else_clauses.len() > 1 {
                        return self.unknown_python("`elif`");
                    }
                    other = &clause.body;
                }
                let taken = match self.truth(&test) {
                    Ok(true) => &branch.body[..],
                    Ok(false) => other,
                    // A check that the model makes of itself: assume that it holds, as the exporter's example showed.
                    Err(_) if raises(&branch.body) && !raises(other) => other,
                    Err(_) if raises(other) && !raises(&branch.body) => &branch.body[..],
                    Err(_) if is_inert(&branch.body) && is_inert(other) => &[],
                    Err(what) => {
                        return Err(FormatError::DataBranch {
                            what,
                            at: self.location(),
                        }
                        .into());
                    }
                };
                return self.block(taken, env, file);
            }
            Stmt::For(each) => {
                let iterable = self.expr(&each.iter, env, file)?;
                self.place = Some((file, each.iter.range()));
                let items = self.iterate(&iterable)?;
                for item in items {
                    self.step()?;
                    self.assign(&each.target, item, env, file)?;
                    match self.block(&each.body, env, file)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => break,
                        flow @ Flow::Return(_) => return Ok(flow),
                    }
                }
            }
            Stmt::While(each) => loop {
                self.step()?;
                let test = self.expr(&each.test, env, file)?;
                self.place = Some((file, each.test.range()));
                match self.truth(&test) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(what) => {
                        return Err(FormatError::DataBranch {
                            what,
                            at: self.location(),
                        }
                        .into());
                    }
                }
                match self.block(&each.body, env, file)? {
                    Flow::Next | Flow::Continue => {}
                    Flow::Break => break,
                    flow @ Flow::Return(_) => return Ok(flow),
                }
            },
            _ => return self.unknown_python("this statement"),
        }
        Ok(Flow::Next)
    }

    fn assign(
        &mut self,
        target: &'a Expr,
        value: Value<'a>,
        env: &mut Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<()> {
        match target {
            Expr::Name(name) => {
                env.insert(name.id.as_str(), value);
            }
            Expr::Tuple(tuple) => {
                let items = self.unpack(value, tuple.elts.len())?;
                for (target, item) in tuple.elts.iter().zip(items) {
                    self.assign(target, item, env, file)?;
                }
            }
            Expr::Attribute(attribute) => match self.expr(&attribute.value, env, file)? {
                Value::Object(object) => {
                    Value::Object(object.clone()).deepen(&value);
                    self.check_depth(&Value::Object(object.clone()))?;
                    let mut attrs = object.attrs.borrow_mut();
                    let name = attribute.attr.as_str();
                    attrs.retain(|(k, _)| &**k != name);
                    attrs.push((name.into(), value));
                }
                Value::Module(module) => {
                    let what = format!(
                        "the model writes its own attribute `{}`",
                        join(&module.path, attribute.attr.as_str())
                    );
                    return self.fail(what, "a network that keeps state between calls cannot be rewritten; return the state instead");
                }
                _ => return self.unknown_python("assignment to this attribute"),
            },
            Expr::Subscript(subscript) => {
                let (list, index) = (
                    self.expr(&subscript.value, env, file)?,
                    self.expr(&subscript.slice, env, file)?,
                );
                self.set_item(&list, index, value)?;
            }
            _ => return self.unknown_python("this assignment"),
        }
        Ok(())
    }

    fn unpack(&mut self, value: Value<'a>, n: usize) -> Eval<Vec<Value<'a>>> {
        if let Value::Run(value) = value {
            return self.unpack_run(value, n);
        }
        match value.items() {
            Some(items) if items.len() == n => Ok(items),
            Some(items) => self.fail(
                format!("{} values are unpacked into {n}", items.len()),
                "save the model again",
            ),
            None => self.fail(
                format!("{} is unpacked into {n} values", value.kind()),
                "save the model again",
            ),
        }
    }

    /// The items a loop runs over.
    fn iterate(&mut self, value: &Value<'a>) -> Eval<Vec<Value<'a>>> {
        if let Some(items) = value.items() {
            return Ok(items);
        }
        match value {
            Value::Dict(dict) => Ok(dict.items.borrow().iter().map(|(k, _)| k.clone()).collect()),
            Value::Module(module) => Ok(self.submodules(module)),
            _ => Err(FormatError::DataBranch {
                what: format!("a loop runs over {}", value.kind()),
                at: self.location(),
            }
            .into()),
        }
    }

    fn submodules(&self, module: &ModuleRef) -> Vec<Value<'a>> {
        let data = &self.objects.data;
        let instances = data
            .attrs(module.id)
            .filter(|(_, id)| matches!(data.get(*id), Object::Instance { .. }));
        instances
            .map(|(name, id)| {
                Value::Module(ModuleRef {
                    id,
                    path: join(&module.path, name),
                })
            })
            .collect()
    }

    pub(super) fn expr(
        &mut self,
        expr: &'a Expr,
        env: &Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<Value<'a>> {
        self.expr_with_arity(expr, env, file, None)
    }

    fn exprs(
        &mut self,
        list: &'a [Expr],
        env: &Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<Vec<Value<'a>>> {
        list.iter().map(|e| self.expr(e, env, file)).collect()
    }

    /// `arity`: into how many names the result is unpacked, which tells how many results an unknown operator has.
    fn expr_with_arity(
        &mut self,
        expr: &'a Expr,
        env: &Env<'a>,
        file: &'a SourceFile,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        self.step()?;
        self.deeper()?;
        let value = match expr {
            Expr::Name(name) => match env.get(name.id.as_str()) {
                Some(value) => value.clone(),
                None => match name.id.as_str() {
                    "inf" => Value::Float(f64::INFINITY),
                    "nan" => Value::Float(f64::NAN),
                    name => {
                        return self
                            .fail(format!("`{name}` is not defined"), "save the model again");
                    }
                },
            },
            Expr::NumberLiteral(number) => match &number.value {
                Number::Int(int) => match int.as_i64() {
                    Some(n) => Value::Int(n),
                    None => return self.unknown_python("an integer of over 64 bits"),
                },
                Number::Float(x) => Value::Float(*x),
                Number::Complex { .. } => return self.unknown_python("a complex number"),
            },
            Expr::StringLiteral(text) => Value::str(text.value.to_str()),
            Expr::BooleanLiteral(literal) => Value::Bool(literal.value),
            Expr::NoneLiteral(_) => Value::None,
            Expr::UnaryOp(unary) if unary.op == UnaryOp::USub => {
                match self.expr(&unary.operand, env, file)? {
                    Value::Int(n) => Value::Int(n.wrapping_neg()),
                    Value::Float(x) => Value::Float(-x),
                    Value::Size(dim) => Value::size(-dim),
                    other => self.call_torch(
                        "neg",
                        Args {
                            positional: vec![other],
                            keyword: vec![],
                        },
                        None,
                    )?,
                }
            }
            Expr::List(list) => Value::list(self.exprs(&list.elts, env, file)?),
            Expr::Tuple(tuple) => Value::tuple(self.exprs(&tuple.elts, env, file)?),
            Expr::Dict(dict) => {
                let mut items = Vec::new();
                for item in &dict.items {
                    let Some(key) = &item.key else {
                        return self.unknown_python("`**` in a dictionary");
                    };
                    items.push((
                        self.expr(key, env, file)?,
                        self.expr(&item.value, env, file)?,
                    ));
                }
                Value::dict(None, items)
            }
            Expr::If(choice) => {
                let test = self.expr(&choice.test, env, file)?;
                match self.truth(&test) {
                    Ok(true) => self.expr(&choice.body, env, file)?,
                    Ok(false) => self.expr(&choice.orelse, env, file)?,
                    Err(what) => {
                        return Err(FormatError::DataBranch {
                            what,
                            at: self.location(),
                        }
                        .into());
                    }
                }
            }
            Expr::Attribute(_) if let Some(path) = global_path(expr, env) => self.global(&path)?,
            Expr::Attribute(attribute) => {
                let value = self.expr(&attribute.value, env, file)?;
                self.attribute(&value, attribute.attr.as_str())?
            }
            Expr::Subscript(subscript) => {
                let (list, index) = (
                    self.expr(&subscript.value, env, file)?,
                    self.expr(&subscript.slice, env, file)?,
                );
                self.item(&list, &index)?
            }
            Expr::Call(call) => self.call(call, env, file, arity)?,
            _ => return self.unknown_python("this expression"),
        };
        self.depth -= 1;
        self.check_depth(&value)?;
        Ok(value)
    }

    /// Containers of containers of containers ... are no network's values.
    pub(super) fn check_depth(&self, value: &Value<'a>) -> Eval<()> {
        if value.depth() > MAX_CONTAINERS {
            let what = format!(
                "lists nest over {MAX_CONTAINERS} deep\n  at {}",
                self.location()
            );
            return Err(FormatError::Limit {
                what,
                help: "trace the model instead of scripting it".to_owned(),
            }
            .into());
        }
        Ok(())
    }

    fn call(
        &mut self,
        call: &'a ExprCall,
        env: &Env<'a>,
        file: &'a SourceFile,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        let path = global_path(&call.func, env);
        // A type is no value: the first argument of these is not evaluated.
        if let Some(name @ ("annotate" | "unchecked_cast" | "uninitialized" | "isinstance")) =
            path.as_deref()
        {
            return self.typed_call(name, call, env, file);
        }
        let mut args = Args::default();
        for argument in &call.arguments.args {
            args.positional.push(self.expr(argument, env, file)?);
        }
        for keyword in &call.arguments.keywords {
            let Some(name) = &keyword.arg else {
                return self.unknown_python("`**` in a call");
            };
            let value = self.expr(&keyword.value, env, file)?;
            args.keyword.push((name.as_str(), value));
        }
        self.place = Some((file, call.range()));
        if let Some(path) = path {
            return self.call_global(&path, args, arity);
        }
        if let Expr::Attribute(attribute) = &*call.func {
            match self.expr(&attribute.value, env, file)? {
                Value::Module(module) => {
                    self.place = Some((file, call.range()));
                    return self.call_method(&module, attribute.attr.as_str(), args);
                }
                Value::Object(object) => {
                    let class = self.program.classes.get(&*object.class);
                    if let Some(&method) =
                        class.and_then(|c| c.methods.get(attribute.attr.as_str()))
                    {
                        return self.call_function(method, Some(Value::Object(object)), args);
                    }
                }
                _ => {}
            }
            return self.unknown_python("a call of this method");
        }
        match self.expr(&call.func, env, file)? {
            Value::Function(function) => self.call_function(function, None, args),
            _ => self.unknown_python("a call of this value"),
        }
    }

    fn typed_call(
        &mut self,
        name: &str,
        call: &'a ExprCall,
        env: &Env<'a>,
        file: &'a SourceFile,
    ) -> Eval<Value<'a>> {
        match (name, &call.arguments.args[..]) {
            ("uninitialized", _) => Ok(Value::Uninitialized),
            ("annotate" | "unchecked_cast", [ty, value]) => {
                let value = self.expr(value, env, file)?;
                Ok(retype(value, file.text(ty)))
            }
            ("isinstance", [value, ty]) => {
                let value = self.expr(value, env, file)?;
                self.is_instance(&value, file.text(ty))
            }
            _ => self.unknown_python("this call"),
        }
    }

    /// A call of `torch.add`, `ops.prim.NumToTensor`, `int`, `__torch__.torch.nn.functional.relu` ...
    fn call_global(&mut self, path: &str, args: Args<'a>, arity: Option<usize>) -> Eval<Value<'a>> {
        if path.starts_with("__torch__.") {
            if let Some(&function) = self.program.functions.get(path) {
                return self.call_function(function, None, args);
            }
            if let Some(class) = self.program.classes.get(path) {
                return self.construct(path, class, args);
            }
            return self.fail(
                format!("the archive has no code of `{path}`"),
                "save the model again",
            );
        }
        if path == "getattr" {
            return match args.positional.as_slice() {
                [value, Value::Str(name)] => self.attribute(value, &name.clone()),
                _ => self.unknown_python("this call of getattr"),
            };
        }
        match path.split_once('.') {
            Some(("torch", name)) => self.call_torch(name, args, arity),
            Some(("ops", name)) => match name.split_once('.') {
                Some(("prim", name)) => self.call_prim(name, args),
                Some(("aten", name)) => self.call_torch(name, args, arity),
                _ => self.call_library(path, args, arity),
            },
            _ => self.call_builtin(path, args),
        }
    }

    fn construct(
        &mut self,
        path: &str,
        class: &'a super::code::Class<'a>,
        args: Args<'a>,
    ) -> Eval<Value<'a>> {
        if class.base == Some("NamedTuple") {
            let mut items = args.positional;
            for name in class.annotations.keys().skip(items.len()) {
                let Some(value) = args.keyword.iter().find(|(k, _)| k == name) else {
                    break;
                };
                items.push(value.1.clone());
            }
            return Ok(Value::named_tuple(Some(path.into()), items));
        }
        let object = Value::object(path);
        if let Some(&init) = class.methods.get("__init__") {
            self.call_function(init, Some(Value::Object(object.clone())), args)?;
        }
        Ok(Value::Object(object))
    }

    /// `CONSTANTS.c0`, or a function taken as a value.
    fn global(&mut self, path: &str) -> Eval<Value<'a>> {
        if let Some(index) = path
            .strip_prefix("CONSTANTS.c")
            .and_then(|i| i.parse().ok())
        {
            let objects = self.objects;
            return match objects.constant(index) {
                Some(tensor) => self.tensor_constant(tensor, "constants", path, Role::Literal, &[]),
                None => self.fail(
                    format!("the archive has no constant `{path}`"),
                    "save the model again",
                ),
            };
        }
        match self.program.functions.get(path) {
            Some(&function) => Ok(Value::Function(function)),
            None => self.fail(format!("`{path}` is not defined"), "save the model again"),
        }
    }

    /// An attribute of a module, a named tuple or an object.
    fn attribute(&mut self, value: &Value<'a>, name: &str) -> Eval<Value<'a>> {
        match value {
            Value::Module(module) => self.module_attribute(module, name),
            Value::Object(object) => {
                let found = object
                    .attrs
                    .borrow()
                    .iter()
                    .find(|(k, _)| &**k == name)
                    .map(|(_, v)| v.clone());
                match found {
                    Some(value) => Ok(value),
                    None => self.fail(
                        format!("an object has no attribute `{name}`"),
                        "save the model again",
                    ),
                }
            }
            Value::Tuple(tuple) => {
                let class = tuple
                    .class
                    .as_deref()
                    .and_then(|class| self.program.classes.get(class));
                match class
                    .and_then(|c| c.annotations.get_index_of(name))
                    .and_then(|i| tuple.items.get(i))
                {
                    Some(value) => Ok(value.clone()),
                    None => self.fail(
                        format!("a tuple has no field `{name}`"),
                        "save the model again",
                    ),
                }
            }
            _ => self.fail(
                format!("{} has no attribute `{name}`", value.kind()),
                "save the model again",
            ),
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
            return self.expr(value, &Env::default(), class.file);
        }
        self.fail(
            format!("there is no attribute `{}`", join(&module.path, name)),
            "save the model again",
        )
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
                return self.fail(
                    format!("attribute `{path}` is of no type that is supported"),
                    "save the model again",
                );
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
        let mut names = places
            .iter()
            .filter(in_state)
            .map(|(path, _)| path.as_str());
        let (name, role) = match names.next() {
            Some(name) => (
                name,
                if role == Role::Literal {
                    Role::Buffer
                } else {
                    role
                },
            ),
            None => (path, Role::Literal),
        };
        let aliases = names.map(Into::into).collect();
        let tensor = self.objects.tensor(tensor, folder, name)?;
        let node = self.graph.add_constant(
            name,
            Constant {
                tensor,
                role,
                aliases,
            },
        );
        let cell = state(node.into());
        self.constants.insert(key, cell.clone());
        Ok(Value::Tensor(cell))
    }

    /// A condition's truth, or in words what it depends on.
    fn truth(&self, value: &Value<'a>) -> Result<bool, String> {
        Ok(match value.unwrap_zero_dim() {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(_) | Value::Tuple(_) => {
                value.items().is_some_and(|items| !items.is_empty())
            }
            Value::Size(dim) => {
                return Err(format!(
                    "a condition needs the size {dim}, known only when the model runs"
                ));
            }
            Value::Unknown(why) => return Err(why.to_string()),
            Value::Tensor(cell) => match self.scalar_constant(cell) {
                Some(value) => return self.truth(&value),
                None => return Err("a condition is computed from the values of tensors".to_owned()),
            },
            Value::Run(_) => {
                return Err("a condition is computed from the values of tensors".to_owned());
            }
            other => return Err(format!("a condition is {}", other.kind())),
        })
    }
}

/// A dotted path that begins at a global name, such as `torch.add` or `int`.
fn global_path(expr: &Expr, env: &Env<'_>) -> Option<String> {
    let mut parts = Vec::new();
    let mut expr = expr;
    loop {
        match expr {
            Expr::Attribute(attribute) => {
                parts.push(attribute.attr.as_str());
                expr = &attribute.value;
            }
            Expr::Name(name) if !env.contains_key(name.id.as_str()) => {
                parts.push(name.id.as_str());
                break;
            }
            _ => return None,
        }
    }
    parts.reverse();
    Some(parts.join("."))
}

/// `a.b` under `prefix`.
pub(super) fn join(prefix: &str, name: &str) -> Rc<str> {
    if prefix.is_empty() {
        name.into()
    } else {
        format!("{prefix}.{name}").into()
    }
}

/// Keeps the declared type of a list or dictionary, which an empty one does not show.
fn retype<'a>(value: Value<'a>, ty: &str) -> Value<'a> {
    match &value {
        Value::List(list) if list.ty.is_none() && list.items.borrow().is_empty() => {
            Value::typed_list(Some(ty.into()), Vec::new())
        }
        Value::Dict(dict) if dict.ty.is_none() && dict.items.borrow().is_empty() => {
            Value::dict(Some(ty.into()), Vec::new())
        }
        _ => value,
    }
}

/// Whether a block ends in an exception.
fn raises(body: &[Stmt]) -> bool {
    body.iter().any(|s| called(s) == Some("RaiseException"))
}

/// Whether a block does nothing that the result depends on.
fn is_inert(body: &[Stmt]) -> bool {
    body.iter()
        .all(|s| matches!(s, Stmt::Pass(_)) || called(s) == Some("warn"))
}

/// The name a call statement ends in.
fn called(statement: &Stmt) -> Option<&str> {
    let Stmt::Expr(expr) = statement else {
        return None;
    };
    let Expr::Call(call) = &*expr.value else {
        return None;
    };
    let Expr::Attribute(attribute) = &*call.func else {
        return None;
    };
    Some(attribute.attr.as_str())
}
