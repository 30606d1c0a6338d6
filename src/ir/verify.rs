//! The rules of the IR, and the verifier that finds every breach of them.

mod interface;

use std::fmt;
use std::ops::Deref;

use rustc_hash::FxHashSet;

use super::dim::{Dim, Symbol};
use super::graph::{Graph, NodeId, NodeKind};
use super::infer::{check_arity, infer};
use super::op::Op;
use super::text;
use super::types::Type;
pub use interface::Interface;

/// The invariants of a [`Graph`]. The verifier reports breaches of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// No value is computed from itself.
    Acyclic,
    /// Operands are at positions 0, 1, 2 .. without gap or repeat, and as many as the operator takes; inputs and constants have
    /// none. Each is a result that its node has.
    Operands,
    /// Inputs and constants have one type, operations those that [`infer`] gives from their operands' types. Where inference
    /// gives an unknown shape any shape may stand.
    Types,
    /// No size is a negative number, and the symbols in sizes are words: letters, digits, `_` and `.`, not starting with a digit or
    /// a `.`, and neither `floor` nor `max`.
    Sizes,
    /// A constant's type is that of its tensor.
    Constants,
    /// A constant's mask has as many elements as its tensor, and those that it does not keep are zero.
    Masks,
    /// Names of nodes are unique; so are, among themselves, names and aliases of constants, and names of outputs.
    Names,
    /// Graph outputs are results that exist.
    Outputs,
    /// After a pass: inputs and outputs are as before it in number, order, name and element type, and their sizes are not
    /// provably others. A size that was an expression is no number: what was dynamic stays dynamic.
    Interface,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Acyclic => "the graph is acyclic",
            Rule::Operands => "operands are complete and exist",
            Rule::Types => "types are as inferred",
            Rule::Sizes => "sizes are well formed",
            Rule::Constants => "a constant has its tensor's type",
            Rule::Masks => "a mask holds elements of its constant at zero",
            Rule::Names => "names are unique",
            Rule::Outputs => "outputs exist",
            Rule::Interface => "the interface stays",
        })
    }
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The rule that is broken.
    #[doc(hidden)]
    pub rule: Rule,
    /// The node where, if it is at one.
    pub node: Option<NodeId>,
    /// The node as printed, or the output.
    #[doc(hidden)]
    pub text: String,
    /// How the rule is broken.
    #[doc(hidden)]
    pub what: String,
}

/// `%relu = relu(%x) : f32[3]: types are as inferred, but inference gives f32[4]`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}, but {}", self.text, self.rule, self.what)
    }
}

/// A graph that the verifier has found to keep every rule. Writers take this, so that nothing else is written.
#[derive(Clone, Copy, Debug)]
pub struct Validated<'g>(&'g Graph);

impl Deref for Validated<'_> {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        self.0
    }
}

/// Checks every [`Rule`] but the interface's.
///
/// # Errors
/// All violations, rule by rule, each in order of nodes.
pub fn verify(graph: &Graph) -> Result<Validated<'_>, Vec<Violation>> {
    let mut verifier = Verifier {
        graph,
        violations: Vec::new(),
    };
    verifier.acyclic();
    for node in graph.nodes() {
        if verifier.operands(node) {
            verifier.types(node);
        }
        verifier.sizes(node);
    }
    verifier.names();
    verifier.outputs();
    let mut violations = verifier.violations;
    violations.sort_by_key(|v| v.rule);
    if violations.is_empty() {
        Ok(Validated(graph))
    } else {
        Err(violations)
    }
}

struct Verifier<'g> {
    graph: &'g Graph,
    violations: Vec<Violation>,
}

impl Verifier<'_> {
    fn report(&mut self, rule: Rule, node: NodeId, what: impl Into<String>) {
        self.violations.push(Violation {
            rule,
            node: Some(node),
            text: text::statement(self.graph, node),
            what: what.into(),
        });
    }

    fn acyclic(&mut self) {
        for cycle in self.graph.cycles() {
            let names: Vec<&str> = cycle.iter().map(|n| &*self.graph.node(*n).name).collect();
            let what = format!("these depend on each other: {}", names.join(", "));
            self.report(Rule::Acyclic, cycle[0], what);
        }
    }

    /// Whether the operands can be asked for their types.
    fn operands(&mut self, node: NodeId) -> bool {
        let positions = self.graph.operand_positions(node);
        let arity = match &self.graph.node(node).kind {
            NodeKind::Op(op) => check_arity(op, positions.len()),
            _ if positions.is_empty() => Ok(()),
            _ => Err("only an operation has any".to_string()),
        };
        if let Err(what) = arity {
            self.report(Rule::Operands, node, what);
            return false;
        }
        if !positions.iter().copied().eq(0..positions.len() as u32) {
            let what = format!("they are at the positions {positions:?}");
            self.report(Rule::Operands, node, what);
            return false;
        }
        let missing = self.graph.operands(node).into_iter().find(|v| {
            let outputs = self.graph.get(v.node).map(|n| n.outputs.len());
            outputs.is_none_or(|n| v.port as usize >= n)
        });
        if let Some(value) = missing {
            let what = format!("there is no {}", text::value(self.graph, value));
            self.report(Rule::Operands, node, what);
        }
        missing.is_none()
    }

    fn types(&mut self, node: NodeId) {
        let graph = self.graph;
        let has = &graph.node(node).outputs;
        match &graph.node(node).kind {
            NodeKind::Input if has.len() != 1 => {
                self.report(Rule::Types, node, format!("it has {} types", has.len()));
            }
            NodeKind::Input => {}
            NodeKind::Constant(constant) => {
                let tensor = &constant.tensor;
                let own = tensor.ty();
                if has.as_slice() != [own.clone()] {
                    self.report(Rule::Constants, node, format!("its tensor is {own}"));
                }
                if let Some(mask) = &constant.mask {
                    if mask.len() != tensor.len() {
                        let what = format!("the mask has {} elements", mask.len());
                        self.report(Rule::Masks, node, what);
                    } else if !mask.holds(tensor) {
                        self.report(Rule::Masks, node, "some are not");
                    }
                }
            }
            NodeKind::Op(op) => {
                let operands = graph.operands(node);
                let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
                match infer(op, &types) {
                    Err(error) => self.report(Rule::Types, node, error),
                    Ok(inferred) => {
                        let fits = has.len() == inferred.len()
                            && has.iter().zip(&inferred).all(|(has, ty)| fits(has, ty));
                        if !fits {
                            let inferred: Vec<String> =
                                inferred.iter().map(Type::to_string).collect();
                            let what = format!("inference gives {}", inferred.join(", "));
                            self.report(Rule::Types, node, what);
                        }
                    }
                }
            }
        }
    }

    fn sizes(&mut self, node: NodeId) {
        let node_of = self.graph.node(node);
        let mut sizes: Vec<&Dim> = node_of
            .outputs
            .iter()
            .filter_map(Type::shape)
            .flatten()
            .collect();
        if let NodeKind::Op(Op::Opaque(opaque)) = &node_of.kind {
            sizes.extend(&opaque.sizes);
        }
        let negative = sizes.iter().find(|d| d.as_number().is_some_and(|n| n < 0));
        let mut odd: Option<Symbol> = None;
        for size in &sizes {
            size.for_each_symbol(&mut |symbol| {
                if !super::dim::is_symbol(symbol) {
                    odd = Some(symbol.clone());
                }
            });
        }
        let negative = negative.map(|size| format!("{size} is negative"));
        if let Some(what) = negative.or(odd.map(|s| format!("`{s}` is no word"))) {
            self.report(Rule::Sizes, node, what);
        }
    }

    fn names(&mut self) {
        let graph = self.graph;
        let (mut nodes, mut constants) = (FxHashSet::default(), FxHashSet::default());
        for node in graph.nodes() {
            let name = &graph.node(node).name;
            if !nodes.insert(name.clone()) {
                self.report(Rule::Names, node, "another node has this name");
            }
            if let Some(constant) = graph.constant(node) {
                for name in std::iter::once(name).chain(&constant.aliases) {
                    if !constants.insert(name.clone()) {
                        let what = format!("another constant is {name}, too");
                        self.report(Rule::Names, node, what);
                    }
                }
            }
        }
    }

    fn outputs(&mut self) {
        let mut names = FxHashSet::default();
        for output in self.graph.outputs() {
            let text = format!(
                "return {}={}",
                output.name,
                text::value(self.graph, output.value)
            );
            let node = self.graph.get(output.value.node);
            let mut report = |rule, what: &str| {
                self.violations.push(Violation {
                    rule,
                    node: node.map(|_| output.value.node),
                    text: text.clone(),
                    what: what.to_string(),
                });
            };
            if node.is_none_or(|n| output.value.port as usize >= n.outputs.len()) {
                report(Rule::Outputs, "there is no such value");
            }
            if !names.insert(output.name.clone()) {
                report(Rule::Names, "another output has this name");
            }
        }
    }
}

/// Whether a node may have this type where inference gives `inferred`.
fn fits(has: &Type, inferred: &Type) -> bool {
    match inferred {
        Type::Tensor(dtype, None) => has.dtype() == Some(*dtype),
        inferred => has == inferred,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Constant, Mask, Role, Tensor, Value};
    use super::*;
    use smallvec::smallvec;

    fn ty(text: &str) -> Type {
        text.parse().unwrap()
    }

    /// `return relu(x + b)`.
    fn small() -> Graph {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", ty("f32[N,3]"));
        let bias = Tensor::from_vec(&[3], vec![1f32, 2.0, 3.0]);
        let bias = Constant {
            aliases: vec!["tied.bias".into()],
            ..Constant::new(bias, Role::Parameter)
        };
        let bias = graph.add_constant("bias", bias);
        let sum = graph
            .add_op("sum", Op::Add {}, &[x.into(), bias.into()])
            .unwrap();
        let relu = graph.add_op("relu", Op::Relu {}, &[sum.into()]).unwrap();
        graph.add_output("y", relu.into());
        graph
    }

    fn violations(graph: &Graph) -> Vec<String> {
        let violations = verify(graph).err().unwrap_or_default();
        violations.iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_graph_made_by_inference_keeps_the_rules() {
        assert_eq!(violations(&small()), [""; 0]);
    }

    #[test]
    fn every_violation_is_listed_with_its_node() {
        let mut graph = small();
        let find = |graph: &Graph, name: &str| graph.find(name).unwrap();
        let (sum, relu, bias) = (
            find(&graph, "sum"),
            find(&graph, "relu"),
            find(&graph, "bias"),
        );
        graph.set_types(relu, smallvec![ty("f32[N,4]")]);
        graph.set_types(bias, smallvec![ty("f32[1]")]);
        graph.set_operands(sum, &[bias.into()]);
        graph.add_output("y", Value { node: sum, port: 1 });
        assert_eq!(
            violations(&graph),
            [
                "`%sum = add(@bias) : f32[N,3]`: operands are complete and exist, but add takes 2 operands, not 1",
                "`%relu = relu(%sum) : f32[N,4]`: types are as inferred, but inference gives f32[N,3]",
                "`@bias = parameter [1.0, 2.0, 3.0] alias tied.bias : f32[1]`: a constant has its tensor's type, but its tensor is f32[3]",
                "`return y=%sum#1`: names are unique, but another output has this name",
                "`return y=%sum#1`: outputs exist, but there is no such value",
            ]
        );
    }

    #[test]
    fn a_mask_of_another_size_is_refused() {
        let mut graph = small();
        let bias = graph.find("bias").unwrap();
        graph.set_mask(bias, Some(Mask::from_fn(2, |i| i == 0)));
        assert_eq!(
            violations(&graph),
            [
                "`@bias = parameter [1.0, 0.0, 3.0] alias tied.bias : f32[3]`: a mask holds elements of its constant at zero, but the mask has 2 elements"
            ]
        );
    }

    #[test]
    fn a_cycle_is_reported_once() {
        let mut graph = small();
        let (sum, relu) = (graph.find("sum").unwrap(), graph.find("relu").unwrap());
        graph.set_operands(sum, &[relu.into(), relu.into()]);
        assert_eq!(
            violations(&graph),
            [
                "`%sum = add(%relu, %relu) : f32[N,3]`: the graph is acyclic, but these depend on each other: sum, relu"
            ]
        );
    }

    #[test]
    fn odd_symbols_and_equal_parameter_names_are_refused() {
        let mut graph = small();
        graph.add_input(
            "z",
            Type::tensor(super::super::DType::F32, [Dim::symbol("batch size")]),
        );
        let tied = Constant::new(Tensor::from_vec(&[], vec![1f32]), Role::Parameter);
        graph.add_constant("tied.bias", tied);
        assert_eq!(
            violations(&graph),
            [
                "`%z: f32[batch size]`: sizes are well formed, but `batch size` is no word",
                "`@tied.bias = parameter 1.0 : f32[]`: names are unique, but another constant is tied.bias, too",
            ]
        );
    }
}
