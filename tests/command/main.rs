//! The command, as a user meets it: the built binary on files in an empty folder.

#[path = "../common/mod.rs"]
mod common;
mod explore;
mod files;
mod help;
mod judging;
mod mistakes;
mod page;
mod timing;
#[cfg(feature = "torch")]
mod training;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const MODEL: &str = "\
graph net(%x: f32[N,3,H,W]) {
  @conv.weight = parameter normal(1) : f32[4,3,3,3]
  %conv = conv(%x, @conv.weight) {pad=[1,1]}
  %relu = relu(%conv)
  return %relu
}
";

/// An empty folder with `model.ir` in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("model.ir", MODEL);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Without measured times, which would decide what is written.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.timed(args);
        if !args
            .iter()
            .any(|arg| ["bench", "inspect", "profile", "completions", "man"].contains(arg))
        {
            command.arg("--no-measure");
        }
        command
    }

    fn timed(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
        command.args(args).current_dir(self.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the command and requires success; returns what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// The command line, the message and the exit status, for a snapshot.
    fn failure(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} succeeded");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let quoted: Vec<String> = args
            .iter()
            .map(|arg| {
                if arg.contains(|c: char| !(c.is_alphanumeric() || "-_./:=,".contains(c)))
                    || arg.is_empty()
                {
                    format!("'{arg}'")
                } else {
                    arg.to_string()
                }
            })
            .collect();
        format!(
            "$ optc {}\n{}[exit status {}]\n\n",
            quoted.join(" "),
            text(&output.stderr),
            output.status.code().unwrap()
        )
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn given_shapes_give_numbers_and_freeze_nothing() {
    let folder = Folder::new();
    let without = folder.ok(&["--passes", "", "model.ir"]);
    assert!(
        without.contains("multiply-adds        ?       ?"),
        "{without}"
    );
    let with = folder.ok(&["--passes", "", "--input", "1x3x8x8", "model.ir"]);
    assert!(with.contains("6 912"), "4*3*3*3*8*8 multiply-adds: {with}");
    assert!(folder.read("model.opt.ir").contains("%x: f32[N,3,H,W]"));
}

#[test]
fn quiet_prints_only_what_was_asked_for() {
    let folder = Folder::new();
    assert_eq!(folder.ok(&["-q", "--passes", "", "model.ir"]), "");
    let graph = folder.ok(&["-q", "--passes", "", "--emit-ir", "model.ir"]);
    assert!(graph.starts_with("graph net("), "{graph}");
    assert_eq!(
        folder.ok(&["-q", "--passes", "", "--emit-ir=final.ir", "model.ir"]),
        ""
    );
    assert_eq!(folder.read("final.ir"), graph);
}

/// A network whose batch norms fold, with rounding.
const FOLDS: &str = "\
graph net(%x: f32[N,3,H,W]) {
  @conv.weight = parameter rows(normal(1), [0, 1, 0, 2]) : f32[4,3,3,3]
  @bn.weight = parameter uniform(2, 0.5, 2.0) : f32[4]
  @bn.bias = parameter normal(3) : f32[4]
  @bn.mean = buffer normal(4) : f32[4]
  @bn.var = buffer uniform(5, 0.5, 2.0) : f32[4]
  %conv = conv(%x, @conv.weight) {pad=[1,1]}
  %bn = batch_norm(%conv, @bn.weight, @bn.bias, @bn.mean, @bn.var)
  %relu = relu(%bn)
  return %relu
}
";

#[test]
fn an_error_over_the_tolerance_is_status_3_and_writes_nothing() {
    let folder = Folder::new();
    folder.write("folds.ir", FOLDS);
    folder.ok(&["--passes", "fold-batch-norm", "folds.ir", "-o", "folded.ir"]);
    let before = folder.names();
    let exactly = [
        "--passes",
        "fold-batch-norm",
        "--tolerance",
        "0",
        "folds.ir",
    ];
    let failures =
        folder.failure(&exactly) + &folder.failure(&[&["--verify-each"], &exactly[..]].concat());
    assert_eq!(folder.names(), before);
    // How rounding falls is the machine's affair.
    insta::with_settings!({filters => vec![(r"\d\.\de-\d+", "[small]")]}, {
        common::snapshot("errors/command_verify", &failures);
    });
}

#[test]
fn a_failing_pass_is_status_1_and_names_itself() {
    let folder = Folder::new();
    let mut text = String::new();
    for number in ["nan", "inf"] {
        let name = format!("{number}.ir");
        folder.write(&name, &MODEL.replace("normal(1)", number));
        text += &folder.failure(&[&name]);
    }
    common::snapshot("errors/command_pass", &text);
}

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let folder = Folder::new();
    folder.write("folds.ir", FOLDS);
    let mut outputs = Vec::new();
    for (i, threads) in ["1", "4", "4"].iter().enumerate() {
        let output = format!("{i}.ir");
        folder.ok(&[
            "--passes",
            "canonicalize,red",
            "--threads",
            threads,
            "-o",
            &output,
            "folds.ir",
        ]);
        outputs.push(folder.read(&output));
    }
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(outputs[1], outputs[2]);
}

#[test]
fn a_table_shows_before_and_after() {
    let folder = Folder::new();
    folder.write("folds.ir", FOLDS);
    let passes = "canonicalize,red{hash=none}";
    let table = folder.ok(&[
        "--passes",
        passes,
        "--input",
        "1x3x8x8",
        "--remarks",
        "folds.ir",
    ]);
    // Time and rounding are the machine's affair.
    let filters = vec![(r"\d\.\de-\d+", "[small]"), (r"  \d\.\d\d  ", "  0.00  ")];
    insta::with_settings!({filters => filters}, {
        common::snapshot("command/table", &table);
    });
}

#[test]
fn graphs_are_printed_after_passes_on_standard_error() {
    let folder = Folder::new();
    folder.write("folds.ir", FOLDS);
    let printed = |after: &str| {
        let passes = "canonicalize,fold-batch-norm,canonicalize";
        let output = folder.run(&[
            "-q",
            "--passes",
            passes,
            "--print-ir-after",
            after,
            "folds.ir",
        ]);
        let stderr = text(&output.stderr);
        let headers = stderr.lines().filter(|line| line.starts_with("// after"));
        headers.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(printed("changed"), ["// after fold-batch-norm"]);
    assert_eq!(printed("canonicalize"), ["// after canonicalize"; 2]);
    assert_eq!(printed("all").len(), 3);
}

#[test]
fn remarks_say_what_was_done() {
    let folder = Folder::new();
    folder.write("folds.ir", FOLDS);
    let remarks = folder.ok(&["-q", "--remarks", "--passes", "fold-batch-norm", "folds.ir"]);
    assert_eq!(remarks, "applied: fold-batch-norm bn: folded into `conv`\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    let mut child = folder
        .command(&["--passes", "", "--emit-ir", "model.ir"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Writes `few.npz`, every tenth image of the example's test set: enough, and quick without optimisation. Gives the examples' folder.
fn few_shapes(folder: &Folder) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let all = fs::File::open(examples.join("shapes_test.npz")).unwrap();
    let mut all = zip::ZipArchive::new(all).unwrap();
    let few = fs::File::create(folder.path().join("few.npz")).unwrap();
    let mut few = zip::ZipWriter::new(few);
    for (name, size) in [("x.npy", 3 * 32 * 32), ("y.npy", 8)] {
        let mut array = Vec::new();
        std::io::copy(&mut all.by_name(name).unwrap(), &mut array).unwrap();
        let (header, elements) = array.split_at(128);
        // As long as before, as the length that stands in front of it says.
        let header = String::from_utf8_lossy(&header[10..]).replace("(350,", "( 35,");
        let tenth = elements.chunks_exact(size).step_by(10).flatten();
        let head = array[..10].iter().chain(header.as_bytes());
        let array: Vec<u8> = head.chain(tenth).copied().collect();
        few.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::Write::write_all(&mut few, &array).unwrap();
    }
    few.finish().unwrap();
    examples
}

#[test]
fn right_answers_are_counted_before_and_after() {
    let folder = Folder::new();
    let example = few_shapes(&folder);
    let data = "npz:few.npz,mean=0,std=1";
    let table = folder.ok(&[
        "--passes",
        "fold-batch-norm",
        "--no-verify",
        "--eval",
        data,
        "--data",
        data,
        "--samples",
        "7",
        "--report",
        "r.json",
        "-o",
        "out.pt",
        example.join("shapes.pt").to_str().unwrap(),
    ]);
    let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
    assert_eq!(report["eval"]["data"], data);
    assert_eq!(report["eval"]["samples"], 35);
    assert_eq!(report["eval"]["top1_before"], report["eval"]["top1_after"]);
    let share = report["eval"]["top1_before"].as_f64().unwrap();
    assert!(share > 0.9, "{share}");
    let share = format!("{:.2} %", 100.0 * share);
    let line = format!("top-1: {share} before, {share} after, on 35 samples of {data}\n");
    assert!(table.contains(&line), "{table}");
    let macs = &report["before"]["macs"];
    assert_eq!(macs, 22_725_248, "the samples say the input's size");
    assert_eq!(report["calibration"]["data"], data);
    assert_eq!(report["calibration"]["samples"], 7);
}

#[test]
fn the_report_is_json() {
    let folder = Folder::new();
    folder.ok(&[
        "--passes", "", "--report", "r.json", "--seed", "7", "--input", "2x3x8x8", "model.ir",
    ]);
    let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
    assert_eq!(report["optc"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["model"], "model.ir");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["cost"], "macs");
    assert_eq!(report["predicted_seconds"], serde_json::Value::Null);
    assert_eq!(report["before"]["params"], 108);
    assert_eq!(report["before"]["macs"], 2 * 6912);
    assert_eq!(report["before"], report["after"]);
    assert_eq!(report["passes"], serde_json::json!([]));
}
