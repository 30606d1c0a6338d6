//! The graph's operators as nodes of the program.

use serde_json::{Map, Value as Json, json};

use super::sizes::Size;
use super::{Writer, mistake, unwritable};
use crate::error::FormatError;
use crate::formats::aten::{self, Expression, Invocation, Written};
use crate::formats::dtypes::names;
use crate::formats::exported_program::numbers;
use crate::formats::exported_program::opaque::{NO_TEMPLATE, Place, fill};
use crate::formats::exported_program::schema::{NamedArgument, Node, tag, tensor};
use crate::ir::{NodeId, NodeKind, Op, Opaque, Type, Value};

impl Writer<'_> {
    /// An argument of a node, by position or by name.
    pub(super) fn named(&self, name: &str, arg: Json, positional: bool) -> NamedArgument {
        let mut other = Map::new();
        if self.fields.kind {
            let kind = if positional { POSITIONAL } else { KEYWORD };
            other.insert("kind".to_owned(), kind.into());
        }
        NamedArgument {
            name: name.to_owned(),
            arg,
            other,
        }
    }

    /// The further fields of a node of this name.
    pub(super) fn node_fields(&self, name: &str) -> Map<String, Json> {
        let mut fields = Map::new();
        if self.fields.single {
            fields.insert("is_hop_single_tensor_return".to_owned(), Json::Null);
        }
        if self.fields.name {
            fields.insert("name".to_owned(), name.into());
        }
        fields
    }

    pub(super) fn nodes(&mut self) -> Result<(), FormatError> {
        let graph = self.graph;
        let order = graph.topological_order();
        let order = order.map_err(|node| {
            mistake(format!(
                "the graph has a cycle through `{}`",
                graph.node(node).name
            ))
        })?;
        for node in order {
            match &graph.node(node).kind {
                NodeKind::Op(Op::Opaque(opaque)) => self.opaque(node, opaque)?,
                NodeKind::Op(op) => self.operator(node, op)?,
                NodeKind::Input | NodeKind::Constant(_) => {}
            }
        }
        // A number may be all that is returned.
        for output in graph.outputs() {
            self.operand(output.value)?;
        }
        Ok(())
    }

    fn operator(&mut self, id: NodeId, op: &Op) -> Result<(), FormatError> {
        let graph = self.graph;
        let operands = graph.operands(id);
        let numbers = operands.iter().map(|value| self.number(*value));
        let expressions = aten::operands(op, &numbers.collect::<Vec<_>>());
        let mut names = Vec::with_capacity(operands.len());
        for (value, expression) in operands.iter().zip(&expressions) {
            names.push(match expression {
                Expression::Operand(_) => self.operand(*value)?,
                _ => String::new(),
            });
        }
        let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
        let node = graph.node(id);
        let in_order = operands.first().is_some_and(|value| self.in_order(*value));
        let expression = aten::write(&Written {
            op,
            operands: expressions,
            types: &types,
            core: self.core,
            in_order,
        });
        let expression =
            expression.map_err(|what| unwritable(format!("`{}`: {what}", node.name)))?;
        let name = match expression {
            Expression::Operand(i) => names.get(i).cloned().unwrap_or_default(),
            Expression::Call(call) => {
                let ty = node
                    .outputs
                    .first()
                    .ok_or_else(|| mistake(format!("`{}` has no result", node.name)))?;
                let name = self.result_name(id.into(), call.name);
                self.call(&call, &names, name, ty, Some(id))?
            }
            _ => return Err(mistake(format!("`{}` is no call", node.name))),
        };
        self.names.insert(id.into(), name);
        Ok(())
    }

    /// The name of a node's result: the one that the program has for it, or one after its operator.
    fn result_name(&mut self, value: Value, operator: &str) -> String {
        let key = (self.graph.node(value.node).name.clone(), value.port);
        match self.source.and_then(|source| source.names.get(&key)) {
            Some(name) => name.clone(),
            None => self.fresh(operator),
        }
    }

    /// Adds the node of a call and those of the calls that are its arguments.
    fn call(
        &mut self,
        call: &Invocation,
        operands: &[String],
        name: String,
        ty: &Type,
        id: Option<NodeId>,
    ) -> Result<String, FormatError> {
        let user = id.map_or(name.clone(), |id| self.graph.node(id).name.to_string());
        let parameters = aten::find(call.name).map_or(&[][..], |entry| entry.parameters);
        let mut inputs = Vec::new();
        for (i, value) in call.positional.iter().enumerate() {
            let parameter = parameters.get(i).copied();
            let parameter = parameter.ok_or_else(|| {
                mistake(format!(
                    "argument {i} of `{user}` has no name in {}",
                    call.name
                ))
            })?;
            let value = self.argument(value, operands, &user)?;
            inputs.push(self.named(parameter, value, true));
        }
        for (parameter, value) in &call.keyword {
            let value = self.argument(value, operands, &user)?;
            inputs.push(self.named(parameter, value, false));
        }
        let mut outputs = vec![tensor(name.as_str())];
        let node_name = if call.others.is_empty() {
            name.clone()
        } else {
            self.fresh(call.name)
        };
        self.describe(&name, ty)?;
        for (i, ty) in call.others.iter().enumerate() {
            let name = self.fresh(&format!("{node_name}_unused_{}", i + 1));
            let meta = self.meta(ty, false)?;
            self.tensor_values.insert(name.clone(), meta);
            outputs.push(tensor(name));
        }
        self.nodes.push(Node {
            target: format!("torch.ops.aten.{}.{}", call.name, call.overload),
            inputs,
            outputs,
            metadata: id.map_or_else(|| json!({}), |id| self.metadata(id)),
            other: self.node_fields(&node_name),
        });
        Ok(name)
    }

    /// Says what a tensor is: as the program said it, if that is still so.
    fn describe(&mut self, name: &str, ty: &Type) -> Result<(), FormatError> {
        let meta = self.meta(ty, false)?;
        let meta = match self.original_meta(name) {
            Some(original) if original.sizes == meta.sizes && original.dtype == meta.dtype => {
                original.clone()
            }
            _ => meta,
        };
        self.tensor_values.insert(name.to_owned(), meta);
        Ok(())
    }

    /// Says of a result that is no tensor of the IR's what the program said of it.
    fn describe_other(&mut self, name: &str) -> Result<(), FormatError> {
        let original = self.source.map(|source| &source.program.graph_module.graph);
        if let Some(meta) = self.original_meta(name) {
            self.tensor_values.insert(name.to_owned(), meta.clone());
        } else if let Some(value) = original.and_then(|graph| graph.sym_int_values.get(name)) {
            self.sym_int_values.insert(name.to_owned(), value.clone());
        } else {
            // Others are kept with what is not interpreted.
            let kept = |list: &str| original?.other.get(list)?.get(name);
            if kept("sym_float_values")
                .or(kept("sym_bool_values"))
                .is_none()
            {
                return Err(unwritable(format!("nothing is known of `{name}`")));
            }
        }
        Ok(())
    }

    /// What the program says of where a node came from.
    fn metadata(&self, id: NodeId) -> Json {
        let node = self.source.and_then(|source| {
            let at = source.nodes.get(&self.graph.node(id).name)?;
            source.program.graph_module.graph.nodes.get(*at)
        });
        node.map_or_else(|| json!({}), |node| node.metadata.clone())
    }

    fn argument(
        &mut self,
        expression: &Expression,
        operands: &[String],
        user: &str,
    ) -> Result<Json, FormatError> {
        Ok(match expression {
            Expression::None => tag("as_none", true),
            Expression::Bool(b) => tag("as_bool", *b),
            Expression::Int(n) => tag("as_int", *n),
            Expression::Float(x) => tag("as_float", numbers::json(*x)),
            Expression::Str(text) => tag("as_string", *text),
            Expression::Dtype(dtype) => tag("as_scalar_type", names(*dtype).program),
            Expression::Contiguous => tag("as_memory_format", CONTIGUOUS_FORMAT),
            Expression::Size(dim) => self.size_argument(dim, user)?,
            Expression::Operand(_) | Expression::Constant(_) | Expression::Call(_) => {
                tensor(self.tensor(expression, operands, user)?)
            }
            Expression::List(items) => self.list(items, operands, user)?,
        })
    }

    fn list(
        &mut self,
        items: &[Expression],
        operands: &[String],
        user: &str,
    ) -> Result<Json, FormatError> {
        if items.iter().all(|item| matches!(item, Expression::Int(_))) {
            let numbers = items.iter().map(|item| match item {
                Expression::Int(n) => Json::from(*n),
                _ => Json::Null,
            });
            return Ok(tag("as_ints", numbers.collect::<Vec<_>>()));
        }
        let mut list = Vec::with_capacity(items.len());
        let sizes = items.iter().any(|item| matches!(item, Expression::Size(_)));
        for item in items {
            list.push(match item {
                Expression::Int(n) => tag("as_int", *n),
                Expression::Size(dim) => match self.size(dim, user)? {
                    Size::Number(n) => tag("as_int", n),
                    Size::Name(name, _) => tag("as_name", name),
                },
                tensor => tag("name", self.tensor(tensor, operands, user)?),
            });
        }
        Ok(tag(if sizes { "as_sym_ints" } else { "as_tensors" }, list))
    }

    /// The name of a tensor that is an argument.
    fn tensor(
        &mut self,
        expression: &Expression,
        operands: &[String],
        user: &str,
    ) -> Result<String, FormatError> {
        Ok(match expression {
            Expression::Operand(i) => operands.get(*i).cloned().unwrap_or_default(),
            Expression::Constant(tensor) => self.constant(tensor)?,
            Expression::Call(call) => {
                let ty = call
                    .ty
                    .clone()
                    .ok_or_else(|| mistake(format!("`{user}` has an argument of no type")))?;
                let name = self.fresh(call.name);
                self.call(call, operands, name, &ty, None)?
            }
            _ => {
                return Err(mistake(format!(
                    "`{user}` takes a list of tensors and others"
                )));
            }
        })
    }

    /// A constant that a call needs, as an input of the program.
    fn constant(&mut self, tensor: &crate::ir::Tensor) -> Result<String, FormatError> {
        let (i, is_new) = self.layout.constant(tensor);
        if is_new {
            let meta = self.meta(&tensor.ty(), false)?;
            let wanted = format!("c_{}", self.layout.entries[i].fqn);
            let name = self.fresh(&wanted);
            self.tensor_values.insert(name.clone(), meta);
            self.layout.entries[i].state.placeholder = name;
        }
        Ok(self.layout.entries[i].state.placeholder.clone())
    }

    /// The name of an operand; a number that is read as a tensor becomes a constant.
    fn operand(&mut self, value: Value) -> Result<String, FormatError> {
        if let Some(name) = self.names.get(&value) {
            return Ok(name.clone());
        }
        if let Some(constant) = self.graph.constant(value.node) {
            let name = self.constant(&constant.tensor)?;
            self.names.insert(value, name.clone());
            return Ok(name);
        }
        self.name(value).map(str::to_owned)
    }

    /// The number that a value is, if no node has it as a tensor.
    fn number(&self, value: Value) -> Option<f64> {
        aten::number(self.graph, value).filter(|_| !self.names.contains_key(&value))
    }

    /// Whether a value is known to lie in memory in row-major order.
    fn in_order(&self, value: Value) -> bool {
        match &self.graph.node(value.node).kind {
            NodeKind::Input | NodeKind::Constant(_) => true,
            NodeKind::Op(op) => matches!(
                op,
                Op::Linear {} | Op::MatMul {} | Op::Reshape { .. } | Op::Flatten { .. }
            ),
        }
    }

    /// A node that was kept as it was read.
    fn opaque(&mut self, id: NodeId, opaque: &Opaque) -> Result<(), FormatError> {
        let graph = self.graph;
        let node = graph.node(id);
        let mut operands = Vec::new();
        for value in graph.operands(id) {
            operands.push(self.operand(value)?);
        }
        let mut sizes = Vec::new();
        for dim in &opaque.sizes {
            sizes.push(match self.size(dim, &node.name)? {
                Size::Number(n) => Json::from(n),
                Size::Name(name, _) => Json::from(name),
            });
        }
        let label = opaque
            .name
            .rsplit("::")
            .next()
            .and_then(|name| name.split('.').next());
        let label = label.unwrap_or("node").to_owned();
        let mut results = Vec::new();
        for (value, ty) in graph.results(id).zip(&node.outputs) {
            let name = self.result_name(value, &label);
            match ty {
                Type::Tensor(..) => self.describe(&name, ty)?,
                Type::Other(_) => self.describe_other(&name)?,
            }
            self.names.insert(value, name.clone());
            results.push(name);
        }
        let mut place = |place: Place| match place {
            Place::Operand(i) => operands.get(i).cloned().map(Json::from),
            Place::Size(i) => sizes.get(i).cloned(),
            Place::Result(i) => results.get(i).cloned().map(Json::from),
        };
        let filled = fill(&opaque.template, &mut place);
        let filled = filled.and_then(|json| serde_json::from_value::<Node>(json).ok());
        let Some(mut written) = filled else {
            return Err(FormatError::Unwritable {
                format: super::FORMAT,
                what: format!("the template of `{}` is no node of a program", node.name),
                help: NO_TEMPLATE.to_owned(),
            });
        };
        let name = match results.as_slice() {
            [one] => one.clone(),
            _ => self.fresh(&label),
        };
        if self.fields.name {
            written.other.insert("name".to_owned(), name.into());
        }
        if self.fields.kind {
            for input in &mut written.inputs {
                let kind = input.other.entry("kind");
                kind.or_insert_with(|| POSITIONAL.into());
            }
        }
        written.metadata = self.metadata(id);
        self.nodes.push(written);
        Ok(())
    }
}

/// The schema's numbers for arguments by position, and by name.
const POSITIONAL: i64 = 1;
const KEYWORD: i64 = 2;

/// The schema's number for row-major order.
const CONTIGUOUS_FORMAT: i64 = 1;
