//! ExportedPrograms: networks that PyTorch exported, and archives altered by hand, mostly for the worse.

#[path = "../common/mod.rs"]
mod common;
mod mistakes;
mod package;
mod torch;

use std::fs;
use std::path::{Path, PathBuf};

use optc::exec::compare;
use optc::ir::{Graph, Op};
use optc::{Model, Pipeline};

use package::Package;

const NAMES: [&str; 4] = ["exported", "dynamic", "decomposed", "structured"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/fixtures/exported_program/{name}.pt2"))
}

/// The largest difference of what two graphs return for the same random inputs, relative to what they return.
fn distance(left: &Graph, right: &Graph) -> f64 {
    let found = compare::<f64>(left, right, 2, 0).unwrap();
    match found.largest() {
        Some(moved) => moved.max_rel,
        None => panic!("{found}\n{left}"),
    }
}

/// The names of the operators, in order.
fn operators(graph: &Graph) -> Vec<&str> {
    let order = graph.topological_order().unwrap().into_iter();
    order
        .filter_map(|node| graph.op(node).map(Op::name))
        .collect()
}

/// The graph with numbers for its symbols, as every size of the fixtures may be 3 or 12.
fn bound(mut graph: Graph) -> Graph {
    for symbol in ["s14", "s26", "s62", "s77"] {
        graph.bindings.insert(symbol.into(), 3);
    }
    graph
}

#[test]
fn exported_networks_are_read() {
    for name in NAMES {
        let model = optc::read(fixture(name)).unwrap();
        common::snapshot(
            &format!("exported_program/{name}"),
            &model.graph.to_string(),
        );
    }
}

#[test]
fn what_is_written_is_read_as_the_same_graph() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.pt2"), folder.path().join("b.pt2"));
    for name in NAMES {
        let model = optc::read(fixture(name)).unwrap();
        optc::write(&model, &first).unwrap();
        let again = optc::read(&first).unwrap();
        optc::write(&again, &second).unwrap();
        let third = optc::read(&second).unwrap();
        // Some operators have several names: the one that is written is read the next time.
        assert_eq!(operators(&model.graph), operators(&again.graph), "{name}");
        assert_eq!(again.graph.to_string(), third.graph.to_string(), "{name}");
        assert_eq!(
            distance(&bound(model.graph), &bound(again.graph)),
            0.0,
            "{name}"
        );
    }
}

#[test]
fn the_same_model_is_written_as_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let model = optc::read(fixture("decomposed")).unwrap();
    let bytes = |inner: &str| {
        fs::create_dir_all(folder.path().join(inner)).unwrap();
        let path = folder.path().join(inner).join("out.pt2");
        optc::write(&model, &path).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(bytes("a"), bytes("b"));
}

#[test]
fn a_program_that_is_written_is_one_of_its_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    for name in NAMES {
        let mut model = optc::read(fixture(name)).unwrap();
        Pipeline::parse("red{hash=none}")
            .unwrap()
            .run(&mut model)
            .unwrap();
        optc::write(&model, &path).unwrap();
        let outline = Package::open(&path).outline();
        common::snapshot(&format!("exported_program/{name}_after_red"), &outline);
    }
}

#[test]
fn what_passes_change_is_changed_in_everything_that_the_program_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    for name in ["exported", "dynamic", "decomposed"] {
        let before = optc::read(fixture(name)).unwrap();
        let mut after = before.clone();
        Pipeline::parse("red{hash=none}")
            .unwrap()
            .run(&mut after)
            .unwrap();
        optc::write(&after, &path).unwrap();
        // Sizes that did not fit what is computed would leave operators opaque.
        let again = optc::read(&path).unwrap();
        let opaque = |graph: &Graph| {
            graph
                .nodes()
                .filter(|n| matches!(graph.op(*n), Some(Op::Opaque(_))))
                .count()
        };
        assert_eq!(opaque(&again.graph), 0, "{}", again.graph);
        let distance = distance(&bound(before.graph), &bound(again.graph));
        assert!(distance < 1e-5, "{name}: {distance}");
    }
}

#[test]
fn tied_weights_are_written_once_under_all_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    optc::write(&optc::read(fixture("exported")).unwrap(), &path).unwrap();
    let package = Package::open(&path);
    let config = package.json("data/weights/model_weights_config.json");
    let place = |name: &str| {
        config["config"][name]["path_name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(place("blocks.0.conv.weight"), place("blocks.1.conv.weight"));
    let kernels = package
        .entries
        .iter()
        .filter(|(_, bytes)| bytes.len() == 8 * 8 * 9 * 4);
    assert_eq!(kernels.count(), 1);
}

#[test]
fn everything_else_in_the_archive_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    let mut package = Package::open(&fixture("dynamic"));
    package
        .entries
        .insert("extra/note.txt".to_owned(), b"kept".to_vec());
    package.edit(|program| {
        program["new"] = "kept".into();
        program["graph_module"]["graph"]["new"] = "kept".into();
    });
    fs::write(folder.path().join("in.pt2"), package.bytes()).unwrap();
    optc::write(&optc::read(folder.path().join("in.pt2")).unwrap(), &path).unwrap();
    let written = Package::open(&path);
    for name in [
        "data/sample_inputs/model.pt",
        "extra/note.txt",
        "archive_format",
        ".data/version",
    ] {
        assert_eq!(written.entries[name], package.entries[name], "{name}");
    }
    let (before, after) = (package.program(), written.program());
    for field in [
        "range_constraints",
        "schema_version",
        "verifiers",
        "opset_version",
        "new",
    ] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(after["graph_module"]["graph"]["new"], "kept");
    assert_eq!(
        before["graph_module"]["signature"],
        after["graph_module"]["signature"]
    );
}

#[test]
fn a_file_of_an_earlier_version_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    for (name, weights, program, infinity) in [
        (
            "of_2_6",
            "serialized_state_dict.pt",
            "serialized_exported_program.json",
            r#"{"as_float":-Infinity}"#,
        ),
        (
            "of_2_8",
            "data/weights/model.pt",
            "models/model.json",
            r#"{"as_float":"-Infinity"}"#,
        ),
    ] {
        let model = optc::read(fixture(name)).unwrap();
        let constants = model.graph.nodes();
        let tied = constants.filter_map(|node| model.graph.constant(node));
        let tied: Vec<_> = tied
            .filter(|constant| constant.tensor.len() == 16)
            .collect();
        assert_eq!(tied.len(), 1);
        assert_eq!(tied[0].aliases.len(), 1);
        optc::write(&model, &path).unwrap();
        let (mut before, after) = (Package::open(&fixture(name)), Package::open(&path));
        // A hash of what was there.
        before.entries.remove(".data/serialization_id");
        assert!(
            before.entries.keys().eq(after.entries.keys()),
            "{:?}",
            after.entries.keys()
        );
        let text = String::from_utf8_lossy(&after.entries[program]);
        assert!(text.contains(infinity), "{text}");
        // As a float it would make floats of positions.
        assert!(
            text.contains(r#"{"as_int":3}"#) && !text.contains(r#"{"as_float":3"#),
            "{text}"
        );
        assert!(after.entries[weights].starts_with(b"PK"), "{name}");
        // A field that is new would be refused.
        assert_eq!(before.fields(), after.fields(), "{name}");
        let again = optc::read(&path).unwrap();
        // A whole number beside a tensor becomes an input.
        let text = model
            .graph
            .to_string()
            .replace("@scalar", "@constant_index");
        assert_eq!(text, again.graph.to_string());
    }
}

#[test]
fn an_operator_of_another_name_names_its_arguments_otherwise() {
    let mut package = Package::open(&fixture("exported"));
    package.edit(|program| {
        let text = program
            .to_string()
            .replace("aten.transpose.int", "aten.swapaxes.default");
        let text = text
            .replace(r#""dim0""#, r#""axis0""#)
            .replace(r#""dim1""#, r#""axis1""#);
        assert_ne!(text, program.to_string());
        *program = text.parse().unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swapaxes.pt2");
    fs::write(&path, package.bytes()).unwrap();
    let (before, after) = (
        optc::read(fixture("exported")).unwrap(),
        optc::read(&path).unwrap(),
    );
    assert_eq!(operators(&before.graph), operators(&after.graph));
}

#[test]
fn a_size_that_was_dynamic_stays_dynamic() {
    for name in ["dynamic", "decomposed"] {
        let mut model = optc::read(fixture(name)).unwrap();
        Pipeline::parse("red{hash=none}")
            .unwrap()
            .run(&mut model)
            .unwrap();
        let input = model.graph.ty(model.graph.inputs()[0].into());
        assert_eq!(input.to_string(), "f32[s77,3,4*s14,4*s14]");
        let output = model.graph.ty(model.graph.outputs()[0].value);
        assert_eq!(output.to_string(), "f32[s77,5]");
    }
}

#[test]
fn a_program_becomes_torchscript_and_torchscript_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let (script, program) = (folder.path().join("net.pt"), folder.path().join("net.pt2"));
    for name in ["exported", "dynamic", "decomposed"] {
        let model = optc::read(fixture(name)).unwrap();
        optc::write(&model, &script).unwrap();
        let converted = optc::read(&script).unwrap();
        optc::write(&converted, &program).unwrap();
        let back = optc::read(&program).unwrap();
        let graph = |model: &Model| {
            let mut graph = bound(model.graph.clone());
            for (symbol, n) in [
                ("N", 3),
                ("H", 12),
                ("W", 12),
                ("s0", 3),
                ("s1", 12),
                ("s2", 12),
            ] {
                graph.bindings.insert(symbol.into(), n);
            }
            graph
        };
        if name != "exported" {
            assert_eq!(distance(&graph(&model), &graph(&back)), 0.0, "{name}");
            common::snapshot(
                &format!("exported_program/{name}_converted"),
                &Package::open(&program).outline(),
            );
        }
        for parameter in ["stem.0.weight", "blocks.1.bn.running_mean"] {
            assert!(back.graph.find(parameter).is_some(), "{}", back.graph);
        }
    }
}

#[test]
fn an_operator_that_only_one_format_knows_is_named_when_it_cannot_be_converted() {
    let folder = tempfile::tempdir().unwrap();
    let model = optc::read(fixture("structured")).unwrap();
    let error = optc::write(&model, folder.path().join("net.pt"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("aten::cummax.default, aten::roll.default, aten::tensor_split.sections, aten::topk.default"), "{error}");
}

#[test]
fn cutting_a_file_anywhere_is_an_error_never_a_panic() {
    let bytes = fs::read(fixture("structured")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pt2");
    for end in (0..bytes.len()).step_by(97) {
        fs::write(&path, &bytes[..end]).unwrap();
        assert!(optc::read(&path).is_err(), "cut at {end}");
    }
}

#[test]
fn a_program_of_a_hundred_thousand_values_takes_linear_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.pt2");
    let mut package = Package::open(&fixture("structured"));
    package.edit(|program| {
        let graph = &mut program["graph_module"]["graph"];
        let meta = graph["tensor_values"]["mul"].clone();
        let output = graph["outputs"][0].clone();
        let mut last = "mul".to_owned();
        let mut nodes = Vec::new();
        for i in 0..100_000 {
            let name = format!("relu_of_{i}");
            nodes.push(serde_json::json!({
                "target": "torch.ops.aten.relu.default",
                "inputs": [{"name": "self", "arg": {"as_tensor": {"name": last}}, "kind": 1}],
                "outputs": [{"as_tensor": {"name": name}}],
                "metadata": {},
            }));
            graph["tensor_values"][&name] = meta.clone();
            last = name;
        }
        graph["nodes"].as_array_mut().unwrap().extend(nodes);
        let replaced = serde_json::json!({"as_tensor": {"name": last}});
        assert_ne!(output, replaced);
        graph["outputs"][0] = replaced.clone();
        program["graph_module"]["signature"]["output_specs"][0] =
            serde_json::json!({"user_output": {"arg": replaced}});
    });
    fs::write(&path, package.bytes()).unwrap();
    let model = optc::read(&path).unwrap();
    assert!(model.graph.len() > 100_000);
}
