//! Times, as far as they can be told without asserting one.

use super::judging::{suffixes, with_network};
use super::{Folder, text};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn files_are_timed_in_turns_against_the_first() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        let timing = json(&folder.ok(&["bench", "--json", "--input", "1x3x8x8", &model, &model]));
        assert_eq!(
            (&timing["threads"], &timing["on"]),
            (&1.into(), &"1x3x8x8".into())
        );
        assert!(timing["turns"].as_u64().unwrap() >= 5, "{timing}");
        let [first, second] = &timing["files"].as_array().unwrap()[..] else {
            panic!("{timing}");
        };
        assert_eq!(
            (&first["ratio"], &first["spread"][0]),
            (&1.0.into(), &1.0.into())
        );
        assert!(
            second["ratio"].as_f64().unwrap() > 0.0 && second["seconds"].as_f64().unwrap() > 0.0
        );
        let table = folder.ok(&["bench", "--input", "1x3x8x8", &model, &model]);
        assert!(table.lines().next().unwrap().starts_with(&model), "{table}");
        assert!(
            table.ends_with(", on 1x3x8x8\n") && table.contains(", 1 thread, "),
            "{table}"
        );
    }
}

#[test]
fn what_no_runtime_opens_is_not_timed() {
    let folder = Folder::new();
    let error = folder.failure(&["bench", "model.ir", "model.ir"]);
    assert!(error.contains("no runtime opens the text form"), "{error}");
}

/// Whether a pass is taken back is for the clock to say; that it is said, and that the file is then without it, is not.
#[test]
fn a_report_says_what_was_measured_and_what_was_taken_back() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        let output = folder
            .timed(&["--report", "r.json", "--input", "1x3x8x8", &model])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = json(&folder.read("r.json"));
        let time = &report["time"];
        let taken_back = time["taken_back"].as_array().unwrap();
        if taken_back.is_empty() {
            assert_eq!(time["timings"][0]["threads"], 1, "{time}");
            assert_eq!(time["timings"][0]["files"].as_array().unwrap().len(), 2);
            assert!(
                text(&output.stdout).contains("\ntime: "),
                "{}",
                text(&output.stdout)
            );
        } else {
            assert_eq!(
                (&taken_back[0]["pass"], &report["pipeline"]),
                (&"red".into(), &"".into())
            );
            assert_eq!(report["before"], report["after"]);
            assert!(text(&output.stdout).contains("\ntaken back: red: "));
        }
    }
}

#[test]
fn times_are_not_asked_for_where_they_would_decide_nothing() {
    for suffix in suffixes() {
        let (folder, model) = with_network(suffix);
        for option in [
            &["--no-measure"][..],
            &["--judge", "none"],
            &["--cost", "params"],
        ] {
            let args = [&["--report", "r.json", &model], option].concat();
            assert!(folder.timed(&args).output().unwrap().status.success());
            assert_eq!(
                json(&folder.read("r.json"))["time"],
                serde_json::Value::Null
            );
        }
    }
}

#[test]
fn times_that_were_measured_once_are_kept() {
    if !suffixes().contains(&"onnx") {
        return;
    }
    let (folder, model) = with_network("onnx");
    let run = |cost: &str| {
        let args = [
            "--cost", cost, "--input", "1x3x8x8", "--report", "r.json", "-o",
        ];
        let mut command = folder.command(&[&args[..], &["new.onnx", &model]].concat());
        let output = command.env("XDG_CACHE_HOME", folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let written = std::fs::read(folder.path().join("new.onnx")).unwrap();
        let cost = json(&folder.read("r.json"))["cost"].to_string();
        assert!(cost.starts_with("\"time: onnxruntime "), "{cost}");
        (written, cost)
    };
    for cost in ["time", "time:times.json"] {
        let (first, measured) = run(cost);
        assert!(!measured.ends_with(" 0 of them new\""), "{measured}");
        let (second, kept) = run(cost);
        assert!(kept.ends_with(" 0 of them new\""), "{kept}");
        assert!(first == second, "the same times give the same file");
    }
    let cached = std::fs::read_dir(folder.path().join("optc")).unwrap();
    assert_eq!(cached.count(), 1);
}

#[cfg(feature = "onnxruntime")]
#[test]
fn times_take_a_runtime_to_measure_them() {
    let folder = Folder::new();
    let mut command = folder.command(&["--cost", "time", "model.ir"]);
    let output = command.env("ORT_DYLIB_PATH", "").env("PATH", "").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("ONNX Runtime is not here"), "{error}");
    assert!(error.contains("pip install onnxruntime"), "{error}");
}
