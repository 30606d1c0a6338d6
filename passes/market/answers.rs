//! Answers: what an output says, so that it can be told whether it still says the same.
//!
//! Scores of classes, boxes, features and the states of recurrent layers have the same types, and to compare the largest element of a
//! state says nothing. Scores are trained to be sure: as probabilities the largest has most of the sum. What is no score is spread
//! nearly evenly. Likewise a map of yes and no is sure nearly everywhere.

use ndarray::ArrayViewD;

use crate::exec::difference::class_axis;

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// The largest element.
    Class,
    /// The places with more than a half.
    Places,
    /// Every element, which is a whole number.
    Whole,
    /// Numbers, whose differences count.
    Number,
}

impl Answer {
    /// What an output of floating point numbers answers, given what it is for some samples.
    pub(super) fn of<'x>(samples: impl Iterator<Item = ArrayViewD<'x, f32>> + Clone) -> Answer {
        if tells_classes(samples.clone()) {
            Answer::Class
        } else if tells_places(samples) {
            Answer::Places
        } else {
            Answer::Number
        }
    }
}

/// The share of elements of a map that may be undecided.
const UNDECIDED: f64 = 0.2;

/// Whether an output is a map of probabilities, of which nearly all are close to 0 or 1 and some are more than a half.
fn tells_places<'x>(mut samples: impl Iterator<Item = ArrayViewD<'x, f32>>) -> bool {
    let (mut all, mut open, mut yes) = (0, 0, 0);
    let are_shares = samples.all(|sample| {
        all += sample.len();
        open += sample.iter().filter(|x| **x > 0.1 && **x < 0.9).count();
        yes += sample.iter().filter(|x| **x > 0.5).count();
        sample.ndim() > 2 && sample.iter().all(|x| (0.0..=1.0).contains(x))
    });
    are_shares && yes > 0 && open as f64 <= UNDECIDED * all as f64
}

/// The share of the places that are in both of those that are in either; 1 where there are none.
pub(super) fn overlap(before: &ArrayViewD<f32>, after: &ArrayViewD<f32>) -> f64 {
    let (mut both, mut either) = (0usize, 0usize);
    for (a, b) in before.iter().zip(after.iter()) {
        both += usize::from(*a > 0.5 && *b > 0.5);
        either += usize::from(*a > 0.5 || *b > 0.5);
    }
    match either {
        0 => 1.0,
        either => both as f64 / either as f64,
    }
}

/// How much of the sum the largest of `classes` probabilities has on average, at least, for it to be an answer: twice what it had
/// if all were equal, within bounds.
fn sure(classes: usize) -> f64 {
    (2.0 / classes as f64).clamp(0.2, 0.75)
}

/// The same where each class has a probability of its own, which says more of those of neighbours: eight times what it had.
fn sure_alone(classes: usize) -> f64 {
    (8.0 / classes as f64).clamp(0.05, 0.75)
}

/// Whether an output tells classes, given what it is for some samples.
fn tells_classes<'x>(samples: impl Iterator<Item = ArrayViewD<'x, f32>>) -> bool {
    let (mut places, mut sum, mut classes) = (0.0, 0.0, 0);
    let mut are_alone = true;
    for sample in samples {
        let Some(axis) = class_axis(sample.ndim()) else {
            return false;
        };
        classes = sample.len_of(axis);
        for scores in sample.lanes(axis) {
            places += 1.0;
            are_alone &= are_probabilities(scores.iter().copied());
            sum += largest_share(scores.iter().map(|score| f64::from(*score)));
        }
    }
    let least = if are_alone {
        sure_alone(classes)
    } else {
        sure(classes)
    };
    classes > 1 && places > 0.0 && sum / places >= least
}

/// Whether these are probabilities that do not add up to 1: each class has one of its own.
fn are_probabilities(scores: impl Iterator<Item = f32> + Clone) -> bool {
    let sum: f32 = scores.clone().sum();
    (sum - 1.0).abs() >= 1e-3 && scores.into_iter().all(|score| (0.0..=1.0).contains(&score))
}

/// The share that the largest has: of scores that are probabilities, or of their softmax.
fn largest_share(scores: impl Iterator<Item = f64> + Clone) -> f64 {
    let sum: f64 = scores.clone().sum();
    let largest = scores.clone().fold(f64::NEG_INFINITY, f64::max);
    let are_shares = (sum - 1.0).abs() < 1e-3 && scores.clone().all(|score| score >= 0.0);
    if are_shares {
        return largest;
    }
    if are_probabilities(scores.clone().map(|score| score as f32)) {
        return largest / sum.max(f64::MIN_POSITIVE);
    }
    scores
        .map(|score| (score - largest).exp())
        .sum::<f64>()
        .recip()
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;

    fn tells(shape: &[usize], of: impl Fn(usize) -> f32) -> bool {
        let elements = (0..shape.iter().product()).map(of).collect();
        let array = ArrayD::from_shape_vec(shape, elements).unwrap();
        tells_classes([array.view()].into_iter())
    }

    #[test]
    fn maps_of_yes_and_no_are_compared_where_they_say_yes() {
        let map = |yes: std::ops::Range<usize>| {
            let element = |i| if yes.contains(&i) { 0.97 } else { 0.01 };
            ArrayD::from_shape_vec(vec![1, 1, 4, 4], (0..16).map(element).collect()).unwrap()
        };
        let [a, b] = [map(0..8), map(2..10)];
        assert_eq!(Answer::of([a.view()].into_iter()), Answer::Places);
        assert_eq!(overlap(&a.view(), &b.view()), 0.6);
        let undecided = a.mapv(|x| 0.5 * x + 0.2);
        assert_eq!(Answer::of([undecided.view()].into_iter()), Answer::Number);
        let none = map(0..0);
        assert_eq!(Answer::of([none.view()].into_iter()), Answer::Number);
        assert_eq!(overlap(&none.view(), &none.view()), 1.0);
    }

    #[test]
    fn sure_scores_tell_classes_and_even_ones_do_not() {
        // Logits of which one is larger, and their probabilities.
        assert!(tells(&[2, 10], |i| if i % 10 == 3 { 8.0 } else { 0.0 }));
        assert!(tells(&[2, 10], |i| if i % 10 == 3 { 0.91 } else { 0.01 }));
        // A pitch, as the probability of each of many bins.
        let pitch = |i: usize| (-(i as f32 - 180.0).powi(2) / 20.0).exp();
        assert!(tells(&[1, 360], |i| 0.7 * pitch(i)));
        // A state, and the four numbers of a box.
        assert!(!tells(&[1, 1, 128], |i| (i as f32).sin()));
        assert!(!tells(&[2, 4], |i| [0.1, 0.2, 0.8, 0.9][i % 4]));
        // One map has no classes, two have; a number is none.
        assert!(!tells(&[1, 1, 4, 4], |i| i as f32));
        assert!(tells(&[1, 2, 4, 4], |i| if i < 16 { 9.0 } else { 0.0 }));
        assert!(!tells(&[2, 1], |i| i as f32));
        assert!(!tells(&[], |_| 1.0));
    }
}
