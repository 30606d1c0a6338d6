//! Nodes of the program to nodes of the graph: operators the IR knows by the table of [`aten`](crate::formats::aten), all others
//! opaque.

mod arguments;

use smallvec::SmallVec;

use super::opaque;
use super::read::{Reader, Slot};
use super::schema::{Node, name_of, tagged};
use crate::formats::aten::{
    Arguments, Caller, Entry, Eval, Lowered, Stop, Template, TensorRef, in_place_of, share,
};
use crate::ir::{self, Dialect, Dim, Op, Type};

use arguments::{all_results, results};

/// The namespace of PyTorch's own operators.
const ATEN: &str = "torch.ops.aten.";

impl<'p> Reader<'p> {
    /// Reads one node.
    pub(super) fn node(&mut self, node: &'p Node) -> Eval<()> {
        if self.sizes(node)? || is_assertion(node) {
            return Ok(());
        }
        let Some(name) = node
            .target
            .strip_prefix(ATEN)
            .and_then(|rest| rest.split('.').next())
        else {
            return self.opaque(node, &node.target);
        };
        match in_place_of(name) {
            Some(base) => self.writing(node, base),
            None => self.operator(node, name),
        }
    }

    /// Numbers that are known from the inputs' sizes: they are computed anew where they are needed.
    fn sizes(&mut self, node: &'p Node) -> Eval<bool> {
        let [output] = node.outputs.as_slice() else {
            return Ok(false);
        };
        let (Some(("as_sym_int", _)), Some(name)) = (tagged(output), name_of(output)) else {
            return Ok(false);
        };
        let values = &self.program.graph_module.graph.sym_int_values;
        let dim = values.get(name).and_then(|value| self.size(value));
        match dim.filter(|dim| self.is_known(dim)) {
            Some(dim) => self.bind(name, Slot::Size(dim)).map(|()| true),
            None => Ok(false),
        }
    }

    fn operator(&mut self, node: &'p Node, name: &str) -> Eval<()> {
        let names = results(node);
        let lowered = match names {
            Some(_) => self.lower(name, &node)?,
            None => None,
        };
        let names = names.unwrap_or_default();
        let values = match lowered {
            Some(Lowered::One(value)) => vec![Some(value)],
            Some(Lowered::List(values)) => values.into_iter().map(Some).collect(),
            // Of the other results nothing is known: nobody may read them.
            Some(Lowered::First(value, _))
                if names.iter().skip(1).all(|name| !self.is_read(name)) =>
            {
                let others = std::iter::repeat_n(None, names.len().saturating_sub(1));
                std::iter::once(Some(value)).chain(others).collect()
            }
            Some(Lowered::Same) => return self.same(node, name, &names),
            Some(Lowered::First(..)) | None => return self.opaque(node, &node.target),
        };
        if values.len() != names.len() {
            return self.opaque(node, &node.target);
        }
        for (value, result) in values.iter().zip(&names) {
            if let Some(value) = value {
                self.settle(*value, result)?;
            }
            if let Some(value) = value
                && !self.fits(*value, result)?
            {
                return self.opaque(node, &node.target);
            }
        }
        let base = self.first_tensor(node)?;
        for (value, result) in values.into_iter().zip(names) {
            if let Some(value) = value {
                self.note_name(value, result);
                self.bind(result, Slot::Tensor(share(name, base.as_ref(), value)))?;
            }
        }
        Ok(())
    }

    /// An operator whose result is its first argument.
    fn same(&mut self, node: &'p Node, name: &str, names: &[&'p str]) -> Eval<()> {
        let (Some(base), [result]) = (self.first_tensor(node)?, names) else {
            return self.opaque(node, &node.target);
        };
        let cell = Caller::same(self, name, &base)?;
        self.bind(result, Slot::Tensor(cell))
    }

    /// An operator that writes to its first argument.
    fn writing(&mut self, node: &'p Node, base: &str) -> Eval<()> {
        let Some(cell) = self.first_tensor(node)? else {
            return self.opaque(node, &node.target);
        };
        let after = self.in_place(base, &node, &cell)?;
        match results(node).unwrap_or_default()[..] {
            [result] => {
                self.note_name(after, result);
                self.bind(result, Slot::Tensor(cell))
            }
            _ => Ok(()),
        }
    }

    /// Gives a slice the end that the program says: `x[:1]` of `s0` rows has one row, as `s0` is at least 1.
    fn settle(&mut self, value: ir::Value, name: &str) -> Eval<()> {
        let Some(Op::Slice {
            axis, start, step, ..
        }) = self.graph.op(value.node)
        else {
            return Ok(());
        };
        let (axis, start, step) = (*axis, start.clone(), *step);
        let declared = self.ty(name)?.len(axis);
        if let (Some(n), None) = (declared, self.graph.ty(value).len(axis)) {
            let end = start.clone() + Dim::from(n) * Dim::from(step);
            let op = Op::Slice {
                axis,
                start,
                end,
                step,
            };
            let operands = self.graph.operands(value.node);
            // If it does not fit, it stays as it was.
            let _ = self.graph.replace_op(value.node, op, &operands);
        }
        Ok(())
    }

    /// Whether a value is what the program says of it, as far as that shows.
    fn fits(&mut self, value: ir::Value, name: &str) -> Eval<bool> {
        let declared = self.ty(name)?;
        let computed = self.graph.ty(value);
        if declared.dtype() != computed.dtype() {
            return Ok(false);
        }
        let (Some(a), Some(b)) = (declared.shape(), computed.shape()) else {
            return Ok(false);
        };
        let differs = |(a, b): (&Dim, &Dim)| {
            (a.clone() - b.clone())
                .as_number()
                .is_some_and(|difference| difference != 0)
        };
        Ok(a.len() == b.len() && !a.iter().zip(b).any(differs))
    }

    /// A node that is kept as it is; `target` is the operator to write.
    fn opaque(&mut self, node: &'p Node, target: &str) -> Eval<()> {
        let names = all_results(node);
        let mut types: SmallVec<[Type; 1]> = SmallVec::new();
        for (tag, name) in &names {
            types.push(match *tag {
                "as_tensor" => self.ty(name)?,
                tag => Type::Other(tag.trim_start_matches("as_").into()),
            });
        }
        let id = self.opaque_value(node, target, types)?;
        for (value, (tag, name)) in self.graph.results(id).zip(names) {
            self.note_name(value, name);
            let slot = match tag {
                "as_tensor" => Slot::Tensor(self.shared(node, value)?),
                _ => Slot::Run(value),
            };
            self.bind(name, slot)?;
        }
        Ok(())
    }

    /// The result of an opaque operator, which may be a view of its first argument.
    fn shared(&self, node: &'p Node, value: ir::Value) -> Eval<TensorRef> {
        let name = node
            .target
            .strip_prefix(ATEN)
            .and_then(|rest| rest.split('.').next());
        let base = self.first_tensor(node)?;
        Ok(share(name.unwrap_or_default(), base.as_ref(), value))
    }

    fn opaque_value(
        &mut self,
        node: &Node,
        target: &str,
        outputs: SmallVec<[Type; 1]>,
    ) -> Eval<ir::NodeId> {
        let template = opaque::template(self, node, target)?;
        let label = target
            .trim_start_matches(ATEN)
            .split('.')
            .next()
            .unwrap_or(target);
        let name = target
            .trim_start_matches("torch.ops.")
            .replacen('.', "::", 1);
        Ok(self.add_opaque(label, &name, template, outputs))
    }

    /// Adds an opaque operator of this name; its node is named after `label`.
    pub(super) fn add_opaque(
        &mut self,
        label: &str,
        name: &str,
        template: Template,
        outputs: SmallVec<[Type; 1]>,
    ) -> ir::NodeId {
        let (op, operands) = template.opaque(Dialect::ExportedProgram, name, outputs.clone());
        self.add_node(label, op, &operands, outputs)
    }

    /// Adds a node named after `label`.
    pub(super) fn add_node(
        &mut self,
        label: &str,
        op: Op,
        operands: &[ir::Value],
        outputs: SmallVec<[Type; 1]>,
    ) -> ir::NodeId {
        let name = self.node_name(label);
        let unique = self.unique(&name);
        let id = self.graph.add_typed_op(&unique, op, operands, outputs);
        self.note(id, name);
        id
    }

    /// The name of the next node: the module's path, and the operator's unless the module is nothing but that.
    pub(super) fn node_name(&self, label: &str) -> String {
        let node = self
            .at
            .and_then(|at| self.program.graph_module.graph.nodes.get(at));
        let stack = node.and_then(|node| node.metadata.get("nn_module_stack")?.as_str());
        // `key,path,class;key,path,class`
        let inner = stack
            .and_then(|stack| stack.rsplit(';').next())
            .unwrap_or_default();
        let path = inner
            .split_once(',')
            .and_then(|(_, rest)| rest.rsplit_once(','))
            .map_or("", |(path, _)| path);
        let path = path.trim_start_matches("L['self']").trim_start_matches('.');
        let name = match (path.is_empty(), self.has_modules(path)) {
            (true, _) => label.to_owned(),
            (false, true) => format!("{path}.{label}"),
            (false, false) => path.to_owned(),
        };
        // Parameters keep their names, whoever comes first.
        if self.is_state(&name) {
            name + ".op"
        } else {
            name
        }
    }
}

/// Whether a node only checks something: it has no result, and what it checked was true of the example.
fn is_assertion(node: &Node) -> bool {
    let name = node.target.strip_prefix(ATEN).unwrap_or_default();
    name.starts_with("_assert")
        || name.starts_with("sym_constrain_range")
        || name.starts_with("_functional_assert")
}

impl<'p> Caller for Reader<'p> {
    type Call = &'p Node;

    const STALE: &'static str =
        "export the decomposed program, which writes to nothing: export(...).run_decompositions()";

    fn arguments<'c>(&self, node: &'c &'p Node, entry: &Entry) -> Eval<Option<Arguments<'c>>> {
        self.arguments_of(node, entry)
    }

    fn opaque_in_place(
        &mut self,
        name: &str,
        node: &&'p Node,
        before: ir::Value,
    ) -> Eval<ir::Value> {
        // The operator of the same name that returns what this one writes.
        let target = node.target.replacen(&format!("{name}_"), name, 1);
        let ty = self.graph.ty(before).clone();
        let node = self.opaque_value(node, &target, [ty].into())?;
        Ok(node.into())
    }

    fn refuse(&self, what: String, help: &str) -> Stop {
        self.error(what, help).into()
    }

    fn describe(&self, _: &str) -> String {
        self.place()
    }
}
