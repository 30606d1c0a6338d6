//! Each operator against loops that are too simple to be wrong, in double precision.
//!
//! [`run`] also holds the result's shape against shape inference, and the same computation in `f32` against `f64`; with the
//! feature `torch`, libtorch's result too.

mod comparison;
mod convolution;
mod dense;
mod elementwise;
#[cfg(feature = "torch")]
mod libtorch;
mod movement;
mod windows;

use ndarray::{ArrayD, Dimension, IxDyn};
use optc::exec::{Array, evaluate};
use optc::ir::{Bindings, DType, Dim, Op, Real, Type};

/// An operator from its text form's name and attributes.
fn op(name: &str, attributes: &[(&str, &str)]) -> Op {
    let mut attributes = attributes
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    Op::parse(name, &mut attributes).unwrap()
}

/// Elements that look random and are the same on every run.
fn noise(shape: &[usize]) -> ArrayD<f64> {
    let mut state = shape.iter().fold(0x9e3779b97f4a7c15u64, |s, n| {
        s.wrapping_mul(31).wrapping_add(*n as u64)
    });
    ArrayD::from_shape_simple_fn(shape, || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    })
}

fn cast<T: Real>(x: &ArrayD<f64>) -> Array<'static, T> {
    x.mapv(T::from_f64).into()
}

fn run(op: &Op, operands: &[&ArrayD<f64>]) -> ArrayD<f64> {
    let double = evaluate(
        op,
        operands.iter().map(|x| cast::<f64>(x)),
        &Bindings::new(),
    )
    .unwrap_or_else(|e| panic!("{op:?}: {e}"))
    .into_owned();
    let types: Vec<Type> = operands
        .iter()
        .map(|x| Type::tensor(DType::F64, x.shape().iter().map(|n| Dim::from(*n))))
        .collect();
    let inferred = optc::ir::infer::infer(op, &types.iter().collect::<Vec<_>>()).unwrap();
    let shape = Type::tensor(DType::F64, double.shape().iter().map(|n| Dim::from(*n)));
    assert_eq!(inferred[0].shape(), shape.shape(), "{op:?}");
    let single = evaluate(
        op,
        operands.iter().map(|x| cast::<f32>(x)),
        &Bindings::new(),
    )
    .unwrap();
    let scale = double.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (a, b) in double.iter().zip(single.view()) {
        assert!((a - f64::from(*b)).abs() <= 1e-4 * scale, "{op:?}: {a} {b}");
    }
    #[cfg(feature = "torch")]
    libtorch::assert_agrees(op, operands, &double);
    double
}

#[track_caller]
fn assert_close(found: &ArrayD<f64>, expected: &ArrayD<f64>) {
    assert_eq!(found.shape(), expected.shape());
    for (i, e) in expected.indexed_iter() {
        let f = found[&i];
        assert!(
            (f - e).abs() <= 1e-12 * e.abs().max(1.0),
            "{i:?}: {f} instead of {e}"
        );
    }
}

fn array(shape: &[usize], elements: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(shape, elements.to_vec()).unwrap()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let conv = [
        ("stride", "[1,1]"),
        ("pad", "[1,1]"),
        ("dilation", "[1,1]"),
        ("groups", "1"),
    ];
    let cases = [
        (
            op("conv", &conv),
            vec![vec![1, 48, 40, 40], vec![70, 48, 3, 3]],
        ),
        (
            op("conv", &conv),
            vec![vec![9, 3, 20, 20], vec![8, 3, 3, 3]],
        ),
        (op("linear", &[]), vec![vec![1, 1000], vec![1001, 1000]]),
        (op("matmul", &[]), vec![vec![333, 257], vec![257, 1003]]),
        (
            op("mean", &[("axes", "[1]"), ("keep", "true")]),
            vec![vec![300, 700]],
        ),
        (op("softmax", &[("axis", "1")]), vec![vec![300, 700]]),
    ];
    for (op, shapes) in cases {
        let operands: Vec<_> = shapes.iter().map(|shape| noise(shape)).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let operands = operands.iter().map(cast::<f32>);
                evaluate(&op, operands, &Bindings::new())
                    .unwrap()
                    .into_owned()
            })
        };
        assert_eq!(on(1), on(3), "{op:?}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_not_a_panic() {
    let x = noise(&[1, 2, 3]);
    let empty = ArrayD::zeros(vec![0]);
    let no_positions = ArrayD::zeros(vec![1, 2, 0]);
    let scalar = ArrayD::zeros(vec![]);
    let huge = "[9223372036854775807,9223372036854775807]";
    let attributes: &[&[(&str, &str)]] = &[
        &[],
        &[
            ("axis", "9"),
            ("axes", "[9]"),
            ("keep", "true"),
            ("start", "5"),
            ("end", "1"),
            ("step", "0"),
        ],
        &[
            ("axis", "0"),
            ("axes", "[0,0]"),
            ("keep", "false"),
            ("start", "0"),
            ("end", "1"),
            ("step", "18446744073709551615"),
        ],
        &[
            ("shape", huge),
            ("size", huge),
            ("output", huge),
            ("perm", "[0,0]"),
            ("index", "[7]"),
            ("axis", "1"),
        ],
        &[
            ("shape", "[-1]"),
            ("size", "[-1]"),
            ("output", "[-1]"),
            ("before", huge),
            ("after", huge),
            ("mode", "circular"),
            ("value", "0.0"),
        ],
        &[
            ("kernel", huge),
            ("stride", huge),
            ("pad", huge),
            ("dilation", huge),
            ("groups", "0"),
            ("output_pad", huge),
            ("ceil", "true"),
            ("count_pad", "true"),
        ],
        &[
            ("kernel", "[0]"),
            ("stride", "[0]"),
            ("pad", "[1]"),
            ("dilation", "[0]"),
            ("groups", "3"),
            ("output_pad", "[0]"),
            ("ceil", "true"),
            ("count_pad", "true"),
        ],
        &[
            ("kernel", "[1]"),
            ("stride", "[1]"),
            ("pad", "[1000000000000]"),
            ("dilation", "[1]"),
            ("groups", "1"),
            ("output_pad", "[1000000000000]"),
            ("ceil", "true"),
            ("count_pad", "true"),
        ],
        &[
            ("groups", "0"),
            ("axes", "7"),
            ("eps", "0.0"),
            ("axis", "2"),
            ("index", "[]"),
            ("size", "[0]"),
            ("mode", "linear"),
            ("output", "[0]"),
        ],
        &[
            ("axes", "[0]"),
            ("keep", "true"),
            ("before", "[1]"),
            ("after", "[-9]"),
            ("mode", "reflect"),
            ("value", "0.0"),
            ("shape", "[]"),
        ],
    ];
    for name in Op::NAMES {
        for attributes in attributes {
            let mut map = attributes
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            let Ok(op) = Op::parse(name, &mut map) else {
                continue;
            };
            for x in [&x, &empty, &no_positions, &scalar] {
                for count in 0..6 {
                    let operands = (0..count).map(|_| cast::<f64>(x));
                    let _ = evaluate(&op, operands, &Bindings::new());
                }
            }
        }
    }
}
