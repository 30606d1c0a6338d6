//! Graphs run and differentiated by libtorch.

use std::path::PathBuf;

use ndarray::ArrayD;
use optc::exec::torch::{MOMENTUM, Mode, Network, from_array, to_array};
use optc::exec::{Array, Device, Interpreter};
use optc::formats::{ReadOptions, read_with};
use optc::ir::{DType, Graph, Real, Role, Tensor, Value};
use tch::Kind;

use super::torch::{here, normal, shared};

fn network<T: Real>(graph: &Graph) -> Network {
    Network::new(graph, Device::Cpu, T::DTYPE).unwrap()
}

fn graph(text: &str) -> Graph {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

const TRAINING: Mode = Mode::Training { seed: 0 };

/// The largest difference, relative to the largest element of `a`.
fn difference<T: Real>(a: &ArrayD<T>, b: &ArrayD<T>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let largest = a
        .iter()
        .fold(1e-12f64, |m, x| m.max(Real::to_f64(*x).abs()));
    let apart = |(a, b): (&T, &T)| (Real::to_f64(*a) - Real::to_f64(*b)).abs();
    a.iter().zip(b).map(apart).fold(0.0, f64::max) / largest
}

fn constant(graph: &Graph, name: &str) -> Tensor {
    let node = graph.find(name).expect(name);
    graph.constant(node).expect(name).tensor.clone()
}

#[test]
fn whole_networks_compute_what_the_interpreter_does() {
    let mut files: Vec<PathBuf> = vec![here("examples/shapes.pt")];
    let fixtures = ["traced", "scripted", "frozen", "structured"];
    files.extend(fixtures.map(|name| here(&format!("tests/fixtures/torchscript/{name}.pt"))));
    for name in ["resnet20", "resnet20.frozen", "resnet56"] {
        files.extend(shared(&format!("data/cifar10_resnet/{name}.pt")));
    }
    let mut compared = 0;
    for file in files {
        let model = read_with(&file, &ReadOptions::default()).unwrap();
        let graph = model.graph;
        let Ok(network) = Network::new(&graph, Device::Cpu, DType::F32) else {
            println!("{} has opaque operators: skipped", file.display());
            continue;
        };
        let sizes = |node: &optc::ir::NodeId| -> Vec<i64> {
            let dims = graph.ty((*node).into()).shape().unwrap();
            let default = [2, 3, 32, 32];
            let size = |(axis, dim): (usize, &optc::ir::Dim)| {
                dim.as_number().unwrap_or(default[axis.min(3)])
            };
            dims.iter().enumerate().map(size).collect()
        };
        let inputs: Vec<_> = graph
            .inputs()
            .iter()
            .map(sizes)
            .enumerate()
            .map(|(i, shape)| normal(&shape, i as u64))
            .collect();
        let arrays = inputs
            .iter()
            .map(|x| Array::from(to_array::<f32>(x).unwrap()));
        let interpreter = Interpreter::<f32>::new(&graph).unwrap();
        let expected = interpreter.run(arrays.collect()).unwrap();
        let found = tch::no_grad(|| network.run(&inputs, Mode::Evaluation)).unwrap();
        for (expected, found) in expected.into_iter().zip(&found) {
            let found = to_array(found).unwrap();
            let apart = difference(&expected.into_owned(), &found);
            assert!(apart < 1e-5, "{}: {apart}", file.display());
        }
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} networks were compared");
}

/// Two convolutions with batch norms; the second convolution reads the first one's weight.
const NET: &str = "graph net(%x: f64[N,3,6,5]) {
  @shared.weight = parameter normal(1) : f64[3,3,3,3]
  @bn1.weight = parameter uniform(2, 0.5, 1.5) : f64[3]
  @bn1.bias = parameter normal(3) : f64[3]
  @bn1.running_mean = buffer normal(4) : f64[3]
  @bn1.running_var = buffer uniform(5, 0.5, 1.5) : f64[3]
  @bn2.weight = parameter uniform(6, 0.5, 1.5) : f64[3]
  @bn2.bias = parameter normal(7) : f64[3]
  @bn2.running_mean = buffer normal(8) : f64[3]
  @bn2.running_var = buffer uniform(9, 0.5, 1.5) : f64[3]
  @fc.weight = parameter normal(10) : f64[4,3]
  @fc.bias = parameter normal(11) : f64[4]
  %conv1 = conv(%x, @shared.weight) {pad=[1,1]}
  %bn1 = batch_norm(%conv1, @bn1.weight, @bn1.bias, @bn1.running_mean, @bn1.running_var)
  %relu1 = silu(%bn1)
  %conv2 = conv(%relu1, @shared.weight) {pad=[1,1]}
  %bn2 = batch_norm(%conv2, @bn2.weight, @bn2.bias, @bn2.running_mean, @bn2.running_var)
  %sum = add(%bn2, %relu1)
  %pool = mean(%sum) {axes=[2,3], keep=false}
  %fc = linear(%pool, @fc.weight, @fc.bias)
  return %fc
}";

#[test]
fn gradients_of_a_network_are_those_of_finite_differences() {
    const STEP: f64 = 1e-5;
    let graph = graph(NET);
    let x = normal(&[4, 3, 6, 5], 0).to_kind(Kind::Double);
    let weights = normal(&[4, 4], 1).to_kind(Kind::Double);
    for mode in [Mode::Evaluation, TRAINING] {
        let loss = |network: &Network| {
            let y = network.run(&[x.shallow_clone()], mode).unwrap().remove(0);
            (y * &weights).sum(Kind::Double)
        };
        let at = network::<f64>(&graph);
        loss(&at).backward();
        let mut checked = 0;
        for (node, variable) in at.parameters() {
            let name = &graph.node(node).name;
            let gradient: ArrayD<f64> = to_array(&variable.grad()).unwrap();
            let old = graph.constant(node).unwrap().tensor.clone();
            for i in (0..old.len()).step_by(1 + old.len() / 6) {
                let moved = |by: f64| {
                    let mut elements = old.elements::<f64>().into_owned();
                    elements[i] += by;
                    let mut graph = graph.clone();
                    graph.set_tensor(node, Tensor::from_vec(old.shape(), elements));
                    tch::no_grad(|| loss(&network::<f64>(&graph))).double_value(&[])
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let found = gradient.as_slice().unwrap()[i];
                let apart = (found - expected).abs();
                assert!(
                    apart <= 1e-7 * expected.abs().max(1.0),
                    "{name} at {i}, {mode:?}: {found} instead of {expected}"
                );
                checked += 1;
            }
        }
        // The tied weight is one variable.
        assert_eq!(at.parameters().count(), 7);
        assert!(checked > 20);
    }
}

#[test]
fn batch_norms_in_training_do_what_libtorch_does() {
    let text = "graph net(%x: f32[N,3,5,4]) {
  @bn.weight = parameter uniform(1, 0.5, 1.5) : f32[3]
  @bn.bias = parameter normal(2) : f32[3]
  @bn.running_mean = buffer normal(3) : f32[3]
  @bn.running_var = buffer uniform(4, 0.5, 1.5) : f32[3]
  %bn = batch_norm(%x, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var) {eps=0.01}
  return %bn
}";
    let mut graph = graph(text);
    let network = network::<f32>(&graph);
    let names = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
    let [scale, shift, mean, variance] = names.map(|name| {
        let tensor = constant(&graph, name);
        tch::Tensor::from_slice(&tensor.elements::<f32>())
    });
    let statistics = (mean.copy(), variance.copy());
    for seed in 0..3 {
        let x = normal(&[6, 3, 5, 4], seed);
        let expected = x.batch_norm(
            Some(&scale),
            Some(&shift),
            Some(&mean),
            Some(&variance),
            true,
            MOMENTUM,
            0.01,
            true,
        );
        let found = network.run(&[x], TRAINING).unwrap().remove(0);
        // Sums over images whose channels lie side by side have another order.
        let apart = (found.detach() - expected).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
    }
    assert_ne!((&mean, &variance), (&statistics.0, &statistics.1));
    network.write_back(&mut graph).unwrap();
    let stored = |name| tch::Tensor::from_slice(&constant(&graph, name).elements::<f32>());
    for (name, expected) in [("bn.running_mean", &mean), ("bn.running_var", &variance)] {
        let apart = (stored(name) - expected).abs().max().double_value(&[]);
        assert!(apart < 1e-6, "{name}: {apart}");
    }
    // In evaluation they stay.
    network
        .run(&[normal(&[6, 3, 5, 4], 9)], Mode::Evaluation)
        .unwrap();
    network.write_back(&mut graph).unwrap();
    let error = network.run(&[normal(&[1, 3, 5, 4], 9).narrow(0, 0, 0)], TRAINING);
    assert!(error.is_err());
    assert_eq!(
        tch::Tensor::from_slice(&constant(&graph, "bn.running_mean").elements::<f32>()),
        mean
    );
}

#[test]
fn what_was_trained_goes_back_into_the_graph() {
    let mut graph = graph(
        "graph net(%x: f32[N,4]) {
  @tied = parameter normal(1) : f32[4,4]
  @half = parameter normal(2) : f16[4]
  @kept = parameter normal(3) : f32[4]
  @steps = parameter [3] : i64[1]
  @scale = buffer normal(4) : f32[4]
  %bias = cast(@half) {dtype=f32}
  %a = linear(%x, @tied, %bias)
  %b = linear(%a, @tied, @kept)
  %c = mul(%b, @scale)
  return %c
}",
    );
    let before = graph.clone();
    let network = network::<f32>(&graph);
    let trained: Vec<&str> = network
        .parameters()
        .map(|(node, _)| &*graph.node(node).name)
        .collect();
    assert_eq!(trained, ["tied", "half", "kept"]);
    for (node, tensor) in network.parameters() {
        let mut tensor = tensor.detach();
        if &*graph.node(node).name != "kept" {
            let _ = tensor.g_add_scalar_(1.0);
        }
    }
    let x = normal(&[2, 4], 0);
    let expected = tch::no_grad(|| network.run(&[x.shallow_clone()], Mode::Evaluation)).unwrap();
    network.write_back(&mut graph).unwrap();
    let half = constant(&graph, "half");
    assert_eq!(half.dtype(), DType::F16);
    assert_ne!(half, constant(&before, "half"));
    assert!(constant(&graph, "kept").same_memory(&constant(&before, "kept")));
    let tied = graph.find("tied").unwrap();
    assert_eq!(graph.readers(Value::from(tied)).len(), 2);
    assert_eq!(graph.constant(tied).unwrap().role, Role::Parameter);
    let interpreter = Interpreter::<f32>::new(&graph).unwrap();
    let found = interpreter
        .run(vec![to_array::<f32>(&x).unwrap().into()])
        .unwrap();
    let expected: ArrayD<f32> = to_array(&expected[0]).unwrap();
    // As far as half precision goes.
    let found = found.into_iter().next().unwrap().into_owned();
    assert!(difference(&expected, &found) < 1e-3);
}

#[test]
fn dropout_drops_in_training_alone() {
    let graph = graph(
        "graph net(%x: f32[N,1000]) {
  %drop = dropout(%x) {p=0.25}
  return %drop
}",
    );
    let network = network::<f32>(&graph);
    let x = tch::Tensor::ones([4, 1000], (Kind::Float, tch::Device::Cpu));
    let run = |mode| network.run(&[x.shallow_clone()], mode).unwrap().remove(0);
    assert_eq!(run(Mode::Evaluation), x);
    let dropped = run(TRAINING);
    assert_eq!(dropped, run(TRAINING));
    assert_ne!(dropped, run(Mode::Training { seed: 1 }));
    let zeros = dropped.eq(0.0).sum(Kind::Int64).int64_value(&[]);
    assert!((800..1200).contains(&zeros), "{zeros} of 4000");
    let kept = dropped.max().double_value(&[]);
    assert!((kept - 4.0 / 3.0).abs() < 1e-6, "{kept}");
}

#[test]
fn what_cannot_be_run_is_named() {
    let opaque = graph(
        "graph net(%x: f32[N,4]) {
  %relu = relu(%x)
  %foo = opaque \"aten::foo\"(%relu) {template=\"foo({0})\"} : f32[N,4]
  return %foo
}",
    );
    let refused = |graph: &Graph, device, dtype| match Network::new(graph, device, dtype) {
        Ok(_) => panic!("it runs"),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        refused(&opaque, Device::Cpu, DType::F32),
        "cannot run `foo`: optc does not know what the operator aten::foo computes"
    );
    let relu = graph("graph net(%x: f32[N,4]) {\n  %relu = relu(%x)\n  return %relu\n}");
    assert_eq!(
        refused(&relu, Device::Cpu, DType::I64),
        "libtorch is to compute in i64\n  take f32 or f64"
    );
    let far = refused(&relu, "cuda:99".parse().unwrap(), DType::F32);
    assert!(
        far.starts_with("libtorch has no device cuda:99\n  "),
        "{far}"
    );
    let network = network::<f32>(&relu);
    let error = network
        .run(&[normal(&[2, 5], 0)], Mode::Evaluation)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("which the shape [2, 5] does not fit"),
        "{error}"
    );
    assert!(network.run(&[], Mode::Evaluation).is_err());
}

#[test]
fn a_gpu_computes_what_the_processor_does() {
    if tch::Cuda::device_count() == 0 {
        println!("there is no CUDA device: skipped");
        return;
    }
    let file = here("examples/shapes.pt");
    let graph = read_with(&file, &ReadOptions::default()).unwrap().graph;
    let x = normal(&[4, 3, 32, 32], 0);
    let on = |device| {
        let network = Network::new(&graph, device, DType::F32).unwrap();
        let y = tch::no_grad(|| network.run(&[x.shallow_clone()], Mode::Evaluation)).unwrap();
        to_array::<f32>(&y[0]).unwrap()
    };
    // Convolutions on a GPU may round to ten bits.
    assert!(difference(&on(Device::Cpu), &on(Device::Cuda(0))) < 2e-2);
}

#[test]
fn arrays_survive_the_way_to_libtorch_and_back() {
    let x = ArrayD::from_shape_fn(vec![2, 3, 4], |i| (i[0] * 12 + i[1] * 4 + i[2]) as f64);
    let turned = x.clone().permuted_axes(vec![2, 0, 1]);
    let back: ArrayD<f64> = to_array(&from_array(&turned).unwrap()).unwrap();
    assert_eq!(back, turned);
}
