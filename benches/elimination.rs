//! LRF in closed form beside the refit of every filter before every removal, as its authors do it.
//!
//!     cargo bench --bench elimination
//!
//! The layers of ResNet-56, both sides, half of the filters and of the channels. They take turns, so that what else the machine
//! does meets all; what is printed are the medians of the turns.

#[path = "../tests/common/naive_lrf.rs"]
mod naive;

use std::time::Instant;

use naive::Fit;
use optc::analysis::elimination::Criterion;
use optc::analysis::kernels::KernelLayout;
use optc::passes::lrf::factor::{Around, Choice, Kept, Reads, Weighed};

const TURNS: usize = 3;

/// Outputs, inputs, taps, and how many layers of ResNet-56 have them.
const LAYERS: [([usize; 3], u32); 5] = [
    ([16, 16, 9], 18),
    ([32, 16, 9], 1),
    ([32, 32, 9], 17),
    ([64, 32, 9], 1),
    ([64, 64, 9], 17),
];

fn main() {
    let mut all = [[0.0; 3]; TURNS];
    for (shape, count) in LAYERS {
        let turns: Vec<[f64; 3]> = (0..TURNS).map(|turn| times(shape, turn as u64)).collect();
        let median_of = |i: usize| 1e3 * median(turns.iter().map(|turn| turn[i]).collect());
        println!(
            "{:>2} filters of {:>2} channels: {:7.3} ms; refitted by normal equations {:8.2} ms, by least squares {:8.2} ms",
            shape[0],
            shape[1],
            median_of(0),
            median_of(1),
            median_of(2)
        );
        for (all, turn) in all.iter_mut().zip(&turns) {
            all.iter_mut()
                .zip(turn)
                .for_each(|(sum, time)| *sum += f64::from(count) * time);
        }
    }
    let ratio = |i: usize| median(all.iter().map(|times| times[i] / times[0]).collect());
    println!(
        "all layers of ResNet-56: normal equations take {:.0} times as long, least squares {:.0} times",
        ratio(1),
        ratio(2)
    );
}

/// Seconds in closed form, by normal equations, and by least squares.
fn times(shape: [usize; 3], seed: u64) -> [f64; 3] {
    let [outputs, inputs, taps] = shape;
    let mut random = fastrand::Rng::with_seed(seed);
    let weight: Vec<f64> = (0..outputs * inputs * taps)
        .map(|_| random.f64() - 0.5)
        .collect();
    let layer = Weighed {
        layout: KernelLayout {
            groups: 1,
            inputs,
            outputs,
            taps,
            transposed: false,
        },
        weight: weight.clone(),
        around: Around::default(),
        rows: vec![1.0; outputs],
        mean: None,
        reads: Reads::Alike,
        through: false,
    };
    let kept = Kept {
        inputs: inputs / 2,
        outputs: outputs / 2,
    };
    let choice = Choice {
        criterion: Criterion::Backward,
        compensate: true,
    };
    let start = Instant::now();
    let found = layer.split(kept, choice).expect("finite numbers");
    let closed = start.elapsed().as_secs_f64();
    let [normal, least_squares] = [Fit::Normal, Fit::LeastSquares].map(|fit| {
        let start = Instant::now();
        let wanted = naive::both_sides(&weight, shape, [outputs / 2, inputs / 2], fit);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(found.filters, wanted.filters);
        assert_eq!(found.channels, wanted.channels);
        for (found, wanted) in [
            (&found.expand, wanted.expand),
            (&found.squeeze, wanted.squeeze),
        ] {
            let found = found.as_ref().expect("half of them gone");
            let at = |i: usize| wanted[(i / wanted.ncols(), i % wanted.ncols())];
            assert!(
                found
                    .iter()
                    .enumerate()
                    .all(|(i, x)| (x - at(i)).abs() < 1e-6)
            );
        }
        seconds
    });
    [closed, normal, least_squares]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
