use super::*;

fn problem(n: usize, outputs: usize) -> (Mat<f64>, Mat<f64>) {
    let noise = |a: f64, b: f64| ((a * 12.9898 + b * 78.233).sin() * 43758.5453).fract();
    let features = Mat::from_fn(n, 3 * n, |i, t| noise(i as f64, t as f64));
    let gram = &features * features.transpose();
    let weight = Mat::from_fn(outputs, n, |o, i| noise(o as f64 + 0.3, i as f64));
    (gram, weight)
}

/// The squared error without some features, the others refitted.
fn error(gram: &Mat<f64>, weight: &Mat<f64>, kept: &[usize]) -> f64 {
    let best = compensate(gram, weight, kept).unwrap();
    let mut difference = weight.clone();
    for (a, j) in kept.iter().enumerate() {
        for o in 0..weight.nrows() {
            difference[(o, *j)] -= best[(o, a)];
        }
    }
    let through = &difference * gram * difference.transpose();
    (0..weight.nrows()).map(|o| through[(o, o)]).sum()
}

/// As the covariance of channels that hardly vary about large means comes out.
#[test]
fn a_matrix_that_rounding_has_made_indefinite_is_regularised() {
    let (mut gram, weight) = problem(6, 2);
    let direction = [1.0, -1.0, 0.5, 0.0, 0.0, 0.0];
    let of = |gram: &Mat<f64>| {
        let through = |i: usize| (0..6).map(|j| gram[(i, j)] * direction[j]).sum::<f64>();
        (0..6).map(|i| direction[i] * through(i)).sum::<f64>()
    };
    let (energy, norm) = (of(&gram), 2.25f64);
    // Takes all that there is in this direction, and a little more.
    for i in 0..6 {
        for j in 0..6 {
            gram[(i, j)] -= 1.001 * energy * direction[i] * direction[j] / (norm * norm);
        }
    }
    assert!(of(&gram) < 0.0 && gram.llt(Side::Lower).is_err());
    let found = eliminate(&gram, &weight, Criterion::Backward, 4).unwrap();
    assert_eq!(found.order.len(), 4);
    assert!(
        found
            .loss
            .iter()
            .all(|loss| loss.is_finite() && *loss >= 0.0)
    );
    assert!(
        compensate(&gram, &weight, &[0, 1, 2, 3])
            .unwrap()
            .is_all_finite()
    );
    gram[(0, 0)] = f64::NAN;
    assert!(eliminate(&gram, &weight, Criterion::Backward, 4).is_none());
}

#[test]
fn losses_are_those_of_a_refit_and_each_removal_is_the_cheapest() {
    let (gram, weight) = problem(7, 3);
    let found = eliminate(&gram, &weight, Criterion::Backward, usize::MAX).unwrap();
    for gone in 0..7 {
        let kept: Vec<usize> = found.order[gone..].to_vec();
        let exact = error(&gram, &weight, &kept);
        assert!((exact - found.loss[gone]).abs() < 1e-8 * (1.0 + exact));
        for other in 1..kept.len() {
            let without = |at: usize| -> Vec<usize> {
                let others = kept.iter().enumerate().filter(|(i, _)| *i != at);
                others.map(|(_, j)| *j).collect()
            };
            let (best, worse) = (without(0), without(other));
            assert!(error(&gram, &weight, &best) <= error(&gram, &weight, &worse) + 1e-9);
        }
    }
}

#[test]
fn what_is_made_of_others_goes_first_and_costs_nothing_whatever_the_criterion() {
    let (mut gram, weight) = problem(5, 2);
    // Feature 3 becomes the sum of 0 and 1.
    for i in [0, 1, 2, 4] {
        let sum = gram[(0, i)] + gram[(1, i)];
        (gram[(3, i)], gram[(i, 3)]) = (sum, sum);
    }
    gram[(3, 3)] = gram[(0, 0)] + gram[(1, 1)] + 2.0 * gram[(0, 1)];
    for criterion in ALL {
        let found = eliminate(&gram, &weight, criterion, 3).unwrap();
        assert!([0, 1, 3].contains(&found.order[0]));
        assert!(found.loss[1] < 1e-9 && found.loss[2] > 1e-6);
        let kept: Vec<usize> = (0..5).filter(|j| !found.order.contains(j)).collect();
        assert!((error(&gram, &weight, &kept) - found.loss[3]).abs() < 1e-8);
    }
}

#[test]
fn digits_lost_to_features_nearly_made_of_others_are_computed_anew() {
    let (gram, weight) = problem(6, 3);
    let mut mix = Mat::<f64>::identity(6, 6);
    // Feature 5 is nearly feature 0.
    (mix[(5, 5)], mix[(5, 0)]) = (3e-6, 1.0);
    let gram = &mix * gram * mix.transpose();
    let found = eliminate(&gram, &weight, Criterion::Backward, 4).unwrap();
    let kept: Vec<usize> = (0..6).filter(|j| !found.order.contains(j)).collect();
    let exact = error(&gram, &weight, &kept);
    assert!((found.loss[4] / exact - 1.0).abs() < 1e-6);
}

#[test]
fn the_inverse_that_is_brought_down_is_that_of_what_is_left() {
    let (gram, weight) = problem(9, 3);
    let mut left = Left::new(gram.clone(), inverse(&gram).unwrap(), weight);
    for j in [4, 0, 7, 8] {
        left.remove(j).unwrap();
        let anew = inverse(&submatrix(&gram, &left.features)).unwrap();
        let down = submatrix(&left.inverse, &left.features);
        assert!((anew.as_ref() - down).norm_max() < 1e-9 * anew.norm_max());
    }
}

#[test]
fn nothing_is_said_of_what_is_not_finite() {
    let (mut gram, weight) = problem(3, 2);
    gram[(1, 1)] = f64::NAN;
    assert!(eliminate(&gram, &weight, Criterion::Backward, 1).is_none());
}

const ALL: [Criterion; 4] = [
    Criterion::Backward,
    Criterion::Forward,
    Criterion::Pivot,
    Criterion::Norm,
];

#[test]
fn every_criterion_says_what_it_loses_and_backward_does_not_lose_most() {
    let (gram, weight) = problem(8, 5);
    let mut losses = Vec::new();
    for criterion in ALL {
        let found = eliminate(&gram, &weight, criterion, 8).unwrap();
        for gone in 0..8 {
            let exact = error(&gram, &weight, &found.order[gone..]);
            assert!((exact - found.loss[gone]).abs() < 1e-8 * (1.0 + exact));
        }
        losses.push(found.loss[4]);
    }
    let worst = losses.iter().fold(0.0f64, |a, b| a.max(*b));
    assert!(losses[0] < worst);
}
