//! Which neurons of a layer are near each other: clusters by the distance of what they compute, after the activation (ours).
//!
//! A layer's results are taken as jointly Gaussian, by their moments. An activation of one makes a sum of Hermite polynomials of
//! it, and with these the covariance of two activations is a power series in the correlation of the results (Mehler). So the
//! distance of any two neurons, and of any average of neurons to its members, follows from moments alone.

use faer::Mat;

use crate::analysis::moments::gaussian_points;
use crate::ir::Op;

/// Polynomials that an activation is made of, about.
const TERMS: usize = 16;

/// The least deviation of a neuron to reckon with, relative to the largest in the layer: others never change.
const LEAST: f64 = 1e-3;

/// The neurons of a layer.
pub struct Neurons {
    /// Their means, before the activation.
    pub mean: Vec<f64>,
    /// Their covariance, before the activation.
    pub covariance: Mat<f64>,
    /// What follows, one function after the other.
    pub activation: Vec<Op>,
    /// How much an error of each neuron counts, by its variance.
    pub weight: Vec<f64>,
    /// Whether a positive factor of a neuron passes to whoever reads it, so that neurons are compared up to that.
    pub scales: bool,
}

/// Neurons that become one, an average of them, each with a factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The members, ascending.
    pub members: Vec<usize>,
    /// How much of each the average holds.
    pub parts: Vec<f64>,
    /// The factor by which the average stands for each.
    pub scales: Vec<f64>,
    /// What the mean of each loses by that, after the activation.
    pub lost: Vec<f64>,
    /// Squared error of all members, each by its weight.
    error: f64,
}

impl Cluster {
    /// Makes of one number for each neuron the average for those of the cluster, times their factors.
    pub fn average(&self, numbers: &mut [f64]) {
        let parts = self.members.iter().zip(&self.parts);
        let average: f64 = parts.map(|(j, part)| part * numbers[*j]).sum();
        for (j, scale) in self.members.iter().zip(&self.scales) {
            numbers[*j] = scale * average;
        }
    }
}

/// A function of a Gaussian variable, as normalised Hermite polynomials.
struct Series([f64; TERMS]);

impl Series {
    /// An activation of a Gaussian variable.
    fn of(mean: f64, variance: f64, activation: &[Op]) -> Series {
        let deviation = variance.max(0.0).sqrt();
        let mut values: Vec<f64> = gaussian_points()
            .map(|(x, _)| mean + deviation * x)
            .collect();
        for op in activation {
            op.apply(&mut values);
        }
        let mut series = [0.0; TERMS];
        if deviation == 0.0 {
            // What a constant becomes is one, and the end of the range no variance.
            series[0] = values[0];
            return Series(series);
        }
        let mut total = 0.0;
        for ((x, density), value) in gaussian_points().zip(values) {
            total += density;
            let (mut polynomial, mut before) = (1.0, 0.0);
            for (n, term) in series.iter_mut().enumerate() {
                *term += density * value * polynomial;
                let n = n as f64;
                let next = (x * polynomial - n.sqrt() * before) / (n + 1.0).sqrt();
                (polynomial, before) = (next, polynomial);
            }
        }
        Series(series.map(|term| term / total))
    }

    fn mean(&self) -> f64 {
        self.0[0]
    }

    fn variance(&self) -> f64 {
        self.covariance(self, 1.0)
    }

    /// The covariance of two, the variables correlating so.
    fn covariance(&self, other: &Series, correlation: f64) -> f64 {
        let terms = self.0.iter().zip(&other.0).skip(1);
        let sum = |(sum, power): (f64, f64), (a, b): (&f64, &f64)| {
            (sum + power * a * b, power * correlation)
        };
        terms.fold((0.0, correlation), sum).0
    }
}

impl Neurons {
    /// The largest clusters whose error is at most this, relative to what the layer computes and not squared; with the error
    /// that they have. Clusters of one neuron are left out.
    pub fn within(&self, error: f64) -> (Vec<Cluster>, f64) {
        let outcomes = self.outcomes();
        let energies = outcomes.series.iter().zip(&self.weight);
        let (energy, size) = energies.fold((0.0, 0.0), |(energy, size), (s, weight)| {
            let variance = weight * s.variance();
            (
                energy + variance,
                size + variance + weight * s.mean().powi(2),
            )
        });
        // What never varies has rounding alone to lose.
        let energy = f64::max(energy, LEAST.powi(4) * size);
        let order = self.order(&outcomes);
        let of = |merges: usize| {
            let clusters = self.clusters(&order[..merges], &outcomes);
            let lost: f64 = clusters.iter().map(|cluster| cluster.error).sum();
            let relative = (lost.max(0.0) / energy.max(f64::MIN_POSITIVE)).sqrt();
            (clusters, relative)
        };
        let (mut best, mut low, mut high) = ((Vec::new(), 0.0), 0, order.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            let found = of(middle);
            if found.1 <= error {
                (best, low) = (found, middle);
            } else {
                high = middle - 1;
            }
        }
        best
    }

    fn outcomes(&self) -> Outcomes {
        let of =
            |(j, mean): (usize, &f64)| Series::of(*mean, self.covariance[(j, j)], &self.activation);
        let series: Vec<Series> = self.mean.iter().enumerate().map(of).collect();
        let deviation = |s: &Series| s.variance().max(0.0).sqrt();
        let largest = series.iter().map(deviation).fold(0.0, f64::max);
        // Where nothing varies there is nothing to go by.
        let scale = |s: &Series| {
            if self.scales && largest > 0.0 {
                (deviation(s) / largest).max(LEAST)
            } else {
                1.0
            }
        };
        Outcomes {
            scale: series.iter().map(scale).collect(),
            series,
        }
    }

    fn correlation(&self, covariance: f64, variances: [f64; 2]) -> f64 {
        let deviations = (variances[0] * variances[1]).sqrt();
        if deviations > 0.0 {
            (covariance / deviations).clamp(-1.0, 1.0)
        } else {
            0.0
        }
    }

    /// Pairs of clusters that become one, each named by its least member, what adds the least error first (Ward).
    fn order(&self, outcomes: &Outcomes) -> Vec<(usize, usize)> {
        let n = self.mean.len();
        let Outcomes { series, scale } = outcomes;
        let mut weight: Vec<f64> = self
            .weight
            .iter()
            .zip(scale)
            .map(|(w, s)| w * s * s)
            .collect();
        let variance: Vec<f64> = series.iter().map(Series::variance).collect();
        let mut cost = Mat::from_fn(n, n, |i, j| {
            let [vi, vj] = [i, j].map(|k| self.covariance[(k, k)]);
            let correlation = self.correlation(self.covariance[(i, j)], [vi, vj]);
            let covariance = series[i].covariance(&series[j], correlation) / (scale[i] * scale[j]);
            let distance =
                variance[i] / scale[i].powi(2) + variance[j] / scale[j].powi(2) - 2.0 * covariance;
            weight[i] * weight[j] * distance / (weight[i] + weight[j]).max(f64::MIN_POSITIVE)
        });
        let mut alive: Vec<usize> = (0..n).collect();
        let nearest = |cost: &Mat<f64>, alive: &[usize], i: usize| -> usize {
            let others = alive.iter().copied().filter(|j| *j != i);
            others
                .min_by(|a, b| cost[(i, *a)].total_cmp(&cost[(i, *b)]))
                .unwrap_or(i)
        };
        let mut near: Vec<usize> = (0..n).map(|i| nearest(&cost, &alive, i)).collect();
        let mut order = Vec::with_capacity(n.saturating_sub(1));
        while alive.len() > 1 {
            let least =
                |a: &&usize, b: &&usize| cost[(**a, near[**a])].total_cmp(&cost[(**b, near[**b])]);
            let Some(i) = alive.iter().min_by(least).copied() else {
                break;
            };
            let (a, b) = (i.min(near[i]), i.max(near[i]));
            order.push((a, b));
            alive.retain(|k| *k != b);
            for k in alive.iter().copied().filter(|k| *k != a) {
                let all = (weight[a] + weight[b] + weight[k]).max(f64::MIN_POSITIVE);
                let merged = (weight[k] + weight[a]) * cost[(k, a)]
                    + (weight[k] + weight[b]) * cost[(k, b)]
                    - weight[k] * cost[(a, b)];
                cost[(k, a)] = merged / all;
                cost[(a, k)] = merged / all;
            }
            weight[a] += weight[b];
            for k in alive.iter().copied() {
                if k == a || near[k] == a || near[k] == b {
                    near[k] = nearest(&cost, &alive, k);
                }
            }
        }
        order
    }

    /// The clusters that these merges make.
    fn clusters(&self, merges: &[(usize, usize)], outcomes: &Outcomes) -> Vec<Cluster> {
        let mut members: Vec<Vec<usize>> = (0..self.mean.len()).map(|j| vec![j]).collect();
        for (a, b) in merges {
            let moved = std::mem::take(&mut members[*b]);
            members[*a].extend(moved);
        }
        let several = members.into_iter().filter(|members| members.len() > 1);
        several
            .map(|members| self.cluster(members, outcomes))
            .collect()
    }

    fn cluster(&self, mut members: Vec<usize>, outcomes: &Outcomes) -> Cluster {
        members.sort_unstable();
        let Outcomes { series, scale } = outcomes;
        // Those that nobody reads count alike.
        let read = members.iter().any(|j| self.weight[*j] > 0.0);
        let counts = |j: &usize| if read { self.weight[*j] } else { 1.0 } * scale[*j];
        let total: f64 = members.iter().map(|j| counts(j) * scale[*j]).sum();
        let parts: Vec<f64> = members.iter().map(|j| counts(j) / total).collect();
        let average = |of: &dyn Fn(usize) -> f64| -> f64 {
            members
                .iter()
                .zip(&parts)
                .map(|(j, part)| part * of(*j))
                .sum()
        };
        let covariances: Vec<f64> = members
            .iter()
            .map(|j| average(&|k| self.covariance[(*j, k)]))
            .collect();
        let mean = average(&|j| self.mean[j]);
        let variance = covariances
            .iter()
            .zip(&parts)
            .map(|(c, part)| c * part)
            .sum();
        let merged = Series::of(mean, variance, &self.activation);
        let mut error = 0.0;
        for (j, covariance) in members.iter().zip(&covariances) {
            let correlation = self.correlation(*covariance, [self.covariance[(*j, *j)], variance]);
            let covariance = series[*j].covariance(&merged, correlation);
            let lost = series[*j].variance() + scale[*j].powi(2) * merged.variance()
                - 2.0 * scale[*j] * covariance;
            error += self.weight[*j] * lost.max(0.0);
        }
        Cluster {
            scales: members.iter().map(|j| scale[*j]).collect(),
            lost: members
                .iter()
                .map(|j| series[*j].mean() - scale[*j] * merged.mean())
                .collect(),
            parts,
            members,
            error,
        }
    }
}

/// What the neurons become after the activation.
struct Outcomes {
    series: Vec<Series>,
    /// The factor of each neuron to one of the variance that is compared.
    scale: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two independent inputs of variance 1, and their means.
    fn neurons(rows: &[[f64; 2]], mean: &[f64], activation: &[Op], scales: bool) -> Neurons {
        let n = rows.len();
        Neurons {
            mean: mean.to_vec(),
            covariance: Mat::from_fn(n, n, |i, j| {
                rows[i][0] * rows[j][0] + rows[i][1] * rows[j][1]
            }),
            activation: activation.to_vec(),
            weight: vec![1.0; n],
            scales,
        }
    }

    #[test]
    fn the_covariance_of_rectified_gaussians_is_integrated() {
        // Of two standard ones: (sqrt(1 - r²) + r (pi - acos r)) / 2 pi - 1 / 2 pi.
        let relu = Series::of(0.0, 1.0, &[Op::Relu {}]);
        let pi = std::f64::consts::PI;
        for r in [-0.9f64, -0.3, 0.0, 0.5, 0.9] {
            let exact = ((1.0 - r * r).sqrt() + r * (pi - r.acos()) - 1.0) / (2.0 * pi);
            assert!((relu.covariance(&relu, r) - exact).abs() < 1e-3, "{r}");
        }
        assert!((relu.mean() - 1.0 / (2.0 * pi).sqrt()).abs() < 1e-3);
    }

    #[test]
    fn equal_neurons_merge_without_error_and_proportional_ones_where_factors_pass() {
        let rows = [[1.0, 0.5], [0.0, 1.0], [1.0, 0.5], [0.0, 3.0]];
        let mean = [0.2, 0.1, 0.2, 0.3];
        let members = |activation: Op, scales: bool| -> Vec<Vec<usize>> {
            let (clusters, error) = neurons(&rows, &mean, &[activation], scales).within(1e-3);
            assert!(error < 1e-3, "{error}");
            clusters.into_iter().map(|c| c.members).collect()
        };
        assert_eq!(members(Op::Relu {}, true), [[0, 2], [1, 3]]);
        assert_eq!(members(Op::Silu {}, false), [[0, 2]]);
    }

    #[test]
    fn an_average_stands_for_its_members_by_their_factors() {
        let rows = [[1.0, 0.02], [2.0, -0.04], [-1.0, 1.0]];
        let (clusters, error) = neurons(&rows, &[0.1, 0.2, 0.0], &[Op::Relu {}], true).within(0.1);
        assert!(0.0 < error && error < 0.1);
        let [cluster] = &clusters[..] else { panic!() };
        assert_eq!(cluster.members, [0, 1]);
        let mut first = rows.map(|row| row[0]);
        cluster.average(&mut first);
        // The larger has the larger share: 2 to 1 of each's direction and size alike.
        assert!((first[1] / first[0] - 2.0).abs() < 1e-3 && first[2] == -1.0);
        let mut second = rows.map(|row| row[1]);
        cluster.average(&mut second);
        assert!(
            second[0] < 0.0 && (second[0] + 0.012).abs() < 1e-3,
            "{second:?}"
        );
        assert!(cluster.lost.iter().all(|lost| lost.abs() < 1e-2));
    }

    #[test]
    fn neurons_that_never_vary_or_that_nobody_reads_merge_by_finite_factors() {
        for (rows, weight) in [([[0.0; 2]; 3], 1.0), ([[1.0, 2.0]; 3], 0.0)] {
            let mut all = neurons(&rows, &[0.5; 3], &[Op::Relu {}], true);
            all.weight = vec![weight; 3];
            let (clusters, error) = all.within(0.1);
            assert!(clusters.len() == 1 && error < 0.1, "{error}");
            let mut numbers = [2.0; 3];
            clusters[0].average(&mut numbers);
            assert!(
                numbers.iter().all(|x| (x - 2.0f64).abs() < 1e-12),
                "{numbers:?}"
            );
        }
    }

    #[test]
    fn a_neuron_that_never_fires_merges_into_any_other() {
        let rows = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]];
        let (clusters, error) =
            neurons(&rows, &[0.0, 0.0, -9.0], &[Op::Relu {}], true).within(0.01);
        let [cluster] = &clusters[..] else { panic!() };
        assert!(cluster.members.contains(&2) && cluster.members.len() == 2 && error < 0.01);
        let mut live = rows.map(|row| row[0]);
        cluster.average(&mut live);
        let other = cluster.members[0];
        assert!((live[other] - rows[other][0]).abs() < 0.01 && live[2].abs() < 0.01);
    }
}
