//! Which files are written, and which are not.

use super::*;

#[test]
fn the_output_stands_beside_the_model_unless_it_is_given_a_path() {
    let folder = Folder::new();
    folder.ok(&["--passes", "", "model.ir"]);
    assert_eq!(folder.names(), ["model.ir", "model.opt.ir"]);
    folder.ok(&["--passes", "", "model.ir", "-o", "other.ir"]);
    assert_eq!(folder.read("other.ir"), folder.read("model.opt.ir"));
    assert_eq!(folder.read("model.ir"), MODEL);
}

#[cfg(unix)]
#[test]
fn the_model_is_not_overwritten_through_links() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("model.ir", folder.path().join("symbolic.ir")).unwrap();
    fs::hard_link(
        folder.path().join("model.ir"),
        folder.path().join("hard.ir"),
    )
    .unwrap();
    for link in ["symbolic.ir", "hard.ir"] {
        for option in ["--output", "--emit-ir"] {
            let output = folder.run(&["--passes", "", &format!("{option}={link}"), "model.ir"]);
            assert_eq!(output.status.code(), Some(2), "{option} {link}");
            assert_eq!(folder.read(link), MODEL);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_is_written_to_stays_a_link() {
    let folder = Folder::new();
    folder.write("target.ir", "old");
    std::os::unix::fs::symlink("target.ir", folder.path().join("link.ir")).unwrap();
    folder.ok(&["--passes", "", "-o", "link.ir", "model.ir"]);
    assert!(folder.path().join("link.ir").is_symlink());
    assert!(folder.read("target.ir").starts_with("graph net("));
}

#[test]
fn what_is_written_is_read_again() {
    let folder = Folder::new();
    folder.ok(&["--passes", "", "model.ir", "-o", "once.ir"]);
    folder.ok(&["--passes", "", "once.ir", "-o", "twice.ir"]);
    assert_eq!(folder.read("once.ir"), folder.read("twice.ir"));
}

const MASKED: &str = "\
graph net(%x: f32[N,2,4,4]) {
  @conv.weight = parameter normal(1) mask [[1, 0], [0, 0], [0, 1]] alias tied.weight : f32[3,2,1,1]
  @fc.weight = parameter normal(2) : f32[5,3]
  @fc.bias = parameter normal(3) : f32[5]
  @scale = literal normal(4) mask [1, 0, 1] : f32[3]
  %conv = conv(%x, @conv.weight)
  %mean = mean(%conv) {axes=[2,3]}
  %scaled = mul(%mean, @scale)
  %fc = linear(%scaled, @fc.weight, @fc.bias)
  return %fc
}
";

#[test]
fn masks_are_counted_and_written_by_the_names_of_the_parameters() {
    let folder = Folder::new();
    folder.write("masked.ir", MASKED);
    let args = ["--passes", "", "--no-verify", "masked.ir"];
    let options = ["--report", "r.json", "--masks", "m.safetensors"];
    let table = folder.ok(&[&args[..], &options].concat());
    common::snapshot("command/masks", &table);
    let report: serde_json::Value = serde_json::from_str(&folder.read("r.json")).unwrap();
    assert_eq!(
        report["sparsity"],
        serde_json::json!({
            "params": 29,
            "zeros": 5,
            "masked": [
                {"name": "conv.weight", "params": 6, "zeros": 4},
                {"name": "scale", "params": 3, "zeros": 1},
            ],
        })
    );
    let file = fs::read(folder.path().join("m.safetensors")).unwrap();
    let masks = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut names = masks.names();
    names.sort();
    assert_eq!(
        names,
        ["conv.weight", "tied.weight"],
        "no literal has a name"
    );
    for name in names {
        let mask = masks.tensor(name).unwrap();
        assert_eq!(mask.dtype(), safetensors::Dtype::BOOL);
        assert_eq!(mask.shape(), [3, 2, 1, 1]);
        assert_eq!(mask.data(), [1, 0, 0, 0, 0, 1]);
    }
    // Whoever asks for masks where there are none is told.
    let options = ["--passes", "", "--masks", "none.safetensors", "model.ir"];
    let output = folder.run(&options);
    assert!(output.status.success());
    assert_eq!(
        text(&output.stderr),
        "warning: no weight is masked, so --masks wrote none\n"
    );
    let file = fs::read(folder.path().join("none.safetensors")).unwrap();
    assert!(
        safetensors::SafeTensors::deserialize(&file)
            .unwrap()
            .is_empty()
    );
}
