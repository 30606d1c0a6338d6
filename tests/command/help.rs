//! What the command says of itself, of models and of the machine.

use super::*;

#[test]
fn help_lists_every_option() {
    common::snapshot("command/help", &Folder::new().ok(&["--help"]));
}

#[test]
fn help_of_profile_lists_every_option() {
    common::snapshot(
        "command/help_profile",
        &Folder::new().ok(&["profile", "--help"]),
    );
}

#[test]
fn help_of_inspect_lists_every_option() {
    common::snapshot(
        "command/help_inspect",
        &Folder::new().ok(&["inspect", "--help"]),
    );
}

#[test]
fn shells_and_man_are_told_of_every_option() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = folder.ok(&["completions", shell]);
        let fish = text.contains("-l no-measure") && text.contains("inspect");
        assert!(fish || text.contains("--no-measure"), "{shell}: {text}");
    }
    let page = folder.ok(&["man"]);
    assert!(
        page.contains(".TH optc 1") && page.contains("\\-\\-no\\-measure"),
        "{page}"
    );
    assert!(
        folder
            .failure(&["completions", "cmd"])
            .contains("possible values")
    );
}

/// Two layers with one weight, a layer with a masked one, and an operator that nobody knows.
const INSPECTED: &str = "\
graph net(%x: f32[N,4,H,W]) {
  @a.weight = parameter normal(1) alias b.weight : f32[4,4,3,3]
  @c.weight = parameter normal(2) mask [[1, 0, 0, 0], [0, 1, 1, 0]] : f32[2,4]
  %a = conv(%x, @a.weight) {pad=[1,1]}
  %b = conv(%a, @a.weight) {pad=[1,1]}
  %barrier = opaque \"aten::foo\"(%b) {template=\"torch.foo({0})\"} : f32[N,4,H,W]
  %mean = mean(%barrier) {axes=[2,3], keep=false}
  %c = linear(%mean, @c.weight)
  return %c
}
";

#[test]
fn inspect_says_what_is_in_a_model_and_changes_nothing() {
    let folder = Folder::new();
    folder.write("net.ir", INSPECTED);
    let mut text = String::new();
    for args in [
        &["inspect", "net.ir"][..],
        &["inspect", "--input", "1x4x8x8", "net.ir"],
        &["inspect", "--json", "net.ir"],
    ] {
        text += &format!("$ optc {}\n{}\n", args.join(" "), folder.ok(args));
    }
    for args in [
        &["inspect", "--input", "1x4", "net.ir"][..],
        &["inspect", "--input", "1x", "net.ir"],
        &["inspect", "absent.pt"],
    ] {
        text += &folder.failure(args);
    }
    common::snapshot("command/inspect", &text);
    assert_eq!(folder.names(), ["model.ir", "net.ir"]);
}

#[test]
fn the_machine_predicts_time() {
    let folder = Folder::new();
    folder.ok(&[
        "--cost",
        "latency",
        "--passes",
        "red{hash=none}",
        "--input",
        "1x3x8x8",
        "--report",
        "r.json",
        "model.ir",
    ]);
    let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
    let cost = report["cost"].as_str().unwrap();
    assert!(cost.starts_with("latency: roofline of "), "{cost}");
    let seconds = &report["predicted_seconds"];
    assert!(seconds["before"].as_f64().unwrap() > 0.0, "{seconds}");
    assert_eq!(seconds["before"], seconds["after"]);
}

#[test]
fn passes_are_listed_with_options_and_defaults() {
    let list = Folder::new().ok(&["--list-passes"]);
    let page = include_str!("../../book/src/passes/index.md");
    assert!(
        page.contains(&format!("```text\n{list}```\n")),
        "the list in book/src/passes/index.md is another: put `optc --list-passes` there"
    );
    common::snapshot("command/list_passes", &list);
}
