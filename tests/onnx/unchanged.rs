//! What no pass has changed is written as it was.

use super::*;

/// A network that says things in more ways than the graph has: constants as nodes, sizes that are computed, scaled products.
fn network() -> (Vec<Message>, Vec<u8>) {
    let alpha = [
        ("alpha", Attribute::Float(0.5)),
        ("beta", Attribute::Float(2.0)),
    ];
    let nodes = vec![
        node(
            "Constant",
            &[],
            &["two"],
            &[("value_int", Attribute::Int(2))],
        ),
        node("Shape", &["x"], &["shape"], &[]),
        node(
            "Gather",
            &["shape", "zero"],
            &["n"],
            &[("axis", Attribute::Int(0))],
        ),
        node("Mul", &["n", "two"], &["rows"], &[]),
        node("Unsqueeze", &["rows", "first"], &["row_list"], &[]),
        node(
            "Concat",
            &["row_list", "minus"],
            &["target"],
            &[("axis", Attribute::Int(0))],
        ),
        node(
            "Reshape",
            &["x", "target"],
            &["halves"],
            &[("allowzero", Attribute::Int(0))],
        ),
        node("Gemm", &["halves", "w", "b"], &["scaled"], &alpha),
        node("Identity", &["w"], &["w_again"], &[]),
        node("MatMul", &["halves", "w_again"], &["product"], &[]),
        node("Add", &["b", "product"], &["layer"], &[]),
        node("Max", &["scaled", "layer", "halves"], &["largest"], &[]),
        node(
            "LRN",
            &["image"],
            &["normed"],
            &[("size", Attribute::Int(1))],
        ),
        node(
            "Split",
            &["normed"],
            &["left", "right"],
            &[("axis", Attribute::Int(1))],
        ),
        node("Sub", &["left", "right"], &["difference"], &[]),
        node("Transpose", &["w"], &["turned"], &[]),
        node("MatMul", &["largest", "turned"], &["y"], &[]),
    ];
    let weights = [
        floats("w", &[2, 2], &[1.0, 2.0, 3.0, 5.0]),
        floats("b", &[2], &[0.5, -0.5]),
        raw("zero", 7, &[], &[0; 8]),
        ints("first", &[0]),
        ints("minus", &[-1]),
        floats("nobody's", &[3], &[7.0, 8.0, 9.0]),
    ];
    let inputs = [
        value("x", &["N", "4"]),
        value("image", &["N", "2", "4", "4"]),
    ];
    let outputs = [
        value("y", &["M", "2"]),
        value("difference", &["N", "1", "4", "4"]),
    ];
    let bytes = model(14, &graph(&nodes, &weights, &inputs, &outputs));
    (nodes.into_iter().chain(weights).collect(), bytes)
}

#[test]
fn nodes_and_weights_are_written_as_they_were() {
    let (messages, bytes) = network();
    let model = open(&bytes).unwrap();
    let written = write(&model);
    for message in messages {
        assert!(
            holds(&written, &message.0),
            "{}",
            String::from_utf8_lossy(&message.0)
        );
    }
    assert_eq!(written.len(), bytes.len());
    assert_eq!(
        open(&written).unwrap().graph.to_string(),
        model.graph.to_string()
    );
}

#[test]
fn what_is_changed_is_spelled_anew_and_the_rest_stays() {
    let (messages, bytes) = network();
    let mut model = open(&bytes).unwrap();
    // Another number of rows: no more what the nodes before it compute.
    let halves = model.graph.find("halves").unwrap();
    let x = model.graph.operands(halves).to_vec();
    let shape = ["4", "N"]
        .map(|size| size.parse().unwrap())
        .into_iter()
        .collect();
    model
        .graph
        .replace_op(halves, Op::Reshape { shape }, &x)
        .unwrap();
    for node in model.graph.topological_order().unwrap() {
        if let Some(op) = model
            .graph
            .op(node)
            .filter(|op| !matches!(op, Op::Opaque(_)))
            .cloned()
        {
            let operands = model.graph.operands(node).to_vec();
            model.graph.replace_op(node, op, &operands).unwrap();
        }
    }
    let written = write(&model);
    let again = open(&written).unwrap();
    let text = again.graph.to_string();
    assert!(
        text.contains("%halves = reshape(%x) {shape=[4,N]}"),
        "{text}"
    );
    let is_there = |at: usize| holds(&written, &messages[at].0);
    assert!(!is_there(6) && !is_there(5), "{text}");
    assert!(is_there(12) && is_there(13) && is_there(14), "{text}");
}

#[test]
fn a_weight_of_two_layouts_is_stored_once() {
    let values: Vec<f32> = (1..=12).map(|i| i as f32).collect();
    let nodes = [
        node("Gemm", &["x", "w"], &["y"], &[]),
        node(
            "Gemm",
            &["x", "w"],
            &["z"],
            &[("alpha", Attribute::Float(2.0))],
        ),
    ];
    let outputs = [value("y", &["N", "4"]), value("z", &["N", "4"])];
    let weights = [floats("w", &[3, 4], &values)];
    let graph = graph(&nodes, &weights, &[value("x", &["N", "3"])], &outputs);
    let mut model = open(&model(13, &graph)).unwrap();
    let count = |bytes: &[u8], values: &[f32]| {
        let wanted: &[u8] = bytemuck::cast_slice(values);
        bytes
            .windows(wanted.len())
            .filter(|part| *part == wanted)
            .count()
    };
    assert_eq!(count(&write(&model), &values), 1);
    let doubled: Vec<f32> = values.iter().map(|x| 2.0 * x).collect();
    let weight = model.graph.find("w").unwrap();
    let tensor = optc::ir::Tensor::from_vec(&[3, 4], doubled.clone());
    model.graph.set_tensor(weight, tensor.transposed().unwrap());
    let written = write(&model);
    assert_eq!(count(&written, &doubled), 1);
    let once = written.len() < bytemuck::cast_slice::<f32, u8>(&values).len() + 400;
    assert!(once, "{} bytes", written.len());
}

#[test]
fn factors_of_a_product_go_into_its_weight_and_bias() {
    let factors = [
        ("alpha", Attribute::Float(0.5)),
        ("beta", Attribute::Float(-2.0)),
    ];
    let nodes = [node("Gemm", &["x", "w", "b"], &["y"], &factors)];
    let weights = [
        floats("w", &[2, 2], &[1.0, 2.0, 3.0, 5.0]),
        floats("b", &[1, 2], &[0.5, -0.5]),
    ];
    let (inputs, outputs) = ([value("x", &["N", "2"])], [value("y", &["N", "2"])]);
    let bytes = model(13, &graph(&nodes, &weights, &inputs, &outputs));
    let mut model = open(&bytes).unwrap();
    let text = "%y = linear(%x, @w.scaled, @b.scaled) : f32[N,2]";
    assert!(model.graph.to_string().contains(text), "{}", model.graph);
    let elements = |name: &str| {
        let constant = model.graph.constant(model.graph.find(name).unwrap());
        constant.unwrap().tensor.elements::<f64>().into_owned()
    };
    assert_eq!(elements("w.scaled"), [0.5, 1.5, 1.0, 2.5]);
    assert_eq!(elements("b.scaled"), [-1.0, 1.0]);
    let as_it_was = |model: &Model| holds(&write(model), &nodes[0].0);
    assert!(as_it_was(&model));
    let bias = model.graph.find("b.scaled").unwrap();
    let other = optc::ir::Tensor::from_vec(&[2], vec![1.0f32, 2.0]);
    model.graph.set_tensor(bias, other);
    assert!(!as_it_was(&model));
    let again = open(&write(&model)).unwrap().graph.to_string();
    assert!(again.contains("%y = linear(%x, "), "{again}");
}

#[test]
fn an_initializer_that_a_caller_may_override_is_an_input() {
    let nodes = [
        node("Mul", &["k", "k"], &["square"], &[]),
        node("Add", &["x", "square"], &["y"], &[]),
    ];
    let inputs = [value("k", &["1"]), value("x", &["N", "3"])];
    let default = floats("k", &[1], &[1.5]);
    let graph = graph(
        &nodes,
        std::slice::from_ref(&default),
        &inputs,
        &[value("y", &["N", "3"])],
    );
    let mut read = open(&model(13, &graph)).unwrap();
    let names: Vec<&str> = read
        .graph
        .inputs()
        .iter()
        .map(|i| &*read.graph.node(*i).name)
        .collect();
    // Behind the others, which shapes on the command line are for.
    assert_eq!(names, ["x", "k"]);
    let canonicalize = optc::pipeline::Pipeline::parse("canonicalize").unwrap();
    let report = canonicalize.run(&mut read).unwrap();
    let missed = report.passes[0]
        .remarks
        .iter()
        .filter(|remark| remark.kind == optc::pipeline::RemarkKind::Missed)
        .map(|remark| (remark.node.as_str(), remark.text.as_str()));
    let text = "nothing is folded into weights that are also inputs, which callers may override, nor merged: `k`";
    assert_eq!(missed.collect::<Vec<_>>(), [("k", text)]);
    let written = write(&read);
    for message in [&default, &inputs[0], &inputs[1], &nodes[0]] {
        assert!(holds(&written, &message.0));
    }
}

/// Splitting by sizes that cannot be is found out after the first part was made, which had the name of the first result.
#[test]
fn what_cannot_be_lowered_keeps_the_names_of_its_results() {
    let nodes = [
        node(
            "Split",
            &["x", "sizes"],
            &["a", "a.1"],
            &[("axis", Attribute::Int(1))],
        ),
        node("Relu", &["a.1"], &["first"], &[]),
        node("Sub", &["a", "first"], &["y"], &[]),
    ];
    let network = read(&model(
        13,
        &graph(
            &nodes,
            &[ints("sizes", &[1, 10_000_000_000_000])],
            &[value("x", &["N", "2", "8", "9"])],
            &[value("y", &["N", "1", "8", "9"])],
        ),
    ));
    let split = network.find("a").unwrap();
    let is_opaque = matches!(network.op(split), Some(Op::Opaque(_)));
    assert!(is_opaque, "{network}");
    let read = network.operands(network.find("first").unwrap())[0];
    assert_eq!((read.node, read.port), (split, 1));
}
