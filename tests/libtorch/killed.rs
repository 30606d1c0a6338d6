//! A run that is killed again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::lrf::DEEP;
use super::training::{Folder, NET, weights};

const PASSES: &str = "red{hash=none},lrf{ratio=0.5,finetune=2,warmup=4,lr=0.02},finetune{epochs=12,lr=0.02,batch=64},\
    drop{sparsity=0.7,steps=8,last=10,lr=0.02}";

/// How often it is killed at least.
const KILLS: usize = 10;

/// How many runs are killed until they end, while there were fewer kills, or none that met a checkpoint being written.
const TRIES: usize = 16;

/// The files of a run.
struct Run {
    output: PathBuf,
    checkpoint: PathBuf,
    /// Where the checkpoint is while it is written.
    part: PathBuf,
}

impl Run {
    fn new(folder: &Folder, name: &str) -> Run {
        fs::create_dir(folder.path(name)).unwrap();
        let path = |file: &str| PathBuf::from(folder.path(name)).join(file);
        Run {
            output: path("net.pt"),
            checkpoint: path("net.pt.checkpoint"),
            part: path("net.pt.checkpoint.part"),
        }
    }

    fn start(&self, folder: &Folder) -> Child {
        let output = self.output.to_str().unwrap();
        command(folder, PASSES, output).spawn().unwrap()
    }

    /// Waits until it has saved so often more, or has ended.
    fn wait_for_saves(&self, child: &mut Child, saves: usize) {
        for _ in 0..saves {
            let before = changed(&self.checkpoint);
            while changed(&self.checkpoint) == before && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Waits until it writes a checkpoint, or has ended.
    fn wait_for_write(&self, child: &mut Child, before: Option<SystemTime>) {
        while !self.writes(before) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
    }

    /// Whether a checkpoint is there in part that was not `before`.
    fn writes(&self, before: Option<SystemTime>) -> bool {
        let now = changed(&self.part);
        now.is_some() && now != before
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// A network with a wide layer, so that a checkpoint takes its time to be written.
fn wide() -> &'static str {
    let text = DEEP
        .replace("f32[3,6]", "f32[3,3000]")
        .replace(
            "%fc = linear(%pool",
            "%wide = linear(%pool, @wide.weight)\n  %relu3 = relu(%wide)\n  %fc = linear(%relu3",
        )
        .replace(
            "  @fc.weight",
            "  @wide.weight = parameter normal(9, 0.01) : f32[3000,6]\n  @fc.weight",
        )
        .replace("normal(8, 0.5)", "normal(8, 0.01)");
    Box::leak(text.into_boxed_str())
}

/// Some kills come while a network is trained, some while a checkpoint is written.
#[test]
fn killed_ten_times_a_run_ends_with_the_bytes_of_an_undisturbed_one() {
    let folder = Folder::of(wide());
    let whole = Run::new(&folder, "whole");
    assert!(whole.start(&folder).wait().unwrap().success());
    let expected = fs::read(&whole.output).unwrap();
    let mut random = fastrand::Rng::with_seed(0);
    let (mut kills, mut in_writing) = (0, 0);
    for attempt in 0..TRIES {
        let run = Run::new(&folder, &format!("killed{attempt}"));
        loop {
            // What a kill has left of a write is still there: the next one is to write over it.
            let before = changed(&run.part);
            let mut child = run.start(&folder);
            run.wait_for_saves(&mut child, random.usize(0..3));
            if kills % 2 == 0 {
                run.wait_for_write(&mut child, before);
            } else {
                std::thread::sleep(Duration::from_millis(random.u64(0..60)));
            }
            if let Some(status) = child.try_wait().unwrap() {
                // On a busy machine it may end before its kill comes.
                assert!(status.success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            in_writing += usize::from(run.writes(before));
        }
        assert!(fs::read(&run.output).unwrap() == expected, "other bytes");
        for left in [&run.checkpoint, &run.part] {
            assert!(!left.exists(), "{} is left over", left.display());
        }
        eprintln!("{kills} kills, {in_writing} of them while a checkpoint was written");
        if kills >= KILLS && in_writing > 0 {
            return;
        }
    }
    panic!("{kills} kills, {in_writing} of them while a checkpoint was written");
}

#[test]
fn the_command_goes_on_after_it_was_killed() {
    killed_and_whole(NET, "finetune{epochs=40,lr=0.05,batch=16}");
}

/// The command, on the folder's network and data, to write `output` there.
pub(super) fn command(folder: &Folder, passes: &str, output: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
    command
        .current_dir(folder.folder.path())
        .stdout(Stdio::null())
        .args([
            "--passes",
            passes,
            "--data",
            "npz:data.npz,flip=true,crop=1",
        ])
        .args(["--samples", "32", "--threads", "1", "--no-verify"])
        .args(["-o", output, "net.ir"]);
    command
}

/// Runs the command, and runs it again until it is killed as soon as there is a checkpoint, and then to its end.
pub(super) fn killed_and_whole(net: &'static str, passes: &str) {
    let folder = Folder::of(net);
    let command = |output: &str| command(&folder, passes, output);
    assert!(command("whole.pt").status().unwrap().success());
    let mut child = command("killed.pt").spawn().unwrap();
    let checkpoint = folder.path("killed.pt.checkpoint");
    while !Path::new(&checkpoint).exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if !Path::new(&folder.path("killed.pt")).exists() {
        assert!(Path::new(&checkpoint).exists());
        assert!(command("killed.pt").status().unwrap().success());
    }
    assert!(
        !Path::new(&checkpoint).exists(),
        "the checkpoint is left over"
    );
    let read = |name: &str| weights(&optc::read(folder.path(name)).unwrap().graph);
    assert_eq!(read("killed.pt"), read("whole.pt"));
}
