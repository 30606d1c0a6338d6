//! What is written, judged from outside: ONNX Runtime and libtorch run it beside what it was made from.
//!
//! Judged are fixtures, the texts that passes are tested with, and random graphs, through exact pipelines.

mod common;

use std::path::{Path, PathBuf};

use common::has_onnxruntime;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::fuzzing::random_graph;
use optc::ir::{Graph, NodeId, Op};
use optc::judge::{Optimisations, Options, Verdict, judge};
use optc::{Model, Pipeline, pipeline};

/// What is judged, and why not: the original does not run, or what no file has said is not read from one.
#[derive(Default)]
struct Count {
    judged: usize,
    not_judged: Vec<String>,
}

impl Count {
    /// Writes what `passes` make of the model in the file `original`, and has it judged with the runtime's optimisations and
    /// without.
    fn judge(&mut self, original: &Path, passes: &str, inputs: Vec<InputShape>) {
        let mut model = match read_with(original, &ReadOptions { inputs }) {
            Ok(model) => model,
            Err(error) => return self.not_judged.push(error.to_string()),
        };
        let graph = model.graph.clone();
        let named =
            |what: &dyn std::fmt::Display| format!("{}, {passes}: {what}", original.display());
        let report = Pipeline::parse(passes).unwrap().run(&mut model);
        let report = report.unwrap_or_else(|error| panic!("{}\n{graph}", named(&error)));
        assert!(report.exact);
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join(original.file_name().unwrap());
        optc::write(&model, &written).unwrap_or_else(|e| panic!("{}\n{graph}", named(&e)));
        for optimisations in [Optimisations::All, Optimisations::Off] {
            let options = Options {
                optimisations,
                tolerance: Some(pipeline::rounding(&graph)),
                length: 12,
                ..Options::default()
            };
            match judge(original, &written, &graph, &options) {
                Ok(Some(Verdict::Judged(_))) => self.judged += 1,
                Ok(Some(Verdict::NotJudged { not_judged })) => {
                    self.not_judged.push(named(&not_judged))
                }
                Ok(None) => panic!("{}", named(&"nobody opens it")),
                Err(error) => panic!("{}\n{graph}\n{}", named(&error), model.graph),
            }
        }
    }

    /// The graph as a file of the format, which is then judged as one that a user has.
    fn judge_graph(&mut self, graph: &Graph, suffix: &str, passes: &str) {
        let is_opaque = |node| matches!(graph.op(node), Some(Op::Opaque(_)));
        if graph.nodes().any(is_opaque) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join(format!("model.{suffix}"));
        if let Err(error) = optc::write(&Model::new(graph.clone()), &original) {
            self.not_judged.push(error.to_string());
            return;
        }
        let shape = |input: &NodeId| {
            let dims = graph.ty((*input).into()).shape()?.iter();
            let sizes = dims.map(|dim| usize::try_from(dim.eval(&graph.bindings)?).ok());
            Some(InputShape {
                name: Some(graph.node(*input).name.to_string()),
                shape: sizes.collect::<Option<_>>()?,
            })
        };
        self.judge(
            &original,
            passes,
            graph.inputs().iter().filter_map(shape).collect(),
        );
    }

    /// Requires all but a few to have been judged.
    fn finish(&self) {
        let few = self.not_judged.len() * 5 <= self.judged;
        assert!(
            few,
            "{} judged, not these: {:#?}",
            self.judged, self.not_judged
        );
    }
}

const EXACT: [&str; 2] = ["canonicalize", "red{hash=none}"];

/// The suffixes that this build judges.
fn suffixes() -> Vec<&'static str> {
    let mut suffixes = Vec::new();
    suffixes.extend(has_onnxruntime().then_some("onnx"));
    suffixes.extend(cfg!(feature = "torch").then_some("pt"));
    suffixes
}

fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn fixtures_compute_what_they_did() {
    let mut count = Count::default();
    for suffix in suffixes() {
        for path in files("tests/fixtures", suffix) {
            EXACT
                .iter()
                .for_each(|passes| count.judge(&path, passes, vec![]));
        }
    }
    count.finish();
}

#[test]
fn texts_of_passes_compute_what_they_did() {
    let mut count = Count::default();
    for path in files("tests/passes", "ir") {
        let graph: Graph = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        for suffix in suffixes() {
            count.judge_graph(&graph, suffix, "canonicalize,red{hash=none}");
        }
    }
    count.finish();
}

#[test]
fn random_graphs_compute_what_they_did() {
    let mut count = Count::default();
    let mut random = fastrand::Rng::with_seed(14);
    for _ in 0..100 {
        let bytes: Vec<u8> = (0..400).map(|_| random.u8(..)).collect();
        let graph = random_graph(&bytes);
        for suffix in suffixes() {
            count.judge_graph(&graph, suffix, "red{hash=none}");
        }
    }
    count.finish();
}

/// The shape declared for the value that is measured is wrong, and ONNX Runtime's optimisations believe it.
#[test]
fn where_optimisations_change_the_original_it_is_judged_without() {
    if !has_onnxruntime() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/stale_shape.onnx");
    let mut model = optc::read(&path).unwrap();
    let graph = model.graph.clone();
    Pipeline::parse("canonicalize")
        .unwrap()
        .run(&mut model)
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("model.onnx");
    optc::write(&model, &written).unwrap();
    let options = Options {
        tolerance: Some(1e-4),
        ..Options::default()
    };
    match judge(&path, &written, &graph, &options).unwrap() {
        Some(Verdict::Judged(judgement)) => {
            assert!(
                judgement.by.ends_with("without its optimisations"),
                "{judgement}"
            );
            assert_eq!(judgement.max_rel(), 0.0);
        }
        other => panic!("{other:?}"),
    }
}
