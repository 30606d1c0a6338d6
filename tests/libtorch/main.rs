//! What only libtorch can say: that files open there, run, and agree with one another; and graphs that it runs and trains.
#![cfg(feature = "torch")]

#[path = "../common/mod.rs"]
mod common;
mod drop;
mod executor;
mod killed;
mod lrf;
mod torch;
mod training;
mod vgg;
mod windows;
mod written;

use std::path::{Path, PathBuf};

use optc::formats::{ReadOptions, read_with};
use optc::pipeline::{RunOptions, Verify};
use optc::{Pipeline, Report};
use tempfile::TempDir;
use torch::{Network, compare, here, normal, shared, top1};

/// Runs `passes` over `file`; the smaller file, in a folder that lives as long as the first result, and the report.
/// Our own interpreter does not look at the outcome: libtorch is to judge it alone.
fn optimised(file: &Path, passes: &str) -> (TempDir, PathBuf, Report) {
    optimised_at(file, "1x3x32x32", passes)
}

/// The same for an input of another shape.
fn optimised_at(file: &Path, input: &str, passes: &str) -> (TempDir, PathBuf, Report) {
    let options = ReadOptions {
        inputs: vec![input.parse().expect("a shape")],
    };
    let mut model = read_with(file, &options).expect("the file is read");
    let unverified = RunOptions {
        verify: Verify::Nothing,
        ..RunOptions::default()
    };
    let report = Pipeline::parse(passes)
        .and_then(|pipeline| pipeline.run_with(&mut model, &unverified, &mut ()))
        .expect("the passes run");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let smaller = folder.path().join("smaller.pt");
    optc::write(&model, &smaller).expect("the file is written");
    (folder, smaller, report)
}

#[test]
fn the_example_takes_any_batch() {
    let network = Network::open(here("examples/shapes.pt"));
    for batch in [1, 8] {
        let output = network.run(&normal(&[batch, 3, 32, 32], 0));
        assert_eq!(output.size(), [batch, 10]);
    }
}

#[test]
fn the_example_is_trained() {
    let network = Network::open(here("examples/shapes.pt"));
    let share = top1(&network, &here("examples/shapes_test.npz"));
    assert!(share > 0.95, "{share}");
}

#[test]
fn the_example_keeps_its_batch_norms_for_us_to_fold() {
    let names: Vec<_> = Network::open(here("examples/shapes.pt"))
        .parameters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.contains(&"stage1.0.bn1.weight".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_file_agrees_with_itself() {
    let file = here("examples/shapes.pt");
    let difference = compare(&file, &file, &[2, 3, 32, 32], 4);
    assert_eq!(difference.max_rel, 0.0);
    assert_eq!(difference.argmax_agreement, 1.0);
}

#[test]
fn a_changed_weight_is_noticed() {
    let file = here("examples/shapes.pt");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let changed = folder.path().join("changed.pt");
    Network::open(&file).save_scaled("fc.weight", 1.01, &changed);
    let difference = compare(&file, &changed, &[2, 3, 32, 32], 4);
    assert!((1e-3..1e-1).contains(&difference.max_rel), "{difference:?}");
}

#[test]
fn traced_and_frozen_exports_of_one_network_agree() {
    for depth in ["resnet20", "resnet56"] {
        let file = |kind: &str| shared(&format!("data/cifar10_resnet/{depth}{kind}.pt"));
        let (Some(traced), Some(frozen)) = (file(""), file(".frozen")) else {
            return;
        };
        let difference = compare(&traced, &frozen, &[8, 3, 32, 32], 2);
        assert!(difference.max_rel < 1e-5, "{depth}: {difference:?}");
    }
}

#[test]
fn exact_passes_keep_the_output_at_any_batch_and_size() {
    let file = here("examples/shapes.pt");
    for passes in ["canonicalize", "fold-batch-norm", "red{hash=none}"] {
        let (_folder, smaller, _) = optimised(&file, passes);
        for shape in [[1, 3, 32, 32], [8, 3, 32, 32], [2, 3, 48, 40]] {
            let difference = compare(&file, &smaller, &shape, 2);
            assert!(
                difference.max_rel < 1e-5,
                "{passes} at {shape:?}: {difference:?}"
            );
        }
    }
}

#[test]
fn parts_written_in_place_are_written_at_any_size() {
    let file = here("tests/fixtures/torchscript/views.pt");
    let (_folder, rewritten, _) = optimised(&file, "red{hash=none}");
    for shape in [[2, 4, 8, 8], [1, 5, 10, 10], [3, 3, 12, 12]] {
        assert_eq!(compare(&file, &rewritten, &shape, 2).max_rel, 0.0);
    }
}

#[test]
fn copies_behind_windows_of_any_size_are_found() {
    let file = here("tests/fixtures/torchscript/windows.pt");
    let (_folder, smaller, report) = optimised_at(&file, "2x5x7x4", "red{hash=none}");
    // Three of eight rows of 4 weights and a bias, and what reads them.
    assert_eq!(report.before.params - report.after.params, 3 * 9);
    for shape in [[2, 5, 7, 4], [1, 8, 6, 4], [3, 9, 9, 4]] {
        assert!(compare(&file, &smaller, &shape, 2).max_rel < 1e-6);
    }
}

#[test]
fn whole_numbers_stay_whole_and_others_do_not_become_so() {
    let file = here("tests/fixtures/torchscript/whole.pt");
    let (_folder, rewritten, _) = optimised(&file, "canonicalize");
    assert_eq!(compare(&file, &rewritten, &[3, 4], 2).max_rel, 0.0);
}

#[test]
fn red_takes_the_dead_channels_out_of_the_example() {
    let (_folder, smaller, report) = optimised(&here("examples/shapes.pt"), "red{hash=none}");
    let (before, after) = (report.before.params, report.after.params);
    assert!(after * 5 < before * 4, "{before} parameters, then {after}");
    let stored: i64 = Network::open(&smaller)
        .parameters()
        .iter()
        .map(|(_, shape)| shape.iter().product::<i64>())
        .sum();
    assert_eq!(stored as u64, after, "the file holds what the report says");
}

#[test]
fn red_with_hashing_keeps_the_accuracy_of_the_example() {
    let file = here("examples/shapes.pt");
    let data = here("examples/shapes_test.npz");
    let (_folder, smaller, _) = optimised(&file, "red");
    let before = top1(&Network::open(&file), &data);
    let after = top1(&Network::open(&smaller), &data);
    assert!((before - after).abs() < 0.015, "{before}, then {after}");
}

#[test]
fn red_keeps_the_names_of_the_parameters() {
    let file = here("examples/shapes.pt");
    let (_folder, smaller, _) = optimised(&file, "red{hash=none}");
    let before = Network::open(&file).parameters();
    let after = Network::open(&smaller).parameters();
    for (name, _) in before.iter().filter(|(name, shape)| {
        shape.len() > 1 && name.ends_with(".weight") // what a batch norm had is in its convolution now
    }) {
        assert!(
            after.iter().any(|(other, _)| other == name),
            "{name} is gone: {after:?}"
        );
    }
}

#[test]
fn red_keeps_the_output_of_real_networks() {
    for name in [
        "resnet20",
        "resnet20.scripted",
        "resnet20.frozen",
        "resnet56",
    ] {
        let Some(file) = shared(&format!("data/cifar10_resnet/{name}.pt")) else {
            return;
        };
        let (_folder, smaller, report) = optimised(&file, "red{hash=none}");
        assert!(report.after.params <= report.before.params, "{name}");
        let difference = compare(&file, &smaller, &[8, 3, 32, 32], 2);
        assert!(difference.max_rel < 1e-4, "{name}: {difference:?}");
        assert_eq!(difference.argmax_agreement, 1.0, "{name}");
    }
}
