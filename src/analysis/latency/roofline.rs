//! Times from what a processor can do at most: multiply-adds a second, and bytes a second.

use std::fmt;

use super::machine::Machine;
use super::shape::{Kind, Shape};

/// The two rates that bound an operator's time, and what starting it takes.
///
/// The rates are assumptions about a core of the kind that this is, not measurements: the same model on the same machine gives
/// the same result. They are coarse; what matters is which of two operators is faster, and a table measured on the machine
/// ([`LatencyTable`](super::LatencyTable)) knows that better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Cores at work.
    cores: usize,
    /// 32-bit floats in a vector register.
    lanes: usize,
}

/// Cycles a second that a core is taken to run at.
const CLOCK: f64 = 3.0e9;

/// Vectors of multiply-adds that a core starts in a cycle.
const VECTORS: f64 = 2.0;

/// Bytes a second that a core is taken to move, mostly within its caches.
const BANDWIDTH: f64 = 30.0e9;

/// Nanoseconds until an operator's threads are at work.
const OVERHEAD: f64 = 2000.0;

impl Roofline {
    /// Of `cores` cores with vectors of `lanes` 32-bit floats.
    pub fn new(cores: usize, lanes: usize) -> Roofline {
        Roofline {
            cores: cores.max(1),
            lanes: lanes.max(1),
        }
    }

    /// Of the machine that this runs on.
    pub fn of_this_machine() -> Roofline {
        let machine = Machine::this();
        Roofline::new(machine.cores, machine.lanes)
    }

    /// Nanoseconds that an operator takes.
    pub fn nanoseconds(&self, shape: &Shape) -> f64 {
        if shape.op == Kind::View {
            return 0.0;
        }
        let cores = self.cores as f64;
        let peak = cores * CLOCK * VECTORS * self.lanes as f64;
        let padding = self.padding(shape);
        let compute = shape.macs as f64 * padding / (peak * efficiency(shape.op));
        let moved = match shape.op {
            Kind::Depthwise => shape.moved as f64 * padding,
            _ => shape.moved as f64,
        };
        let memory = 4.0 * moved * passes(shape.op) / (cores * BANDWIDTH);
        OVERHEAD + 1e9 * compute.max(memory)
    }

    /// How much of a convolution's work is there only to fill vectors of channels, as a factor. Runtimes pad the result's
    /// channels, and the operand's where both can be kept in whole vectors: 20 channels then take as long as 32.
    fn padding(&self, shape: &Shape) -> f64 {
        let lanes = self.lanes as u64;
        let pad = |channels: u64| channels.next_multiple_of(lanes) as f64 / channels.max(1) as f64;
        match shape.op {
            Kind::Conv | Kind::Pointwise if shape.is_aligned() && shape.channels_in >= lanes => {
                pad(shape.channels_in) * pad(shape.channels_out)
            }
            Kind::Conv | Kind::Pointwise | Kind::Depthwise => pad(shape.channels_out),
            _ => 1.0,
        }
    }
}

/// The share of the peak that kernels of this kind reach where memory is no bound.
fn efficiency(kind: Kind) -> f64 {
    match kind {
        Kind::Conv | Kind::Pointwise => 0.8,
        Kind::Linear => 0.5,
        // Each number read is used for few multiply-adds.
        Kind::Depthwise => 0.2,
        _ => 0.1,
    }
}

/// How often the data is moved. Runtimes keep channels in blocks; picking single ones leaves that layout and comes back.
fn passes(kind: Kind) -> f64 {
    match kind {
        Kind::Gather => 2.0,
        _ => 1.0,
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.cores == 1 { "" } else { "s" };
        write!(
            f,
            "roofline of {} core{s} with vectors of {}",
            self.cores, self.lanes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::infer::infer;
    use crate::ir::{Dim, Op, Padding, Type};
    use smallvec::smallvec;

    fn conv(x: &Type, channels: usize, kernel: usize, groups: usize) -> (Op, Type) {
        let op = Op::Conv {
            stride: smallvec![1, 1],
            pad: Padding::symmetric([kernel / 2, kernel / 2]),
            dilation: smallvec![1, 1],
            groups,
        };
        let inner = x.len(1).unwrap() / groups;
        let weight = Type::tensor(
            x.dtype().unwrap(),
            [channels, inner, kernel, kernel].map(Dim::from),
        );
        (op, weight)
    }

    /// Nanoseconds, and the result's type.
    fn run(roofline: &Roofline, op: &Op, operands: &[&Type]) -> (f64, Type) {
        let results = infer(op, operands).unwrap();
        let number = |dim: &Dim| dim.as_len().unwrap() as u64;
        let shape = Shape::of(op, operands, &results, &number);
        (roofline.nanoseconds(&shape), results[0].clone())
    }

    /// The time of a separated 3 x 3 convolution with 2.5 kernels a channel, relative to the dense one.
    fn separated(channels: usize, side: usize) -> f64 {
        let roofline = Roofline::new(2, 16);
        let x: Type = format!("f32[1,{channels},{side},{side}]").parse().unwrap();
        let (op, weight) = conv(&x, channels, 3, 1);
        let (dense, _) = run(&roofline, &op, &[&x, &weight]);
        let kernels = 5 * channels / 2;
        let index = (0..kernels).map(|i| (i * channels / kernels) as u32);
        let gather = Op::Gather {
            axis: 1,
            index: index.collect(),
        };
        let (first, y) = run(&roofline, &gather, &[&x]);
        let (op, weight) = conv(&y, kernels, 3, kernels);
        let (second, y) = run(&roofline, &op, &[&y, &weight]);
        let (op, weight) = conv(&y, channels, 1, 1);
        let (third, _) = run(&roofline, &op, &[&y, &weight]);
        (first + second + third) / dense
    }

    #[test]
    fn small_layers_are_slower_separated_and_large_ones_faster() {
        // What ONNX Runtime takes on two cores: 1.44, 0.91, 0.46, 0.40, 0.35, 0.26.
        assert!(separated(16, 32) > 1.0);
        assert!(separated(64, 8) < 1.0);
        for (channels, side) in [(64, 56), (128, 28), (256, 14), (512, 7)] {
            let ratio = separated(channels, side);
            assert!((0.2..0.6).contains(&ratio), "{channels} at {side}: {ratio}");
        }
    }

    #[test]
    fn what_moves_no_data_is_free() {
        let roofline = Roofline::of_this_machine();
        let x: Type = "f32[1,8,4,4]".parse().unwrap();
        let flatten = Op::Flatten { start: 1, end: 3 };
        assert_eq!(run(&roofline, &flatten, &[&x]).0, 0.0);
        assert!(run(&roofline, &Op::Relu {}, &[&x]).0 > 0.0);
    }
}
