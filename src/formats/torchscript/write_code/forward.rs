//! The method `forward`: its parameters, its statements, and what it returns.

use std::fmt::Write as _;

use super::{FORMAT, Writer, fill};
use crate::error::FormatError;
use crate::formats::torchscript::interface::{Content, Parameter};
use crate::formats::torchscript::value::print_str;

impl Writer<'_> {
    /// The method, and what it consists of.
    pub(super) fn forward(&mut self) -> Result<String, FormatError> {
        let mut signature = String::from("  def forward(self");
        let mut parameters = self.source.parameters.clone();
        if parameters.is_empty() {
            // A graph that came from no file: its inputs, in order.
            for (i, &input) in self.graph.inputs().iter().enumerate() {
                let (name, ty) = (self.graph.node(input).name.to_string(), "Tensor".to_owned());
                parameters.push(Parameter {
                    name,
                    ty,
                    default: None,
                    content: Content::Input(i),
                });
            }
        }
        while parameters
            .iter()
            .any(|p| p.name.starts_with(&self.sizes.prefix))
        {
            self.sizes.prefix.push('_');
        }
        self.sizes.inputs = vec![String::new(); self.graph.inputs().len()];
        let mut prologue = String::new();
        for parameter in &parameters {
            let name = if self.source.parameters.is_empty() {
                self.variable(&parameter.name)
            } else {
                parameter.name.clone()
            };
            self.taken.insert(name.clone());
            let default = parameter
                .default
                .as_ref()
                .map_or(String::new(), |d| format!("={d}"));
            let _ = write!(signature, ",\n    {name}: {}{default}", parameter.ty);
            self.unpack(&name, &parameter.content, &mut prologue);
        }
        self.body = prologue;
        let order = self.graph.topological_order().map_err(|node| {
            FormatError::mistake(
                FORMAT,
                format!(
                    "the graph has a cycle through `{}`",
                    self.graph.node(node).name
                ),
            )
        })?;
        for node in order {
            self.node(node)?;
        }
        let result = self.result()?;
        let ty = if self.source.parameters.is_empty() && self.graph.outputs().len() != 1 {
            format!(
                "Tuple[{}]",
                vec!["Tensor"; self.graph.outputs().len()].join(", ")
            )
        } else {
            self.source.result.ty.clone()
        };
        Ok(format!(
            "{signature}) -> {ty}:\n{}    return {result}\n",
            self.body
        ))
    }

    fn unpack(&mut self, name: &str, content: &Content, prologue: &mut String) {
        match content {
            Content::Input(i) => {
                if let (Some(slot), Some(&input)) =
                    (self.sizes.inputs.get_mut(*i), self.graph.inputs().get(*i))
                {
                    *slot = name.to_owned();
                    self.values.insert(input.into(), name.to_owned());
                }
            }
            Content::Tuple(items) => {
                let names: Vec<String> = (0..items.len())
                    .map(|i| self.variable(&format!("{name}_{i}")))
                    .collect();
                let _ = writeln!(prologue, "    {}, = {name}", names.join(", "));
                for (name, item) in names.iter().zip(items) {
                    self.unpack(name, item, prologue);
                }
            }
            Content::Fixed(check) => {
                let message = print_str(&format!(
                    "{name} was fixed to its default when the model was optimised"
                ));
                let _ = write!(
                    prologue,
                    "    if {check}:\n      ops.prim.RaiseException({message}, \"builtins.ValueError\")\n    else:\n      pass\n"
                );
            }
        }
    }

    fn result(&mut self) -> Result<String, FormatError> {
        let mut operands = Vec::new();
        for output in self.graph.outputs() {
            operands.push(self.value(output.value)?);
        }
        if self.source.parameters.is_empty() && operands.len() != 1 {
            return Ok(format!("({})", operands.join(", ")));
        }
        let result = &self.source.result;
        let sizes = &mut self.sizes;
        let text = fill(&result.template, &operands, &result.sizes, &mut |dim| {
            sizes.expression(dim)
        });
        self.flush_sizes("the result")?;
        Ok(text)
    }
}
