//! What a layer reads, and which way of pruning it is worth.

use super::{Factor, Hessian, Pruned, Traces, Zeros, fit, sweep};

/// The most work that the rows of a layer may take, as the sum of the cubes of the features of each: some seconds.
const MOST_WORK: usize = 1 << 36;

/// What a layer reads, as it takes to choose weights and to make up for them.
pub struct Reads {
    /// The covariance of each group's features.
    groups: Vec<(Hessian, Factor)>,
    /// The best order of each row, where that is not too much work.
    traces: Option<Traces>,
}

impl Reads {
    /// Of a layer with this weight, which has as many rows in each of one or more groups, to be pruned in this form; `None` where a
    /// covariance has no inverse.
    pub fn new(groups: Vec<Hessian>, weight: &[f64], zeros: &Zeros) -> Option<Reads> {
        let groups = groups.into_iter().map(|hessian| {
            let factor = hessian.factor()?;
            Some((hessian, factor))
        });
        let mut reads = Reads {
            groups: groups.collect::<Option<_>>()?,
            traces: None,
        };
        if reads.groups.is_empty() {
            return None;
        }
        reads.traces = reads.traced(weight, zeros);
        Some(reads)
    }

    /// Which weights are zero; what the others become only where a sweep says it on the way.
    pub fn choose(&self, weight: &[f64], zeros: Zeros) -> Pruned {
        let Some(traces) = &self.traces else {
            return self.swept(weight, zeros);
        };
        let count = match zeros {
            Zeros::Share { share, .. } => (share * weight.len() as f64).round() as usize,
            Zeros::Pattern { .. } => usize::MAX,
        };
        let mut kept = vec![true; weight.len()];
        Pruned {
            loss: traces.choose(count, &mut kept),
            weight: weight.to_vec(),
            kept,
        }
    }

    /// The traces of all rows, where they can say what is asked and are not too much work.
    fn traced(&self, weight: &[f64], zeros: &Zeros) -> Option<Traces> {
        let size = weight.len() / self.groups.len();
        let work =
            |(_, factor): &(Hessian, Factor)| Traces::work(factor, size / factor.features().max(1));
        let fit = |(_, factor): &(Hessian, Factor)| Traces::fit(factor, zeros);
        let work: usize = self.groups.iter().map(work).sum();
        if work > MOST_WORK || !self.groups.iter().all(fit) {
            return None;
        }
        let mut traces = Traces::default();
        for (i, ((_, factor), rows)) in self.of_groups(weight).enumerate() {
            traces.add(factor, rows, i * size, zeros);
        }
        Some(traces)
    }

    /// What each group reads, and its rows.
    fn of_groups<'r, T>(
        &'r self,
        rows: &'r [T],
    ) -> impl Iterator<Item = (&'r (Hessian, Factor), &'r [T])> {
        let size = (rows.len() / self.groups.len()).max(1);
        self.groups.iter().zip(rows.chunks(size))
    }

    /// How much what rows give varies in all.
    pub fn squared(&self, rows: &[f64]) -> f64 {
        let groups = self.of_groups(rows);
        groups.map(|((of, _), rows)| of.energy(rows)).sum()
    }

    /// The sweep over each group.
    fn swept(&self, weight: &[f64], zeros: Zeros) -> Pruned {
        let mut all = Pruned {
            weight: Vec::with_capacity(weight.len()),
            kept: Vec::with_capacity(weight.len()),
            loss: 0.0,
        };
        for ((_, factor), rows) in self.of_groups(weight) {
            let pruned = sweep(factor, rows, zeros, all.weight.len());
            all.weight.extend(pruned.weight);
            all.kept.extend(pruned.kept);
            all.loss += pruned.loss;
        }
        all
    }

    /// The weights that stay, fitted at once. Where that is too much work they are what a sweep made of them, which lets each make up
    /// only for those before it.
    pub fn fitted(&self, weight: &[f64], pruned: Pruned) -> Pruned {
        let row = self.groups[0].1.features();
        let work = |kept: &[bool]| kept.iter().filter(|kept| **kept).count().pow(3);
        let work: usize = pruned.kept.chunks(row).map(work).sum();
        if work > MOST_WORK {
            return pruned;
        }
        let pairs = self.of_groups(weight).zip(self.of_groups(&pruned.kept));
        let fitted = pairs.map(|(((of, _), rows), (_, kept))| fit(of, rows, kept));
        match fitted.collect::<Option<Vec<_>>>() {
            Some(fitted) => Pruned {
                weight: fitted.concat(),
                ..pruned
            },
            None => pruned,
        }
    }
}
