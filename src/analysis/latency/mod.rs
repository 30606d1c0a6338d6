//! How long operators take: measured in a runtime when it is asked, from a table of such times, or from a roofline.
//!
//! Multiply-adds are not time: small layers wait for memory and for threads to start, and runtimes have fast ways only for some
//! shapes.

mod machine;
pub(crate) mod measured;
mod roofline;
mod shape;
mod table;

pub use machine::Machine;
pub use measured::{Limits, Measured, Meter, Setting, Time};
pub use roofline::Roofline;
pub use shape::{Kind, Shape};
pub use table::{Entry, FORMAT, LatencyTable, Runtime};

use std::fmt;

use crate::ir::{Dim, Op, Type};

/// What predicts the time of an operator.
#[derive(Debug, PartialEq)]
pub enum Latency {
    /// What the processor can do at most.
    Roofline(Roofline),
    /// What was measured of operators like it.
    Table(LatencyTable),
    /// What is measured of it.
    Measured(Measured),
}

/// The least that an operator is taken to cost, as a share of what a roofline says: next to nothing, where the runtime does it
/// together with another.
pub(crate) const LEAST_SHARE: f64 = 0.02;

impl Latency {
    /// Nanoseconds that `op` takes on operands of these types, where `number` gives sizes their numbers; never negative.
    pub fn nanoseconds(
        &self,
        op: &Op,
        operands: &[&Type],
        results: &[Type],
        number: &dyn Fn(&Dim) -> u64,
    ) -> f64 {
        let shape = || Shape::of(op, operands, results, number);
        match self {
            Latency::Roofline(roofline) => roofline.nanoseconds(&shape()),
            Latency::Table(table) => table.nanoseconds(&shape()),
            Latency::Measured(measured) => measured.operator(op, operands, results, number),
        }
    }
}

/// `roofline of 2 cores ...`, `table of onnxruntime 1.22.0 on ...`.
impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::Roofline(roofline) => roofline.fmt(f),
            Latency::Table(table) => write!(f, "table of {}", table.setting()),
            Latency::Measured(measured) => measured.fmt(f),
        }
    }
}
