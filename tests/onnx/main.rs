//! ONNX files: networks that exporters wrote, and models made by hand, mostly of what exporters write seldom.

#[path = "../common/mod.rs"]
mod common;
mod external;
mod folds;
mod hints;
mod mistakes;
mod model;
mod pools;
mod unchanged;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

use optc::Model;
use optc::exec::compare;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::ir::{Graph, Op};

use model::{
    Attribute, Message, counted, floats, foreign, graph, ints, model, node, raw, single, value,
    value_of,
};

const NAMES: [&str; 3] = ["traced", "dynamo", "structured"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/onnx/{name}.onnx"))
}

/// Writes `bytes` to a file and reads them as a model.
fn open(bytes: &[u8]) -> Result<Model, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    fs::write(&path, bytes).unwrap();
    let path_text = format!("{}/", folder.path().display());
    optc::read(&path).map_err(|error| error.to_string().replace(&path_text, ""))
}

fn read(bytes: &[u8]) -> Graph {
    open(bytes).unwrap_or_else(|error| panic!("{error}")).graph
}

/// The bytes of a model as it is written.
fn write(model: &Model) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    optc::write(model, &path).unwrap_or_else(|error| panic!("{error}\n{}", model.graph));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::read(path).unwrap()
}

/// The same with other names within, so that it is spelled anew whatever it was before.
fn renamed(model: &Model) -> Model {
    let mut model = model.clone();
    let nodes: Vec<_> = model.graph.nodes().collect();
    for node in nodes {
        if model.graph.op(node).is_some() {
            let name = format!("{}.anew", model.graph.node(node).name);
            model.graph.rename(node, &name);
        }
    }
    model
}

/// Whether `bytes` are somewhere in `all`.
fn holds(all: &[u8], bytes: &[u8]) -> bool {
    all.windows(bytes.len()).any(|window| window == bytes)
}

/// The names of the operators, in order.
fn operators(graph: &Graph) -> Vec<String> {
    let order = graph.topological_order().unwrap();
    let name = |op: &Op| match op {
        Op::Opaque(opaque) => opaque.name.to_string(),
        op => op.name().to_string(),
    };
    order
        .into_iter()
        .filter_map(|node| graph.op(node).map(name))
        .collect()
}

/// The largest difference of what two graphs return for the same random inputs.
fn distance(left: &Graph, right: &Graph) -> f64 {
    let found = compare::<f64>(left, right, 2, 0).unwrap();
    match found.largest() {
        Some(moved) => moved.max_abs,
        None => panic!("{found}\n{left}"),
    }
}

#[test]
fn exported_networks_are_read() {
    for name in NAMES {
        let model = optc::read(fixture(name)).unwrap();
        common::snapshot(&format!("onnx/{name}"), &model.graph.to_string());
    }
}

#[test]
fn what_is_written_is_read_as_the_same_graph() {
    for name in NAMES {
        let model = optc::read(fixture(name)).unwrap();
        let as_it_was = open(&write(&model)).unwrap();
        assert_eq!(
            as_it_was.graph.to_string(),
            model.graph.to_string(),
            "{name}"
        );
        // Opaque operators are known by what they read.
        let again = match name {
            "structured" => as_it_was,
            _ => open(&write(&renamed(&model))).unwrap(),
        };
        // Slices that are all parts of a value become one node, so their order may be another.
        let sorted = |graph: &Graph| {
            let mut operators = operators(graph);
            operators.sort();
            operators
        };
        assert_eq!(sorted(&model.graph), sorted(&again.graph), "{name}");
        assert_eq!(distance(&model.graph, &again.graph), 0.0, "{name}");
        assert_eq!(
            write(&again),
            write(&open(&write(&again)).unwrap()),
            "{name}"
        );
    }
}

#[test]
fn the_names_and_texts_of_a_file_stay() {
    let model = optc::read(fixture("structured")).unwrap();
    let written = write(&model);
    let texts = [
        "the first layer",
        "weights of the first layer",
        "made by hand",
        "a hand",
        "nobody",
        "first",
        "choice",
        "Twice",
        "places",
        "chosen",
        "rows",
    ];
    for text in texts {
        assert!(holds(&written, text.as_bytes()), "{text}");
    }
}

#[test]
fn a_weight_that_is_read_transposed_is_written_as_it_was() {
    // As long as nothing changes it: a product has its weight the other way round than the graph.
    let weight = counted("w", &[3, 5]);
    let bytes = single(
        13,
        &["N", "4", "3"],
        std::slice::from_ref(&weight),
        "MatMul",
        &["x", "w"],
        &[],
    );
    let model = open(&bytes).unwrap();
    assert_eq!(operators(&model.graph), ["linear"]);
    let shape = model
        .graph
        .constant(model.graph.find("w").unwrap())
        .unwrap();
    assert_eq!(shape.tensor.shape(), [5, 3]);
    let values: Vec<f32> = (0..15).map(|i| 0.1 * (i % 7 + 1) as f32).collect();
    assert!(holds(&write(&model), bytemuck::cast_slice(&values)));
    // Changed, it is transposed back.
    let mut changed = model.clone();
    let node = changed.graph.find("y").unwrap();
    let doubled = changed
        .graph
        .operand_elements(node, 1)
        .iter()
        .map(|x| 2.0 * x)
        .collect();
    changed.graph.set_operand_elements(node, 1, doubled);
    let doubled: Vec<f32> = values.iter().map(|x| 2.0 * x).collect();
    assert!(holds(&write(&changed), bytemuck::cast_slice(&doubled)));
}

#[test]
fn a_product_with_a_transposed_weight_is_a_linear_layer() {
    let nodes = [
        node(
            "Transpose",
            &["w"],
            &["t"],
            &[("perm", Attribute::Ints(&[1, 0]))],
        ),
        node("MatMul", &["x", "t"], &["y"], &[]),
    ];
    let graph = graph(
        &nodes,
        &[counted("w", &[5, 3])],
        &[value("x", &["N", "3"])],
        &[value("y", &["N", "5"])],
    );
    assert_eq!(operators(&read(&model(13, &graph))), ["linear"]);
}

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
fn a_branch_knows_what_it_reads_from_around_it_under_whatever_name() {
    let body = |op: &str| {
        let inner = node(op, &["h"], &["inner"], &[]);
        graph(&[inner], &[], &[], &[value("inner", &["N", "4"])])
    };
    let nodes = [
        node("Relu", &["x"], &["h"], &[]),
        node("Identity", &["h"], &["copy"], &[]),
        node(
            "If",
            &["flag"],
            &["y"],
            &[
                ("then_branch", Attribute::Graph(&body("Abs"))),
                ("else_branch", Attribute::Graph(&body("Neg"))),
            ],
        ),
        node("Add", &["y", "copy"], &["z"], &[]),
    ];
    let inputs = [value("x", &["N", "4"]), value_of("flag", 9, &[])];
    let bytes = model(17, &graph(&nodes, &[], &inputs, &[value("z", &["N", "4"])]));
    let mut model = open(&bytes).unwrap();
    let branch = model.graph.find("y").unwrap();
    let operands = model.graph.operands(branch);
    let names: Vec<String> = operands
        .iter()
        .map(|value| model.graph.node(value.node).name.to_string())
        .collect();
    assert_eq!(names, ["flag", "h"]);
    // Both branches read the value by the name that it has now, but not by one that means something else in there.
    let (graph, relu) = (model.graph.clone(), model.graph.find("h").unwrap());
    for name in ["renamed", "inner"] {
        model.graph = graph.clone();
        model.graph.rename(relu, name);
        model.graph.add_output(name, relu.into());
        let again = open(&write(&model)).unwrap().graph;
        let branch = again.find("y").unwrap();
        let read = again.operands(branch)[1];
        assert_eq!(again.op(read.node).map(Op::name), Some("relu"), "{again}");
    }
}

#[test]
fn operands_and_results_that_are_left_out_stay_out() {
    let nodes = [
        node(
            "GRU",
            &["x", "w", "r", "", "", "h"],
            &["", "last"],
            &[("hidden_size", Attribute::Int(2))],
        ),
        foreign("other", "Strange", &["last", "", "x"], &["a", "", "b"]),
    ];
    let weights = [
        counted("w", &[1, 6, 3]),
        counted("r", &[1, 6, 2]),
        counted("h", &[1, 4, 2]),
    ];
    let graph = graph(
        &nodes,
        &weights,
        &[value("x", &["5", "4", "3"])],
        &[value("a", &[]), value("b", &[])],
    );
    let model = open(&model(17, &graph)).unwrap();
    common::snapshot("onnx/left_out", &model.graph.to_string());
    assert_eq!(
        open(&write(&model)).unwrap().graph.to_string(),
        model.graph.to_string()
    );
}

#[test]
fn element_types_that_the_graph_lacks_are_kept() {
    let nodes = [
        node("Cast", &["x"], &["small"], &[("to", Attribute::Int(12))]),
        node("BitwiseAnd", &["small", "mask"], &["masked"], &[]),
        node("Cast", &["masked"], &["y"], &[("to", Attribute::Int(1))]),
    ];
    let mask = raw("mask", 12, &[2], &[1, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let graph = graph(
        &nodes,
        &[mask],
        &[value("x", &["N", "2"])],
        &[value("y", &["N", "2"])],
    );
    let model = open(&model(18, &graph)).unwrap();
    common::snapshot("onnx/other_types", &model.graph.to_string());
    assert_eq!(
        open(&write(&model)).unwrap().graph.to_string(),
        model.graph.to_string()
    );
}

#[test]
fn weights_that_layers_share_are_one_constant() {
    // As the exporter by TorchScript writes equal weights.
    let nodes = [
        node("Identity", &["w"], &["v"], &[]),
        node("Mul", &["x", "w"], &["a"], &[]),
        node("Mul", &["a", "v"], &["y"], &[]),
    ];
    let graph = graph(
        &nodes,
        &[counted("w", &[3])],
        &[value("x", &["N", "3"])],
        &[value("y", &["N", "3"])],
    );
    let graph = read(&model(13, &graph));
    let (a, y) = (graph.find("a").unwrap(), graph.find("y").unwrap());
    assert_eq!(graph.operands(a)[1], graph.operands(y)[1]);
}

#[test]
fn norms_of_weights_are_computed() {
    let axes = [
        ("axes", Attribute::Ints(&[1])),
        ("keepdims", Attribute::Int(0)),
    ];
    let nodes = [
        node("ReduceL2", &["w"], &["norm"], &axes),
        node("ReduceSumSquare", &["w"], &["squares"], &axes),
        node("Add", &["x", "norm"], &["sum"], &[]),
        node("Add", &["sum", "squares"], &["y"], &[]),
    ];
    let weights = [floats("w", &[2, 2], &[3.0, -4.0, 0.0, 2.0])];
    let graph = graph(
        &nodes,
        &weights,
        &[value("x", &["N", "2"])],
        &[value("y", &["N", "2"])],
    );
    let mut model = open(&model(13, &graph)).unwrap();
    let canonicalize = optc::Pipeline::parse("canonicalize").unwrap();
    canonicalize.run(&mut model).unwrap();
    let constants: Vec<Vec<f64>> = model
        .graph
        .nodes()
        .filter_map(|node| Some(model.graph.constant(node)?.tensor.elements().into_owned()))
        .collect();
    for expected in [[5.0, 2.0], [25.0, 4.0]] {
        assert!(constants.contains(&expected.to_vec()), "{}", model.graph);
    }
}

#[test]
fn weights_that_are_inputs_stay_inputs() {
    // As all were before version 4 of the format.
    let nodes = [node("Add", &["x", "b"], &["y"], &[])];
    let inputs = [value("x", &["N", "3"]), value("b", &["3"])];
    let graph = graph(
        &nodes,
        &[counted("b", &[3])],
        &inputs,
        &[value("y", &["N", "3"])],
    );
    let bytes = Message::default().int(1, 3).bytes(7, &graph.0);
    let bytes = bytes.bytes(8, Message::default().int(2, 9).0).0;
    let model = open(&bytes).unwrap();
    assert_eq!(model.graph.inputs().len(), 1);
    let written = write(&model);
    assert!(holds(
        &written,
        &Message::default().bytes(11, &inputs[1].0).0
    ));
}

#[test]
fn nodes_in_any_order_are_read() {
    let nodes = [
        node("Relu", &["h"], &["y"], &[]),
        node("Abs", &["x"], &["h"], &[]),
    ];
    let graph = graph(&nodes, &[], &[value("x", &["N"])], &[value("y", &["N"])]);
    assert_eq!(operators(&read(&model(13, &graph))), ["abs", "relu"]);
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

#[test]
fn an_output_padding_of_the_stride_cuts_off_less() {
    let net = |pad: &str| {
        let text = format!(
            "graph net(%x: f32[1,2,3,3]) {{\n  @w = literal [0.25, -0.5, 1.0, 2.0, -1.0, 0.5, 0.75, 3.0] : f32[2,1,2,2]\n  %y = conv_transpose(%x, @w) {{pad=[{pad},0], output_pad=[1,0], dilation=[2,1]}}\n  return %y\n}}"
        );
        text.parse::<Graph>()
            .unwrap_or_else(|error| panic!("{text}\n{error}"))
    };
    let graph = net("1");
    let written = read(&write(&Model::new(graph.clone())));
    let node = written.nodes().find_map(|node| match written.op(node) {
        Some(Op::ConvTranspose { output_pad, .. }) => Some(output_pad.to_vec()),
        _ => None,
    });
    assert_eq!(node, Some(vec![0, 0]), "{written}");
    assert_eq!(distance(&graph, &written), 0.0);
    let folder = tempfile::tempdir().unwrap();
    let error = optc::write(&Model::new(net("0")), folder.path().join("out.onnx")).unwrap_err();
    assert!(error.to_string().contains("output padding"), "{error}");
}

#[test]
fn what_the_graph_computes_differently_stays_opaque() {
    let opaque = |bytes: &[u8]| {
        operators(&read(bytes))
            .iter()
            .all(|op| op.starts_with("onnx::"))
    };
    let image = &["N", "4", "7", "7"];
    let pool = [
        ("kernel_shape", Attribute::Ints(&[2, 2])),
        ("strides", Attribute::Ints(&[3, 3])),
        ("ceil_mode", Attribute::Int(1)),
    ];
    assert!(opaque(&single(13, image, &[], "MaxPool", &["x"], &pool)));
    for auto in ["SAME_UPPER", "SAME_LOWER"] {
        let dilated = [
            ("kernel_shape", Attribute::Ints(&[3, 3])),
            ("dilations", Attribute::Ints(&[1, 2])),
            ("auto_pad", Attribute::Text(auto)),
        ];
        assert!(opaque(&single(13, image, &[], "MaxPool", &["x"], &dilated)));
    }
    assert!(opaque(&single(13, image, &[], "HardSigmoid", &["x"], &[])));
    let cubic = [("mode", Attribute::Text("cubic"))];
    let scales = [floats("s", &[4], &[1.0, 1.0, 2.0, 2.0])];
    assert!(opaque(&single(
        13,
        image,
        &scales,
        "Resize",
        &["x", "", "s"],
        &cubic
    )));
    let odd = [floats("s", &[4], &[1.0, 1.0, 1.5, 1.5])];
    assert!(opaque(&single(
        13,
        image,
        &odd,
        "Resize",
        &["x", "", "s"],
        &[]
    )));
    let unknown = [("colour", Attribute::Text("red"))];
    assert!(opaque(&single(13, image, &[], "Relu", &["x"], &unknown)));
    let training = [("training_mode", Attribute::Int(1))];
    let weights = ["a", "b", "c", "d"].map(|name| counted(name, &[4]));
    assert!(opaque(&single(
        14,
        image,
        &weights,
        "BatchNormalization",
        &["x", "a", "b", "c", "d"],
        &training
    )));
}

#[test]
fn a_product_and_a_sum_are_a_linear_layer_and_are_written_as_they_were() {
    let x = value("x", &["N", "T", "3"]);
    let weight = || floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bias = || floats("b", &[1, 2], &[0.5, -0.5]);
    let nodes = |sum: &[&str]| {
        let product = node("MatMul", &["x", "w"], &["h"], &[]);
        let product = product.bytes(3, "layer/MatMul").bytes(6, "the product");
        [product, node("Add", sum, &["y"], &[])]
    };
    for sum in [["h", "b"], ["b", "h"]] {
        let y = value("y", &["N", "T", "2"]);
        let graph = graph(
            &nodes(&sum),
            &[weight(), bias()],
            std::slice::from_ref(&x),
            &[y],
        );
        let layer = open(&model(13, &graph)).unwrap();
        assert_eq!(operators(&layer.graph), ["linear"]);
        let written = write(&layer);
        for text in ["layer/MatMul", "the product", "Add", "w", "b", "h"] {
            assert!(holds(&written, text.as_bytes()), "{text}");
        }
        let again = open(&written).unwrap();
        assert_eq!(again.graph.to_string(), layer.graph.to_string());
    }
    // Who else reads the product needs it by itself.
    let outputs = [value("y", &["N", "T", "2"]), value("h", &["N", "T", "2"])];
    let graph = graph(&nodes(&["h", "b"]), &[weight(), bias()], &[x], &outputs);
    assert_eq!(operators(&read(&model(13, &graph))), ["linear", "add"]);
}

#[test]
fn graphs_within_graphs_are_read_and_written_as_deep_as_messages_may_lie() {
    let x = || value("x", &["2"]);
    let inner = (0..29).fold(
        graph(
            &[node("Relu", &["x"], &["z"], &[])],
            &[],
            &[],
            &[value("z", &["2"])],
        ),
        |inner, _| {
            let branches = [
                ("then_branch", Attribute::Graph(&inner)),
                ("else_branch", Attribute::Graph(&inner)),
            ];
            let branch = node("If", &["c"], &["z"], &branches[..1]);
            graph(&[branch], &[], &[], &[value("z", &["2"])])
        },
    );
    let top = node(
        "If",
        &["c"],
        &["y"],
        &[("then_branch", Attribute::Graph(&inner))],
    );
    let condition = value_of("c", 9, &[]);
    let graph = graph(&[top], &[], &[x(), condition], &[value("y", &["2"])]);
    let nested = open(&model(13, &graph)).unwrap();
    assert_eq!(operators(&nested.graph), ["onnx::If"]);
    let again = open(&write(&nested)).unwrap();
    assert_eq!(again.graph.to_string(), nested.graph.to_string());
}
