//! The operators that a gather with factors and constants becomes.

use super::channel_map::{ChannelMap, MapEntry};
use crate::ir::{Dim, Dims, Op, PadMode, Type};

/// One operator of a gather, on the result of the one before.
pub struct Step {
    /// The operator; its first operand is that result.
    pub op: Op,
    /// One factor for each channel, if the operator is a product with them.
    pub factors: Option<Vec<f64>>,
}

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        Step { op, factors: None }
    }
}

/// The operators that do the map along `axis` of a value of type `x`: pads for constants, then a slice or a gather, then a
/// product with factors. Whoever asks may know more sizes than `x` says: an axis of unknown size is gathered from, too.
///
/// # Errors
/// When the number of axes is unknown.
pub fn steps(x: &Type, axis: usize, map: &ChannelMap) -> Result<Vec<Step>, String> {
    let rank = x
        .rank()
        .ok_or("a gather from a value whose shape is unknown")?;
    let size = x.len(axis);
    if let Some((before, after, constant)) = size.and_then(|n| as_pad(map, n)) {
        return Ok(vec![pad(rank, axis, before, after, constant).into()]);
    }
    let constants = constants(map);
    // Constants come after the channels, or before them where nobody knows how many there are.
    let (channels_at, constants_at) = match size {
        Some(n) => (0, n),
        None => (constants.len() as u32, 0),
    };
    let place = |entry: &MapEntry| match *entry {
        MapEntry::Channel { index, .. } => channels_at + index,
        MapEntry::Constant(c) => {
            let same = |known: &f64| known.to_bits() == c.0.to_bits();
            let at = constants.iter().position(same).unwrap_or_default();
            (constants_at + at) as u32
        }
    };
    let index: Vec<u32> = map.0.iter().map(place).collect();
    let one = |(i, constant): (usize, &f64)| match size {
        Some(_) => pad(rank, axis, 0, 1, *constant).into(),
        None => pad(rank, axis, 1, 0, constants[constants.len() - 1 - i]).into(),
    };
    let mut steps: Vec<Step> = constants.iter().enumerate().map(one).collect();
    let consecutive = index.windows(2).all(|w| w[1] == w[0] + 1);
    let padded = size.map(|n| n + constants.len());
    let whole = padded == Some(index.len()) && consecutive && index.first() == Some(&0);
    if let (false, true, Some(first), Some(_)) = (whole, consecutive, index.first(), size) {
        let first = *first as usize;
        let slice = Op::Slice {
            axis,
            start: Dim::from(first),
            end: Dim::from(first + index.len()),
            step: 1,
        };
        steps.push(slice.into());
    } else if !whole {
        let index = index.into();
        steps.push(Op::Gather { axis, index }.into());
    }
    let factors: Vec<f64> = map
        .0
        .iter()
        .map(|entry| match entry {
            MapEntry::Channel { scale, .. } => scale.0,
            MapEntry::Constant(_) => 1.0,
        })
        .collect();
    if factors.iter().any(|f| *f != 1.0) {
        steps.push(Step {
            op: Op::Mul {},
            factors: Some(factors),
        });
    }
    Ok(steps)
}

/// The constants of a map, each once.
fn constants(map: &ChannelMap) -> Vec<f64> {
    let mut constants: Vec<f64> = Vec::new();
    for entry in map.0.iter() {
        if let MapEntry::Constant(c) = entry
            && !constants
                .iter()
                .any(|known| known.to_bits() == c.0.to_bits())
        {
            constants.push(c.0);
        }
    }
    constants
}

fn pad(rank: usize, axis: usize, before: usize, after: usize, value: f64) -> Op {
    let only = |n: usize| -> Dims {
        (0..rank)
            .map(|a| Dim::from(if a == axis { n } else { 0 }))
            .collect()
    };
    Op::Pad {
        before: only(before),
        after: only(after),
        mode: PadMode::Constant,
        value: value.into(),
    }
}

/// Whether the map is all `n` channels in order with one constant around them.
fn as_pad(map: &ChannelMap, n: usize) -> Option<(usize, usize, f64)> {
    let constant = |entry: &MapEntry| match entry {
        MapEntry::Constant(value) => Some(value.0),
        MapEntry::Channel { .. } => None,
    };
    let before = map
        .0
        .iter()
        .take_while(|entry| constant(entry).is_some())
        .count();
    let after = map.len().checked_sub(before + n)?;
    let middle: ChannelMap = map.0[before..before + n].iter().copied().collect();
    let mut values = map.0[..before]
        .iter()
        .chain(&map.0[before + n..])
        .map(constant);
    let value = values.next()??;
    let same = values.all(|v| v.is_some_and(|v| v.to_bits() == value.to_bits()));
    (same && middle.is_identity(n)).then_some((before, after, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Array, Interpreter};
    use crate::ir::{Constant, DType, Graph, Role, Tensor};
    use ndarray::{ArrayD, IxDyn};

    #[test]
    fn maps_are_done_along_axes_of_known_and_unknown_size() {
        let channel = |index, scale: f64| MapEntry::Channel {
            index,
            scale: scale.into(),
        };
        let map: ChannelMap = [
            channel(2, 1.0),
            MapEntry::Constant(5.0.into()),
            channel(0, -2.0),
            MapEntry::Constant(7.0.into()),
            MapEntry::Constant(5.0.into()),
        ]
        .into_iter()
        .collect();
        for ty in ["f32[2,3]", "f32[2,n]"] {
            let ty: Type = ty.parse().unwrap();
            let mut graph = Graph::new("map");
            let mut value = graph.add_input("x", ty.clone()).into();
            for Step { op, factors } in steps(&ty, 1, &map).unwrap() {
                let mut operands = vec![value];
                if let Some(factors) = factors {
                    let tensor = Tensor::from_f64(DType::F32, &[factors.len()], factors);
                    let constant = Constant::new(tensor, Role::Literal);
                    operands.push(graph.add_constant("factors", constant).into());
                }
                value = graph.add_op("step", op, &operands).unwrap().into();
            }
            graph.add_output("y", value);
            let x = ArrayD::from_shape_vec(IxDyn(&[2, 3]), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let net = Interpreter::<f64>::new(&graph).unwrap();
            let y = net
                .run(vec![Array::Shared(x.unwrap().into_shared())])
                .unwrap();
            let expected = [3.0, 5.0, -2.0, 7.0, 5.0, 6.0, 5.0, -8.0, 7.0, 5.0];
            assert!(y[0].view().iter().copied().eq(expected), "{ty}: {}", graph);
        }
        assert!(steps(&"f32[*]".parse().unwrap(), 1, &map).is_err());
    }
}
