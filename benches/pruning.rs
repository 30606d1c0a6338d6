//! Two of each four weights of every layer of a ResNet-50, with what it reads at hand.
//!
//!     cargo bench --bench pruning
//!
//! Features go together the less the further they are apart. What is printed are seconds by kind of layer, and the sum over all.

use std::time::Instant;

use faer::Mat;
use optc::analysis::pruning::{Hessian, Reads, Zeros};

/// Rows, features of a row, and how many layers of a ResNet-50 have them; rows of its first, of 147, are no whole groups.
const LAYERS: [(usize, usize, u32); 17] = [
    (64, 64, 1),
    (64, 576, 3),
    (256, 64, 4),
    (64, 256, 2),
    (128, 256, 1),
    (128, 1152, 4),
    (512, 128, 4),
    (512, 256, 1),
    (128, 512, 3),
    (256, 512, 1),
    (256, 2304, 6),
    (1024, 256, 6),
    (1024, 512, 1),
    (256, 1024, 5),
    (512, 4608, 3),
    (2048, 512, 3),
    (1000, 2048, 1),
];

/// What is left of those: the projections of the last stage.
const LAST: [(usize, usize, u32); 3] = [(512, 1024, 1), (2048, 1024, 1), (512, 2048, 2)];

fn main() {
    let mut all = 0.0;
    for (rows, features, count) in LAYERS.into_iter().chain(LAST) {
        let seconds = seconds(rows, features);
        println!("{count} of {rows:>4} rows of {features:>4} weights: {seconds:7.3} s each");
        all += f64::from(count) * seconds;
    }
    println!("all layers: {all:.1} s");
}

fn seconds(rows: usize, features: usize) -> f64 {
    let mut random = fastrand::Rng::with_seed(features as u64);
    let weight: Vec<f64> = (0..rows * features).map(|_| random.f64() - 0.5).collect();
    let covariance = Mat::from_fn(features, features, |i, j| 0.8f64.powi(i.abs_diff(j) as i32));
    let zeros = Zeros::Pattern { kept: 2, of: 4 };
    let start = Instant::now();
    let hessian = Hessian::new(vec![covariance], 0.01);
    let reads = Reads::new(vec![hessian], &weight, &zeros).expect("finite numbers");
    let pruned = reads.fitted(&weight, reads.choose(&weight, zeros));
    let seconds = start.elapsed().as_secs_f64();
    let whole = |four: &[bool]| four.iter().filter(|kept| **kept).count() == 2;
    assert!(pruned.kept.chunks(4).all(whole));
    seconds
}
