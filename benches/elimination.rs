//! LRF in closed form beside the refit of every filter before every removal, as its authors do it.
//!
//!     cargo bench --bench elimination
//!
//! The layers of ResNet-56, both sides, half of the filters and of the channels. Both take turns, so that what else the machine
//! does meets both; the ratios are the medians of those of the turns.

#[path = "../tests/common/naive_lrf.rs"]
mod naive;

use std::time::Instant;

use naive::Fit;
use optc::analysis::elimination::Criterion;
use optc::analysis::kernels::KernelLayout;
use optc::passes::lrf::factor::{Choice, Kept, Reads, Weighed};

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
    let mut all = [Vec::new(), Vec::new()];
    for (shape, count) in LAYERS {
        let turns: Vec<[f64; 2]> = (0..TURNS).map(|turn| times(shape, turn as u64)).collect();
        let ratio = median(turns.iter().map(|[closed, naive]| naive / closed).collect());
        let [closed, naive] = [0, 1].map(|i| median(turns.iter().map(|turn| turn[i]).collect()));
        println!(
            "{:>2} filters of {:>2} channels: {:8.3} ms, refitted {:9.2} ms: {ratio:.0} times",
            shape[0],
            shape[1],
            1e3 * closed,
            1e3 * naive
        );
        for (all, turn) in all.iter_mut().zip([0, 1]) {
            all.push((
                f64::from(count),
                turns.iter().map(|t| t[turn]).collect::<Vec<_>>(),
            ));
        }
    }
    let sum =
        |of: &[(f64, Vec<f64>)], turn: usize| of.iter().map(|(n, t)| n * t[turn]).sum::<f64>();
    let ratios = (0..TURNS).map(|turn| sum(&all[1], turn) / sum(&all[0], turn));
    println!(
        "all layers of ResNet-56: {:.0} times",
        median(ratios.collect())
    );
}

/// Seconds in closed form, and by refitting.
fn times(shape: [usize; 3], seed: u64) -> [f64; 2] {
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
    let start = Instant::now();
    let wanted = naive::both_sides(&weight, shape, [outputs / 2, inputs / 2], Fit::LeastSquares);
    let naive = start.elapsed().as_secs_f64();
    assert_eq!(
        (found.filters, found.channels),
        (wanted.filters, wanted.channels)
    );
    [closed, naive]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
