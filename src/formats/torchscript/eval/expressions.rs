//! Expressions and calls.

use ruff_python_ast::{Expr, ExprCall, ExprDict, Number, UnaryOp};
use ruff_text_size::Ranged;

use super::{Args, Env, Eval, Evaluator, MAX_CONTAINERS};
use crate::formats::torchscript::code::Class;
use crate::formats::torchscript::value::Value;

impl<'a> Evaluator<'a> {
    pub fn expr(&mut self, expr: &'a Expr, env: &Env<'a>) -> Eval<Value<'a>> {
        self.expr_with_arity(expr, env, None)
    }

    fn exprs(&mut self, list: &'a [Expr], env: &Env<'a>) -> Eval<Vec<Value<'a>>> {
        list.iter().map(|e| self.expr(e, env)).collect()
    }

    /// `arity`: into how many names the result is unpacked, which tells how many results an unknown operator has.
    pub(super) fn expr_with_arity(
        &mut self,
        expr: &'a Expr,
        env: &Env<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        self.step()?;
        self.deeper()?;
        let value = match expr {
            Expr::Name(name) => match (env.names.get(name.id.as_str()), name.id.as_str()) {
                (Some(value), _) => value.clone(),
                (None, "inf") => Value::Float(f64::INFINITY),
                (None, "nan") => Value::Float(f64::NAN),
                (None, name) => return self.damaged(format!("`{name}` is not defined")),
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
                match self.expr(&unary.operand, env)? {
                    Value::Int(n) => Value::Int(n.wrapping_neg()),
                    Value::Float(x) => Value::Float(-x),
                    Value::Size(dim) => Value::size(-dim),
                    other => self.call_torch("neg", Args::of([other]), None)?,
                }
            }
            Expr::List(list) => Value::list(self.exprs(&list.elts, env)?),
            Expr::Tuple(tuple) => Value::tuple(self.exprs(&tuple.elts, env)?),
            Expr::Dict(dict) => self.dict(dict, env)?,
            Expr::If(choice) => {
                let test = self.expr(&choice.test, env)?;
                match self.truth(&test) {
                    Ok(true) => self.expr(&choice.body, env)?,
                    Ok(false) => self.expr(&choice.orelse, env)?,
                    Err(what) => return self.depends_on_data(what),
                }
            }
            Expr::Attribute(_) if let Some(path) = global_path(expr, env) => self.global(&path)?,
            Expr::Attribute(attribute) => {
                let value = self.expr(&attribute.value, env)?;
                self.attribute(&value, attribute.attr.as_str())?
            }
            Expr::Subscript(subscript) => {
                let (list, index) = (
                    self.expr(&subscript.value, env)?,
                    self.expr(&subscript.slice, env)?,
                );
                self.item(&list, &index)?
            }
            Expr::Call(call) => self.call(call, env, arity)?,
            _ => return self.unknown_python("this expression"),
        };
        self.depth -= 1;
        self.check_depth(&value)?;
        Ok(value)
    }

    fn dict(&mut self, dict: &'a ExprDict, env: &Env<'a>) -> Eval<Value<'a>> {
        let made = Value::dict(None, Vec::new());
        for item in &dict.items {
            let Some(key) = &item.key else {
                return self.unknown_python("`**` in a dictionary");
            };
            let key = self.expr(key, env)?;
            let value = self.expr(&item.value, env)?;
            self.set_entry(&made, &key, &value)?;
        }
        Ok(made)
    }

    /// Containers of containers of containers ... are no network's values.
    pub fn check_depth(&self, value: &Value<'a>) -> Eval<()> {
        if value.depth() > MAX_CONTAINERS {
            let what = format!("lists nest over {MAX_CONTAINERS} deep");
            return self.limit(what, "trace the model instead of scripting it");
        }
        Ok(())
    }

    pub(super) fn call(
        &mut self,
        call: &'a ExprCall,
        env: &Env<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        let path = global_path(&call.func, env);
        // A type is no value: the first argument of these is not evaluated.
        if let Some(name @ ("annotate" | "unchecked_cast" | "uninitialized" | "isinstance")) =
            path.as_deref()
        {
            return self.typed_call(name, call, env);
        }
        let mut args = Args::of([]);
        for argument in &call.arguments.args {
            args.positional.push(self.expr(argument, env)?);
        }
        for keyword in &call.arguments.keywords {
            let Some(name) = &keyword.arg else {
                return self.unknown_python("`**` in a call");
            };
            let value = self.expr(&keyword.value, env)?;
            args.keyword.push((name.as_str(), value));
        }
        self.place = Some((env.file, call.range()));
        if let Some(path) = path {
            return self.call_global(&path, args, arity);
        }
        if let Expr::Attribute(attribute) = &*call.func {
            match self.expr(&attribute.value, env)? {
                Value::Module(module) => {
                    self.place = Some((env.file, call.range()));
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
        match self.expr(&call.func, env)? {
            Value::Function(function) => self.call_function(function, None, args),
            _ => self.unknown_python("a call of this value"),
        }
    }

    fn typed_call(&mut self, name: &str, call: &'a ExprCall, env: &Env<'a>) -> Eval<Value<'a>> {
        match (name, &call.arguments.args[..]) {
            ("uninitialized", _) => Ok(Value::Uninitialized),
            ("annotate" | "unchecked_cast", [ty, value]) => {
                let value = self.expr(value, env)?;
                Ok(retype(value, env.file.text(ty)))
            }
            ("isinstance", [value, ty]) => {
                let value = self.expr(value, env)?;
                self.is_instance(&value, env.file.text(ty))
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
            return self.damaged(format!("the archive has no code of `{path}`"));
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

    fn construct(&mut self, path: &str, class: &'a Class<'a>, args: Args<'a>) -> Eval<Value<'a>> {
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
            Expr::Name(name) if !env.names.contains_key(name.id.as_str()) => {
                parts.push(name.id.as_str());
                break;
            }
            _ => return None,
        }
    }
    parts.reverse();
    Some(parts.join("."))
}

/// Keeps the declared type of a list or dictionary, which an empty one does not show.
pub(super) fn retype<'a>(value: Value<'a>, ty: &str) -> Value<'a> {
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
