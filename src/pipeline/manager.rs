//! The pass manager: runs the steps of a pipeline, checks and measures each pass.

use std::time::Instant;

use super::check::{Check, refuse_new_non_finite};
use super::checkpoint::Checkpoint;
use super::context::PassContext;
use super::observer::Observer;
use super::pass::{Changed, Pass};
use super::refuse_unknown_sizes;
use super::remarks::{lost_mask, masked, overridable};
use super::run_options::{RunOptions, Verify};
use super::statistics_file::StatisticsFile;
use super::text::REPEAT;
use super::training::{TrainingContext, no_training_data};
use super::{Cost, Kind, Remark, RemarkKind};
use super::{Pipeline, Step};
use crate::analysis::prior::PriorMoments;
use crate::analysis::{CostModel, Sparsity};
use crate::data::{Data, Samples};
use crate::exec::{self, Foreign, Interpreter, Sampled};
use crate::formats::{InputShape, bind_inputs};
use crate::ir::Graph;
use crate::report::{Calibration, Change, Evaluation, PassReport, Report, Stats, Verification};
use crate::{Error, Model, Result};

pub(super) fn run(
    pipeline: &Pipeline,
    model: &mut Model,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Report> {
    if options.threads == 0 {
        return run_here(pipeline, model, options, observer);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|error| Error::Usage {
            what: format!("cannot start {} threads: {error}", options.threads),
            help: "ask for fewer".to_string(),
        })?;
    pool.install(|| run_here(pipeline, model, options, observer))
}

fn run_here(
    pipeline: &Pipeline,
    model: &mut Model,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let original = prepared(pipeline, &model.graph, options)?;
    let check = Check::new(&original, options)?;
    let checkpoint = match &options.checkpoint {
        Some(path) if pipeline.trains() => {
            Some(Checkpoint::of(path, pipeline, &original, options)?)
        }
        _ => None,
    };
    if options.eval.is_some() {
        // What cannot be run is known before any work is.
        Interpreter::<f32>::new(&original)?;
    }
    let statistics = statistics(&original, options)?;
    let mut manager = Manager {
        graph: original.clone(),
        original: &original,
        check,
        options,
        observer,
        checkpoint,
        statistics,
        reports: Vec::new(),
        prior: PriorMoments::of(&original),
        samples_used: false,
        samples_missed: Vec::new(),
        exact: true,
    };
    let before = Stats::of(&original);
    let _ = manager.run_steps(&pipeline.steps)?;
    let verify = manager.check_whole()?;
    let Manager {
        graph,
        reports,
        observer,
        exact,
        samples_used,
        samples_missed,
        ..
    } = manager;
    let eval = options
        .eval
        .as_deref()
        .map(|data| evaluate(&original, &graph, data, options, observer))
        .transpose()?;
    let report = Report {
        optc: env!("CARGO_PKG_VERSION"),
        model: String::new(),
        pipeline: pipeline.to_string(),
        seed: options.seed,
        cost: options.cost.described(),
        predicted_seconds: predicted(&options.cost, &original, &graph),
        before,
        after: Stats::of(&graph),
        sparsity: Sparsity::of(&graph),
        passes: reports,
        exact,
        verify,
        judge: None,
        time: None,
        calibration: options.samples.as_deref().map(|samples| {
            let used = samples_used || pipeline.trains();
            let foreign = options.foreign.as_deref();
            Calibration::of(samples, used, samples_missed, foreign.map(Foreign::title))
        }),
        eval,
    };
    model.graph = graph;
    Ok(report)
}

/// The file of what was measured, if there is to be one.
fn statistics(original: &Graph, options: &RunOptions) -> Result<Option<StatisticsFile>> {
    match (&options.statistics, &options.samples) {
        (None, _) => Ok(None),
        (Some(path), Some(samples)) => StatisticsFile::open(path, original, samples).map(Some),
        (Some(_), None) => Err(Error::Usage {
            what: "statistics are measured on samples, and there are none".to_string(),
            help: "give some by --data".to_string(),
        }),
    }
}

/// The graph as the run starts from it, with the sizes that samples have; refuses what the options cannot be used on.
fn prepared(pipeline: &Pipeline, graph: &Graph, options: &RunOptions) -> Result<Graph> {
    let mut original = graph.clone();
    if let Some(samples) = &options.samples {
        bind_to(&mut original, samples)?;
        exec::inputs::refuse_unfit_samples(&original, samples)?;
        if options.foreign.is_some() && !exec::unknown_operators(&original, None).is_empty() {
            let sampled = Sampled {
                samples: samples.clone(),
                foreign: options.foreign.clone(),
                in_memory: options.in_memory,
            };
            exec::learn_sizes(&mut original, &sampled);
        }
    }
    if let Cost::Latency(_) = options.cost {
        // Time depends on every size; a guess would decide everything.
        refuse_unknown_sizes(&format!("the cost `{}`", options.cost.name()), &original)?;
    }
    // What cannot be done is known before any work is.
    if pipeline.trains() && options.data.is_none() {
        return Err(no_training_data());
    }
    Ok(original)
}

/// What one run of either graph takes, where time is what is made smaller.
fn predicted(cost: &Cost, original: &Graph, result: &Graph) -> Option<Change> {
    let seconds = |graph: &Graph| CostModel::new(cost, &graph.bindings).seconds(graph);
    match cost {
        Cost::Macs | Cost::Params => None,
        Cost::Latency(_) => Some(Change {
            before: seconds(original),
            after: seconds(result),
        }),
    }
}

/// How both graphs do on the data of `--eval`.
fn evaluate(
    original: &Graph,
    result: &Graph,
    data: &Data,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let found = exec::agree(original, result, data, options.foreign.as_deref(), |done| {
        observer.evaluating(done);
        options.cancellation.check()
    })?;
    let share = |k: usize| found.top1.as_ref().map(|top1| top1[k].share());
    Ok(Evaluation {
        data: data.name().to_string(),
        samples: found.samples,
        top1_before: share(0),
        top1_after: share(1),
        agreement: found.agreement,
        cosine: found.cosine,
        left_out: found.left_out,
    })
}

/// Gives the sizes of inputs that have no number those of the first sample. A number that there is stays.
fn bind_to(graph: &mut Graph, samples: &Samples) -> Result<()> {
    let mut shapes = Vec::new();
    for node in graph.inputs() {
        let name = &graph.node(*node).name;
        let mut inputs = samples.inputs.iter();
        let only = graph.sole_input() == Some(*node) && samples.inputs.len() == 1;
        let input = inputs.find(|input| only || input.name == *name);
        let Some((input, sample)) = input.and_then(|i| Some((i, i.samples.first()?))) else {
            continue;
        };
        let Some(dims) = graph.ty((*node).into()).shape() else {
            continue;
        };
        let batch = if input.whole { &[][..] } else { &[1] };
        let sizes = batch.iter().chain(sample.shape()).enumerate();
        let known = |i: usize| dims.get(i)?.eval(&graph.bindings)?.try_into().ok();
        shapes.push(InputShape {
            name: Some(name.to_string()),
            shape: sizes.map(|(i, n)| known(i).unwrap_or(*n)).collect(),
        });
    }
    bind_inputs(graph, &shapes)
}

struct Manager<'a> {
    graph: Graph,
    original: &'a Graph,
    check: Check,
    options: &'a RunOptions,
    observer: &'a mut dyn Observer,
    checkpoint: Option<Checkpoint>,
    statistics: Option<StatisticsFile>,
    reports: Vec<PassReport>,
    /// Prior moments, from all batch norms, also those that passes have folded.
    prior: PriorMoments,
    /// Whether any pass learnt something from the samples.
    samples_used: bool,
    /// What could not use the samples, and why.
    samples_missed: Vec<String>,
    /// Whether every pass that changed something so far is exact.
    exact: bool,
}

impl Manager<'_> {
    fn run_steps(&mut self, steps: &[Step]) -> Result<Changed> {
        let mut changed = Changed::No;
        for step in steps {
            changed |= match step {
                Step::Pass { pass, .. } | Step::Group { pass, .. } => self.run_pass(&**pass)?,
                Step::Repeat { max, steps, .. } => self.repeat(*max, steps)?,
            };
        }
        Ok(changed)
    }

    fn repeat(&mut self, max: usize, steps: &[Step]) -> Result<Changed> {
        for round in 0..max {
            if !self.run_steps(steps)?.is_yes() {
                return Ok((round > 0).into());
            }
        }
        if let Some(last) = self.reports.last_mut() {
            last.remarks.push(Remark {
                kind: RemarkKind::Missed,
                node: String::new(),
                text: format!(
                    "{} ended after {max} rounds though the last still changed something",
                    REPEAT.name
                ),
            });
        }
        Ok(Changed::Yes)
    }

    fn run_pass(&mut self, pass: &dyn Pass) -> Result<Changed> {
        if self
            .options
            .stop_after
            .is_some_and(|n| self.reports.len() >= n)
        {
            return Ok(Changed::No);
        }
        let info = pass.info();
        self.options.cancellation.check()?;
        let failed = |source| match source {
            Error::Interrupted(_) => source,
            source => Error::Pass {
                pass: info.name.to_string(),
                source: Box::new(source),
            },
        };
        self.observer.pass_started(info);
        let before = self.graph.clone();
        let mut progress =
            |layer: &str, fraction: f64| self.observer.progress(info, layer, fraction);
        let number = self.reports.len();
        let training = TrainingContext {
            device: self.options.device,
            cancellation: self.options.cancellation.clone(),
            data: self.options.data.clone(),
            checkpoint: self.checkpoint.as_mut().map(|saved| (saved, number)),
        };
        let mut context = PassContext::new(self.options.seed, self.options.cost.clone())
            .with_samples(self.options.samples.clone())
            .with_held_out(self.options.held_out.clone())
            .with_foreign(self.options.foreign.clone())
            .with_in_memory(self.options.in_memory)
            .with_statistics(self.statistics.as_mut().filter(|_| self.exact))
            .with_original(self.original)
            .with_training(training)
            .with_progress(&mut progress);
        context.prior = std::mem::take(&mut self.prior);
        let masked = masked(&self.graph);
        let start = Instant::now();
        let changed = pass.run(&mut self.graph, &mut context).map_err(failed)?;
        let seconds = start.elapsed().as_secs_f64();
        let stop_reason = context.stop_reason.take();
        self.samples_used |= context.has_used_samples();
        let missed = context.take_missed_samples().into_iter();
        self.samples_missed
            .extend(missed.map(|what| format!("{}: {what}", info.name)));
        self.prior = match pass.kind() {
            Kind::Trained => PriorMoments::of(&self.graph),
            _ => std::mem::take(&mut context.prior),
        };
        let mut remarks = context.into_remarks();
        if self.reports.is_empty() {
            remarks.extend(overridable(&self.graph));
        }
        remarks.extend(
            masked
                .iter()
                .filter_map(|name| lost_mask(&self.graph, name)),
        );

        let stage = format!("the pass `{}`", info.name);
        self.check.graph(&stage, &self.graph)?;
        refuse_new_non_finite(&stage, &before, &self.graph)?;
        self.exact &= pass.kind() == Kind::Exact || !changed.is_yes();
        remarks.extend(self.check_each(&stage, &before, pass.kind())?);
        let stats = Stats::of(&self.graph);
        let report = PassReport {
            name: info.name.to_string(),
            kind: pass.kind(),
            changed: changed.is_yes(),
            seconds,
            params: stats.params,
            macs: stats.macs,
            nodes: stats.nodes,
            stop_reason,
            remarks,
        };
        self.observer.pass_finished(&report, &self.graph);
        self.reports.push(report);
        Ok(changed)
    }

    /// Compares the outputs with those before the pass, if every pass is to be compared; gives a remark of how far they moved.
    fn check_each(&mut self, stage: &str, before: &Graph, kind: Kind) -> Result<Option<Remark>> {
        if self.options.verify != Verify::Each {
            return Ok(None);
        }
        self.observer.verifying(stage);
        self.options.cancellation.check()?;
        let moved = self.check.compare(stage, before, &self.graph)?;
        if kind == Kind::Exact {
            moved.within(self.check.tolerance, stage)?;
        }
        Ok(Some(Remark {
            kind: RemarkKind::Analysis,
            node: String::new(),
            text: format!("outputs: {moved}"),
        }))
    }

    /// Compares the outputs with the original's.
    fn check_whole(&mut self) -> Result<Option<Verification>> {
        if self.options.verify == Verify::Nothing {
            return Ok(None);
        }
        let stage = "the pipeline";
        self.observer.verifying(stage);
        self.options.cancellation.check()?;
        let moved = self.check.compare(stage, self.original, &self.graph)?;
        if self.exact {
            moved.within(self.check.tolerance, stage)?;
        }
        Ok(Some(moved.seen()))
    }
}
