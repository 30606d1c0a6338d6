//! One layer: which of its filters and which of its input channels the others replace, and by what combination.
//!
//! A layer F of n filters over c input channels becomes G F' A: F' has the filters and the channels that are kept, the 1x1
//! convolution A makes those channels from all, the 1x1 convolution G makes all results from those of the filters that are
//! kept. Both sides are eliminations: of filters by their Gram matrix, of channels by that of the slices `F[:, c]`.

use faer::{Mat, Side};

use crate::analysis::elimination::{Criterion, Elimination, compensate, eliminate, regularised};
use crate::analysis::kernels::{KernelLayout, PatchMoment};

/// What is added to the covariance of channels, relative to the mean variance, so that it has a root.
const RIDGE: f64 = 1e-6;

/// A layer's weight, and how much each part of it counts.
pub struct Weighed {
    /// How the weight lies.
    pub layout: KernelLayout,
    /// The weight.
    pub weight: Vec<f64>,
    /// The 1x1 convolutions that there are around it already.
    pub around: Around,
    /// How much each result counts, those of G if there is one, `[outputs of all groups]`.
    pub rows: Vec<f64>,
    /// The mean of each element of the patches that are read, `[inputs * taps]`, where it is known.
    pub mean: Option<Vec<f64>>,
    /// How these vary.
    pub reads: Reads,
    /// Whether channels are chosen by what becomes of the layer's result. If not, by what becomes of the filters that are
    /// kept, as the authors do.
    pub through: bool,
}

/// The 1x1 convolutions around a layer that lost some of its filters and channels before, or is about to.
#[derive(Clone, Default)]
pub struct Around {
    /// The weight of A before it, `[inputs of all groups, any number]`, row by row.
    pub squeeze: Option<Vec<f64>>,
    /// The weight of G behind it, `[results of all groups, outputs of one]`, row by row.
    pub expand: Option<Vec<f64>>,
}

/// The covariance of the patches that a layer reads.
#[derive(Clone)]
pub enum Reads {
    /// All elements count the same.
    Alike,
    /// That of each channel's patches.
    Channels(Vec<PatchMoment>),
    /// That of all, `[inputs * taps, inputs * taps]`.
    Joint(Mat<f64>),
}

/// How many filters and input channels are kept, in each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Input channels.
    pub inputs: usize,
    /// Filters.
    pub outputs: usize,
}

/// A layer in pieces.
pub struct Pieces {
    /// The weight that makes the channels that are kept from all, `[kept inputs of all groups, inputs of one]`, row by row; `None`
    /// if all inputs are kept. It is A, or comes behind one that there was.
    pub squeeze: Option<Vec<f64>>,
    /// The weight of F', which lies as the whole one does.
    pub core: Vec<f64>,
    /// The weight of G, `[results of all groups, kept filters of one]`, row by row; `None` if all filters are kept and there was
    /// none.
    pub expand: Option<Vec<f64>>,
    /// The filters that are kept, `[kept filters of all groups]`, numbered over all groups.
    pub filters: Vec<usize>,
    /// The input channels that are kept, likewise.
    pub channels: Vec<usize>,
}

/// How filters and channels are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// By what.
    pub criterion: Criterion,
    /// Whether those that stay make up for those that go.
    pub compensate: bool,
}

/// A side of a layer, over all groups: element k of each is the squared error without k filters, or channels, of each group,
/// relative to the energy of the result.
pub struct Losses {
    /// Without filters.
    pub outputs: Vec<f64>,
    /// Without input channels.
    pub inputs: Vec<f64>,
}

impl Weighed {
    /// The same layer with another weight.
    pub fn with_weight(&self, weight: Vec<f64>) -> Weighed {
        Weighed {
            weight,
            around: self.around.clone(),
            rows: self.rows.clone(),
            mean: self.mean.clone(),
            reads: self.reads.clone(),
            ..*self
        }
    }

    fn group_inputs(&self) -> usize {
        self.layout.inputs / self.layout.groups
    }

    /// The filters of a group, `[outputs, inputs * taps]`.
    fn filters(&self, group: usize) -> Mat<f64> {
        let KernelLayout { outputs, taps, .. } = self.layout;
        let inputs = self.group_inputs();
        let mut filters = Mat::zeros(outputs, inputs * taps);
        for i in 0..inputs {
            let kernels = self.layout.matrix(&self.weight, group * inputs + i);
            filters.subcols_mut(i * taps, taps).copy_from(kernels);
        }
        filters
    }

    /// What the filters of a group make of what they read, and how that varies together, `[outputs, outputs]`.
    fn gram(&self, group: usize, filters: &Mat<f64>) -> Mat<f64> {
        let taps = self.layout.taps;
        match &self.reads {
            Reads::Alike => filters * filters.transpose(),
            Reads::Joint(covariance) => filters * covariance * filters.transpose(),
            Reads::Channels(moments) => {
                let first = group * self.group_inputs();
                let mut weighed = filters.to_owned();
                for i in 0..self.group_inputs() {
                    let columns = filters.subcols(i * taps, taps);
                    let product = columns * &moments[first + i].0;
                    weighed.subcols_mut(i * taps, taps).copy_from(product);
                }
                weighed * filters.transpose()
            }
        }
    }

    /// The results of a group: those of the layer, or of the 1x1 convolution behind it.
    fn results(&self) -> usize {
        self.rows.len() / self.layout.groups
    }

    /// What the layer is together with the 1x1 convolution behind it.
    pub fn layout_with_expand(&self) -> KernelLayout {
        KernelLayout {
            outputs: self.results(),
            ..self.layout
        }
    }

    /// The weight of that.
    pub fn weight_with_expand(&self) -> Vec<f64> {
        if self.around.expand.is_none() {
            return self.weight.clone();
        }
        let pieces = Pieces {
            squeeze: None,
            core: self.weight.clone(),
            expand: self.around.expand.clone(),
            filters: (0..self.layout.outputs * self.layout.groups).collect(),
            channels: (0..self.layout.inputs).collect(),
        };
        pieces.composite(&self.layout_with_expand())
    }

    /// The part of the weight that the layer loses by becoming these pieces, and how large it is, relative to all of it.
    pub fn lost(&self, pieces: &Pieces) -> (Vec<f64>, f64) {
        let whole = self.weight_with_expand();
        let left = pieces.composite(&self.layout_with_expand());
        let lost: Vec<f64> = whole.iter().zip(&left).map(|(a, b)| a - b).collect();
        let norm = |weight: &[f64]| weight.iter().map(|x| x * x).sum::<f64>().sqrt();
        let share = norm(&lost) / norm(&whole).max(f64::MIN_POSITIVE);
        (lost, share)
    }

    /// What the results of a group are made of its filters by, `[results, outputs]`.
    fn expand(&self, group: usize) -> Mat<f64> {
        let (n, outputs) = (self.results(), self.layout.outputs);
        match &self.around.expand {
            Some(expand) => Mat::from_fn(n, outputs, |i, j| expand[(group * n + i) * outputs + j]),
            None => Mat::identity(n, outputs),
        }
    }

    /// The rows of a group as a diagonal matrix.
    fn importance(&self, group: usize) -> Mat<f64> {
        let n = self.results();
        let rows = &self.rows[group * n..][..n];
        Mat::from_fn(n, n, |a, b| if a == b { rows[a] } else { 0.0 })
    }

    /// How the channels of a group vary together where all that the network reads counts the same: they may be what a 1x1
    /// convolution makes.
    fn alike(&self, group: usize) -> Mat<f64> {
        let inputs = self.group_inputs();
        let Some(squeeze) = &self.around.squeeze else {
            return Mat::identity(inputs, inputs);
        };
        let columns = squeeze.len() / self.layout.inputs;
        let first = group * inputs * columns;
        let squeeze = Mat::from_fn(inputs, columns, |i, j| squeeze[first + i * columns + j]);
        &squeeze * squeeze.transpose()
    }

    /// How the taps of a channel vary together, the mean variance being 1, and how the channels of a group do: what is read is
    /// taken to be of that form where channels are combined.
    fn separable(&self, group: usize) -> (Mat<f64>, Mat<f64>) {
        let (taps, inputs) = (self.layout.taps, self.group_inputs());
        let first = group * inputs;
        let alike = self.alike(group);
        let block = |a: usize, b: usize| -> Mat<f64> {
            match &self.reads {
                Reads::Alike => Mat::<f64>::identity(taps, taps) * faer::Scale(alike[(a, b)]),
                Reads::Channels(moments) if a == b => moments[first + a].0.clone(),
                Reads::Joint(covariance) => covariance
                    .submatrix(a * taps, b * taps, taps, taps)
                    .to_owned(),
                _ => Mat::zeros(taps, taps),
            }
        };
        let trace = |m: &Mat<f64>| m.diagonal().column_vector().iter().sum::<f64>() / taps as f64;
        let mut of_taps = Mat::zeros(taps, taps);
        (0..inputs).for_each(|c| of_taps += block(c, c));
        let scale = trace(&of_taps).max(f64::MIN_POSITIVE).recip();
        let of_taps = of_taps * faer::Scale(scale);
        let mut of_channels = Mat::from_fn(inputs, inputs, |a, b| trace(&block(a, b)));
        let mean = of_channels.diagonal().column_vector().iter().sum::<f64>() / inputs as f64;
        (0..inputs).for_each(|c| of_channels[(c, c)] += RIDGE * mean + f64::MIN_POSITIVE);
        (of_taps, of_channels)
    }

    /// The slices of a group's input channels as they appear through `outer`, `[any, outputs]`: their Gram matrix, and the
    /// weight that they are multiplied with, each `[inputs, inputs]`.
    fn slices(
        &self,
        group: usize,
        filters: &Mat<f64>,
        outer: Option<&Mat<f64>>,
    ) -> Option<[Mat<f64>; 2]> {
        let (taps, inputs) = (self.layout.taps, self.group_inputs());
        let through = outer.map_or_else(|| filters.to_owned(), |outer| outer * filters);
        let (of_taps, of_channels) = self.separable(group);
        let root = root(&of_taps)?;
        let mut slices = Mat::zeros(through.nrows() * taps, inputs);
        for c in 0..inputs {
            let seen = through.subcols(c * taps, taps) * &root;
            let elements = (0..taps).flat_map(|t| (0..seen.nrows()).map(move |o| (o, t)));
            let column = slices.col_mut(c).iter_mut();
            column.zip(elements).for_each(|(x, at)| *x = seen[at]);
        }
        let root = self::root(&of_channels)?;
        // Row j is how much of direction j each channel holds.
        Some([slices.transpose() * &slices, root.transpose().to_owned()])
    }

    /// What every number of filters, and of channels, loses. `None` if that cannot be found, as with numbers that are not finite.
    pub fn losses(&self, criterion: Criterion) -> Option<Losses> {
        let (outputs, inputs) = (self.layout.outputs, self.group_inputs());
        let mut losses = Losses {
            outputs: vec![0.0; outputs + 1],
            inputs: vec![0.0; inputs + 1],
        };
        let (mut energy, mut seen) = (0.0, 0.0);
        for group in 0..self.layout.groups {
            let (filters, rows) = (self.filters(group), self.importance(group));
            let gram = self.gram(group, &filters);
            energy += (0..outputs)
                .map(|o| gram[(o, o)] * rows[(o, o)].powi(2))
                .sum::<f64>();
            let found = eliminate(&gram, &rows, criterion, outputs)?;
            add(&mut losses.outputs, &found);
            let [gram, weight] = self.slices(group, &filters, Some(&rows))?;
            seen += (&weight * &gram * weight.transpose())
                .diagonal()
                .column_vector()
                .iter()
                .sum::<f64>();
            let found = eliminate(&gram, &weight, criterion, inputs)?;
            add(&mut losses.inputs, &found);
        }
        losses
            .outputs
            .iter_mut()
            .for_each(|loss| *loss /= energy.max(f64::MIN_POSITIVE));
        losses
            .inputs
            .iter_mut()
            .for_each(|loss| *loss /= seen.max(f64::MIN_POSITIVE));
        Some(losses)
    }

    /// The layer in pieces, filters first. `None` as for [`Weighed::losses`].
    pub fn split(&self, kept: Kept, choice: Choice) -> Option<Pieces> {
        let KernelLayout {
            groups,
            outputs,
            taps,
            ..
        } = self.layout;
        let inputs = self.group_inputs();
        let mut pieces = Pieces {
            squeeze: (kept.inputs < inputs).then(Vec::new),
            core: Vec::new(),
            expand: (kept.outputs < outputs || self.around.expand.is_some()).then(Vec::new),
            filters: Vec::new(),
            channels: Vec::new(),
        };
        for group in 0..groups {
            let (filters, rows) = (self.filters(group), self.importance(group));
            let gram = self.gram(group, &filters);
            let before = self.expand(group);
            let stay = stays(&gram, &(&rows * &before), kept.outputs, choice)?;
            let expand = before * replace(&gram, &stay, choice)?;
            let core = Mat::from_fn(stay.len(), filters.ncols(), |a, e| filters[(stay[a], e)]);
            let outer = self.through.then(|| &rows * &expand);
            let [gram, weight] = self.slices(group, &core, outer.as_ref())?;
            let channels = stays(&gram, &weight, kept.inputs, choice)?;
            let squeeze = replace(&gram, &channels, choice)?;
            if let Some(to) = &mut pieces.expand {
                to.extend(
                    (0..expand.nrows())
                        .flat_map(|o| expand.row(o).iter().copied().collect::<Vec<_>>()),
                );
            }
            if let Some(to) = &mut pieces.squeeze {
                to.extend(
                    (0..channels.len())
                        .flat_map(|a| squeeze.col(a).iter().copied().collect::<Vec<_>>()),
                );
            }
            pieces
                .filters
                .extend(stay.iter().map(|o| group * outputs + o));
            pieces
                .channels
                .extend(channels.iter().map(|c| group * inputs + c));
        }
        let layout = KernelLayout {
            inputs: kept.inputs * groups,
            outputs: kept.outputs,
            ..self.layout
        };
        pieces.core = vec![0.0; layout.inputs * layout.outputs * taps];
        for (a, channel) in pieces.channels.iter().enumerate() {
            let kernels = self.layout.matrix(&self.weight, *channel);
            let group = layout.group(a);
            let stay = &pieces.filters[group * kept.outputs..][..kept.outputs];
            let kernels = Mat::from_fn(kept.outputs, taps, |b, t| {
                kernels[(stay[b] - group * outputs, t)]
            });
            layout.set_matrix(&mut pieces.core, a, &kernels);
        }
        Some(pieces)
    }
}

impl Pieces {
    /// The weight that the pieces are together, as the whole one lies.
    pub fn composite(&self, layout: &KernelLayout) -> Vec<f64> {
        let KernelLayout {
            groups,
            outputs,
            taps,
            ..
        } = *layout;
        let inputs = layout.inputs / groups;
        let [channels, filters] = [&self.channels, &self.filters].map(|all| all.len() / groups);
        let core = KernelLayout {
            inputs: self.channels.len(),
            outputs: filters,
            ..*layout
        };
        let mut kernels = vec![Mat::zeros(outputs, taps); layout.inputs];
        for group in 0..groups {
            let of_core: Vec<Mat<f64>> = (0..channels)
                .map(|a| core.matrix(&self.core, group * channels + a))
                .collect();
            let block = |of: &Option<Vec<f64>>, rows: usize, columns: usize| {
                let first = group * rows * columns;
                let of = of.as_ref();
                of.map(|of| Mat::from_fn(rows, columns, |i, j| of[first + i * columns + j]))
            };
            let expand = block(&self.expand, outputs, filters);
            let squeeze = block(&self.squeeze, channels, inputs);
            for tap in 0..taps {
                let mut product = Mat::from_fn(filters, channels, |b, a| of_core[a][(b, tap)]);
                if let Some(expand) = &expand {
                    product = expand * product;
                }
                if let Some(squeeze) = &squeeze {
                    product = product * squeeze;
                }
                for channel in 0..inputs {
                    let mut of_tap = kernels[group * inputs + channel].col_mut(tap);
                    of_tap.copy_from(product.col(channel));
                }
            }
        }
        let mut weight = vec![0.0; layout.inputs * outputs * taps];
        for (channel, kernels) in kernels.iter().enumerate() {
            layout.set_matrix(&mut weight, channel, kernels);
        }
        weight
    }
}

/// The lower triangle whose square a covariance is.
fn root(covariance: &Mat<f64>) -> Option<Mat<f64>> {
    regularised(covariance, |covariance| {
        Some(covariance.llt(Side::Lower).ok()?.L().to_owned())
    })
}

fn add(losses: &mut [f64], found: &Elimination) {
    losses
        .iter_mut()
        .zip(&found.loss)
        .for_each(|(sum, loss)| *sum += loss);
}

/// The features that stay when all but so many are removed, ascending.
fn stays(gram: &Mat<f64>, weight: &Mat<f64>, kept: usize, choice: Choice) -> Option<Vec<usize>> {
    let n = gram.nrows();
    let gone = eliminate(gram, weight, choice.criterion, n.saturating_sub(kept))?.order;
    Some((0..n).filter(|j| !gone.contains(j)).collect())
}

/// All features as combinations of those that stay, `[n, stay]`.
fn replace(gram: &Mat<f64>, stay: &[usize], choice: Choice) -> Option<Mat<f64>> {
    let n = gram.nrows();
    if !choice.compensate || stay.len() == n {
        return Some(Mat::from_fn(n, stay.len(), |j, a| {
            f64::from(u8::from(stay[a] == j))
        }));
    }
    compensate(gram, &Mat::identity(n, n), stay)
}
