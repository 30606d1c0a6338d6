//! Statements: blocks, branches, loops, assignments.

use ruff_python_ast::{Expr, Stmt, StmtFor, StmtIf, StmtWhile};
use ruff_text_size::Ranged;

use super::expressions::retype;
use super::{Env, Eval, Evaluator, Flow, join};
use crate::formats::pickle::Object;
use crate::formats::torchscript::value::{ModuleRef, Value};

impl<'a> Evaluator<'a> {
    pub(super) fn block(&mut self, body: &'a [Stmt], env: &mut Env<'a>) -> Eval<Flow<'a>> {
        self.deeper()?;
        let mut flow = Flow::Next;
        for statement in body {
            flow = self.statement(statement, env)?;
            if !matches!(flow, Flow::Next) {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn statement(&mut self, statement: &'a Stmt, env: &mut Env<'a>) -> Eval<Flow<'a>> {
        self.step()?;
        self.place = Some((env.file, statement.range()));
        if let Stmt::Assign(assign) = statement
            && matches!(
                assign.targets.first(),
                Some(Expr::Attribute(_) | Expr::Subscript(_))
            )
        {
            self.changes_something()?;
        }
        match statement {
            Stmt::Assign(assign) => {
                let [target] = assign.targets.as_slice() else {
                    return self.unknown_python("a chained assignment");
                };
                let arity = match target {
                    Expr::Tuple(tuple) => Some(tuple.elts.len()),
                    _ => None,
                };
                let value = self.expr_with_arity(&assign.value, env, arity)?;
                self.assign(target, value, env)?;
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    let value = self.expr(value, env)?;
                    let value = retype(value, env.file.text(&*assign.annotation));
                    self.assign(&assign.target, value, env)?;
                }
            }
            Stmt::Expr(expr) => {
                self.expr(&expr.value, env)?;
            }
            Stmt::Return(ret) => {
                let value = match &ret.value {
                    Some(value) => self.expr(value, env)?,
                    None => Value::None,
                };
                return Ok(Flow::Return(value));
            }
            Stmt::Pass(_) => {}
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::If(branch) => return self.branch(branch, env),
            Stmt::For(each) => return self.for_loop(each, env),
            Stmt::While(each) => return self.while_loop(each, env),
            _ => return self.unknown_python("this statement"),
        }
        Ok(Flow::Next)
    }

    fn for_loop(&mut self, each: &'a StmtFor, env: &mut Env<'a>) -> Eval<Flow<'a>> {
        let iterable = self.expr(&each.iter, env)?;
        self.place = Some((env.file, each.iter.range()));
        for item in self.iterate(&iterable)? {
            self.step()?;
            self.assign(&each.target, item, env)?;
            match self.block(&each.body, env)? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                flow @ Flow::Return(_) => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn while_loop(&mut self, each: &'a StmtWhile, env: &mut Env<'a>) -> Eval<Flow<'a>> {
        loop {
            self.step()?;
            let test = self.expr(&each.test, env)?;
            self.place = Some((env.file, each.test.range()));
            match self.truth(&test) {
                Ok(true) => {}
                Ok(false) => break,
                Err(what) => return self.depends_on_data(what),
            }
            match self.block(&each.body, env)? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                flow @ Flow::Return(_) => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn branch(&mut self, branch: &'a StmtIf, env: &mut Env<'a>) -> Eval<Flow<'a>> {
        let test = self.expr(&branch.test, env)?;
        self.place = Some((env.file, branch.test.range()));
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
                let branches = [&branch.body[..], other];
                return if self.both_branches((&test, &what), branches, env)? {
                    Ok(Flow::Next)
                } else {
                    self.depends_on_data(what)
                };
            }
        };
        self.block(taken, env)
    }

    fn assign(&mut self, target: &'a Expr, value: Value<'a>, env: &mut Env<'a>) -> Eval<()> {
        match target {
            Expr::Name(name) => {
                env.names.insert(name.id.as_str(), value);
            }
            Expr::Tuple(tuple) => {
                let items = self.unpack(value, tuple.elts.len())?;
                for (target, item) in tuple.elts.iter().zip(items) {
                    self.assign(target, item, env)?;
                }
            }
            Expr::Attribute(attribute) => match self.expr(&attribute.value, env)? {
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
                    self.expr(&subscript.value, env)?,
                    self.expr(&subscript.slice, env)?,
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
            Some(items) => self.damaged(format!("{} values are unpacked into {n}", items.len())),
            None => self.damaged(format!("{} is unpacked into {n} values", value.kind())),
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
            _ => self.depends_on_data(format!("a loop runs over {}", value.kind())),
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

    /// A condition's truth, or in words what it depends on.
    pub(super) fn truth(&self, value: &Value<'a>) -> Result<bool, String> {
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
            Value::Unknown { why, .. } => return Err(why.to_string()),
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
