//! What nodes that compute sizes compute, against ONNX's reference evaluator: models of random nodes, made by a script.

use std::collections::BTreeMap;
use std::process::Command;

use optc::ir::Symbol;
use serde_json::Value as Json;

use super::*;

/// Whether there is ONNX's Python package; a test may do without, but where everything is tested.
fn has_onnx() -> bool {
    let tried = Command::new("python3")
        .args(["-c", "import onnx.reference"])
        .output();
    let found = tried.is_ok_and(|output| output.status.success());
    let must = std::env::var("CI").as_deref() == Ok("true");
    assert!(
        found || !must,
        "python3 has no package onnx: pip install onnx"
    );
    found
}

#[test]
fn what_sizes_are_computed_to_is_what_the_reference_computes() {
    if !has_onnx() {
        return;
    }
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seed, count) = (number("FOLDS_SEED", 0), number("FOLDS_COUNT", 8));
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_folds.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .args([seed.to_string(), count.to_string()])
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let mut known: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for i in 0..count {
        let graph = optc::read(folder.path().join(format!("{i}.onnx")))
            .unwrap()
            .graph;
        let text = fs::read_to_string(folder.path().join(format!("{i}.json"))).unwrap();
        let expected: Json = serde_json::from_str(&text).unwrap();
        for (at, pad) in expected["pads"].as_array().unwrap().iter().enumerate() {
            let op = pad["op"].as_str().unwrap();
            let counts = known.entry(op.to_owned()).or_default();
            counts[1] += 1;
            let node = graph.find(&format!("p{at}")).unwrap();
            let Some(Op::Pad { before, .. }) = graph.op(node) else {
                continue;
            };
            counts[0] += 1;
            for (sizes, amounts) in expected["sizes"]
                .as_array()
                .unwrap()
                .iter()
                .zip(pad["amounts"].as_array().unwrap())
            {
                let sizes = sizes.as_object().unwrap().iter();
                let bindings = sizes
                    .map(|(name, n)| (Symbol::from(name.as_str()), n.as_i64().unwrap()))
                    .collect();
                let found: Vec<Option<i64>> =
                    before.iter().map(|dim| dim.eval(&bindings)).collect();
                let amounts: Vec<Option<i64>> = amounts
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(Json::as_i64)
                    .collect();
                if found != amounts {
                    wrong.push(format!("{i}.onnx p{at} {op}: {before:?} is {found:?}, not {amounts:?}, under {bindings:?}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {known:?}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Of every operator that is folded some were.
    for op in [
        "Shape", "Cast", "Add", "Sub", "Mul", "Div", "Gather", "Slice", "Concat", "Neg",
    ] {
        assert!(
            known.get(op).is_some_and(|counts| counts[0] > 0),
            "{op}: {known:?}"
        );
    }
    if std::env::var("FOLDS_COUNT").is_ok() {
        println!("{known:?}");
    }
}
