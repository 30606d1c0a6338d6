//! Measured times of operators, kept in a file.

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::measured::Setting;
use super::roofline::Roofline;
use super::shape::{Kind, Shape};
use crate::files::write_whole;
use crate::{Error, Result};

/// The version of the file's format; a table of another is refused.
pub const FORMAT: u32 = 1;

/// Times of operators, measured in a runtime on a machine. As JSON it is the file that `optc profile` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    /// The version of this format.
    pub format: u32,
    /// The version of optc that measured.
    pub optc: String,
    /// The runtime that was measured.
    pub runtime: Runtime,
    /// Where.
    pub machine: Machine,
    /// The threads that the runtime had.
    pub threads: usize,
    /// The day, such as 2026-01-31.
    pub date: String,
    /// What was measured.
    pub entries: Vec<Entry>,
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Its name, as `optc profile --runtime` takes it.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The time of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The operator.
    #[serde(flatten)]
    pub shape: Shape,
    /// Nanoseconds.
    pub ns: f64,
}

impl LatencyTable {
    /// Reads a table that was measured on `machine`, with this version of the runtime if `installed` gives one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Latency`] for a file that is no table or not there, and for one of another format, machine or version of the
    /// runtime. The message has the command that makes a new one.
    pub fn read(
        path: &Path,
        machine: &Machine,
        installed: impl FnOnce(&str) -> Option<String>,
    ) -> Result<LatencyTable> {
        let refuse = |what: String, options: &str, output: &Path| Error::Latency {
            path: path.to_path_buf(),
            what,
            help: format!(
                "measure here: optc profile{options} -o {}",
                output.display()
            ),
        };
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => refuse("there is no such file".to_string(), "", path),
            _ => Error::Io {
                doing: "read",
                path: path.to_path_buf(),
                source,
            },
        })?;
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
        let format = parsed
            .as_ref()
            .ok()
            .and_then(|json| json.get("format")?.as_u64());
        if let Some(format) = format.filter(|format| *format != u64::from(FORMAT)) {
            let what = format!("a table of format {format}; this optc reads format {FORMAT}");
            return Err(refuse(what, "", path));
        }
        let table: LatencyTable = parsed.and_then(serde_json::from_value).map_err(|error| {
            // Whatever it is, it is not to be overwritten.
            let what = format!("not a latency table: {error}");
            refuse(what, "", Path::new("latency.json"))
        })?;
        let options = format!(
            " --runtime {} --threads {}",
            table.runtime.name, table.threads
        );
        let refuse = |what: String| Err(refuse(what, &options, path));
        if table.machine.cpu != machine.cpu {
            return refuse(format!(
                "measured on another processor, {}; this is {}",
                table.machine.cpu, machine.cpu
            ));
        }
        if table.machine.cores != machine.cores {
            return refuse(format!(
                "measured on {} cores; there are {} here",
                table.machine.cores, machine.cores
            ));
        }
        let Runtime { name, version } = &table.runtime;
        if let Some(installed) = installed(name).filter(|installed| installed != version) {
            return refuse(format!(
                "measured with {name} {version}; here is {installed}"
            ));
        }
        if let Some(bad) = table
            .entries
            .iter()
            .find(|e| !(e.ns > 0.0 && e.ns.is_finite()))
        {
            return refuse(format!("an operator takes {} ns", bad.ns));
        }
        if table.entries.is_empty() {
            return refuse("it has no entries".to_string());
        }
        Ok(table)
    }

    /// Where it was measured.
    pub fn setting(&self) -> Setting {
        Setting {
            runtime: self.runtime.clone(),
            machine: self.machine.clone(),
            threads: self.threads,
        }
    }

    /// Writes the table to a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        // Nothing in a table fails to serialise.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_whole(path, |file| {
            file.write_all(text.as_bytes()).map_err(|source| Error::Io {
                doing: "write",
                path: path.to_path_buf(),
                source,
            })
        })
    }

    /// Nanoseconds that an operator takes, more than 0 but for a [`Kind::View`].
    ///
    /// A roofline says how time grows with work; how far it is off is measured at the entries of the same kind and taken
    /// between them as the mean of the logarithms, the nearest counting most. Operators of a kind that was not measured are off
    /// as all those are that also compute, or that also only move data.
    pub fn nanoseconds(&self, shape: &Shape) -> f64 {
        let roofline = Roofline::new(self.threads, self.machine.lanes);
        let expected = roofline.nanoseconds(shape);
        if shape.op == Kind::View {
            return expected;
        }
        let off = |entry: &Entry| (entry.ns / roofline.nanoseconds(&entry.shape)).ln();
        let held = self.entries.iter().any(|e| e.shape.op == shape.op);
        let stands_in = |kind: Kind| match kind {
            Kind::Conv | Kind::Pointwise | Kind::Linear => shape.macs > 0,
            Kind::Depthwise | Kind::Gather | Kind::Pool => shape.macs == 0,
            _ => false,
        };
        let (mut sum, mut weights) = (0.0, 0.0);
        for entry in &self.entries {
            let weight = if held && entry.shape.op == shape.op {
                nearness(shape.distance(&entry.shape))
            } else if !held && stands_in(entry.shape.op) {
                1.0
            } else {
                continue;
            };
            sum += weight * off(entry);
            weights += weight;
        }
        if weights > 0.0 {
            expected * (sum / weights).exp()
        } else {
            expected
        }
    }
}

/// How much what was measured at this distance counts.
pub(super) fn nearness(distance: f64) -> f64 {
    (distance + NEAR).powi(-4)
}

/// A distance below which entries count as the same, in powers of two.
const NEAR: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(channels: u64, positions: u64) -> Shape {
        Shape {
            op: Kind::Pointwise,
            kernel: 1,
            stride: 1,
            channels_in: channels,
            channels_out: channels,
            positions,
            macs: channels * channels * positions,
            moved: 2 * channels * positions + channels * channels,
        }
    }

    fn table(entries: &[(Shape, f64)]) -> LatencyTable {
        LatencyTable {
            format: FORMAT,
            optc: "0".into(),
            runtime: Runtime {
                name: "onnxruntime".into(),
                version: "1.22.0".into(),
            },
            machine: Machine {
                cpu: "a processor".into(),
                cores: 2,
                lanes: 8,
            },
            threads: 2,
            date: "2026-01-31".into(),
            entries: entries
                .iter()
                .map(|(shape, ns)| Entry {
                    shape: *shape,
                    ns: *ns,
                })
                .collect(),
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-3
    }

    #[test]
    fn what_was_measured_comes_back() {
        let (small, large) = (point(16, 64), point(512, 196));
        let table = table(&[(small, 700.0), (large, 90_000.0)]);
        assert!(close(table.nanoseconds(&small), 700.0));
        assert!(close(table.nanoseconds(&large), 90_000.0));
    }

    #[test]
    fn between_entries_time_grows_with_work() {
        let sizes = [16, 32, 64, 128, 256, 512].map(|channels| point(channels, 196));
        let entries = sizes.map(|shape| (shape, 500.0 + shape.macs as f64 / 100.0));
        let table = table(&entries);
        let mut last = 0.0;
        for channels in (8..=1024).step_by(8) {
            let shape = point(channels, 196);
            let ns = table.nanoseconds(&shape);
            assert!(ns > last, "{channels} channels: {ns} after {last}");
            let expected = 500.0 + shape.macs as f64 / 100.0;
            assert!(
                (0.5..2.0).contains(&(ns / expected)),
                "{channels} channels: {ns}"
            );
            last = ns;
        }
    }

    #[test]
    fn beyond_the_entries_time_is_in_proportion_to_work() {
        let table = table(&[(point(256, 784), 400_000.0)]);
        let ns = table.nanoseconds(&point(1024, 3136));
        assert!((40.0..80.0).contains(&(ns / 400_000.0)), "{ns}");
    }

    #[test]
    fn kinds_that_were_not_measured_are_off_as_others_are() {
        let table_of = |factor: f64| {
            let shape = point(64, 784);
            table(&[(shape, factor * Roofline::new(2, 8).nanoseconds(&shape))])
        };
        let matmul = Shape {
            op: Kind::Other,
            ..point(128, 196)
        };
        let ratio = table_of(3.0).nanoseconds(&matmul) / table_of(1.0).nanoseconds(&matmul);
        assert!(close(ratio, 3.0), "{ratio}");
        let silu = Shape {
            op: Kind::Unary,
            macs: 0,
            ..matmul
        };
        assert!(table_of(3.0).nanoseconds(&silu) > 0.0);
    }
}
