//! What samples say about a network, and what they repair.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use optc::analysis::calibration::{patch_moments, refit};
use optc::analysis::kernels::KernelLayout;
use optc::data::Samples;
use optc::exec::{Array, Interpreter};
use optc::ir::{Graph, NodeId};
use optc::pipeline::{Pipeline, RunOptions};

/// Two convolutions, the second one the branch of a sum, and a linear layer.
const NET: &str = "
    graph net(%x: f32[N,3,6,6]) {
      @a.weight = parameter normal(1) : f32[8,3,3,3]
      @a.bias = parameter normal(2) : f32[8]
      @b.weight = parameter normal(3) : f32[8,8,3,3]
      @c.weight = parameter normal(4) : f32[5,8]
      %a = conv(%x, @a.weight, @a.bias) {pad=[1,1]}
      %relu = relu(%a)
      %b = conv(%relu, @b.weight) {pad=[1,1]}
      %sum = add(%relu, %b)
      %pool = mean(%sum) {axes=[2,3], keep=false}
      %c = linear(%pool, @c.weight)
      return %c
    }";

fn images(n: usize) -> ArrayD<f32> {
    let mut k = 0.0f32;
    ArrayD::from_shape_simple_fn(IxDyn(&[n, 3, 6, 6]), || {
        k += 1.0;
        (k * 0.37).sin() + (k * k * 0.011).cos()
    })
}

fn run(graph: &Graph, x: &ArrayD<f32>) -> ArrayD<f32> {
    let outputs = Interpreter::new(graph)
        .unwrap()
        .run(vec![Array::from(x.clone())]);
    outputs.unwrap().remove(0).into_owned()
}

fn distance(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    let largest = a.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    (a - b).iter().fold(0.0f32, |max, x| max.max(x.abs())) / largest
}

fn scale_weight(graph: &mut Graph, layer: &str, by: impl Fn(usize) -> f64) {
    let node = graph.find(layer).unwrap();
    let weight = graph.operands(node)[1].node;
    let elements = graph.constant(weight).unwrap().tensor.elements::<f64>();
    let scaled = elements
        .iter()
        .enumerate()
        .map(|(i, w)| w * by(i))
        .collect();
    graph.set_operand_elements(node, 1, scaled);
}

#[test]
fn weights_that_were_disturbed_are_found_again() {
    let original: Graph = NET.parse().unwrap();
    let mut changed = original.clone();
    scale_weight(&mut changed, "a", |i| 1.0 + 0.5 * (i as f64).sin());
    let x = images(64);
    assert!(distance(&run(&original, &x), &run(&changed, &x)) > 0.05);
    let fit = refit(
        &original,
        &mut changed,
        &Samples::of_array("here", &x).into(),
        &mut |_, _| false,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    let names: Vec<&str> = fit
        .fitted
        .iter()
        .map(|layer| layer.layer.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        fit.fitted
            .iter()
            .all(|layer| layer.error[1] <= layer.error[0] + 1e-6)
    );
    assert!(distance(&run(&original, &x), &run(&changed, &x)) < 2e-3);
}

#[test]
fn masked_weights_are_fitted_where_they_are_kept() {
    let masked = NET
        .replace("normal(3)", "normal(3) mask rows(columns(1, [0, 0.0*0, 0, 0, 0.0*0, 0.0*0, 0, 0.0*0]), [0, 0, 0.0*0, 0, 0, 0, 0, 0])")
        .replace("normal(4)", "normal(4) mask [0,1,1,0,1,0,0,1, 1,1,1,1,0,0,0,0, 0,0,0,0,1,1,1,1, 1,1,1,1,1,1,1,1, 0,0,0,0,0,0,0,0]");
    let original: Graph = masked.parse().unwrap();
    let mut changed = original.clone();
    for layer in ["a", "b", "c"] {
        scale_weight(&mut changed, layer, |i| 1.0 + 0.5 * (i as f64).sin());
    }
    let x = images(64);
    assert!(distance(&run(&original, &x), &run(&changed, &x)) > 0.05);
    let fit = refit(
        &original,
        &mut changed,
        &Samples::of_array("here", &x).into(),
        &mut |_, _| false,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    assert_eq!((fit.fitted.len(), fit.left_out.len()), (3, 0));
    assert!(distance(&run(&original, &x), &run(&changed, &x)) < 2e-3);
    for name in ["b.weight", "c.weight"] {
        let at = |graph: &Graph| graph.find(name).unwrap();
        assert_eq!(changed.mask(at(&changed)), original.mask(at(&original)));
        let node = at(&changed);
        let mask = changed.mask(node).unwrap();
        let elements = changed.constant(node).unwrap().tensor.elements::<f64>();
        assert!(
            mask.iter()
                .zip(elements.iter())
                .all(|(kept, w)| kept == (*w != 0.0))
        );
    }
}

#[test]
fn a_branch_makes_up_for_what_its_sum_lost() {
    // Without its last channels `a` cannot be repaired, and `b` is fitted to what the sum should be.
    let original: Graph = NET.parse().unwrap();
    let mut changed = original.clone();
    scale_weight(&mut changed, "a", |i| if i < 6 * 27 { 1.0 } else { 0.0 });
    let x = images(64);
    let before = distance(&run(&original, &x), &run(&changed, &x));
    // Nothing but the branch and what follows may change: what `a` computes is wanted of nobody.
    changed.rename(changed.find("a").unwrap(), "other");
    let fit = refit(
        &original,
        &mut changed,
        &Samples::of_array("here", &x).into(),
        &mut |_, _| false,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    assert_eq!(fit.fitted[0].layer, "b");
    assert!(fit.fitted[0].error[1] < fit.fitted[0].error[0]);
    assert!(distance(&run(&original, &x), &run(&changed, &x)) < 0.5 * before);
}

#[test]
fn kernels_stay_as_few_as_they_are() {
    let original: Graph = NET.parse().unwrap();
    let mut changed = original.clone();
    // The kernels of each channel of `b` become multiples of the first output's.
    let node = changed.find("b").unwrap();
    let weight = changed.operands(node)[1].node;
    let elements = changed
        .constant(weight)
        .unwrap()
        .tensor
        .elements::<f64>()
        .into_owned();
    let one = (0..8 * 8 * 9)
        .map(|i| elements[i % 72] * (1.0 + (i / 72) as f64))
        .collect();
    changed.set_operand_elements(node, 1, one);
    refit(
        &original,
        &mut changed,
        &Samples::of_array("here", &images(64)).into(),
        &mut |_, _| false,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    let layout = layout(&changed, node);
    let weight = changed.operands(node)[1].node;
    let elements = changed.constant(weight).unwrap().tensor.elements::<f64>();
    let separation =
        optc::analysis::kernels::Separation::of(&layout, &elements, f32::EPSILON.into()).unwrap();
    assert_eq!(separation.channels, (0..8).collect::<Vec<_>>());
}

#[test]
fn moments_are_those_of_the_patches() {
    let graph: Graph = NET.parse().unwrap();
    let node = graph.find("a").unwrap();
    let layout = layout(&graph, node);
    let x = images(40);
    let samples = Samples::of_array("here", &x).into();
    let found = patch_moments(
        &graph,
        &[(node, layout)],
        1000,
        &samples,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    let moments = &found[&node];
    // The centre tap sees every pixel once; the first tap all but the last row and column, and a pad of zeros.
    for c in 0..3 {
        let plane = x.index_axis(ndarray::Axis(1), c);
        let mean = plane.mean().unwrap();
        assert!((moments.mean[c * 9 + 4] - f64::from(mean)).abs() < 1e-5);
        let inner = plane.slice(ndarray::s![.., ..5, ..5]).sum() / plane.len() as f32;
        assert!((moments.mean[c * 9] - f64::from(inner)).abs() < 1e-5);
        let variance = plane.mapv(|x| (x - mean).powi(2)).mean().unwrap();
        let found = moments.joint.as_ref().unwrap()[(c * 9 + 4, c * 9 + 4)];
        assert!((found - f64::from(variance)).abs() < 1e-4);
    }
}

fn layout(graph: &Graph, node: NodeId) -> KernelLayout {
    let weight = graph.constant(graph.operands(node)[1].node).unwrap();
    KernelLayout::of(graph.op(node).unwrap(), weight.tensor.shape()).unwrap()
}

#[test]
fn samples_that_a_pass_cannot_use_are_told_of_pass_by_pass() {
    let what = r#"%what = opaque "aten::what"(%a) {template="torch.what({0})"} : f32[N,8,6,6]"#;
    let text = NET.replace(
        "%relu = relu(%a)",
        &format!("{what}\n      %relu = relu(%what)"),
    );
    let mut model = optc::Model::new(text.parse().unwrap());
    let samples = Samples::of_array("here", &images(8));
    let options = RunOptions {
        samples: Some(samples.into()),
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse("red{hash=kernel,error=0.1},lrf{ratio=0.3}").unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    let calibration = report.calibration.unwrap();
    assert!(!calibration.used);
    let said = |pass: &str| calibration.missed.iter().any(|what| what.starts_with(pass));
    assert!(
        said("red: the samples say nothing") && said("lrf: not refitted"),
        "{calibration:?}"
    );
}

/// As many samples as features are fitted without an error, and such a fit is far off on the next ones.
#[test]
fn a_fit_to_few_samples_is_no_worse_on_others() {
    let original: Graph = "
        graph net(%x: f32[N,48]) {
          @a.weight = parameter normal(1) : f32[48,48]
          @b.weight = parameter normal(2) : f32[4,48]
          %a = linear(%x, @a.weight)
          %relu = relu(%a)
          %b = linear(%relu, @b.weight)
          return %b
        }"
    .parse()
    .unwrap();
    let mut changed = original.clone();
    // A few inputs that are not read any more.
    scale_weight(&mut changed, "b", |i| f64::from(u8::from(i % 48 > 4)));
    let noise = |seed: u64, n: usize| {
        let mut random = fastrand::Rng::with_seed(seed);
        ArrayD::from_shape_simple_fn(IxDyn(&[n, 48]), || 2.0 * random.f32() - 1.0)
    };
    let (few, others) = (noise(1, 48), noise(2, 400));
    let off = |graph: &Graph| {
        let (a, b) = (run(&original, &others), run(graph, &others));
        (&a - &b).iter().map(|x| x * x).sum::<f32>() / a.iter().map(|x| x * x).sum::<f32>()
    };
    let before = off(&changed);
    assert!(before > 0.02, "{before}");
    refit(
        &original,
        &mut changed,
        &Samples::of_array("here", &few).into(),
        &mut |_, _| false,
        &mut |_, _| Ok(()),
    )
    .unwrap();
    assert!(off(&changed) < 1.05 * before, "{} {before}", off(&changed));
}

/// A network whose activations change their layout on the way.
const TURNED: &str = "
    graph net(%x: f32[N,6,8]) {
      @a.weight = parameter normal(1) : f32[12,8]
      @b.weight = parameter normal(2) : f32[10,6]
      @c.weight = parameter normal(3) : f32[4,10]
      %a = linear(%x, @a.weight)
      %turned = transpose(%a) {perm=[0,2,1]}
      %b = linear(%turned, @b.weight)
      %relu = relu(%b)
      %pool = mean(%relu) {axes=[1], keep=false}
      %c = linear(%pool, @c.weight)
      return %c
    }";

#[test]
fn what_is_written_depends_on_neither_threads_nor_where_activations_wait() {
    let x = images(70);
    let turned = x.to_shape((70, 108)).unwrap();
    let turned = turned.slice(ndarray::s![.., ..48]).to_owned();
    let turned = turned.into_shape_with_order(vec![70, 6, 8]).unwrap();
    let passes = [
        "lrf{ratio=0.5}",
        "red{hash=kernel,error=0.3}",
        "red{alpha=0.3}",
        "prune{sparsity=0.5}",
        "within{macs=0.7}(red,lrf,lowrank,cut)",
    ];
    let nets = passes.map(|passes| (NET, &x, passes));
    let others = [(TURNED, &turned, "within{macs=0.7}(lowrank,cut)")];
    for (net, x, passes) in nets.into_iter().chain(others) {
        let written = |threads: usize, in_memory: usize| {
            let mut model = optc::Model::new(net.parse().unwrap());
            let options = RunOptions {
                samples: Some(Samples::of_array("here", x).into()),
                threads,
                in_memory,
                ..RunOptions::default()
            };
            let pipeline = Pipeline::parse(passes).unwrap();
            let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
            assert!(report.passes[0].changed, "{passes}");
            optc::write_bytes(&model, None).unwrap()
        };
        let one = written(1, usize::MAX);
        for (threads, in_memory) in [(1, 0), (2, 0), (4, 0), (2, 40_000), (4, usize::MAX)] {
            let other = written(threads, in_memory);
            assert!(
                one == other,
                "{passes}: {threads} threads, {in_memory} bytes"
            );
        }
    }
}

/// Runs passes on a network with samples; the bytes that are written, and all remarks.
fn optimised(
    net: &str,
    x: &ArrayD<f32>,
    passes: &str,
    file: Option<&Path>,
) -> optc::Result<(Vec<u8>, String)> {
    let mut model = optc::Model::new(net.parse()?);
    let options = RunOptions {
        samples: Some(Samples::of_array("here", x).into()),
        statistics: file.map(Into::into),
        ..RunOptions::default()
    };
    let report = Pipeline::parse(passes)?.run_with(&mut model, &options, &mut ())?;
    let remarks = report.passes.iter().flat_map(|pass| &pass.remarks);
    let remarks = remarks.map(|remark| format!("{}\n", remark.text)).collect();
    Ok((optc::write_bytes(&model, None)?, remarks))
}

#[test]
fn statistics_in_a_file_give_what_measuring_gives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let x = images(40);
    let few = "lrf{ratio=0.5}";
    let all = "within{macs=0.7}(red,lrf,lowrank)";
    // Others read more layers than are there, which are measured then.
    for (passes, is_read) in [
        (few, false),
        (few, true),
        ("lrf{ratio=0.3}", true),
        (all, false),
        (few, true),
        (all, true),
    ] {
        let (with, remarks) = optimised(NET, &x, passes, Some(&file)).unwrap();
        let (without, _) = optimised(NET, &x, passes, None).unwrap();
        assert!(with == without, "{passes}");
        assert_eq!(
            remarks.contains("is taken from"),
            is_read,
            "{passes}: {remarks}"
        );
    }
    // What a lossy pass leaves is measured and not kept.
    let before = std::fs::read(&file).unwrap();
    let (_, remarks) = optimised(NET, &x, &format!("{few},{few}"), Some(&file)).unwrap();
    assert_eq!(remarks.matches("is taken from").count(), 1, "{remarks}");
    assert!(std::fs::read(&file).unwrap() == before);
}

#[test]
fn statistics_of_other_things_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let x = images(40);
    let run = |net: &str, x: &ArrayD<f32>| {
        let refused = optimised(net, x, "lrf{ratio=0.5}", Some(&file));
        refused.map(|_| ()).map_err(|error| error.to_string())
    };
    run(NET, &x).unwrap();
    let written = std::fs::read(&file).unwrap();
    let other = run(&NET.replace("normal(3)", "normal(5)"), &x).unwrap_err();
    assert!(other.contains("another model"), "{other}");
    let other = run(NET, &images(39)).unwrap_err();
    assert!(other.contains("another set of samples: 40 of"), "{other}");
    assert!(std::fs::read(&file).unwrap() == written);

    // Damaged: cut short, of another program, with an array of another shape, or with what is no number.
    let header = 8 + u64::from_le_bytes(written[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&written[..header]);
    let renamed = [text.replace("optc", "optd").as_bytes(), &written[header..]].concat();
    let reshaped = [
        text.replace("[8,9,9]", "[9,9,8]").as_bytes(),
        &written[header..],
    ]
    .concat();
    let mut infinite = written.clone();
    infinite[header..].fill(0xff);
    let cut = written[..written.len() - 1].to_vec();
    for damaged in [cut, renamed, reshaped, infinite, b"{}".to_vec(), Vec::new()] {
        assert!(damaged != written);
        std::fs::write(&file, &damaged).unwrap();
        let error = run(NET, &x).unwrap_err();
        assert!(error.contains("net.safetensors"), "{error}");
        assert!(std::fs::read(&file).unwrap() == damaged);
    }
}
