//! A method by itself: the pass of its name, which spends its own budget or competes under a shared one.

use std::sync::Arc;

use super::{Goal, Measure, compete};
use crate::ir::Graph;
use crate::pipeline::{Changed, Method, Options, Pass, PassContext, PassInfo, Values};
use crate::{Result, options};

options! {
    /// The options of a pass that is one method.
    pub struct AloneOptions {
        macs: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the fraction of the network's multiply-adds to keep; auto for 0.9";
    }
}

/// The fraction of the multiply-adds that is kept where nobody says.
const ALONE: f64 = 0.9;

/// The pass that `info` says, which is one method.
///
/// # Errors
/// For options of another type than [`AloneOptions`].
pub fn alone(
    info: &'static PassInfo,
    method: impl Method + 'static,
    options: &Options,
) -> Result<Box<dyn Pass>> {
    let macs = AloneOptions::of(options)?.macs;
    let method = Arc::new(method);
    Ok(Box::new(Alone { info, method, macs }))
}

struct Alone {
    info: &'static PassInfo,
    method: Arc<dyn Method>,
    /// `None` for what others decide, or [`ALONE`].
    macs: Option<f64>,
}

impl Pass for Alone {
    fn info(&self) -> &'static PassInfo {
        self.info
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let goal = Goal::Target {
            of: Measure::Macs,
            fraction: self.macs.unwrap_or(ALONE),
        };
        compete(self.info.name, &[&*self.method], goal, graph, context)
    }

    fn method(&self) -> Option<Arc<dyn Method>> {
        self.macs.is_none().then(|| self.method.clone())
    }
}
