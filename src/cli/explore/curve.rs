//! What can be had of a network: sizes, time and answers at several budgets.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use optc::Samples;
use optc::judge::{Time, Timing, Verdict};
use optc::passes::Point;
use optc::pipeline::RunOptions;
use optc::report::{Report, Stats};
use serde::Serialize;

/// The trade-off of one network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The model's file.
    pub model: String,
    /// What the budgets are of.
    pub cost: String,
    /// How many samples were fitted to.
    pub samples: usize,
    /// How many others were held out, to compare answers on.
    pub held_out: usize,
    /// The model as it is.
    pub original: Stats,
    /// The networks, from large to small.
    pub points: Vec<CurvePoint>,
    /// What the times were measured in; the first file is the model. Null where nothing was timed.
    pub timing: Option<Timing>,
    /// Why nothing was timed where that was asked for.
    pub not_measured: Option<String>,
    /// How far the outputs of the network that is written moved, as a runtime finds it; null where none is written.
    pub judge: Option<Verdict>,
    /// The file of that network.
    pub written: Option<String>,
}

/// One network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The budget, as a fraction of what the layers cost.
    pub at: f64,
    /// What it takes, against the model; null where nothing was timed.
    pub time: Option<Time>,
    /// Its size.
    pub stats: Stats,
    /// The share of answers that are the same, or of the variance of numbers that is kept; null without samples.
    pub agreement: Option<f64>,
    /// The least cosine of its outputs with the model's; null without samples.
    pub cosine: Option<f64>,
    /// By how much the outputs change by forecast, relative to their deviation.
    pub forecast: f64,
    /// What the layers became that are not as they were.
    pub layers: Vec<CurveLayer>,
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurveLayer {
    /// The layer.
    pub layer: String,
    /// Whether it is about the channels that it writes, and not about its form.
    pub channels: bool,
    /// The method that did it.
    pub method: String,
    /// What it made of it.
    pub what: String,
}

impl CurvePoint {
    /// What there is to say of a point.
    pub fn of(point: &Point) -> CurvePoint {
        let layers = point.taken.iter().map(|taken| CurveLayer {
            layer: taken.layer.clone(),
            channels: taken.is_channels,
            method: taken.method.to_string(),
            what: taken.what.clone(),
        });
        CurvePoint {
            at: point.aim,
            time: None,
            stats: Stats::of(&point.graph),
            agreement: point.alike.map(|alike| alike.agreement.max(0.0)),
            cosine: point.alike.map(|alike| alike.cosine),
            forecast: point.forecast,
            layers: layers.collect(),
        }
    }
}

impl Curve {
    /// A curve without points yet.
    pub fn of(model: &Path, options: &RunOptions, report: &Report) -> Curve {
        let count = |samples: &Option<Arc<Samples>>| samples.as_ref().map_or(0, |all| all.len());
        Curve {
            model: model.display().to_string(),
            cost: report.cost.clone(),
            samples: count(&options.samples),
            held_out: count(&options.held_out),
            original: report.before.clone(),
            points: Vec::new(),
            timing: None,
            not_measured: None,
            judge: None,
            written: None,
        }
    }

    /// Notes how long the files take, of which the first is the model.
    pub fn set_times(&mut self, timing: Timing) {
        let times = timing.files.iter().skip(1);
        for (point, time) in self.points.iter_mut().zip(times) {
            point.time = Some(*time);
        }
        self.timing = Some(timing);
    }

    /// The curve as indented JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        // Nothing in it fails to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// For each layer, or its channels, that any point changes: the method at each point.
    pub fn by_layer(&self) -> IndexMap<(&str, bool), Vec<&str>> {
        let mut rows: IndexMap<(&str, bool), Vec<&str>> = IndexMap::new();
        for (i, point) in self.points.iter().enumerate() {
            for taken in &point.layers {
                let row = rows.entry((&taken.layer, taken.channels)).or_default();
                row.resize(i, "");
                row.push(&taken.method);
            }
        }
        for row in rows.values_mut() {
            row.resize(self.points.len(), "");
        }
        rows
    }
}
