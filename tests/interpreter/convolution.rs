//! Convolutions, with every geometry.

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
