//! What `red` does to real networks: measures it, and writes the tables of `benches/RED.md`.
//!
//!     cargo run --release --example red_tables
//!     cargo run --release --example red_tables -- --only samples/resnet20
//!
//! The networks and data lie in `../shared/data` beside the project; where they do not, it says so and does nothing. With
//! `--only` the rows whose `TABLE/NETWORK/ROW` contains that text are measured and printed, and no file is written.
//!
//! Each row is measured in a process of its own, so that its peak of memory is its own: the same program, with `--measure`.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use optc::analysis::latency::Machine;
use optc::data::DataSpec;
use optc::exec;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::pipeline::{Pipeline, RunOptions, Verify};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TEST: &str = "cifar10/test_932.npz";

/// Training images, named and already normalised.
const FEW: &str = "cifar10/calibration_400.npz";

/// More training images. The file holds test images too, which nothing may be calibrated on: the array is named here.
const MANY: &str = "cifar10/lossless_subset.npz,x=train_x";

const NETWORKS: [&str; 2] = ["resnet20", "resnet56"];

/// A table of `benches/RED.md`.
struct Table {
    name: &'static str,
    title: &'static str,
    note: &'static str,
    /// What the first column is.
    column: &'static str,
    rows: Vec<Row>,
}

/// One measurement for each network.
struct Row {
    label: String,
    pipeline: String,
    /// Data below the folder of all data, and how many samples of it.
    samples: Option<(&'static str, usize)>,
    /// The top-1 of the method's prototype in per cent, for each of [`NETWORKS`].
    prototype: [Option<f64>; 2],
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

fn main() -> Result<()> {
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
        _ => return Err("usage: red_tables [--only PART OF TABLE/NETWORK/ROW]".into()),
    };
    if !data.is_dir() {
        println!("{} is not there: nothing to measure on", data.display());
        return Ok(());
    }
    let mut text = String::new();
    tables(only, |so_far| {
        text = so_far;
        match only {
            Some(_) => Ok(()),
            None => std::fs::write(here.join("benches/RED.md"), &text),
        }
    })?;
    if only.is_some() {
        print!("{text}");
    }
    Ok(())
}

/// What is measured.
fn plan() -> Vec<Table> {
    let by_kernel = |flops: f64| format!("red{{hash=kernel,flops={flops}}}");
    let keep = |flops: f64, samples, prototype| Row {
        label: format!("{flops}"),
        pipeline: by_kernel(flops),
        samples,
        prototype,
    };
    let few = Some((FEW, 400));
    let drawn = |count: usize, prototype: Option<f64>| Row {
        label: format!("{count}"),
        pipeline: by_kernel(0.5),
        samples: Some((if count > 400 { MANY } else { FEW }, count)),
        prototype: [prototype, None],
    };
    let variant = |options: &str, samples: Option<(&'static str, usize)>| Row {
        label: match samples {
            None => format!("`{options}`"),
            Some((_, count)) => format!("`{options}`, {count} images"),
        },
        pipeline: format!("red{{{options}}}"),
        samples,
        prototype: [None; 2],
    };
    let data_free = [
        (0.8, 91.4, 92.1),
        (0.7, 91.2, 90.9),
        (0.6, 89.2, 88.1),
        (0.5, 80.4, 83.2),
        (0.4, 63.1, 68.2),
    ];
    let sampled = [
        (0.7, Some(92.27), None),
        (0.6, Some(91.85), None),
        (0.5, Some(92.06), Some(92.06)),
        (0.4, Some(90.02), None),
        (0.35, None, Some(91.85)),
        (0.3, Some(88.09), None),
    ];
    vec![
        Table {
            name: "data-free",
            title: "Without data",
            note: "`red{hash=kernel,flops=F}`: batch norms say what a layer reads.",
            column: "F",
            rows: data_free
                .map(|(f, a, b)| keep(f, None, [Some(a), Some(b)]))
                .into(),
        },
        Table {
            name: "samples",
            title: "With 400 training images, without their labels",
            note: "`red{hash=kernel,flops=F}` with `--data`.",
            column: "F",
            rows: sampled.map(|(f, a, b)| keep(f, few, [a, b])).into(),
        },
        Table {
            name: "count",
            title: "With more and fewer images",
            note: "`red{hash=kernel,flops=0.5}` with `--data` and `--samples`; one draw each.",
            column: "images",
            rows: vec![
                drawn(50, Some(91.74)),
                drawn(100, Some(92.27)),
                drawn(400, Some(92.06)),
                drawn(1600, None),
            ],
        },
        Table {
            name: "options",
            title: "What each option does",
            note: "At F = 0.5 where there is a target.",
            column: "options of `red`",
            rows: vec![
                variant("hash=none", None),
                variant("hash=kde", None),
                variant("hash=none,alpha=0.1", None),
                variant("hash=none,alpha=0.1", few),
                variant("hash=none,alpha=0.2", few),
                variant("hash=kernel,flops=0.5", None),
                variant("hash=kernel,flops=0.5,align=4", None),
                variant("hash=kernel,flops=0.5,align=8", None),
                variant("hash=kernel,flops=0.5,refit=false", few),
                variant("hash=kernel,flops=0.5", few),
                variant("hash=kernel,flops=0.5,alpha=0.1", few),
                variant("hash=kernel,flops=0.5,align=4", few),
                variant("hash=kernel,flops=0.5,align=8", few),
            ],
        },
    ]
}

/// Measures; after each table `finished` is told the Markdown text so far, so that a run that is cut short leaves something.
fn tables(
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
    let plan = plan();
    let last = plan.len() - 1;
    for (position, table) in plan.into_iter().enumerate() {
        let mut rows = String::new();
        for (i, network) in NETWORKS.into_iter().enumerate() {
            let of_table = table.rows.iter();
            let chosen: Vec<&Row> = of_table
                .filter(|row| wanted(&table, network, &row.label))
                .collect();
            if chosen.is_empty() {
                continue;
            }
            rows += &line(network, "as it is", None, &measured.of(network, "", None));
            for row in chosen {
                let result = measured.of(network, &row.pipeline, row.samples);
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

fn preface(seconds: u64) -> String {
    format!(
        "# What `red` does to ResNet-20 and ResNet-56\n\n\
        {}, {}, {}; {} min in all. Made by\n\n    cargo run --release --example red_tables\n\n\
        The networks are published ones for CIFAR-10, not trained further. *Top-1* is on 932 CIFAR-10 test images, where one\n\
        standard error is about 0.9 point: smaller differences say little. No label and no test image was used to compress.\n\
        *Multiply-adds* are those of the whole network on one image, counted and exact. *Prototype* is what a first sketch of\n\
        the method reached, which counted only the convolutions that it separated. *Seconds* are the pass's; *MiB* is the\n\
        peak of memory of the process that reads the network and the images and runs the pass.\n",
        said_by("date", &["-u", "+%F"]),
        Machine::this(),
        said_by("rustc", &["--version"]),
        seconds.div_ceil(60),
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
    let multiply_adds = [report.before.flops, report.after.flops];
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

/// What a program of the system prints.
fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| format!("{program} unknown"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_string(),
    )
}
