//! Weights: shared, transposed, computed, given from outside.

use super::*;

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
