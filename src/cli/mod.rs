//! The command: reads a model, runs a pipeline over it, writes it, and says what happened.

mod args;
mod bench;
mod cost;
mod explore;
mod inspect;
mod judging;
mod listing;
mod measuring;
mod output;
mod page;
mod paths;
mod profile;
mod shell;
mod warnings;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use optc::data::{Data, DataSpec, Split};
use optc::exec::{self, Device, Foreign};
use optc::formats::{self, InputShape, ReadOptions};
use optc::ir::Graph;
use optc::job;
use optc::pipeline::{Cancellation, Checkpoint, RunOptions, Verify};
use optc::report::{self, Report};
use optc::{Error, Model, Pipeline};

use args::{Args, Command, JudgeChoice};
use judging::Judging;
use measuring::{Made, Measuring};
use output::{say, write_text};
use page::Page;
use warnings::{NAMED, complain, note_filled, note_known};
use watch::{PrintAfter, Progress, Watch};

/// Why a run ended early: the message, and the exit status that stands for it.
struct Failure {
    status: u8,
    error: Error,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNVERIFIED: u8 = 3;
/// What shells say of a process that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error {
            Error::Verification { .. } | Error::Refused { .. } | Error::Moved { .. } => UNVERIFIED,
            Error::Usage { .. } => USAGE,
            Error::Interrupted(_) => INTERRUPTED,
            _ => FAILED,
        };
        Failure { status, error }
    }
}

/// An error before the model is read: a mistake on the command line, or a file that is not there.
fn early(error: Error) -> Failure {
    match error {
        error @ Error::Text { .. } => Failure {
            status: USAGE,
            error,
        },
        error => error.into(),
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    ExitCode::from(run_with(std::env::args_os()))
}

/// Runs the command with these arguments, the first of which is its name; the status that the process is to end with.
pub fn run_with(args: impl IntoIterator<Item = OsString>) -> u8 {
    report_panics();
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Where nobody reads, the status says it.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    let run = || match &args.command {
        Some(Command::Bench(bench)) => Ok(bench::run(bench)?),
        Some(Command::Explore(explore)) => Ok(explore::run(explore)?),
        Some(Command::Profile(profile)) => Ok(profile::run(profile)?),
        Some(Command::Inspect(inspect)) => Ok(inspect::run(inspect)?),
        Some(Command::Completions(args)) => Ok(shell::completions(args)?),
        Some(Command::Man(_)) => Ok(shell::man()?),
        None => run(&args),
    };
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => 0,
        Ok(Err(Failure { status, error })) => {
            complain("error", &error);
            if matches!(error, Error::Verification { .. }) && !args.verify_each {
                complain("  help", &"run again with --verify-each to find the pass");
            }
            status
        }
        Err(_) => FAILED,
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let Some(model_path) = args.model.as_deref().filter(|_| !args.list_passes) else {
        return Ok(say(&listing::passes())?);
    };
    let job = Job::new(args, model_path).map_err(early)?;
    let progress = Progress::new(args.quiet);

    progress.say(format!("reading {}", model_path.display()));
    let read = formats::read_with(model_path, &job.read)?;
    let left_out: Vec<String> = read.left_out().into_iter().map(str::to_owned).collect();
    let run = with_data(&job, args, &read, &progress)?;
    end_on_ctrl_c(&run.cancellation);
    let mut watch = Watch {
        progress: &progress,
        print_after: job.print_after,
    };
    let judging = Judging {
        args,
        held_out: run.held_out.is_some() && !job.pipeline.trains(),
        samples: run.held_out.clone().or(run.samples.clone()),
    };
    let measuring = Measuring {
        args,
        judging: &judging,
        path: model_path,
        original: &read.graph,
        progress: &progress,
    };
    let make = |pipeline: &Pipeline, runs: Option<usize>| {
        let mut model = read.clone();
        let mut report = transform(&mut model, pipeline, &run, runs, &mut watch)?;
        report.model = model_path.display().to_string();
        progress.say(format!("writing {}", job.output.display()));
        let staged = formats::stage(&model, &job.output)?;
        Ok(Made {
            model,
            report,
            staged,
        })
    };
    let Made {
        model,
        mut report,
        staged,
    } = match args.time_target() {
        Some(fraction) => {
            let aimed = |aim| pipeline(args, Some(&format!("time={aim}")));
            measuring.in_time(fraction, aimed, make)?
        }
        None => measuring.never_slower(job.pipeline, make)?,
    };
    report.judge = judging.verdict(&read.graph, &staged, &report, &progress)?;
    judging.refuse_far(&report)?;
    staged.commit()?;
    // The result is written: what it was made from is of no more use.
    run.checkpoint
        .as_deref()
        .map_or(Ok(()), Checkpoint::remove)?;
    if let Some(path) = &args.report {
        let text = if paths::is_page(path) {
            Page::of_run(&report, &read, &model).to_html()
        } else {
            report.to_json()
        };
        write_text(path, &text)?;
    }
    let write_masks = |path| formats::write_masks(&model.graph, path);
    let masks = args.masks.as_ref().map(write_masks).transpose()?;
    if let Some(Some(path)) = &args.emit_ir {
        write_text(path, &model.graph.to_string())?;
    }
    drop(progress);

    cost::keep(&run.cost);
    warnings::all(&model, &report, &left_out, masks);
    say(&summary(args, &job.output, &report))?;
    if args.emit_ir == Some(None) {
        say(&model.graph.to_string())?;
    }
    Ok(())
}

/// Runs a pipeline over a model. Where that is only to see what its first passes do, so many of them, nothing is verified.
fn transform(
    model: &mut Model,
    pipeline: &Pipeline,
    run: &RunOptions,
    runs: Option<usize>,
    watch: &mut Watch<'_>,
) -> Result<Report, Error> {
    if runs.is_none() {
        return pipeline.run_with(model, run, watch);
    }
    let part = RunOptions {
        verify: Verify::Nothing,
        eval: None,
        stop_after: runs,
        ..run.clone()
    };
    pipeline.run_with(model, &part, watch)
}

/// The command line, understood and checked as far as it can be without the model.
struct Job {
    pipeline: Pipeline,
    read: ReadOptions,
    run: RunOptions,
    data: Option<DataSpec>,
    eval: Option<DataSpec>,
    print_after: PrintAfter,
    output: PathBuf,
}

impl Job {
    fn new(args: &Args, model: &Path) -> Result<Job, Error> {
        let output = match &args.output {
            Some(path) => path.clone(),
            None => paths::default_output(model),
        };
        let pipeline = pipeline(args, args.goal())?;
        let checkpoint = checkpoint(args, &pipeline, &output)?;
        let spec = |text: &Option<String>| text.as_deref().map(str::parse::<DataSpec>).transpose();
        let job = Job {
            pipeline,
            read: ReadOptions {
                inputs: args
                    .input
                    .iter()
                    .map(|s| s.parse::<InputShape>())
                    .collect::<Result<_, _>>()?,
            },
            run: RunOptions {
                seed: args.seed,
                device: device(args.device)?,
                checkpoint,
                threads: args.threads.unwrap_or(0).into(),
                cost: cost::open(args)?,
                verify: match (args.no_verify, args.verify_each) {
                    (true, _) => Verify::Nothing,
                    (_, true) => Verify::Each,
                    _ => Verify::Whole,
                },
                tolerance: args.tolerance,
                stop_after: args.stop_after,
                statistics: args.statistics.clone(),
                ..RunOptions::default()
            },
            data: spec(&args.data)?,
            eval: spec(&args.eval)?.map(|spec| spec.prefer(Split::Test)),
            print_after: PrintAfter(args.print_ir_after.clone()),
            output,
        };
        let mut targets = vec![("--output", job.output.as_path())];
        targets.extend(
            job.run
                .checkpoint
                .as_deref()
                .map(|path| ("--checkpoint", path)),
        );
        if let Some(args::Cost::Time(Some(path))) = &args.cost {
            targets.push(("--cost time", path));
        }
        for (option, path) in [
            ("--statistics", &args.statistics),
            ("--report", &args.report),
            ("--masks", &args.masks),
        ] {
            targets.extend(path.as_deref().map(|path| (option, path)));
        }
        targets.extend(
            args.emit_ir
                .iter()
                .flatten()
                .map(|path| ("--emit-ir", path.as_path())),
        );
        paths::check(model, &targets)?;
        formats::check_name(&job.output, model)?;
        paths::check_suffix("--report", args.report.as_deref(), &["json", paths::PAGE])?;
        paths::check_suffix("--masks", args.masks.as_deref(), &["safetensors"])?;
        paths::check_suffix("--statistics", args.statistics.as_deref(), &["safetensors"])?;
        Ok(job)
    }
}

/// The passes to run, under a goal if there is one.
fn pipeline(args: &Args, goal: Option<&str>) -> Result<Pipeline, Error> {
    let is_timed = args.passes.is_none() && measuring::is_timed(args);
    job::pipeline(args.passes.as_deref(), goal, args.data.is_some(), is_timed)
}

/// Ctrl-C ends the process at once, or, while a network is trained, when it has said where training can go on.
fn end_on_ctrl_c(cancellation: &Cancellation) {
    let cancellation = cancellation.clone();
    // Where there can be no handler, Ctrl-C ends the process as ever.
    let _ = ctrlc::set_handler(move || {
        if !cancellation.request() {
            std::process::exit(INTERRUPTED.into());
        }
    });
}

/// The run's options with the data that the network is calibrated and evaluated on, which must fit its input.
fn with_data(
    job: &Job,
    args: &Args,
    model: &Model,
    progress: &Progress,
) -> Result<RunOptions, Error> {
    let graph = &model.graph;
    let mut run = job.run.clone();
    if job.data.is_some() || job.eval.is_some() {
        run.foreign = foreign(model);
    }
    if let Some(spec) = &job.eval {
        progress.say(format!("opening {spec}"));
        run.eval = Some(Arc::new(open(spec, graph, args, progress)?));
    }
    if let Some(spec) = &job.data {
        progress.say(format!("reading samples of {spec}"));
        let data = open(spec, graph, args, progress)?;
        note_filled(&data);
        note_known(&run, args.quiet);
        // Samples that are made are all wanted.
        let wanted = spec
            .dreams(graph)?
            .map_or(args.samples, |dreams| dreams.count);
        run = job::calibrated(run, data, wanted, args.judge != JudgeChoice::None)?;
    }
    Ok(run)
}

/// What runs the operators that optc does not know. What nobody here can run is said before any work is done.
fn foreign(model: &Model) -> Option<Arc<dyn Foreign>> {
    let (found, help) = match job::foreign(model) {
        Ok(found) => (found, String::new()),
        Err(Error::Usage { what, help }) => (None, format!("\n  help: {what}; {help}")),
        Err(error) => (None, format!("\n  help: {error}")),
    };
    let unknown = exec::unknown_operators(&model.graph, found.as_deref());
    if !unknown.is_empty() {
        let named = unknown[..unknown.len().min(NAMED)].join(", ");
        let more = match unknown.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        complain(
            "warning",
            &format!(
                "nothing here runs {named}{more}, so no sample says anything of what is behind{help}"
            ),
        );
    }
    found
}

/// Data for the network, made from it where the specification says so.
fn open(spec: &DataSpec, graph: &Graph, args: &Args, progress: &Progress) -> Result<Data, Error> {
    let threads = args.threads.unwrap_or(0).into();
    optc::dream::open(spec, graph, args.seed, threads, &mut |done| {
        progress.say(format!("making samples {:.0} %", 100.0 * done));
        Ok(())
    })
}

/// Where training saves what it has done, if there is training.
fn checkpoint(args: &Args, pipeline: &Pipeline, output: &Path) -> Result<Option<PathBuf>, Error> {
    match (&args.checkpoint, pipeline.trains()) {
        (None, false) => Ok(None),
        (Some(path), true) => Ok(Some(path.clone())),
        (None, true) => {
            let mut name = output.as_os_str().to_owned();
            name.push(".checkpoint");
            Ok(Some(name.into()))
        }
        (Some(_), false) => Err(Error::Usage {
            what: format!("--checkpoint is for passes that train, and none of {pipeline} does"),
            help: "leave it out".to_string(),
        }),
    }
}

/// The device, if this build and this machine have it.
fn device(device: Device) -> Result<Device, Error> {
    #[cfg(feature = "torch")]
    optc::exec::torch::open(device)?;
    #[cfg(not(feature = "torch"))]
    if device != Device::Cpu {
        return Err(Error::Usage {
            what: format!(
                "--device {device} is for training, and this optc was built without torch"
            ),
            help: "build one with it: cargo install --features torch --path . in a checkout"
                .to_string(),
        });
    }
    Ok(device)
}

/// The table, and with `--remarks` what passes had to say.
fn summary(args: &Args, output: &Path, report: &Report) -> String {
    let mut text = String::new();
    if args.remarks {
        for pass in &report.passes {
            for remark in &pass.remarks {
                let place = if remark.node.is_empty() { "" } else { " " };
                text += &format!(
                    "{}: {}{place}{}: {}\n",
                    remark.kind, pass.name, remark.node, remark.text
                );
            }
        }
    }
    if !args.quiet {
        text += &report::table(report);
        text += &format!("wrote {}\n", output.display());
    }
    text
}

/// A panic is a mistake in optc: say so, in the form of every other error.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        complain("error", &format!("internal error: {info}"));
        complain(
            "  help",
            &"this is a mistake in optc; please report it with the command line and, if you can, the model",
        );
    }));
}
