//! Sets to train on, and their batches.

use std::collections::BTreeSet;

use optc::data::{Batch, TrainingSet};
use optc::pipeline::TrainingContext;

use crate::*;

fn training_set(spec: &str, graph: &Graph) -> TrainingSet {
    open(spec, graph).unwrap().training_set().unwrap()
}

fn flat(batches: impl Iterator<Item = Batch>) -> Vec<(Vec<f32>, i64)> {
    let of_batch = |batch: Batch| {
        let labels = batch.labels.unwrap();
        assert_eq!(batch.images.shape()[0], labels.len());
        let images = batch
            .images
            .outer_iter()
            .map(|x| x.iter().copied().collect());
        images.zip(labels).collect::<Vec<_>>()
    };
    batches.flat_map(of_batch).collect()
}

fn labels(samples: &[(Vec<f32>, i64)]) -> Vec<i64> {
    samples.iter().map(|(_, label)| *label).collect()
}

#[test]
fn an_epoch_has_every_sample_once_in_an_order_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("{},mean=0,std=1", mnist(folder.path(), 10));
    let set = training_set(&spec, &network("f32[N,1,2,3]"));
    assert_eq!(
        (set.len(), set.shape(), set.classes()),
        (10, &[1, 2, 3][..], Some(10))
    );
    assert_eq!(set.name(), format!("{spec},split=train"));
    let sizes = |batches: optc::data::Batches| {
        assert_eq!(batches.len(), 3);
        batches
            .map(|b| b.images.shape().to_vec())
            .collect::<Vec<_>>()
    };
    let expected = [[4, 1, 2, 3], [4, 1, 2, 3], [2, 1, 2, 3]];
    assert_eq!(sizes(set.epoch(4, 0, 0)), expected);
    let epochs: BTreeSet<Vec<i64>> = (0..3)
        .flat_map(|seed| (0..3).map(move |epoch| (seed, epoch)))
        .map(|(seed, epoch)| {
            let samples = flat(set.epoch(4, seed, epoch));
            assert_eq!(samples, flat(set.epoch(4, seed, epoch)));
            let unbatched = flat(set.epoch(1, seed, epoch));
            assert_eq!(samples, unbatched, "whatever the batch");
            for (image, label) in &samples {
                // As they are: MNIST is neither flipped nor shifted.
                let expected = (0..6).map(|i| (10 * label + i) as f32 / 255.0);
                assert_eq!(*image, expected.collect::<Vec<_>>());
            }
            labels(&samples)
        })
        .collect();
    assert_eq!(epochs.len(), 9, "no two alike");
    for mut epoch in epochs {
        epoch.sort();
        assert_eq!(epoch, (0..10).collect::<Vec<_>>());
    }
    assert_eq!(labels(&flat(set.in_order(3))), (0..10).collect::<Vec<_>>());
}

#[test]
fn images_are_mirrored_and_shifted_with_black_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("{},mean=0,std=1", cifar10(folder.path()));
    let graph = network("f32[N,3,32,32]");
    let set = training_set(&spec, &graph);
    // Where red and green are seen says how the image lies: rows 0.. of red, columns 0.. of green.
    let (mut mirrored, mut shifts) = (0, BTreeSet::new());
    let epochs = (0..30).flat_map(|epoch| flat(set.epoch(7, 1, epoch)));
    for (image, _) in epochs {
        let pixel = |channel: usize, row: usize, column: usize| {
            (image[(channel * 32 + row) * 32 + column] * 255.0).round() as isize
        };
        let (down, right) = (pixel(0, 16, 16) - 16, pixel(1, 16, 16));
        let flip = pixel(1, 16, 17) < right;
        let right = right - if flip { 15 } else { 16 };
        assert!((-4..=4).contains(&down) && (-4..=4).contains(&right));
        for row in 0..32 {
            for column in 0..32 {
                let seen = if flip { 31 - column } else { column };
                let (y, x) = (row as isize + down, seen as isize + right);
                let inside = (0..32).contains(&y) && (0..32).contains(&x);
                let expected = if inside { (y, x) } else { (0, 0) };
                assert_eq!((pixel(0, row, column), pixel(1, row, column)), expected);
            }
        }
        mirrored += usize::from(flip);
        shifts.insert((down, right));
    }
    assert!((110..190).contains(&mirrored), "{mirrored} of 300");
    assert!(shifts.len() > 70, "{} of 81", shifts.len());
    // Options say otherwise, and what is judged is never varied.
    let plain = training_set(&format!("{spec},flip=false,crop=0"), &graph);
    let mut samples = flat(plain.epoch(3, 0, 0));
    samples.sort_by_key(|sample| sample.1);
    let mut in_order = flat(set.in_order(3));
    in_order.sort_by_key(|sample| sample.1);
    assert_eq!(samples, in_order);
}

#[test]
fn numbers_are_shifted_with_zeros_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let x = npy("'<f4'", "(1, 1, 1, 3)", &f32s(&[1.0, 2.0, 3.0]));
    let y = npy("'|u1'", "(1,)", &[0]);
    let spec = npz(folder.path(), &[("x", x), ("y", y)]);
    let set = training_set(&format!("{spec},crop=1"), &network("f32[N,1,1,3]"));
    let seen: BTreeSet<String> = (0..60)
        .map(|epoch| format!("{:?}", flat(set.epoch(1, 0, epoch))[0].0))
        .collect();
    let expected = [
        "[0.0, 0.0, 0.0]",
        "[0.0, 1.0, 2.0]",
        "[1.0, 2.0, 3.0]",
        "[2.0, 3.0, 0.0]",
    ];
    assert_eq!(seen, expected.map(String::from).into());
}

#[test]
fn what_is_held_out_is_drawn_by_the_seed_and_never_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let set = training_set(&mnist(folder.path(), 10), &network("f32[N,1,2,3]"));
    let parts = |fraction, seed| {
        let (rest, held) = set.hold_out(fraction, seed);
        (
            labels(&flat(rest.epoch(4, 0, 0))),
            labels(&flat(held.in_order(4))),
        )
    };
    let mut held_out = BTreeSet::new();
    for seed in 0..10 {
        let (rest, held) = parts(0.3, seed);
        assert_eq!((rest.len(), held.len()), (7, 3));
        let all: BTreeSet<i64> = rest.iter().chain(&held).copied().collect();
        assert_eq!(all.len(), 10);
        assert_eq!(parts(0.3, seed), (rest, held.clone()));
        held_out.insert(held);
    }
    assert!(held_out.len() > 7, "{held_out:?}");
    let (rest, held) = set.hold_out(0.0, 0);
    assert_eq!((rest.len(), held.is_empty()), (10, true));
    let (rest, held) = set.hold_out(1.0, 0);
    assert_eq!((rest.len(), held.len()), (1, 9));
    // Samples are the same wherever they are.
    let (_, held) = set.hold_out(0.5, 0);
    let (_, half) = held.hold_out(0.5, 0);
    assert_eq!(flat(half.in_order(9))[0].0.len(), 6);
}

#[test]
fn batches_do_not_depend_on_threads_and_can_be_left_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let set = training_set(&cifar10(folder.path()), &network("f32[N,3,32,32]"));
    let expected = flat(set.epoch(2, 3, 4));
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(pool.install(|| flat(set.epoch(2, 3, 4))), expected);
    }
    // Several at a time, one of them left before its thread is done.
    let (mut one, mut other) = (set.epoch(2, 3, 4), set.epoch(2, 3, 5));
    for i in 0..3 {
        let batch = one.next().unwrap();
        assert_eq!(flat([batch].into_iter())[..], expected[2 * i..2 * i + 2]);
        other.next().unwrap();
    }
    drop(other);
    assert_eq!(one.len(), 2);
    assert_eq!(flat(one), expected[6..]);
}

#[test]
fn a_pass_gets_the_set_when_it_asks_and_labels_where_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let graph = network("f32[N,2]");
    let x = npy("'<f4'", "(2, 2)", &f32s(&[1.0, 2.0, 3.0, 4.0]));
    let spec = npz(folder.path(), &[("x", x)]);
    let data = std::sync::Arc::new(open(&spec, &graph).unwrap());
    let mut training = TrainingContext::default();
    training.data = Some(data);
    let set = training.training_set().unwrap();
    assert_eq!(set.classes(), None);
    let batch = set.epoch(2, 0, 0).next().unwrap();
    assert_eq!((batch.images.shape(), batch.labels), (&[2, 2][..], None));
    assert!(set.require_labels("training", 2).is_err());
    assert!(TrainingContext::default().training_set().is_err());
}
