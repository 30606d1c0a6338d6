//! Sizes that nodes compute, or that the user has to give.

use super::*;

#[test]
fn sizes_that_nodes_compute_are_expressions() {
    // view(n, 2, c / 2, -1) as exporters write it.
    let nodes = [
        node("Shape", &["x"], &["shape"], &[]),
        node(
            "Gather",
            &["shape", "zero"],
            &["n"],
            &[("axis", Attribute::Int(0))],
        ),
        node("Gather", &["shape", "one"], &["c"], &[]),
        node("Div", &["c", "two"], &["half"], &[]),
        node(
            "Concat",
            &["n", "two", "half", "minus"],
            &["target"],
            &[("axis", Attribute::Int(0))],
        ),
        node("Reshape", &["x", "target"], &["y"], &[]),
    ];
    let weights = [
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("two", &[2]),
        ints("minus", &[-1]),
    ];
    let inputs = [value("x", &["batch", "channels", "?", "7"])];
    let model = open(&model(
        13,
        &graph(&nodes, &weights, &inputs, &[value("y", &[])]),
    ))
    .unwrap();
    assert_eq!(
        model.graph.to_string(),
        "graph net(%x: f32[batch,channels,x.2,7]) {\n  \
           %y = reshape(%x) {shape=[batch,2,floor(channels/2),floor((7*channels*x.2)/(2*floor(channels/2)))]} : \
           f32[batch,2,floor(channels/2),floor((7*channels*x.2)/(2*floor(channels/2)))]\n  return %y\n}\n"
    );
    // Written, they are computed again, as far as zeros do not say it.
    let again = open(&write(&model)).unwrap();
    assert_eq!(again.graph.to_string(), model.graph.to_string());
}

#[test]
fn a_pad_whose_amounts_are_computed_is_a_pad() {
    // F.pad(x, (1, 2)) as the exporter by TorchScript writes it: reversed pairs of a list.
    let nodes = [
        node("Reshape", &["amounts", "pairs"], &["table"], &[]),
        node(
            "Slice",
            &["table", "minus", "least", "zero", "minus"],
            &["reversed"],
            &[],
        ),
        node(
            "Transpose",
            &["reversed"],
            &["columns"],
            &[("perm", Attribute::Ints(&[1, 0]))],
        ),
        node("Reshape", &["columns", "minus"], &["list"], &[]),
        node(
            "Pad",
            &["x", "list"],
            &["y"],
            &[("mode", Attribute::Text("reflect"))],
        ),
    ];
    let weights = [
        ints("amounts", &[1, 2, 0, 0]),
        ints("pairs", &[-1, 2]),
        ints("minus", &[-1]),
        ints("least", &[i64::MIN + 1]),
        ints("zero", &[0]),
    ];
    let graph = graph(
        &nodes,
        &weights,
        &[value("x", &["N", "L"])],
        &[value("y", &[])],
    );
    let graph = read(&model(13, &graph));
    assert_eq!(
        graph.to_string(),
        "graph net(%x: f32[N,L]) {\n  %y = pad(%x) {before=[0,1], after=[0,2], mode=reflect} : f32[N,L+3]\n  return %y\n}\n"
    );
}

#[test]
fn an_input_without_a_shape_gets_its_rank_from_the_user() {
    let nodes = [node(
        "Softmax",
        &["x"],
        &["y"],
        &[("axis", Attribute::Int(-1))],
    )];
    let ty = Message::default().bytes(1, Message::default().int(1, 1).0);
    let x = Message::default().bytes(1, "x").bytes(2, ty.0);
    let bytes = model(13, &graph(&nodes, &[], &[x], &[value("y", &[])]));
    assert_eq!(operators(&read(&bytes)), ["onnx::Softmax"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    fs::write(&path, bytes).unwrap();
    let inputs = vec!["2x3".parse::<InputShape>().unwrap()];
    let model = read_with(&path, &ReadOptions { inputs }).unwrap();
    assert_eq!(operators(&model.graph), ["softmax"]);
    assert!(
        model
            .graph
            .to_string()
            .contains("%y = softmax(%x) {axis=1} : f32[x.0,x.1]")
    );
}

#[test]
fn one_slope_gives_a_number_no_axis() {
    let text = "graph net(%x: f32[]) {\n  @s = literal [0.25] : f32[1]\n  %y = prelu(%x, @s)\n  return %y\n}";
    let graph: Graph = text.parse().unwrap();
    let written = read(&write(&Model::new(graph.clone())));
    assert_eq!(operators(&written), ["prelu"]);
    let slope = written.nodes().find_map(|node| written.constant(node));
    assert_eq!(distance(&graph, &written), 0.0, "{slope:?}");
    let pool = "graph net(%x: i64[1,1,2,2]) {\n  %y = max_pool(%x) {kernel=[2,2], stride=[2,2], pad=[0,0], dilation=[1,1], ceil=false}\n  return %y\n}";
    let folder = tempfile::tempdir().unwrap();
    let pool = Model::new(pool.parse().unwrap());
    let error = optc::write(&pool, folder.path().join("out.onnx")).unwrap_err();
    assert!(error.to_string().contains("a pool of i64"), "{error}");
}
