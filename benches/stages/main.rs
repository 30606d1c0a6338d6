//! The time that each stage of `optc --passes red{hash=none}` takes on a model.
//!
//!     OPTC_BENCH_MODEL=resnet50.pt OPTC_BENCH_INPUT=1x3x224x224 cargo bench --bench stages
//!
//! Without the variables it is `examples/shapes.pt`. Each stage starts from what the one before it made; `-- --sort location`
//! lists them in that order. The stages of `red{hash=kernel}` are timed on a network of their own ([`kernels`]).

mod kernels;

use std::path::PathBuf;

use divan::Bencher;
use optc::egraph::{self, Bounds, Explored};
use optc::formats::{ReadOptions, read_with};
use optc::passes::rules;
use optc::pipeline::{Cost, RunOptions, Verify};
use optc::{Model, Pipeline, exec};

fn main() {
    divan::main();
}

/// The model's file and its inputs' shapes.
fn model() -> (PathBuf, ReadOptions) {
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_string());
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shapes.pt");
    let shape = variable("OPTC_BENCH_INPUT", "1x3x32x32");
    let options = ReadOptions {
        inputs: vec![shape.parse().expect("OPTC_BENCH_INPUT is a shape")],
    };
    (variable("OPTC_BENCH_MODEL", example).into(), options)
}

fn load() -> Model {
    let (path, options) = model();
    read_with(path, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn run(pipeline: &str, model: &mut Model) {
    let options = RunOptions {
        verify: Verify::Nothing,
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse(pipeline).expect("a pipeline");
    pipeline
        .run_with(model, &options, &mut ())
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The model with its batch norms folded, as merging gets it.
fn folded() -> Model {
    let mut model = load();
    run("fold-batch-norm", &mut model);
    model
}

fn saturated(model: &Model) -> Explored {
    let lowered = egraph::lower(&model.graph).expect("a valid graph");
    egraph::explore(lowered, rules::ALL, Bounds::default())
}

fn store(model: &Model) {
    let folder = tempfile::tempdir().expect("a folder");
    optc::write(model, folder.path().join("out.pt")).unwrap_or_else(|error| panic!("{error}"));
}

#[divan::bench]
fn read(bencher: Bencher) {
    bencher.bench_local(load);
}

#[divan::bench]
fn fold_batch_norm(bencher: Bencher) {
    bencher
        .with_inputs(load)
        .bench_local_values(|mut model| run("fold-batch-norm", &mut model));
}

#[divan::bench]
fn lower(bencher: Bencher) {
    let model = folded();
    bencher.bench_local(|| egraph::lower(&model.graph).expect("a valid graph"));
}

#[divan::bench]
fn saturate(bencher: Bencher) {
    let model = folded();
    bencher
        .with_inputs(|| egraph::lower(&model.graph).expect("a valid graph"))
        .bench_local_values(|lowered| egraph::explore(lowered, rules::ALL, Bounds::default()));
}

#[divan::bench]
fn extract(bencher: Bencher) {
    let model = folded();
    bencher
        .with_inputs(|| saturated(&model))
        .bench_local_values(|explored| {
            explored
                .cheapest(&model.graph, &Cost::Macs)
                .expect("terms that fit")
        });
}

#[divan::bench]
fn write(bencher: Bencher) {
    let mut model = load();
    run("red{hash=none}", &mut model);
    bencher.bench_local(|| store(&model));
}

/// All of it, as the command does with `--no-verify`.
#[divan::bench]
fn whole(bencher: Bencher) {
    bencher.bench_local(|| {
        let mut model = load();
        run("red{hash=none}", &mut model);
        store(&model);
    });
}

/// Verification with one input.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn verify(bencher: Bencher) {
    let before = load();
    let mut after = before.clone();
    run("red{hash=none}", &mut after);
    bencher.bench_local(|| exec::compare::<f32>(&before.graph, &after.graph, 1, 0));
}

/// The whole with hashing.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn whole_with_hashing(bencher: Bencher) {
    bencher.bench_local(|| {
        let mut model = load();
        run("red", &mut model);
        store(&model);
    });
}
