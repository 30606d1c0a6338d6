//! Gathers among themselves: composition, identity, and the operators of the IR that are gathers.

use egg::Id;
use smallvec::smallvec;

use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::channels::{Flow, Source, flow};
use crate::ir::{Dim, Dims, Op, PadMode};

/// gather(gather(x, m), n) = gather(x, m after n).
pub struct GatherGather;

/// gather(x, 0..n) = x, and a gather that leaves channels out is a narrowing one and a spreading one.
pub struct GatherIdentity;

/// A gather of the graph, a slice, or a pad of channels with a constant, is a gather of channels.
pub struct MovementAsGather;

/// A gather that leaves out operands of a concat.
pub struct GatherOfConcat;

impl Rule for GatherGather {
    fn name(&self) -> &'static str {
        "gather-gather"
    }

    fn identity(&self) -> &'static str {
        "gather(gather(x,m),n) = gather(x,m[n])"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((axis, map, x)) = term.as_gather() else {
            return smallvec![];
        };
        // The coarsest alone: what several have in common would be found along every way through them.
        let inner = rewriter.gathers(x, axis).into_iter().next();
        let compose = |(x, first): (Id, ChannelMap)| rewriter.gather(x, axis, map.after(&first));
        inner.into_iter().filter_map(compose).collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let x = make.image(3);
        let (first, second) = (make.widening(3, 5), make.widening(5, 6));
        let (first, second) = (make.scaled(&first, false), make.with_constants(&second));
        let first = make.with_constants(&first);
        let inner = make.gather(x, 1, first);
        make.gather(inner, 1, second)
    }
}

impl Rule for GatherIdentity {
    fn name(&self) -> &'static str {
        "gather-identity"
    }

    fn identity(&self) -> &'static str {
        "gather(x,all) = x; gather(x,m) = gather(gather(x,S),m'), S the channels that m reads"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((axis, map, x)) = term.as_gather() else {
            return smallvec![];
        };
        let Some(n) = rewriter.ty(x).len(axis) else {
            return smallvec![];
        };
        if map.is_identity(n) {
            return smallvec![x];
        }
        // What is a gather itself is looked through first, by `gather-gather`.
        if !rewriter.gathers(x, axis).is_empty() {
            return smallvec![];
        }
        let read = map.read();
        if read.is_empty() || read.len() == n || *map == ChannelMap::channels(read.iter().copied())
        {
            return smallvec![];
        }
        let spread = map.moved(|index| read.partition_point(|c| *c < index));
        let narrow = rewriter.gather(x, axis, ChannelMap::channels(read));
        narrow
            .and_then(|narrow| rewriter.gather(narrow, axis, spread))
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let x = make.image(4);
        if make.coin() {
            return make.gather(x, 1, ChannelMap::channels(0..4));
        }
        let left_out = make.below(4);
        // Twice each, or once and out of order.
        let n = 4 * (1 + make.below(2));
        let map: ChannelMap =
            ChannelMap::channels((0..n).rev().map(|i| i % 4).filter(|c| *c != left_out));
        let map = make.scaled(&map, false);
        make.gather(x, 1, map)
    }
}

impl Rule for MovementAsGather {
    fn name(&self) -> &'static str {
        "movement-as-gather"
    }

    fn identity(&self) -> &'static str {
        "slice(x) = gather(x,start..end), pad(x) = gather(x,[0,..,0,all,0,..,0]), and a gather is itself"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(
            head,
            Head::Op(Op::Gather { .. } | Op::Slice { .. } | Op::Pad { .. })
        )
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Head::Op(op) = &term.head else {
            return smallvec![];
        };
        let Some(result) = rewriter.ty_of(term) else {
            return smallvec![];
        };
        let mut found = smallvec![];
        for axis in 0..result.rank().unwrap_or(0) {
            let Flow::Selects { axis, source } =
                flow(op, axis, &rewriter.types(&term.children), &result)
            else {
                continue;
            };
            let entry = |source: &Source| match *source {
                Source::Channel(index) => MapEntry::channel(index),
                Source::Constant(value) => MapEntry::Constant(value.into()),
            };
            let map: ChannelMap = source.iter().map(entry).collect();
            if !map.is_empty() && map.len() <= MAX_CHANNELS {
                found.extend(rewriter.gather(term.children[0], axis, map));
            }
        }
        found
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let x = make.image(5);
        if make.coin() {
            let (start, step) = (make.below(3), 1 + make.below(2));
            return make.op(
                Op::Slice {
                    axis: 1,
                    start: start.into(),
                    end: 5.into(),
                    step,
                },
                &[x],
            );
        }
        let amounts = |n: usize| -> Dims { [0, n, 0, 0].into_iter().map(Dim::from).collect() };
        let value = if make.coin() { 0.0 } else { make.number() };
        let (before, after) = (amounts(make.below(3)), amounts(1 + make.below(2)));
        make.op(
            Op::Pad {
                before,
                after,
                mode: PadMode::Constant,
                value: value.into(),
            },
            &[x],
        )
    }
}

impl Rule for GatherOfConcat {
    fn name(&self) -> &'static str {
        "gather-of-concat"
    }

    fn identity(&self) -> &'static str {
        "gather(concat(a,b,c),m) = gather(concat(a,c),m'), nothing of b in m"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((axis, map, x)) = term.as_gather() else {
            return smallvec![];
        };
        let concats: Vec<Term> = rewriter
            .terms(x)
            .filter(|t| matches!(t.head, Head::Op(Op::Concat { axis: a }) if a == axis))
            .cloned()
            .collect();
        rewriter.name_after(x);
        concats
            .iter()
            .filter_map(|concat| without_operands(rewriter, concat, axis, map))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let x = make.image(3);
        let y = make.op(Op::Tanh {}, &[x]);
        let gate = make.op(Op::Sigmoid {}, &[x]);
        let joined = make.op(Op::Concat { axis: 1 }, &[x, y, gate]);
        let drop = make.below(3);
        let n = 1 + make.below(8);
        let channels: Vec<usize> = (0..n).map(|_| make.below(9)).collect();
        let map = ChannelMap::channels(
            channels
                .into_iter()
                .map(|c| if c / 3 == drop { (c + 3) % 9 } else { c }),
        );
        make.gather(joined, 1, map)
    }
}

fn without_operands(
    rewriter: &mut Rewriter<'_>,
    concat: &Term,
    axis: usize,
    map: &ChannelMap,
) -> Option<Id> {
    let read = map.read();
    // Each operand that is read, where its channels begin, and how many come before it and are not read.
    let (mut kept, mut offset, mut gone) = (Vec::new(), 0, 0);
    let mut shifts: Vec<(usize, usize)> = Vec::new();
    for id in &concat.children {
        let len = rewriter.ty(*id).len(axis)?;
        let first = read.partition_point(|c| *c < offset);
        if read.get(first).is_some_and(|c| *c < offset + len) {
            kept.push(*id);
            shifts.push((offset, gone));
        } else {
            gone += len;
        }
        offset += len;
    }
    if kept.is_empty() || kept.len() == concat.children.len() {
        return None;
    }
    let inner = match kept.as_slice() {
        [single] => *single,
        several => rewriter.op(Op::Concat { axis }, several)?,
    };
    let shift = |c: usize| {
        let own = shifts.partition_point(|(offset, _)| *offset <= c);
        c - own.checked_sub(1).map_or(0, |i| shifts[i].1)
    };
    rewriter.gather(inner, axis, map.moved(shift))
}

/// The longest axis that is worth listing channel by channel; longer ones are positions of an image or a text.
const MAX_CHANNELS: usize = 1 << 16;
