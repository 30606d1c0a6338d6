//! How long files take in the runtime, measured in turns: what else the machine does for a while meets all of them alike.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::inputs::{Feed, Feeds};
use super::runtime::{Absent, Judge, Session};
use super::{Options, printed};
use crate::ir::Graph;
use crate::{Error, Result};

/// How long a file is run in a turn, at least: a clock tells less of less.
const TURN: Duration = Duration::from_millis(20);
/// How long the files are run together, about.
const ALL: Duration = Duration::from_secs(8);
/// How many turns there are; networks that take long have few.
const TURNS: std::ops::RangeInclusive<usize> = 5..=25;

/// How long files take, each against the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The runtime, and its version.
    pub by: String,
    /// The threads that it had.
    pub threads: usize,
    /// The shapes of the inputs.
    pub on: String,
    /// How often each file had its turn.
    pub turns: usize,
    /// Each file.
    pub files: Vec<Time>,
}

impl Timing {
    /// The timing as indented JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        // Nothing in it fails to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// How long one file takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Time {
    /// Seconds of one run, the median over turns.
    pub seconds: f64,
    /// The time as a share of the first file's in the same turn, the median over turns.
    pub ratio: f64,
    /// The first and third quartiles of that share.
    pub spread: [f64; 2],
}

/// `0.75 times (0.74 to 0.76)`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.spread;
        write!(f, "{:.2} times ({low:.2} to {high:.2})", self.ratio)
    }
}

/// `ONNX Runtime 1.26.0, 1 thread, 25 turns, on 1x3x32x32`.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.threads == 1 { "" } else { "s" };
        write!(
            f,
            "{}, {} thread{s}, {} turns, on {}",
            self.by, self.threads, self.turns, self.on
        )
    }
}

/// Runs files in turns. The first was read as `graph`, which says what the inputs are; the others take the same.
///
/// # Errors
/// [`Error::Usage`] when there is no runtime for the files, or when it refuses one of them.
pub fn time(files: &[&Path], graph: &Graph, options: &Options) -> Result<Timing> {
    let unusable = |Absent { what, help }| Error::Usage { what, help };
    let refused = |path: &Path, what: String| {
        Error::Usage {
        what: format!("{}: the runtime refuses it: {what}", path.display()),
        help: "give the inputs' shapes, such as --input 1x3x224x224; all files have to take the same inputs".to_string(),
    }
    };
    let threads = options.threads.max(1);
    let options = Options {
        threads,
        ..options.clone()
    };
    let mut by: Vec<String> = Vec::new();
    let mut sessions = Vec::new();
    for path in files {
        let judge = Judge::of(path, 0, &options).map_err(unusable)?;
        if !by.contains(&judge.title()) {
            by.push(judge.title());
        }
        sessions.push(judge.open(path).map_err(|what| refused(path, what))?);
    }
    let Some(first) = sessions.first_mut() else {
        return Err(Error::Usage {
            what: "there is nothing to time".to_string(),
            help: "name files".to_string(),
        });
    };
    let feed =
        Feeds::of_one(graph, &options, &mut **first).map_err(|what| refused(files[0], what))?;
    let mut runs = Vec::new();
    let mut whole = Duration::ZERO;
    for (session, path) in sessions.iter_mut().zip(files) {
        let warm = warmed_up(&mut **session, &feed).map_err(|what| refused(path, what))?;
        let count = (TURN.as_secs_f64() / warm.as_secs_f64().max(1e-9)).ceil();
        runs.push((count as usize).clamp(1, 1 << 20));
        whole += warm.max(TURN);
    }
    let turns = (ALL.as_secs_f64() / whole.as_secs_f64().max(1e-9)) as usize;
    let turns = turns.clamp(*TURNS.start(), *TURNS.end());
    let mut seconds = vec![Vec::new(); files.len()];
    for turn in 0..turns {
        // Forth and back, so that none always follows the same one.
        let order = (0..files.len()).map(|k| {
            if turn % 2 == 0 {
                k
            } else {
                files.len() - 1 - k
            }
        });
        for k in order {
            let took = sessions[k].repeat(&feed, runs[k]);
            let took = took.map_err(|what| refused(files[k], what))?;
            seconds[k].push(took.as_secs_f64() / runs[k] as f64);
        }
    }
    Ok(Timing {
        by: by.join(" and "),
        threads,
        on: printed(&feed),
        turns,
        files: seconds.iter().map(|of| Time::of(of, &seconds[0])).collect(),
    })
}

/// How long one run takes once the runtime has what it wants to have.
fn warmed_up(session: &mut dyn Session, feed: &Feed) -> Result<Duration, String> {
    session.repeat(feed, 1)?;
    let start = Instant::now();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        best = best.min(session.repeat(feed, 1)?);
        if start.elapsed() > TURN {
            break;
        }
    }
    Ok(best)
}

impl Time {
    fn of(seconds: &[f64], first: &[f64]) -> Time {
        let mut ratios: Vec<f64> = seconds.iter().zip(first).map(|(s, f)| s / f).collect();
        let mut seconds = seconds.to_vec();
        Time {
            seconds: quantile(&mut seconds, 0.5),
            ratio: quantile(&mut ratios, 0.5),
            spread: [quantile(&mut ratios, 0.25), quantile(&mut ratios, 0.75)],
        }
    }
}

/// What a share of the numbers is below, on the line between its neighbours.
fn quantile(numbers: &mut [f64], share: f64) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let at = share * numbers.len().saturating_sub(1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let number = |k: usize| numbers.get(k).copied().unwrap_or(f64::NAN);
    number(low) + (number(high) - number(low)) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_slow_for_all_moves_no_ratio() {
        let first = [1.0, 1.0, 9.0, 1.0, 1.0];
        let other = [0.5, 0.5, 4.5, 0.6, 0.4];
        let time = Time::of(&other, &first);
        assert_eq!(
            (time.seconds, time.ratio, time.spread),
            (0.5, 0.5, [0.5, 0.5])
        );
        assert_eq!(time.to_string(), "0.50 times (0.50 to 0.50)");
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let mut numbers = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&mut numbers, 0.5), 2.5);
        assert_eq!(quantile(&mut numbers, 0.25), 1.75);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
