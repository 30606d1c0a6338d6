//! libtorch as the judge: opens TorchScript files and measures how far apart two of them are.

use std::path::{Path, PathBuf};

use tch::{CModule, IValue, Kind, Tensor};

/// How far the outputs of two files are apart.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The largest |a - b| over the largest |a|, over all trials.
    pub max_rel: f64,
    /// The share of rows whose largest output is at the same place in both.
    pub argmax_agreement: f64,
}

/// A TorchScript file, opened by libtorch and run without gradients.
pub struct Network {
    module: CModule,
    path: PathBuf,
}

impl Network {
    /// Opens `path` on the CPU.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_path_buf();
        let mut module = CModule::load(&path)
            .unwrap_or_else(|error| panic!("libtorch does not open {}: {error}", path.display()));
        module.set_eval();
        Network { module, path }
    }

    /// The first tensor of the module's output.
    pub fn run(&self, input: &Tensor) -> Tensor {
        let output = tch::no_grad(|| {
            self.module
                .forward_is(&[IValue::Tensor(input.shallow_clone())])
        });
        let output = output.unwrap_or_else(|error| {
            panic!(
                "{} does not run on {:?}: {error}",
                self.path.display(),
                input.size()
            )
        });
        first_tensor(output).unwrap_or_else(|| panic!("{} returns no tensor", self.path.display()))
    }

    /// Names and shapes of the parameters (not the buffers, which libtorch's C interface does not list), by name.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        let named = self
            .module
            .named_parameters()
            .unwrap_or_else(|error| panic!("{} lists no parameters: {error}", self.path.display()));
        let mut shapes: Vec<_> = named
            .into_iter()
            .map(|(name, tensor)| (name, tensor.size()))
            .collect();
        shapes.sort();
        shapes
    }

    /// Multiplies the parameter `name` by `factor` and writes the module to `path`.
    pub fn save_scaled(&self, name: &str, factor: f64, path: &Path) {
        let named = self.module.named_parameters().expect("parameters");
        let (_, mut tensor) = named
            .into_iter()
            .find(|(other, _)| other == name)
            .unwrap_or_else(|| panic!("{} has no parameter {name}", self.path.display()));
        tch::no_grad(|| {
            let _ = tensor.g_mul_scalar_(factor);
        });
        self.module.save(path).expect("the module is written");
    }
}

fn first_tensor(value: IValue) -> Option<Tensor> {
    match value {
        IValue::Tensor(tensor) => Some(tensor),
        IValue::TensorList(list) => list.into_iter().next(),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            values.into_iter().find_map(first_tensor)
        }
        _ => None,
    }
}

/// Standard normal numbers, the same for the same seed. libtorch's own generator is one for all threads, and tests
/// run in several.
pub fn normal(shape: &[i64], seed: u64) -> Tensor {
    let mut state = seed;
    let mut uniform = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> = (0..count)
        .map(|_| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
        })
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Runs both files on `trials` normal inputs of `shape`. Panics if their outputs differ in shape or are not finite.
pub fn compare(before: &Path, after: &Path, shape: &[i64], trials: u64) -> Difference {
    let (before, after) = (Network::open(before), Network::open(after));
    let (mut worst, mut scale, mut same, mut rows) = (0f64, 0f64, 0, 0);
    for seed in 0..trials {
        let input = normal(shape, seed);
        let (a, b) = (before.run(&input), after.run(&input));
        assert_eq!(
            a.size(),
            b.size(),
            "output of {} on {shape:?}",
            after.path.display()
        );
        let finite = b.isfinite().all().int64_value(&[]) == 1;
        assert!(
            finite,
            "{} gives NaN or infinity on {shape:?}",
            after.path.display()
        );
        worst = worst.max((&a - &b).abs().max().double_value(&[]));
        scale = scale.max(a.abs().max().double_value(&[]));
        let batch = a.size().first().copied().unwrap_or(1);
        let place = |t: &Tensor| t.reshape([batch, -1]).argmax(1, false);
        same += place(&a)
            .eq_tensor(&place(&b))
            .sum(Kind::Int64)
            .int64_value(&[]);
        rows += batch;
    }
    Difference {
        max_rel: worst / scale.max(1e-12),
        argmax_agreement: same as f64 / rows as f64,
    }
}

/// Share of right answers on an `.npz` of images `x` (u8, scaled to [0, 1]) and classes `y`.
pub fn top1(network: &Network, data: &Path) -> f64 {
    let arrays = Tensor::read_npz(data)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", data.display()));
    let array = |name: &str| {
        let found = arrays.iter().find(|(other, _)| other == name);
        &found
            .unwrap_or_else(|| panic!("{} has no array {name}", data.display()))
            .1
    };
    let (x, y) = (array("x").to_kind(Kind::Float) / 255, array("y"));
    let right = network.run(&x).argmax(1, false).eq_tensor(y);
    right.sum(Kind::Double).double_value(&[]) / y.size()[0] as f64
}

/// A file of this repository.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of ../shared, a folder of real networks that not every checkout has beside it; the caller returns on None.
pub fn shared(path: &str) -> Option<PathBuf> {
    let file = here("../shared").join(path);
    if !file.exists() {
        eprintln!("skipped: no {}", file.display());
        return None;
    }
    Some(file)
}
