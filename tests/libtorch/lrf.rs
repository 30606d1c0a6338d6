//! The pass `lrf` with training in between: filters go, the network is trained, channels go, it is trained again.

use std::fs;
use std::sync::Arc;

use optc::exec;
use optc::ir::Graph;
use optc::pipeline::{Cancellation, Kind, Observer, RemarkKind, RunOptions};
use optc::{Error, Report};

use super::killed::killed_and_whole;
use super::training::{self, Folder, Impatient, weights};

/// Two convolutions that can lose filters, one before a batch norm and one with a bias.
pub(super) const DEEP: &str = "graph deep(%x: f32[N,3,8,8]) {
  @stem.weight = parameter normal(1, 0.3) : f32[8,3,3,3]
  @stem.bias = parameter 0 : f32[8]
  @conv1.weight = parameter normal(2, 0.2) : f32[8,8,3,3]
  @bn.weight = parameter uniform(3, 0.5, 1.5) : f32[8]
  @bn.bias = parameter normal(4, 0.1) : f32[8]
  @bn.running_mean = buffer normal(5, 0.1) : f32[8]
  @bn.running_var = buffer uniform(6, 0.5, 1.5) : f32[8]
  @conv2.weight = parameter normal(7, 0.2) : f32[6,8,3,3]
  @conv2.bias = parameter 0 : f32[6]
  @fc.weight = parameter normal(8, 0.5) : f32[3,6]
  @fc.bias = parameter 0 : f32[3]
  %stem = conv(%x, @stem.weight, @stem.bias) {pad=[1,1], stride=[2,2]}
  %relu0 = relu(%stem)
  %conv1 = conv(%relu0, @conv1.weight) {pad=[1,1]}
  %bn = batch_norm(%conv1, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var)
  %relu1 = relu(%bn)
  %conv2 = conv(%relu1, @conv2.weight, @conv2.bias) {pad=[1,1]}
  %relu2 = relu(%conv2)
  %pool = mean(%relu2) {axes=[2,3], keep=false}
  %fc = linear(%pool, @fc.weight, @fc.bias)
  return %fc
}";

const PASSES: &str = "lrf{ratio=0.5,finetune=2,warmup=3,lr=0.02}";

/// With samples, which layers are weighed by.
fn run(
    folder: &Folder,
    passes: &str,
    change: impl FnOnce(&mut RunOptions),
    observer: &mut dyn Observer,
) -> Result<(Graph, Report), Error> {
    let with_samples = |options: &mut RunOptions| {
        let data = options.data.as_ref().unwrap();
        options.samples = Some(Arc::new(data.sample(32, 0).unwrap()));
        change(options);
    };
    training::run(folder, passes, with_samples, observer)
}

/// The whole of it, with no checkpoint.
fn whole(folder: &Folder, passes: &str) -> (Graph, Report) {
    run(folder, passes, |o| o.checkpoint = None, &mut ()).unwrap()
}

fn shape(graph: &Graph, name: &str) -> Vec<usize> {
    let node = graph
        .find(name)
        .unwrap_or_else(|| panic!("there is no {name}"));
    graph.constant(node).unwrap().tensor.shape().to_vec()
}

#[test]
fn sides_go_one_by_one_with_training_in_between() {
    let folder = Folder::of(DEEP);
    let passes = format!("{PASSES},finetune{{epochs=12,lr=0.1,batch=32,distill=0}}");
    let (pruned, report) = whole(&folder, &passes);
    assert_eq!(report.passes[0].kind, Kind::Trained);
    let said: Vec<String> = report.passes[0]
        .remarks
        .iter()
        .filter(|remark| remark.kind != RemarkKind::Missed)
        .filter_map(|remark| {
            let (what, _) = remark.text.split_once(':')?;
            Some(format!("{} {what}", remark.node).trim().to_string())
        })
        .collect();
    let expected = [
        "epoch 0, epoch 1, epoch 2, epoch 3",
        "conv2 3 of 6 filters, epoch 0, epoch 1, epoch 2",
        "conv2 4 of 8 input channels, epoch 0, epoch 1, epoch 2",
        "conv1 4 of 8 filters, epoch 0, epoch 1, epoch 2",
        "conv1 4 of 8 input channels, epoch 0, epoch 1, epoch 2",
    ];
    assert_eq!(said, expected.join(", ").split(", ").collect::<Vec<_>>());
    for (name, expected) in [
        ("conv1.squeeze.weight", [4, 8, 1, 1]),
        ("conv1.weight", [4, 4, 3, 3]),
        ("conv1.expand.weight", [8, 4, 1, 1]),
        ("conv2.squeeze.weight", [4, 8, 1, 1]),
        ("conv2.weight", [3, 4, 3, 3]),
        ("conv2.expand.weight", [6, 3, 1, 1]),
    ] {
        assert_eq!(shape(&pruned, name), expected, "{name}");
    }
    let top1 = exec::top1(&pruned, &folder.data(&pruned), |_| {}).unwrap();
    assert!(top1.share() > 0.8, "{}", top1.share());
}

#[test]
fn every_way_to_choose_can_be_interleaved() {
    let folder = Folder::of(DEEP);
    let original: Graph = DEEP.parse().unwrap();
    for options in [
        "flops=0.7",
        "error=0.3",
        "ratio=0.5,weigh=none,warmup=0",
        "ratio=0.5,weigh=norm,select=pivot",
        "ratio=0.5,sides=output",
        "ratio=0.5,sides=input,compensate=false",
        "ratio=0.5,scope=all",
    ] {
        let (pruned, report) = whole(&folder, &format!("lrf{{finetune=1,{options}}}"));
        let [before, after] = [&report.before, &report.after].map(|stats| stats.macs.unwrap());
        assert!(after < before, "{options}: {before}, then {after}");
        if options == "flops=0.7" {
            assert!(after as f64 <= 0.7 * before as f64, "{after} of {before}");
        }
        for (name, tensor) in weights(&pruned) {
            let same = original
                .find(&name)
                .and_then(|node| original.constant(node));
            assert!(
                same.is_none_or(|before| before.tensor != tensor),
                "{options}: {name} is as it was"
            );
        }
    }
}

#[test]
fn what_was_broken_off_goes_on_and_ends_with_the_same_bytes() {
    let folder = Folder::of(DEEP);
    let (expected, _) = whole(&folder, PASSES);
    // Two batches an epoch: in the first one, later in the warm-up, at the start of a side and in its second epoch.
    for (calls, place) in [
        (1, None),
        (5, Some("went on in the warm-up")),
        (7, Some("went on in the warm-up")),
        (13, Some("went on at side 2 of 4")),
        (21, Some("went on at side 4 of 4")),
    ] {
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
        let error = broken.unwrap_err().to_string();
        assert!(error.starts_with("interrupted in "), "{error}");
        let (found, report) = run(&folder, PASSES, |_| {}, &mut ()).unwrap();
        let mut remarks = report.passes[0].remarks.iter();
        let mut went_on = remarks
            .by_ref()
            .map(|remark| remark.text.as_str())
            .filter(|text| text.starts_with("went on") && !text.contains("epoch"));
        assert_eq!(went_on.next(), place, "{error}");
        assert_eq!(weights(&found), weights(&expected), "{error}");
        assert_eq!(found.to_string(), expected.to_string(), "{error}");
        fs::remove_file(folder.path("net.checkpoint")).unwrap();
    }
}

#[test]
fn the_command_goes_on_after_it_was_killed() {
    killed_and_whole(DEEP, "lrf{ratio=0.5,finetune=4,warmup=8,lr=0.02}");
}

#[test]
fn a_loss_that_is_not_finite_ends_training_and_the_rest_goes_without() {
    let folder = Folder::of(DEEP);
    let (pruned, report) = whole(&folder, "lrf{ratio=0.5,finetune=40,warmup=0,lr=1000}");
    let why = report.passes[0].stop_reason.as_deref().unwrap_or_default();
    assert!(why.starts_with("the loss"), "{why}");
    let mut remarks = report.passes[0].remarks.iter();
    assert!(remarks.any(|remark| {
        remark.text == "after side 1 of 4, filters of conv2, the rest is removed without training"
    }));
    assert_eq!(shape(&pruned, "conv1.weight"), [4, 4, 3, 3]);
    for (name, tensor) in weights(&pruned) {
        assert!(!tensor.has_non_finite(), "{name}");
    }
}

#[test]
fn it_wants_data() {
    let folder = Folder::of(DEEP);
    let refused = training::run(&folder, PASSES, |o| o.data = None, &mut ());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("give it with --data"), "{error}");
}
