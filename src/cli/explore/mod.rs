//! `optc explore`.

pub mod curve;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use optc::files::Staged;
use optc::formats::{self, InputShape, ReadOptions};
use optc::job::{CostName, Given, PASSES_FOR_GOAL, Settings, VerifyName};
use optc::judge::{self, LARGEST};
use optc::passes::{Explore, Point};
use optc::pipeline::{Methods, RunOptions};
use optc::report::Report;
use optc::{Error, Model, Pipeline, Result};

use super::output::{say, write_text};
use super::page::Page;
use super::watch::{PrintAfter, Progress, Watch};
use super::{cost, end_on_ctrl_c, paths, warnings};
use curve::{Curve, CurvePoint};
use table::table;

/// Say what can be had: for ten budgets, what the passes would leave of the time, the multiply-adds and the weights, how alike the
/// answers stay, and what each layer becomes. Writes one of them if asked
#[derive(Debug, clap::Args)]
pub struct ExploreArgs {
    /// The model
    pub model: PathBuf,

    /// Samples to calibrate on and to compare answers on, such as npz:FILE
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,

    /// How many samples of --data passes calibrate on at most, drawn from all over it
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = super::args::samples)]
    pub samples: usize,

    /// The passes that compete for every layer
    #[arg(long, value_name = "PIPELINE", default_value = PASSES_FOR_GOAL)]
    pub passes: String,

    /// What the budgets are of [default: time with --data, where ONNX Runtime is found; else macs]
    #[arg(long, value_enum)]
    pub cost: Option<CostName>,

    /// The budgets, as fractions of what the layers cost
    #[arg(long, value_name = "FRACTION,...", value_delimiter = ',', value_parser = fraction, default_value = "0.95,0.9,0.8,0.7,0.6,0.5,0.4,0.3,0.2,0.1")]
    pub at: Vec<f64>,

    /// Write the network of one of the budgets
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    pub write: Option<f64>,

    /// The file to write [default: MODEL's name with .opt before its suffix, beside it]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// The shape of an input, such as 1x3x224x224. Once for each input [default: that of one sample of --data]
    #[arg(long, value_name = "[NAME:]SHAPE")]
    pub input: Vec<InputShape>,

    /// The start of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Number of threads [default: one for each core; the files are timed with one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,

    /// Do not time the networks
    #[arg(long)]
    pub no_measure: bool,

    /// Write the curve: as JSON, or as a page for a browser that needs nothing else
    #[arg(long, value_name = "FILE.json|html")]
    pub report: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Print nothing but the result
    #[arg(short, long)]
    pub quiet: bool,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x < 1.0 => Ok(x),
        _ => Err("it must be a number between 0 and 1, such as 0.7".to_string()),
    }
}

/// A network on the curve, as a file that is pending.
struct Found {
    staged: Staged,
    point: CurvePoint,
}

/// Explores, prints the curve, and writes what is asked for.
pub fn run(args: &ExploreArgs) -> Result<()> {
    let output = match &args.output {
        Some(path) => path.clone(),
        None => paths::default_output(&args.model),
    };
    let mut targets = vec![("--output", &*output)];
    targets.extend(args.report.as_deref().map(|path| ("--report", path)));
    paths::check(&args.model, &targets)?;
    paths::check_suffix("--report", args.report.as_deref(), &["json", paths::PAGE])?;
    formats::check_name(&output, &args.model)?;
    let methods = Pipeline::parse(&args.passes)?.methods()?;
    let progress = Progress::new(args.quiet);
    progress.say(format!("reading {}", args.model.display()));
    let read = ReadOptions {
        inputs: args.input.clone(),
    };
    let mut model = formats::read_with(&args.model, &read)?;
    let options = options(args, &model)?;
    if let Some(data) = &options.data {
        warnings::note_filled(data);
    }
    end_on_ctrl_c(&options.cancellation);

    let (report, found) = explored(
        methods,
        aims(args),
        &mut model,
        &output,
        &options,
        &progress,
    )?;
    cost::keep(&options.cost);
    let judging = Judging {
        args,
        model: &model,
        options: judge::Options {
            samples: options.held_out.clone().or(options.samples.clone()),
            held_out: options.held_out.is_some(),
            seed: args.seed,
            threads: args.threads.map_or(1, usize::from),
            ..judge::Options::default()
        },
    };
    let mut curve = Curve::of(&args.model, &options, &report);
    curve.points = found.iter().map(|found| found.point.clone()).collect();
    progress.say("running the networks against the original");
    judging.time(&found, &mut curve)?;
    // What was found is worth seeing even where it cannot be written.
    let written = judging.write(found, &output, &mut curve);
    drop(progress);
    warnings::of_samples(&report);
    if let Some(path) = &args.report {
        let text = if paths::is_page(path) {
            Page::of_curve(&curve, &model).to_html()
        } else {
            curve.to_json()
        };
        write_text(path, &text)?;
    }
    say(&if args.json {
        curve.to_json()
    } else {
        table(&curve)
    })?;
    written
}

/// The budgets from large to small, that which is to be written among them.
fn aims(args: &ExploreArgs) -> Vec<f64> {
    let mut aims: Vec<f64> = args.at.iter().copied().chain(args.write).collect();
    aims.sort_by(|a, b| b.total_cmp(a));
    aims.dedup();
    aims
}

fn options(args: &ExploreArgs, model: &Model) -> Result<RunOptions> {
    let settings = Settings {
        data: args.data.clone(),
        samples: args.samples,
        cost: args.cost,
        seed: args.seed,
        threads: args.threads.unwrap_or(0),
        verify: VerifyName::Nothing,
        ..Settings::default()
    };
    settings.options(model, Given::default(), Default::default())
}

/// The networks at all budgets, as files that are pending. The model has the samples' sizes afterwards.
fn explored(
    methods: Methods,
    aims: Vec<f64>,
    model: &mut Model,
    output: &Path,
    options: &RunOptions,
    progress: &Progress,
) -> Result<(Report, Vec<Found>)> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let explore = Explore::new(methods, aims, {
        let (found, model, output) = (found.clone(), model.clone(), output.to_path_buf());
        move |point| {
            let point = staged(&model, &output, point)?;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push(point);
            Ok(())
        }
    });
    let mut watch = Watch {
        progress,
        print_after: PrintAfter(Vec::new()),
    };
    let report = Pipeline::of(Box::new(explore))?.run_with(model, options, &mut watch)?;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((report, found))
}

/// The network of a point as a pending file, and what there is to say of it.
fn staged(model: &Model, output: &Path, point: Point) -> Result<Found> {
    let described = CurvePoint::of(&point);
    let changed = Model {
        graph: point.graph,
        ..model.clone()
    };
    Ok(Found {
        staged: formats::stage(&changed, output)?,
        point: described,
    })
}

/// What runtimes say of the files.
struct Judging<'a> {
    args: &'a ExploreArgs,
    model: &'a Model,
    options: judge::Options,
}

impl Judging<'_> {
    /// Times all files in turns with the original.
    fn time(&self, found: &[Found], curve: &mut Curve) -> Result<()> {
        if self.args.no_measure || found.is_empty() {
            return Ok(());
        }
        if curve.original.bytes > LARGEST {
            let why = format!("the model takes over {} GB", LARGEST >> 30);
            curve.not_measured = Some(why);
            return Ok(());
        }
        let viewed = found.iter().map(|found| found.staged.view());
        let viewed: Vec<_> = viewed.collect::<Result<_>>()?;
        let mut files = vec![&*self.args.model];
        files.extend(viewed.iter().map(|viewed| &*viewed.path));
        match judge::time(&files, &self.model.graph, &self.options) {
            Ok(timing) => curve.set_times(timing),
            Err(error) => curve.not_measured = Some(error.to_string()),
        }
        Ok(())
    }

    /// Writes the network of the budget that is asked for, after a runtime has run it beside the original.
    fn write(&self, found: Vec<Found>, output: &Path, curve: &mut Curve) -> Result<()> {
        let Some(fraction) = self.args.write else {
            return Ok(());
        };
        let at = |found: &Found| found.point.at;
        let all: Vec<String> = found.iter().map(|found| at(found).to_string()).collect();
        let Some(found) = found.into_iter().find(|found| at(found) == fraction) else {
            return Err(Error::Usage {
                what: format!(
                    "there is no network at {fraction} to write: it would be that of a larger budget"
                ),
                help: match all[..] {
                    [] => "nothing that is offered saves anything here".to_string(),
                    _ => format!("write one of those at {}", all.join(", ")),
                },
            });
        };
        let viewed = found.staged.view()?;
        let graph = &self.model.graph;
        curve.judge = judge::judge(&self.args.model, &viewed.path, graph, &self.options)?;
        found.staged.commit()?;
        curve.written = Some(output.display().to_string());
        Ok(())
    }
}
