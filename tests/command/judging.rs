//! What a runtime says of the written file, as a user meets it.

use std::process::Output;

use super::common::has_onnxruntime;
use super::{Folder, text};

/// Convolutions of which two filters are equal, as ONNX and, with libtorch, TorchScript.
const NETWORK: &str = "\
graph net(%x: f32[N,3,8,8]) {
  @a.weight = parameter rows(normal(1), [0, 1, 2, 0]) : f32[4,3,3,3]
  @b.weight = parameter normal(2) : f32[5,4,1,1]
  %a = conv(%x, @a.weight)
  %relu = relu(%a)
  %b = conv(%relu, @b.weight)
  return %b
}
";

/// The formats that somebody judges here: ONNX Runtime's, and libtorch's in a build with it.
pub fn suffixes() -> Vec<&'static str> {
    let mut suffixes = Vec::new();
    suffixes.extend(has_onnxruntime().then_some("onnx"));
    suffixes.extend(cfg!(feature = "torch").then_some("pt"));
    suffixes
}

/// A folder with the network in this format, and nothing else.
pub fn with_network(suffix: &str) -> (Folder, String) {
    with(NETWORK, suffix)
}

fn with(network: &str, suffix: &str) -> (Folder, String) {
    let folder = Folder::new();
    folder.write("model.ir", network);
    let model = format!("net.{suffix}");
    let made = folder.run(&["--passes", "", "-o", &model, "model.ir"]);
    assert!(made.status.success(), "{}", stderr(&made));
    std::fs::remove_file(folder.path().join("model.ir")).unwrap();
    (folder, model)
}

fn with_fault(folder: &Folder, fault: &str, args: &[&str]) -> Output {
    let mut command = folder.command(args);
    command.env(optc::fuzzing::PLANTED_FAULT, fault);
    command.output().unwrap()
}

#[test]
fn the_judge_says_who_it_is_and_how_far_each_output_moved() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        let output = folder.run(&["--passes", "red{hash=none}", "--report", "r.json", &model]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let line = text
            .lines()
            .find(|line| line.starts_with("judge: "))
            .unwrap();
        let by = if suffix == "pt" {
            "libtorch"
        } else {
            "ONNX Runtime"
        };
        assert!(line.starts_with(&format!("judge: {by} ")), "{line}");
        assert!(line.contains("on 4 random inputs of 2x3x"), "{line}");
        let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
        let outputs = report["judge"]["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 1);
        assert!(outputs[0]["max_rel"].as_f64().unwrap() < 1e-4, "{report}");
        assert!(outputs[0]["cosine"].as_f64().unwrap() > 0.999_999);
        assert_eq!(outputs[0]["agreement"], 1.0);
        assert!(report["judge"]["by"].as_str().unwrap().starts_with(by));
    }
}

/// Optc's own comparison sees nothing of either: both of its sides come from one reader, and nobody reads what was written.
#[test]
#[cfg(debug_assertions)]
fn faults_of_the_reader_and_of_the_writer_are_found_and_leave_nothing() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        for fault in ["reader", "writer"] {
            for passes in ["canonicalize", "red{hash=none}"] {
                let output = with_fault(&folder, fault, &["--passes", passes, &model]);
                let text = stderr(&output);
                assert_eq!(output.status.code(), Some(3), "{fault} {passes}: {text}");
                assert!(text.contains("refuses the result"), "{text}");
                assert_eq!(folder.names(), [model.as_str()]);
            }
            let blind = with_fault(
                &folder,
                fault,
                &["--judge", "none", "--passes", "canonicalize", &model],
            );
            assert!(blind.status.success());
            std::fs::remove_file(folder.path().join(format!("net.opt.{suffix}"))).unwrap();
        }
        // And with no fault there is none.
        assert!(
            folder
                .run(&["--passes", "canonicalize", &model])
                .status
                .success()
        );
    }
}

#[test]
fn what_was_there_stays_when_the_judge_refuses() {
    for suffix in suffixes().into_iter().filter(|_| cfg!(debug_assertions)) {
        let (folder, model) = with_network(suffix);
        let out = format!("out.{suffix}");
        folder.write(&out, "before");
        let args = ["--passes", "canonicalize", "-o", &out, &model];
        assert_eq!(with_fault(&folder, "writer", &args).status.code(), Some(3));
        assert_eq!(folder.read(&out), "before");
    }
}

#[test]
fn without_a_runtime_one_line_says_how_to_get_one() {
    let (folder, model) = with_network("onnx");
    let mut command = folder.command(&["--passes", "canonicalize", &model]);
    let output = command
        .env("ORT_DYLIB_PATH", "/no/such/library.so")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let line = text
        .lines()
        .find(|line| line.starts_with("judge: none: "))
        .unwrap();
    assert!(line.contains("pip install onnxruntime"), "{line}");

    let args = [
        "--judge",
        "onnxruntime",
        "--passes",
        "canonicalize",
        "-o",
        "new.onnx",
        &model,
    ];
    let mut command = folder.command(&args);
    let output = command
        .env("ORT_DYLIB_PATH", "/no/such/library.so")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(!folder.names().contains(&"new.onnx".to_string()));
}

#[test]
fn a_change_over_what_is_allowed_is_status_3_and_writes_nothing() {
    let network = "\
graph net(%x: f32[N,3,8,8]) {
  @a.weight = parameter normal(1) : f32[16,3,3,3]
  @b.weight = parameter normal(2) : f32[16,16,3,3]
  %a = conv(%x, @a.weight)
  %relu = relu(%a)
  %b = conv(%relu, @b.weight)
  return %b
}
";
    let (folder, model) = with(network, "onnx");
    let passes = ["--input", "1x3x8x8", "--passes", "lrf{ratio=0.5}"];
    let far = folder.run(&[&passes[..], &["--max-change", "0.001", &model]].concat());
    assert_eq!(far.status.code(), Some(3), "{}", stderr(&far));
    assert!(
        stderr(&far).contains("--max-change allows 0.1 %"),
        "{}",
        stderr(&far)
    );
    assert_eq!(folder.names(), [model.as_str()]);
    // Without a limit a user is told, and what can be done about it.
    let said = folder.run(&[&passes[..], &[model.as_str()]].concat());
    assert!(said.status.success());
    assert!(
        stderr(&said).contains("warning: THE OUTPUTS MOVED FAR"),
        "{}",
        stderr(&said)
    );
    assert!(stderr(&said).contains("--data"), "{}", stderr(&said));
}

fn stdout(output: &Output) -> String {
    text(&output.stdout)
}

fn stderr(output: &Output) -> String {
    text(&output.stderr)
}
