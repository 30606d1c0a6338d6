//! TorchScript files: networks that PyTorch exported, and archives made by hand, mostly wrong ones.

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod mistakes;
mod opaque;
mod python;
mod views;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use optc::exec::compare;
use optc::formats::{ReadOptions, read_with};
use optc::ir::{DType, Dim, Graph, Op};
use optc::{Model, Pipeline};
use zip::CompressionMethod;

use archive::{Pickle, code, data, net, patch, weights, with, zip};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/torchscript/{name}.pt"))
}

const NAMES: [&str; 4] = ["traced", "scripted", "frozen", "structured"];

/// Reads a model, with shapes where the file is silent about them.
fn open(path: impl AsRef<Path>) -> Model {
    let shapes = ["pair.0:2x4x6", "pair.1:2x4x6"].map(|shape| shape.parse().unwrap());
    let model = optc::read(&path);
    let structured = model
        .as_ref()
        .is_ok_and(|m| m.graph.find("pair.0").is_some());
    if structured {
        read_with(
            path,
            &ReadOptions {
                inputs: shapes.into(),
            },
        )
        .unwrap()
    } else {
        model.unwrap()
    }
}

/// Writes `bytes` to a file and reads them as a model.
fn read(bytes: &[u8], inputs: &[&str]) -> Result<Graph, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    fs::write(&path, bytes).unwrap();
    let inputs = inputs.iter().map(|input| input.parse().unwrap()).collect();
    match read_with(&path, &ReadOptions { inputs }) {
        Ok(model) => Ok(model.graph),
        Err(error) => Err(error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")),
    }
}

/// The graph of an archive whose `forward` is `body`.
fn graph(body: &str) -> Graph {
    read(&net(body), &["1x3x8x8"]).unwrap_or_else(|error| panic!("{body}\n{error}"))
}

/// The largest difference of what two graphs return for the same random inputs.
fn distance(left: &Graph, right: &Graph) -> f64 {
    let found = compare::<f64>(left, right, 2, 0).unwrap();
    match found.largest() {
        Some(moved) => moved.max_abs,
        None => panic!("{found}\n{left}"),
    }
}

/// Requires two bodies of `forward` to compute the same.
fn assert_same(left: &str, right: &str) {
    let found = distance(&graph(left), &graph(right));
    assert_eq!(found, 0.0, "{left}\nis not\n{right}");
}

/// The names of the operators, in order.
fn operators(graph: &Graph) -> Vec<&str> {
    let order = graph.topological_order().unwrap();
    order
        .into_iter()
        .filter_map(|node| graph.op(node).map(Op::name))
        .collect()
}

#[test]
fn exported_networks_are_read() {
    for name in NAMES.into_iter().chain(["views", "whole", "windows"]) {
        let model = open(fixture(name));
        common::snapshot(&format!("torchscript/{name}"), &model.graph.to_string());
    }
}

#[test]
fn what_is_written_is_read_as_the_same_graph() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let model = open(fixture(name));
        let (first, second) = (folder.path().join("a.pt"), folder.path().join("b.pt"));
        optc::write(&model, &first).unwrap();
        let again = open(&first);
        optc::write(&again, &second).unwrap();
        let third = open(&second);
        // Names of operators come from the modules, which are one after the first writing.
        assert_eq!(operators(&model.graph), operators(&again.graph), "{name}");
        assert_eq!(again.graph.to_string(), third.graph.to_string(), "{name}");
        assert_eq!(distance(&model.graph, &again.graph), 0.0, "{name}");
    }
}

#[test]
fn the_same_model_is_written_as_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let model = optc::read(fixture("scripted")).unwrap();
    let bytes = |folder_name: &str| {
        fs::create_dir_all(folder.path().join(folder_name)).unwrap();
        let path = folder.path().join(folder_name).join("out.pt");
        optc::write(&model, &path).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(bytes("a"), bytes("b"));
}

#[test]
fn the_code_that_is_written_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt");
    let mut text = String::new();
    for name in ["scripted", "structured"] {
        optc::write(&optc::read(fixture(name)).unwrap(), &path).unwrap();
        let mut zip = zip::ZipArchive::new(fs::File::open(&path).unwrap()).unwrap();
        let entry = zip.by_name("out/code/__torch__.py").unwrap();
        let _ = writeln!(
            text,
            "# {name}\n{}",
            std::io::read_to_string(entry).unwrap()
        );
    }
    common::snapshot("torchscript/code", &text);
}

#[test]
fn tensors_are_aligned_and_tied_ones_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt");
    let model = optc::read(fixture("traced")).unwrap();
    optc::write(&model, &path).unwrap();
    let mut zip = zip::ZipArchive::new(fs::File::open(&path).unwrap()).unwrap();
    let mut kernels = 0;
    for i in 0..zip.len() {
        let file = zip.by_index(i).unwrap();
        let name = file.name().unwrap().into_owned();
        if name.contains("/data/") {
            assert_eq!(file.data_start().unwrap() % 64, 0, "{name}");
            kernels += usize::from(file.size() == 8 * 8 * 9 * 4);
        }
        assert_eq!(file.compression(), CompressionMethod::Stored, "{name}");
    }
    assert_eq!(kernels, 1, "both blocks share one kernel");
    let note = zip.by_name("out/extra/note.txt").unwrap();
    assert_eq!(std::io::read_to_string(note).unwrap(), "kept");
}

#[test]
fn names_that_run_through_a_tensor_stand_beside_it() {
    // Also through one that stands elsewhere itself.
    let text = "graph net(%x: f32[N,2]) {
          @a.weight = parameter [1.0, 2.0] : f32[2]
          @a.weight.1 = parameter [3.0, 4.0] : f32[2]
          @a.weight.1.1 = parameter [5.0, 6.0] : f32[2]
          @a.weight.1.b.c = parameter [7.0, 8.0] : f32[2]
          %p = mul(%x, @a.weight)
          %q = mul(%p, @a.weight.1)
          %r = mul(%q, @a.weight.1.1)
          %s = mul(%r, @a.weight.1.b.c)
          return %s
        }";
    let written: Graph = text.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    optc::write(&Model::new(written.clone()), &path).unwrap();
    let again = read(&fs::read(&path).unwrap(), &["1x2"]).unwrap();
    let mut names: Vec<_> = again
        .nodes()
        .filter(|n| again.constant(*n).is_some())
        .map(|n| again.node(n).name.to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["a.weight", "a.weight_1", "a.weight_1_1", "a.weight_1_b_c"]
    );
    assert_eq!(distance(&written, &again), 0.0);
}

#[test]
fn a_compressed_archive_is_the_same_network() {
    let bytes = fs::read(fixture("traced")).unwrap();
    let mut stored = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut entries = Vec::new();
    for i in 0..stored.len() {
        let mut file = stored.by_index(i).unwrap();
        let name = file.name().unwrap().split_once('/').unwrap().1.to_owned();
        let mut bytes = Vec::new();
        std::io::copy(&mut file, &mut bytes).unwrap();
        entries.push((name, bytes));
    }
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    let graph = read(&zip(&entries, CompressionMethod::Deflated), &[]).unwrap();
    let model = optc::read(fixture("traced")).unwrap();
    assert_eq!(graph.to_string(), model.graph.to_string());
}

#[test]
fn sizes_stay_expressions_whatever_the_example_was() {
    for (name, inputs) in [("traced", None), ("scripted", Some("1x3x8x8"))] {
        let inputs = inputs
            .into_iter()
            .map(|i: &str| i.parse().unwrap())
            .collect();
        let model = read_with(fixture(name), &ReadOptions { inputs }).unwrap();
        let input = model.graph.ty(model.graph.inputs()[0].into());
        let symbol = |name: &str| Dim::symbol(name);
        assert_eq!(
            input.shape().unwrap(),
            [symbol("N"), 3usize.into(), symbol("H"), symbol("W")]
        );
        let output = model.graph.ty(model.graph.outputs()[0].value);
        assert_eq!(output.shape().unwrap(), [symbol("N"), 5usize.into()]);
    }
}

#[test]
fn a_weight_of_given_norm_is_a_direction_and_a_gain() {
    for (dim, axes) in [(0, "[1, 2, 3]"), (2, "[0, 1, 3]"), (-1, "[0, 1, 2, 3]")] {
        assert_same(
            &format!("return torch._weight_norm(self.weight, torch.mean(x), {dim})"),
            &format!(
                "norm = torch.sqrt(torch.sum(torch.mul(self.weight, self.weight), {axes}, True))\n\
                 return torch.mul(self.weight, torch.div(torch.mean(x), norm))"
            ),
        );
    }
}

#[test]
fn a_norm_over_no_axes_is_one_over_all() {
    for (axes, shape) in [("[]", "[*]"), ("[1, -1]", "[N,1,H,1]")] {
        let graph = graph(&format!(
            "return torch.linalg_vector_norm(x, 2.0, {axes}, True)"
        ));
        let text = graph.to_string();
        assert!(text.contains(&format!(" : f32{shape}\n")), "{text}");
    }
}

#[test]
fn control_flow_on_constants_is_run() {
    assert_same(
        "y = x\nfor i in range(3):\n  if torch.eq(torch.remainder(i, 2), 0):\n    y = torch.add(y, i)\n  else:\n    pass\nreturn y",
        "return torch.add(torch.add(x, 0), 2)",
    );
    assert_same(
        "i = 0\ny = x\nwhile torch.lt(i, 2):\n  y = torch.mul(y, 3)\n  i = torch.add(i, 1)\nreturn y",
        "return torch.mul(torch.mul(x, 3), 3)",
    );
}

#[test]
fn a_check_that_depends_on_sizes_is_taken_to_hold() {
    assert_same(
        "if torch.eq(torch.size(x, 2), 7):\n  ops.prim.RaiseException(\"seven\")\nelse:\n  pass\nreturn torch.relu(x)",
        "return torch.relu(x)",
    );
}

#[test]
fn results_that_nobody_reads_are_no_operators() {
    let maxima = |rest: &str| {
        graph(&format!(
            "    y, at = torch.max_pool2d_with_indices(torch.relu(x), [2, 2])\n    {rest}\n"
        ))
    };
    assert_eq!(operators(&maxima("return y")), ["relu", "max_pool"]);
    assert_eq!(
        operators(&maxima("z = at\n    return torch.neg(y)")),
        ["relu", "max_pool", "neg"]
    );
    // Those that are read are the whole call's, and so is then the first.
    let both = maxima("return (torch.neg(y), at)");
    assert_eq!(operators(&both), ["relu", "opaque", "neg"]);
    let ty = |i: usize| both.ty(both.outputs()[i].value).clone();
    assert_eq!(
        (ty(0).dtype(), ty(1).dtype()),
        (Some(optc::ir::DType::F32), Some(optc::ir::DType::I64))
    );
    assert_eq!(ty(0).shape(), ty(1).shape());
    // As it is called where the first alone is wanted.
    let first = graph("    return (torch.adaptive_max_pool2d(x, [1, 1]))[0]\n");
    assert_eq!(operators(&first), ["adaptive_max_pool"]);
    let text = "graph net(%x: f32[N,2,4,4]) {\n  %y = adaptive_max_pool(%x) {output=[2,2]}\n  return %y\n}";
    let written: Graph = text.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    optc::write(&Model::new(written.clone()), &path).unwrap();
    let again = optc::read(&path).unwrap().graph;
    assert_eq!(operators(&again), ["adaptive_max_pool"]);
}

#[test]
fn numbers_beside_tensors_stay_what_they_are() {
    // The type of what is chosen is not the condition's.
    let chosen = graph(
        "y = torch.where(torch.gt(x, 0.1), x, torch.mul(x, 2))\nreturn torch.add(y, y, alpha=2)",
    );
    let returned = chosen.outputs()[0].value;
    assert_eq!(chosen.ty(returned).dtype(), Some(DType::F32), "{chosen}");
    // Half precision does not hold a tenth; what it is multiplied by is a tenth.
    let half = graph("return torch.mul(torch.to(x, 5), 0.1)").to_string();
    assert!(half.contains("torch.mul({0}, 0.1)"), "{half}");
    let half = graph("return torch.mul(torch.to(x, 5), 0.5)").to_string();
    assert!(!half.contains("opaque"), "{half}");
}

#[test]
fn an_input_whose_element_type_no_file_says_may_have_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    let canonical = |body: &str| {
        fs::write(&path, net(body)).unwrap();
        let mut model = optc::read(&path).unwrap();
        let canonicalize = Pipeline::parse("canonicalize").unwrap();
        canonicalize.run(&mut model).unwrap();
        model.graph
    };
    // A whole number leaves whole numbers what they are, and a fraction does not.
    let number = |body: &str| {
        let graph = canonical(body);
        let constant = graph.nodes().find_map(|node| graph.constant(node));
        constant.map(|constant| constant.tensor.dtype())
    };
    assert_eq!(number("return torch.add(x, 2)"), Some(DType::I64));
    assert_eq!(number("return torch.add(x, 2.5)"), Some(DType::F32));
    for conversion in [
        "torch.to(x, 6)",
        "torch.mul(x, 1.)",
        "torch.softmax(x, 1, 6)",
        "torch.clamp(x, 0, 1)",
    ] {
        let graph = canonical(&format!("return {conversion}"));
        let [node] = operators(&graph)[..] else {
            panic!("{graph}");
        };
        assert!(matches!(node, "cast" | "opaque"), "{graph}");
    }
}

#[test]
fn a_fraction_of_whole_numbers_is_not_one_of_them() {
    assert_same(
        "return torch.add(x, torch.to(x, 4), alpha=0.5)",
        "return torch.add(x, torch.mul(torch.to(torch.to(x, 4), 6), 0.5))",
    );
    let counted = graph("return torch.add(torch.gt(x, 0), 2)").to_string();
    assert!(counted.contains("torch.add("), "{counted}");
}

#[test]
fn what_reads_a_part_of_the_input_does_not_tell_its_channels() {
    for (part, channels) in [
        ("torch.slice(x, 1, 1, 4)", 4),
        ("torch.cat([x, x, x], 1)", 1),
        ("(torch.split(x, [3, 3], 1))[1]", 6),
    ] {
        let body = format!("return torch.conv2d({part}, self.weight)");
        let graph = read(&net(&body), &[]).unwrap_or_else(|error| panic!("{body}\n{error}"));
        let input = graph.ty(graph.inputs()[0].into());
        let told = input.shape().unwrap()[1].as_number();
        assert!(told.is_none_or(|told| told == channels), "{graph}");
    }
}

#[test]
fn the_model_itself_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    let bytes = net("return torch.conv2d(x, self.weight)");
    fs::write(&path, &bytes).unwrap();
    let model = optc::read(&path).unwrap();
    let error = optc::write(&model, &path).unwrap_err().to_string();
    assert!(
        error.contains("the output is the input file itself"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn cutting_a_file_anywhere_is_an_error_never_a_panic() {
    let bytes = fs::read(fixture("structured")).unwrap();
    for end in (0..bytes.len()).step_by(37) {
        assert!(read(&bytes[..end], &[]).is_err(), "cut at {end}");
    }
}
