//! Constants of the term language: hash-consed recipes, computed only when somebody looks.
//!
//! A rule that folds a batch norm does not multiply anything: it names the product. The numbers are computed when a rule
//! compares rows, or when extraction has chosen the constant. Equal recipes are one constant. Arithmetic is in `f64`,
//! rounded once to the constant's type.

use std::cell::OnceCell;
use std::sync::Arc;

use rayon::prelude::*;
use smallvec::SmallVec;

use super::picks::{Partition, Pick, Picks};
use crate::analysis::kernels::{KernelLayout, Separation};
use crate::ir::{Constant, DType, Float, NodeId, Role, Tensor};

/// A constant of a [`Constants`] pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstId(u32);

/// How a constant is computed from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "a variant's documentation says what its fields are"
)]
pub enum Recipe {
    /// A constant of the graph.
    Leaf(NodeId),
    /// A tensor that a rule made; known by its place in the pool.
    Made(u32),
    /// The positions along `axis` that `picks` says.
    Gather {
        of: ConstId,
        axis: usize,
        picks: Picks,
    },
    /// The transpose of a gather: position i along `axis` is the sum over all j with `picks[j]` = i of `of[j]` times its
    /// factor. `width` positions; constants of the picks add nothing.
    Sum {
        of: ConstId,
        axis: usize,
        picks: Picks,
        width: usize,
    },
    /// What the constant channels of `picks` add to each output: the sum over `input` positions j that are constants, and
    /// over all other axes but `output`, of `of` times the constant.
    ConstantShare {
        of: ConstId,
        output: usize,
        input: usize,
        picks: Picks,
    },
    /// scale / sqrt(variance + eps).
    NormScale {
        scale: ConstId,
        variance: ConstId,
        eps: Float,
    },
    /// `of` with position i along `axis` multiplied by `by[i]`.
    Scale {
        of: ConstId,
        axis: usize,
        by: ConstId,
    },
    /// `a * by + plus - minus * by`, element-wise; missing ones are 0.
    Affine {
        a: Option<ConstId>,
        by: ConstId,
        plus: ConstId,
        minus: ConstId,
    },
    /// a + b, element-wise.
    Add { a: ConstId, b: ConstId },
    /// Weight of `outer` (1x1 or linear, `[P,O]`) after `inner` (`[O,I,k..]`): `[P,I,k..]`.
    ComposeOuter { outer: ConstId, inner: ConstId },
    /// Weight of `outer` (`[P,O,k..]`) after `inner` (1x1, `[O,I,1..]`): `[P,I,k..]`.
    ComposeInner { outer: ConstId, inner: ConstId },
    /// `weight` (`[P,O,k..]`) summed over k, times the vector `by` (`[O]`).
    Apply { weight: ConstId, by: ConstId },
    /// The depthwise kernels `[R,1,k..]` of the weight `of`, separated; see [`Separation`].
    SeparateKernels { of: ConstId, layout: KernelLayout },
    /// The pointwise weight `[O,R/groups,1..]` that goes with them.
    SeparateMix { of: ConstId, layout: KernelLayout },
    /// The same elements under another shape.
    Reshape {
        of: ConstId,
        shape: SmallVec<[usize; 4]>,
    },
}

/// One entry of the pool.
struct Entry {
    recipe: Recipe,
    dtype: DType,
    shape: SmallVec<[usize; 4]>,
    name: Arc<str>,
    role: Role,
    value: OnceCell<Tensor>,
}

/// The pool of constants of one e-graph.
#[derive(Default)]
pub struct Constants {
    entries: Vec<Entry>,
    by_recipe: rustc_hash::FxHashMap<Recipe, ConstId>,
    rows: rustc_hash::FxHashMap<(ConstId, usize), Arc<Rows>>,
    separated: rustc_hash::FxHashMap<(ConstId, KernelLayout), Option<Arc<Separated>>>,
}

/// The constants of a separated convolution.
#[derive(Debug)]
pub struct Separated {
    /// The input channel that each depthwise kernel reads.
    pub picks: Picks,
    /// The depthwise weight, `[R,1,k..]`.
    pub kernels: ConstId,
    /// The pointwise weight, `[O,R/groups,1..]`.
    pub mix: ConstId,
}

/// The slices of a constant along one axis, each reduced to a direction and a length.
#[derive(Debug)]
pub struct Rows {
    /// Slices that are equal bit for bit (but for the sign of zero).
    pub equal: Partition,
    /// Slices equal up to a positive factor; zero slices are each other's.
    pub proportional: Partition,
    /// The factor of each slice to the first of its class in `proportional`; 1 where equal.
    pub factor: Vec<f64>,
    /// Whether the slice is zero.
    pub zero: Vec<bool>,
}

impl Rows {
    /// The slices of `tensor` along `axis`.
    pub fn of(tensor: &Tensor, axis: usize) -> Rows {
        match tensor.dtype() {
            DType::F32 => compare_rows(&tensor.elements::<f32>(), tensor.shape(), axis),
            _ => compare_rows(&tensor.elements::<f64>(), tensor.shape(), axis),
        }
    }
}

impl Constants {
    /// The constant of a graph's node.
    pub fn leaf(&mut self, node: NodeId, name: &Arc<str>, constant: &Constant) -> ConstId {
        let tensor = constant.tensor.clone();
        self.insert(
            Recipe::Leaf(node),
            name.clone(),
            constant.role,
            Some(tensor),
            DType::F32,
            &[],
        )
    }

    /// A new tensor. Two equal tensors made apart are two constants.
    pub fn make(&mut self, name: impl Into<Arc<str>>, tensor: Tensor) -> ConstId {
        let recipe = Recipe::Made(self.entries.len() as u32);
        self.insert(
            recipe,
            name.into(),
            Role::Literal,
            Some(tensor),
            DType::F32,
            &[],
        )
    }

    /// The constant with this recipe and shape; `like` lends element type and role, and `name` is the wish for one.
    pub fn add(
        &mut self,
        recipe: Recipe,
        like: ConstId,
        name: impl Into<Arc<str>>,
        shape: &[usize],
    ) -> ConstId {
        let (dtype, role) = (self.entry(like).dtype, self.entry(like).role);
        self.insert(recipe, name.into(), role, None, dtype, shape)
    }

    fn insert(
        &mut self,
        recipe: Recipe,
        name: Arc<str>,
        role: Role,
        tensor: Option<Tensor>,
        dtype: DType,
        shape: &[usize],
    ) -> ConstId {
        if let Some(id) = self.by_recipe.get(&recipe) {
            return *id;
        }
        let id = ConstId(self.entries.len() as u32);
        let (dtype, shape) = match &tensor {
            Some(tensor) => (tensor.dtype(), tensor.shape().into()),
            None => (dtype, shape.into()),
        };
        let value = tensor.map_or_else(OnceCell::new, OnceCell::from);
        self.by_recipe.insert(recipe.clone(), id);
        self.entries.push(Entry {
            recipe,
            dtype,
            shape,
            name,
            role,
            value,
        });
        id
    }

    fn entry(&self, id: ConstId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    /// The shape.
    pub fn shape(&self, id: ConstId) -> &[usize] {
        &self.entry(id).shape
    }

    /// The element type.
    pub fn dtype(&self, id: ConstId) -> DType {
        self.entry(id).dtype
    }

    /// The name that the constant would like.
    pub fn name(&self, id: ConstId) -> &Arc<str> {
        &self.entry(id).name
    }

    /// The graph's node, if the constant is one as it is.
    pub fn source(&self, id: ConstId) -> Option<NodeId> {
        match self.entry(id).recipe {
            Recipe::Leaf(node) => Some(node),
            _ => None,
        }
    }

    /// What the constant is in the source format, or would be.
    pub fn role(&self, id: ConstId) -> Role {
        self.entry(id).role
    }

    /// The number of elements.
    pub fn len(&self, id: ConstId) -> usize {
        self.entry(id).shape.iter().product()
    }

    /// `size` positions along `axis` instead of what there is.
    pub fn shape_with(&self, id: ConstId, axis: usize, size: usize) -> SmallVec<[usize; 4]> {
        let mut shape = self.entry(id).shape.clone();
        shape[axis] = size;
        shape
    }

    /// The numbers, computed now if nobody looked before.
    pub fn value(&self, id: ConstId) -> &Tensor {
        let entry = self.entry(id);
        entry.value.get_or_init(|| {
            let values = self.compute(&entry.recipe, &entry.shape);
            match (entry.dtype, values) {
                (_, Computed::Tensor(tensor)) => tensor,
                (dtype, Computed::F64(values)) => Tensor::from_f64(dtype, &entry.shape, values),
            }
        })
    }

    /// The numbers in double precision.
    pub fn f64(&self, id: ConstId) -> std::borrow::Cow<'_, [f64]> {
        self.value(id).elements::<f64>()
    }

    fn compute(&self, recipe: &Recipe, shape: &[usize]) -> Computed {
        let values = match recipe {
            // These hold their tensor from the start.
            Recipe::Leaf(_)
            | Recipe::Made(_)
            | Recipe::SeparateKernels { .. }
            | Recipe::SeparateMix { .. } => Vec::new(),
            Recipe::Reshape { of, .. } => {
                return match self.value(*of).reshaped(shape) {
                    Ok(tensor) => Computed::Tensor(tensor),
                    Err(_) => Computed::F64(self.f64(*of).into_owned()),
                };
            }
            Recipe::Gather { of, axis, picks } => {
                gather(&self.f64(*of), self.shape(*of), *axis, picks)
            }
            Recipe::Sum {
                of,
                axis,
                picks,
                width,
            } => sum(&self.f64(*of), self.shape(*of), *axis, picks, *width),
            Recipe::ConstantShare {
                of,
                output,
                input,
                picks,
            } => constant_share(&self.f64(*of), self.shape(*of), *output, *input, picks),
            Recipe::NormScale {
                scale,
                variance,
                eps,
            } => {
                let (scale, variance) = (self.f64(*scale), self.f64(*variance));
                scale
                    .iter()
                    .zip(variance.iter())
                    .map(|(s, v)| s / (v + eps.0).sqrt())
                    .collect()
            }
            Recipe::Scale { of, axis, by } => return self.scale(*of, *axis, *by),
            Recipe::Affine { a, by, plus, minus } => {
                let (by, plus, minus) = (self.f64(*by), self.f64(*plus), self.f64(*minus));
                let a = a.map(|a| self.f64(a));
                let at = |i: usize| a.as_ref().map_or(0.0, |a| a[i]);
                (0..by.len())
                    .map(|i| (at(i) - minus[i]) * by[i] + plus[i])
                    .collect()
            }
            Recipe::Add { a, b } => self
                .f64(*a)
                .iter()
                .zip(self.f64(*b).iter())
                .map(|(a, b)| a + b)
                .collect(),
            Recipe::ComposeOuter { outer, inner } => {
                let (p, o) = (self.shape(*outer)[0], self.shape(*outer)[1]);
                product(&self.f64(*outer), &self.f64(*inner), p, o)
            }
            Recipe::ComposeInner { outer, inner } => {
                let (weight, first) = (self.f64(*outer), self.f64(*inner));
                let (o, i) = (self.shape(*inner)[0], self.shape(*inner)[1]);
                let p = self.shape(*outer)[0];
                let k: usize = self.shape(*outer)[2..].iter().product();
                compose_inner(&weight, &first, [p, o, i, k])
            }
            Recipe::Apply { weight, by } => {
                let (p, o) = (self.shape(*weight)[0], self.shape(*weight)[1]);
                let k: usize = self.shape(*weight)[2..].iter().product();
                let (weight, by) = (self.f64(*weight), self.f64(*by));
                let row = |p: usize| {
                    (0..o)
                        .map(|o_| weight[(p * o + o_) * k..][..k].iter().sum::<f64>() * by[o_])
                        .sum()
                };
                (0..p).map(row).collect()
            }
        };
        Computed::F64(values)
    }

    /// A weight scaled along one axis: the one recipe that runs over every weight of a network, so it stays in `f32`'s memory.
    fn scale(&self, of: ConstId, axis: usize, by: ConstId) -> Computed {
        let shape = self.shape(of);
        let (len, inner) = (
            shape[axis],
            shape[axis + 1..].iter().product::<usize>().max(1),
        );
        let by = self.f64(by);
        let factor = |i: usize| by[(i / inner) % len];
        if self.dtype(of) == DType::F32 {
            let mut values = self.value(of).elements::<f32>().into_owned();
            values
                .par_chunks_mut(inner)
                .enumerate()
                .for_each(|(i, slice)| {
                    let factor = factor(i * inner);
                    slice
                        .iter_mut()
                        .for_each(|x| *x = (f64::from(*x) * factor) as f32);
                });
            return Computed::Tensor(Tensor::from_vec(shape, values));
        }
        Computed::F64(
            self.f64(of)
                .iter()
                .enumerate()
                .map(|(i, x)| x * factor(i))
                .collect(),
        )
    }

    /// The equal, proportional and zero slices along `axis`; computed once for each constant.
    pub fn rows(&mut self, id: ConstId, axis: usize) -> Arc<Rows> {
        if let Some(rows) = self.rows.get(&(id, axis)) {
            return rows.clone();
        }
        let rows = Arc::new(Rows::of(self.value(id), axis));
        self.rows.insert((id, axis), rows.clone());
        rows
    }

    /// The weight `of`, separated, if that takes fewer multiply-adds; computed once for each constant.
    pub fn separated(&mut self, of: ConstId, layout: KernelLayout) -> Option<Arc<Separated>> {
        if let Some(separated) = self.separated.get(&(of, layout)) {
            return separated.clone();
        }
        let epsilon = self.dtype(of).epsilon();
        let separation = Separation::of(&layout, &self.f64(of), epsilon);
        let separated = separation.map(|s| Arc::new(self.add_separated(of, layout, s)));
        self.separated.insert((of, layout), separated.clone());
        separated
    }

    fn add_separated(
        &mut self,
        of: ConstId,
        layout: KernelLayout,
        separation: Separation,
    ) -> Separated {
        let (dtype, role, name) = (self.dtype(of), self.role(of), self.name(of).clone());
        let module = name
            .strip_suffix("weight")
            .map_or(format!("{name}."), str::to_string);
        let count = separation.picks.len();
        let mut kernel_shape = self.entry(of).shape.clone();
        (kernel_shape[0], kernel_shape[1]) = (count, 1);
        let mut mix_shape: SmallVec<[usize; 4]> = kernel_shape.iter().map(|_| 1).collect();
        mix_shape[0] = layout.groups * layout.outputs;
        mix_shape[1] = count / layout.groups;
        let mut insert = |recipe, name: String, shape: &[usize], values: Vec<f64>| {
            let tensor = Tensor::from_f64(dtype, shape, values);
            self.insert(recipe, name.into(), role, Some(tensor), dtype, shape)
        };
        Separated {
            picks: Picks::channels(separation.picks),
            kernels: insert(
                Recipe::SeparateKernels { of, layout },
                format!("{module}depthwise.weight"),
                &kernel_shape,
                separation.kernels,
            ),
            mix: insert(
                Recipe::SeparateMix { of, layout },
                format!("{module}pointwise.weight"),
                &mix_shape,
                separation.mix,
            ),
        }
    }
}

enum Computed {
    Tensor(Tensor),
    F64(Vec<f64>),
}

/// (outer, len, inner) of a row-major array seen along one axis.
fn split(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    )
}

fn gather(of: &[f64], shape: &[usize], axis: usize, picks: &Picks) -> Vec<f64> {
    let (outer, len, inner) = split(shape, axis);
    let mut out = Vec::with_capacity(outer * picks.len() * inner);
    for o in 0..outer {
        for pick in picks.0.iter() {
            match *pick {
                Pick::Constant(value) => out.extend(std::iter::repeat_n(value.0, inner)),
                Pick::Channel { index, scale } => {
                    let row = &of[(o * len + index as usize) * inner..][..inner];
                    out.extend(row.iter().map(|x| x * scale.0));
                }
            }
        }
    }
    out
}

fn sum(of: &[f64], shape: &[usize], axis: usize, picks: &Picks, width: usize) -> Vec<f64> {
    let (outer, len, inner) = split(shape, axis);
    let mut out = vec![0.0; outer * width * inner];
    for o in 0..outer {
        for (j, pick) in picks.0.iter().enumerate() {
            if let Pick::Channel { index, scale } = *pick {
                let to = &mut out[(o * width + index as usize) * inner..][..inner];
                let from = &of[(o * len + j) * inner..][..inner];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to += from * scale.0);
            }
        }
    }
    out
}

fn constant_share(
    of: &[f64],
    shape: &[usize],
    output: usize,
    input: usize,
    picks: &Picks,
) -> Vec<f64> {
    let mut out = vec![0.0; shape[output]];
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (by_output, by_input) = (stride(output), stride(input));
    for (i, w) in of.iter().enumerate() {
        if let Pick::Constant(value) = picks.0[(i / by_input) % shape[input]] {
            out[(i / by_output) % shape[output]] += w * value.0;
        }
    }
    out
}

/// `a [p,o]` times `b [o, ..]`.
fn product(a: &[f64], b: &[f64], p: usize, o: usize) -> Vec<f64> {
    let n = b.len() / o.max(1);
    let mut out = vec![0.0; p * n];
    matrix_product(&mut out, a, b, [p, o, n], [(o, 1), (n, 1), (n, 1)]);
    out
}

/// `weight [p,o,k]`, `first [o,i]` -> `[p,i,k]`.
fn compose_inner(weight: &[f64], first: &[f64], [p, o, i, k]: [usize; 4]) -> Vec<f64> {
    let mut out = vec![0.0; p * i * k];
    for (to, from) in out.chunks_mut(i * k).zip(weight.chunks(o * k)) {
        // [i,k] = first^T [i,o] x from [o,k]
        matrix_product(to, first, from, [i, o, k], [(1, i), (k, 1), (k, 1)]);
    }
    out
}

/// `out = a b` for `[m,k]` by `[k,n]`, with (row, column) strides of a, b and out.
fn matrix_product(
    out: &mut [f64],
    a: &[f64],
    b: &[f64],
    [m, k, n]: [usize; 3],
    strides: [(usize, usize); 3],
) {
    use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
    let [sa, sb, so] = strides;
    let a = ArrayView2::from_shape((m, k).strides(sa), a);
    let b = ArrayView2::from_shape((k, n).strides(sb), b);
    let out = ArrayViewMut2::from_shape((m, n).strides(so), out);
    if let (Ok(a), Ok(b), Ok(mut out)) = (a, b, out) {
        ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, &mut out);
    }
}

/// How far a row's elements may be from proportional before the rows count as different: rounding of the products only.
const PROPORTIONAL: f64 = 4.0;

fn compare_rows<T: crate::ir::Real>(values: &[T], shape: &[usize], axis: usize) -> Rows {
    let (outer, len, inner) = split(shape, axis);
    let row = |r: usize| {
        (0..outer).flat_map(move |o| values[(o * len + r) * inner..][..inner].iter().copied())
    };
    // Hashes first, in parallel: rows are compared element by element only where the hashes agree.
    let digests: Vec<RowDigest> = (0..len)
        .into_par_iter()
        .map(|r| RowDigest::of(row(r)))
        .collect();
    let mut equal = Classes::new(len);
    let mut proportional = Classes::new(len);
    let mut factor = vec![1.0; len];
    for r in 0..len {
        let digest = &digests[r];
        equal.place(r, digest.exact, |other| {
            row(other).zip(row(r)).all(|(a, b)| a == b)
        });
        let mut found = 1.0;
        proportional.place(r, digest.direction, |other| {
            let (a, b) = (digests[other].norm, digest.norm);
            if digest.zero || digests[other].zero {
                return digest.zero && digests[other].zero;
            }
            let candidate = b / a;
            let tolerance = PROPORTIONAL * T::epsilon().to_f64() * b;
            let close = |(x, y): (T, T)| (x.to_f64() * candidate - y.to_f64()).abs() <= tolerance;
            found = if row(other).zip(row(r)).all(|(x, y)| x == y) {
                1.0
            } else {
                candidate
            };
            candidate.is_finite() && row(other).zip(row(r)).all(close)
        });
        factor[r] = if proportional.partition.first[proportional.partition.class[r]] == r {
            1.0
        } else {
            found
        };
    }
    Rows {
        equal: equal.partition,
        proportional: proportional.partition,
        factor,
        zero: digests.iter().map(|d| d.zero).collect(),
    }
}

struct RowDigest {
    /// Equal for equal rows.
    exact: u64,
    /// Equal for proportional rows, nearly always: the signs of the large elements.
    direction: u64,
    /// The largest magnitude.
    norm: f64,
    zero: bool,
}

impl RowDigest {
    fn of<T: crate::ir::Real>(row: impl Iterator<Item = T> + Clone) -> RowDigest {
        use std::hash::Hasher;
        let norm = row.clone().map(|x| x.to_f64().abs()).fold(0.0, f64::max);
        let (mut exact, mut direction) = (
            rustc_hash::FxHasher::default(),
            rustc_hash::FxHasher::default(),
        );
        let (mut signs, mut zero) = (0u64, true);
        for (i, x) in row.enumerate() {
            let x = x.to_f64();
            // A NaN is not zero, and equal to nothing.
            zero &= x == 0.0;
            // + 0.0 makes -0.0 and 0.0 one.
            exact.write_u64((x + 0.0).to_bits());
            let sign = if x > norm / 2.0 {
                1
            } else if x < -norm / 2.0 {
                2
            } else {
                0
            };
            signs = signs << 2 | sign;
            if i % 32 == 31 {
                direction.write_u64(signs);
                signs = 0;
            }
        }
        direction.write_u64(signs);
        RowDigest {
            exact: exact.finish(),
            direction: direction.finish(),
            norm,
            zero,
        }
    }
}

/// Classes grown one row at a time, by hash and then by comparison with the first member.
struct Classes {
    partition: Partition,
    by_hash: rustc_hash::FxHashMap<u64, SmallVec<[usize; 1]>>,
}

impl Classes {
    fn new(len: usize) -> Classes {
        let partition = Partition {
            class: Vec::with_capacity(len),
            first: Vec::new(),
        };
        Classes {
            partition,
            by_hash: Default::default(),
        }
    }

    fn place(&mut self, row: usize, hash: u64, mut same: impl FnMut(usize) -> bool) {
        let candidates = self.by_hash.entry(hash).or_default();
        let found = candidates
            .iter()
            .copied()
            .find(|class| same(self.partition.first[*class]));
        let class = found.unwrap_or_else(|| {
            candidates.push(self.partition.first.len());
            self.partition.first.push(row);
            self.partition.first.len() - 1
        });
        self.partition.class.push(class);
    }
}
