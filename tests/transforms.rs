//! Every pass on small texts: `tests/passes/PASS/NAME.ir` before, remarks and the text after in `snapshots/passes/PASS/NAME.snap`.
//!
//! A text begins with `// passes: PIPELINE`. What an exact pipeline gives is compared with what it was given, in double precision.

mod common;

use std::path::{Path, PathBuf};

use optc::Model;
use optc::exec::compare;
use optc::ir::Graph;
use optc::pipeline::{Kind, Pipeline};

/// The largest relative difference that an exact pipeline may make. The texts' weights are `f32`, products of which are rounded.
const TOLERANCE: f64 = 1e-5;

#[test]
fn passes_do_to_small_graphs_what_their_snapshots_show() {
    let mut texts = Vec::new();
    find(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/passes")),
        &mut texts,
    );
    texts.sort();
    assert!(!texts.is_empty());
    // One that differs hides no other.
    let differs = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let pass = path.parent().unwrap().file_name().unwrap();
        let snapshot = format!("passes/{}/{name}", pass.to_str().unwrap());
        let same = || common::snapshot(&snapshot, &transform(path, name));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(same)).is_err()
    };
    let different: Vec<_> = texts.iter().filter(|path| differs(path)).collect();
    assert!(different.is_empty(), "{different:#?}");
}

fn find(folder: &Path, texts: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, texts);
        } else if path.extension().is_some_and(|e| e == "ir") {
            texts.push(path);
        }
    }
}

fn transform(path: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let passes = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("// passes: "));
    let passes =
        passes.unwrap_or_else(|| panic!("{}: the first line names no passes", path.display()));
    let before: Graph = text
        .parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let pipeline = Pipeline::parse(passes).unwrap();
    let mut model = Model::new(before.clone());
    let report = pipeline
        .run(&mut model)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));

    if report.passes.iter().all(|pass| pass.kind == Kind::Exact) {
        let found = compare::<f64>(&before, &model.graph, 2, 1).unwrap();
        found.within(TOLERANCE, name).unwrap();
    }
    let mut out = format!("{passes}\n\n");
    for pass in &report.passes {
        for remark in &pass.remarks {
            let node = if remark.node.is_empty() {
                String::new()
            } else {
                format!("{}: ", remark.node)
            };
            out += &format!("{}: {node}{}\n", remark.kind, remark.text);
        }
    }
    format!("{out}\n{before}\n{}", model.graph)
}
