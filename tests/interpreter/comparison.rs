//! The comparison of two graphs.

use optc::Error;
use optc::exec::{Reference, compare};
use optc::ir::{Constant, Dialect, Graph, NodeId, Op, Opaque, Role, Tensor, Type, Value};
use optc::report::Verification;
use smallvec::smallvec;

fn graph(input: &str) -> (Graph, Value) {
    let mut graph = Graph::new("net");
    let x = graph.add_input("x", input.parse().unwrap());
    (graph, x.into())
}

fn weight(graph: &mut Graph, shape: &[usize], f: impl Fn(usize) -> f32) -> Value {
    let elements = (0..shape.iter().product()).map(f).collect();
    let constant = Constant::new(Tensor::from_vec(shape, elements), Role::Parameter);
    graph.add_constant("weight", constant).into()
}

fn opaque(graph: &mut Graph, template: &str, operand: Value, result: &str) -> NodeId {
    let outputs = smallvec![result.parse::<Type>().unwrap()];
    let op = Op::Opaque(std::sync::Arc::new(Opaque {
        dialect: Dialect::default(),
        name: "aten::foo".into(),
        template: template.into(),
        sizes: smallvec![],
        outputs: smallvec![result.parse().unwrap()],
    }));
    graph.add_typed_op("foo", op, &[operand], outputs)
}

fn finish(mut graph: Graph, value: impl Into<Value>) -> Graph {
    let value = value.into();
    graph.add_output("y", value);
    graph
}

fn moved(verification: &Verification) -> (f64, f64) {
    let moved = verification.largest().unwrap();
    (moved.max_rel, moved.argmax_agreement)
}

/// `y = linear(x)`, its weight scaled.
fn linear(scale: f32) -> Graph {
    let (mut graph, x) = graph("f32[N,4]");
    let w = weight(&mut graph, &[5, 4], |i| scale * (i as f32 * 0.7).sin());
    let y = graph.add_op("linear", Op::Linear {}, &[x, w]).unwrap();
    finish(graph, y)
}

#[test]
fn equal_graphs_agree_and_others_do_not() {
    let verification = compare::<f64>(&linear(1.0), &linear(1.0), 3, 7).unwrap();
    assert_eq!(moved(&verification), (0.0, 1.0));
    let (max_rel, same) = moved(&compare::<f64>(&linear(1.0), &linear(0.75), 3, 7).unwrap());
    assert!((max_rel - 0.25).abs() < 1e-6, "{max_rel}");
    assert_eq!(same, 1.0);
    let (_, same) = moved(&compare::<f64>(&linear(1.0), &linear(-1.0), 3, 7).unwrap());
    assert_eq!(same, 0.0);
    let (nan, _) = moved(&compare::<f32>(&linear(1.0), &linear(f32::NAN), 3, 7).unwrap());
    assert_eq!(nan, f64::INFINITY);
}

/// `y = relu(foo(linear(x)))` with an operator `foo` that nobody knows.
fn around_opaque(scale: f32, template: &str, result: &str) -> Graph {
    let (mut graph, x) = graph("f32[N,4]");
    let w = weight(&mut graph, &[5, 4], |i| scale * (i as f32 * 0.7).sin());
    let y = graph.add_op("linear", Op::Linear {}, &[x, w]).unwrap();
    let y = opaque(&mut graph, template, y.into(), result);
    let y = graph.add_op("relu", Op::Relu {}, &[y.into()]).unwrap();
    finish(graph, y)
}

#[test]
fn an_opaque_operator_is_cut_out_and_what_it_reads_is_compared() {
    for result in ["f32[N,7]", "f32[*]"] {
        let before = around_opaque(1.0, "foo({0})", result);
        let same = compare::<f64>(&before, &around_opaque(1.0, "foo({0})", result), 2, 0);
        assert_eq!(moved(&same.unwrap()), (0.0, 1.0));
        let other = compare::<f64>(&before, &around_opaque(0.5, "foo({0})", result), 2, 0);
        assert!((moved(&other.unwrap()).0 - 0.5).abs() < 1e-6);
        let error = compare::<f64>(&before, &around_opaque(1.0, "foo({0}, 1)", result), 2, 0);
        assert_eq!(
            error.unwrap_err().to_string(),
            "cannot run `foo`: the original graph has no operator aten::foo that reads arrays of these shapes"
        );
    }
}

#[test]
fn equal_opaque_operators_may_become_one() {
    let twice = |merged: bool| {
        let (mut graph, x) = graph("f32[N,4]");
        let a = opaque(&mut graph, "foo({0})", x, "f32[N,4]");
        let b = if merged {
            a
        } else {
            opaque(&mut graph, "foo({0})", x, "f32[N,4]")
        };
        let y = graph.add_op("add", Op::Add {}, &[a.into(), b.into()]);
        finish(graph, y.unwrap())
    };
    let verification = compare::<f64>(&twice(false), &twice(true), 2, 0).unwrap();
    assert_eq!(moved(&verification), (0.0, 1.0));
}

#[test]
fn sizes_without_a_number_are_found_by_trying() {
    let (mut graph, x) = graph("f32[N,1,H,W]");
    let pool = Op::AdaptiveAvgPool {
        output: smallvec![1.into(), 2.into()],
    };
    let y = graph.add_op("pool", pool, &[x]).unwrap();
    // 64 by 64 after the batch: only that length fits.
    let flatten = Op::Flatten { start: 1, end: 3 };
    let flat = graph.add_op("flat", flatten, &[x]).unwrap();
    let w = weight(&mut graph, &[2, 64 * 64], |_| 1.0);
    let z = graph
        .add_op("linear", Op::Linear {}, &[flat.into(), w])
        .unwrap();
    let flatten = Op::Flatten { start: 1, end: 3 };
    let y = graph.add_op("flat", flatten, &[y.into()]).unwrap();
    let y = graph.add_op("add", Op::Add {}, &[y.into(), z.into()]);
    let graph = finish(graph, y.unwrap());
    assert_eq!(
        moved(&compare::<f32>(&graph, &graph, 1, 0).unwrap()),
        (0.0, 1.0)
    );
}

#[test]
fn what_cannot_be_run_is_not_verified_and_says_why() {
    let (mut unknown, x) = graph("f32[*]");
    let y = unknown.add_op("relu", Op::Relu {}, &[x]).unwrap();
    let unknown = finish(unknown, y);
    let verification = compare::<f32>(&unknown, &unknown, 1, 0).unwrap();
    assert_eq!(
        verification.to_string(),
        "not verified: cannot run `x`: the shape of f32[*] is not known"
    );
    let reference = Reference::<f32>::new(&linear(1.0), 1, 0).unwrap();
    let (mut other, x) = graph("f32[N,4]");
    let y = other.add_op("relu", Op::Relu {}, &[x]).unwrap();
    let error = reference.compare(&finish(other, y)).unwrap_err();
    assert!(matches!(error, Error::Run { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot run `y`: its shape is [2, 4] instead of [2, 5]"
    );
}
