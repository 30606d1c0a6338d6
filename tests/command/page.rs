//! Reports as pages for a browser.

use serde_json::Value;

use super::{Folder, MODEL};

/// What the page shows, from the JSON in it.
fn shown(page: &str) -> Value {
    let (_, json) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_has_the_report_and_both_networks_and_needs_nothing_else() {
    let folder = Folder::new();
    folder.ok(&["--input", "1x3x8x8", "--report", "r.html", "model.ir"]);
    let page = folder.read("r.html");
    let data = shown(&page);
    assert_eq!(data["report"]["pipeline"], "canonicalize,red");
    assert_eq!(data["before"]["stats"]["macs"], 6912);
    let nodes = data["before"]["nodes"].as_array().unwrap();
    let names: Vec<&Value> = nodes.iter().map(|node| &node["operator"]).collect();
    assert_eq!(names, ["input", "conv", "relu"]);
    assert_eq!(nodes[2]["reads"], serde_json::json!([1]));
    assert!(data["after"]["nodes"].is_array());
    for from_elsewhere in ["src=", "href=", "@import", "fetch("] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
}

#[test]
fn a_name_is_never_markup() {
    let folder = Folder::new();
    folder.write("a<script>.ir", MODEL);
    folder.ok(&["--report", "r.html", "-o", "out.ir", "a<script>.ir"]);
    let page = folder.read("r.html");
    assert!(!page.contains("a<script>"));
    assert_eq!(shown(&page)["model"], "a<script>.ir");
}

#[test]
fn a_page_of_a_curve_has_its_points() {
    let folder = Folder::new();
    folder.write("model.ir", super::explore::NETWORK);
    let args = [
        "explore", "--cost", "macs", "--at", "0.7,0.4", "--report", "r.html", "model.ir",
    ];
    folder.ok(&args);
    let data = shown(&folder.read("r.html"));
    assert_eq!(data["curve"]["points"][1]["at"], 0.4);
    assert!(data["report"].is_null() && data["after"].is_null());
}

#[test]
fn a_report_is_json_or_a_page() {
    let error = Folder::new().failure(&["--report", "r.txt", "model.ir"]);
    assert!(
        error.contains("--report r.txt is not named .json or .html"),
        "{error}"
    );
}
