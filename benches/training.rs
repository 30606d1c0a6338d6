//! What a training step through the IR costs, beside the same network's step written by hand with tch.
//!
//!     source tests/libtorch.sh && OMP_NUM_THREADS=1 cargo bench --features torch --bench training
//!
//! A residual network of ResNet-20's size, batches of 128: forward, cross-entropy, backward, SGD with momentum and decay. Both
//! take turns, so that what else the machine does meets both; the ratio is the median of those of the turns.

use std::fmt::Write as _;
use std::time::Instant;

use optc::exec::Device;
use optc::exec::torch::{Mode, Network, Sgd};
use optc::ir::{DType, Graph};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Kind, Tensor};

const TURNS: usize = 15;
const BATCH: i64 = 128;
const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 1e-4;
const RATE: f64 = 0.01;

/// Channels read and made, and the stride, of each block of two convolutions.
fn blocks() -> impl Iterator<Item = [i64; 3]> {
    [[16, 16, 1], [16, 32, 2], [32, 64, 2]]
        .into_iter()
        .flat_map(|first @ [_, channels, _]| {
            [first, [channels, channels, 1], [channels, channels, 1]]
        })
}

/// The network in the IR's text form.
#[derive(Default)]
struct Text {
    constants: String,
    ops: String,
    seed: usize,
}

impl Text {
    fn constant(&mut self, name: &str, what: &str, shape: &[i64]) {
        self.seed += 1;
        let what = what.replace('#', &self.seed.to_string());
        let _ = writeln!(self.constants, "  @{name} = {what} : f32{shape:?}");
    }

    fn op(&mut self, name: &str, what: String) -> String {
        let _ = writeln!(self.ops, "  %{name} = {what}");
        name.to_string()
    }

    /// A convolution and its batch norm.
    fn conv(&mut self, x: &str, name: &str, [read, made, kernel, stride]: [i64; 4]) -> String {
        let (weight, pad) = (format!("{name}.weight"), kernel / 2);
        let bound = (6.0 / (read * kernel * kernel) as f64).sqrt();
        let random = format!("parameter uniform(#, -{bound}, {bound})");
        self.constant(&weight, &random, &[made, read, kernel, kernel]);
        let conv =
            format!("conv(%{x}, @{weight}) {{stride=[{stride},{stride}], pad=[{pad},{pad}]}}");
        let conv = self.op(&format!("{name}.conv"), conv);
        let mut operands = format!("%{conv}");
        for (part, what) in [
            ("scale", "parameter uniform(#, 0.99, 1)"),
            ("shift", "parameter uniform(#, 0, 0.01)"),
            ("mean", "buffer uniform(#, 0, 0.01)"),
            ("variance", "buffer uniform(#, 0.99, 1)"),
        ] {
            self.constant(&format!("{name}.{part}"), what, &[made]);
            let _ = write!(operands, ", @{name}.{part}");
        }
        self.op(name, format!("batch_norm({operands})"))
    }

    fn network(mut self) -> Graph {
        let x = self.conv("x", "stem", [3, 16, 3, 1]);
        let mut x = self.op("stem.relu", format!("relu(%{x})"));
        for (i, [read, made, stride]) in blocks().enumerate() {
            let a = self.conv(&x, &format!("b{i}.1"), [read, made, 3, stride]);
            let a = self.op(&format!("b{i}.relu"), format!("relu(%{a})"));
            let a = self.conv(&a, &format!("b{i}.2"), [made, made, 3, 1]);
            let shortcut = if read == made {
                x
            } else {
                self.conv(&x, &format!("b{i}.shortcut"), [read, made, 1, stride])
            };
            let sum = self.op(&format!("b{i}.sum"), format!("add(%{a}, %{shortcut})"));
            x = self.op(&format!("b{i}"), format!("relu(%{sum})"));
        }
        let pool = self.op("pool", format!("mean(%{x}) {{axes=[2,3], keep=false}}"));
        self.constant("fc.weight", "parameter uniform(#, -0.1, 0.1)", &[10, 64]);
        self.constant("fc.bias", "parameter uniform(#, 0, 0.01)", &[10]);
        let (constants, ops) = (&self.constants, &self.ops);
        let text = format!(
            "graph net(%x: f32[N,3,32,32]) {{\n{constants}{ops}  %fc = linear(%{pool}, @fc.weight, @fc.bias)\n  return %fc\n}}"
        );
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The network by hand.
fn by_hand(root: &nn::Path) -> impl ModuleT {
    let conv = |name: String, [read, made, kernel, stride]: [i64; 4]| {
        let config = nn::ConvConfig {
            stride,
            padding: kernel / 2,
            bias: false,
            ..Default::default()
        };
        let path = root / name;
        nn::seq_t()
            .add(nn::conv2d(&path / "conv", read, made, kernel, config))
            .add(nn::batch_norm2d(&path / "bn", made, Default::default()))
    };
    let mut net = nn::seq_t()
        .add(conv("stem".into(), [3, 16, 3, 1]))
        .add_fn(|x| x.relu());
    for (i, [read, made, stride]) in blocks().enumerate() {
        let first = conv(format!("{i}_1"), [read, made, 3, stride]);
        let second = conv(format!("{i}_2"), [made, made, 3, 1]);
        let shortcut = if read == made {
            nn::seq_t()
        } else {
            conv(format!("{i}_s"), [read, made, 1, stride])
        };
        net = net.add_fn_t(move |x, train| {
            let y = x.apply_t(&first, train).relu().apply_t(&second, train);
            (y + x.apply_t(&shortcut, train)).relu()
        });
    }
    net.add_fn(|x| x.mean_dim([2i64, 3].as_slice(), false, Kind::Float))
        .add(nn::linear(root / "fc", 64, 10, Default::default()))
}

fn main() {
    let cpu = tch::Device::Cpu;
    let images = Tensor::randn([BATCH, 3, 32, 32], (Kind::Float, cpu));
    let labels = Tensor::randint(10, [BATCH], (Kind::Int64, cpu));

    let network = Network::new(&Text::default().network(), Device::Cpu, DType::F32);
    let network = network.unwrap_or_else(|error| panic!("{error}"));
    let variables = network.parameters().map(|(_, w)| (w.shallow_clone(), None));
    let mut sgd = Sgd::new(MOMENTUM, false, DECAY, variables).expect("an optimiser");
    let mut ours = || {
        let mode = Mode::Training { seed: 0 };
        let answers = network.run(&[images.shallow_clone()], mode);
        let answers = answers.unwrap_or_else(|error| panic!("{error}"));
        answers[0].cross_entropy_for_logits(&labels).backward();
        sgd.step(RATE).expect("a step");
    };

    let store = nn::VarStore::new(cpu);
    let root = store.root();
    let model = by_hand(&root);
    let config = nn::sgd(MOMENTUM, 0.0, DECAY, false);
    let mut optimiser = config.build(&store, RATE).expect("an optimiser");
    let mut theirs = || {
        let answers = model.forward_t(&images, true);
        optimiser.backward_step(&answers.cross_entropy_for_logits(&labels));
    };

    let seconds = |step: &mut dyn FnMut()| {
        let start = Instant::now();
        step();
        start.elapsed().as_secs_f64()
    };
    ours();
    theirs();
    let mut turns: Vec<(f64, f64)> = (0..TURNS)
        .map(|_| (seconds(&mut ours), seconds(&mut theirs)))
        .collect();
    turns.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (ours, theirs) = turns[TURNS / 2];
    println!(
        "a step through the IR takes {:.3} times one by hand ({:.0} ms, {:.0} ms), in {TURNS} turns {:.3} to {:.3}",
        ours / theirs,
        1e3 * ours,
        1e3 * theirs,
        turns[0].0 / turns[0].1,
        turns[TURNS - 1].0 / turns[TURNS - 1].1,
    );
}
