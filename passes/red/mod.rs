//! RED: redundancies removed without data (Yvinec, Dapogny, Cord, Bailly, NeurIPS 2021).
//!
//! Batch norms are folded first, since two neurons are the same only if what normalises them is. Then *hashing* makes weights
//! equal that nearly are ([`hashing`]), and *merging* computes equal neurons once: an equality saturation over
//! [`rules`](crate::passes::rules), which also removes neurons that are constant or that nobody reads.
//!
//! Hashing alone only adds error, so a layer in which it makes no neuron equal to another or dead keeps its weights, and the
//! bin around zero becomes zero; the paper hashes every layer, to modes [ours].

pub mod hashing;

use rustc_hash::FxHashMap;

use crate::analysis::coupling::obstacles;
use crate::egraph::constants::Rows;
use crate::egraph::picks::Partition;
use crate::egraph::{Bounds, saturate};
use crate::ir::channels::dense_axis;
use crate::ir::{Graph, NodeId, Op, Tensor};
use crate::passes::{fold_batch_norm, rules};
use crate::pipeline::{Changed, Kind, OptionSpec, Options, Pass, PassContext, PassInfo, Values};
use crate::{Error, Result};
use hashing::{Outcome, hash_weights};

/// `red`.
pub static RED: PassInfo = PassInfo {
    name: "red",
    summary: "hash weights, then merge neurons that are equal and drop those that are constant or unread",
    kind: Kind::Lossy,
    options: &[
        OptionSpec {
            name: "hash",
            values: Values::Words(&["none", "kde"]),
            default: "kde",
            help: "how weights become equal: not at all (the pass is then exact), or by the modes of their density",
        },
        OptionSpec {
            name: "error",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0.02",
            help: "the most that hashing may change a layer's weights, relative to their norm",
        },
    ],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let error = match options.word("hash")? {
        "none" => None,
        _ => Some(options.number("error")?),
    };
    Ok(Box::new(Red { error }))
}

struct Red {
    /// The error budget of hashing; `None` for no hashing.
    error: Option<f64>,
}

impl Pass for Red {
    fn info(&self) -> &'static PassInfo {
        &RED
    }

    fn kind(&self) -> Kind {
        if self.error.is_some() {
            Kind::Lossy
        } else {
            Kind::Exact
        }
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite(graph)?;
        context.progress("batch norms", 0.0);
        let mut changed = fold_batch_norm::fold(graph, context)?;
        if let Some(error) = self.error {
            changed |= hash(graph, error, context);
        }
        context.progress("saturation", 0.5);
        Ok(changed | merge(graph, context)?)
    }
}

/// Comparing weights means nothing where some are not numbers.
fn refuse_non_finite(graph: &Graph) -> Result<()> {
    let bad = graph.nodes().find(|n| {
        graph
            .constant(*n)
            .is_some_and(|c| c.tensor.has_non_finite())
    });
    match bad {
        None => Ok(()),
        Some(node) => Err(Error::Usage {
            what: format!(
                "the parameter `{}` holds NaN or infinite values",
                graph.node(node).name
            ),
            help: "repair the network before comparing its weights, or leave `red` out".into(),
        }),
    }
}

/// A layer with a dense weight that is a constant: node, weight, bias, and the axes of its output and input channels.
struct Layer {
    node: NodeId,
    weight: NodeId,
    bias: Option<NodeId>,
    output: usize,
    input: usize,
}

fn layers(graph: &Graph) -> Vec<Layer> {
    let layer = |node: NodeId| {
        let axes = graph.op(node)?.weight_axes()?;
        let operands = graph.operands(node);
        let weight = operands[1].node;
        graph.constant(weight)?;
        Some(Layer {
            node,
            weight,
            bias: operands.get(2).map(|bias| bias.node),
            output: axes.output,
            input: axes.input,
        })
    };
    graph.nodes().filter_map(layer).collect()
}

/// Replaces the weights of layers where that makes neurons equal.
fn hash(graph: &mut Graph, error: f64, context: &mut PassContext<'_>) -> Changed {
    let layers = layers(graph);
    let mut hashed: FxHashMap<NodeId, bool> = FxHashMap::default();
    let total = layers.len().max(1) as f64;
    for (i, layer) in layers.iter().enumerate() {
        let name = graph.node(layer.weight).name.clone();
        context.progress(&name, 0.5 * i as f64 / total);
        if hashed.contains_key(&layer.weight) {
            continue;
        }
        let Some(constant) = graph.constant(layer.weight) else {
            continue;
        };
        let outcome = hash_weights(&constant.tensor, error);
        let done = match outcome {
            Outcome::Unchanged { reason } => {
                context.missed(&name, format!("not hashed: {reason}"));
                None
            }
            Outcome::Hashed {
                tensor,
                modes,
                relative_error,
                bandwidth,
            } => {
                let bias = layer.bias.and_then(|bias| graph.constant(bias));
                let bias = bias.map(|bias| bias.tensor.elements::<f64>());
                let kept = |weight: &Tensor| kept_channels(weight, bias.as_deref(), layer);
                if kept(&tensor) < kept(&constant.tensor) {
                    let text = format!(
                        "hashed to {modes} values, {:.2} % error, bandwidth {bandwidth:.2e}",
                        100.0 * relative_error
                    );
                    context.applied(&name, text);
                    Some(tensor)
                } else {
                    context.missed(
                        &name,
                        format!(
                            "not hashed: with {modes} values no more neurons would be equal or dead"
                        ),
                    );
                    None
                }
            }
        };
        hashed.insert(layer.weight, done.is_some());
        if let Some(tensor) = done {
            graph.set_tensor(layer.weight, tensor);
        }
    }
    hashed.values().any(|done| *done).into()
}

/// Output channels that are neither constant nor equal to another, bias included, and input channels that are read.
fn kept_channels(weight: &Tensor, bias: Option<&[f64]>, layer: &Layer) -> usize {
    let (outputs, inputs) = (
        Rows::of(weight, layer.output),
        Rows::of(weight, layer.input),
    );
    let alive = (0..outputs.zero.len()).filter(|c| !outputs.zero[*c]);
    let key = |c: usize| (outputs.equal.class[c], bias.map(|bias| bias[c].to_bits()));
    let distinct = Partition::by_key(alive.map(key)).first.len();
    distinct + inputs.zero.iter().filter(|zero| !**zero).count()
}

/// Saturates with all rules, and says what became of every layer that has something to merge.
fn merge(graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
    let saturated = saturate(graph, rules::ALL, &context.cost, Bounds::default())?;
    let counts: Vec<String> = saturated
        .applied
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(rule, n)| format!("{rule} {n}"))
        .collect();
    context.analysis(
        "",
        format!(
            "{} after {} rounds: {} terms in {} classes; {}",
            saturated.stop_reason,
            saturated.iterations,
            saturated.terms,
            saturated.classes,
            if counts.is_empty() {
                "no rule applied".to_string()
            } else {
                counts.join(", ")
            }
        ),
    );
    context.stop_reason = Some(saturated.stop_reason);
    explain(graph, saturated.graph.as_ref(), context);
    let changed = saturated.graph.is_some();
    if let Some(merged) = saturated.graph {
        *graph = merged;
    }
    Ok(changed.into())
}

/// A remark for every layer that lost channels, or that has equal ones and kept them.
fn explain(before: &Graph, after: Option<&Graph>, context: &mut PassContext<'_>) {
    let size = |graph: &Graph, layer: &Layer| {
        let shape = graph
            .constant(layer.weight)
            .map(|c| c.tensor.shape().to_vec())
            .unwrap_or_default();
        (
            shape.get(layer.input).copied(),
            shape.get(layer.output).copied(),
        )
    };
    let kept: FxHashMap<String, (Option<usize>, Option<usize>)> = after
        .map(|after| {
            layers(after)
                .iter()
                .map(|l| (after.node(l.node).name.to_string(), size(after, l)))
                .collect()
        })
        .unwrap_or_default();
    let number = |n: Option<usize>| n.map_or("?".to_string(), |n| n.to_string());
    for layer in layers(before) {
        let name = before.node(layer.node).name.to_string();
        let old = size(before, &layer);
        let new = if after.is_some() {
            kept.get(&name).copied()
        } else {
            Some(old)
        };
        match new {
            None => context.applied(&name, "removed"),
            Some(new) if new != old => {
                let text = format!(
                    "{} -> {} channels became {} -> {}",
                    number(old.0),
                    number(old.1),
                    number(new.0),
                    number(new.1)
                );
                context.applied(&name, text);
            }
            Some(_) => {
                if let Some(why) = missed(before, &layer) {
                    context.missed(&name, why);
                }
            }
        }
    }
}

/// Why a layer with redundant neurons kept them; `None` if it has none.
fn missed(graph: &Graph, layer: &Layer) -> Option<String> {
    let rows = Rows::of(&graph.constant(layer.weight)?.tensor, layer.output);
    let redundant = rows.equal.class.len() - rows.equal.first.len();
    if redundant == 0 {
        return None;
    }
    let op: &Op = graph.op(layer.node)?;
    let axis = dense_axis(op, graph.ty(layer.node.into()).rank()?);
    let obstacles = obstacles(graph, layer.node.into(), axis);
    let why = if obstacles.is_empty() {
        "cost would rise".to_string()
    } else {
        obstacles.join("; ")
    };
    Some(format!(
        "{redundant} neurons have the weights of others, and stay: {why}"
    ))
}
