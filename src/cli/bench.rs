//! `optc bench`.

use std::path::PathBuf;

use clap::ValueEnum;
use optc::Result;
use optc::formats::{self, InputShape, ReadOptions};
use optc::judge::{self, Choice, Options, Timing};

use super::{output::say, watch::Progress};

/// Time two or more model files in their runtime, in turns: how long each takes, and what share of the first's time that is
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// The files, all with the same inputs; the first is what the others are compared with
    #[arg(required = true, num_args = 2..)]
    pub models: Vec<PathBuf>,

    /// What runs them: the runtime of such files (auto), ONNX Runtime or libtorch
    #[arg(long, value_enum, default_value_t)]
    pub runtime: Runtime,

    /// The runtime's threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,

    /// The shape of an input, such as 1x3x224x224; sizes that are free are guessed without. Once for each input
    #[arg(long, value_name = "[NAME:]SHAPE")]
    pub input: Vec<String>,

    /// The start of the inputs' random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Print nothing but the result
    #[arg(short, long)]
    pub quiet: bool,
}

/// Who runs the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// The one that opens such files
    #[default]
    Auto,
    /// ONNX Runtime, from a shared library
    Onnxruntime,
    /// libtorch, if optc was built with it
    Torch,
}

/// Times the files, and prints what was found.
pub fn run(args: &BenchArgs) -> Result<()> {
    let progress = Progress::new(args.quiet);
    let shapes = args.input.iter().map(|shape| shape.parse::<InputShape>());
    let read = ReadOptions {
        inputs: shapes.collect::<Result<_>>()?,
    };
    let model = formats::read_with(&args.models[0], &read)?;
    progress.say("running the files in turns");
    let options = Options {
        by: match args.runtime {
            Runtime::Auto => Choice::Auto,
            Runtime::Onnxruntime => Choice::OnnxRuntime,
            Runtime::Torch => Choice::Torch,
        },
        seed: args.seed,
        threads: args.threads.into(),
        ..Options::default()
    };
    let paths: Vec<_> = args.models.iter().map(PathBuf::as_path).collect();
    let timing = judge::time(&paths, &model.graph, &options)?;
    drop(progress);
    say(&if args.json {
        timing.to_json()
    } else {
        table(args, &timing)
    })
}

/// A line for each file, then what they ran in and on.
fn table(args: &BenchArgs, timing: &Timing) -> String {
    let names: Vec<String> = args
        .models
        .iter()
        .map(|p| p.display().to_string())
        .collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (k, (name, time)) in names.iter().zip(&timing.files).enumerate() {
        let against = if k == 0 {
            String::new()
        } else {
            format!("  {time}")
        };
        text += &format!("{name:width$}  {:10.3} ms{against}\n", 1e3 * time.seconds);
    }
    text + &format!("{timing}\n")
}
