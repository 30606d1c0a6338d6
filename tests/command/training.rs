//! What the command says to mistakes in training, in a build that can.

use std::fs;

use super::{Folder, common};

/// Three classes of digits of 4x4 pixels.
const DIGITS: &str = "\
graph digits(%x: f32[N,1,4,4]) {
  @conv.weight = parameter normal(1) : f32[4,1,3,3]
  @fc.weight = parameter normal(2) : f32[3,4]
  %conv = conv(%x, @conv.weight) {pad=[1,1]}
  %relu = relu(%conv)
  %pool = mean(%relu) {axes=[2,3], keep=false}
  %fc = linear(%pool, @fc.weight)
  return %fc
}
";

impl Folder {
    /// A folder of MNIST's format with 40 digits of `side` pixels a side, the labels of which go up to `classes - 1`.
    fn digits(&self, name: &str, side: u8, classes: u8) {
        let folder = self.path().join(name);
        fs::create_dir(&folder).unwrap();
        let header = |lengths: &[u8]| -> Vec<u8> {
            let numbers = lengths.iter().flat_map(|n| [0, 0, 0, *n]);
            let magic = [0, 0, 8, lengths.len() as u8];
            magic.into_iter().chain(numbers).collect()
        };
        let mut images = header(&[40, side, side]);
        images.extend((0..40 * usize::from(side) * usize::from(side)).map(|i| (i * 37) as u8));
        fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
        let mut labels = header(&[40]);
        labels.extend((0..40).map(|i| i % classes));
        fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
    }
}

#[test]
fn every_mistake_in_training_is_explained() {
    let folder = Folder::new();
    folder.write("digits.ir", DIGITS);
    folder.digits("mnist", 4, 3);
    folder.digits("large", 5, 3);
    folder.digits("many", 4, 7);
    folder.digits("short", 4, 3);
    let short = folder.path().join("short/train-images-idx3-ubyte");
    let whole = fs::read(&short).unwrap();
    fs::write(&short, &whole[..whole.len() - 100]).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let before = folder.names();
    let mut text = String::new();
    let mut fails = |passes: &str, more: &[&str]| {
        let args = [&["--passes", passes][..], more, &["digits.ir"]].concat();
        text += &folder.failure(&args);
    };
    let data = &["--data", "mnist:mnist"][..];
    fails("finetune", &[]);
    fails("lrf{finetune=1}", &[]);
    fails("drop", &["--data", "mnist:missing"]);
    fails("finetune", &["--data", "mnist:empty"]);
    fails("finetune", &["--data", "mnist:large"]);
    fails("finetune", &["--data", "mnist:many"]);
    fails("finetune", &["--data", "mnist:short"]);
    fails("finetune{labels=false,distill=0}", data);
    fails("drop{sparsity=0.93,p_in=0.04}", data);
    fails("drop{sparsity=0.97}", data);
    fails("drop{sparsity=0.96,scope=layer}", data);
    fails(
        "finetune",
        &["--data", "mnist:mnist", "--device", "cuda:127"],
    );
    for checkpoint in ["missing/net.checkpoint", "empty", "/dev/full", "digits.ir"] {
        fails(
            "finetune",
            &["--data", "mnist:mnist", "--checkpoint", checkpoint],
        );
    }
    assert_eq!(folder.names(), before, "a failing run writes nothing");
    // What there is besides is the machine's affair.
    let filters = vec![(
        r"  (it sees no CUDA device|there (is|are) cuda:).*",
        "  [devices]",
    )];
    insta::with_settings!({filters => filters}, {
        common::snapshot("errors/training", &text);
    });
}

#[test]
fn a_checkpoint_of_another_run_is_refused_for_what_differs() {
    let folder = Folder::new();
    folder.write("digits.ir", DIGITS);
    folder.write("other.ir", &DIGITS.replace("normal(2)", "normal(3)"));
    folder.digits("mnist", 4, 3);
    // The first pass is done and saved when the second cannot do its part.
    let passes = "finetune{epochs=1},drop{sparsity=0.97}";
    let run = |model: &str, passes: &str, more: &[&str]| {
        let args = ["--passes", passes, "--data", "mnist:mnist", "-o", "out.pt"];
        folder.failure(&[&args[..], more, &[model]].concat())
    };
    let mut text = run("digits.ir", passes, &[]);
    let checkpoint = folder.path().join("out.pt.checkpoint");
    let saved = fs::read(&checkpoint).unwrap();
    text += &run("other.ir", passes, &[]);
    text += &run("digits.ir", "finetune{epochs=2},drop{sparsity=0.97}", &[]);
    text += &run("digits.ir", passes, &["--seed", "1"]);
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let at = saved
        .windows(version.len())
        .position(|bytes| bytes == version);
    let mut older = saved.clone();
    older[at.unwrap()..][..version.len()].fill(b'0');
    fs::write(&checkpoint, older).unwrap();
    text += &run("digits.ir", passes, &[]);
    fs::write(&checkpoint, &saved[..saved.len() / 2]).unwrap();
    text += &run("digits.ir", passes, &[]);
    let filters = vec![
        (r"#[0-9a-f]{16}", "#[hash]"),
        (r"[0-9]+\.[0-9]+\.[0-9]+", "[version]"),
    ];
    insta::with_settings!({filters => filters}, {
        common::snapshot("errors/command_checkpoint", &text);
    });
}

/// What is written to the device `/dev/full` finds no room.
#[cfg(target_os = "linux")]
#[test]
fn where_there_is_no_room_for_a_checkpoint_that_is_said() {
    let folder = Folder::new();
    folder.write("digits.ir", DIGITS);
    folder.digits("mnist", 4, 3);
    let part = folder.path().join("digits.opt.ir.checkpoint.part");
    std::os::unix::fs::symlink("/dev/full", part).unwrap();
    let args = [
        "--passes",
        "finetune{epochs=1}",
        "--data",
        "mnist:mnist",
        "digits.ir",
    ];
    common::snapshot("errors/command_no_room", &folder.failure(&args));
    assert_eq!(folder.names(), ["digits.ir", "mnist", "model.ir"]);
}
