//! The inputs of a program, state among them, and its outputs, by what the signature says of them.

use std::ops::Range;
use std::sync::Arc;

use indexmap::map::Entry;
use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use super::{DAMAGED, Reader, Slot};
use crate::formats::aten::{Caller, Eval, add_outputs, fresh, state};
use crate::formats::exported_program::package::dtype_name;
use crate::formats::exported_program::schema::{name_of, tagged};
use crate::formats::exported_program::source::{Placeholder, ResultSlot, State, StateKind};
use crate::ir::{self, Constant, Dim, NodeId, Role, Symbol};

impl<'p> Reader<'p> {
    /// What the inputs are; state becomes constants.
    pub(super) fn inputs(&mut self) -> Eval<()> {
        let program = self.program;
        let (inputs, specs) = (
            &program.graph_module.graph.inputs,
            &program.graph_module.signature.input_specs,
        );
        self.same_count("inputs", inputs, specs)?;
        let mut again: Vec<(&'p str, &'p str, String)> = Vec::new();
        for (input, spec) in inputs.iter().zip(specs) {
            let Some((kind, spec)) = tagged(spec) else {
                return self.fail("the signature has an input of no kind", DAMAGED);
            };
            let Some((fqn, kind)) = self.state_of(kind, spec)? else {
                self.placeholders.push(Placeholder::Other);
                continue;
            };
            let (Some(fqn), Some(name)) = (fqn, name_of(input)) else {
                return self.fail("a parameter, buffer or constant has no name", DAMAGED);
            };
            let state = State {
                kind,
                placeholder: name.to_owned(),
                requires_grad: self.meta(name)?.requires_grad,
            };
            self.placeholders.push(Placeholder::State);
            let known = self.described(name)?.0;
            // PyTorch 2.6 gives tied weights an input for each of their names, all of which are of one.
            match self.state.entry(fqn.to_owned()) {
                Entry::Occupied(first) => again.push((fqn, known, first.get().placeholder.clone())),
                Entry::Vacant(entry) => {
                    entry.insert(state);
                }
            }
        }
        self.user_inputs()?;
        self.constants()?;
        for (fqn, name, first) in again {
            let (ty, other) = (self.ty(self.described(&first)?.0)?, self.ty(name)?);
            if ty != other {
                let what = format!("`{fqn}` is an input twice, as {ty} and as {other}");
                return self.fail(what, DAMAGED);
            }
            let slot = self.slot(&first)?.clone();
            self.bind(name, slot)?;
        }
        Ok(())
    }

    /// The name of a parameter, buffer or constant that an input is, and which of these; `None` if the caller gives it.
    fn state_of(&self, kind: &str, spec: &'p Json) -> Eval<Option<(Option<&'p str>, StateKind)>> {
        let text = |field: &str| spec.get(field).and_then(Json::as_str);
        Ok(Some(match kind {
            "parameter" => (text("parameter_name"), StateKind::Parameter),
            "buffer" => {
                let persistent = spec.get("persistent").and_then(Json::as_bool);
                let persistent = persistent.unwrap_or(true);
                (text("buffer_name"), StateKind::Buffer { persistent })
            }
            "tensor_constant" => (text("tensor_constant_name"), StateKind::Constant),
            "user_input" | "constant_input" => return Ok(None),
            "custom_obj" => {
                let name = text("custom_obj_name").unwrap_or_default();
                return self.fail(
                    format!("it holds a custom object, `{name}`"),
                    "objects of classes in C++ are not read; export the model without them",
                );
            }
            "token" => {
                return self.fail(
                    "it orders side effects by tokens",
                    "export the model without operators that have side effects",
                );
            }
            other => {
                let what = format!("it has an input of the kind `{other}`, which is not known");
                return self.fail(what, "export the model with PyTorch 2.6 to 2.15");
            }
        }))
    }

    fn user_inputs(&mut self) -> Eval<()> {
        let program = self.program;
        let inputs = &program.graph_module.graph.inputs;
        for (i, input) in inputs.iter().enumerate() {
            if !matches!(self.placeholders[i], Placeholder::Other) {
                continue;
            }
            match (tagged(input), name_of(input)) {
                (Some(("as_tensor", _)), Some(name)) => {
                    let ty = self.ty(name)?;
                    let Some(shape) = ty.shape() else {
                        return self.fail(
                            format!(
                                "the input `{name}` is of type {}",
                                dtype_name(self.meta(name)?.dtype)
                            ),
                            "export the model for inputs of floats or integers",
                        );
                    };
                    for dim in shape {
                        self.known.extend(determined(dim));
                    }
                    let node_name = if self.is_state(name) {
                        format!("{name}.input")
                    } else {
                        name.to_owned()
                    };
                    let index = self.graph.inputs().len();
                    let node = self.graph.add_input(&node_name, ty);
                    self.placeholders[i] = Placeholder::Input(index);
                    let cell = fresh(node.into());
                    self.inputs.push((node, cell.clone()));
                    self.bind(name, Slot::Tensor(cell))?;
                }
                (Some(("as_sym_int", _)), Some(name)) => {
                    let value = program.graph_module.graph.sym_int_values.get(name);
                    let Some(dim) = value.and_then(|value| self.size(value)) else {
                        return self.fail(format!("the input `{name}` is no size"), DAMAGED);
                    };
                    self.known.extend(determined(&dim));
                    self.bind(name, Slot::Size(dim))?;
                }
                (Some(("as_int" | "as_float" | "as_bool" | "as_string" | "as_none", _)), _) => {}
                _ => {
                    let what = "an input is neither a tensor nor a number";
                    return self.fail(what, "export the model for tensors and numbers");
                }
            }
        }
        Ok(())
    }

    /// Parameters, buffers and constants as constants of the graph; those that are one tensor become one constant.
    fn constants(&mut self) -> Eval<()> {
        let tied = |first: &FxHashMap<_, (ir::Tensor, NodeId)>, tensor: &ir::Tensor| {
            let (other, node) = first.get(&tensor.place())?;
            (!tensor.is_empty() && other.same_memory(tensor)).then_some(*node)
        };
        let mut first: FxHashMap<(usize, Range<usize>), (ir::Tensor, NodeId)> =
            FxHashMap::default();
        let states: Vec<(String, State)> = self
            .state
            .iter()
            .map(|(fqn, state)| (fqn.clone(), state.clone()))
            .collect();
        for (fqn, state_of) in states {
            let name = &state_of.placeholder;
            let tensor = self.package.tensor(&fqn, state_of.kind.is_constant())?;
            let known = self.described(name)?.0;
            let (declared, held) = (self.ty(known)?, tensor.ty());
            if declared != held {
                let what =
                    format!("the graph takes `{fqn}` for {declared}, and the archive holds {held}");
                return self.fail(what, DAMAGED);
            }
            self.constants.push((fqn.clone(), tensor.clone()));
            let role = match state_of.kind {
                StateKind::Parameter => Role::Parameter,
                StateKind::Buffer { persistent: true } => Role::Buffer,
                _ => Role::Literal,
            };
            let node = match tied(&first, &tensor) {
                Some(node) => {
                    self.graph.add_aliases(node, [Arc::from(fqn.as_str())]);
                    node
                }
                None => {
                    let constant = Constant::new(tensor.clone(), role);
                    let node = self.graph.add_constant(&fqn, constant);
                    first.insert(tensor.place(), (tensor, node));
                    node
                }
            };
            self.bind(known, Slot::Tensor(state(node.into())))?;
        }
        // State that is no input of the graph is another name of what is one, or nothing to it, and kept.
        for fqn in self.package.weight_names() {
            if self.state.contains_key(fqn) {
                continue;
            }
            let Ok(tensor) = self.package.tensor(fqn, false) else {
                continue;
            };
            match tied(&first, &tensor) {
                Some(node) => self.graph.add_aliases(node, [Arc::from(fqn)]),
                None => self.constants.push((fqn.to_owned(), tensor)),
            }
        }
        Ok(())
    }

    /// Refuses a signature that has not as many inputs or outputs as the graph.
    fn same_count(&self, what: &str, own: &[Json], specs: &[Json]) -> Eval<()> {
        if own.len() == specs.len() {
            return Ok(());
        }
        let (own, said) = (own.len(), specs.len());
        self.fail(
            format!("the graph has {own} {what}, its signature {said}"),
            DAMAGED,
        )
    }

    /// What is returned.
    pub(super) fn outputs(&mut self) -> Eval<()> {
        let program = self.program;
        let outputs = &program.graph_module.graph.outputs;
        let specs = &program.graph_module.signature.output_specs;
        self.same_count("outputs", outputs, specs)?;
        let mut values = Vec::new();
        for (output, spec) in outputs.iter().zip(specs) {
            match tagged(spec) {
                Some(("user_output", _)) => {}
                Some(("buffer_mutation" | "parameter_mutation" | "user_input_mutation", spec)) => {
                    let fields = ["buffer_name", "parameter_name", "user_input_name"];
                    let name = fields.iter().find_map(|field| spec.get(field)?.as_str());
                    return self.fail(
                        format!("the model writes to `{}`, its own state", name.unwrap_or_default()),
                        "a network that keeps state between calls cannot be rewritten; return the state instead",
                    );
                }
                Some(("loss_output" | "gradient_to_parameter" | "gradient_to_user_input", _)) => {
                    return self.fail(
                        "it is a graph for training, with a loss and gradients",
                        "export the network itself, in evaluation",
                    );
                }
                Some((kind, _)) => {
                    let what = format!("it has an output of the kind `{kind}`, which is not known");
                    return self.fail(what, "export the model with PyTorch 2.6 to 2.15");
                }
                None => return self.fail("the signature has an output of no kind", DAMAGED),
            }
            let Some(name) = name_of(output) else {
                match tagged(output) {
                    Some(("as_none" | "as_int" | "as_float" | "as_bool" | "as_string", _)) => {
                        self.results.push(ResultSlot::Other(output.clone()));
                        continue;
                    }
                    _ => return self.fail("an output is neither a tensor nor a number", DAMAGED),
                }
            };
            self.results.push(match self.slot(name)?.clone() {
                Slot::Tensor(cell) => {
                    values.push(self.read(&cell)?);
                    ResultSlot::Value
                }
                Slot::Size(dim) => ResultSlot::Size(dim),
                Slot::Run(value) => {
                    values.push(value);
                    ResultSlot::Value
                }
            });
        }
        add_outputs(&mut self.graph, &values);
        Ok(())
    }
}

/// The symbols that follow from a size: the one of `s0`, `2*s0` or `s0 + 1`.
fn determined(dim: &Dim) -> Option<Symbol> {
    dim.as_linear().map(|(symbol, ..)| symbol)
}
