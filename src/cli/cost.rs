//! What `--cost` names: tables are read, and measured times kept.

use std::sync::Arc;

use optc::analysis::latency::{Latency, LatencyTable, Machine, Measured, Roofline};
use optc::pipeline::Cost;
use optc::{Error, job, judge};

use super::args::{self, Args};
use super::profile;
use super::warnings::complain;

/// The cost, with the table or the measurements that its file has.
pub fn open(args: &Args) -> Result<Cost, Error> {
    let threads = args.threads.unwrap_or(1);
    let mut warn = |warning: &str| complain("warning", &warning);
    let Some(cost) = &args.cost else {
        // Where passes are named, they go by what they always went by.
        let competing = args.data.is_some() && (args.passes.is_none() || args.keep.is_some());
        return job::usual_cost(args.goal(), competing, threads, &mut warn);
    };
    let latency = match cost {
        args::Cost::Macs => return Ok(Cost::Macs),
        args::Cost::Params => return Ok(Cost::Params),
        args::Cost::Time(None) => return job::time(threads, &mut warn),
        args::Cost::Time(Some(file)) => {
            Latency::Measured(Measured::pinned(file, judge::meter(threads.into())?)?)
        }
        args::Cost::Latency(None) => Latency::Roofline(Roofline::of_this_machine()),
        args::Cost::Latency(Some(path)) => Latency::Table(LatencyTable::read(
            path,
            &Machine::this(),
            profile::installed,
        )?),
    };
    Ok(Cost::Latency(Arc::new(latency)))
}

/// Keeps what was measured.
pub fn keep(cost: &Cost) {
    if let Cost::Latency(latency) = cost
        && let Latency::Measured(measured) = &**latency
        && let Err(error) = measured.save()
    {
        complain("warning", &format!("measured times are not kept: {error}"));
    }
}
