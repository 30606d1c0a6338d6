//! The time that each stage of `red{hash=kernel}` takes on a network of ResNet-50's shape, with random weights.
//!
//!     cargo bench --bench stages kernels
//!
//! The images are small, 64x64, as they matter only where samples are run; the weights are all there.

use std::sync::{Arc, LazyLock};

use divan::Bencher;
use faer::Mat;
use ndarray::ArrayD;
use optc::analysis::calibration::{MOST_JOINT, patch_moments};
use optc::analysis::elimination::{Criterion, eliminate};
use optc::analysis::kernels::{KernelLayout, PatchMoment, Spectrum};
use optc::data::Samples;
use optc::egraph::{Bounds, saturate};
use optc::ir::{Constant, DType, Dim, Graph, Ints, NodeId, Op, Padding, Role, Tensor, Type};
use optc::passes::rules::SeparateDepthwise;
use optc::pipeline::{Cost, RunOptions, Verify};
use optc::{Model, Pipeline};

const SIDE: usize = 64;
const SAMPLES: usize = 8;

/// All kernels of a 3x3 convolution.
const FULL: usize = 9;

/// The network with its batch norms folded, as the later stages get it.
static FOLDED: LazyLock<Model> = LazyLock::new(|| {
    let mut model = resnet50(FULL);
    run("fold-batch-norm", &mut model, false);
    model
});

/// ResNet-50, whose 3x3 convolutions have so many independent kernels for each input channel.
fn resnet50(kernels: usize) -> Model {
    let mut graph = Graph::new("resnet50");
    let shape = [Dim::symbol("N"), 3.into(), SIDE.into(), SIDE.into()];
    let mut x = graph.add_input("x", Type::tensor(DType::F32, shape));
    graph.bindings.insert("N".into(), 1);
    let mut net = Builder {
        graph,
        random: fastrand::Rng::with_seed(0),
        kernels,
    };
    x = net.conv(x, [3, 64], 7, 2);
    x = net.op(Op::Relu {}, &[x]);
    let mut inputs = 64;
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..blocks {
            // The first stage halves the image here, in place of the pool before it.
            let stride = if block == 0 { 2 } else { 1 };
            let mut y = net.conv(x, [inputs, width], 1, 1);
            y = net.op(Op::Relu {}, &[y]);
            y = net.conv(y, [width, width], 3, stride);
            y = net.op(Op::Relu {}, &[y]);
            y = net.conv(y, [width, 4 * width], 1, 1);
            if block == 0 {
                x = net.conv(x, [inputs, 4 * width], 1, stride);
            }
            x = net.op(Op::Add {}, &[x, y]);
            x = net.op(Op::Relu {}, &[x]);
            inputs = 4 * width;
        }
    }
    net.graph.add_output("y", x.into());
    Model::new(net.graph)
}

struct Builder {
    graph: Graph,
    random: fastrand::Rng,
    kernels: usize,
}

impl Builder {
    fn op(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        let operands: Vec<_> = operands.iter().map(|node| (*node).into()).collect();
        let node = self.graph.add_op(op.name(), op.clone(), &operands);
        node.expect("operands that fit")
    }

    /// Of a variance of 1.
    fn uniform(&mut self) -> f32 {
        (self.random.f32() - 0.5) * 12f32.sqrt()
    }

    fn constant(&mut self, name: &str, shape: &[usize], elements: Vec<f32>) -> NodeId {
        let constant = Constant::new(Tensor::from_vec(shape, elements), Role::Parameter);
        self.graph.add_constant(name, constant)
    }

    /// A convolution and its batch norm.
    fn conv(
        &mut self,
        x: NodeId,
        [inputs, outputs]: [usize; 2],
        k: usize,
        stride: usize,
    ) -> NodeId {
        let taps = k * k;
        let rank = if k == 3 { self.kernels.min(taps) } else { taps };
        let scale = 1.0 / ((inputs * taps) as f32).sqrt();
        let mut weight = vec![0.0; outputs * inputs * taps];
        for input in 0..inputs {
            let kernels: Vec<f32> = (0..rank * taps).map(|_| self.uniform()).collect();
            for output in 0..outputs {
                let to = &mut weight[(output * inputs + input) * taps..][..taps];
                for kernel in kernels.chunks(taps) {
                    let by = scale * self.uniform() / (rank as f32).sqrt();
                    to.iter_mut().zip(kernel).for_each(|(w, k)| *w += by * k);
                }
            }
        }
        let weight = self.constant("conv.weight", &[outputs, inputs, k, k], weight);
        let op = Op::Conv {
            stride: Ints::from_elem(stride, 2),
            pad: Padding::symmetric(Ints::from_elem(k / 2, 2)),
            dilation: Ints::from_elem(1, 2),
            groups: 1,
        };
        let conv = self.op(op, &[x, weight]);
        let mut vector = |name: &str, middle: f32| {
            let elements = (0..outputs).map(|_| middle + 0.2 * self.uniform());
            let elements = elements.collect();
            self.constant(name, &[outputs], elements)
        };
        let names = ["weight", "bias", "running_mean", "running_var"];
        let [weight, bias, mean, variance] =
            std::array::from_fn(|i| vector(&format!("bn.{}", names[i]), [1.0, 0.0, 0.0, 1.0][i]));
        self.op(
            Op::BatchNorm { eps: 1e-5.into() },
            &[conv, weight, bias, mean, variance],
        )
    }
}

fn samples() -> ArrayD<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    ArrayD::from_shape_simple_fn(vec![SAMPLES, 3, SIDE, SIDE], || random.f32() - 0.5)
}

/// The convolutions that have kernels, in topological order.
fn layers(graph: &Graph) -> Vec<(NodeId, KernelLayout)> {
    let layout = |node: NodeId| {
        let op = graph.op(node)?;
        let weight = graph.constant(graph.operands(node).get(1)?.node)?;
        Some((node, KernelLayout::of(op, weight.tensor.shape())?))
    };
    let order = graph.topological_order().expect("no cycle");
    order.into_iter().filter_map(layout).collect()
}

fn run(pipeline: &str, model: &mut Model, with_samples: bool) {
    let options = RunOptions {
        verify: Verify::Nothing,
        samples: with_samples.then(|| Arc::new(Samples::of_array("random", &samples()))),
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse(pipeline).expect("a pipeline");
    pipeline
        .run_with(model, &options, &mut ())
        .unwrap_or_else(|error| panic!("{error}"));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn fold_batch_norm(bencher: Bencher) {
    bencher
        .with_inputs(|| resnet50(FULL))
        .bench_local_values(|mut model| run("fold-batch-norm", &mut model, false));
}

/// Running the samples and adding up what each layer reads.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn measure_samples(bencher: Bencher) {
    let samples = Samples::of_array("random", &samples()).into();
    let graph = &FOLDED.graph;
    let layers = layers(graph);
    bencher.bench_local(|| {
        patch_moments(graph, &layers, MOST_JOINT, &samples, &mut |_, _| Ok(()))
            .unwrap_or_else(|error| panic!("{error}"))
    });
}

/// The decompositions of all channels of all layers, on one thread.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn decompose_kernels(bencher: Bencher) {
    let graph = &FOLDED.graph;
    let channels: Vec<(Mat<f64>, PatchMoment)> = layers(graph)
        .iter()
        .flat_map(|(node, layout)| {
            let weight = graph.constant(graph.operands(*node)[1].node);
            let weight = weight.expect("a constant").tensor.elements::<f64>();
            let side = layout.taps.isqrt();
            let moment = PatchMoment::correlated(1.0, 0.25, &[side, side]);
            let channels = 0..layout.inputs;
            let channels = channels.map(|c| (layout.matrix(&weight, c), moment.clone()));
            channels.collect::<Vec<_>>()
        })
        .collect();
    bencher.bench_local(|| {
        let spectra = channels
            .iter()
            .map(|(matrix, moment)| Spectrum::of(matrix, moment));
        spectra.collect::<Option<Vec<_>>>()
    });
}

/// All kernels of a layer ranked together: of 64 and of 128 channels of 3x3, the largest that is.
#[divan::bench(args = [576, 1152], sample_count = 3, sample_size = 1)]
fn rank_kernels(bencher: Bencher, features: usize) {
    let mut random = fastrand::Rng::with_seed(0);
    let mut uniform = || random.f64() - 0.5;
    let half = Mat::from_fn(features, features, |_, _| uniform());
    let gram = &half * half.transpose() + Mat::<f64>::identity(features, features);
    let weight = Mat::from_fn(features / 9, features, |_, _| uniform());
    bencher.bench_local(|| {
        eliminate(&gram, &weight, Criterion::Backward, gram.nrows()).expect("finite numbers")
    });
}

/// Saturation that separates every 3x3 convolution, of two kernels a channel.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn separate(bencher: Bencher) {
    let mut model = resnet50(2);
    run("fold-batch-norm", &mut model, false);
    bencher.bench_local(|| {
        saturate(
            &model.graph,
            &[&SeparateDepthwise],
            &Cost::Macs,
            Bounds::default(),
        )
        .unwrap_or_else(|error| panic!("{error}"))
        .graph
        .expect("a cheaper graph")
    });
}

/// All of it, without data; on samples; on samples and then fitted to them.
#[divan::bench(
    args = [("flops=0.8", false), ("flops=0.8,refit=false", true), ("flops=0.8", true)].map(|(options, data)| Whole { options, data }),
    sample_count = 1,
    sample_size = 1
)]
fn whole(bencher: Bencher, Whole { options, data }: &Whole) {
    bencher
        .with_inputs(|| resnet50(FULL))
        .bench_local_values(|mut model| {
            run(&format!("red{{hash=kernel,{options}}}"), &mut model, *data);
        });
}

struct Whole {
    options: &'static str,
    data: bool,
}

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = if self.data { " on samples" } else { "" };
        write!(f, "{}{data}", self.options)
    }
}
