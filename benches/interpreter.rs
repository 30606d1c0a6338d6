//! The reference interpreter: convolutions in multiply-adds a second, other operators in elements a second.

use divan::Bencher;
use divan::counter::ItemsCount;
use ndarray::ArrayD;
use optc::exec::{Array, evaluate};
use optc::ir::{Bindings, Op, Padding};
use smallvec::smallvec;

fn main() {
    divan::main();
}

/// A convolution of ResNet-50 or MobileNetV2.
#[derive(Debug)]
struct Layer {
    channels: usize,
    features: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

const LAYERS: &[Layer] = &[
    layer(3, 64, 224, 7, 2, 1),
    layer(64, 256, 56, 1, 1, 1),
    layer(64, 64, 56, 3, 1, 1),
    layer(256, 512, 56, 1, 2, 1),
    layer(128, 128, 28, 3, 1, 1),
    layer(512, 512, 7, 3, 1, 1),
    layer(512, 2048, 7, 1, 1, 1),
    layer(144, 144, 56, 3, 1, 144),
    layer(128, 128, 56, 3, 1, 32),
];

const fn layer(
    channels: usize,
    features: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Layer {
    Layer {
        channels,
        features,
        side,
        kernel,
        stride,
        groups,
    }
}

fn ones(shape: &[usize]) -> Array<'static, f32> {
    ArrayD::from_elem(shape, 1.0).into()
}

#[divan::bench(args = LAYERS)]
fn conv(bencher: Bencher, layer: &Layer) {
    let Layer {
        channels,
        features,
        side,
        kernel,
        stride,
        groups,
    } = *layer;
    let op = Op::Conv {
        stride: smallvec![stride, stride],
        pad: Padding::symmetric([kernel / 2, kernel / 2]),
        dilation: smallvec![1, 1],
        groups,
    };
    let x = ones(&[1, channels, side, side]);
    let w = ones(&[features, channels / groups, kernel, kernel]);
    let positions = (side / stride).pow(2);
    bencher
        .counter(ItemsCount::new(
            positions * features * channels / groups * kernel * kernel,
        ))
        .bench_local(|| evaluate(&op, [x.clone(), w.clone()], &Bindings::new()));
}

#[divan::bench(args = ["relu", "silu", "add", "softmax", "max_pool"])]
fn elements(bencher: Bencher, name: &str) {
    let op = match name {
        "relu" => Op::Relu {},
        "silu" => Op::Silu {},
        "add" => Op::Add {},
        "softmax" => Op::Softmax { axis: 1 },
        _ => Op::MaxPool {
            kernel: smallvec![3.into(), 3.into()],
            stride: smallvec![2.into(), 2.into()],
            pad: Padding::symmetric([1, 1]),
            dilation: smallvec![1, 1],
            ceil: false,
        },
    };
    let x = ones(&[1, 64, 112, 112]);
    let operands = vec![x; *op.arity().start()];
    bencher
        .counter(ItemsCount::new(64 * 112 * 112usize))
        .bench_local(|| evaluate(&op, operands.clone(), &Bindings::new()));
}
