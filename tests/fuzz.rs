//! The fuzz targets' functions, each for a second on mutated seeds; `fuzz/` runs the same ones with coverage.
//!
//! `FUZZ_SECONDS=60 cargo test --test fuzz` takes longer.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::{ArrayD, Dimension, IxDyn};
use optc::exec::{Array, Interpreter};
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::fuzzing::{self, Planted, planted_graph, random_graph};
use optc::ir::{Op, Type, verify};
use optc::pipeline::Kind;
use optc::{Model, Pipeline};

/// How long each target runs.
fn budget() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|s| s.parse().ok()).unwrap_or(1))
}

/// Calls `target` with each seed, then with mutations of them until the time is up.
fn fuzz(seeds: &[Vec<u8>], target: fn(&[u8])) {
    let mut random = fastrand::Rng::with_seed(0);
    let end = Instant::now() + budget();
    for i in 0.. {
        let mut bytes = seeds[i % seeds.len()].clone();
        if i >= seeds.len() {
            for _ in 0..random.usize(1..8) {
                mutate(&mut bytes, seeds, &mut random);
            }
        }
        if catch_unwind(|| target(&bytes)).is_err() {
            // Once more on something smaller, for a message that can be read.
            target(&shrunk(bytes, target));
            panic!("it failed, but not again on fewer bytes");
        }
        if Instant::now() > end {
            return;
        }
    }
}

/// Fewer and smaller bytes on which `target` still panics.
fn shrunk(mut bytes: Vec<u8>, target: fn(&[u8])) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(20);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut length = bytes.len();
    while length > 0 {
        let mut at = 0;
        while at + length <= bytes.len() && Instant::now() < end {
            let zeroed = [&bytes[..at], &vec![0; length], &bytes[at + length..]].concat();
            let without = [&bytes[..at], &bytes[at + length..]].concat();
            let mut smaller = [without, zeroed].into_iter();
            let failing = |b: &Vec<u8>| *b != bytes && catch_unwind(|| target(b)).is_err();
            match smaller.find(failing) {
                Some(found) if found.len() < bytes.len() => bytes = found,
                Some(found) => (bytes, at) = (found, at + length),
                None => at += length,
            }
        }
        length /= 2;
    }
    std::panic::set_hook(hook);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(..16)).min(bytes.len());
    match random.usize(..6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        1 if at < bytes.len() => bytes[at] = random.u8(..),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => {
            let other = &seeds[random.usize(..seeds.len())];
            let from = random.usize(..=other.len());
            let to = (from + random.usize(..64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => bytes.insert(
            at,
            *random
                .choice(b"0129-.*#@%\"\\[](){},:=\n\xff")
                .unwrap_or(&0),
        ),
    }
}

/// Bytes for random graphs.
fn choices(count: u64) -> Vec<Vec<u8>> {
    let bytes = |seed| {
        let mut bytes = vec![0; 200];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    };
    (0..count).map(bytes).collect()
}

#[test]
fn any_text_is_read_or_refused() {
    let mut seeds: Vec<Vec<u8>> = choices(8)
        .iter()
        .map(|bytes| random_graph(bytes).to_string().into_bytes())
        .collect();
    seeds.push(
        br#"graph g(%x: f32[N,2,H,floor((W+1)/(2))], %l: other"List[int]") where N=1 { // net
          @w = parameter rows(columns(normal(3, 0.1), [0, 1]), [0, 2*0]) alias "a b" : f32[2,2,1,1]
          %c = conv(%x, @w) {pad=[0:1,1]} %o = opaque "f"(%c, %l) {template="{0}{$0}", sizes=[max(H,2)]} : f32[*], i64[]
          %g = gather(%c) {axis=1, index=[0..2,1]} return %g, second=%o#1 }"#
            .to_vec(),
    );
    fuzz(&seeds, fuzzing::text);
}

#[test]
fn a_random_graph_is_read_as_it_is_printed() {
    fuzz(&choices(8), fuzzing::text_of_graph);
}

#[test]
fn any_archive_is_read_or_refused() {
    let archives = choices(8);
    let archives = archives
        .iter()
        .filter_map(|b| fuzzing::archive_of(&random_graph(b)));
    fuzz(&archives.collect::<Vec<_>>(), fuzzing::archive);
}

#[test]
fn an_archive_of_any_entries_is_read_or_refused() {
    let archives = choices(8);
    let archives = archives
        .iter()
        .filter_map(|b| fuzzing::archive_of(&random_graph(b)));
    let exported = ["traced", "scripted", "structured"].map(|name| {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read(format!("{root}/tests/fixtures/torchscript/{name}.pt")).unwrap()
    });
    let unpacked = archives
        .chain(exported)
        .map(|archive| fuzzing::unpacked(&archive).unwrap());
    fuzz(&unpacked.collect::<Vec<_>>(), fuzzing::unpacked_archive);
}

#[test]
fn any_onnx_model_is_read_or_refused() {
    let graphs = choices(8);
    let written = graphs
        .iter()
        .filter_map(|b| fuzzing::onnx_of(&random_graph(b)));
    let exported = ["traced", "dynamo", "structured"].map(|name| {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read(format!("{root}/tests/fixtures/onnx/{name}.onnx")).unwrap()
    });
    fuzz(&written.chain(exported).collect::<Vec<_>>(), fuzzing::onnx);
}

#[test]
fn a_random_graph_computes_the_same_as_an_onnx_model() {
    fuzz(&choices(8), fuzzing::onnx_of_graph);
}

#[test]
fn any_archive_of_a_program_is_read_or_refused() {
    let programs = choices(8);
    let programs = programs
        .iter()
        .filter_map(|b| fuzzing::program_of(&random_graph(b)));
    fuzz(&programs.collect::<Vec<_>>(), fuzzing::program);
}

#[test]
fn a_program_of_any_entries_is_read_or_refused() {
    let programs = choices(8);
    let programs = programs
        .iter()
        .filter_map(|b| fuzzing::program_of(&random_graph(b)));
    let exported = ["dynamic", "decomposed", "structured"].map(|name| {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read(format!("{root}/tests/fixtures/exported_program/{name}.pt2")).unwrap()
    });
    let unpacked = programs
        .chain(exported)
        .map(|archive| fuzzing::unpacked(&archive).unwrap());
    fuzz(&unpacked.collect::<Vec<_>>(), fuzzing::unpacked_program);
}

#[test]
fn samples_of_any_entries_are_read_or_refused() {
    let array = |descr: &str, shape: &str, elements: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let len = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), elements].concat()
    };
    let x = array("<f4", "(3, 2)", bytemuck::cast_slice(&[0.5f32; 6]));
    let y = array("<i8", "(3,)", bytemuck::cast_slice(&[1i64; 3]));
    let pixels = array("|u1", "(2, 2)", &[1, 2, 3, 4]);
    let mut seeds = vec![
        [b"\n=== x.npy\n", &x[..], b"\n=== y.npy\n", &y].concat(),
        [b"\n=== x.npy\n", &pixels[..]].concat(),
    ];
    seeds.extend(images());
    fuzz(&seeds, fuzzing::samples);
}

/// MNIST as it is and gzipped, CIFAR-10, and a tar of one PNG file.
fn images() -> Vec<Vec<u8>> {
    let digits = [
        &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
        &[7; 4][..],
    ]
    .concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 0, 1];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&digits).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut png = Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]));
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(png.len() as u64);
    tar.append_data(&mut header, "train/a/b.png", &png[..])
        .unwrap();
    let tar = tar.into_inner().unwrap();
    let files = |kind: &str, files: &[&[u8]]| {
        let entry = |file: &&[u8]| [b"\n=== ", kind.as_bytes(), b"\n", file].concat();
        files.iter().flat_map(entry).collect()
    };
    vec![
        files("mnist", &[&digits, &labels]),
        files("mnist", &[&gzip, &labels]),
        files("cifar10", &[&[3; 3073], &[4; 2 * 3073]]),
        files("folder", &[&tar]),
    ]
}

#[test]
fn any_pipeline_is_read_or_refused() {
    let seeds = [
        "red{hash=none,error=0.05}",
        "canonicalize, repeat{max=3}(fold-batch-norm,red)",
        "repeat(repeat(canonicalize))",
    ];
    fuzz(&seeds.map(Vec::from), fuzzing::pipeline);
}

#[test]
fn exact_passes_keep_the_outputs_of_random_graphs() {
    fuzz(&choices(8), fuzzing::exact_passes);
}

#[test]
fn lossy_passes_keep_random_graphs_valid_and_finite() {
    fuzz(&choices(60), fuzzing::lossy_passes);
}

#[test]
fn relaxed_merging_keeps_random_graphs_sound_and_without_a_budget_does_nothing() {
    let run = |passes: &str, bytes: &[u8]| {
        let mut model = Model::new(random_graph(bytes));
        let report = Pipeline::parse(passes).unwrap().run(&mut model);
        let report = report.unwrap_or_else(|e| panic!("{passes}: {e}\n{}", random_graph(bytes)));
        (model.graph, report)
    };
    let mut merged = 0;
    for bytes in choices(60) {
        let (exact, _) = run("red{hash=none}", &bytes);
        let (same, report) = run("red{hash=none,alpha=0}", &bytes);
        assert_eq!(exact.to_string(), same.to_string());
        assert_eq!(report.passes[0].kind, Kind::Exact);
        let (_, report) = run("red{hash=none,alpha=0.5}", &bytes);
        let remarks = &report.passes[0].remarks;
        merged += usize::from(remarks.iter().any(|r| r.text.contains("merged into")));
    }
    assert!(merged > 5, "{merged}");
}

#[test]
fn random_graphs_keep_the_rules_and_have_every_kind_of_layer() {
    let mut kinds = BTreeSet::new();
    let mut operations = 0;
    for bytes in choices(500) {
        let graph = random_graph(&bytes);
        if let Err(violations) = verify(&graph) {
            panic!("{}\n{graph}", violations[0]);
        }
        for op in graph.nodes().filter_map(|node| graph.op(node)) {
            kinds.insert(op.name());
            operations += 1;
            if let Op::Conv { groups, .. } = op {
                kinds.insert(if *groups == 1 { "dense" } else { "grouped" });
            }
        }
    }
    // An operator that the IR has got and the generator does not make is found here.
    let expected = Op::NAMES.iter().copied().chain(["dense", "grouped"]);
    let missing: Vec<&str> = expected.filter(|name| !kinds.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(operations > 500 * 8, "{operations}");
}

#[test]
fn what_is_planted_goes_or_a_remark_says_why_not() {
    use Planted::{Constant, Equal, Proportional, Zero};
    let red = Pipeline::parse("red{hash=none}").unwrap();
    let (mut gone, seeds) = (0, choices(8));
    for (name, planted) in Op::NAMES
        .iter()
        .flat_map(|name| [Equal, Proportional, Zero, Constant].map(|planted| (name, planted)))
    {
        let graphs: Vec<_> = seeds
            .iter()
            .filter_map(|bytes| planted_graph(bytes, planted, name))
            .collect();
        assert!(!graphs.is_empty(), "no form of `{name}` fits");
        for graph in graphs {
            let mut model = Model::new(graph.clone());
            let report = red
                .run(&mut model)
                .unwrap_or_else(|e| panic!("{name}: {e}\n{graph}"));
            let rows = |node| model.graph.constant(node).unwrap().tensor.shape()[0];
            let left = model.graph.find("planted.weight").map(rows);
            let said = |r: &optc::pipeline::Remark| {
                r.kind == optc::pipeline::RemarkKind::Missed && r.node == "planted"
            };
            let remarks = &report.passes[0].remarks;
            let less = left.is_none_or(|rows| rows < 6);
            gone += usize::from(less);
            assert!(
                less || remarks.iter().any(said),
                "{planted:?}, {name}: {remarks:#?}\n{graph}"
            );
        }
    }
    println!("{gone} of what was planted is gone");
    assert!(gone > 700, "{gone}");
}

/// The sizes of a value, with the graph's numbers for symbols.
fn shape(graph: &optc::ir::Graph, ty: &Type) -> Vec<usize> {
    let size = |d: &optc::ir::Dim| d.eval(&graph.bindings).unwrap() as usize;
    ty.shape().unwrap().iter().map(size).collect()
}

#[test]
fn random_graphs_run_and_give_the_inferred_shapes() {
    for bytes in choices(100) {
        let graph = random_graph(&bytes);
        let input = shape(&graph, graph.ty(graph.inputs()[0].into()));
        let input = ArrayD::from_shape_fn(IxDyn(&input), |i| {
            (0..i.ndim()).fold(0.5, |x: f64, axis| (7.0 * x + i[axis] as f64).sin())
        });
        let outputs = Interpreter::new(&graph)
            .and_then(|net| net.run(vec![Array::Shared(input.into_shared())]))
            .unwrap_or_else(|e| panic!("{e}\n{graph}"));
        for (output, value) in graph.outputs().iter().zip(&outputs) {
            assert_eq!(
                value.shape(),
                shape(&graph, graph.ty(output.value)),
                "{graph}"
            );
            assert!(value.view().iter().all(|x| x.is_finite()), "{graph}");
        }
    }
}

#[test]
fn a_random_graph_that_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let all = choices(100);
    let (mut written, mut refused) = (0, Vec::new());
    let suffixes = ["pt", "pt2", "onnx"];
    for i in 0..300 {
        let graph = random_graph(&all[i / suffixes.len()]);
        let path = folder
            .path()
            .join(format!("net.{}", suffixes[i % suffixes.len()]));
        if let Err(error) = optc::write(&Model::new(graph.clone()), &path) {
            refused.push(error.to_string());
            continue;
        }
        let input = graph.inputs()[0];
        let inputs = vec![InputShape {
            name: None,
            shape: shape(&graph, graph.ty(input.into())),
        }];
        if let Err(error) = read_with(&path, &ReadOptions { inputs }) {
            panic!("{error}\n{graph}");
        }
        written += 1;
    }
    assert!(written > 250, "{refused:#?}");
}

#[test]
fn every_rule_fires_on_some_random_graph() {
    let red = Pipeline::parse("red{hash=none}").unwrap();
    let mut missing: BTreeSet<&str> = optc::passes::rules::ALL.iter().map(|r| r.name()).collect();
    for bytes in choices(600) {
        let report = red.run(&mut Model::new(random_graph(&bytes))).unwrap();
        for remark in &report.passes[0].remarks {
            missing.retain(|rule| !remark.text.contains(&format!("{rule} ")));
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("these never fired: {missing:?}");
}
