//! Printing.

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashSet;

use super::super::attribute::Attribute;
use super::super::graph::{Constant, Graph, NodeId, NodeKind, Role, Value};
use super::super::op::{Dialect, Op};
use super::super::types::Type;
use super::defaults::defaults;
use super::values;

/// Constants of up to this many elements are printed in full unless more are asked for.
const USUALLY_FULL: usize = 4;

/// The text of a graph, constants of up to `full` elements with their elements.
///
/// Operations come in topological order, each constant before its first reader. A graph that breaks the rules of the IR is
/// printed as far as it goes.
#[doc(hidden)]
pub fn print(graph: &Graph, full: usize) -> String {
    let inputs: Vec<String> = graph
        .inputs()
        .iter()
        .map(|n| format!("%{}: {}", word(&graph.node(*n).name), types(graph, *n)))
        .collect();
    let mut text = format!("graph {}({})", word(&graph.name), inputs.join(", "));
    for (i, (symbol, number)) in graph.bindings.iter().enumerate() {
        text += &format!("{}{symbol}={number}", if i == 0 { " where " } else { ", " });
    }
    text += " {\n";
    for node in order(graph) {
        text += &format!("  {}\n", statement_with(graph, node, full));
    }
    let outputs: Vec<String> = graph
        .outputs()
        .iter()
        .map(|output| {
            let value = value(graph, output.value);
            match graph.get(output.value.node) {
                Some(node) if node.name == output.name && output.value.port == 0 => value,
                _ => format!("{}={value}", word(&output.name)),
            }
        })
        .collect();
    text += format!("  return {}", outputs.join(", ")).trim_end();
    text + "\n}\n"
}

/// The nodes but for inputs, in the order of the text.
fn order(graph: &Graph) -> Vec<NodeId> {
    let is_constant = |n: NodeId| matches!(graph.node(n).kind, NodeKind::Constant(_));
    let nodes = graph
        .topological_order()
        .unwrap_or_else(|_| graph.nodes().collect());
    let mut printed = FxHashSet::default();
    let mut order = Vec::with_capacity(nodes.len());
    for node in &nodes {
        if let NodeKind::Op(_) = graph.node(*node).kind {
            let operands = graph.operands(*node).into_iter().map(|v| v.node);
            order.extend(operands.filter(|n| is_constant(*n) && printed.insert(*n)));
            order.push(*node);
        }
    }
    order.extend(
        nodes
            .into_iter()
            .filter(|n| is_constant(*n) && !printed.contains(n)),
    );
    order
}

/// The text of one node, on one line, with large constants as hashes.
pub fn statement(graph: &Graph, node: NodeId) -> String {
    statement_with(graph, node, USUALLY_FULL)
}

fn statement_with(graph: &Graph, node: NodeId, full: usize) -> String {
    let types = types(graph, node);
    let this = value(graph, node.into());
    match &graph.node(node).kind {
        NodeKind::Input => format!("{this}: {types}"),
        NodeKind::Constant(constant) => {
            let text = format!("{this} = {} : {types}", constant_value(constant, full));
            match &constant.mask {
                Some(mask) if mask.len() > full => {
                    let zeros = 1.0 - mask.count() as f64 / mask.len() as f64;
                    format!("{text} // {:.1} % masked", 100.0 * zeros)
                }
                _ => text,
            }
        }
        NodeKind::Op(op) => {
            let operands = graph.operands(node);
            let ranks: Vec<Option<usize>> = operands
                .iter()
                .map(|v| graph.get(v.node)?.outputs.get(v.port as usize)?.rank())
                .collect();
            let operands: Vec<String> = operands.iter().map(|v| value(graph, *v)).collect();
            let (name, attributes) = operation(op, &ranks);
            let text = format!("{this} = {name}({}){attributes}", operands.join(", "));
            if types.is_empty() {
                text
            } else {
                format!("{text} : {types}")
            }
        }
    }
}

/// The operator's name and its attributes in braces.
pub(crate) fn operation(op: &Op, ranks: &[Option<usize>]) -> (Cow<'static, str>, String) {
    let (name, attributes) = match op {
        Op::Opaque(opaque) => {
            let mut attributes = vec![("template", opaque.template.print())];
            if !opaque.sizes.is_empty() {
                let sizes: Vec<String> = opaque.sizes.iter().map(Attribute::print).collect();
                attributes.push(("sizes", format!("[{}]", sizes.join(","))));
            }
            if opaque.dialect != Dialect::default() {
                attributes.push(("dialect", opaque.dialect.print()));
            }
            let name = format!("opaque {}", opaque.name.print());
            (Cow::Owned(name), attributes)
        }
        op => {
            let usual = defaults(op.name(), ranks);
            let mut attributes = op.attributes();
            attributes.retain(|attribute| !usual.contains(attribute));
            (Cow::Borrowed(op.name()), attributes)
        }
    };
    let printed: Vec<String> = attributes
        .iter()
        .map(|(name, text)| format!("{name}={text}"))
        .collect();
    if printed.is_empty() {
        (name, String::new())
    } else {
        (name, format!(" {{{}}}", printed.join(", ")))
    }
}

fn constant_value(constant: &Constant, full: usize) -> String {
    let role = role_name(constant.role);
    let mut text = format!("{role} {}", values::print(&constant.tensor, full));
    let mask = constant.mask.as_ref();
    // The verifier reports a mask of another size.
    if let Some(Ok(mask)) = mask.map(|mask| mask.to_tensor(constant.tensor.shape())) {
        text += &format!(" mask {}", values::print(&mask, full));
    }
    let aliases: Vec<String> = constant
        .aliases
        .iter()
        .map(|a| word(a).into_owned())
        .collect();
    if aliases.is_empty() {
        text
    } else {
        format!("{text} alias {}", aliases.join(", "))
    }
}

/// The word for a role.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Parameter => "parameter",
        Role::Buffer => "buffer",
        Role::Literal => "literal",
    }
}

/// How an operand or an output refers to a value.
pub(in crate::ir) fn value(graph: &Graph, value: Value) -> String {
    let Some(node) = graph.get(value.node) else {
        return format!("%<removed {}>", value.node.index());
    };
    let sigil = match node.kind {
        NodeKind::Constant(_) => '@',
        _ => '%',
    };
    match value.port {
        0 => format!("{sigil}{}", word(&node.name)),
        port => format!("{sigil}{}#{port}", word(&node.name)),
    }
}

fn types(graph: &Graph, node: NodeId) -> String {
    let types: Vec<String> = graph
        .node(node)
        .outputs
        .iter()
        .map(Type::to_string)
        .collect();
    types.join(", ")
}

/// A name as it is, or quoted.
fn word(name: &str) -> Cow<'_, str> {
    let is_plain = !name.is_empty() && name.chars().all(is_word) && !name.contains("//");
    if is_plain {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(std::sync::Arc::<str>::from(name).print())
    }
}

/// Whether a name with this character needs no quotes.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_./-".contains(c)
}

/// `{}` has large constants as hashes; `{:#}` prints every element.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = if f.alternate() {
            usize::MAX
        } else {
            USUALLY_FULL
        };
        f.write_str(&print(self, full))
    }
}
