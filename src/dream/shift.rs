//! Samples moved before each step: what is optimised must then hold wherever it lies, as it does in natural images, and not at one
//! grid of positions that strides happen to pick.

/// Samples move by up to this part of each axis, either way.
const PART: usize = 8;

/// By how many positions samples are moved along each spatial axis; what leaves at one end comes in at the other.
pub struct Shift(Vec<usize>);

impl Shift {
    /// Any shift of samples `[C, ...]`.
    pub fn random(sample: &[usize], generator: &mut fastrand::Rng) -> Shift {
        let spatial = sample.get(1..).unwrap_or_default();
        let along = |n: &usize| (n + generator.usize(0..=2 * (n / PART)) - n / PART) % n.max(&1);
        Shift(spatial.iter().map(along).collect())
    }

    /// Moves samples of this shape.
    pub fn apply(&self, sample: &[usize], elements: &mut [f32]) {
        self.each_block(sample, elements, |block, by| block.rotate_right(by));
    }

    /// Moves them back.
    pub fn undo(&self, sample: &[usize], elements: &mut [f32]) {
        self.each_block(sample, elements, |block, by| block.rotate_left(by));
    }

    fn each_block(&self, sample: &[usize], elements: &mut [f32], turn: impl Fn(&mut [f32], usize)) {
        for (axis, by) in self.0.iter().enumerate().filter(|(_, by)| **by > 0) {
            let inner: usize = sample[axis + 2..].iter().product();
            let blocks = elements.chunks_exact_mut((sample[axis + 1] * inner).max(1));
            blocks.for_each(|block| turn(block, by * inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_moves_rows_and_columns_around_and_back() {
        let sample = [2, 2, 3];
        let all: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let shift = Shift(vec![1, 2]);
        let mut moved = all.clone();
        shift.apply(&sample, &mut moved);
        assert_eq!(moved[..6], [4.0, 5.0, 3.0, 1.0, 2.0, 0.0]);
        shift.undo(&sample, &mut moved);
        assert_eq!(moved, all);
    }

    #[test]
    fn short_axes_stay() {
        let mut generator = fastrand::Rng::with_seed(0);
        let all: Vec<Shift> = (0..99)
            .map(|_| Shift::random(&[3, 7, 16], &mut generator))
            .collect();
        assert!(
            all.iter()
                .all(|shift| shift.0[0] == 0 && [0, 1, 2, 14, 15].contains(&shift.0[1]))
        );
        assert!(all.iter().any(|shift| shift.0[1] == 14));
        assert_eq!(Shift::random(&[5], &mut generator).0, [0; 0]);
    }
}
