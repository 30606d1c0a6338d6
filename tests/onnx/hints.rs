//! What a file says of sizes, which may be stale or a placeholder: believed no further than it can be.

use super::*;

/// What operators compute, reshaped to the shape that it has, with shapes declared on the way.
fn reshaped(declared: &[Message]) -> Graph {
    let nodes = [
        node("LRN", &["x"], &["normed"], &[("size", Attribute::Int(3))]),
        foreign("there", "Strange", &["normed"], &["strange"]),
        node("Shape", &["normed"], &["a"], &[]),
        node("Shape", &["strange"], &["b"], &[]),
        node("Reshape", &["normed", "a"], &["like_normed"], &[]),
        node("Reshape", &["strange", "b"], &["like_strange"], &[]),
    ];
    let outputs = ["like_normed", "like_strange"].map(|name| Message::default().bytes(1, name));
    let graph = graph(&nodes, &[], &[value("x", &["N", "3", "6", "6"])], &outputs);
    read(&model(17, &graph.all(13, declared)))
}

#[test]
fn a_shape_that_is_declared_is_no_fact() {
    let stale = [
        value("normed", &["1", "3", "6", "6"]),
        value("strange", &["1", "8", "1", "N"]),
    ];
    let graph = reshaped(&stale);
    let shape = |name: &str| graph.ty(graph.find(name).unwrap().into()).to_string();
    assert_eq!(shape("normed"), "f32[N,3,6,6]");
    assert_eq!(shape("like_normed"), "f32[N,3,6,6]");
    // Of an operator that nobody knows the sizes are probably those that are declared, and no more than that.
    assert_eq!(shape("strange"), "f32[strange.0,strange.1,1,N]");
    assert_eq!(shape("like_strange"), "f32[strange.0,strange.1,1,N]");
    assert_eq!(graph.bindings.get("strange.1"), Some(&8));
    assert_eq!(graph.bindings.get("strange.0"), Some(&1));
    // A rank that cannot be is not believed at all.
    let graph = reshaped(&[value("normed", &["1", "3"])]);
    let normed = graph.ty(graph.find("normed").unwrap().into());
    assert_eq!(normed.to_string(), "f32[N,3,6,6]");
}

#[test]
fn a_placeholder_names_no_size() {
    for text in ["?", "unk", "None", "-1"] {
        // As `dim_param`, where the helper would leave it out.
        let dim = |text: &str| Message::default().bytes(2, text);
        let dims = [
            dim(text),
            Message::default().int(1, 3),
            dim(text),
            dim(text),
        ];
        let shape = Message::default().all(1, &dims);
        let ty = Message::default().int(1, 1).bytes(2, shape.0);
        let x = Message::default()
            .bytes(1, "x")
            .bytes(2, Message::default().bytes(1, ty.0).0);
        let relu = [node("Relu", &["x"], &["y"], &[])];
        let graph = graph(&relu, &[], &[x], &[value("y", &[])]);
        let graph = read_as(&model(13, &graph), &["1x3x48x320"]).unwrap();
        let y = graph.ty(graph.find("y").unwrap().into());
        assert_eq!(y.to_string(), "f32[x.0,3,x.2,x.3]", "{text}");
        assert_eq!(graph.bindings.get("x.3"), Some(&320));
    }
}

#[test]
fn a_name_that_two_inputs_share_is_a_hint() {
    let add = [node("MatMul", &["x", "y"], &["z"], &[])];
    let inputs = [value("x", &["size", "size"]), value("y", &["size", "k"])];
    let bytes = model(13, &graph(&add, &[], &inputs, &[value("z", &[])]));
    let shared = read_as(&bytes, &["4x4", "4x5"]).unwrap();
    assert_eq!(
        shared.ty(shared.inputs()[1].into()).to_string(),
        "f32[size,k]"
    );
    let apart = read_as(&bytes, &["2x4", "y:4x5"]).unwrap();
    assert_eq!(
        apart.ty(apart.inputs()[0].into()).to_string(),
        "f32[x.0,x.1]"
    );
    assert_eq!(apart.ty(apart.inputs()[1].into()).to_string(), "f32[y.0,k]");
    // A number that is no name's has to be met.
    let fixed = single(13, &["2", "N"], &[], "Relu", &["x"], &[]);
    let error = read_as(&fixed, &["3x4"]).unwrap_err();
    assert!(!error.contains("give 2 sizes"), "{error}");
}

fn read_as(bytes: &[u8], shapes: &[&str]) -> Result<Graph, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    fs::write(&path, bytes).unwrap();
    let inputs = shapes.iter().map(|text| text.parse().unwrap()).collect();
    let model = read_with(&path, &ReadOptions { inputs }).map_err(|error| error.to_string())?;
    Ok(model.graph)
}
