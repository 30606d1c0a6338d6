//! What the tables of real networks are made by: measures pipelines on them, and writes Markdown.
//!
//! The networks and data lie in `../shared/data` beside the project; where they do not, it says so and does nothing. With
//! `--only` the rows whose `TABLE/NETWORK/ROW` contains that text are measured and printed, and no file is written.
//!
//! Each row is measured in a process of its own, so that its peak of memory is its own: the same program, with `--measure`.

mod machine;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use optc::data::DataSpec;
use optc::exec;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::pipeline::{Pipeline, RunOptions, Verify};
use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TEST: &str = "cifar10/test_932.npz";

/// Training images, named and already normalised.
pub const FEW: &str = "cifar10/calibration_400.npz";

/// More training images. The file holds test images too, which nothing may be calibrated on: the array is named here.
pub const MANY: &str = "cifar10/lossless_subset.npz,x=train_x";

const NETWORKS: [&str; 2] = ["resnet20", "resnet56"];

/// A file of tables.
pub struct File {
    /// The program, an example, that makes it.
    pub program: &'static str,
    /// Where it lies in the repository.
    pub path: &'static str,
    pub title: &'static str,
    pub tables: Vec<Table>,
}

pub struct Table {
    pub name: &'static str,
    pub title: String,
    pub note: &'static str,
    /// What the first column is.
    pub column: &'static str,
    pub rows: Vec<Row>,
}

/// One measurement for each network.
pub struct Row {
    pub label: String,
    /// The pipeline; `KEPT` in it is the fraction of the multiply-adds that the pipeline `like` keeps.
    pub pipeline: String,
    /// See `pipeline`; may be empty.
    pub like: String,
    /// Data below the folder of all data, and how many samples of it.
    pub samples: Option<(&'static str, usize)>,
    /// The top-1 of the method's prototype in per cent, for each of [`NETWORKS`].
    pub prototype: [Option<f64>; 2],
}

/// What a measuring process says.
#[derive(Clone, Serialize, Deserialize)]
struct Measured {
    right: usize,
    samples: usize,
    multiply_adds: [u64; 2],
    parameters: [u64; 2],
    /// Those of the pass; `None` for a network as it is.
    seconds: Option<f64>,
    peak_mib: Option<u64>,
}

/// Measures what the arguments of the program ask for.
pub fn run(file: File) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = here.with_file_name("shared").join("data");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let only = match args[..] {
        ["--measure", network, pipeline, samples, count] => {
            let measured = measure(&data, network, pipeline, samples, count.parse()?)?;
            println!("{}", serde_json::to_string(&measured)?);
            return Ok(());
        }
        ["--only", only] => Some(only),
        [] => None,
        _ => return Err("usage: [--only PART OF TABLE/NETWORK/ROW]".into()),
    };
    if !data.is_dir() {
        println!("{} is not there: nothing to measure on", data.display());
        return Ok(());
    }
    let mut text = String::new();
    let path = here.join(file.path);
    tables(file, only, |so_far| {
        text = so_far;
        match only {
            Some(_) => Ok(()),
            None => std::fs::write(&path, &text),
        }
    })?;
    if only.is_some() {
        print!("{text}");
    }
    Ok(())
}

/// Measures; after each table `finished` is told the Markdown text so far, so that a run that is cut short leaves something.
fn tables(
    file: File,
    only: Option<&str>,
    mut finished: impl FnMut(String) -> std::io::Result<()>,
) -> Result<()> {
    let wanted = |table: &Table, network: &str, label: &str| {
        let path = format!("{}/{network}/{label}", table.name);
        only.is_none_or(|only| path.contains(only))
    };
    let start = Instant::now();
    let mut measured = Measurements::default();
    let mut body = String::new();
    let preface = |seconds: u64| preface(&file, seconds);
    let last = file.tables.len() - 1;
    for (position, table) in file.tables.iter().enumerate() {
        let mut rows = String::new();
        for (i, network) in NETWORKS.into_iter().enumerate() {
            let of_table = table.rows.iter();
            let chosen: Vec<&Row> = of_table
                .filter(|row| wanted(table, network, &row.label))
                .collect();
            if chosen.is_empty() {
                continue;
            }
            rows += &line(network, "as it is", None, &measured.of(network, "", None));
            for row in chosen {
                let result = measured.of_row(network, row);
                rows += &line(network, &row.label, row.prototype[i], &result);
            }
        }
        if rows.is_empty() {
            continue;
        }
        let Table {
            title,
            note,
            column,
            ..
        } = table;
        write!(body, "\n## {title}\n\n{note}\n\n{}{rows}", header(column))?;
        let rest = match (only, last - position) {
            (Some(_), _) | (None, 0) => String::new(),
            (None, missing) => format!("\nThis run was cut short: tables missing: {missing}.\n"),
        };
        finished(preface(start.elapsed().as_secs()) + &body + &rest)?;
    }
    Ok(())
}

fn preface(file: &File, seconds: u64) -> String {
    format!(
        "# {}\n\n\
        {}; {} min in all. Made by\n\n    cargo run --release --example {}\n\n\
        The networks are published ones for CIFAR-10, not trained further. *Top-1* is on 932 CIFAR-10 test images, where one\n\
        standard error is about 0.9 point: smaller differences say little. No label and no test image was used to compress.\n\
        *Multiply-adds* are those of the whole network on one image, counted and exact. *Prototype* is what a first sketch of\n\
        the method reached, which counted only the convolutions that it separated. *Seconds* are the pass's; *MiB* is the\n\
        peak of memory of the process that reads the network and the images and runs the pass.\n",
        file.title,
        machine::here_and_now(),
        seconds.div_ceil(60),
        file.program,
    )
}

fn header(column: &str) -> String {
    format!(
        "| network | {column} | top-1 | prototype | multiply-adds | kept | parameters | kept | seconds | MiB |\n\
        |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    )
}

fn line(
    network: &str,
    label: &str,
    prototype: Option<f64>,
    result: &std::result::Result<Measured, String>,
) -> String {
    let m = match result {
        Ok(measured) => measured,
        Err(error) => return format!("| {network} | {label} | {error} ||||||||\n"),
    };
    let kept = |[before, after]: [u64; 2]| format!("{:.4}", after as f64 / before as f64);
    let columns = [
        network.to_string(),
        label.to_string(),
        format!("{:.2}", 100.0 * m.right as f64 / m.samples as f64),
        prototype.map_or_else(String::new, |top1| format!("{top1}")),
        grouped(m.multiply_adds[1]),
        kept(m.multiply_adds),
        grouped(m.parameters[1]),
        kept(m.parameters),
        m.seconds.map_or_else(String::new, |s| format!("{s:.1}")),
        m.peak_mib.map_or_else(String::new, |mib| mib.to_string()),
    ];
    format!("| {} |\n", columns.join(" | "))
}

/// `1 234 567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

/// What was measured so far: some rows are in several tables.
#[derive(Default)]
struct Measurements(HashMap<Vec<String>, std::result::Result<Measured, String>>);

impl Measurements {
    fn of_row(&mut self, network: &str, row: &Row) -> std::result::Result<Measured, String> {
        let mut pipeline = row.pipeline.clone();
        if pipeline.contains("KEPT") {
            let [before, after] = self.of(network, &row.like, None)?.multiply_adds;
            // Rounded up: as much may be kept.
            let kept = (1e4 * after as f64 / before as f64).ceil() / 1e4;
            pipeline = pipeline.replace("KEPT", &kept.to_string());
        }
        self.of(network, &pipeline, row.samples)
    }

    /// Measures one row in a process of its own.
    fn of(
        &mut self,
        network: &str,
        pipeline: &str,
        samples: Option<(&str, usize)>,
    ) -> std::result::Result<Measured, String> {
        let (data, count) = samples.unwrap_or(("", 0));
        let args = ["--measure", network, pipeline, data, &count.to_string()].map(str::to_string);
        if let Some(known) = self.0.get(&args[..]) {
            return known.clone();
        }
        eprint!("{network} {pipeline} {count}: ");
        let start = Instant::now();
        let result = in_process(&args).map_err(|error| error.to_string());
        match &result {
            Ok(m) => eprint!("{} of {}", m.right, m.samples),
            Err(error) => eprint!("{error}"),
        }
        eprintln!(", {:.1} s", start.elapsed().as_secs_f64());
        self.0.insert(args.into(), result.clone());
        result
    }
}

fn in_process(args: &[String]) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?).args(args).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(error
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs `pipeline` on a network, calibrated on `count` of `samples` if that is not 0.
fn measure(
    data: &Path,
    network: &str,
    pipeline: &str,
    samples: &str,
    count: usize,
) -> Result<Measured> {
    let read = ReadOptions {
        inputs: vec!["1x3x32x32".parse::<InputShape>()?],
    };
    let path: PathBuf = data.join(format!("cifar10_resnet/{network}.pt"));
    let mut model = read_with(path, &read)?;
    let spec = |file: &str| format!("npz:{}", data.join(file).display()).parse::<DataSpec>();
    let mut options = RunOptions {
        verify: Verify::Nothing,
        ..RunOptions::default()
    };
    if count > 0 {
        let drawn = spec(samples)?
            .open(&model.graph)?
            .sample(count, options.seed)?;
        options.samples = Some(Arc::new(drawn));
    }
    let report = Pipeline::parse(pipeline)?.run_with(&mut model, &options, &mut ())?;
    // Before the evaluation, which takes memory of its own.
    let peak_mib = peak_mib();
    let top1 = exec::top1(&model.graph, &spec(TEST)?.open(&model.graph)?, |_| {})?;
    let multiply_adds = [report.before.macs, report.after.macs];
    let [Some(before), Some(after)] = multiply_adds else {
        return Err("multiply-adds depend on a size without a number".into());
    };
    Ok(Measured {
        right: top1.right,
        samples: top1.samples,
        multiply_adds: [before, after],
        parameters: [report.before.params, report.after.params],
        seconds: report
            .passes
            .iter()
            .map(|pass| pass.seconds)
            .reduce(|a, b| a + b),
        peak_mib,
    })
}

/// The most memory that this process has had; only Linux says.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib.div_ceil(1024))
}
