//! Each operator against loops that are too simple to be wrong, in double precision.
//!
//! [`run`] also holds the result's shape against shape inference, and the same computation in `f32` against `f64`.

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

mod convolution {
    use super::*;
    use proptest::prelude::*;

    /// Geometry of one spatial dimension.
    #[derive(Clone, Debug)]
    struct Axis {
        input: usize,
        kernel: usize,
        stride: usize,
        before: usize,
        after: usize,
        dilation: usize,
        output_pad: usize,
    }

    #[derive(Clone, Debug)]
    struct Case {
        images: usize,
        groups: usize,
        inputs: usize,
        outputs: usize,
        bias: bool,
        axes: Vec<Axis>,
    }

    fn case() -> impl Strategy<Value = Case> {
        let axis = (
            1..7usize,
            1..4usize,
            1..4usize,
            0..3usize,
            0..3usize,
            1..3usize,
            0..2usize,
        );
        let axis = axis.prop_map(
            |(input, kernel, stride, before, after, dilation, output_pad)| Axis {
                input,
                kernel,
                stride,
                before,
                after,
                dilation,
                output_pad: output_pad.min(stride.max(dilation) - 1),
            },
        );
        let axis = axis.prop_filter("the window fits", |a| {
            a.input + a.before + a.after > a.dilation * (a.kernel - 1)
        });
        let counts = (1..3usize, 1..4usize, 1..4usize, 1..4usize, any::<bool>());
        (counts, prop::collection::vec(axis, 1..4)).prop_map(
            |((images, groups, inputs, outputs, bias), axes)| Case {
                images,
                groups,
                inputs,
                outputs,
                bias,
                axes,
            },
        )
    }

    impl Case {
        fn list(&self, get: impl Fn(&Axis) -> usize) -> String {
            let items: Vec<_> = self.axes.iter().map(|a| get(a).to_string()).collect();
            format!("[{}]", items.join(","))
        }

        fn attributes(&self) -> Vec<(&'static str, String)> {
            let pad: Vec<_> = self
                .axes
                .iter()
                .map(|a| format!("{}:{}", a.before, a.after))
                .collect();
            vec![
                ("stride", self.list(|a| a.stride)),
                ("pad", format!("[{}]", pad.join(","))),
                ("dilation", self.list(|a| a.dilation)),
                ("groups", self.groups.to_string()),
                ("output_pad", self.list(|a| a.output_pad)),
            ]
        }

        fn op(&self, name: &str) -> Op {
            let mut attributes = self
                .attributes()
                .into_iter()
                .map(|(k, v)| (k.to_string(), v))
                .collect();
            Op::parse(name, &mut attributes).unwrap()
        }

        fn shape(&self, first: [usize; 2], get: impl Fn(&Axis) -> usize) -> Vec<usize> {
            first.into_iter().chain(self.axes.iter().map(get)).collect()
        }
    }

    /// Visits every pair of an output position and a tap, with the input position that both meet at, if it is inside.
    fn meet(
        case: &Case,
        outputs: &[usize],
        inputs: &[usize],
        mut visit: impl FnMut(&[usize], &[usize], &[usize]),
    ) {
        let taps: Vec<usize> = case.axes.iter().map(|a| a.kernel).collect();
        for o in ndarray::indices(IxDyn(outputs)) {
            for k in ndarray::indices(IxDyn(&taps)) {
                let at: Option<Vec<usize>> = (0..case.axes.len())
                    .map(|d| {
                        let a = &case.axes[d];
                        (o[d] * a.stride + k[d] * a.dilation)
                            .checked_sub(a.before)
                            .filter(|i| *i < inputs[d])
                    })
                    .collect();
                if let Some(at) = at {
                    visit(
                        o.as_array_view().as_slice().unwrap(),
                        k.as_array_view().as_slice().unwrap(),
                        &at,
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn conv_is_the_sum_over_taps_and_channels(case in case()) {
            let (channels, features) = (case.groups * case.inputs, case.groups * case.outputs);
            let x = noise(&case.shape([case.images, channels], |a| a.input));
            let w = noise(&case.shape([features, case.inputs], |a| a.kernel));
            let b = noise(&[features]);
            let lengths = case.shape([0, 0], |a| {
                (a.input + a.before + a.after - a.dilation * (a.kernel - 1) - 1) / a.stride + 1
            });
            let inputs = case.shape([0, 0], |a| a.input);
            let mut expected = ArrayD::zeros([&[case.images, features], &lengths[2..]].concat());
            for n in 0..case.images {
                for f in 0..features {
                    if case.bias {
                        expected.index_axis_mut(ndarray::Axis(0), n).index_axis_mut(ndarray::Axis(0), f).fill(b[f]);
                    }
                    for c in 0..case.inputs {
                        meet(&case, &lengths[2..], &inputs[2..], |o, k, i| {
                            let channel = f / case.outputs * case.inputs + c;
                            expected[&[&[n, f], o].concat()[..]] +=
                                x[&[&[n, channel], i].concat()[..]] * w[&[&[f, c], k].concat()[..]];
                        });
                    }
                }
            }
            let operands = [&x, &w, &b];
            let found = run(&case.op("conv"), &operands[..if case.bias { 3 } else { 2 }]);
            assert_close(&found, &expected);
        }

        #[test]
        fn conv_transpose_adds_up_the_windows(case in case()) {
            let (channels, features) = (case.groups * case.inputs, case.groups * case.outputs);
            let length = |a: &Axis| {
                ((a.input - 1) * a.stride + a.dilation * (a.kernel - 1) + 1 + a.output_pad) as i64 - (a.before + a.after) as i64
            };
            prop_assume!(case.axes.iter().all(|a| length(a) > 0));
            let x = noise(&case.shape([case.images, channels], |a| a.input));
            let w = noise(&case.shape([channels, case.outputs], |a| a.kernel));
            let b = noise(&[features]);
            let lengths = case.shape([case.images, features], |a| length(a) as usize);
            let inputs = case.shape([0, 0], |a| a.input);
            let mut expected = ArrayD::zeros(&lengths[..]);
            for n in 0..case.images {
                for f in 0..features {
                    if case.bias {
                        expected.index_axis_mut(ndarray::Axis(0), n).index_axis_mut(ndarray::Axis(0), f).fill(b[f]);
                    }
                    for c in 0..case.inputs {
                        meet(&case, &inputs[2..], &lengths[2..], |o, k, i| {
                            let channel = f / case.outputs * case.inputs + c;
                            expected[&[&[n, f], i].concat()[..]] += x[&[&[n, channel], o].concat()[..]]
                                * w[&[&[channel, f % case.outputs], k].concat()[..]];
                        });
                    }
                }
            }
            let operands = [&x, &w, &b];
            let found = run(&case.op("conv_transpose"), &operands[..if case.bias { 3 } else { 2 }]);
            assert_close(&found, &expected);
        }
    }

    #[test]
    fn a_large_convolution_in_parts_is_the_same() {
        // Larger than one block of unfolded patches, and than what one thread is given.
        let (x, w) = (noise(&[1, 24, 300, 200]), noise(&[3, 24, 3, 3]));
        let attributes = [
            ("stride", "[1,1]"),
            ("pad", "[0,0]"),
            ("dilation", "[1,1]"),
            ("groups", "1"),
        ];
        let found = run(&op("conv", &attributes), &[&x, &w]);
        for (o, y, z) in [(0, 0, 0), (2, 297, 197), (1, 150, 77), (0, 211, 3)] {
            let sum: f64 = ndarray::indices((24, 3, 3))
                .into_iter()
                .map(|(c, i, j)| x[[0, c, y + i, z + j]] * w[[o, c, i, j]])
                .sum();
            assert!((found[[0, o, y, z]] - sum).abs() < 1e-12);
        }
    }
}

#[test]
fn linear_is_rows_times_rows() {
    for shape in [vec![5], vec![3, 5], vec![2, 3, 5], vec![0, 5]] {
        let (x, w, b) = (noise(&shape), noise(&[4, 5]), noise(&[4]));
        let mut result = shape.clone();
        *result.last_mut().unwrap() = 4;
        let expected = ArrayD::from_shape_fn(result, |i| {
            let mut at = i.clone();
            b[i[i.ndim() - 1]]
                + (0..5)
                    .map(|k| {
                        at[i.ndim() - 1] = k;
                        x[&at] * w[[i[i.ndim() - 1], k]]
                    })
                    .sum::<f64>()
        });
        assert_close(&run(&op("linear", &[]), &[&x, &w, &b]), &expected);
    }
}

#[test]
fn matmul_broadcasts_the_leading_axes() {
    let (a, b) = (noise(&[3, 1, 2, 4]), noise(&[2, 4, 5]));
    let expected = ArrayD::from_shape_fn(vec![3, 2, 2, 5], |i| {
        (0..4)
            .map(|k| a[[i[0], 0, i[2], k]] * b[[i[1], k, i[3]]])
            .sum()
    });
    assert_close(&run(&op("matmul", &[]), &[&a, &b]), &expected);
    // Large enough for several threads, in each of the shapes that are treated apart.
    for (m, k, n) in [
        (200, 100, 150),
        (1, 700, 600),
        (600, 700, 1),
        (300, 2, 1000),
    ] {
        let (a, b) = (noise(&[m, k]), noise(&[k, n]));
        let found = run(&op("matmul", &[]), &[&a, &b]);
        for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 3)] {
            let sum: f64 = (0..k).map(|k| a[[i, k]] * b[[k, j]]).sum();
            assert!((found[[i, j]] - sum).abs() < 1e-11);
        }
    }
}

#[test]
fn attention_is_softmax_of_scores_times_values() {
    let (q, k, v) = (noise(&[2, 3, 4]), noise(&[2, 5, 4]), noise(&[2, 5, 6]));
    let mask = noise(&[3, 5]);
    for (causal, masked, scale) in [(false, false, None), (true, true, Some(0.3))] {
        let expected = ArrayD::from_shape_fn(vec![2, 3, 6], |i| {
            let scores: Vec<f64> = (0..5)
                .map(|s| {
                    let dot: f64 = (0..4).map(|e| q[[i[0], i[1], e]] * k[[i[0], s, e]]).sum();
                    let hidden = if causal && s > i[1] {
                        f64::NEG_INFINITY
                    } else {
                        0.0
                    };
                    dot * scale.unwrap_or(0.5) + if masked { mask[[i[1], s]] } else { 0.0 } + hidden
                })
                .collect();
            let total: f64 = scores.iter().map(|s| s.exp()).sum();
            (0..5)
                .map(|s| scores[s].exp() / total * v[[i[0], s, i[2]]])
                .sum()
        });
        let scale = scale.map_or("none".to_string(), |s| format!("{s:?}"));
        let attributes = [
            ("scale", &scale[..]),
            ("causal", if causal { "true" } else { "false" }),
        ];
        let operands = [&q, &k, &v, &mask];
        let found = run(
            &op("attention", &attributes),
            &operands[..if masked { 4 } else { 3 }],
        );
        assert_close(&found, &expected);
    }
}

#[test]
fn normalisations_make_mean_0_and_variance_1() {
    let x = noise(&[2, 4, 3]);
    let (scale, shift) = (noise(&[4]), noise(&[4]).mapv(|x| x + 0.5));
    let (mean, variance) = (noise(&[4]), noise(&[4]).mapv(|x| x * x + 0.1));
    let found = run(
        &op("batch_norm", &[("eps", "0.01")]),
        &[&x, &scale, &shift, &mean, &variance],
    );
    let expected = ArrayD::from_shape_fn(vec![2, 4, 3], |i| {
        let c = i[1];
        (x[&i] - mean[c]) / (variance[c] + 0.01f64).sqrt() * scale[c] + shift[c]
    });
    assert_close(&found, &expected);

    let moments = |xs: Vec<f64>| {
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let variance = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        (mean, variance)
    };
    let found = run(
        &op("group_norm", &[("groups", "2"), ("eps", "0.01")]),
        &[&x, &scale, &shift],
    );
    let expected = ArrayD::from_shape_fn(vec![2, 4, 3], |i| {
        let members = [i[1] / 2 * 2, i[1] / 2 * 2 + 1];
        let xs = members
            .iter()
            .flat_map(|c| (0..3).map(|p| x[[i[0], *c, p]]).collect::<Vec<_>>());
        let (mean, variance) = moments(xs.collect());
        (x[&i] - mean) / (variance + 0.01).sqrt() * scale[i[1]] + shift[i[1]]
    });
    assert_close(&found, &expected);

    let (scale, shift) = (noise(&[4, 3]), noise(&[4, 3]));
    let found = run(
        &op("layer_norm", &[("axes", "2"), ("eps", "0.01")]),
        &[&x, &scale, &shift],
    );
    let expected = ArrayD::from_shape_fn(vec![2, 4, 3], |i| {
        let xs = (0..12).map(|p| x[[i[0], p / 3, p % 3]]).collect();
        let (mean, variance) = moments(xs);
        (x[&i] - mean) / (variance + 0.01).sqrt() * scale[[i[1], i[2]]] + shift[[i[1], i[2]]]
    });
    assert_close(&found, &expected);
}

#[test]
fn unary_functions_have_their_textbook_values() {
    let x = array(&[5], &[-4.0, -0.5, 0.0, 0.75, 7.0]);
    let check = |name: &str, attributes: &[(&str, &str)], f: &dyn Fn(f64) -> f64| {
        let found = run(&op(name, attributes), &[&x]);
        assert_close(&found, &x.mapv(f));
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    check("relu", &[], &|x| x.max(0.0));
    check("leaky_relu", &[("slope", "0.1")], &|x| {
        if x < 0.0 { 0.1 * x } else { x }
    });
    check("clip", &[("min", "-1.0"), ("max", "6.0")], &|x| {
        x.clamp(-1.0, 6.0)
    });
    check("elu", &[("alpha", "0.5")], &|x| {
        if x < 0.0 { 0.5 * (x.exp() - 1.0) } else { x }
    });
    check("silu", &[], &|x| x * sigmoid(x));
    check("sigmoid", &[], &sigmoid);
    check("hard_sigmoid", &[], &|x| (x / 6.0 + 0.5).clamp(0.0, 1.0));
    check("hard_swish", &[], &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    check("tanh", &[], &f64::tanh);
    check("softplus", &[], &|x| (1.0 + x.exp()).ln());
    check("mish", &[], &|x| x * (1.0 + x.exp()).ln().tanh());
    check("exp", &[], &f64::exp);
    check("abs", &[], &f64::abs);
    check("neg", &[], &|x| -x);
    check("cast", &[("dtype", "i64")], &f64::trunc);
    check("cast", &[("dtype", "bool")], &|x| {
        if x == 0.0 { 0.0 } else { 1.0 }
    });
    check("dropout", &[("p", "0.5")], &|x| x);
    check("identity", &[], &|x| x);
    let x = array(&[3], &[0.25, 1.0, 7.0]);
    assert_close(&run(&op("log", &[]), &[&x]), &x.mapv(f64::ln));
    assert_close(&run(&op("sqrt", &[]), &[&x]), &x.mapv(f64::sqrt));
    assert_close(&run(&op("rsqrt", &[]), &[&x]), &x.mapv(|x| 1.0 / x.sqrt()));
    // Values of erf and of the normal distribution from tables.
    let x = array(&[3], &[-1.0, 0.5, 2.0]);
    let erf = array(
        &[3],
        &[-0.8427007929497149, 0.5204998778130465, 0.9953222650189527],
    );
    assert_close(&run(&op("erf", &[]), &[&x]), &erf);
    let gelu = array(
        &[3],
        &[
            -0.15865525393145707,
            0.34573123063700656,
            1.9544997361036416,
        ],
    );
    assert_close(&run(&op("gelu", &[("tanh", "false")]), &[&x]), &gelu);
    let gelu = array(
        &[3],
        &[-0.15880800939172324, 0.34571400982514394, 1.954597694087775],
    );
    assert_close(&run(&op("gelu", &[("tanh", "true")]), &[&x]), &gelu);
    let large = noise(&[100_000]);
    assert_close(
        &run(&op("relu", &[]), &[&large]),
        &large.mapv(|x| x.max(0.0)),
    );
}

#[test]
fn binary_functions_broadcast_from_the_last_axis() {
    let (a, b) = (noise(&[2, 1, 3]), noise(&[4, 1]).mapv(|x| x + 2.0));
    let check = |name: &str, f: &dyn Fn(f64, f64) -> f64| {
        for (a, b) in [(&a, &b), (&b, &a)] {
            let at = |x: &ArrayD<f64>, i: &IxDyn| match x.ndim() {
                3 => x[[i[0], 0, i[2]]],
                _ => x[[i[1], 0]],
            };
            let expected = ArrayD::from_shape_fn(vec![2, 4, 3], |i| f(at(a, &i), at(b, &i)));
            assert_close(&run(&op(name, &[]), &[a, b]), &expected);
        }
    };
    check("add", &|a, b| a + b);
    check("sub", &|a, b| a - b);
    check("mul", &|a, b| a * b);
    check("div", &|a, b| a / b);
    check("maximum", &f64::max);
    check("minimum", &f64::min);
    let (a, b) = (array(&[2], &[2.0, 9.0]), array(&[2], &[3.0, 0.5]));
    assert_close(&run(&op("pow", &[]), &[&a, &b]), &array(&[2], &[8.0, 3.0]));
    // The result takes the memory of whichever operand has its shape.
    let (a, b) = (noise(&[50_000]), noise(&[1]));
    assert_close(&run(&op("sub", &[]), &[&a, &b]), &a.mapv(|x| x - b[0]));
    assert_close(&run(&op("sub", &[]), &[&b, &a]), &a.mapv(|x| b[0] - x));
    let (x, slope) = (noise(&[2, 3, 4]), noise(&[3]));
    let expected = ArrayD::from_shape_fn(vec![2, 3, 4], |i| {
        if x[&i] < 0.0 {
            x[&i] * slope[i[1]]
        } else {
            x[&i]
        }
    });
    assert_close(&run(&op("prelu", &[]), &[&x, &slope]), &expected);
}

#[test]
fn softmax_sums_to_one_along_its_axis() {
    let x = noise(&[2, 3, 4]).mapv(|x| 300.0 * x);
    let found = run(&op("softmax", &[("axis", "1")]), &[&x]);
    let log = run(&op("log_softmax", &[("axis", "1")]), &[&x]);
    for (i, x_i) in x.indexed_iter() {
        let lane = |c: usize| x[[i[0], c, i[2]]];
        let total: f64 = (0..3).map(|c| (lane(c) - x_i).exp()).sum();
        assert!((found[&i] - 1.0 / total).abs() < 1e-12);
        assert!((log[&i] + total.ln()).abs() < 1e-9);
    }
}

#[test]
fn pools_see_what_is_in_their_windows() {
    let x = array(&[1, 1, 5], &[1.0, -2.0, 3.0, 8.0, 5.0]);
    let max = |stride: &str, pad: &str, dilation: &str, ceil: &str| {
        let attributes = [
            ("kernel", "[3]"),
            ("stride", stride),
            ("pad", pad),
            ("dilation", dilation),
            ("ceil", ceil),
        ];
        run(&op("max_pool", &attributes), &[&x])
            .into_raw_vec_and_offset()
            .0
    };
    assert_eq!(max("[1]", "[1]", "[1]", "false"), [1.0, 3.0, 8.0, 8.0, 8.0]);
    assert_eq!(max("[2]", "[1]", "[1]", "false"), [1.0, 8.0, 8.0]);
    assert_eq!(max("[3]", "[0]", "[1]", "false"), [3.0]);
    assert_eq!(max("[3]", "[0]", "[1]", "true"), [3.0, 8.0]);
    assert_eq!(max("[1]", "[0]", "[2]", "false"), [5.0]);
    assert_eq!(max("[1]", "[1]", "[2]", "false"), [8.0, 5.0, 8.0]);
    let mean = |stride: &str, pad: &str, ceil: &str, count_pad: &str| {
        let attributes = [
            ("kernel", "[3]"),
            ("stride", stride),
            ("pad", pad),
            ("ceil", ceil),
            ("count_pad", count_pad),
        ];
        run(&op("avg_pool", &attributes), &[&x])
    };
    assert_close(
        &mean("[2]", "[1]", "false", "true"),
        &array(&[1, 1, 3], &[-1.0 / 3.0, 3.0, 13.0 / 3.0]),
    );
    assert_close(
        &mean("[2]", "[1]", "false", "false"),
        &array(&[1, 1, 3], &[-0.5, 3.0, 6.5]),
    );
    // What a ceiled window has beyond the pad never counts.
    assert_close(
        &mean("[3]", "[0]", "true", "true"),
        &array(&[1, 1, 2], &[2.0 / 3.0, 6.5]),
    );
    let adaptive = run(&op("adaptive_avg_pool", &[("output", "[3]")]), &[&x]);
    assert_close(&adaptive, &array(&[1, 1, 3], &[-0.5, 3.0, 6.5]));
    let adaptive = run(&op("adaptive_max_pool", &[("output", "[2]")]), &[&x]);
    assert_close(&adaptive, &array(&[1, 1, 2], &[3.0, 8.0]));
    // Two dimensions: each window's maximum and mean by hand.
    let x = noise(&[2, 3, 4, 6]);
    let attributes = [("kernel", "[2,3]"), ("stride", "[2,3]"), ("pad", "[0,0]")];
    let found = run(
        &op(
            "max_pool",
            &[&attributes[..], &[("dilation", "[1,1]"), ("ceil", "false")]].concat(),
        ),
        &[&x],
    );
    let means = run(
        &op(
            "avg_pool",
            &[&attributes[..], &[("ceil", "false"), ("count_pad", "true")]].concat(),
        ),
        &[&x],
    );
    let adaptive = run(&op("adaptive_avg_pool", &[("output", "[2,2]")]), &[&x]);
    for (i, max) in found.indexed_iter() {
        let window: Vec<f64> = (0..6)
            .map(|k| x[[i[0], i[1], i[2] * 2 + k / 3, i[3] * 3 + k % 3]])
            .collect();
        assert_eq!(*max, window.iter().copied().fold(f64::MIN, f64::max));
        assert!((means[&i] - window.iter().sum::<f64>() / 6.0).abs() < 1e-12);
        assert!((adaptive[&i] - means[&i]).abs() < 1e-12);
    }
}

#[test]
fn reductions_run_over_their_axes() {
    let x = noise(&[2, 3, 4]);
    let lane = |c: usize| (0..8).map(|p| x[[p / 4, c, p % 4]]).collect::<Vec<_>>();
    let expected = |f: &dyn Fn(&[f64]) -> f64| ArrayD::from_shape_fn(vec![3], |i| f(&lane(i[0])));
    let reduce =
        |name: &str, keep: &str| run(&op(name, &[("axes", "[0,2]"), ("keep", keep)]), &[&x]);
    assert_close(&reduce("sum", "false"), &expected(&|xs| xs.iter().sum()));
    assert_close(
        &reduce("mean", "false"),
        &expected(&|xs| xs.iter().sum::<f64>() / 8.0),
    );
    let max = expected(&|xs| xs.iter().copied().fold(f64::MIN, f64::max));
    assert_close(
        &reduce("max", "true"),
        &max.into_shape_with_order(vec![1, 3, 1]).unwrap(),
    );
}

#[test]
fn pads_mirror_repeat_wrap_and_cut() {
    let x = array(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let pad = |before: &str, after: &str, mode: &str| {
        let attributes = [
            ("before", before),
            ("after", after),
            ("mode", mode),
            ("value", "9.0"),
        ];
        run(&op("pad", &attributes), &[&x])
            .into_raw_vec_and_offset()
            .0
    };
    assert_eq!(
        pad("[0,2]", "[0,1]", "constant"),
        [9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 9.0]
    );
    assert_eq!(
        pad("[0,2]", "[0,1]", "reflect"),
        [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0]
    );
    assert_eq!(
        pad("[0,2]", "[0,1]", "replicate"),
        [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    );
    assert_eq!(
        pad("[0,2]", "[0,1]", "circular"),
        [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0]
    );
    let cut = run(
        &op(
            "pad",
            &[
                ("before", "[0,-1]"),
                ("after", "[1,-2]"),
                ("mode", "constant"),
                ("value", "0.0"),
            ],
        ),
        &[&x],
    );
    assert_close(&cut, &array(&[2, 1], &[2.0, 0.0]));
}

#[test]
fn resizes_sample_as_libtorch_does() {
    let x = array(&[1, 1, 2, 3], &[1.0, 2.0, 4.0, 7.0, 11.0, 16.0]);
    let resize =
        |size: &str, mode: &str| run(&op("resize", &[("size", size), ("mode", mode)]), &[&x]);
    assert_close(
        &resize("[4,2]", "nearest"),
        &array(&[1, 1, 4, 2], &[1.0, 2.0, 1.0, 2.0, 7.0, 11.0, 7.0, 11.0]),
    );
    assert_close(
        &resize("[2,6]", "linear")
            .slice_move(ndarray::s![.., .., ..1, ..])
            .into_dyn(),
        &array(&[1, 1, 1, 6], &[1.0, 1.25, 1.75, 2.5, 3.5, 4.0]),
    );
    assert_close(
        &resize("[3,5]", "linear_aligned")
            .slice_move(ndarray::s![.., .., 1..2, ..])
            .into_dyn(),
        &array(&[1, 1, 1, 5], &[4.0, 5.25, 6.5, 8.25, 10.0]),
    );
}

#[test]
fn movements_move() {
    let x = noise(&[2, 3, 4]);
    let check = |name: &str,
                 attributes: &[(&str, &str)],
                 shape: &[usize],
                 from: &dyn Fn(&IxDyn) -> [usize; 3]| {
        let expected = ArrayD::from_shape_fn(shape, |i| x[from(&i)]);
        assert_close(&run(&op(name, attributes), &[&x]), &expected);
    };
    check("transpose", &[("perm", "[2,0,1]")], &[4, 2, 3], &|i| {
        [i[1], i[2], i[0]]
    });
    check(
        "slice",
        &[("axis", "2"), ("start", "1"), ("end", "4"), ("step", "2")],
        &[2, 3, 2],
        &|i| [i[0], i[1], 1 + 2 * i[2]],
    );
    check(
        "gather",
        &[("axis", "1"), ("index", "[2,0,0,1]")],
        &[2, 4, 4],
        &|i| [i[0], [2, 0, 0, 1][i[1]], i[2]],
    );
    check("flatten", &[("start", "1"), ("end", "2")], &[2, 12], &|i| {
        [i[0], i[1] / 4, i[1] % 4]
    });
    check("reshape", &[("shape", "[6,4]")], &[6, 4], &|i| {
        [i[0] / 3, i[0] % 3, i[1]]
    });
    check("unsqueeze", &[("axes", "[0,3]")], &[1, 2, 3, 1, 4], &|i| {
        [i[1], i[2], i[4]]
    });
    let joined = run(&op("concat", &[("axis", "1")]), &[&x, &x]);
    let expected = ArrayD::from_shape_fn(vec![2, 6, 4], |i| x[[i[0], i[1] % 3, i[2]]]);
    assert_close(&joined, &expected);
    let one = noise(&[3, 1]);
    let expected = ArrayD::from_shape_fn(vec![2, 3, 4], |i| one[[i[1], 0]]);
    assert_close(
        &run(&op("expand", &[("shape", "[2,3,4]")]), &[&one]),
        &expected,
    );
    let expected = one.clone().into_shape_with_order(vec![3]).unwrap();
    assert_close(&run(&op("squeeze", &[("axes", "[1]")]), &[&one]), &expected);
}

#[test]
fn a_view_is_read_as_its_elements() {
    // Transposed, sliced, then used by operators that want rows.
    let x = noise(&[4, 3, 2]);
    let transposed = run(&op("transpose", &[("perm", "[2,1,0]")]), &[&x]);
    let step = |name: &str, attributes: &[(&str, &str)], x: Array<'static, f64>| {
        evaluate(&op(name, attributes), [x], &Bindings::new()).unwrap()
    };
    let view = step("transpose", &[("perm", "[2,1,0]")], cast(&x));
    let view = step(
        "slice",
        &[("axis", "2"), ("start", "1"), ("end", "3"), ("step", "1")],
        view,
    );
    let copy = transposed
        .slice(ndarray::s![.., .., 1..3])
        .to_owned()
        .into_dyn();
    for (name, attributes) in [
        ("relu", &[][..]),
        ("flatten", &[("start", "0"), ("end", "1")]),
        ("softmax", &[("axis", "0")]),
        ("adaptive_avg_pool", &[("output", "[1]")]),
        ("layer_norm", &[("axes", "1"), ("eps", "0.1")]),
    ] {
        let found = step(name, attributes, view.clone()).into_owned();
        let moved = step(name, attributes, view.clone()).into_owned();
        assert_eq!(found, moved);
        assert_close(&found, &run(&op(name, attributes), &[&copy]));
    }
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

mod comparison {
    use optc::Error;
    use optc::exec::{Reference, compare};
    use optc::ir::{Constant, Graph, NodeId, Op, Opaque, Output, Role, Tensor, Type, Value};
    use optc::report::Verification;
    use smallvec::smallvec;

    fn graph(input: &str) -> (Graph, Value) {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", input.parse().unwrap());
        (graph, x.into())
    }

    fn weight(graph: &mut Graph, shape: &[usize], f: impl Fn(usize) -> f32) -> Value {
        let elements = (0..shape.iter().product()).map(f).collect();
        let constant = Constant {
            tensor: Tensor::from_vec(shape, elements),
            role: Role::Parameter,
            aliases: Vec::new(),
        };
        graph.add_constant("weight", constant).into()
    }

    fn opaque(graph: &mut Graph, template: &str, operand: Value, result: &str) -> NodeId {
        let outputs = smallvec![result.parse::<Type>().unwrap()];
        let op = Op::Opaque(std::sync::Arc::new(Opaque {
            name: "aten::foo".into(),
            template: template.into(),
            sizes: smallvec![],
            outputs: smallvec![result.parse().unwrap()],
        }));
        graph.add_typed_op("foo", op, &[operand], outputs)
    }

    fn finish(mut graph: Graph, value: impl Into<Value>) -> Graph {
        let value = value.into();
        graph.outputs.push(Output {
            name: "y".into(),
            value,
        });
        graph
    }

    fn moved(verification: &Verification) -> (f64, f64) {
        match verification {
            Verification::Measured {
                max_rel,
                argmax_agreement,
                ..
            } => (*max_rel, *argmax_agreement),
            Verification::Skipped { skipped } => panic!("{skipped}"),
        }
    }

    /// `y = linear(x)`, its weight scaled.
    fn linear(scale: f32) -> Graph {
        let (mut graph, x) = graph("f32[N,4]");
        let w = weight(&mut graph, &[5, 4], |i| scale * (i as f32 * 0.7).sin());
        let y = graph.add_op("linear", Op::Linear {}, &[x, w]).unwrap();
        finish(graph, y)
    }

    #[test]
    fn equal_graphs_agree_and_others_do_not() {
        let verification = compare::<f64>(&linear(1.0), &linear(1.0), 3, 7).unwrap();
        assert_eq!(moved(&verification), (0.0, 1.0));
        let (max_rel, same) = moved(&compare::<f64>(&linear(1.0), &linear(0.75), 3, 7).unwrap());
        assert!((max_rel - 0.25).abs() < 1e-6, "{max_rel}");
        assert_eq!(same, 1.0);
        let (_, same) = moved(&compare::<f64>(&linear(1.0), &linear(-1.0), 3, 7).unwrap());
        assert_eq!(same, 0.0);
        let (nan, _) = moved(&compare::<f32>(&linear(1.0), &linear(f32::NAN), 3, 7).unwrap());
        assert_eq!(nan, f64::INFINITY);
    }

    /// `y = relu(foo(linear(x)))` with an operator `foo` that nobody knows.
    fn around_opaque(scale: f32, template: &str, result: &str) -> Graph {
        let (mut graph, x) = graph("f32[N,4]");
        let w = weight(&mut graph, &[5, 4], |i| scale * (i as f32 * 0.7).sin());
        let y = graph.add_op("linear", Op::Linear {}, &[x, w]).unwrap();
        let y = opaque(&mut graph, template, y.into(), result);
        let y = graph.add_op("relu", Op::Relu {}, &[y.into()]).unwrap();
        finish(graph, y)
    }

    #[test]
    fn an_opaque_operator_is_cut_out_and_what_it_reads_is_compared() {
        for result in ["f32[N,7]", "f32[*]"] {
            let before = around_opaque(1.0, "foo({0})", result);
            let same = compare::<f64>(&before, &around_opaque(1.0, "foo({0})", result), 2, 0);
            assert_eq!(moved(&same.unwrap()), (0.0, 1.0));
            let other = compare::<f64>(&before, &around_opaque(0.5, "foo({0})", result), 2, 0);
            assert!((moved(&other.unwrap()).0 - 0.5).abs() < 1e-6);
            let error = compare::<f64>(&before, &around_opaque(1.0, "foo({0}, 1)", result), 2, 0);
            assert_eq!(
                error.unwrap_err().to_string(),
                "cannot run `foo`: the original graph has no operator aten::foo that reads arrays of these shapes"
            );
        }
    }

    #[test]
    fn equal_opaque_operators_may_become_one() {
        let twice = |merged: bool| {
            let (mut graph, x) = graph("f32[N,4]");
            let a = opaque(&mut graph, "foo({0})", x, "f32[N,4]");
            let b = match merged {
                true => a,
                false => opaque(&mut graph, "foo({0})", x, "f32[N,4]"),
            };
            let y = graph.add_op("add", Op::Add {}, &[a.into(), b.into()]);
            finish(graph, y.unwrap())
        };
        let verification = compare::<f64>(&twice(false), &twice(true), 2, 0).unwrap();
        assert_eq!(moved(&verification), (0.0, 1.0));
    }

    #[test]
    fn sizes_without_a_number_are_found_by_trying() {
        let (mut graph, x) = graph("f32[N,1,H,W]");
        let pool = Op::AdaptiveAvgPool {
            output: smallvec![1.into(), 2.into()],
        };
        let y = graph.add_op("pool", pool, &[x]).unwrap();
        // 64 by 64 after the batch: only that length fits.
        let flatten = Op::Flatten { start: 1, end: 3 };
        let flat = graph.add_op("flat", flatten, &[x]).unwrap();
        let w = weight(&mut graph, &[2, 64 * 64], |_| 1.0);
        let z = graph
            .add_op("linear", Op::Linear {}, &[flat.into(), w])
            .unwrap();
        let flatten = Op::Flatten { start: 1, end: 3 };
        let y = graph.add_op("flat", flatten, &[y.into()]).unwrap();
        let y = graph.add_op("add", Op::Add {}, &[y.into(), z.into()]);
        let graph = finish(graph, y.unwrap());
        assert_eq!(
            moved(&compare::<f32>(&graph, &graph, 1, 0).unwrap()),
            (0.0, 1.0)
        );
    }

    #[test]
    fn what_cannot_be_run_is_not_verified_and_says_why() {
        let (mut unknown, x) = graph("f32[*]");
        let y = unknown.add_op("relu", Op::Relu {}, &[x]).unwrap();
        let unknown = finish(unknown, y);
        let verification = compare::<f32>(&unknown, &unknown, 1, 0).unwrap();
        assert_eq!(
            verification.to_string(),
            "not verified: cannot run `x`: the shape of f32[*] is not known"
        );
        let reference = Reference::<f32>::new(&linear(1.0), 1, 0).unwrap();
        let (mut other, x) = graph("f32[N,4]");
        let y = other.add_op("relu", Op::Relu {}, &[x]).unwrap();
        let error = reference.compare(&finish(other, y)).unwrap_err();
        assert!(matches!(error, Error::Run { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "cannot run `y`: its shape is [2, 4] instead of [2, 5]"
        );
    }
}
