//! The command line.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand, ValueEnum};
use optc::exec::Device;

use super::bench::BenchArgs;
use super::explore::ExploreArgs;
use super::inspect::InspectArgs;
use super::profile::ProfileArgs;
use super::shell::{CompletionsArgs, ManArgs};
use super::watch::PrintAfter;

const USAGE: &str = "optc [OPTIONS] <MODEL>\n       optc --list-passes\n       optc inspect [OPTIONS] <MODEL>\n       optc explore [OPTIONS] <MODEL>\n       optc bench [OPTIONS] <MODELS>...\n       optc profile [OPTIONS]\n       optc completions <SHELL>\n       optc man";

const EXAMPLES: &str = "\
Examples:
  optc --input 1x3x224x224 resnet50.pt               merge redundant filters; write resnet50.opt.pt
  optc --passes 'red{hash=none}' -o small.pt big.pt   exact passes only
  optc --passes canonicalize,red --report r.json m.pt
  optc inspect --input 1x3x224x224 m.pt               what is in it, layer by layer
  optc explore --data npz:samples.npz m.onnx          what can be had of it, at what loss
  optc --report r.html --data npz:samples.npz m.onnx  what was done, to look at
  optc bench resnet50.onnx resnet50.opt.onnx          how long both take, in turns
  optc profile && optc --cost latency:latency.json --input 1x3x224x224 m.pt
  optc --verify-each --remarks m.pt                   check every pass, say what was done
  optc --eval npz:test.npz,mean=0.5,std=0.5 m.pt      compare answers, and the share of right ones

Exit status: 0 done, 1 the model or a pass failed, 2 usage, 3 the result was refused: verification failed.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

/// What there is beside running passes.
#[derive(Debug, Subcommand)]
pub enum Command {
    Bench(BenchArgs),
    Explore(ExploreArgs),
    Inspect(InspectArgs),
    Profile(ProfileArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Make a trained network smaller by graph passes, and write the same kind of file
#[derive(Debug, Parser)]
#[command(name = "optc", version, styles = STYLES, allow_negative_numbers = true, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true, after_help = after_help(), override_usage = USAGE, max_term_width = 100)]
pub struct Args {
    /// The model: TorchScript (traced, scripted or frozen), an ExportedProgram (.pt2) or ONNX
    #[arg(required_unless_present = "list_passes")]
    pub model: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,

    /// Passes to run, such as 'red{hash=none},repeat(fold-batch-norm,red)' [default: canonicalize, where ONNX
    /// Runtime times an ONNX model respell, then red; with --data what is exact, then red,lrf,lowrank,cut as far as 0.99 of the
    /// answers stay; those with --target or --keep]
    #[arg(long, value_name = "PIPELINE")]
    pub passes: Option<String>,

    /// How much is to be left: of time, of multiply-adds (macs) or of stored weights (params), such as macs=0.7. Adjacent lossy
    /// passes without a budget of their own compete for it, layer by layer
    #[arg(long, value_name = "time|macs|params=FRACTION", value_parser = target)]
    pub target: Option<String>,

    /// How much of the answers is to stay, on samples of --data that are held out: agreement=0.99, or cosine=0.995. The same passes
    /// go as far as that holds
    #[arg(long, value_name = "agreement|cosine=X", value_parser = keep, conflicts_with = "target")]
    pub keep: Option<String>,

    /// The file to write; another suffix converts [default: MODEL's name with .opt before its suffix, beside it]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// The shape of an input, such as 1x3x224x224, for cost and verification; freezes no size. Once for each input
    /// [default: that of one sample of --data]
    #[arg(long, value_name = "[NAME:]SHAPE")]
    pub input: Vec<String>,

    /// Samples that passes calibrate on, such as npz:FILE or folder:DIR; labels are used only by passes that train
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,

    /// How many samples of --data passes calibrate on at most, drawn from all over it; training takes all
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = samples)]
    pub samples: usize,

    /// Keep what is measured on the samples of --data, and read it from there where it is: other settings on the same model and samples
    /// then measure nothing again. Statistics of another model or of other samples are refused
    #[arg(long, value_name = "FILE.safetensors", requires = "data")]
    pub statistics: Option<PathBuf>,

    /// Data, given as for --data: say how many answers are as before (agreement, cosine), and with labels how many are right
    /// before and after (top-1)
    #[arg(long, value_name = "SPEC")]
    pub eval: Option<String>,

    /// What to make smaller: multiply-adds (macs), stored weights (params), or time. That is measured in ONNX Runtime as far as
    /// passes ask for it (time), with --threads threads or one, and kept in the user's cache or in a FILE; or predicted (latency) from
    /// a FILE that `optc profile` wrote, or coarsely without one [default: time with --data, where ONNX Runtime is found; else macs]
    #[arg(long, value_name = "macs|params|time[:FILE]|latency[:FILE]", value_parser = cost)]
    pub cost: Option<Cost>,

    /// Where passes that train compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub device: Device,

    /// Where passes that train save what they have done after each epoch; the same command goes on from there if it was broken
    /// off, and removes the file in the end [default: the output's name with .checkpoint after it]
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Option<PathBuf>,

    /// The start of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,

    /// Write what was done: as JSON, or as a page for a browser that needs nothing else
    #[arg(long, value_name = "FILE.json|html")]
    pub report: Option<PathBuf>,

    /// Write which weights are held at zero, by parameter name, to hold them so in training elsewhere
    #[arg(long, value_name = "FILE.safetensors")]
    pub masks: Option<PathBuf>,

    /// Print what each pass did, and what it did not do and why
    #[arg(long)]
    pub remarks: bool,

    /// Print the graph after a pass, after each that changed it, or after all, to standard error
    #[arg(long, value_name = "PASS|changed|all", value_parser = PrintAfter::words(), hide_possible_values = true)]
    pub print_ir_after: Vec<String>,

    /// Write the final graph as text, to standard output unless PATH is given
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true)]
    pub emit_ir: Option<Option<PathBuf>>,

    /// Compare the outputs before and after each pass, not only before and after all
    #[arg(long)]
    pub verify_each: bool,

    /// Do not compare outputs
    #[arg(long, conflicts_with = "verify_each")]
    pub no_verify: bool,

    /// The largest error that exact passes may cause, relative to the largest output [default: 1e-4, and ten units in the last
    /// place where values are f16 or bf16]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub tolerance: Option<f64>,

    /// Who compares the written file with the model, as files: the runtime of such files where it is here (auto), ONNX Runtime,
    /// libtorch, or nobody
    #[arg(
        long,
        value_name = "auto|onnxruntime|torch|none",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub judge: JudgeChoice,

    /// Do not time the written file against the model; else passes that make it slower are taken back
    #[arg(long)]
    pub no_measure: bool,

    /// The most that outputs may change, relative to their size (root mean square), as far as it was measured; more is an error
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub max_change: Option<f64>,

    /// Stop after N runs of passes, to find the one that breaks something by bisection
    #[arg(long, value_name = "N")]
    pub stop_after: Option<usize>,

    /// List every pass with its kind, options and defaults
    #[arg(long)]
    pub list_passes: bool,

    /// Print nothing but errors, warnings and what was asked for
    #[arg(short, long)]
    pub quiet: bool,
}

impl Args {
    /// The goal that passes share, as a pipeline has it.
    pub fn goal(&self) -> Option<&str> {
        self.target.as_deref().or(self.keep.as_deref())
    }

    /// The fraction of the time that is to be left, where that is the goal.
    pub fn time_target(&self) -> Option<f64> {
        self.target.as_ref()?.strip_prefix("time=")?.parse().ok()
    }
}

/// Who compares files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JudgeChoice {
    Auto,
    #[value(name = "onnxruntime")]
    OnnxRuntime,
    Torch,
    None,
}

/// What to make smaller.
#[derive(Clone, Debug)]
pub enum Cost {
    Macs,
    Params,
    /// Time as it is measured, kept in a file or in the user's cache.
    Time(Option<PathBuf>),
    /// Time, from the table in a file or without one.
    Latency(Option<PathBuf>),
}

fn cost(text: &str) -> Result<Cost, String> {
    match text.split_once(':') {
        None if text == "macs" => Ok(Cost::Macs),
        None if text == "params" => Ok(Cost::Params),
        None if text == "latency" => Ok(Cost::Latency(None)),
        None if text == "time" => Ok(Cost::Time(None)),
        Some(("time", file)) if !file.is_empty() => Ok(Cost::Time(Some(file.into()))),
        Some(("latency", file)) if !file.is_empty() => Ok(Cost::Latency(Some(file.into()))),
        _ => Err("it must be macs, params, time, time:FILE, latency or latency:FILE".to_string()),
    }
}

fn target(text: &str) -> Result<String, String> {
    goal(text, &["time", "macs", "params"])
}

fn keep(text: &str) -> Result<String, String> {
    goal(text, &["agreement", "cosine"])
}

/// A goal, one of these names with a share.
fn goal(text: &str, names: &[&str]) -> Result<String, String> {
    let known = text.split_once('=').filter(|(name, share)| {
        let share = share.parse::<f64>();
        names.contains(name) && share.is_ok_and(|share| share > 0.0 && share <= 1.0)
    });
    match known {
        Some(_) => Ok(text.to_string()),
        None => Err(format!(
            "it must be one of {} with a number from 0 to 1, such as {}=0.7",
            names.join(", "),
            names[names.len() - 1]
        )),
    }
}

/// What follows the options: kinds of data, then examples.
fn after_help() -> String {
    format!(
        "Data for --data and --eval (SPEC):\n{}\n{EXAMPLES}",
        optc::data::help()
    )
}

pub fn samples(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("it must be a whole number of 1 or more, such as 256".to_string()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("it must be a number of 0 or more, such as 1e-4".to_string()),
    }
}
