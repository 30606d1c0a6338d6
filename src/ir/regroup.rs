//! What becomes of axes when a row-major array gets another shape.
//!
//! A reshape multiplies and divides axes: `[N,8,H,W]` as `[N,2,4,H*W]` splits the second and joins the last two. Both shapes have
//! the same *factors* in the same order, and an axis is a run of them; a factor is the finest piece that moves as a whole.
//! What cannot be divided into common factors (`[4,6]` as `[3,8]`) has none.

use smallvec::SmallVec;

use super::dim::{Dim, Dims};

/// Where some channels are found along an axis: all of them `repeats` times, one after the other, each as `block` neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How often all channels come.
    pub repeats: usize,
    /// How many neighbours each is.
    pub block: usize,
}

impl Spread {
    /// Channels that are the positions of the axis.
    pub const WHOLE: Spread = Spread {
        repeats: 1,
        block: 1,
    };

    /// The length of an axis of `channels` channels.
    pub fn len(self, channels: usize) -> usize {
        self.repeats * channels * self.block
    }

    /// The positions of one of `channels` channels, ascending.
    pub fn positions(self, channels: usize, channel: usize) -> impl Iterator<Item = usize> {
        let first = move |r: usize| (r * channels + channel) * self.block;
        (0..self.repeats).flat_map(move |r| first(r)..first(r) + self.block)
    }
}

/// A factor of an axis of the operand that is a factor of an axis of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regroup {
    /// The axis of the operand.
    pub axis: usize,
    /// Its length: the channels that move as a whole.
    pub channels: usize,
    /// Where they are along the axis of the operand.
    pub from: Spread,
    /// Where they are along the axis of the result.
    pub to: Spread,
}

/// The factors that two shapes of one array have in common.
pub struct Factors {
    operand: Dims,
    result: Dims,
    /// Outermost first.
    all: Vec<Factor>,
}

impl Factors {
    /// Those of an array of shape `operand` that gets the shape `result`.
    pub fn of(operand: &[Dim], result: &[Dim]) -> Factors {
        Factors {
            operand: operand.into(),
            result: result.into(),
            all: factors(operand, result),
        }
    }

    /// The axis of the operand that this axis of the result is, if it is one.
    pub fn kept(&self, axis: usize) -> Option<usize> {
        let mut own = self.all.iter().filter(|f| f.to == axis);
        let factor = own.next()?;
        let [from, to] = [&self.operand[factor.from], &self.result[axis]];
        (factor.size == *from && factor.size == *to).then_some(factor.from)
    }

    /// The factors of this axis of the result, outermost first, as far as they and the axes that they are of are numbers.
    pub fn regroups(&self, axis: usize) -> SmallVec<[Regroup; 2]> {
        let regroup = |(i, factor): (usize, &Factor)| {
            Some(Regroup {
                axis: factor.from,
                channels: factor.size.as_len()?,
                from: spread(&self.all, i, |f| f.from, &self.operand[factor.from])?,
                to: spread(&self.all, i, |f| f.to, &self.result[axis])?,
            })
        };
        let own = self.all.iter().enumerate().filter(|(_, f)| f.to == axis);
        own.filter_map(regroup).collect()
    }
}

/// The order into which splitting axes, permuting them and joining them again puts the positions of a single axis, if that is all
/// that it does: a channel shuffle. Position i of the axis is position `order[i]` of the operand's.
pub fn shuffle(
    operand: &[Dim],
    split: &[Dim],
    perm: &[usize],
    result: &[Dim],
) -> Option<(usize, Vec<usize>)> {
    if operand.len() != result.len() || split.len() != perm.len() {
        return None;
    }
    let permuted: SmallVec<[Dim; 6]> = perm
        .iter()
        .map(|a| split.get(*a).cloned())
        .collect::<Option<_>>()?;
    let [parts, joined] = [
        whole_axes(&factors(operand, split), |f| (f.from, f.to), split)?,
        whole_axes(&factors(&permuted, result), |f| (f.to, f.from), &permuted)?,
    ];
    let mut found = None;
    for axis in 0..operand.len() {
        let of = |all: &[(usize, usize)]| -> Vec<usize> {
            let own = all.iter().filter(|(a, _)| *a == axis);
            own.map(|(_, part)| *part).collect()
        };
        let (before, after) = (of(&parts), of(&joined));
        let after: Vec<usize> = after.into_iter().map(|part| perm[part]).collect();
        if before == after {
            continue;
        }
        let order = order(&before, &after, split)?;
        if found.replace((axis, order)).is_some() {
            return None;
        }
    }
    found
}

/// Positions along an axis made of the parts `after`, in terms of one made of the same parts in the order `before`.
fn order(before: &[usize], after: &[usize], sizes: &[Dim]) -> Option<Vec<usize>> {
    let mut strides = vec![0; sizes.len()];
    let mut stride = 1usize;
    for part in before.iter().rev() {
        strides[*part] = stride;
        stride = stride.checked_mul(sizes[*part].as_len()?)?;
    }
    let mut positions = vec![0];
    for part in after {
        if !before.contains(part) {
            return None;
        }
        let size = sizes[*part].as_len()?;
        let step = |at: &usize| {
            let (at, stride) = (*at, strides[*part]);
            (0..size).map(move |i| at + i * stride)
        };
        positions = positions.iter().flat_map(step).collect();
    }
    (positions.len() == stride).then_some(positions)
}

/// For each factor the axes that `of` says, the second of which must be nothing but the factor; all axes of `parts` but those of
/// length 1 are there.
fn whole_axes(
    factors: &[Factor],
    of: impl Fn(&Factor) -> (usize, usize),
    parts: &[Dim],
) -> Option<Vec<(usize, usize)>> {
    let all: Vec<(usize, usize)> = factors.iter().map(&of).collect();
    let is_whole = |f: &Factor| f.size == parts[of(f).1];
    let longer = parts.iter().filter(|n| n.as_number() != Some(1)).count();
    (factors.iter().all(is_whole) && all.len() == longer).then_some(all)
}

/// A factor that two shapes have in common.
struct Factor {
    size: Dim,
    /// The axis of the operand that it is of.
    from: usize,
    /// The axis of the result that it is of.
    to: usize,
    /// Whether what lies outside of it, in both axes, is known to be other factors; else what lies inside is.
    outside: bool,
}

/// The factors of both shapes, outermost first: those found from the left, then those from the right.
fn factors(operand: &[Dim], result: &[Dim]) -> Vec<Factor> {
    let axes = |shape: &[Dim]| -> Vec<(usize, Dim)> {
        let longer = shape
            .iter()
            .cloned()
            .enumerate()
            .filter(|(_, n)| n.as_number() != Some(1));
        longer.rev().collect()
    };
    // What is left of both, next at the end.
    let (mut a, mut b) = (axes(operand), axes(result));
    let mut found = divide(&mut a, &mut b, true);
    a.reverse();
    b.reverse();
    let mut last = divide(&mut a, &mut b, false);
    last.reverse();
    found.append(&mut last);
    found
}

/// Takes common factors off the ends of both lists while the sizes there divide one another.
fn divide(a: &mut Vec<(usize, Dim)>, b: &mut Vec<(usize, Dim)>, outside: bool) -> Vec<Factor> {
    let mut found = Vec::new();
    while let (Some((from, x)), Some((to, y))) = (a.last_mut(), b.last_mut()) {
        let (size, rest_x, rest_y) = match (exact(x, y), exact(y, x)) {
            (Some(rest), _) => (y.clone(), rest, Dim::from(1)),
            (_, Some(rest)) => (x.clone(), Dim::from(1), rest),
            (None, None) => break,
        };
        found.push(Factor {
            size,
            from: *from,
            to: *to,
            outside,
        });
        (*x, *y) = (rest_x, rest_y);
        let done = |(_, rest): &mut (usize, Dim)| rest.as_number() == Some(1);
        a.pop_if(done);
        b.pop_if(done);
    }
    found
}

/// x / y, if y divides x whatever the symbols are.
fn exact(x: &Dim, y: &Dim) -> Option<Dim> {
    if x == y {
        return Some(Dim::from(1));
    }
    if y.as_number().is_some_and(|n| n < 2) {
        return None;
    }
    let quotient = x.floor_div(y);
    let divides = quotient.as_number() != Some(0) && quotient.clone() * y.clone() == *x;
    divides.then_some(quotient)
}

/// Where factor `i` lies along its axis of length `size`, among the factors of the same axis.
fn spread(
    factors: &[Factor],
    i: usize,
    axis: impl Fn(&Factor) -> usize,
    size: &Dim,
) -> Option<Spread> {
    let own = &factors[i];
    let beside = if own.outside {
        &factors[..i]
    } else {
        &factors[i + 1..]
    };
    let beside = beside
        .iter()
        .filter(|f| axis(f) == axis(own) && f.outside == own.outside)
        .try_fold(1usize, |product, f| product.checked_mul(f.size.as_len()?))?;
    let (size, channels) = (size.as_len()?, own.size.as_len()?);
    let other = size.checked_div(beside.checked_mul(channels)?)?;
    let (repeats, block) = if own.outside {
        (beside, other)
    } else {
        (other, beside)
    };
    Some(Spread { repeats, block })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Type;

    fn shape(text: &str) -> Vec<Dim> {
        let ty: Type = format!("f32[{text}]").parse().unwrap();
        ty.shape().unwrap().to_vec()
    }

    /// Operand axis, channels, where they were and where they are, of each factor of an axis.
    fn found(operand: &str, result: &str, axis: usize) -> Vec<[usize; 6]> {
        let all = Factors::of(&shape(operand), &shape(result)).regroups(axis);
        let numbers = |r: &Regroup| {
            [
                r.axis,
                r.channels,
                r.from.repeats,
                r.from.block,
                r.to.repeats,
                r.to.block,
            ]
        };
        all.iter().map(numbers).collect()
    }

    #[test]
    fn axes_are_joined_and_split() {
        assert_eq!(
            found("N,8,3,2", "N,48", 1),
            [[1, 8, 1, 1, 1, 6], [2, 3, 1, 1, 8, 2], [3, 2, 1, 1, 24, 1]]
        );
        assert_eq!(found("N,8,H,W", "N,2,4,H,W", 1), [[1, 2, 1, 4, 1, 1]]);
        assert_eq!(found("N,8,H,W", "N,2,4,H,W", 2), [[1, 4, 2, 1, 1, 1]]);
        assert_eq!(found("N,8,H,W", "N,8,H*W", 1), [[1, 8, 1, 1, 1, 1]]);
        let whole = Factors::of(&shape("N,1,8,H,W"), &shape("N,8,H*W")).kept(1);
        assert_eq!(whole, Some(2));
        // Heads in the batch, as some attention has them.
        assert_eq!(found("L,N,8", "L,4*N,2", 2), [[2, 2, 4, 1, 1, 1]]);
        assert_eq!(found("N,6,1", "1,N,2,3", 3), [[1, 3, 2, 1, 1, 1]]);
    }

    #[test]
    fn what_is_cut_in_the_middle_leaves_the_ends() {
        // Windows of an image, of which only the channels stay whole.
        assert_eq!(
            found("N,H,W,8", "N*floor(H/7)*floor(W/7),49,8", 2),
            [[3, 8, 1, 1, 1, 1]]
        );
        assert_eq!(found("N,4,6,5", "N,3,8,5", 1), [[0; 6]; 0]);
        assert_eq!(found("N,4,6,5", "N,3,8,5", 3), [[3, 5, 1, 1, 1, 1]]);
        assert_eq!(found("2,0,3", "0,6", 0), [[0; 6]; 0]);
    }

    #[test]
    fn a_shuffle_is_an_order_of_channels() {
        let [x, split] = ["N,6,H,W", "N,2,3,H,W"].map(shape);
        assert_eq!(
            shuffle(&x, &split, &[0, 2, 1, 3, 4], &x),
            Some((1, vec![0, 3, 1, 4, 2, 5]))
        );
        assert_eq!(shuffle(&x, &split, &[0, 1, 2, 3, 4], &x), None);
        // Channels become rows: that is more than an order.
        let deeper = shape("N,2,3*H,W");
        assert_eq!(shuffle(&x, &split, &[0, 1, 3, 2, 4], &deeper), None);
    }
}
