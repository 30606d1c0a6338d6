//! Weights in files beside the model.

use super::*;
use crate::model::outside;

/// A model whose weight is in another file, by these entries.
fn beside(entries: &[(&str, &str)]) -> Vec<u8> {
    single(
        13,
        &["N", "256"],
        &[outside("w", &[256, 2], entries)],
        "MatMul",
        &["x", "w"],
        &[],
    )
}

fn weights() -> Vec<u8> {
    let values: Vec<f32> = (0..512).map(|i| i as f32).collect();
    bytemuck::cast_slice(&values).to_vec()
}

/// What is said of a model with these files beside it.
pub(super) fn refusal(model: &[u8], files: &[(&str, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join("net.onnx");
    fs::write(&path, model).unwrap();
    match optc::read(&path) {
        Ok(model) => panic!("it was read:\n{}", model.graph),
        Err(error) => error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), ""),
    }
}

/// Models whose other files are not as they should be, and what is said about them.
pub(super) fn mistakes() -> Vec<(&'static str, String)> {
    let file = weights();
    let at = |location: &str| refusal(&beside(&[("location", location)]), &[("w.bin", &file)]);
    let two = |first: &str, second: &str| {
        let tensor = |name: &str, offset: &str| {
            outside(
                name,
                &[256, 1],
                &[("location", "w.bin"), ("offset", offset)],
            )
        };
        let nodes = [
            node("MatMul", &["x", "a"], &["h"], &[]),
            node("MatMul", &["x", "b"], &["y"], &[]),
        ];
        let outputs = [value("h", &[]), value("y", &[])];
        let weights = [tensor("a", first), tensor("b", second)];
        model(
            13,
            &graph(&nodes, &weights, &[value("x", &["N", "256"])], &outputs),
        )
    };
    vec![
        ("external data that is not there", at("nowhere.bin")),
        ("external data outside the folder", at("../w.bin")),
        ("external data at an absolute path", at("/etc/passwd")),
        ("external data at a path of Windows", at("C:\\w.bin")),
        (
            "external data that is too short",
            refusal(
                &beside(&[("location", "w.bin"), ("offset", "1024")]),
                &[("w.bin", &file)],
            ),
        ),
        (
            "external data of another length",
            refusal(
                &beside(&[("location", "w.bin"), ("length", "12")]),
                &[("w.bin", &file)],
            ),
        ),
        (
            "external data at no number",
            refusal(
                &beside(&[("location", "w.bin"), ("offset", "-1")]),
                &[("w.bin", &file)],
            ),
        ),
        (
            "external data that overlaps",
            refusal(&two("0", "1020"), &[("w.bin", &file)]),
        ),
        (
            "external data in an empty file",
            refusal(&beside(&[("location", "w.bin")]), &[("w.bin", b"")]),
        ),
        ("external data without a name", refusal(&beside(&[]), &[])),
    ]
}

#[test]
fn weights_beside_the_model_are_written_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = [&[0; 100][..], &weights()].concat();
    fs::write(at("w.bin"), &file).unwrap();
    fs::write(
        at("net.onnx"),
        beside(&[("location", "w.bin"), ("offset", "100")]),
    )
    .unwrap();
    let model = optc::read(at("net.onnx")).unwrap();
    optc::write(&model, at("out.onnx")).unwrap();
    assert_eq!(fs::read(at("out.onnx.data")).unwrap(), weights());
    assert!(fs::metadata(at("out.onnx")).unwrap().len() < 1000);
    let again = optc::read(at("out.onnx")).unwrap();
    assert_eq!(again.graph.to_string(), model.graph.to_string());
    assert_eq!(distance(&model.graph, &again.graph), 0.0);
    // What is mapped is not overwritten.
    let error = optc::write(&again, at("out.onnx")).unwrap_err().to_string();
    assert!(
        error.contains("the output is the input file itself"),
        "{error}"
    );
    fs::rename(at("out.onnx"), at("moved.onnx")).unwrap();
    let moved = optc::read(at("moved.onnx")).unwrap();
    let error = optc::write(&moved, at("out.onnx")).unwrap_err().to_string();
    assert!(
        error.contains("out.onnx.data: the output is the input file itself"),
        "{error}"
    );
}

#[test]
fn two_weights_may_be_the_same_part_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("w.bin"), weights()).unwrap();
    let tensor = |name: &str| outside(name, &[512], &[("location", "w.bin")]);
    let nodes = [
        node("Add", &["x", "a"], &["h"], &[]),
        node("Mul", &["h", "b"], &["y"], &[]),
    ];
    let inputs = [value("x", &["N", "512"])];
    let graph = graph(
        &nodes,
        &[tensor("a"), tensor("b")],
        &inputs,
        &[value("y", &[])],
    );
    fs::write(at("net.onnx"), model(13, &graph)).unwrap();
    let model = optc::read(at("net.onnx")).unwrap();
    let tensor = |name: &str| {
        let node = model.graph.find(name).unwrap();
        model.graph.constant(node).unwrap().tensor.clone()
    };
    assert!(tensor("a").same_memory(&tensor("b")));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("w.bin");
    fs::write(&secret, weights()).unwrap();
    std::os::unix::fs::symlink(&secret, inside.path().join("w.bin")).unwrap();
    let path = inside.path().join("net.onnx");
    fs::write(&path, beside(&[("location", "w.bin")])).unwrap();
    let error = optc::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("a link to a file outside of the model's folder"),
        "{error}"
    );
}
