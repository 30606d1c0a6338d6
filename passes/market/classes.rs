//! Classes: whether the largest element of an output is an answer.
//!
//! Scores of classes, boxes, features and the states of recurrent layers have the same types, and to compare the largest element of a
//! state says nothing. Scores are trained to be sure: as probabilities the largest has most of the sum. What is no score is spread
//! nearly evenly.

use ndarray::ArrayViewD;

use crate::exec::difference::class_axis;

/// How much of the sum the largest of `classes` probabilities has on average, at least, for it to be an answer: twice what it had
/// if all were equal, within bounds.
fn sure(classes: usize) -> f64 {
    (2.0 / classes as f64).clamp(0.2, 0.75)
}

/// Whether an output tells classes, given what it is for some samples.
pub(super) fn tells_classes<'x>(samples: impl Iterator<Item = ArrayViewD<'x, f32>>) -> bool {
    let (mut places, mut sum, mut classes) = (0.0, 0.0, 0);
    for sample in samples {
        let Some(axis) = class_axis(sample.ndim()) else {
            return false;
        };
        classes = sample.len_of(axis);
        for scores in sample.lanes(axis) {
            places += 1.0;
            sum += largest_share(scores.iter().map(|score| f64::from(*score)));
        }
    }
    classes > 1 && places > 0.0 && sum / places >= sure(classes)
}

/// The largest probability: of scores that are probabilities already, or of their softmax.
fn largest_share(scores: impl Iterator<Item = f64> + Clone) -> f64 {
    let sum: f64 = scores.clone().sum();
    let largest = scores.clone().fold(f64::NEG_INFINITY, f64::max);
    let are_shares = (sum - 1.0).abs() < 1e-3 && scores.clone().all(|score| score >= 0.0);
    if are_shares {
        return largest;
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
    fn sure_scores_tell_classes_and_even_ones_do_not() {
        // Logits of which one is larger, and their probabilities.
        assert!(tells(&[2, 10], |i| if i % 10 == 3 { 8.0 } else { 0.0 }));
        assert!(tells(&[2, 10], |i| if i % 10 == 3 { 0.91 } else { 0.01 }));
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
