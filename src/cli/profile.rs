//! `optc profile`.

use std::path::PathBuf;
use std::thread;

use clap::ValueEnum;
use optc::analysis::latency::LatencyTable;
use optc::profile::{self, Care, Checked, Runner};
use optc::{Error, Result};

use super::{output::say, paths, watch::Progress};

/// Measure how long a runtime takes for operators on this machine, for `--cost latency:FILE`; about three minutes, in which
/// nothing else should run
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    /// What runs the networks that are to be fast
    #[arg(long, value_enum, default_value_t)]
    pub runtime: Runtime,

    /// The file to write
    #[arg(short, long, value_name = "FILE.json", default_value = "latency.json")]
    pub output: PathBuf,

    /// The runtime's threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,

    /// libonnxruntime.so, 1.22 or newer [default: ORT_DYLIB_PATH, or the one that python3 has]
    #[arg(long, value_name = "PATH")]
    pub library: Option<PathBuf>,

    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// ONNX Runtime, from a shared library
    #[default]
    Onnxruntime,
    /// libtorch, if optc was built with it
    Torch,
}

/// Measures, and writes the table.
pub fn run(args: &ProfileArgs) -> Result<()> {
    if args
        .output
        .extension()
        .is_none_or(|suffix| suffix != "json")
    {
        return Err(Error::Usage {
            what: format!("--output {} is not named .json", args.output.display()),
            help: "the table is JSON; name it FILE.json".into(),
        });
    }
    paths::check_writable("--output", &args.output)?;
    if args.library.is_some() && args.runtime != Runtime::Onnxruntime {
        return Err(Error::Usage {
            what: "--library is for --runtime onnxruntime only".into(),
            help: "leave it out".into(),
        });
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    let mut runner = match args.runtime {
        Runtime::Onnxruntime => onnxruntime(args, threads)?,
        Runtime::Torch => torch(threads)?,
    };
    let progress = Progress::new(args.quiet);
    let mut show = |what: &str, fraction: f64| {
        progress.say(format!("{:.0} % {what}", 100.0 * fraction));
    };
    let care = Care::default();
    let table = profile::measure(&mut *runner, &profile::grid(), care, &mut show)?;
    let checked = profile::check(&mut *runner, &table, &profile::separated(), care, &mut show)?;
    table.write(&args.output)?;
    drop(progress);
    if args.quiet {
        return Ok(());
    }
    say(&summary(args, &table, &checked))
}

/// What was measured, and how well it predicts layers of several operators.
fn summary(args: &ProfileArgs, table: &LatencyTable, checked: &[Checked]) -> String {
    let mut text = String::new();
    let mut errors = Vec::new();
    for Checked {
        case,
        predicted,
        measured,
    } in checked
    {
        let error = predicted / measured - 1.0;
        text += &format!(
            "{:57} {:8.1} µs, predicted {:8.1} µs ({:+.0} %)\n",
            case.to_string(),
            measured / 1000.0,
            predicted / 1000.0,
            100.0 * error
        );
        errors.push(error.abs());
    }
    errors.sort_by(f64::total_cmp);
    let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
    text += &format!(
        "{} operators of {} {} with {} thread{}; layers of several are predicted within {:.0} % in the median\nwrote {}\n",
        table.entries.len(),
        table.runtime.name,
        table.runtime.version,
        table.threads,
        if table.threads == 1 { "" } else { "s" },
        100.0 * median,
        args.output.display()
    );
    text
}

/// The version of a runtime that is here, as far as that can be told without loading it.
pub fn installed(runtime: &str) -> Option<String> {
    match runtime {
        #[cfg(feature = "onnxruntime")]
        profile::onnxruntime::NAME => {
            let library = profile::onnxruntime::find_library().ok()?;
            profile::onnxruntime::version_of(&library.canonicalize().ok()?)
        }
        #[cfg(feature = "torch")]
        profile::torch::NAME => Some(profile::torch::VERSION.to_string()),
        _ => None,
    }
}

#[cfg(feature = "onnxruntime")]
fn onnxruntime(args: &ProfileArgs, threads: usize) -> Result<Box<dyn Runner>> {
    use optc::profile::onnxruntime::{OnnxRuntime, find_library};
    let library = match &args.library {
        Some(path) => path.clone(),
        None => find_library()?,
    };
    Ok(Box::new(OnnxRuntime::load(&library, threads)?))
}

#[cfg(not(feature = "onnxruntime"))]
fn onnxruntime(_: &ProfileArgs, _: usize) -> Result<Box<dyn Runner>> {
    absent("onnxruntime", "cargo install --path . in a checkout")
}

#[cfg(feature = "torch")]
fn torch(threads: usize) -> Result<Box<dyn Runner>> {
    Ok(Box::new(optc::profile::torch::Torch::new(threads)))
}

#[cfg(not(feature = "torch"))]
fn torch(_: usize) -> Result<Box<dyn Runner>> {
    absent(
        "torch",
        "cargo install --features torch --path . in a checkout",
    )
}

/// A runtime that this build does without.
#[cfg(not(all(feature = "onnxruntime", feature = "torch")))]
fn absent(runtime: &str, command: &str) -> Result<Box<dyn Runner>> {
    Err(Error::Usage {
        what: format!("this optc was built without {runtime}"),
        help: format!("build one with it: {command}"),
    })
}
