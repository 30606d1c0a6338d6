//! VGG-16 for CIFAR-10, `examples/vgg16.ir`: a few steps on images that say nothing.

use std::sync::Arc;

use optc::data::DataSpec;
use optc::ir::Graph;
use optc::pipeline::{RunOptions, Verify};
use optc::{Model, Pipeline};
use tch::Kind;

use super::torch::normal;

#[test]
fn vgg16_is_trained_and_pruned_to_91_per_cent() {
    let graph: Graph = include_str!("../../examples/vgg16.ir").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    let labels = tch::Tensor::arange(10, (Kind::Int64, tch::Device::Cpu));
    let images = normal(&[10, 3, 32, 32], 0);
    tch::Tensor::write_npz(&[("x", &images), ("y", &labels)], &path).unwrap();
    let spec = format!("npz:{},flip=true,crop=4", path.display());
    let data = spec.parse::<DataSpec>().unwrap().open(&graph).unwrap();
    let options = RunOptions {
        verify: Verify::Nothing,
        data: Some(Arc::new(data)),
        ..RunOptions::default()
    };
    let mut model = Model::new(graph);
    // The pipeline of the full run, with fewer epochs.
    let passes =
        "finetune{epochs=1,lr=0.05,distill=0,decay=0.0005},drop{sparsity=0.91,steps=1,last=1}";
    let pipeline = Pipeline::parse(passes).unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    for pass in &report.passes {
        assert_eq!(pass.stop_reason, None, "{}", pass.name);
    }
    let sparsity = report.sparsity.unwrap();
    let kernels = 14_710_464 + 5_120;
    assert_eq!(sparsity.zeros, (0.91 * f64::from(kernels)).round() as u64);
    assert_eq!(report.before.params, report.after.params);
}
