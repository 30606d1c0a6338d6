//! Small random terms, for the harness that proves rules.

use egg::Id;

use super::channel_map::{ChannelMap, MapEntry};
use super::rule::Rewriter;
use super::term::{EGraph, Head, Term};
use crate::ir::{DType, Dim, Ints, Op, Padding, Tensor, Type};

/// Builds a random term on which a rule fires. All numbers are `f64`.
pub struct Instance<'a> {
    egraph: &'a mut EGraph,
    state: u64,
}

impl<'a> Instance<'a> {
    /// A builder whose random numbers follow from `seed`.
    pub fn new(egraph: &'a mut EGraph, seed: u64) -> Instance<'a> {
        Instance {
            egraph,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// A random number in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }

    /// A random number between -1 and 1, rarely near 0.
    pub fn number(&mut self) -> f64 {
        let x = (self.below(1 << 20) as f64 + 1.0) / f64::from(1 << 20);
        if self.below(2) == 0 { x } else { -x }
    }

    /// True or false.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// An input of the network.
    pub fn input(&mut self, shape: &[usize]) -> Id {
        let inputs = &mut self.egraph.analysis.inputs;
        inputs.push(Type::tensor(
            DType::F64,
            shape.iter().map(|n| Dim::from(*n)),
        ));
        let head = Head::Input(inputs.len() as u32 - 1);
        self.egraph.add(Term {
            head,
            children: Default::default(),
        })
    }

    /// An image of `channels` channels, 5 or 6 positions a side.
    pub fn image(&mut self, channels: usize) -> Id {
        let side = 5 + self.below(2);
        let batch = 1 + self.below(2);
        self.input(&[batch, channels, side, side])
    }

    /// A constant with these numbers.
    pub fn constant(&mut self, shape: &[usize], values: Vec<f64>) -> Id {
        let mut rewriter = Rewriter::new(self.egraph, None);
        let id = rewriter
            .constants()
            .make("c.weight", Tensor::from_vec(shape, values));
        rewriter.add_constant(id)
    }

    /// A random constant.
    pub fn weight(&mut self, shape: &[usize]) -> Id {
        let values = (0..shape.iter().product()).map(|_| self.number()).collect();
        self.constant(shape, values)
    }

    /// A random constant whose slices along `axis` are `rows`: slice i is a random slice picked by `rows[i]`, so equal entries
    /// give equal slices, factors proportional ones, and constants slices of that value.
    pub fn weight_of(&mut self, shape: &[usize], axis: usize, rows: &ChannelMap) -> Id {
        let base = self.weight(shape);
        let mut rewriter = Rewriter::new(self.egraph, None);
        let picked = rewriter.constant(base).map(|base| {
            let id = rewriter.gather_constant(base, axis, rows.clone());
            let tensor = rewriter.constants().value(id).clone();
            rewriter.constants().make("c.weight", tensor)
        });
        picked.map_or(base, |id| Rewriter::new(self.egraph, None).add_constant(id))
    }

    /// A random positive constant.
    pub fn positive(&mut self, shape: &[usize]) -> Id {
        let values = (0..shape.iter().product())
            .map(|_| self.number().abs() + 0.1)
            .collect();
        self.constant(shape, values)
    }

    /// An operator.
    ///
    /// # Panics
    /// When the operands do not fit: a mistake in the rule's instance, which the harness shows.
    pub fn op(&mut self, op: Op, children: &[Id]) -> Id {
        let term = Term {
            head: Head::Op(op),
            children: children.into(),
        };
        let ty = super::term::Facts::types(self.egraph, &term);
        assert!(ty.is_ok(), "{term:?}: {ty:?}");
        self.egraph.add(term)
    }

    /// The shape of a term.
    pub fn shape(&self, id: Id) -> Vec<usize> {
        let shape = self.egraph[id].data.types[0].shape().unwrap_or_default();
        shape.iter().filter_map(Dim::as_len).collect()
    }

    /// A convolution with a random 3x3 geometry; padded only if `pad` says so.
    pub fn conv(&mut self, pad: bool, children: &[Id]) -> Id {
        let stride: Ints = [1 + self.below(2), 1 + self.below(2)].into_iter().collect();
        let pad = Padding::symmetric([usize::from(pad), if pad { self.below(3) } else { 0 }]);
        let dilation: Ints = [1, 1 + self.below(2)].into_iter().collect();
        self.op(
            Op::Conv {
                stride,
                pad,
                dilation,
                groups: 1,
            },
            children,
        )
    }

    /// A gather term, which may have factors and constants.
    pub fn gather(&mut self, x: Id, axis: usize, map: ChannelMap) -> Id {
        self.egraph.add(Term {
            head: Head::Gather { axis, map },
            children: [x].into_iter().collect(),
        })
    }

    /// A map of `n` entries among `from` channels, every channel read, some twice; at random positions.
    pub fn widening(&mut self, from: usize, n: usize) -> ChannelMap {
        let mut channels: Vec<usize> = (0..n)
            .map(|i| if i < from { i } else { self.below(from) })
            .collect();
        for i in (1..n).rev() {
            channels.swap(i, self.below(i + 1));
        }
        ChannelMap::channels(channels)
    }

    /// The same map with some factors, positive ones only if so asked.
    pub fn scaled(&mut self, map: &ChannelMap, positive: bool) -> ChannelMap {
        let scale = |entry: &MapEntry| match *entry {
            MapEntry::Channel { index, .. } if self.coin() => {
                let s = self.number() + 0.01;
                MapEntry::Channel {
                    index,
                    scale: if positive { s.abs() } else { s }.into(),
                }
            }
            other => other,
        };
        map.0.iter().map(scale).collect()
    }

    /// The same map with the last one or two replaced by constants.
    pub fn with_constants(&mut self, map: &ChannelMap) -> ChannelMap {
        let keep = map.len() - 1 - self.below(2);
        let constant = self.number();
        let replace = |(i, entry): (usize, &MapEntry)| {
            if i < keep {
                *entry
            } else {
                MapEntry::Constant(constant.into())
            }
        };
        map.0.iter().enumerate().map(replace).collect()
    }
}
