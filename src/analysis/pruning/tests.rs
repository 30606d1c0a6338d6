use faer::Mat;

use super::*;

fn noise(i: usize, j: usize) -> f64 {
    ((i as f64 * 12.9898 + j as f64 * 78.233).sin() * 43758.5453).fract()
}

fn covariance(n: usize) -> Mat<f64> {
    let samples = Mat::from_fn(n, 2 * n, noise);
    &samples * samples.transpose()
}

fn rows(outputs: usize, n: usize) -> Vec<f64> {
    (0..outputs * n).map(|i| noise(i / n + 77, i % n)).collect()
}

fn share(share: f64) -> Zeros {
    let block = [1, 1];
    Zeros::Share { share, block }
}

/// The squared error of all rows, from its definition.
fn error(covariance: &Mat<f64>, before: &[f64], after: &[f64]) -> f64 {
    let n = covariance.nrows();
    let lost: Vec<f64> = before.iter().zip(after).map(|(a, b)| a - b).collect();
    let at = |row: &[f64], i: usize, j: usize| row[i] * covariance[(i, j)] * row[j];
    let of_row = |row: &[f64]| -> f64 {
        let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
        pairs.map(|(i, j)| at(row, i, j)).sum()
    };
    lost.chunks(n).map(of_row).sum()
}

#[test]
fn the_weight_that_stays_is_the_least_squares_solution() {
    // The inverse is 1/3 [2, -1; -1, 2]. Without the first weight the second becomes 2 + 1 * 1/2, and what is lost is
    // 1 / (2/3) = 3/2; without the second it would be 4 / (1/2) = 8, as the first is there no more to make up for it.
    let hessian = Hessian::new(vec![faer::mat![[2.0, 1.0], [1.0, 2.0]]], 0.0);
    let pruned = sweep(&hessian.factor().unwrap(), &[1.0, 2.0], share(0.5), 0);
    assert_eq!(pruned.kept, [false, true]);
    assert!((pruned.weight[1] - 2.5).abs() < 1e-12 && pruned.weight[0] == 0.0);
    assert!((pruned.loss - 1.5).abs() < 1e-12);
    // The sweep does not change what is left of a zero; the fit does: 2 + 1/2 there, too.
    let fitted = fit(&hessian, &[2.0, 1.0], &[true, false]).unwrap();
    assert!((fitted[0] - 2.5).abs() < 1e-12 && fitted[1] == 0.0);
}

#[test]
fn what_the_sweep_counts_is_what_the_result_loses() {
    // Several chunks of columns, and features in two blocks.
    let (a, b) = (covariance(100), covariance(60));
    let n = a.nrows() + b.nrows();
    let whole = Mat::from_fn(n, n, |i, j| match (i < 100, j < 100) {
        (true, true) => a[(i, j)],
        (false, false) => b[(i - 100, j - 100)],
        _ => 0.0,
    });
    let hessian = Hessian::new(vec![a, b], 0.0);
    let weight = rows(8, n);
    assert!(
        (hessian.energy(&weight) / error(&whole, &weight, &vec![0.0; 8 * n]) - 1.0).abs() < 1e-9
    );
    let (kept, of) = (2, 4);
    let block = [4, 8];
    let half = Zeros::Share { share: 0.5, block };
    for zeros in [share(0.6), half, Zeros::Pattern { kept, of }] {
        let pruned = sweep(&hessian.factor().unwrap(), &weight, zeros, 0);
        let lost = error(&whole, &weight, &pruned.weight);
        assert!(
            (pruned.loss / lost - 1.0).abs() < 1e-6,
            "{zeros:?}: {} {lost}",
            pruned.loss
        );
        let fitted = fit(&hessian, &weight, &pruned.kept).unwrap();
        assert!(error(&whole, &weight, &fitted) <= lost);
        for ((kept, after), fitted) in pruned.kept.iter().zip(&pruned.weight).zip(&fitted) {
            assert!(*kept || *after == 0.0 && *fitted == 0.0);
        }
    }
}

#[test]
fn zeros_are_where_they_may_be() {
    let n = 320;
    let hessian = Hessian::new(vec![covariance(n)], 0.01);
    let factor = hessian.factor().unwrap();
    let weight = rows(8, n);
    let pruned = sweep(&factor, &weight, Zeros::Pattern { kept: 2, of: 4 }, 0);
    for group in pruned.kept.chunks(4) {
        assert_eq!(group.iter().filter(|kept| **kept).count(), 2);
    }
    let block = [2, 16];
    let pruned = sweep(&factor, &weight, Zeros::Share { share: 0.3, block }, 0);
    for (i, kept) in pruned.kept.iter().enumerate() {
        let (row, column) = (i / n, i % n);
        let corner = row / 2 * 2 * n + column / 16 * 16;
        assert_eq!(*kept, pruned.kept[corner]);
    }
    let zeros = |pruned: &Pruned| pruned.kept.iter().filter(|kept| !**kept).count();
    assert_eq!(
        zeros(&pruned),
        (0.3 * (8 * n / 32) as f64).round() as usize * 32
    );
    assert_eq!(zeros(&sweep(&factor, &weight, share(0.37), 0)), 947);
    // What is rounded in small parts adds up.
    let small = Hessian::new(vec![covariance(9)], 0.01).factor().unwrap();
    let parts = (0..10).map(|part| zeros(&sweep(&small, &weight[..9], share(0.5), 9 * part)));
    assert_eq!(parts.sum::<usize>(), 45);
}

#[test]
fn of_weights_beside_each_other_those_go_that_the_others_make_up_for() {
    // Features 0 and 1 are nearly the same, so either can go though both are large.
    let near = faer::mat![
        [1.0, 0.999, 0.0, 0.0],
        [0.999, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let factor = Hessian::new(vec![near], 0.0).factor().unwrap();
    let pruned = sweep(
        &factor,
        &[1.0, 1.1, 0.5, 0.2],
        Zeros::Pattern { kept: 2, of: 4 },
        0,
    );
    assert_eq!(pruned.kept, [false, true, true, false]);
    assert!((pruned.weight[1] - 2.099).abs() < 1e-9);
}

#[test]
fn without_a_covariance_the_smallest_go_and_the_others_stay() {
    let pruned = smallest(&[0.3, -0.1, 0.2, -0.4], 2, share(0.5));
    assert_eq!(pruned.weight, [0.3, 0.0, 0.0, -0.4]);
    let (kept, of) = (1, 2);
    let pruned = smallest(&[0.3, -0.1, 0.2, -0.4], 2, Zeros::Pattern { kept, of });
    assert_eq!(pruned.weight, [0.3, 0.0, 0.0, -0.4]);
    let block = [2, 1];
    let pruned = smallest(
        &[0.3, -0.1, 0.2, -0.4],
        2,
        Zeros::Share { share: 0.5, block },
    );
    assert_eq!(pruned.kept, [false, true, false, true]);
}

#[test]
fn what_is_not_finite_has_no_factor_and_what_never_varies_has() {
    let broken = Hessian::new(vec![faer::mat![[f64::NAN]]], 0.01);
    assert!(broken.factor().is_none());
    let still = Hessian::new(vec![Mat::zeros(2, 2)], 0.01);
    assert_eq!(still.factor().unwrap().at(0, 0), 1.0);
}

#[test]
fn a_trace_takes_the_best_step_each_time() {
    let hessian = Hessian::new(vec![covariance(24)], 0.01);
    let factor = hessian.factor().unwrap();
    let weight = rows(3, 24);
    let mut traces = Traces::default();
    traces.add(&factor, &weight, 0, &share(0.5));
    let mut kept = vec![true; weight.len()];
    let loss = traces.choose(30, &mut kept);
    assert_eq!(kept.iter().filter(|kept| !**kept).count(), 30);
    // What it says is what the best fit of all that stays loses, from the definition.
    let fitted = fit(&hessian, &weight, &kept).unwrap();
    let lost: Vec<f64> = weight.iter().zip(&fitted).map(|(a, b)| a - b).collect();
    assert!((hessian.energy(&lost) / loss - 1.0).abs() < 1e-9);
    let swept = sweep(&factor, &weight, share(30.0 / 72.0), 0);
    assert!(loss < swept.loss, "{loss} {}", swept.loss);
    // The first step of each row, tried out.
    for (o, row) in weight.chunks(24).enumerate() {
        let without = |i: usize| {
            let kept: Vec<bool> = (0..24).map(|j| j != i).collect();
            let fitted = fit(&hessian, row, &kept).unwrap();
            let lost: Vec<f64> = row.iter().zip(&fitted).map(|(a, b)| a - b).collect();
            hessian.energy(&lost)
        };
        let best = (0..24).min_by(|a, b| without(*a).total_cmp(&without(*b)));
        assert!(!kept[o * 24 + best.unwrap()]);
    }
}

#[test]
fn a_trace_keeps_to_a_pattern() {
    let hessian = Hessian::new(vec![covariance(32)], 0.01);
    let factor = hessian.factor().unwrap();
    let weight = rows(5, 32);
    let (kept, of) = (2, 4);
    let zeros = Zeros::Pattern { kept, of };
    let mut traces = Traces::default();
    traces.add(&factor, &weight, 0, &zeros);
    let mut stays = vec![true; weight.len()];
    let loss = traces.choose(usize::MAX, &mut stays);
    for four in stays.chunks(4) {
        assert_eq!(four.iter().filter(|kept| **kept).count(), 2);
    }
    assert!(loss < sweep(&factor, &weight, zeros, 0).loss);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let weight = rows(40, 160);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let hessian = Hessian::new(vec![covariance(160)], 0.01);
            let pruned = sweep(&hessian.factor().unwrap(), &weight, share(0.6), 0);
            let fitted = fit(&hessian, &weight, &pruned.kept).unwrap();
            (pruned.weight, pruned.loss.to_bits(), fitted)
        })
    };
    assert!(on(1) == on(3));
}
