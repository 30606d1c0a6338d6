//! The gradient of every operator against central differences in double precision, on random instances.

use ndarray::{ArcArray, ArrayD, IxDyn};
use optc::exec::{Gradient, Interpreter};
use optc::fuzzing::{Planted, planted_graph};
use optc::ir::{Bindings, Graph, Op, Real, Value};

/// How far to either side.
const STEP: f64 = 1e-5;

/// Forms of an operator that are tried, and directions in each.
const FORMS: u64 = 24;
const DIRECTIONS: usize = 3;

fn bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..256).map(|_| random.u8(..)).collect()
}

/// Networks of a layer, this operator in random forms, and a layer that reads it.
fn forms(name: &str) -> Vec<Graph> {
    (0..FORMS)
        .filter_map(|seed| planted_graph(&bytes(seed), Planted::Equal, name))
        .collect()
}

fn shape(graph: &Graph) -> Vec<usize> {
    let sizes = graph.ty(graph.inputs()[0].into()).shape().unwrap();
    sizes
        .iter()
        .map(|dim| dim.eval(&graph.bindings).unwrap() as usize)
        .collect()
}

fn noise(shape: &[usize], random: &mut fastrand::Rng) -> ArrayD<f64> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || 2.0 * random.f64() - 1.0)
}

fn shared<T: Real>(x: &ArrayD<f64>) -> ArcArray<T, IxDyn> {
    x.mapv(T::from_f64).into_shared()
}

/// The output's elements, each times a number of its own, added up.
fn sum(graph: &Graph, x: &ArrayD<f64>) -> f64 {
    let interpreter = Interpreter::<f64>::new(graph).unwrap();
    let input = optc::exec::Array::Shared(shared(x));
    let y = interpreter.run(vec![input]).unwrap().remove(0);
    y.view()
        .iter()
        .enumerate()
        .map(|(i, y)| factor(i) * y)
        .sum()
}

fn factor(i: usize) -> f64 {
    (i as f64 * 0.7 + 0.3).sin()
}

/// The derivative of that by the input.
fn derivative<T: Real>(graph: &Graph, x: &ArrayD<f64>) -> Vec<f64> {
    let out = graph.outputs()[0].value;
    let gradient = Gradient::<T>::new(graph, &[out]).unwrap();
    let run = gradient.run(shared(x)).unwrap();
    let back = gradient.back(run, &|_, _, adjoint| {
        for (i, adjoint) in adjoint.iter_mut().enumerate() {
            *adjoint = *adjoint + T::from_f64(factor(i));
        }
    });
    back.unwrap().into_iter().map(|x| Real::to_f64(x)).collect()
}

/// Compares along directions; false where the network has a kink there, so that there is nothing to compare with.
fn compare(graph: &Graph, what: &str, random: &mut fastrand::Rng) -> bool {
    let x = noise(&shape(graph), random);
    let found = derivative::<f64>(graph, &x);
    let single = derivative::<f32>(graph, &x);
    let size = |xs: &[f64]| xs.iter().map(|x| x * x).sum::<f64>().sqrt();
    let apart: Vec<f64> = found.iter().zip(&single).map(|(a, b)| a - b).collect();
    let mut smooth = true;
    for _ in 0..DIRECTIONS {
        let direction = noise(x.shape(), random);
        let at = |step: f64| sum(graph, &(&x + &(&direction * step)));
        let (before, here, after) = (at(-STEP), at(0.0), at(STEP));
        let (left, right) = ((here - before) / STEP, (after - here) / STEP);
        let along: f64 = found.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let scale = size(&found) * size(direction.as_slice().unwrap()) + 1e-3;
        if (left - right).abs() > 1e-3 * scale {
            smooth = false;
            continue;
        }
        let expected = (left + right) / 2.0;
        assert!(
            (along - expected).abs() <= 1e-4 * scale,
            "{what}: {along} along a direction, {expected} by differences\n{graph}"
        );
    }
    assert!(
        !smooth || size(&apart) <= 1e-3 * size(&found) + 1e-4,
        "{what}: single precision is {} off\n{graph}",
        size(&apart)
    );
    smooth
}

#[test]
fn every_operator_has_the_gradient_that_differences_have() {
    let mut random = fastrand::Rng::with_seed(1);
    for name in Op::NAMES {
        let graphs = forms(name);
        let compared = graphs
            .iter()
            .filter(|graph| compare(graph, name, &mut random))
            .count();
        assert!(
            2 * compared >= graphs.len() && compared > 0,
            "{name}: {compared} of {} forms could be compared",
            graphs.len()
        );
    }
}

#[test]
fn a_target_inside_counts_beside_the_output() {
    let text = "
        graph net(%x: f32[N,2]) {
          %a = sin(%x)
          %b = exp(%a)
          return %b
        }";
    let graph: Graph = text.parse().unwrap();
    let a = Value::from(graph.find("a").unwrap());
    let b = Value::from(graph.find("b").unwrap());
    let gradient = Gradient::<f64>::new(&graph, &[a, b]).unwrap();
    let x = ArrayD::from_shape_vec(vec![1, 2], vec![0.3, -0.4]).unwrap();
    let run = gradient.run(x.clone().into_shared()).unwrap();
    // 3 sin(x) + exp(sin(x)).
    let back = gradient.back(run, &|value, _, adjoint| {
        let weight = if value == a { 3.0 } else { 1.0 };
        adjoint.iter_mut().for_each(|adjoint| *adjoint += weight);
    });
    for (found, x) in back.unwrap().into_iter().zip(&x) {
        let expected = x.cos() * (3.0 + x.sin().exp());
        assert!((found - expected).abs() < 1e-12);
    }
}

#[test]
fn what_has_no_gradient_says_so() {
    let refused = |text: &str| {
        let graph: Graph = text.parse().unwrap();
        let out = graph.outputs()[0].value;
        Gradient::<f32>::new(&graph, &[out])
            .err()
            .unwrap()
            .to_string()
    };
    let cast = refused(
        "graph net(%x: f32[N,2]) {
          %a = cast(%x) {dtype=i64}
          return %a
        }",
    );
    assert!(cast.contains("`a`") || cast.contains("a:"), "{cast}");
    assert!(cast.contains("a cast to i64 has no gradient"), "{cast}");
    assert_eq!(Bindings::new().len(), 0);
}
