//! Measures what `drop` does to LeNet-5 and writes `benches/DROP.md`.
//!
//!     cargo run --release --features torch --example drop_tables
//!
//! MNIST lies in `../shared/data/mnist` beside the project; where it does not, this says so and does nothing. The dense networks
//! are trained first, from `examples/lenet5.ir`, one for each seed, and written as TorchScript beside the build's other files, as
//! is what is measured: the same command goes on where it was broken off. The tables are written whenever a network is done.

#[path = "tables/machine.rs"]
mod machine;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use optc::data::{Data, DataSpec};
use optc::pipeline::{Pipeline, RunOptions, Verify};
use optc::{Model, exec};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const NETWORK: &str = include_str!("lenet5.ir");

const SEEDS: [u64; 3] = [0, 1, 2];

/// What makes training images differ from epoch to epoch.
const SHIFTED: &str = ",crop=2";

/// How the dense network is trained.
const DENSE: &str = "finetune{epochs=5,lr=0.015,distill=0}";

/// The first learning rate of each training while and after weights are dropped.
const RATE: f64 = 0.04;

/// The sparsity of the ablation: where nothing is lost, there is nothing to tell apart.
const ABLATION: f64 = 0.99;

/// A way to train or prune a network.
#[derive(Clone)]
struct Row {
    label: String,
    pipeline: String,
    /// Options of the training images.
    images: &'static str,
}

impl Row {
    fn new(label: &str, pipeline: String) -> Row {
        Row {
            label: label.to_string(),
            pipeline,
            images: "",
        }
    }

    fn shifted(self) -> Row {
        Row {
            label: format!("{}, images shifted", self.label),
            images: SHIFTED,
            ..self
        }
    }

    /// What is measured, in one line.
    fn key(&self, seed: u64) -> String {
        format!("{}{}, seed {seed}", self.pipeline, self.images)
    }
}

/// The rows of both tables: each ratio, and each method at the sparsity of the ablation. All train for eight epochs, but for the
/// ratio at which nothing is to be lost and what it is compared with, which train for twelve.
fn plan() -> [Vec<Row>; 2] {
    let drop = |label: &str, sparsity: f64, options: &str| {
        let pipeline = format!("drop{{sparsity={sparsity},{options},lr={RATE}}}");
        Row::new(label, pipeline)
    };
    let both = "p_out=0.8,ramp,steps=4,last=4";
    let ratio = |sparsity: f64, options: &str| {
        let label = format!("{:.1}x", 1.0 / (1.0 - sparsity));
        drop(&label, sparsity, options)
    };
    let lossless = ratio(0.93, "p_out=0.8,ramp,steps=4,last=8");
    let further = "finetune{epochs=12,lr=0.015,distill=0}";
    let further = Row::new("dense, trained further", further.to_string());
    let method = |label: &str, options: &str| drop(label, ABLATION, options);
    [
        vec![
            dense(),
            lossless.clone(),
            ratio(0.98, both),
            ratio(ABLATION, both),
            lossless.shifted(),
            further.clone().shifted(),
            further,
        ],
        vec![
            method("drop-out and drop-in", both),
            method("drop-out only", "p_out=0.8,p_in=0,ramp,steps=4,last=4"),
            method("drop-in only", "p_out=1,ramp,steps=4,last=4"),
            method("gradual magnitude", "p_out=1,p_in=0,ramp,steps=4,last=4"),
            method("one-shot magnitude", "p_out=1,p_in=0,steps=1,last=7"),
        ],
    ]
}

fn dense() -> Row {
    Row::new("dense", DENSE.to_string())
}

/// What the dense networks are made into: row after row, the ablation last.
fn queue() -> Vec<(Row, u64)> {
    let rows = plan().into_iter().flatten();
    let jobs = rows.flat_map(|row| SEEDS.map(|seed| (row.clone(), seed)));
    let mut seen = HashSet::new();
    // The ablation has one of the ratios too.
    jobs.filter(|(row, seed)| seen.insert(row.key(*seed)))
        .collect()
}

/// A network that is done.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Measured {
    /// Of the test images.
    wrong: usize,
    samples: usize,
    /// Weights of convolutions and linear layers that are not zero.
    kept: usize,
    seconds: f64,
}

impl Measured {
    /// In per cent.
    fn error(&self) -> f64 {
        100.0 * self.wrong as f64 / self.samples as f64
    }
}

/// By row and seed.
type Results = BTreeMap<String, Measured>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let jobs = match args[..] {
        ["--jobs", jobs] => jobs.parse()?,
        [] => 1,
        _ => return Err("usage: drop_tables [--jobs N]".into()),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mnist = here.with_file_name("shared").join("data/mnist");
    if !mnist.is_dir() {
        println!("{} is not there: nothing to measure on", mnist.display());
        return Ok(());
    }
    let bench = Bench::new(&mnist, here.join("benches/DROP.md"))?;
    bench.in_parallel(jobs, SEEDS.map(|seed| (dense(), seed)).into())?;
    bench.in_parallel(jobs, queue())
}

/// What all measurements share.
struct Bench {
    train: Arc<Data>,
    /// The same images, shifted.
    shifted: Arc<Data>,
    test: Data,
    table: PathBuf,
    /// Where the dense networks are, and what is measured.
    folder: PathBuf,
    results: Mutex<Results>,
}

impl Bench {
    fn new(mnist: &Path, table: PathBuf) -> Result<Bench> {
        let graph = NETWORK.parse()?;
        let open = |part: &str| -> Result<Data> {
            let spec = format!("mnist:{},split={part}", mnist.display());
            Ok(spec.parse::<DataSpec>()?.open(&graph)?)
        };
        let program = std::env::current_exe()?;
        let mut bench = Bench {
            train: Arc::new(open("train")?),
            shifted: Arc::new(open(&format!("train{SHIFTED}"))?),
            test: open("test")?,
            table,
            folder: program.parent().map(Path::to_path_buf).unwrap_or_default(),
            results: Mutex::default(),
        };
        if let Ok(text) = std::fs::read(bench.kept_results()) {
            bench.results = Mutex::new(serde_json::from_slice(&text)?);
        }
        Ok(bench)
    }

    fn kept_results(&self) -> PathBuf {
        self.folder.join("drop_tables.json")
    }

    fn in_parallel(&self, jobs: usize, mut queue: Vec<(Row, u64)>) -> Result<()> {
        queue.reverse();
        let queue = Mutex::new(queue);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some((row, seed)) = next() {
                    self.record(&row, seed)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let ends = workers.into_iter().map(|worker| worker.join());
            let ends = ends.map(|end| end.map_err(|_| "a worker has panicked")?);
            ends.collect::<Result<Vec<()>>>().map(|_| ())
        })
    }

    /// Measures a network, if it is not measured yet, and writes the tables.
    fn record(&self, row: &Row, seed: u64) -> Result<()> {
        let results = || self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let key = row.key(seed);
        let known = results().get(&key).copied();
        let measured = match known {
            Some(measured) => measured,
            None => self.measure(row, seed)?,
        };
        eprintln!("{key}: {} wrong, {:.0} s", measured.wrong, measured.seconds);
        results().insert(key, measured);
        let results = results();
        std::fs::write(self.kept_results(), serde_json::to_vec(&*results)?)?;
        Ok(std::fs::write(&self.table, tables(&results))?)
    }

    /// Runs a row's pipeline on a network: an untrained one to train it, or else the dense one of this seed. The test images are
    /// looked at when it is done.
    fn measure(&self, row: &Row, seed: u64) -> Result<Measured> {
        let dense = self.folder.join(format!("lenet5-{seed}.pt"));
        let mut model = if row.pipeline == DENSE {
            // Other weights for each seed: `normal(1, ..)` becomes `normal(21, ..)`.
            Model::new(
                NETWORK
                    .replace("normal(", &format!("normal({seed}"))
                    .parse()?,
            )
        } else {
            optc::read(&dense)?
        };
        let data = match row.images {
            SHIFTED => &self.shifted,
            _ => &self.train,
        };
        let options = RunOptions {
            seed,
            threads: 1,
            verify: Verify::Nothing,
            data: Some(data.clone()),
            ..RunOptions::default()
        };
        let start = Instant::now();
        let report = Pipeline::parse(&row.pipeline)?.run_with(&mut model, &options, &mut ())?;
        if let Some(why) = report
            .passes
            .iter()
            .find_map(|pass| pass.stop_reason.clone())
        {
            return Err(format!("{}: {why}", row.key(seed)).into());
        }
        let seconds = start.elapsed().as_secs_f64();
        if row.pipeline == DENSE {
            optc::write(&model, &dense)?;
        }
        let top1 = exec::top1(&model.graph, &self.test, |_| {})?;
        let constants = model
            .graph
            .nodes()
            .filter_map(|node| model.graph.constant(node));
        let kernels = constants.filter(|constant| constant.tensor.shape().len() > 1);
        Ok(Measured {
            wrong: top1.samples - top1.right,
            samples: top1.samples,
            kept: kernels
                .map(|kernel| {
                    kernel
                        .tensor
                        .elements::<f32>()
                        .iter()
                        .filter(|x| **x != 0.0)
                        .count()
                })
                .sum(),
            seconds,
        })
    }
}

/// The Markdown text of all that is measured.
fn tables(results: &Results) -> String {
    let [ratios, methods] = plan();
    let mut text = preface();
    let header = "|---|--:|--:|--:|--:|--:|\n";
    let columns = "weights kept | test error, % | against dense | of seeds | s";
    let title = "Smaller and smaller";
    let _ = write!(text, "\n## {title}\n\n| ratio | {columns} |\n{header}");
    for row in &ratios {
        text += &line(results, row);
    }
    let title = format!("What each half does, at {:.0}x", 1.0 / (1.0 - ABLATION));
    let _ = write!(text, "\n## {title}\n\n| method | {columns} |\n{header}");
    for row in &methods {
        text += &line(results, row);
    }
    text += "\n## The pipelines\n\n";
    for row in ratios.iter().chain(&methods) {
        let _ = writeln!(text, "    {:66} {}", row.pipeline, row.label);
    }
    text + VGG
}

/// What is not measured.
const VGG: &str = "
## VGG-16 on CIFAR-10

Not measured: its 14.7 million weights want a GPU, and none was at hand. `examples/README.md` has the command, which prunes 91 % of
them, the paper's 11.1x; the tests take a few steps of it on the processor.
";

fn preface() -> String {
    format!(
        "# What `drop` does to LeNet-5\n\n\
        {}. Made by\n\n    \
        cargo run --release --features torch --example drop_tables\n\n\
        `examples/lenet5.ir` has 430,500 weights that are pruned, and 580 biases that are not. It is trained on MNIST's 60,000\n\
        training images, but for a tenth that is held out to choose epochs by; where it says *images shifted*, by up to two pixels\n\
        (`mnist:DIR{SHIFTED}`), else as they are. A row is the mean of up to three seeds, which give the weights, the order of images\n\
        and what is dropped, and the deviation between them. Each network was tested once, when it was done, on the 10,000 test\n\
        images; nothing was chosen by them. *Against dense* is the difference of errors to the dense network that it was pruned from,\n\
        in points; *s* is seconds of training, on a busy machine. A row of fewer than three seeds was cut short.\n\n\
        For scale, papers at about 0.8 % error: Han et al. 12x, Dynamic Network Surgery 108x, Sparse VD 280x; Drop Pruning itself\n\
        14.3x without loss. They train for far longer than the few epochs here.\n",
        machine::here_and_now(),
    )
}

fn line(results: &Results, row: &Row) -> String {
    let label = &row.label;
    let done = SEEDS.into_iter().filter_map(|seed| {
        let measured = results.get(&row.key(seed))?;
        let dense = results.get(&dense().key(seed))?;
        Some((*measured, measured.error() - dense.error()))
    });
    let done: Vec<(Measured, f64)> = done.collect();
    let Some((first, _)) = done.first() else {
        return format!("| {label} | not measured: this run was cut short |||||\n");
    };
    let of = |value: fn(&(Measured, f64)) -> f64| done.iter().map(value).collect::<Vec<f64>>();
    let error = mean_and_deviation(&of(|(m, _)| m.error()));
    let change = mean_and_deviation(&of(|(_, change)| *change));
    let seconds = of(|(m, _)| m.seconds).iter().sum::<f64>() / done.len() as f64;
    format!(
        "| {label} | {} | {error} | {change} | {} | {seconds:.0} |\n",
        first.kept,
        done.len(),
    )
}

/// `0.89 ± 0.12`; of one value there is no deviation.
fn mean_and_deviation(values: &[f64]) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    match values {
        [_] => format!("{mean:.2}"),
        _ => format!("{mean:.2} ± {:.2}", (squares / (n - 1.0)).sqrt()),
    }
}
