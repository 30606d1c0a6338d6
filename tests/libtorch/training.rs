//! Networks trained on data, broken off and gone on with.

use std::fs;
use std::sync::Arc;

use optc::data::{Data, DataSpec};
use optc::exec::Device;
use optc::exec::torch::{Schedule, Settings, Trainer};
use optc::ir::{Graph, Mask, Tensor};
use optc::pipeline::{Cancellation, Observer, PassInfo, RunOptions, Verify};
use optc::{Error, Model, Pipeline, Report};
use tch::Kind;
use tempfile::TempDir;

use super::common;
use super::torch::normal;

/// A convolution with a batch norm, and dropout before the last layer.
pub(super) const NET: &str = "graph net(%x: f32[N,3,8,8]) {
  @conv.weight = parameter normal(1) : f32[8,3,3,3]
  @bn.weight = parameter uniform(2, 0.5, 1.5) : f32[8]
  @bn.bias = parameter normal(3) : f32[8]
  @bn.running_mean = buffer normal(4) : f32[8]
  @bn.running_var = buffer uniform(5, 0.5, 1.5) : f32[8]
  @fc.weight = parameter normal(6) : f32[3,8]
  @fc.bias = parameter normal(7) : f32[3]
  %conv = conv(%x, @conv.weight) {pad=[1,1]}
  %bn = batch_norm(%conv, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var)
  %relu = relu(%bn)
  %pool = mean(%relu) {axes=[2,3], keep=false}
  %drop = dropout(%pool) {p=0.1}
  %fc = linear(%drop, @fc.weight, @fc.bias)
  return %fc
}";

/// A folder with a network, and images of three classes, each brighter in a channel of its own.
pub(super) struct Folder {
    pub(super) folder: TempDir,
    net: &'static str,
}

impl Folder {
    pub(super) fn new() -> Folder {
        Folder::of(NET)
    }

    pub(super) fn of(net: &'static str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("net.ir"), net).unwrap();
        let n = 150;
        let labels = tch::Tensor::arange(n, (Kind::Int64, tch::Device::Cpu)).remainder(3);
        let bright = labels.one_hot(3).reshape([n, 3, 1, 1]) * 0.7;
        let images = normal(&[n, 3, 8, 8], 0) + bright;
        let path = folder.path().join("data.npz");
        tch::Tensor::write_npz(&[("x", &images), ("y", &labels)], &path).unwrap();
        let path = folder.path().join("unlabelled.npz");
        tch::Tensor::write_npz(&[("x", &images)], &path).unwrap();
        Folder { folder, net }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn data(&self, graph: &Graph) -> Data {
        let spec = format!("npz:{},flip=true,crop=1", self.path("data.npz"));
        spec.parse::<DataSpec>().unwrap().open(graph).unwrap()
    }
}

fn graph(text: &str) -> Graph {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn settings() -> Settings {
    Settings {
        epochs: 5,
        rate: 0.05,
        batch: 32,
        distill: None,
        ..Settings::default()
    }
}

fn trainer(graph: &Graph, folder: &Folder, settings: Settings) -> Trainer {
    let set = folder.data(graph).training_set().unwrap();
    Trainer::new(graph, graph, &set, settings, Device::Cpu).unwrap()
}

pub(super) fn weights(graph: &Graph) -> Vec<(String, Tensor)> {
    let constants = graph.nodes().filter_map(|node| {
        let tensor = graph.constant(node)?.tensor.clone();
        Some((graph.node(node).name.to_string(), tensor))
    });
    constants.collect()
}

#[test]
fn a_network_learns() {
    let folder = Folder::new();
    for settings in [
        settings(),
        Settings {
            nesterov: true,
            schedule: Schedule::Step,
            ..settings()
        },
    ] {
        let mut trained = graph(NET);
        let mut trainer = trainer(&trained, &folder, settings);
        while !trainer.is_done() {
            trainer.epoch(&mut |_| Ok(())).unwrap();
        }
        let right = |i: usize| trainer.epochs()[i].held_out.unwrap().right.unwrap();
        assert!(right(0) < 0.7, "{}", right(0));
        let best = trainer.best().unwrap();
        assert!(best.number > 0);
        assert!(best.held_out.unwrap().right.unwrap() > 0.9, "{best:?}");
        trainer.finish(&mut trained).unwrap();
        for ((name, before), (_, after)) in weights(&graph(NET)).iter().zip(&weights(&trained)) {
            assert_ne!(before, after, "{name} was not trained");
        }
    }
}

#[test]
fn a_student_comes_near_its_teacher_without_labels() {
    let folder = Folder::new();
    let teacher = graph(NET);
    let mut student = graph(&NET.replace("normal(6)", "normal(16)"));
    let set = folder.data(&student).training_set().unwrap();
    let settings = Settings {
        labels: false,
        distill: Some(2.0),
        epochs: 8,
        ..settings()
    };
    let mut trainer = Trainer::new(&student, &teacher, &set, settings, Device::Cpu).unwrap();
    while !trainer.is_done() {
        trainer.epoch(&mut |_| Ok(())).unwrap();
    }
    let loss = |i: usize| trainer.epochs()[i].held_out.unwrap().loss;
    assert!(loss(8) < 0.3 * loss(0), "{} after {}", loss(8), loss(0));
    assert_eq!(trainer.epochs()[0].held_out.unwrap().right, None);
    trainer.finish(&mut student).unwrap();
}

#[test]
fn masked_weights_stay_0_and_others_do_not() {
    let folder = Folder::new();
    let mut trained = graph(NET);
    let node = trained.find("conv.weight").unwrap();
    let mask = Mask::from_fn(216, |i| !i.is_multiple_of(3));
    trained.set_mask(node, Some(mask));
    let mut trainer = trainer(&trained, &folder, settings());
    while !trainer.is_done() {
        trainer.epoch(&mut |_| Ok(())).unwrap();
    }
    trainer.finish(&mut trained).unwrap();
    let weight = trained
        .constant(node)
        .unwrap()
        .tensor
        .elements::<f32>()
        .into_owned();
    for (i, w) in weight.iter().enumerate() {
        assert_eq!(*w == 0.0, i % 3 == 0, "weight {i} is {w}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = Folder::new();
    let train = |seed: u64| {
        let mut trained = graph(NET);
        let settings = Settings {
            seed,
            epochs: 2,
            ..settings()
        };
        let mut trainer = trainer(&trained, &folder, settings);
        while !trainer.is_done() {
            trainer.epoch(&mut |_| Ok(())).unwrap();
        }
        trainer.finish(&mut trained).unwrap();
        weights(&trained)
    };
    assert_eq!(train(1), train(1));
    assert_ne!(train(1), train(2));
}

#[test]
fn a_network_with_a_batch_of_its_own_is_trained_with_that() {
    let folder = Folder::new();
    let mut fixed = graph(&NET.replace("f32[N,3,8,8]", "f32[16,3,8,8]"));
    let mut trainer = trainer(&fixed, &folder, settings());
    trainer.epoch(&mut |_| Ok(())).unwrap();
    assert!(trainer.epochs()[1].held_out.unwrap().loss.is_finite());
    trainer.finish(&mut fixed).unwrap();
}

fn run_options(folder: &Folder, graph: &Graph) -> RunOptions {
    RunOptions {
        threads: 1, // So small a network only waits with more.
        verify: Verify::Nothing,
        data: Some(Arc::new(folder.data(graph))),
        checkpoint: Some(folder.path("net.checkpoint").into()),
        ..RunOptions::default()
    }
}

pub(super) fn run(
    folder: &Folder,
    passes: &str,
    change: impl FnOnce(&mut RunOptions),
    observer: &mut dyn Observer,
) -> Result<(Graph, Report), Error> {
    let mut model = Model::new(graph(folder.net));
    let mut options = run_options(folder, &model.graph);
    change(&mut options);
    let report = Pipeline::parse(passes)?.run_with(&mut model, &options, observer)?;
    Ok((model.graph, report))
}

/// Interrupts at the given step of training.
pub(super) struct Impatient {
    pub(super) cancellation: Cancellation,
    pub(super) calls: usize,
}

impl Observer for Impatient {
    fn progress(&mut self, _: &PassInfo, what: &str, _: f64) {
        if !what.contains("epoch") {
            return;
        }
        self.calls -= 1;
        if self.calls == 0 {
            assert!(self.cancellation.request(), "nobody watches for it");
        }
    }
}

const TWICE: &str =
    "finetune{epochs=3,lr=0.05,batch=32},canonicalize,finetune{epochs=2,batch=50,distill=0}";

#[test]
fn what_was_broken_off_goes_on_and_ends_with_the_same_bytes() {
    let folder = Folder::new();
    let (expected, _) = run(&folder, TWICE, |o| o.checkpoint = None, &mut ()).unwrap();
    // In the first epoch, in a later one, and in the second training.
    for calls in [2, 11, 17] {
        let cancellation = Cancellation::default();
        let mut impatient = Impatient {
            cancellation: cancellation.clone(),
            calls,
        };
        let broken = run(
            &folder,
            TWICE,
            |o| o.cancellation = cancellation,
            &mut impatient,
        );
        let error = broken.unwrap_err().to_string();
        match calls {
            2 => assert_eq!(error, "interrupted in epoch 1; nothing was saved yet"),
            _ => assert!(
                error.ends_with("the same command goes on from there"),
                "{error}"
            ),
        }
        let (found, report) = run(&folder, TWICE, |_| {}, &mut ()).unwrap();
        let went_on = report
            .passes
            .iter()
            .flat_map(|pass| &pass.remarks)
            .any(|remark| remark.text.starts_with("went on after epoch"));
        assert_eq!(went_on, calls > 5);
        assert_eq!(
            weights(&found),
            weights(&expected),
            "interrupted at step {calls}"
        );
        fs::remove_file(folder.path("net.checkpoint")).unwrap();
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let folder = Folder::new();
    let passes = "finetune{epochs=1,batch=64}";
    run(&folder, passes, |_| {}, &mut ()).unwrap();
    let mut text = String::new();
    let mut refused = |passes: &str, change: &dyn Fn(&mut RunOptions)| {
        let error = run(&folder, passes, change, &mut ())
            .unwrap_err()
            .to_string();
        text += &format!("{}\n\n", error.replace(&folder.path(""), ""));
    };
    refused("finetune{epochs=2,batch=64}", &|_| {});
    refused(passes, &|options| options.seed = 1);
    refused(passes, &|options| {
        let spec = format!("npz:{},flip=true,crop=2", folder.path("data.npz"));
        let data = spec.parse::<DataSpec>().unwrap().open(&graph(NET)).unwrap();
        options.data = Some(Arc::new(data));
    });
    fs::write(folder.path("net.checkpoint"), "something else").unwrap();
    refused(passes, &|_| {});
    assert_eq!(
        fs::read_to_string(folder.path("net.checkpoint")).unwrap(),
        "something else"
    );
    let filters = vec![(r"#[0-9a-f]{16}", "#[hash]")];
    insta::with_settings!({filters => filters}, {
        common::snapshot("errors/checkpoint", &text);
    });
}

#[test]
fn a_loss_that_is_not_finite_ends_training_and_harms_nothing() {
    let folder = Folder::new();
    let passes = "finetune{epochs=3,lr=1000,decay=1,distill=0,batch=8}";
    let (found, report) = run(&folder, passes, |o| o.checkpoint = None, &mut ()).unwrap();
    let why = report.passes[0].stop_reason.as_deref().unwrap_or_default();
    assert!(why.starts_with("the loss"), "{why}");
    assert!(why.contains("epoch "), "{why}");
    for (name, tensor) in weights(&found) {
        assert!(!tensor.has_non_finite(), "{name}");
    }
}

/// Depthwise kernels of 1e-4 and coefficients of 1e4, as what passes compute can be.
#[test]
fn layers_of_unlike_scale_are_trained_all_the_same() {
    let folder = Folder::new();
    let text = "graph net(%x: f32[N,3,8,8]) {
  @depthwise.weight = parameter uniform(1, -0.0001, 0.0001) : f32[6,1,3,3]
  @pointwise.weight = parameter uniform(2, -10000, 10000) : f32[8,6,1,1]
  @pointwise.bias = parameter uniform(3, -0.1, 0.1) : f32[8]
  @fc.weight = parameter uniform(4, -0.5, 0.5) : f32[3,8]
  %twice = gather(%x) {axis=1, index=[0,1,2,0,1,2]}
  %depthwise = conv(%twice, @depthwise.weight) {groups=6, pad=[1,1]}
  %pointwise = conv(%depthwise, @pointwise.weight, @pointwise.bias)
  %relu = relu(%pointwise)
  %pool = mean(%relu) {axes=[2,3], keep=false}
  %fc = linear(%pool, @fc.weight)
  return %fc
}";
    let mut model = Model::new(graph(text));
    let options = RunOptions {
        checkpoint: None,
        ..run_options(&folder, &model.graph)
    };
    let pipeline = Pipeline::parse("finetune{epochs=5,lr=0.05,batch=32,distill=0}").unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    assert_eq!(report.passes[0].stop_reason, None);
    assert!(report.passes[0].changed);
}

#[test]
fn what_cannot_be_trained_is_explained() {
    let folder = Folder::new();
    let frozen = NET.replace("= parameter", "= literal");
    let net = graph(NET);
    let set = folder.data(&net).training_set().unwrap();
    let refused =
        |net: &Graph, settings: Settings| match Trainer::new(net, net, &set, settings, Device::Cpu)
        {
            Ok(_) => panic!("it is trained"),
            Err(error) => error.to_string(),
        };
    let error = refused(&graph(&frozen), settings());
    assert!(
        error.starts_with("the network has no parameters to train"),
        "{error}"
    );
    let error = refused(
        &net,
        Settings {
            labels: false,
            ..settings()
        },
    );
    assert!(
        error.starts_with("there is nothing to learn from"),
        "{error}"
    );
    let two = NET
        .replace("f32[3,8]", "f32[2,8]")
        .replace("normal(7) : f32[3]", "normal(7) : f32[2]");
    let error = refused(&graph(&two), settings());
    assert!(error.contains("label 2"), "{error}");
    let image = NET.replace("return %fc", "return %relu");
    let error = refused(&graph(&image), settings());
    assert!(error.contains("[1, 8, 8, 8]"), "{error}");
    let spec = format!("npz:{}", folder.path("unlabelled.npz"));
    let data = spec.parse::<DataSpec>().unwrap().open(&net).unwrap();
    let set = data.training_set().unwrap();
    let error = Trainer::new(&net, &net, &set, settings(), Device::Cpu);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("labels"), "{error}");
    let error = run(&folder, "finetune", |o| o.data = None, &mut ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("give it with --data"), "{error}");
}
