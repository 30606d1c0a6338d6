//! The IR from outside: what its text form refuses.

mod common;

use optc::ir::{DType, Graph, Type};

#[test]
fn a_text_that_cannot_be_read_is_pointed_into() {
    let constant =
        |value: &str| format!("graph g(%x: f32[N]) {{ @w = parameter {value} return %x, @w }}");
    let on_x = |rest: &str| format!("graph g(%x: f32[N,3]) {{\n  {rest}\n}}");
    let texts = [
        String::new(),
        "module {}".into(),
        "graph g(%x: f32[N) { return %x }".into(),
        "graph g(%x: f31[N]) { return %x }".into(),
        "graph g(%x: f32[N], %x: f32[N]) { return %x }".into(),
        "graph g(%x: f32[floor(N)]) { return %x }".into(),
        "graph g(%x: f32[N]) where N=-1 { return %x }".into(),
        "graph g(%x: f32[N]) where N=1, N=2 { return %x }".into(),
        "graph g() { return %x }".into(),
        on_x("return @x"),
        on_x("return %x#1"),
        on_x("return %x, %x"),
        on_x("return %x") + " more",
        on_x("%y = rellu(%x)\n  return %y"),
        on_x("%y = frobnicate(%x)\n  return %y"),
        on_x("%y = relu(%x) {a=1}\n  return %y"),
        on_x("%y = relu(%x) : f32[N,4]\n  return %y"),
        on_x("%y = softmax(%x)\n  return %y"),
        on_x("%y = softmax(%x) {axis=one}\n  return %y"),
        on_x("%y = softmax(%x) {axis=2}\n  return %y"),
        on_x("%y = softmax(%x) {axis=1, axis=1}\n  return %y"),
        on_x("%y = add(%x)\n  return %y"),
        on_x("%y = flatten(%x) {start=1, end=2}\n  return %y"),
        on_x("%y = opaque \"f(%x)\n  return %y"),
        on_x("%y = opaque \"f\"(%x) : f32[*]\n  return %y"),
        constant("#1a2b3c4d : f32[3]"),
        constant("[1, 2] : f32[3]"),
        constant("[1, x] : f32[2]"),
        constant("[1, 2] : f32[N]"),
        constant("0.5 : i64[2]"),
        constant("0.0 : f32[99999999999]"),
        constant("rows(normal(1), [0, x]) : f32[2,3]"),
        constant("rows(normal(1), [0, 1]) : f32[3,3]"),
        constant("rows(normal(1), [0, 4294967295]) : f32[2,3]"),
        constant(&"[".repeat(40)),
        constant(&"rows(".repeat(40)),
    ];
    let errors = texts.map(|text| match text.parse::<Graph>() {
        Ok(graph) => panic!("{text} was read as {graph}"),
        Err(error) => error.to_string(),
    });
    common::snapshot("errors/ir_text", &errors.join("\n\n"));
}

#[test]
fn a_graph_that_breaks_a_rule_is_not_written() {
    let text = "graph net(%x: f32[2]) {
          %y = relu(%x)
          return %y
        }";
    let mut graph: Graph = text.parse().unwrap();
    let y = graph.find("y").unwrap();
    graph.set_types(y, [Type::tensor(DType::F32, [3.into()])].into());
    let folder = tempfile::tempdir().unwrap();
    for name in ["net.ir", "net.onnx", "net.pt", "net.pt2"] {
        let path = folder.path().join(name);
        let error = optc::write(&optc::Model::new(graph.clone()), &path).unwrap_err();
        assert!(matches!(error, optc::Error::Invalid { .. }), "{error}");
        assert!(!path.exists());
    }
}
