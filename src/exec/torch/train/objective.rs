//! What training makes small: cross-entropy with the labels, and the divergence from a teacher's answers.

use tch::{Kind, Reduction, TchError, Tensor};

/// The terms of the loss, each of weight 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Objective {
    /// Cross-entropy with the labels.
    pub labels: bool,
    /// KL(teacher || student) of the answers' softmax at this temperature, without a factor of its square.
    pub temperature: Option<f64>,
}

impl Objective {
    /// The mean loss of answers `[n, classes, ..]`, the teacher's being of the same shape and labels `[n]`.
    pub(super) fn loss(
        &self,
        answers: &Tensor,
        teacher: Option<&Tensor>,
        labels: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let by_labels = match labels.filter(|_| self.labels) {
            Some(labels) => {
                let scores = answers.f_flatten(1, -1)?.f_log_softmax(1, None)?;
                Some(scores.f_nll_loss(labels, None::<&Tensor>, Reduction::Mean, -100)?)
            }
            None => None,
        };
        let by_teacher = match (self.temperature, teacher) {
            (Some(temperature), Some(teacher)) => {
                let soft = |x: &Tensor| x.f_div_scalar(temperature)?.f_log_softmax(1, None);
                let divergence = soft(answers)?.f_kl_div(&soft(teacher)?, Reduction::None, true)?;
                let over_classes = divergence.f_sum_dim_intlist(1, false, None::<Kind>)?;
                Some(over_classes.f_mean(None)?)
            }
            _ => None,
        };
        match (by_labels, by_teacher) {
            (Some(a), Some(b)) => a.f_add(&b),
            (Some(loss), None) | (None, Some(loss)) => Ok(loss),
            (None, None) => answers.f_sum(None)?.f_mul_scalar(0.0),
        }
    }
}

/// How many answers `[n, classes, ..]` are largest at their label.
pub(super) fn right(answers: &Tensor, labels: &Tensor) -> Result<i64, TchError> {
    let class = answers.f_flatten(1, -1)?.f_argmax(1, false)?;
    let right = class.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
    right.f_int64_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_what_their_formulas_say() -> Result<(), TchError> {
        let answers = Tensor::from_slice(&[1.0, 2.0, 0.5, -1.0, 0.0, 3.0]).reshape([2, 3]);
        let teacher = Tensor::from_slice(&[0.5, 2.5, 0.0, 0.0, 1.0, 1.0]).reshape([2, 3]);
        let labels = Tensor::from_slice(&[1i64, 2]);
        let of = |labelled, temperature| {
            let objective = Objective {
                labels: labelled,
                temperature,
            };
            let loss = objective.loss(&answers, Some(&teacher), Some(&labels))?;
            loss.f_double_value(&[])
        };
        let soft = |x: &Tensor, row, class, t: f64| {
            let e = |class| (x.double_value(&[row, class]) / t).exp();
            e(class) / (0..3).map(e).sum::<f64>()
        };
        let cross = -(soft(&answers, 0, 1, 1.0).ln() + soft(&answers, 1, 2, 1.0).ln()) / 2.0;
        let mut divergence = 0.0;
        for (row, class) in (0..2).flat_map(|row| (0..3).map(move |class| (row, class))) {
            let p = soft(&teacher, row, class, 2.0);
            divergence += p * (p / soft(&answers, row, class, 2.0)).ln() / 2.0;
        }
        assert!((of(true, None)? - cross).abs() < 1e-12);
        assert!((of(false, Some(2.0))? - divergence).abs() < 1e-12);
        assert!((of(true, Some(2.0))? - cross - divergence).abs() < 1e-12);
        assert_eq!(right(&answers, &labels)?, 2);
        Ok(())
    }
}
