//! A compiler that has a graph of its own and uses optc as an optimisation stage: it builds optc's graph, runs a pipeline, and
//! walks the result back.

use std::collections::HashMap;

use optc::ir::{Constant, Graph, NodeKind, Op, Role, Tensor, Value};
use optc::{Model, Pipeline};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// An instruction of the compiler's own representation.
#[derive(Debug)]
enum Instruction {
    Input {
        shape: String,
    },
    Weights {
        shape: Vec<usize>,
        elements: Vec<f32>,
    },
    Call {
        operator: String,
        operands: Vec<usize>,
    },
}

/// A straight-line program: instructions refer to those before them, and the last is the result.
type Program = Vec<Instruction>;

fn main() -> Result<()> {
    let program = network();
    let mut model = Model::new(lower(&program)?);
    let report = Pipeline::parse("red{hash=none}")?.run(&mut model)?;
    let optimised = raise(&model.graph, &program);
    println!(
        "{} weights became {}; {} instructions became {}",
        report.before.params,
        report.after.params,
        program.len(),
        optimised.len()
    );
    for Raised {
        instruction,
        origin,
    } in &optimised
    {
        if let Instruction::Call { operator, .. } = instruction {
            let from = origin.map_or("nothing".to_string(), |number| {
                format!("instruction {number}")
            });
            println!("  {operator}, from {from}");
        }
    }
    assert!(report.after.params < report.before.params);
    let calls = optimised.iter().filter(|raised| raised.is_call());
    assert!(calls.count() > 0 && optimised.iter().all(|raised| raised.origin.is_some()));
    Ok(())
}

/// An instruction of the result, with the number of the one that it comes from, for what the compiler knows of that: its line in a
/// source, its place in a schedule.
struct Raised {
    instruction: Instruction,
    origin: Option<usize>,
}

impl Raised {
    fn is_call(&self) -> bool {
        matches!(self.instruction, Instruction::Call { .. })
    }
}

/// Two convolutions with an activation between them; half of the first one's filters are the same as others.
fn network() -> Program {
    let filters = |count: usize, size: usize, distinct: usize| {
        let element = move |i: usize| ((i / size % distinct * size + i % size) as f32 * 0.7).sin();
        (0..count * size).map(element).collect()
    };
    let call = |operator: &str, operands: &[usize]| Instruction::Call {
        operator: operator.to_string(),
        operands: operands.to_vec(),
    };
    vec![
        Instruction::Input {
            shape: "f32[N,3,32,32]".to_string(),
        },
        Instruction::Weights {
            shape: vec![16, 3, 3, 3],
            elements: filters(16, 27, 8),
        },
        call("conv{pad=[1,1]}", &[0, 1]),
        call("relu", &[2]),
        Instruction::Weights {
            shape: vec![10, 16, 1, 1],
            elements: filters(10, 16, 10),
        },
        call("conv", &[3, 4]),
    ]
}

/// The program as optc's graph. An instruction's number is its name, which what is made of it keeps.
fn lower(program: &Program) -> Result<Graph> {
    let mut graph = Graph::new("program");
    let mut values: Vec<Value> = Vec::new();
    for (number, instruction) in program.iter().enumerate() {
        let name = format!("i{number}");
        let node = match instruction {
            Instruction::Input { shape } => graph.add_input(&name, shape.parse()?),
            Instruction::Weights { shape, elements } => {
                let tensor = Tensor::from_vec(shape, elements.clone());
                graph.add_constant(&name, Constant::new(tensor, Role::Parameter))
            }
            Instruction::Call { operator, operands } => {
                let operands: Vec<Value> = operands.iter().map(|at| values[*at]).collect();
                graph.add(&name, operator, &operands)?
            }
        };
        values.push(node.into());
    }
    if let Some(result) = values.last() {
        graph.add_output("result", *result);
    }
    Ok(graph)
}

/// The graph as a program again.
fn raise(graph: &Graph, program: &Program) -> Vec<Raised> {
    // What a pipeline returns was verified: it has no cycle.
    let order = graph.topological_order().unwrap_or_default();
    let mut numbers = HashMap::new();
    let mut raised = Vec::new();
    for node in order {
        let instruction = match &graph.node(node).kind {
            NodeKind::Input => Instruction::Input {
                shape: graph.ty(node.into()).to_string(),
            },
            NodeKind::Constant(constant) => Instruction::Weights {
                shape: constant.tensor.shape().to_vec(),
                elements: constant.tensor.elements::<f32>().into_owned(),
            },
            NodeKind::Op(op) => Instruction::Call {
                operator: format!("{}{{{}}}", op.name(), attributes(op)),
                operands: graph
                    .operands(node)
                    .iter()
                    .map(|value| numbers[&value.node])
                    .collect(),
            },
        };
        numbers.insert(node, raised.len());
        let origin = origin(&graph.node(node).name).filter(|number| *number < program.len());
        raised.push(Raised {
            instruction,
            origin,
        });
    }
    raised
}

/// What an operator has beside its operands, as `lower` writes it.
fn attributes(op: &Op) -> String {
    let attributes = op.attributes();
    let attributes: Vec<String> = attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    attributes.join(",")
}

/// The instruction that a node comes from: `i4`, or what a pass has called after it, `i4.1` or `i4.bias`.
fn origin(name: &str) -> Option<usize> {
    let number = name.strip_prefix('i')?;
    number.split('.').next()?.parse().ok()
}
