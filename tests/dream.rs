//! Samples made from a network.

mod common;

use ndarray::{ArrayD, Axis};
use optc::data::{Data, DataSpec, Samples};
use optc::exec::Frontier;
use optc::ir::{Graph, Tensor};
use optc::{Error, dream};

/// Two layers with batch norms that recorded something that is not unlikely.
const NET: &str = "
    graph net(%x: f32[N,3,12,12]) {
      @conv1.weight = parameter normal(1) : f32[8,3,3,3]
      @bn1.weight = parameter [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0] : f32[8]
      @bn1.bias = parameter [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] : f32[8]
      @bn1.mean = buffer [0.5, -0.5, 0.2, 0.1, 0.0, 0.3, -0.2, 0.4] : f32[8]
      @bn1.var = buffer [3.0, 2.0, 4.0, 2.5, 3.5, 1.5, 2.0, 3.0] : f32[8]
      @conv2.weight = parameter normal(2) : f32[4,8,3,3]
      @bn2.mean = buffer [0.5, -0.5, 0.2, 0.1] : f32[4]
      @bn2.var = buffer [4.0, 3.0, 5.0, 3.5] : f32[4]
      @bn2.weight = parameter [1.0, 1.0, 1.0, 1.0] : f32[4]
      @bn2.bias = parameter [0.0, 0.0, 0.0, 0.0] : f32[4]
      %a = conv(%x, @conv1.weight) {stride=[1,1], pad=[1,1], dilation=[1,1], groups=1}
      %b = batch_norm(%a, @bn1.weight, @bn1.bias, @bn1.mean, @bn1.var) {eps=0.00001}
      %c = relu(%b)
      %d = conv(%c, @conv2.weight) {stride=[2,2], pad=[1,1], dilation=[1,1], groups=1}
      %e = batch_norm(%d, @bn2.weight, @bn2.bias, @bn2.mean, @bn2.var) {eps=0.00001}
      %f = relu(%e)
      %g = mean(%f) {axes=[2,3], keep=false}
      return %g
    }";

fn graph(text: &str) -> Graph {
    text.parse().unwrap()
}

fn open(spec: &str, graph: &Graph, seed: u64, threads: usize) -> Result<Data, Error> {
    let spec: DataSpec = spec.parse()?;
    dream::open(&spec, graph, seed, threads, &mut |_| Ok(()))
}

fn images(data: &Data) -> ArrayD<f32> {
    let samples = data.sample(data.len(), 0).unwrap();
    let each = samples.inputs[0].samples.iter().map(|sample| {
        let elements = sample.elements::<f32>().into_owned();
        ArrayD::from_shape_vec(sample.shape(), elements).unwrap()
    });
    let each: Vec<_> = each.collect();
    let views: Vec<_> = each.iter().map(|x| x.view()).collect();
    ndarray::stack(Axis(0), &views).unwrap()
}

/// Mean and variance of each channel of what a batch norm reads.
fn statistics(graph: &Graph, norm: &str, samples: &ArrayD<f32>) -> Vec<[f32; 2]> {
    let mut frontier = Frontier::new(graph, &Samples::of_array("seen", samples).into()).unwrap();
    let node = graph.find(norm).unwrap();
    frontier.run_to(graph, node).unwrap();
    let arrays = frontier.arrays(graph, graph.operands(node)[0]).unwrap();
    let arrays: Vec<_> = arrays.iter().map(|x| x.read().unwrap()).collect();
    let views: Vec<_> = arrays.iter().map(|x| x.view()).collect();
    let all = ndarray::concatenate(Axis(0), &views).unwrap();
    let of = |x: ndarray::ArrayViewD<f32>| [x.mean().unwrap(), x.var(0.0)];
    all.axis_iter(Axis(1)).map(of).collect()
}

#[test]
fn samples_have_what_batch_norms_recorded() {
    // As if it had been trained on waves of mean 100 and deviation 50.
    let mut graph = graph(NET);
    let wave = |at: ndarray::IxDyn| {
        let phase = (at[0] * 3 + at[1]) as f32;
        let [y, x] = [at[2], at[3]].map(|i| i as f32 * (0.1 + 0.07 * at[0] as f32));
        100.0 + 70.0 * (x + phase).sin() * (y - phase).cos()
    };
    let seen = ArrayD::from_shape_fn(vec![32, 3, 12, 12], wave);
    for norm in ["b", "e"] {
        let recorded = statistics(&graph, norm, &seen);
        let operands = graph.operands(graph.find(norm).unwrap());
        for (i, operand) in operands[3..].iter().enumerate() {
            let each = recorded.iter().map(|moments| moments[i]).collect();
            graph.set_tensor(operand.node, Tensor::from_vec(&[recorded.len()], each));
        }
    }
    let samples = images(&open("dream:24,steps=60", &graph, 0, 0).unwrap());
    assert_eq!(samples.shape(), [24, 3, 12, 12]);
    for norm in ["b", "e"] {
        let (found, recorded) = (
            statistics(&graph, norm, &samples),
            statistics(&graph, norm, &seen),
        );
        for ([mean, variance], [m, v]) in found.iter().zip(&recorded) {
            assert!(
                (mean - m).abs() < 0.2 * v.sqrt(),
                "{norm}: mean {mean}, recorded {m}"
            );
            assert!(
                (variance / v).ln().abs() < 0.4,
                "{norm}: variance {variance}, recorded {v}"
            );
        }
    }
}

#[test]
fn the_seed_says_which_samples_however_many_threads() {
    let graph = graph(NET);
    let one = images(&open("dream:9,steps=4", &graph, 3, 1).unwrap());
    for threads in [2, 4] {
        assert_eq!(
            images(&open("dream:9,steps=4", &graph, 3, threads).unwrap()),
            one
        );
    }
    assert_ne!(images(&open("dream:9,steps=4", &graph, 4, 1).unwrap()), one);
}

#[test]
fn samples_are_kept_and_stay_within_their_range() {
    let graph = graph(NET);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dreamt.npz");
    let spec = format!("dream:5,steps=3,range=-1/0.5,save={}", path.display());
    let made = images(&open(&spec, &graph, 0, 0).unwrap());
    assert!(made.iter().all(|x| (-1.0..=0.5).contains(x)));
    let kept = open(&format!("npz:{}", path.display()), &graph, 0, 0).unwrap();
    assert_eq!(images(&kept), made);
}

#[test]
fn what_cannot_be_made_says_why() {
    let refused = |spec: &str, graph: &Graph| open(spec, graph, 0, 0).unwrap_err().to_string();
    let folded = graph("graph net(%x: f32[N,3,8,8]) { %y = relu(%x) return %y }");
    let open_sizes = graph(&NET.replace("[N,3,12,12]", "[N,3,H,W]"));
    let messages = [
        refused("dream:4", &folded),
        refused("dream:4", &open_sizes),
        refused("dream:many", &folded),
        refused("dream:4,range=2/1", &folded),
        refused("dream:4,x=x", &folded),
    ];
    let vast = graph(&NET.replace("[N,3,12,12]", "[N,3,1000000,1000000]"));
    for message in [
        refused("dream:4", &vast),
        refused(
            "dream:1000000,steps=1",
            &graph(&NET.replace("12,12", "120,120")),
        ),
    ] {
        assert!(
            message.contains("there is no room for the samples"),
            "{message}"
        );
    }
    common::snapshot("errors/dream", &messages.join("\n\n"));
}
