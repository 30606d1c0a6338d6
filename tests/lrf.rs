//! LRF in closed form against LRF as its authors do it.

#[path = "common/naive_lrf.rs"]
mod naive;

use faer::Mat;
use naive::Fit;
use optc::analysis::elimination::Criterion;
use optc::analysis::kernels::KernelLayout;
use optc::ir::NodeId;
use optc::passes::lrf::factor::{Around, Choice, Kept, Pieces, Reads, Weighed};
use rayon::prelude::*;

const LETTER: Choice = Choice {
    criterion: Criterion::Backward,
    compensate: true,
};

fn weighed(weight: Vec<f64>, [outputs, inputs, taps]: [usize; 3]) -> Weighed {
    Weighed {
        layout: KernelLayout {
            groups: 1,
            inputs,
            outputs,
            taps,
            transposed: false,
        },
        weight,
        around: Around::default(),
        rows: vec![1.0; outputs],
        mean: None,
        reads: Reads::Alike,
        through: false,
    }
}

fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..n).map(|_| random.f64() - 0.5).collect()
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |max, x| max.max(x.abs()))
}

fn matches_the_authors(name: &str, weight: Vec<f64>, shape: [usize; 3], ratio: f64, fit: Fit) {
    let gone =
        [shape[0], shape[1]].map(|n| ((ratio * n as f64).round_ties_even() as usize).min(n - 1));
    let naive = naive::both_sides(&weight, shape, gone, fit);
    let kept = Kept {
        outputs: shape[0] - gone[0],
        inputs: shape[1] - gone[1],
    };
    let weighed = weighed(weight, shape);
    let Pieces {
        squeeze,
        expand,
        filters,
        channels,
        ..
    } = &weighed.split(kept, LETTER).unwrap();
    assert_eq!(
        (filters, channels),
        (&naive.filters, &naive.channels),
        "{name}"
    );
    for (found, wanted) in [(expand, &naive.expand), (squeeze, &naive.squeeze)] {
        let Some(found) = found else { continue };
        let at = |i: usize| wanted[(i / wanted.ncols(), i % wanted.ncols())];
        let off = largest(found.iter().enumerate().map(|(i, x)| x - at(i)));
        assert!(off < 1e-6, "{name}: off by {off}");
    }
    let pieces = weighed.split(kept, LETTER).unwrap();
    let composite = pieces.composite(&weighed.layout);
    let [outputs, inputs, taps] = shape;
    let off = (0..taps).map(|tap| {
        let at = |o: usize, c: usize| (o * inputs + c) * taps + tap;
        let core = Mat::from_fn(kept.outputs, kept.inputs, |a, b| {
            weighed.weight[at(naive.filters[a], naive.channels[b])]
        });
        let wanted = &naive.expand * core * &naive.squeeze;
        let found = Mat::from_fn(outputs, inputs, |o, c| composite[at(o, c)]);
        (found - wanted).norm_max()
    });
    let off = largest(off);
    assert!(off < 1e-6, "{name}: the product is off by {off}");
}

#[test]
fn random_layers_lose_what_the_authors_remove() {
    let shapes = [[6, 4, 9], [16, 16, 9], [12, 20, 25], [5, 3, 4], [24, 8, 9]];
    for (seed, shape) in shapes.into_iter().enumerate() {
        for ratio in [0.15, 0.3, 0.5, 0.8] {
            let weight = random(shape.iter().product(), seed as u64);
            matches_the_authors(
                &format!("{shape:?} at {ratio}"),
                weight,
                shape,
                ratio,
                Fit::LeastSquares,
            );
        }
    }
}

#[test]
fn layers_of_resnet20_lose_what_the_authors_remove() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = here
        .with_file_name("shared")
        .join("data/cifar10_resnet/resnet20.pt");
    if !path.exists() {
        println!("resnet20 is not there: skipped");
        return;
    }
    let graph = optc::read(path).unwrap().graph;
    let layer = |node: NodeId| {
        let weight = graph.operands(node).get(1)?.node;
        let weight = &graph.constant(weight)?.tensor;
        let layout = KernelLayout::of(graph.op(node)?, weight.shape())?;
        let shape = [layout.outputs, layout.inputs, layout.taps];
        Some((
            graph.node(node).name.clone(),
            weight.elements::<f64>().into_owned(),
            shape,
        ))
    };
    let layers: Vec<_> = graph.nodes().filter_map(layer).collect();
    assert_eq!(layers.len(), 19);
    layers.into_par_iter().for_each(|(name, weight, shape)| {
        // Fitting 64 filters on each other hundreds of times takes its time.
        let ratio = if shape[0] < 64 { 0.4 } else { 0.1 };
        matches_the_authors(&name, weight, shape, ratio, Fit::Normal);
    });
}

/// The squared difference of the weight and what its pieces are together.
fn change(weighed: &Weighed, kept: Kept) -> f64 {
    let pieces = weighed.split(kept, LETTER).unwrap();
    let composite = pieces.composite(&weighed.layout);
    weighed
        .weight
        .iter()
        .zip(&composite)
        .map(|(a, b)| (a - b).powi(2))
        .sum()
}

#[test]
fn losses_are_the_change_of_the_weight() {
    let weighed = weighed(random(10 * 7 * 9, 3), [10, 7, 9]);
    let energy: f64 = weighed.weight.iter().map(|x| x * x).sum();
    let losses = weighed.losses(Criterion::Backward).unwrap();
    for gone in 0..7 {
        let filters = change(
            &weighed,
            Kept {
                inputs: 7,
                outputs: 10 - gone,
            },
        );
        let channels = change(
            &weighed,
            Kept {
                inputs: 7 - gone,
                outputs: 10,
            },
        );
        assert!((filters / energy - losses.outputs[gone]).abs() < 1e-9);
        assert!((channels / energy - losses.inputs[gone]).abs() < 1e-9);
    }
}

#[test]
fn a_filter_made_of_others_goes_first_and_at_no_loss() {
    let mut weight = random(6 * 4 * 9, 5);
    for e in 0..36 {
        weight[2 * 36 + e] = 0.5 * weight[e] - 2.0 * weight[36 + e];
    }
    let weighed = weighed(weight, [6, 4, 9]);
    let lost = change(
        &weighed,
        Kept {
            inputs: 4,
            outputs: 5,
        },
    );
    assert!(lost < 1e-20, "{lost}");
    assert!(
        change(
            &weighed,
            Kept {
                inputs: 4,
                outputs: 4
            }
        ) > 1e-3
    );
}

#[test]
fn groups_are_layers_of_their_own() {
    let (first, second) = (random(5 * 3 * 9, 7), random(5 * 3 * 9, 8));
    let kept = Kept {
        inputs: 2,
        outputs: 3,
    };
    let grouped = Weighed {
        layout: KernelLayout {
            groups: 2,
            inputs: 6,
            ..weighed(Vec::new(), [5, 3, 9]).layout
        },
        rows: vec![1.0; 10],
        ..weighed([first.clone(), second.clone()].concat(), [5, 3, 9])
    };
    let together = grouped
        .split(kept, LETTER)
        .unwrap()
        .composite(&grouped.layout);
    let apart = [first, second].map(|weight| {
        let weighed = weighed(weight, [5, 3, 9]);
        weighed
            .split(kept, LETTER)
            .unwrap()
            .composite(&weighed.layout)
    });
    assert_eq!(together, apart.concat());
}
