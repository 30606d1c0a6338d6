//! `optc explore`.

use serde_json::Value;

use super::judging::{suffixes, with_network};
use super::{Folder, few_shapes, text};

/// Three layers, of which the second has by far the most multiply-adds.
pub const NETWORK: &str = "\
graph net(%x: f32[2,3,8,8]) {
  @a.weight = parameter normal(1) : f32[16,3,3,3]
  @b.weight = parameter normal(2) : f32[16,16,3,3]
  @c.weight = parameter normal(3) : f32[4,16,1,1]
  %a = conv(%x, @a.weight) {pad=[1,1]}
  %relu = relu(%a)
  %b = conv(%relu, @b.weight) {pad=[1,1]}
  %tanh = tanh(%b)
  %c = conv(%tanh, @c.weight)
  return %c
}
";

fn explored(folder: &Folder, args: &[&str]) -> Value {
    let common = ["explore", "--json", "--cost", "macs", "model.ir"];
    serde_json::from_str(&folder.ok(&[&common, args].concat())).unwrap()
}

fn macs(stats: &Value) -> u64 {
    stats["macs"].as_u64().unwrap()
}

#[test]
fn smaller_budgets_leave_smaller_networks_and_nothing_is_written() {
    let folder = Folder::new();
    folder.write("model.ir", NETWORK);
    let before = folder.names();
    let curve = explored(&folder, &["--at", "0.5,0.8,0.65"]);
    assert_eq!(folder.names(), before);
    let points = curve["points"].as_array().unwrap();
    let at: Vec<f64> = points.iter().map(|p| p["at"].as_f64().unwrap()).collect();
    assert_eq!(at, [0.8, 0.65, 0.5]);
    let mut last = macs(&curve["original"]);
    for point in points {
        let now = macs(&point["stats"]);
        assert!(now < last, "{curve}");
        assert!(!point["layers"].as_array().unwrap().is_empty(), "{curve}");
        assert!(point["agreement"].is_null() && point["time"].is_null());
        last = now;
    }
    assert!(
        last as f64 <= 0.5 * macs(&curve["original"]) as f64,
        "{curve}"
    );
}

#[test]
fn the_network_of_a_budget_is_written_when_asked_for() {
    let folder = Folder::new();
    folder.write("model.ir", NETWORK);
    let args = ["--at", "0.8,0.5", "--write", "0.6", "-o", "small.ir"];
    let curve = explored(&folder, &args);
    let points = curve["points"].as_array().unwrap();
    let written = points.iter().find(|point| point["at"] == 0.6).unwrap();
    let facts: Value =
        serde_json::from_str(&folder.ok(&["inspect", "--json", "small.ir"])).unwrap();
    assert_eq!(facts["macs"], written["stats"]["macs"]);
    assert_eq!(curve["written"], "small.ir");
}

#[test]
fn a_runtime_runs_what_is_written() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        let args = ["explore", "--json", "--cost", "macs", "--input", "1x3x8x8"];
        let what = ["--at", "0.7", "--write", "0.7", &*model];
        let curve: Value = serde_json::from_str(&folder.ok(&[&args[..], &what].concat())).unwrap();
        assert!(
            curve["judge"]["outputs"][0]["cosine"].is_number(),
            "{curve}"
        );
    }
}

#[test]
fn the_table_has_a_row_for_each_budget_and_each_layer() {
    let folder = Folder::new();
    folder.write("model.ir", NETWORK);
    let table = folder.ok(&["explore", "--cost", "macs", "--at", "0.7,0.4", "model.ir"]);
    let rows = |start: &str| table.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((rows("0.7 "), rows("0.4 ")), (1, 1), "{table}");
    assert!(
        rows("b ") + rows("b: channels ") + rows("a: channels ") >= 1,
        "{table}"
    );
    assert!(
        table.contains("no samples: the change of the outputs is a forecast"),
        "{table}"
    );
}

#[test]
fn samples_say_how_many_answers_stay() {
    let folder = Folder::new();
    few_shapes(&folder);
    let classifier = "\
graph net(%x: f32[N,3,32,32]) {
  @a.weight = parameter normal(1) : f32[8,3,4,4]
  @b.weight = parameter normal(2) : f32[8,8,3,3]
  @c.weight = parameter normal(3) : f32[5,512]
  %a = conv(%x, @a.weight) {stride=[4,4]}
  %relu = relu(%a)
  %b = conv(%relu, @b.weight) {pad=[1,1]}
  %tanh = tanh(%b)
  %flat = flatten(%tanh) {start=1, end=3}
  %c = linear(%flat, @c.weight)
  return %c
}
";
    folder.write("model.ir", classifier);
    let data = "npz:few.npz,mean=0,std=1";
    let few = [
        "--data",
        data,
        "--samples",
        "8",
        "--passes",
        "cut",
        "--at",
        "0.5",
    ];
    let curve = explored(&folder, &few);
    let kept = |what: &str| curve["points"][0][what].as_f64().unwrap();
    assert!((0.0..1.0).contains(&kept("agreement")), "{curve}");
    assert!((-1.0..1.0).contains(&kept("cosine")), "{curve}");
    assert_eq!(
        (&curve["samples"], &curve["held_out"]),
        (&8.into(), &4.into())
    );
}

#[test]
fn what_cannot_be_explored_or_written_is_said() {
    let folder = Folder::new();
    let error = folder.failure(&["explore", "--passes", "canonicalize", "model.ir"]);
    assert!(error.contains("offers nothing to choose from") && error.contains("exit status 2"));
    let error = folder.failure(&["explore", "--at", "1.5", "model.ir"]);
    assert!(
        error.contains("it must be a number between 0 and 1"),
        "{error}"
    );
    // Below what is possible every budget leaves the same.
    folder.write("model.ir", NETWORK);
    let args = [
        "explore", "--cost", "macs", "--at", "0.0002", "--write", "0.0001", "model.ir",
    ];
    let output = folder.run(&args);
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert!(
        !output.status.success() && shown.contains("\n0.0002 "),
        "{shown}"
    );
    assert!(
        error.contains("there is no network at 0.0001 to write"),
        "{error}"
    );
    assert!(error.contains("write one of those at 0.0002"), "{error}");
}
