//! Pruned networks as files: where the zeros are, that they stay, and what removes neurons that they leave empty.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use optc::data::Samples;
use optc::exec::{Array, Interpreter};
use optc::ir::Graph;
use optc::pipeline::RunOptions;
use optc::{Model, Pipeline, Report};

const NET: &str = "
    graph net(%x: f32[N,4,8,8]) {
      @a.weight = parameter normal(1) : f32[8,4,3,3]
      @a.bias = parameter normal(2) : f32[8]
      @b.weight = parameter normal(3) : f32[12,8,1,1]
      @head.weight = parameter normal(4) : f32[6,12]
      @head.bias = parameter normal(5) : f32[6]
      %a = conv(%x, @a.weight, @a.bias) {pad=[1,1]}
      %relu = relu(%a)
      %b = conv(%relu, @b.weight)
      %pool = adaptive_avg_pool(%b) {output=[1,1]}
      %flat = flatten(%pool) {start=1, end=3}
      %head = linear(%flat, @head.weight, @head.bias)
      return %head
    }";

const LAYERS: [&str; 3] = ["a", "b", "head"];

fn pixels(first: usize, count: usize) -> ArrayD<f32> {
    let value = |i: usize| (i as f32 * 0.37).sin() + (i as f32 * 1.7).cos();
    let pixels: Vec<f32> = (first * 256..(first + count) * 256).map(value).collect();
    ArrayD::from_shape_vec(IxDyn(&[count, 4, 8, 8]), pixels).unwrap()
}

fn images(count: usize) -> Arc<Samples> {
    Arc::new(Samples::of_array("x", &pixels(0, count)))
}

/// What is made of a network by these passes, on samples or without, and the report.
fn run(text: &str, passes: &str, samples: Option<Arc<Samples>>, threads: usize) -> (Model, Report) {
    let mut model = Model::new(text.parse().unwrap());
    let options = RunOptions {
        samples,
        threads,
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse(passes).unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    (model, report)
}

fn pruned(passes: &str, samples: Option<Arc<Samples>>) -> Graph {
    run(NET, passes, samples, 0).0.graph
}

fn weight(graph: &Graph, layer: &str) -> Vec<f64> {
    graph.operand_elements(graph.find(layer).unwrap(), 1)
}

/// How many weights of each four are zero, the most and the least.
fn zeros_of_four(graph: &Graph, layer: &str) -> [usize; 2] {
    let weight = weight(graph, layer);
    let zeros = |four: &[f64]| four.iter().filter(|w| **w == 0.0).count();
    let zeros: Vec<usize> = weight.chunks(4).map(zeros).collect();
    [*zeros.iter().max().unwrap(), *zeros.iter().min().unwrap()]
}

fn zeros(graph: &Graph, layer: &str) -> usize {
    let weight = weight(graph, layer);
    weight.iter().filter(|w| **w == 0.0).count()
}

#[test]
fn a_pattern_holds_in_the_files_that_are_written() {
    let folder = tempfile::tempdir().unwrap();
    for samples in [None, Some(images(8))] {
        let graph = pruned("prune{pattern=2:4}", samples);
        let model = Model::new(graph);
        for suffix in ["onnx", "pt", "pt2", "ir"] {
            let path = folder.path().join("pruned").with_extension(suffix);
            optc::write(&model, &path).unwrap();
            let read = optc::read(&path).unwrap().graph;
            let layers = read.nodes().filter(|node| read.operands(*node).len() >= 2);
            let weights = layers.map(|node| read.operand_elements(node, 1));
            let weights: Vec<Vec<f64>> = weights.filter(|w| w.len() > 36).collect();
            assert_eq!(weights.len(), 3, "{suffix}");
            for four in weights.iter().flat_map(|weight| weight.chunks(4)) {
                let zeros = four.iter().filter(|w| **w == 0.0).count();
                assert_eq!(zeros, 2, "{suffix}: {four:?}");
            }
        }
    }
}

#[test]
fn exactly_the_share_that_was_asked_for_is_zero() {
    // 288, 96 and 72 weights.
    for (passes, wanted) in [
        ("prune{sparsity=0.5}", 228),
        ("prune{sparsity=0.7}", 319),
        ("prune{sparsity=0.5,spread=even}", 144 + 48 + 36),
    ] {
        for samples in [None, Some(images(8))] {
            let graph = pruned(passes, samples);
            let found: usize = LAYERS.iter().map(|layer| zeros(&graph, layer)).sum();
            assert_eq!(found, wanted, "{passes}");
        }
    }
}

#[test]
fn zeros_stay_whatever_follows() {
    let passes = "prune{pattern=2:4},canonicalize,red{hash=none},prune{sparsity=0.9}";
    // Enough samples that no channel is left without a reader: one that goes moves those behind it.
    let graph = pruned(passes, Some(images(64)));
    for layer in LAYERS {
        assert_eq!(zeros_of_four(&graph, layer), [2, 2], "{layer}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let on = |threads| {
        run(NET, "prune{sparsity=0.6}", Some(images(8)), threads)
            .0
            .graph
    };
    assert_eq!(on(1).to_string(), on(3).to_string());
}

#[test]
fn weights_that_make_up_for_others_keep_more_than_weights_that_are_large() {
    let x = pixels(16, 6);
    let outputs = |graph: &Graph| {
        let found = Interpreter::new(graph)
            .unwrap()
            .run(vec![Array::from(x.clone())]);
        found.unwrap().remove(0).into_owned()
    };
    let before = outputs(&NET.parse().unwrap());
    let off = |passes: &str| {
        let after = outputs(&pruned(passes, Some(images(16))));
        (&before - &after).mapv(|x| x * x).sum()
    };
    let magnitude = off("prune{pattern=2:4,by=magnitude,refit=false}");
    let alone = off("prune{pattern=2:4,refit=false}");
    assert!(alone < 0.5 * magnitude, "{alone} {magnitude}");
}

#[test]
fn samples_that_say_too_little_are_told_of() {
    let text = "graph net(%x: f32[N,16]) {
      @a.weight = parameter normal(1) : f32[4,16]
      %a = linear(%x, @a.weight)
      return %a
    }";
    let rows = ArrayD::from_shape_fn(IxDyn(&[5, 16]), |i| ((3 * i[0] + i[1]) as f32).sin());
    let samples = Arc::new(Samples::of_array("x", &rows));
    let (model, report) = run(text, "prune", Some(samples), 0);
    assert_eq!(zeros(&model.graph, "a"), 32);
    assert!(weight(&model.graph, "a").iter().all(|w| w.is_finite()));
    let mut remarks = report.passes[0].remarks.iter();
    let told = "the samples have 5 positions for its 16 features";
    assert!(remarks.any(|remark| remark.node == "a" && remark.text.starts_with(told)));
}

#[test]
fn neurons_that_are_left_without_weights_are_removed_exactly() {
    let emptied = "prune{sparsity=0.5,block=1x36,spread=even}";
    let before = pruned(emptied, None);
    // Half of the rows of `a`, of 36 weights each; those of the others are no whole blocks.
    assert_eq!(zeros(&before, "a"), 144);
    assert_eq!(zeros(&before, "b") + zeros(&before, "head"), 0);
    let (model, _) = run(NET, &format!("{emptied},red{{hash=none}}"), None, 0);
    assert_eq!(weight(&model.graph, "a").len(), 144);
    assert_eq!(weight(&model.graph, "b").len(), 12 * 4);
    let found = optc::exec::compare::<f64>(&before, &model.graph, 2, 1).unwrap();
    found.within(1e-5, "emptied").unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (passes, wanted) in [
        ("prune{pattern=4:4}", "the pattern 4:4 keeps all weights"),
        ("prune{pattern=2:4,block=1x4}", "a pattern and a block"),
        (
            "prune{pattern=2/4}",
            "`2/4` is not two whole numbers from 1 to 64 as in 1:4, or none",
        ),
        ("prune{block=0x4}", "`0x4` is not two whole numbers"),
    ] {
        let error = Pipeline::parse(passes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let pipeline = Pipeline::parse("prune{block=1x16,pattern=none}").unwrap();
    assert_eq!(pipeline.to_string(), "prune{block=1x16}");
}
