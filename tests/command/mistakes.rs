//! What the command says to mistakes: what is wrong, where, and what to do.

use std::fmt::Write as _;
use std::fs;

use super::{Folder, MODEL, common};

#[cfg(feature = "onnxruntime")]
#[test]
fn every_mistake_in_profiling_is_explained() {
    let folder = Folder::new();
    let before = folder.names();
    let mut text = String::new();
    for args in [
        &["profile", "model.ir"][..],
        &["--passes", "red", "profile"],
        &["profile", "--runtime", "tflite"],
        &["profile", "--threads", "0"],
        &["profile", "-o", "model.pt"],
        &["profile", "-o", "missing/latency.json"],
        &["profile", "--library", "missing.so"],
        &["profile", "--runtime", "torch", "--library", "missing.so"],
    ] {
        text += &folder.failure(args);
    }
    assert_eq!(folder.names(), before, "a failing run writes nothing");
    // What the loader says is the system's affair, and the folder is the test's.
    let filters = vec![(
        r"from \S*missing.so: .*",
        "from [folder]/missing.so: [reason]",
    )];
    insta::with_settings!({filters => filters}, {
        common::snapshot("errors/command_profile", &text);
    });
}

#[cfg(not(feature = "torch"))]
#[test]
fn training_says_which_build_can() {
    let folder = Folder::new();
    let mut text = String::new();
    for args in [
        &["--passes", "red,finetune{epochs=3}", "model.ir"][..],
        &["--passes", "drop", "model.ir"],
        &["--passes", "lrf{ratio=0.3,finetune=1}", "model.ir"],
        &["--passes", "", "--device", "cuda", "model.ir"],
        &["--passes", "", "--device", "gpu", "model.ir"],
        &[
            "--passes",
            "red",
            "--checkpoint",
            "net.checkpoint",
            "model.ir",
        ],
    ] {
        text += &folder.failure(args);
    }
    common::snapshot("errors/command_training", &text);
}

#[test]
fn every_mistake_on_the_command_line_is_explained() {
    let folder = Folder::new();
    folder.write("empty.pt", "");
    folder.write("name", "");
    fs::create_dir(folder.path().join("folder")).unwrap();
    folder.write("protected.ir", "old");
    let protected = folder.path().join("protected.ir");
    let mut permissions = fs::metadata(&protected).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&protected, permissions).unwrap();
    let before = folder.names();
    let mut text = String::new();
    for args in [
        &[][..],
        &["--pases", "", "model.ir"],
        &["--passes", "cannonicalize", "model.ir"],
        &["--passes", "repeat(", "model.ir"],
        &["--passes", "", "--input", "1x3xx4", "model.ir"],
        &["--passes", "", "--input", "1x0", "model.ir"],
        &["--passes", "", "--input", ":1x3", "model.ir"],
        &["--passes", "", "--input", "1x3", "model.ir"],
        &["--passes", "", "--input", "1x4x8x8", "model.ir"],
        &["--passes", "", "--input", "y:1x3x8x8", "model.ir"],
        &[
            "--passes", "", "--input", "1x3x8x8", "--input", "1x3x8x8", "model.ir",
        ],
        &["--passes", "", "--data", "name", "model.ir"],
        &["--passes", "", "--data", "npz:missing.npz", "model.ir"],
        &["--passes", "", "--eval", "npz:name,scale=2", "model.ir"],
        &[
            "--passes",
            "",
            "--input",
            "1x3x8x8",
            "--data",
            "folder:folder",
            "model.ir",
        ],
        &["--passes", "", "--samples", "0", "model.ir"],
        &["--passes", "", "--cost", "speed", "model.ir"],
        &["--passes", "", "--cost", "time:", "model.ir"],
        &["--passes", "", "--cost", "latency:", "model.ir"],
        &["--passes", "", "--cost", "latency:missing.json", "model.ir"],
        &["--passes", "", "--cost", "latency:model.ir", "model.ir"],
        &["--passes", "", "--cost", "latency", "model.ir"],
        &["--passes", "", "--threads", "0", "model.ir"],
        &["--passes", "", "--seed", "-1", "model.ir"],
        &["--passes", "", "--tolerance", "tiny", "model.ir"],
        &["--passes", "", "--stop-after", "soon", "model.ir"],
        &["--passes", "", "--verify-each", "--no-verify", "model.ir"],
        &[
            "--passes",
            "",
            "--print-ir-after",
            "cannonicalize",
            "model.ir",
        ],
        &["--passes", "", "missing.ir"],
        &["--passes", "", "folder"],
        &["--passes", "", "name"],
        &["--passes", "", "-o", "model.ir", "model.ir"],
        &["--passes", "", "-o", "./folder/../model.ir", "model.ir"],
        &["--passes", "", "-o", "missing/out.ir", "model.ir"],
        &["--passes", "", "-o", "model.ir/out.ir", "model.ir"],
        &["--passes", "", "-o", "folder", "model.ir"],
        &["--passes", "", "-o", "/dev/null", "model.ir"],
        &["--passes", "", "-o", "protected.ir", "model.ir"],
        &["--passes", "", "-o", "", "model.ir"],
        &["--passes", "", "-o", "out.docx", "model.ir"],
        &["--passes", "", "-o", "out", "model.ir"],
        &["--passes", "", "--report", "report.txt", "model.ir"],
        &["--passes", "", "--masks", "masks.npz", "model.ir"],
        &[
            "--passes",
            "",
            "--report",
            "missing/report.json",
            "model.ir",
        ],
        &[
            "--passes",
            "",
            "--report",
            "a.json",
            "--emit-ir=a.json",
            "model.ir",
        ],
        &["--passes", "", "--emit-ir=model.opt.ir", "model.ir"],
    ] {
        text += &folder.failure(args);
    }
    assert_eq!(folder.names(), before, "a failing run writes nothing");
    common::snapshot("errors/command", &text);
}

#[test]
fn every_mistake_with_a_target_is_explained() {
    let folder = Folder::new();
    folder.write("pointwise.ir", &MODEL.replace(",3,3]", ",1,1]"));
    let mut text = String::new();
    for (passes, input) in [
        ("red{hash=kernel,flops=1.5}", Some("1x3x8x8")),
        ("red{hash=kernel,flops=0.01}", Some("1x3x8x8")),
        ("red{hash=kde,flops=0.5}", Some("1x3x8x8")),
        ("red{hash=kernel,flops=0.5}", None),
    ] {
        let mut args = vec!["--passes", passes];
        args.extend(input.iter().flat_map(|input| ["--input", input]));
        args.push("model.ir");
        text += &folder.failure(&args);
    }
    // Where no layer has a cheaper form; for one of the passes another scope would do.
    for passes in [
        "red{hash=kernel,flops=0.5}",
        "lrf{flops=0.9}",
        "lrf{flops=0.01,scope=all}",
    ] {
        let args = ["--passes", passes, "--input", "1x3x8x8", "pointwise.ir"];
        text += &folder.failure(&args);
    }
    common::snapshot("errors/command_target", &text);
}

#[test]
fn every_mistake_with_filters_is_explained() {
    let folder = Folder::new();
    let first = "@first.weight = parameter normal(1) : f32[3,3,1,2]";
    let deeper = MODEL.replacen(
        '{',
        &format!("{{\n  {first}\n  %first = conv(%x, @first.weight) {{pad=[0,1]}}"),
        1,
    );
    folder.write(
        "deeper.ir",
        &deeper.replace("conv(%x, @c", "conv(%first, @c"),
    );
    folder.write("nan.ir", &MODEL.replace("normal(1)", "nan"));
    let mut text = String::new();
    for (passes, input, model) in [
        ("lrf{ratio=1}", Some("1x3x8x8"), "model.ir"),
        ("lrf{ratio=-0.1}", Some("1x3x8x8"), "model.ir"),
        ("lrf{flops=0.5,error=0.1}", Some("1x3x8x8"), "model.ir"),
        ("lrf{flops=0.01}", Some("1x3x8x8"), "deeper.ir"),
        ("lrf{flops=0.5}", None, "deeper.ir"),
        ("lrf", Some("1x3x8x8"), "nan.ir"),
    ] {
        let mut args = vec!["--passes", passes];
        args.extend(input.iter().flat_map(|input| ["--input", input]));
        args.push(model);
        text += &folder.failure(&args);
    }
    common::snapshot("errors/command_filters", &text);
}

#[test]
fn a_model_that_cannot_be_read_is_explained() {
    let folder = Folder::new();
    let mut text = String::new();
    for (name, content) in [
        ("empty.ir", &b""[..]),
        ("latin.ir", b"graph \xe9(%x: f32[1]) {}"),
        ("half.ir", &MODEL.as_bytes()[..60]),
        (
            "unfit.ir",
            b"graph net(%x: f32[N,4]) {\n  %y = conv(%x, %x)\n  return %y\n}\n",
        ),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
        write!(text, "{}", folder.failure(&["--passes", "", name])).unwrap();
    }
    common::snapshot("errors/text_model", &text);
}
