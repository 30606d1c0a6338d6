//! How long operators take: from a table measured in a runtime on this machine, or from a roofline.
//!
//! Multiply-adds are not time: small layers wait for memory and for threads to start, and runtimes have fast ways only for some
//! shapes.

mod machine;
mod roofline;
mod shape;
mod table;

pub use machine::Machine;
pub use roofline::Roofline;
pub use shape::{Kind, Shape};
pub use table::{Entry, FORMAT, LatencyTable, Runtime};

use std::fmt;

/// What predicts the time of an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Latency {
    /// What the processor can do at most.
    Roofline(Roofline),
    /// What was measured.
    Table(LatencyTable),
}

impl Latency {
    /// Nanoseconds that an operator takes; never negative.
    pub fn nanoseconds(&self, shape: &Shape) -> f64 {
        match self {
            Latency::Roofline(roofline) => roofline.nanoseconds(shape),
            Latency::Table(table) => table.nanoseconds(shape),
        }
    }
}

/// `roofline of 2 cores ...`, `table of onnxruntime 1.22.0 on ...`.
impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::Roofline(roofline) => roofline.fmt(f),
            Latency::Table(table) => {
                let Runtime { name, version } = &table.runtime;
                let s = if table.threads == 1 { "" } else { "s" };
                write!(
                    f,
                    "table of {name} {version} on {}, {} thread{s}",
                    table.machine, table.threads
                )
            }
        }
    }
}
