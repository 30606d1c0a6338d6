//! ONNX files: networks that exporters wrote, and models made by hand, mostly of what exporters write seldom.

#[path = "../common/mod.rs"]
mod common;
mod external;
mod folds;
mod hints;
mod mistakes;
mod model;
mod pools;
mod sizes;
mod unchanged;
mod versions;
mod weights;

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
fn nodes_in_any_order_are_read() {
    let nodes = [
        node("Relu", &["h"], &["y"], &[]),
        node("Abs", &["x"], &["h"], &[]),
    ];
    let graph = graph(&nodes, &[], &[value("x", &["N"])], &[value("y", &["N"])]);
    assert_eq!(operators(&read(&model(13, &graph))), ["abs", "relu"]);
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
    let shifted = [("beta", Attribute::Float(0.4))];
    assert!(opaque(&single(
        13,
        image,
        &[],
        "HardSigmoid",
        &["x"],
        &shifted
    )));
    // Another slope is that of a multiple.
    assert!(!opaque(&single(13, image, &[], "HardSigmoid", &["x"], &[])));
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
