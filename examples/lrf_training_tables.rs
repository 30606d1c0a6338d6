//! Measures what `lrf` with training does to ResNet-20 and writes `benches/LRF_TRAINING.md`.
//!
//!     cargo run --release --features torch --example lrf_training_tables -- --jobs 2
//!
//! The network and the data lie in `../shared/data` beside the project; where they do not, this says so and does nothing. Rows
//! train for hours: each has a checkpoint beside the build's other files, and what is measured is kept there too, so that the same
//! command goes on where it was broken off. `--epochs`, `--data` and `--output` make a quick run of it.

#[path = "tables/machine.rs"]
mod machine;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use optc::data::{Data, DataSpec};
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::pipeline::{Checkpoint, Pipeline, RunOptions, Verify};
use optc::{Model, exec};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str =
    "usage: lrf_training_tables [--jobs N] [--epochs N] [--data SPEC] [--output FILE.md]";

/// Training images that no lossy compression has touched.
const TRAIN: &str = "cifar10/lossless_subset.npz,x=train_x,y=train_y,flip=true,crop=4";

const TEST: &str = "cifar10/test_932.npz";

/// How many of the training images layers are weighed by.
const SAMPLES: usize = 256;

/// Epochs of each row, if nothing else is said: the interleaved one trains for 37 before its last training.
const EPOCHS: usize = 60;

/// What removes the filters of the rows that are not interleaved, and sets the budget of the uneven one.
const EVEN: &str = "lrf{ratio=0.5}";

/// What the program is asked for.
struct Arguments {
    jobs: usize,
    epochs: usize,
    data: Option<String>,
    output: PathBuf,
}

impl Arguments {
    fn parse(here: &Path) -> Result<Arguments> {
        let mut arguments = Arguments {
            jobs: 1,
            epochs: EPOCHS,
            data: None,
            output: here.join("benches/LRF_TRAINING.md"),
        };
        let mut words = std::env::args().skip(1);
        while let Some(option) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match option.as_str() {
                "--jobs" => arguments.jobs = value.parse()?,
                "--epochs" => arguments.epochs = value.parse::<usize>()?.max(1),
                "--data" => arguments.data = Some(value),
                "--output" => arguments.output = value.into(),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(arguments)
    }
}

struct Row {
    label: &'static str,
    pipeline: String,
    /// Of all its training.
    epochs: usize,
}

/// What is measured, for a network that `EVEN` leaves this fraction of the multiply-adds.
fn plan(kept: f64, epochs: usize) -> Vec<Row> {
    let row = |label, pipeline: String, epochs| Row {
        label,
        pipeline,
        epochs,
    };
    // Rounded up: as much may be kept.
    let kept = (1e4 * kept).ceil() / 1e4;
    // What is taken where none is given, and the authors take; and what is taken for other networks.
    let [slow, fast] =
        ["0.001", "0.01"].map(|rate| format!("finetune{{epochs={epochs},lr={rate}}}"));
    let uneven = format!("lrf{{flops={kept}}}");
    // A warm-up, and after each side of each of 18 layers.
    let first = 1 + 2 * 18;
    let last = epochs.saturating_sub(first).max(1);
    let interleaved = format!("lrf{{ratio=0.5,finetune=1}},finetune{{epochs={last}}}");
    vec![
        row("as it is", String::new(), 0),
        row("unpruned, trained further", fast.clone(), epochs),
        row("even, not trained", EVEN.into(), 0),
        row("uneven, not trained", uneven.clone(), 0),
        row("even", format!("{EVEN},{slow}"), epochs),
        row("even, faster", format!("{EVEN},{fast}"), epochs),
        row("uneven", format!("{uneven},{slow}"), epochs),
        row("uneven, faster", format!("{uneven},{fast}"), epochs),
        row("even, interleaved", interleaved, first + last),
    ]
}

/// A row that is done.
#[derive(Clone, Serialize, Deserialize)]
struct Measured {
    right: usize,
    samples: usize,
    /// Before and after.
    multiply_adds: [u64; 2],
    parameters: u64,
    /// Of the last part of the run, if it was broken off.
    seconds: f64,
}

/// By pipeline.
type Results = BTreeMap<String, Measured>;

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = Arguments::parse(here)?;
    let data = here.with_file_name("shared").join("data");
    if !data.is_dir() {
        println!("{} is not there: nothing to measure on", data.display());
        return Ok(());
    }
    let bench = Bench::new(&data, arguments)?;
    let rows = plan(bench.kept()?, bench.arguments.epochs);
    bench.write(&rows)?;
    let next = Mutex::new(rows.iter());
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let row = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(row) = row else { return Ok(()) };
                bench.record(row)?;
                bench.write(&rows)?;
            }
        };
        let workers: Vec<_> = (0..bench.arguments.jobs.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        let ends = ends.map(|end| end.map_err(|_| "a worker has panicked")?);
        ends.collect::<Result<Vec<()>>>().map(|_| ())
    })
}

/// What all rows share.
struct Bench {
    arguments: Arguments,
    network: PathBuf,
    train: Arc<Data>,
    test: Data,
    /// Where checkpoints are, and what is measured.
    folder: PathBuf,
    results: Mutex<Results>,
}

impl Bench {
    fn new(data: &Path, arguments: Arguments) -> Result<Bench> {
        let network = data.join("cifar10_resnet/resnet20.pt");
        let graph = read(&network)?.graph;
        let open = |spec: &str| -> Result<Data> { Ok(spec.parse::<DataSpec>()?.open(&graph)?) };
        let own = format!("npz:{}", data.join(TRAIN).display());
        let train = open(arguments.data.as_ref().unwrap_or(&own))?;
        let test = open(&format!("npz:{}", data.join(TEST).display()))?;
        let program = std::env::current_exe()?;
        let folder = program.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut bench = Bench {
            arguments,
            network,
            train: Arc::new(train),
            test,
            folder,
            results: Mutex::default(),
        };
        if let Ok(text) = std::fs::read(bench.kept_results()) {
            bench.results = Mutex::new(serde_json::from_slice(&text)?);
        }
        Ok(bench)
    }

    /// The file of what is measured on this data.
    fn kept_results(&self) -> PathBuf {
        let name = format!("lrf_training-{}.json", self.train.len());
        self.folder.join(name)
    }

    /// The fraction of the multiply-adds that the paper's method keeps.
    fn kept(&self) -> Result<f64> {
        let mut model = read(&self.network)?;
        let options = RunOptions {
            verify: Verify::Nothing,
            ..RunOptions::default()
        };
        let report = Pipeline::parse(EVEN)?.run_with(&mut model, &options, &mut ())?;
        match [report.before.macs, report.after.macs] {
            [Some(before), Some(after)] => Ok(after as f64 / before as f64),
            _ => Err("multiply-adds depend on a size without a number".into()),
        }
    }

    /// Measures a row that is not measured yet.
    fn record(&self, row: &Row) -> Result<()> {
        let results = || self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results().contains_key(&row.pipeline) {
            return Ok(());
        }
        let measured = self.measure(&row.pipeline)?;
        let top1 = 100.0 * measured.right as f64 / measured.samples as f64;
        eprintln!("{}: {top1:.2} %, {:.0} s", row.pipeline, measured.seconds);
        let mut results = results();
        results.insert(row.pipeline.clone(), measured);
        std::fs::write(self.kept_results(), serde_json::to_vec(&*results)?)?;
        Ok(())
    }

    /// Runs `pipeline` on the network; the test images are looked at when it is done.
    fn measure(&self, pipeline: &str) -> Result<Measured> {
        let mut model = read(&self.network)?;
        let of_row: String = pipeline
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let checkpoint = self.folder.join(format!("lrf_training{of_row}.checkpoint"));
        let options = RunOptions {
            threads: 1,
            verify: Verify::Nothing,
            samples: Some(Arc::new(self.train.sample(SAMPLES, 0)?)),
            data: Some(self.train.clone()),
            checkpoint: Some(checkpoint.clone()),
            ..RunOptions::default()
        };
        let start = Instant::now();
        let report = Pipeline::parse(pipeline)?.run_with(&mut model, &options, &mut ())?;
        let seconds = start.elapsed().as_secs_f64();
        let top1 = exec::top1(&model.graph, &self.test, |_| {})?;
        let [Some(before), Some(after)] = [report.before.macs, report.after.macs] else {
            return Err("multiply-adds depend on a size without a number".into());
        };
        let stopped = report
            .passes
            .iter()
            .find_map(|pass| pass.stop_reason.clone());
        if let Some(why) = stopped.filter(|why| why.starts_with("the loss")) {
            return Err(format!("{pipeline}: {why}").into());
        }
        Checkpoint::remove(&checkpoint)?;
        Ok(Measured {
            right: top1.right,
            samples: top1.samples,
            multiply_adds: [before, after],
            parameters: report.after.params,
            seconds,
        })
    }

    /// Writes the table of all that is measured.
    fn write(&self, rows: &[Row]) -> Result<()> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = preface(self.train.len(), self.train.name(), self.arguments.epochs);
        for row in rows {
            text += &line(row, results.get(&row.pipeline));
        }
        Ok(std::fs::write(&self.arguments.output, text)?)
    }
}

fn read(network: &Path) -> Result<Model> {
    let read = ReadOptions {
        inputs: vec!["1x3x32x32".parse::<InputShape>()?],
    };
    Ok(read_with(network, &read)?)
}

fn preface(images: usize, data: &str, epochs: usize) -> String {
    let file = data.rsplit('/').next().unwrap_or(data);
    format!(
        "# What `lrf` with training does to ResNet-20\n\n\
        {}. Made by\n\n    \
        cargo run --release --features torch --example lrf_training_tables -- --epochs {epochs}\n\n\
        The network is a published one for CIFAR-10, trained on all 50,000 images. Here it is trained on {images} training images\n\
        (`{file}`),\n\
        mirrored and shifted, a tenth of which is held out to choose epochs by: by their labels and by the answers of the unpruned\n\
        network. Layers are weighed by {SAMPLES} of these images. *Top-1* is on 932 CIFAR-10 test images, looked at once a\n\
        row, when it was done; one standard error is about 0.9 point. *Epochs* are those of all training in the row: the unpruned\n\
        network is trained for as long as the others, but for the interleaved one, which takes 37 before its last training. *Uneven*\n\
        spends the multiply-adds that `{EVEN}` leaves as `lrf` chooses.\n\n\
        | ResNet-20 | pipeline | top-1 | multiply-adds kept | parameters | epochs | min |\n\
        |---|---|--:|--:|--:|--:|--:|\n",
        machine::here_and_now(),
    )
}

fn line(row: &Row, measured: Option<&Measured>) -> String {
    let Row {
        label,
        pipeline,
        epochs,
    } = row;
    let mut text = match pipeline.as_str() {
        "" => format!("| {label} | "),
        pipeline => format!("| {label} | `{pipeline}` "),
    };
    let _ = match measured {
        None => writeln!(text, "| not measured yet |||||"),
        Some(m) => {
            let [before, after] = m.multiply_adds;
            writeln!(
                text,
                "| {:.2} | {:.4} | {} | {epochs} | {:.0} |",
                100.0 * m.right as f64 / m.samples as f64,
                after as f64 / before as f64,
                m.parameters,
                m.seconds / 60.0
            )
        }
    };
    text
}
