//! Constants of the term language: hash-consed recipes, computed only when somebody looks.
//!
//! A rule that folds a batch norm does not multiply anything: it names the product. The numbers are computed when a rule
//! compares rows, or when extraction has chosen the constant. Equal recipes are one constant. Arithmetic is in `f64`,
//! rounded once to the constant's type.

mod arithmetic;
mod masks;
mod rows;

use std::cell::OnceCell;
use std::sync::Arc;

use smallvec::SmallVec;

use super::channel_map::ChannelMap;
use crate::analysis::kernels::{KernelLayout, Separation};
use crate::ir::{Constant, DType, Float, Mask, NodeId, Role, Tensor};
use arithmetic::Computed;
pub use rows::Rows;

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
    /// The positions along `axis` that `map` says.
    Gather {
        of: ConstId,
        axis: usize,
        map: ChannelMap,
    },
    /// The transpose of a gather: position i along `axis` is the sum over all j with `map[j]` = i of `of[j]` times its
    /// factor. `width` positions; constants of the map add nothing.
    Sum {
        of: ConstId,
        axis: usize,
        map: ChannelMap,
        width: usize,
    },
    /// The same along axis 1 of the weight of a grouped convolution, for each group by itself: `map` has the input channels of
    /// all groups, one group after the other, and says for each its position among the `width` of its group.
    SumInGroups {
        of: ConstId,
        map: ChannelMap,
        width: usize,
    },
    /// What the constant channels of `map` add to each output: the sum over `input` positions j that are constants, and
    /// over all other axes but `output`, of `of` times the constant. Of a grouped convolution `map` has the channels of all
    /// groups.
    ConstantShare {
        of: ConstId,
        output: usize,
        input: usize,
        map: ChannelMap,
    },
    /// scale / sqrt(variance + eps).
    NormScale {
        scale: ConstId,
        variance: ConstId,
        eps: Float,
    },
    /// `of` with position i along `axis` multiplied by `by[i]`. With several `groups`, which follow each other along axis 0,
    /// `by` has the numbers of each group, one group after the other.
    Scale {
        of: ConstId,
        axis: usize,
        by: ConstId,
        groups: usize,
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
    /// `weight` (`[P,O/groups,k..]`) summed over k, times the vector `by` (`[O]`), for each group by itself.
    Apply {
        weight: ConstId,
        by: ConstId,
        groups: usize,
    },
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
    /// Of a constant of the graph.
    mask: Option<Mask>,
}

/// The pool of constants of one e-graph.
#[derive(Default)]
pub struct Constants {
    entries: Vec<Entry>,
    by_recipe: rustc_hash::FxHashMap<Recipe, ConstId>,
    rows: rustc_hash::FxHashMap<(ConstId, usize), Arc<Rows>>,
    /// What is known of slices none of which are alike, as most are: the same for all of one number.
    distinct: rustc_hash::FxHashMap<usize, Arc<Rows>>,
    unread: rustc_hash::FxHashMap<(ConstId, usize), Arc<[bool]>>,
    separated: rustc_hash::FxHashMap<(ConstId, KernelLayout), Option<Arc<Separated>>>,
}

/// The constants of a separated convolution.
#[derive(Debug)]
pub struct Separated {
    /// The input channel that each depthwise kernel reads.
    pub map: ChannelMap,
    /// The depthwise weight, `[R,1,k..]`.
    pub kernels: ConstId,
    /// The pointwise weight, `[O,R/groups,1..]`.
    pub mix: ConstId,
}

impl Constants {
    /// The constant of a graph's node.
    pub fn leaf(&mut self, node: NodeId, name: &Arc<str>, constant: &Constant) -> ConstId {
        let tensor = constant.tensor.clone();
        let id = self.insert(
            Recipe::Leaf(node),
            name.clone(),
            constant.role,
            Some(tensor),
            DType::F32,
            &[],
        );
        self.entries[id.0 as usize].mask = constant.mask.clone();
        id
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
            mask: None,
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

    /// The constant `of` with other positions along `axis`. Gathers of one axis are one; those of several axes, and sums, have one order,
    /// so that what rules do to rows and to columns one after the other gives the same constant whichever came first.
    pub fn gather(&mut self, of: ConstId, axis: usize, map: ChannelMap) -> ConstId {
        if map.is_identity(self.shape(of)[axis]) {
            return of;
        }
        match self.entry(of).recipe.clone() {
            Recipe::Gather {
                of: whole,
                axis: first,
                map: inner,
            } if first == axis => return self.gather(whole, axis, map.after(&inner)),
            Recipe::Gather {
                of: whole,
                axis: first,
                map: inner,
            } if first > axis => {
                let whole = self.gather(whole, axis, map);
                return self.gather(whole, first, inner);
            }
            Recipe::Sum {
                of: whole,
                axis: summed,
                map: inner,
                width,
            } if summed != axis => {
                let whole = self.gather(whole, axis, map);
                return self.sum(whole, summed, inner, width);
            }
            _ => {}
        }
        let (name, shape) = (self.name(of).clone(), self.shape_with(of, axis, map.len()));
        self.add(Recipe::Gather { of, axis, map }, of, name, &shape)
    }

    /// The rows that this constant is of another, if it is that along `axis` alone and as they are.
    pub fn rows_of(&self, id: ConstId, axis: usize) -> Option<(ConstId, ChannelMap)> {
        match &self.entry(id).recipe {
            Recipe::Gather { of, axis: own, map } if *own == axis && map.plain().is_some() => {
                Some((*of, map.clone()))
            }
            _ => None,
        }
    }

    /// The constant `of` with its positions along `axis` summed as [`Recipe::Sum`] says. Sums of sums are one, so that moving columns
    /// about in a circle comes to an end.
    pub fn sum(&mut self, of: ConstId, axis: usize, map: ChannelMap, width: usize) -> ConstId {
        let (whole, map) = match &self.entry(of).recipe {
            Recipe::Sum {
                of: whole,
                axis: first,
                map: inner,
                ..
            } if *first == axis => (*whole, inner.after(&map)),
            _ => (of, map),
        };
        if width == self.shape(whole)[axis] && map.is_identity(width) {
            return whole;
        }
        let (name, shape) = (
            self.name(whole).clone(),
            self.shape_with(whole, axis, width),
        );
        let recipe = Recipe::Sum {
            of: whole,
            axis,
            map,
            width,
        };
        self.add(recipe, whole, name, &shape)
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

    /// The equal, proportional and zero slices along `axis`; computed once for each constant.
    pub fn rows(&mut self, id: ConstId, axis: usize) -> Arc<Rows> {
        if let Some(rows) = self.rows.get(&(id, axis)) {
            return rows.clone();
        }
        let mut rows = Arc::new(Rows::of(self.value(id), axis));
        if rows.are_distinct() {
            rows = self.distinct.entry(rows.zero.len()).or_insert(rows).clone();
        }
        self.rows.insert((id, axis), rows.clone());
        rows
    }

    /// For each input channel of all groups of a grouped convolution with this weight, whether its group multiplies it by zeros
    /// alone; computed once for each constant.
    pub fn unread(&mut self, id: ConstId, groups: usize) -> Arc<[bool]> {
        if let Some(unread) = self.unread.get(&(id, groups)) {
            return unread.clone();
        }
        let unread: Arc<[bool]> = rows::unread(self.value(id), groups).into();
        self.unread.insert((id, groups), unread.clone());
        unread
    }

    /// The constant that this one is positions of, along whatever axes, as they are; itself if it is none of another.
    pub fn whole(&self, id: ConstId) -> ConstId {
        match &self.entry(id).recipe {
            Recipe::Gather { of, map, .. } if map.plain().is_some() => self.whole(*of),
            _ => id,
        }
    }

    /// The weight `of`, separated, if that takes fewer multiply-adds; computed once for each constant.
    pub fn separated(&mut self, of: ConstId, layout: KernelLayout) -> Option<Arc<Separated>> {
        if let Some(separated) = self.separated.get(&(of, layout)) {
            return separated.clone();
        }
        let epsilon = self.dtype(of).epsilon();
        let separation = match self.dtype(of) {
            DType::F32 => Separation::of(&layout, &self.value(of).elements::<f32>(), epsilon),
            _ => Separation::of(&layout, &self.f64(of), epsilon),
        };
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
        let count = separation.channels.len();
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
            map: ChannelMap::channels(separation.channels),
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
