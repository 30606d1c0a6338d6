//! Graphs of more nodes than any network has, of shapes that a step which looks at all nodes for each would take minutes for.

use optc::ir::{Constant, DType, Dim, Graph, NodeId, Op, Role, Tensor, Type, Value};
use optc::{Model, Pipeline};

const NODES: usize = 20_000;

fn input(graph: &mut Graph) -> Value {
    let shape = [Dim::symbol("N"), Dim::from(4)];
    graph.add_input("x", Type::tensor(DType::F32, shape)).into()
}

fn add(graph: &mut Graph, op: Op, operands: &[Value]) -> Value {
    let node: NodeId = graph.add_op("node", op, operands).unwrap();
    node.into()
}

/// One after the other, each of which is returned, too.
fn returned_chain(op: &Op) -> Graph {
    let mut graph = Graph::new("chain");
    let mut value = input(&mut graph);
    for i in 0..NODES {
        value = add(&mut graph, op.clone(), &[value]);
        graph.add_output(format!("out.{i}"), value);
    }
    graph
}

/// All read the same, and one operation reads them all.
fn bundle() -> Graph {
    let mut graph = Graph::new("bundle");
    let x = input(&mut graph);
    let values: Vec<Value> = (0..NODES)
        .map(|_| add(&mut graph, Op::Sigmoid {}, &[x]))
        .collect();
    let joined = add(&mut graph, Op::Concat { axis: 1 }, &values);
    graph.add_output("out", joined);
    graph
}

/// All read the same, and nobody reads them.
fn dead() -> Graph {
    let mut graph = Graph::new("dead");
    let x = input(&mut graph);
    for _ in 0..NODES {
        add(&mut graph, Op::Sigmoid {}, &[x]);
    }
    graph.add_output("out", x);
    graph
}

/// Each computed from the same constant, and one after the other added.
fn constant_sums() -> Graph {
    let mut graph = Graph::new("sums");
    let mut value = input(&mut graph);
    let one = Tensor::from_vec(&[], vec![1.0f32]);
    let one = graph.add_constant("one", Constant::new(one, Role::Literal));
    for _ in 0..NODES {
        let two = add(&mut graph, Op::Add {}, &[one.into(), one.into()]);
        value = add(&mut graph, Op::Add {}, &[value, two]);
    }
    graph.add_output("out", value);
    graph
}

/// The operations that are left.
fn left(pipeline: &str, graph: Graph) -> usize {
    let mut model = Model::new(graph);
    Pipeline::parse(pipeline).unwrap().run(&mut model).unwrap();
    let nodes = model.graph.nodes();
    nodes.filter(|node| model.graph.op(*node).is_some()).count()
}

#[test]
fn time_does_not_grow_with_the_square_of_the_nodes() {
    assert_eq!(left("canonicalize", returned_chain(&Op::Sigmoid {})), NODES);
    assert_eq!(left("canonicalize", returned_chain(&Op::Relu {})), 1);
    assert_eq!(left("canonicalize", dead()), 0);
    assert_eq!(left("canonicalize", constant_sums()), NODES);
    for pipeline in ["canonicalize", "red{hash=none}"] {
        assert_eq!(left(pipeline, bundle()), NODES + 1);
    }
}
