//! Files that are no models, and models that are none: what is said about them.

use std::fmt::Write as _;

use super::*;

/// A damaged or unwelcome file, and what is said about it.
fn mistakes() -> Vec<(&'static str, Vec<u8>)> {
    let x = || value("x", &["N", "3"]);
    let y = || value("y", &["N", "3"]);
    let relu = || node("Relu", &["x"], &["y"], &[]);
    let with =
        |nodes: &[Message], weights: &[Message]| model(13, &graph(nodes, weights, &[x()], &[y()]));
    let good = with(&[relu()], &[]);
    let add = |weight: Message| with(&[node("Add", &["x", "w"], &["y"], &[])], &[weight]);
    let nested = (0..200).fold(graph(&[], &[], &[], &[]), |inner, _| {
        let branch = node(
            "If",
            &["c"],
            &["z"],
            &[("then_branch", Attribute::Graph(&inner))],
        );
        graph(&[branch], &[], &[], &[])
    });
    let twice = [("axis", Attribute::Int(0)), ("axis", Attribute::Int(1))];
    vec![
        ("an empty file", vec![]),
        ("a file cut short", good[..good.len() - 9].to_vec()),
        ("a file of something else", b"not a model\n".to_vec()),
        (
            "a message without a graph",
            Message::default().int(1, 8).bytes(2, "hand").0,
        ),
        (
            "a string that is no text",
            Message::default().int(1, 8).bytes(2, b"\xff\xfe").0,
        ),
        ("graphs within graphs without end", model(13, &nested)),
        (
            "no version of the operators",
            Message::default()
                .int(1, 8)
                .bytes(7, &graph(&[relu()], &[], &[x()], &[y()]).0)
                .0,
        ),
        (
            "a version of the operators from the future",
            model(99, &graph(&[relu()], &[], &[x()], &[y()])),
        ),
        (
            "two weights of one name",
            with(&[relu()], &[counted("w", &[3]), counted("w", &[3])]),
        ),
        ("two results of one name", with(&[relu(), relu()], &[])),
        (
            "two inputs of one name",
            model(13, &graph(&[relu()], &[], &[x(), x()], &[y()])),
        ),
        (
            "two outputs of one name",
            model(13, &graph(&[relu()], &[], &[x()], &[y(), y()])),
        ),
        (
            "a result with the name of an input",
            with(&[node("Relu", &["x"], &["x"], &[])], &[]),
        ),
        (
            "an operand that nothing computes",
            with(&[node("Relu", &["z"], &["y"], &[])], &[]),
        ),
        ("an output that nothing computes", with(&[], &[])),
        (
            "values that depend on each other",
            with(
                &[
                    node("Add", &["x", "b"], &["y"], &[]),
                    node("Relu", &["y"], &["b"], &[]),
                ],
                &[],
            ),
        ),
        ("a negative size", add(raw("w", 1, &[-3], &[0; 12]))),
        (
            "a size beyond all bounds",
            add(raw("w", 1, &[i64::MAX, i64::MAX], &[0; 12])),
        ),
        ("too few elements", add(floats("w", &[4], &[1.0, 2.0, 3.0]))),
        (
            "too many elements",
            add(floats("w", &[2], &[1.0, 2.0, 3.0])),
        ),
        (
            "no elements",
            add(Message::default().int(1, 3).int(2, 1).bytes(8, "w")),
        ),
        (
            "an element type that nobody knows",
            add(raw("w", 77, &[3], &[0; 12])),
        ),
        (
            "an element type of another length",
            add(raw("w", 12, &[3], &[0; 11])),
        ),
        (
            "a piece of a tensor",
            add(counted("w", &[3]).bytes(3, Message::default().int(1, 0).0)),
        ),
        (
            "an attribute that is there twice",
            with(&[node("Strange", &["x"], &["y"], &twice)], &[]),
        ),
    ]
}

#[test]
fn every_mistake_in_a_file_is_explained() {
    let mut text = String::new();
    for (what, bytes) in mistakes() {
        match open(&bytes) {
            Err(error) => {
                let _ = writeln!(text, "# {what}\n{error}\n");
            }
            Ok(model) => panic!("{what} was read:\n{}", model.graph),
        }
    }
    for (what, error) in external::mistakes() {
        let _ = writeln!(text, "# {what}\n{error}\n");
    }
    common::snapshot("errors/onnx", &text);
}

#[test]
fn what_onnx_cannot_say_is_explained() {
    let graphs = [
        "graph net(%x: f32[N,3,H,W]) {
          %y = avg_pool(%x) {kernel=[floor(H/2),2], stride=[2,2], pad=[0,0], ceil=false, count_pad=false}
          return %y
        }",
        "graph net(%x: f32[N,3,H,W]) {
          %y = adaptive_avg_pool(%x) {output=[floor(H/2),2]}
          return %y
        }",
        "graph net(%x: f32[*]) {
          %y = adaptive_avg_pool(%x) {output=[2,2]}
          return %y
        }",
        "graph net(%x: f32[N,3]) {
          %y = opaque \"aten::foo\"(%x) {template=\"torch.foo({0})\"} : f32[N,3]
          return %y
        }",
        "graph net(%x: f32[N,3]) {
          %y = opaque \"onnx::Foo\"(%x) {template=\"{\", dialect=onnx} : f32[N,3]
          return %y
        }",
        "graph net(%x: f32[N,3]) {
          %y = opaque \"onnx::Foo\"(%x) {template=\"{\\\"op\\\":\\\"Foo\\\",\\\"inputs\\\":[7],\\\"outputs\\\":1}\", dialect=onnx} : f32[N,3]
          return %y
        }",
        "graph net(%x: f32[N,3]) {
          %y = expand(%x) {shape=[M,N,3]}
          return %y
        }",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for graph in graphs {
        let model = Model::new(graph.parse().unwrap());
        let error = match optc::write(&model, folder.path().join("net.onnx")) {
            Ok(()) => panic!("it was written: {graph}"),
            Err(error) => error.to_string(),
        };
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        let _ = writeln!(text, "{error}\n");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    common::snapshot("errors/onnx_write", &text);
}
