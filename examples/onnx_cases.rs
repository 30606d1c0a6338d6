//! Sends every `DIR/NAME/model.onnx` through `canonicalize` and writes it as `DIR/NAME/optc.onnx`: the first half of a test of the
//! ONNX reader and writer on the `onnx` package's own cases. `examples/onnx_cases.py` writes the cases, and judges the results.
//!
//!     python3 examples/onnx_cases.py write DIR
//!     cargo run --release --example onnx_cases -- DIR [PIPELINE]
//!     python3 examples/onnx_cases.py judge DIR

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use optc::Pipeline;
use optc::pipeline::{RunOptions, Verify};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        eprintln!("usage: onnx_cases DIR [PIPELINE]");
        return ExitCode::from(2);
    };
    let passes = arguments.next().unwrap_or("canonicalize".to_owned());
    let mut cases: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            eprintln!("{folder}: {error}");
            return ExitCode::from(2);
        }
    };
    cases.retain(|case| case.join("model.onnx").exists());
    cases.sort();
    let start = Instant::now();
    let (mut written, mut panics) = (0, 0);
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        match catch_unwind(|| rewrite(case, &passes)) {
            Ok(Ok(())) => written += 1,
            Ok(Err(why)) => refused.entry(why).or_default().push(name.into_owned()),
            Err(_) => {
                println!("panicked: {name}");
                panics += 1;
            }
        }
    }
    for (why, names) in &refused {
        println!("{} refused: {why}\n    {}", names.len(), names.join(" "));
    }
    println!(
        "{written} written, {} refused, {panics} panicked, {:.1} s",
        refused.values().map(Vec::len).sum::<usize>(),
        start.elapsed().as_secs_f64()
    );
    match panics {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Reads a case, runs the passes, writes it. A reason that is no case's own has no path in it.
fn rewrite(case: &Path, passes: &str) -> Result<(), String> {
    let out = case.join("optc.onnx");
    let _ = fs::remove_file(&out);
    let options = RunOptions {
        verify: Verify::Nothing,
        ..RunOptions::default()
    };
    let run = || {
        let mut model = optc::read(case.join("model.onnx"))?;
        Pipeline::parse(passes)?.run_with(&mut model, &options, &mut ())?;
        optc::write(&model, &out)
    };
    let plain = |error: optc::Error| {
        error
            .to_string()
            .replace(&format!("{}/", case.display()), "")
    };
    run().map_err(plain)
}
