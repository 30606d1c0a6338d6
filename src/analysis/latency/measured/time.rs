//! The time of a network, from several turns.

use serde::{Deserialize, Serialize};

/// How many turns a network has, before it is known whether they agree.
const TURNS: usize = 5;
/// How many times as many, at most, where they do not.
const MORE: usize = 3;
/// A spread over which they do not.
const SCATTERS: f64 = 0.1;

/// How long a network takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds of one run: the median of a turn, in the turn where that is least. Other programs only add to it.
    pub ns: f64,
    /// How much longer the turns at the first quartile took, as a share of that.
    pub spread: f64,
}

impl Time {
    /// The time that turns agree on; `turn` gives the median of one, in nanoseconds. Where they scatter there are more of them.
    ///
    /// # Errors
    /// What `turn` returns.
    pub fn of_turns(mut turn: impl FnMut() -> Result<f64, String>) -> Result<Time, String> {
        let mut turns = Vec::new();
        loop {
            for _ in 0..TURNS {
                turns.push(turn()?.max(1.0));
            }
            turns.sort_by(f64::total_cmp);
            let time = Time {
                ns: turns[0],
                spread: turns[turns.len() / 4] / turns[0] - 1.0,
            };
            if time.spread <= SCATTERS || turns.len() >= MORE * TURNS {
                return Ok(time);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(turns: &[f64]) -> (Time, usize) {
        let mut left = turns.iter();
        let time = Time::of_turns(|| left.next().copied().ok_or_else(|| "no more".to_string()));
        (time.unwrap(), turns.len() - left.len())
    }

    #[test]
    fn turns_that_agree_are_enough() {
        let (time, turns) = of(&[120.0, 100.0, 104.0, 300.0, 110.0, 1.0]);
        assert_eq!((time.ns, turns), (100.0, 5));
        assert!((time.spread - 0.04).abs() < 1e-9);
    }

    #[test]
    fn turns_that_scatter_are_repeated_and_the_spread_is_kept() {
        let first = [100.0, 150.0, 150.0, 150.0, 150.0];
        let (time, turns) = of(&[first, [101.0; 5]].concat());
        assert_eq!((time.ns, turns), (100.0, 10));
        let (time, turns) = of(&[first, [150.0; 5], [150.0; 5]].concat());
        assert_eq!((time.ns, time.spread, turns), (100.0, 0.5, 15));
    }
}
