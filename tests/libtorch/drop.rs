//! The pass `drop`: pruned while it is trained, broken off and gone on with.

use std::fs;

use optc::exec;
use optc::ir::Graph;
use optc::pipeline::Cancellation;

use super::killed::killed_and_whole;
use super::training::{Folder, Impatient, NET, run, weights};

const PASSES: &str = "drop{sparsity=0.7,steps=4,epochs=5,last=20,lr=0.1}";

/// Weights of the kernels, and those that are kept.
fn kernels(graph: &Graph) -> [usize; 2] {
    let masks: Vec<_> = graph.nodes().filter_map(|node| graph.mask(node)).collect();
    [
        masks.iter().map(|mask| mask.len()).sum(),
        masks.iter().map(|mask| mask.count()).sum(),
    ]
}

#[test]
fn a_network_is_pruned_to_exactly_the_target_and_learns() {
    let folder = Folder::new();
    for passes in [
        PASSES,
        "drop{sparsity=0.7,p_out=1,p_in=0,ramp,steps=3,epochs=5,last=20,lr=0.1}",
        "drop{sparsity=0.7,scope=layer,steps=3,epochs=5,last=20,lr=0.1}",
        "drop{sparsity=0.5,steps=2,last=5,lr=0.1},drop{sparsity=0.7,steps=3,last=20,lr=0.1}",
    ] {
        let (pruned, report) = run(&folder, passes, |o| o.checkpoint = None, &mut ()).unwrap();
        // Of 8*3*3*3 and 3*8.
        assert_eq!(kernels(&pruned), [240, 72], "{passes}");
        assert_eq!(report.sparsity.unwrap().zeros, 168, "{passes}");
        let top1 = exec::top1(&pruned, &folder.data(&pruned), |_| {}).unwrap();
        assert!(top1.share() > 0.7, "{passes}: {}", top1.share());
    }
}

#[test]
fn what_was_broken_off_goes_on_and_ends_with_the_same_bytes() {
    let folder = Folder::new();
    let (expected, _) = run(&folder, PASSES, |o| o.checkpoint = None, &mut ()).unwrap();
    // Two batches an epoch: in the first epoch, in a step, at the start of one, and after the trim.
    for calls in [2, 13, 21, 55] {
        let cancellation = Cancellation::default();
        let mut impatient = Impatient {
            cancellation: cancellation.clone(),
            calls,
        };
        let broken = run(
            &folder,
            PASSES,
            |o| o.cancellation = cancellation,
            &mut impatient,
        );
        assert!(broken.unwrap_err().to_string().starts_with("interrupted"));
        let (found, report) = run(&folder, PASSES, |_| {}, &mut ()).unwrap();
        let mut remarks = report.passes[0].remarks.iter();
        let went_on = remarks.any(|remark| remark.text.starts_with("went on at"));
        assert_eq!(went_on, calls > 2);
        assert_eq!(
            weights(&found),
            weights(&expected),
            "interrupted at {calls}"
        );
        assert_eq!(kernels(&found), kernels(&expected));
        fs::remove_file(folder.path("net.checkpoint")).unwrap();
    }
}

#[test]
fn the_command_goes_on_after_it_was_killed() {
    killed_and_whole(NET, "drop{sparsity=0.7,steps=12,epochs=2,last=10,lr=0.05}");
}

#[test]
fn a_loss_that_is_not_finite_stops_it_at_the_step() {
    let folder = Folder::new();
    let passes = "drop{lr=1000,sparsity=0.5,epochs=60}";
    let error = run(&folder, passes, |o| o.checkpoint = None, &mut ()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("in step 1 of 10 training stopped: the loss"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_reached_is_refused() {
    let folder = Folder::new();
    let refused = |passes: &str| {
        let run = run(&folder, passes, |o| o.checkpoint = None, &mut ());
        run.unwrap_err().to_string()
    };
    let error = refused("drop{sparsity=0.93,p_in=0.04}");
    assert!(error.contains("the largest p_in is"), "{error}");
    let error = refused("drop{sparsity=0.98,scope=layer}");
    assert!(
        error.contains("nothing is left of the 24 weights of `fc.weight`"),
        "{error}"
    );
}
