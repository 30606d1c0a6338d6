//! Adaptive hashing of weights, in weights a second.

use divan::counter::ItemsCount;
use optc::ir::Tensor;
use optc::passes::red::hashing::hash_weights;

fn main() {
    divan::main();
}

/// Weights of a ResNet's 1x1 convolution, of its largest 3x3 convolution, and as many as ResNet-50 has.
#[divan::bench(args = [16_384, 2_359_296, 25_000_000])]
fn normal(bencher: divan::Bencher, weights: usize) {
    let mut random = fastrand::Rng::with_seed(0);
    let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
    let elements = (0..weights).map(|_| normal()).collect();
    let tensor = Tensor::from_vec(&[weights], elements);
    bencher
        .counter(ItemsCount::new(weights))
        .bench_local(|| hash_weights(divan::black_box(&tensor), 0.02));
}
