use std::sync::Arc;

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::flow::{Flow, Moved, Scope, count};
use super::layers::Layer;
use crate::ir::{Graph, Mask};
use crate::random::random;

/// Layers of so many weights, normal but for the tails, each layer of a deviation of its own.
fn layers(sizes: &[usize]) -> Vec<Layer> {
    let layer = |(position, size): (usize, &usize)| {
        let mut rng = random(&[7, position as u64]);
        let normal = (0..*size).map(|_| (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0);
        let values = normal.map(|x| x * (position + 1) as f32).collect();
        let name = Arc::from(format!("layer{position}.weight"));
        Layer::new(
            position as u64,
            Graph::new("net").add_input("x", any_type()),
            name,
            values,
        )
    };
    sizes.iter().enumerate().map(layer).collect()
}

fn any_type() -> crate::ir::Type {
    crate::ir::Type::Tensor(crate::ir::DType::F32, None)
}

fn flow(sparsity: f64, p_out: f64, p_in: Option<f64>) -> Flow {
    Flow::new(sparsity, p_out, p_in, Scope::Global).unwrap()
}

fn sparsity(layers: &[Layer]) -> f64 {
    let (all, pruned) = count(layers);
    pruned as f64 / all as f64
}

fn masks(layers: &[Layer]) -> Vec<Mask> {
    layers.iter().map(|layer| layer.mask.clone()).collect()
}

#[test]
fn the_flow_comes_to_rest_at_the_target() {
    for (target, p_out, p_in) in [
        (0.93, 0.5, None),
        (0.93, 0.5, Some(0.0)),
        (0.93, 1.0, Some(0.07)),
        (0.5, 0.3, Some(0.3)),
        (0.99, 0.5, None),
    ] {
        let flow = flow(target, p_out, p_in);
        let mut layers = layers(&[60_000, 30_000, 10_000]);
        let mut expected = 0.0;
        for step in 1..=30 {
            expected = flow.expected(expected);
            flow.step(&mut layers, 0, step).unwrap();
            // A standard deviation of what is drawn is below 0.0016.
            let off = sparsity(&layers) - expected;
            assert!(off.abs() < 0.008, "{flow:?} is off by {off} at step {step}");
        }
        assert!(
            (expected - target).abs() < 1e-4,
            "{flow:?} flows to {expected}"
        );
    }
}

#[test]
fn a_p_in_that_is_too_large_is_refused_with_the_largest() {
    let largest = 0.5 * (1.0 - 0.93) / 0.93;
    flow(0.93, 0.5, Some(largest));
    flow(0.93, 0.5, Some(0.037634));
    let error = Flow::new(0.93, 0.5, Some(0.04), Scope::Global).unwrap_err();
    assert_eq!(
        error.to_string(),
        "with p_in=0.04 so many weights return that p_out=0.5 cannot bring the sparsity to 0.93\n  \
         the largest p_in is p_out (1 - sparsity) / sparsity, here 0.037634"
    );
}

#[test]
fn what_returns_has_the_value_with_which_it_left() {
    let mut layers = layers(&[1000, 500]);
    let before = layers.clone();
    let flow = flow(0.6, 0.8, None);
    let mut returned = 0;
    for step in 0..10 {
        // Training moves what is kept.
        for (layer, before) in layers.iter_mut().zip(&before) {
            for i in 0..layer.len() {
                if layer.mask.keeps(i) {
                    layer.values[i] = before.values[i] + step as f32;
                }
            }
        }
        let values: Vec<Vec<f32>> = layers.iter().map(|layer| layer.values.clone()).collect();
        returned += flow.step(&mut layers, 3, step).unwrap().returned;
        // Nothing but masks changes, so a weight that left at some step still has the value of that step.
        assert!(
            layers
                .iter()
                .zip(&values)
                .all(|(layer, values)| layer.values == *values)
        );
    }
    assert!(returned > 100, "{returned} returned");
}

#[test]
fn only_weights_pruned_before_the_step_return() {
    let mut layers = layers(&[10_000]);
    let flow = flow(0.5, 0.9, Some(0.9)); // All are unimportant.
    let moved = flow.step(&mut layers, 0, 1).unwrap();
    assert_eq!((moved.left, moved.returned), (layers[0].pruned(), 0));
    assert!((8_900..9_100).contains(&moved.left));
}

#[test]
fn certainty_is_magnitude_pruning() {
    let mut layers = layers(&[900, 100]);
    let flow = flow(0.75, 1.0, Some(0.0));
    let moved = flow.step(&mut layers, 0, 1).unwrap();
    assert_eq!(
        moved,
        Moved {
            left: 750,
            returned: 0
        }
    );
    let importance = |kept: bool| {
        let of = |layer: &Layer| {
            let ones = (0..layer.len()).filter(|i| layer.mask.keeps(*i) == kept);
            ones.map(|i| layer.importance(i)).collect::<Vec<_>>()
        };
        layers.iter().flat_map(of).collect::<Vec<_>>()
    };
    let least_kept = importance(true).into_iter().fold(f32::INFINITY, f32::min);
    assert!(importance(false).iter().all(|pruned| *pruned <= least_kept));
    // Deviations are divided out, so both layers lose about as much.
    assert!((0.7..0.8).contains(&(layers[1].pruned() as f64 / 100.0)));
    // It has arrived, and stays.
    assert_eq!(flow.step(&mut layers, 0, 2).unwrap(), Moved::default());
    assert_eq!(flow.trim(&mut layers).unwrap(), Moved::default());
}

#[test]
fn a_ramp_ends_at_the_target() {
    let whole = flow(0.9, 1.0, Some(0.0));
    let mut layers = layers(&[1000]);
    let mut before = 0.0;
    for step in 1..=5 {
        whole
            .ramped(step as f64 / 5.0)
            .step(&mut layers, 0, step)
            .unwrap();
        assert!(sparsity(&layers) > before);
        before = sparsity(&layers);
    }
    assert_eq!(layers[0].pruned(), 900);
}

#[test]
fn each_layer_by_itself_gets_the_same_sparsity() {
    let mut layers = layers(&[1000, 200]);
    // As important as it gets, were it ranked over the network.
    layers[1].values.iter_mut().for_each(|value| *value += 1e3);
    let flow = Flow::new(0.9, 0.5, None, Scope::Layer).unwrap();
    flow.step(&mut layers, 0, 1).unwrap();
    flow.trim(&mut layers).unwrap();
    assert_eq!([layers[0].pruned(), layers[1].pruned()], [900, 180]);
}

#[test]
fn equal_weights_leave_in_order() {
    let mut layers = layers(&[100, 50]);
    for layer in &mut layers {
        layer.values.fill(1.0);
    }
    layers[0] = Layer::new(0, layers[0].node, layers[0].name.clone(), vec![1.0; 100]);
    layers[1] = Layer::new(1, layers[1].node, layers[1].name.clone(), vec![1.0; 50]);
    flow(0.5, 1.0, Some(0.0)).trim(&mut layers).unwrap();
    assert_eq!(layers[0].mask, Mask::from_fn(100, |i| i >= 75));
    assert_eq!(layers[1].pruned(), 0);
}

#[test]
fn what_was_masked_before_stays_so_and_counts() {
    let mut layers = layers(&[1000]);
    let held = Mask::from_fn(1000, |i| i % 2 == 0);
    (layers[0].mask, layers[0].free) = (held.clone(), held.clone());
    let flow = flow(0.6, 0.9, Some(0.5));
    for step in 0..20 {
        flow.step(&mut layers, 0, step).unwrap();
        assert!((0..1000).all(|i| held.keeps(i) || !layers[0].mask.keeps(i)));
    }
    flow.trim(&mut layers).unwrap();
    assert_eq!(layers[0].pruned(), 600);
}

#[test]
fn a_layer_is_not_emptied() {
    let refused = |sparsity, scope, layers: &mut [Layer]| {
        let flow = Flow::new(sparsity, 1.0, Some(0.0), scope).unwrap();
        let before = masks(layers);
        let checked = flow.check(layers);
        let error = checked.and_then(|()| flow.step(layers, 0, 1).map(|_| ()));
        assert_eq!(
            masks(layers),
            before,
            "a refused step has changed something"
        );
        error.unwrap_err().to_string()
    };
    let mut layers = layers(&[1000, 20]);
    let mut text = vec![
        refused(1.0, Scope::Global, &mut layers),
        refused(0.98, Scope::Layer, &mut layers),
    ];
    layers[1].values.fill(0.0);
    text.push(refused(0.5, Scope::Global, &mut layers));
    let global =
        "take a smaller one, a smaller p_in, or scope=layer, which prunes all layers alike";
    let layer =
        "take a smaller one, a smaller p_in, or scope=global, which spares the important weights";
    let nothing = "nothing is left of the 20 weights of `layer1.weight`";
    let expected = [
        format!("on the way to a sparsity of 1 {nothing}\n  {global}"),
        format!("on the way to a sparsity of 0.98 {nothing}\n  {layer}"),
        format!("on the way to a sparsity of 0.5 {nothing}\n  {global}"),
    ];
    assert_eq!(text, expected);
}

#[test]
fn kernels_are_pruned_and_nothing_else() {
    let text = "graph net(%x: f32[N,3,8,8]) {
  @conv.weight = parameter normal(1) : f32[8,3,3,3]
  @conv.bias = parameter normal(2) : f32[8]
  @bn.weight = parameter uniform(2, 0.5, 1.5) : f32[8]
  @bn.bias = parameter normal(3) : f32[8]
  @bn.running_mean = buffer normal(4) : f32[8]
  @bn.running_var = buffer uniform(5, 0.5, 1.5) : f32[8]
  @square = parameter normal(6) : f32[8,8]
  @frozen = literal normal(7) : f32[8,8]
  @fc.weight = parameter normal(6) : f32[3,8]
  @fc.bias = parameter normal(7) : f32[3]
  %conv = conv(%x, @conv.weight, @conv.bias) {pad=[1,1]}
  %bn = batch_norm(%conv, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var)
  %pool = mean(%bn) {axes=[2,3], keep=false}
  %a = linear(%pool, @square)
  %b = matmul(%a, @square)
  %c = linear(%b, @frozen)
  %fc = linear(%c, @fc.weight, @fc.bias)
  return %fc
}";
    let mut graph: Graph = text.parse().unwrap();
    let (mut layers, others) = Layer::all(&graph);
    let names: Vec<&str> = layers.iter().map(|layer| &*layer.name).collect();
    assert_eq!(names, ["conv.weight", "fc.weight"]);
    let others: Vec<String> = others
        .iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    let expected = [
        "square: not pruned: it is read as something else than a kernel too",
        "frozen: not pruned: it is no trained parameter",
    ];
    assert_eq!(others, expected);
    // What is written is zero where it is pruned; what returns is as it was.
    flow(0.5, 1.0, Some(0.0)).trim(&mut layers).unwrap();
    let before = graph.clone();
    for layer in &layers {
        layer.write(&mut graph);
        let elements = |graph: &Graph| {
            graph
                .constant(layer.node)
                .unwrap()
                .tensor
                .elements::<f32>()
                .into_owned()
        };
        for (i, (then, now)) in elements(&before).iter().zip(elements(&graph)).enumerate() {
            assert_eq!(now, if layer.mask.keeps(i) { *then } else { 0.0 });
        }
        assert_eq!(graph.mask(layer.node), Some(&layer.mask));
    }
    for layer in &mut layers {
        layer.read(&graph);
        layer.mask = layer.free.clone();
        layer.write(&mut graph);
        assert_eq!(
            graph.constant(layer.node).unwrap().tensor,
            before.constant(layer.node).unwrap().tensor
        );
    }
}

#[test]
fn layers_come_back_from_what_was_saved() {
    let mut layers = layers(&[300, 200]);
    let saved: Vec<_> = {
        let mut pruned = layers.clone();
        flow(0.5, 0.5, None).step(&mut pruned, 0, 1).unwrap();
        pruned[0].values[3] = 4.0;
        pruned.iter().flat_map(Layer::tensors).collect()
    };
    for layer in &mut layers {
        let find = |name: &str| {
            saved
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, tensor)| tensor)
        };
        layer.restore(find).unwrap();
        assert_eq!(
            layer.restore(|_| None),
            Err(format!("values/{}", layer.name))
        );
    }
    let again: Vec<_> = layers.iter().flat_map(Layer::tensors).collect();
    assert_eq!(again, saved);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any sizes, probabilities and number of steps: exactly the target in the end, and the same on any number of threads.
    #[test]
    fn it_ends_exactly_at_the_target_on_any_number_of_threads(
        sizes in prop::collection::vec(50usize..400, 1..5),
        target in 0.0..0.9f64,
        p_out in 0.05..1.0f64,
        fraction in 0.0..=1.0f64,
        steps in 1u64..8,
        seed: u64,
    ) {
        let largest = (p_out * (1.0 - target) / target).min(1.0);
        let flow = flow(target, p_out, Some(fraction * largest));
        let run = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut layers = layers(&sizes);
                for step in 0..steps {
                    flow.step(&mut layers, seed, step)?;
                }
                flow.trim(&mut layers)?;
                Ok(masks(&layers))
            })
        };
        let run = |threads| run(threads).map_err(|error: crate::Error| error.to_string());
        let one = run(1);
        prop_assert_eq!(&one, &run(4));
        // A small layer is emptied now and then, and refused.
        if let Ok(masks) = one {
            let all: usize = sizes.iter().sum();
            let pruned = all - masks.iter().map(Mask::count).sum::<usize>();
            prop_assert_eq!(pruned, (target * all as f64).round() as usize);
        }
    }

    /// A step leaves alone what is important, and counts what it moves.
    #[test]
    fn a_step_spares_the_important(target in 0.1..0.95f64, p_out in 0.05..1.0f64, seed: u64) {
        let flow = flow(target, p_out, None);
        let mut layers = layers(&[2000]);
        let important = layers[0].values.iter().map(|value| value.abs());
        let mut sorted: Vec<f32> = important.collect();
        sorted.sort_by(f32::total_cmp);
        let least_important = sorted[((flow.unimportant() * 2000.0).round() as usize).min(1999)];
        let moved = flow.step(&mut layers, seed, 1).unwrap();
        prop_assert_eq!(moved, Moved { left: layers[0].pruned(), returned: 0 });
        for i in 0..2000 {
            let is_important = layers[0].values[i].abs() > least_important;
            prop_assert!(layers[0].mask.keeps(i) || !is_important);
        }
    }
}
