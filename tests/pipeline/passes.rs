//! Passes to test with.

use super::*;

/// A pass made of a function.
pub(super) struct FromFn {
    pub info: &'static PassInfo,
    pub kind: Kind,
    pub run: fn(&mut Graph, &mut PassContext<'_>) -> Result<Changed>,
}

impl Pass for FromFn {
    fn info(&self) -> &'static PassInfo {
        self.info
    }
    fn kind(&self) -> Kind {
        self.kind
    }
    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        (self.run)(graph, context)
    }
}

/// The only reader and the only operand of the first `relu` after another.
fn second_relu(graph: &Graph) -> Option<(NodeId, Value)> {
    let relu = |node: NodeId| matches!(graph.op(node), Some(Op::Relu {}));
    graph.nodes().filter(|node| relu(*node)).find_map(|node| {
        let operand = graph.operands(node)[0];
        relu(operand.node).then_some((node, operand))
    })
}

static PEEL: PassInfo = PassInfo {
    name: "peel-relu",
    summary: "remove one relu of a relu",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Ok(Box::new(FromFn {
            info: &PEEL,
            kind: Kind::Exact,
            run: |graph, context| {
                context.progress("relu", 0.5)?;
                let Some((node, operand)) = second_relu(graph) else {
                    context.missed("", "no relu of a relu");
                    return Ok(Changed::No);
                };
                context.applied(&graph.node(node).name, "removed");
                context.stop_reason = Some("one is enough".to_string());
                graph.replace_uses(node.into(), operand);
                graph.remove(node);
                Ok(Changed::Yes)
            },
        }))
    },
};

/// Replaces every relu by its opposite number.
fn negate(graph: &mut Graph, _: &mut PassContext<'_>) -> Result<Changed> {
    let relus: Vec<NodeId> = graph
        .nodes()
        .filter(|node| matches!(graph.op(*node), Some(Op::Relu {})))
        .collect();
    for relu in &relus {
        let operand = graph.operands(*relu)[0];
        graph.replace_op(*relu, Op::Neg {}, &[operand]).unwrap();
    }
    Ok((!relus.is_empty()).into())
}

optc::words! {
    /// What the pass says of itself.
    enum Claim {
        Exact = "exact",
        Lossy = "lossy",
    }
}

optc::options! {
    struct NegateOptions {
        claim: Claim = "exact", Values::Words(Claim::WORDS), "what the pass claims to be";
        strength: f64 = "0.5", Values::Number { min: 0.0, max: 1.0 }, "how much, without effect";
        times: usize = "1", Values::Count { min: 1, max: 9 }, "how often, without effect";
        loud: bool = "false", Values::Flag, "whether to say so";
    }
}

static NEGATE: PassInfo = PassInfo {
    name: "negate",
    summary: "turn relu into negation",
    kind: Kind::Exact,
    options: NegateOptions::SPECS,
    build: |options: &Options| {
        let options = NegateOptions::of(options)?;
        let _ = (options.strength, options.times, options.loud);
        let kind = match options.claim {
            Claim::Exact => Kind::Exact,
            Claim::Lossy => Kind::Lossy,
        };
        Ok(Box::new(FromFn {
            info: &NEGATE,
            kind,
            run: negate,
        }))
    },
};

static FAIL: PassInfo = PassInfo {
    name: "fail",
    summary: "change the graph and then fail",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Ok(Box::new(FromFn {
            info: &FAIL,
            kind: Kind::Exact,
            run: |graph, context| {
                let _ = negate(graph, context)?;
                Err(Error::Usage {
                    what: "the weight `conv1.weight` is not finite".to_string(),
                    help: "train it again".to_string(),
                })
            },
        }))
    },
};

static BREAK: PassInfo = PassInfo {
    name: "break",
    summary: "leave an invalid graph",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Ok(Box::new(FromFn {
            info: &BREAK,
            kind: Kind::Exact,
            run: |graph, _| {
                let output = graph.outputs()[0].value;
                graph.set_operands(output.node, &[]);
                Ok(Changed::Yes)
            },
        }))
    },
};

static MORE: PassInfo = PassInfo {
    name: "more",
    summary: "return something else, too",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Ok(Box::new(FromFn {
            info: &MORE,
            kind: Kind::Exact,
            run: |graph, _| {
                let value = graph.outputs()[0].value;
                graph.add_output("other", value);
                Ok(Changed::Yes)
            },
        }))
    },
};

static FLIP: PassInfo = PassInfo {
    name: "flip",
    summary: "say that something changed, every time",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Ok(Box::new(FromFn {
            info: &FLIP,
            kind: Kind::Exact,
            run: |_, _| Ok(Changed::Yes),
        }))
    },
};

pub(super) fn registry() -> Registry {
    let mut registry = Registry::empty();
    for pass in [&PEEL, &NEGATE, &FAIL, &BREAK, &MORE, &FLIP] {
        registry = registry.with(pass);
    }
    registry
}
