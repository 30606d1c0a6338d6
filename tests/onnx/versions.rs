//! The same network in every version of the operators: each is read as the same graph, and written in the version it came in.

use super::*;

/// Layers whose spelling changed over time, as version `opset` spells them.
fn network(opset: i64) -> Vec<u8> {
    let mut nodes = Vec::new();
    let mut weights = vec![counted("w", &[4, 2, 3, 3]), counted("b", &[4])];
    let pads = [0, 0, 1, 1, 0, 0, 1, 1];
    if opset < 11 {
        nodes.push(node(
            "Pad",
            &["x"],
            &["padded"],
            &[("pads", Attribute::Ints(&pads))],
        ));
    } else {
        weights.push(ints("pads", &pads));
        nodes.push(node("Pad", &["x", "pads"], &["padded"], &[]));
    }
    let conv = [("kernel_shape", Attribute::Ints(&[3, 3]))];
    nodes.push(node("Conv", &["padded", "w", "b"], &["conv"], &conv));
    if opset < 11 {
        let bounds = [
            ("min", Attribute::Float(0.0)),
            ("max", Attribute::Float(6.0)),
        ];
        nodes.push(node("Clip", &["conv"], &["clipped"], &bounds));
    } else {
        weights.extend([floats("low", &[], &[0.0]), floats("high", &[], &[6.0])]);
        nodes.push(node("Clip", &["conv", "low", "high"], &["clipped"], &[]));
    }
    if opset < 10 {
        let cut = [
            ("axes", Attribute::Ints(&[2])),
            ("starts", Attribute::Ints(&[1])),
            ("ends", Attribute::Ints(&[5])),
        ];
        nodes.push(node("Slice", &["clipped"], &["cut"], &cut));
    } else {
        weights.extend([ints("start", &[1]), ints("end", &[5]), ints("axis", &[2])]);
        nodes.push(node(
            "Slice",
            &["clipped", "start", "end", "axis"],
            &["cut"],
            &[],
        ));
    }
    let scales = floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
    match opset {
        ..9 => {
            let scales = [("scales", Attribute::Floats(&[1.0, 1.0, 2.0, 2.0]))];
            nodes.push(node("Upsample", &["cut"], &["larger"], &scales));
        }
        9 => {
            weights.push(scales);
            nodes.push(node("Upsample", &["cut", "scales"], &["larger"], &[]));
        }
        10 => {
            weights.push(scales);
            nodes.push(node("Resize", &["cut", "scales"], &["larger"], &[]));
        }
        _ => {
            weights.extend([scales, floats("region", &[0], &[])]);
            let how = [
                (
                    "coordinate_transformation_mode",
                    Attribute::Text("asymmetric"),
                ),
                ("nearest_mode", Attribute::Text("floor")),
            ];
            nodes.push(node(
                "Resize",
                &["cut", "region", "scales"],
                &["larger"],
                &how,
            ));
        }
    }
    let axes = [2, 3];
    if opset < 18 {
        let mean = [
            ("axes", Attribute::Ints(&axes)),
            ("keepdims", Attribute::Int(1)),
        ];
        nodes.push(node("ReduceMean", &["larger"], &["mean"], &mean));
    } else {
        weights.push(ints("axes", &axes));
        nodes.push(node("ReduceMean", &["larger", "axes"], &["mean"], &[]));
    }
    if opset < 13 {
        nodes.push(node(
            "Squeeze",
            &["mean"],
            &["flat"],
            &[("axes", Attribute::Ints(&axes))],
        ));
        nodes.push(node(
            "ReduceSum",
            &["flat"],
            &["sum"],
            &[("axes", Attribute::Ints(&[1]))],
        ));
        let parts = [
            ("axis", Attribute::Int(1)),
            ("split", Attribute::Ints(&[1, 3])),
        ];
        nodes.push(node("Split", &["flat"], &["left", "right"], &parts));
    } else {
        weights.extend([
            ints("spatial", &axes),
            ints("channels", &[1]),
            ints("parts", &[1, 3]),
        ]);
        nodes.push(node("Squeeze", &["mean", "spatial"], &["flat"], &[]));
        nodes.push(node("ReduceSum", &["flat", "channels"], &["sum"], &[]));
        nodes.push(node(
            "Split",
            &["flat", "parts"],
            &["left", "right"],
            &[("axis", Attribute::Int(1))],
        ));
    }
    nodes.push(node(
        "Concat",
        &["right", "left"],
        &["turned"],
        &[("axis", Attribute::Int(1))],
    ));
    nodes.push(node("Add", &["turned", "sum"], &["total"], &[]));
    nodes.push(node(
        "Softmax",
        &["total"],
        &["y"],
        &[("axis", Attribute::Int(1))],
    ));
    let inputs = [value("x", &["N", "2", "6", "W"])];
    model(
        opset,
        &graph(&nodes, &weights, &inputs, &[value("y", &["N", "4"])]),
    )
}

#[test]
fn every_version_is_read_as_the_same_graph_and_written_as_itself() {
    // Constants lie in different places.
    let text = |graph: &Graph| {
        let text = graph.to_string();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains(" = literal"))
            .collect();
        lines.join("\n")
    };
    let expected = text(&read(&network(7)));
    assert!(!expected.contains("opaque"), "{expected}");
    for opset in 7..=28 {
        let model = open(&network(opset)).unwrap();
        assert_eq!(text(&model.graph), expected, "version {opset}");
        let written = write(&model);
        let import = Message::default().bytes(1, "").int(2, opset);
        assert!(holds(&written, &import.0), "version {opset}");
        assert_eq!(text(&read(&written)), expected, "version {opset}");
        let anew = write(&renamed(&model));
        assert!(holds(&anew, &import.0), "version {opset}");
        let anew = text(&read(&anew)).replace(".anew", "");
        assert_eq!(anew, expected, "version {opset}");
    }
}

#[test]
fn versions_before_the_seventh_are_kept_as_they_are() {
    let model = open(&single(6, &["N", "4"], &[], "Relu", &["x"], &[])).unwrap();
    assert_eq!(operators(&model.graph), ["onnx::Relu"]);
    assert_eq!(operators(&read(&write(&model))), ["onnx::Relu"]);
}

#[test]
fn what_a_version_lacks_is_made_of_what_it_has() {
    // Every operator that some version writes by several nodes, and reads as several then.
    let text = "
        graph net(%x: f32[N,4,5,W], %m: f32[N,6,8]) {
          @w = parameter normal(1) : f32[3,8]
          @scale = parameter normal(2) : f32[4]
          @shift = parameter normal(3) : f32[4]
          @weights = parameter normal(4) : f32[8]
          %silu = silu(%x)
          %gelu = gelu(%silu) {tanh=false}
          %tanh = gelu(%gelu) {tanh=true}
          %swish = hard_swish(%tanh)
          %gate = hard_sigmoid(%swish)
          %mish = mish(%gate)
          %group = group_norm(%mish, @scale, @shift) {groups=2, eps=1e-5}
          %instance = group_norm(%group) {groups=4, eps=1e-5}
          %prelu = prelu(%instance, @scale)
          %softmax = softmax(%prelu) {axis=1}
          %pad = pad(%softmax) {before=[0,0,2,0], after=[0,0,1,1], mode=circular}
          %pool = adaptive_avg_pool(%pad) {output=[3,2]}
          %top = adaptive_max_pool(%pad) {output=[2,3]}
          %norm = layer_norm(%m, @weights) {axes=1, eps=1e-5}
          %heads = attention(%norm, %norm, %norm) {causal=true}
          %linear = linear(%heads, @w)
          %exp = exp(%linear)
          %root = rsqrt(%exp)
          %least = minimum(%root, %linear)
          return %pool, %top, %least
        }";
    let graph: Graph = text.parse().unwrap();
    let plain = open(&write(&Model::new(graph.clone()))).unwrap();
    assert!(distance(&graph, &plain.graph) < 1e-5);
    for opset in [11, 13, 17, 18, 20, 21, 24] {
        // A model of that version, whose graph is then another.
        let mut model = open(&single(opset, &["N"], &[], "Relu", &["x"], &[])).unwrap();
        model.graph = graph.clone();
        let again = open(&write(&model)).unwrap();
        let found = distance(&graph, &again.graph);
        assert!(found < 1e-5, "version {opset}: {found}\n{}", again.graph);
    }
}
