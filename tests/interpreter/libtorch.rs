//! libtorch against the interpreter, operator by operator: results, and gradients against finite differences.

use super::*;
use optc::exec::Device;
use optc::exec::torch::{Mode, Network, from_array, to_array};
use optc::ir::{Class, Graph, NodeId, Value};

/// A graph of this operator alone, all of whose operands are inputs.
fn alone(op: &Op, operands: &[&ArrayD<f64>], dtype: DType) -> Graph {
    let mut graph = Graph::new("alone");
    let input = |x: &&ArrayD<f64>| -> NodeId {
        let shape = x.shape().iter().map(|n| Dim::from(*n));
        graph.add_input("x", Type::tensor(dtype, shape))
    };
    let inputs: Vec<Value> = operands.iter().map(input).map(Value::from).collect();
    let node = graph.add_op("op", op.clone(), &inputs).unwrap();
    graph.add_output("y", node.into());
    graph
}

/// libtorch computes in `f32` what the interpreter does in `f64`.
#[track_caller]
pub fn assert_agrees(op: &Op, operands: &[&ArrayD<f64>], expected: &ArrayD<f64>) {
    let graph = alone(op, operands, DType::F32);
    let network = Network::new(&graph, Device::Cpu, DType::F32).unwrap();
    let inputs: Vec<_> = operands.iter().map(|x| from_array(x).unwrap()).collect();
    let outputs = tch::no_grad(|| network.run(&inputs, Mode::Evaluation));
    let found = to_array::<f64>(&outputs.unwrap_or_else(|e| panic!("{op:?}: {e}"))[0]).unwrap();
    assert_eq!(found.shape(), expected.shape(), "{op:?}");
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (a, b) in expected.iter().zip(&found) {
        assert!((a - b).abs() <= 1e-4 * scale, "{op:?}: {a}, libtorch {b}");
    }
}

/// One use of an operator, or several: attributes, then the operands' shapes and what is added to their noise.
#[derive(Clone, Copy)]
struct Use {
    op: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    operands: &'static [(&'static [usize], f64)],
}

const SIGNED: &[(&[usize], f64)] = &[(&[2, 4, 6], 0.0)];
const POSITIVE: &[(&[usize], f64)] = &[(&[2, 4, 6], 1.5)];
const IMAGE: &[(&[usize], f64)] = &[(&[2, 3, 7, 6], 0.0)];
const TWO: &[(&[usize], f64)] = &[(&[2, 1, 6], 0.0), (&[4, 1], 1.5)];

#[rustfmt::skip]
const USES: &[Use] = &[
    Use { op: "conv", attributes: &[("stride", "[2,1]"), ("pad", "[1,0:2]"), ("dilation", "[1,2]"), ("groups", "3")], operands: &[(&[2, 3, 7, 6], 0.0), (&[6, 1, 3, 2], 0.0), (&[6], 0.0)] },
    Use { op: "conv", attributes: &[("stride", "[1,3]"), ("pad", "[0,2:1]"), ("dilation", "[1,1]"), ("groups", "1")], operands: &[(&[2, 1, 5, 1], 0.0), (&[2, 1, 1, 3], 0.0), (&[2], 0.0)] },
    Use { op: "conv", attributes: &[("stride", "[1,2]"), ("pad", "[0,1]"), ("dilation", "[1,2]"), ("groups", "1")], operands: &[(&[2, 3, 3, 1], 0.0), (&[2, 3, 1, 1], 0.0), (&[2], 0.0)] },
    Use { op: "conv_transpose", attributes: &[("stride", "[2,1]"), ("pad", "[1,0:2]"), ("output_pad", "[1,0]"), ("dilation", "[1,2]"), ("groups", "1")], operands: &[(&[2, 3, 7, 6], 0.0), (&[3, 4, 3, 2], 0.0), (&[4], 0.0)] },
    Use { op: "conv_transpose", attributes: &[("stride", "[1,2]"), ("pad", "[0,0]"), ("output_pad", "[0,0]"), ("dilation", "[1,1]"), ("groups", "1")], operands: &[(&[2, 2, 4, 1], 0.0), (&[2, 1, 2, 3], 0.0), (&[1], 0.0)] },
    Use { op: "linear", attributes: &[], operands: &[(&[2, 3, 5], 0.0), (&[4, 5], 0.0), (&[4], 0.0)] },
    Use { op: "matmul", attributes: &[], operands: &[(&[3, 1, 2, 4], 0.0), (&[2, 4, 5], 0.0)] },
    Use { op: "batch_norm", attributes: &[("eps", "0.01")], operands: &[(&[2, 4, 3], 0.0), (&[4], 0.0), (&[4], 0.0), (&[4], 0.0), (&[4], 1.5)] },
    Use { op: "layer_norm", attributes: &[("axes", "2"), ("eps", "0.01")], operands: &[(&[2, 4, 3], 0.0), (&[4, 3], 0.0), (&[4, 3], 0.0)] },
    Use { op: "group_norm", attributes: &[("groups", "2"), ("eps", "0.01")], operands: &[(&[2, 4, 3], 0.0), (&[4], 0.0), (&[4], 0.0)] },
    Use { op: "leaky_relu", attributes: &[("slope", "0.3")], operands: SIGNED },
    Use { op: "prelu", attributes: &[], operands: &[(&[2, 4, 6], 0.0), (&[4], 0.0)] },
    Use { op: "prelu", attributes: &[], operands: &[(&[2, 4, 6], 0.0), (&[1], 0.0)] },
    Use { op: "clip", attributes: &[("min", "-0.5"), ("max", "0.25")], operands: SIGNED },
    Use { op: "elu", attributes: &[("alpha", "1.0")], operands: SIGNED },
    Use { op: "elu", attributes: &[("alpha", "0.5")], operands: SIGNED },
    Use { op: "gelu", attributes: &[("tanh", "false")], operands: SIGNED },
    Use { op: "gelu", attributes: &[("tanh", "true")], operands: SIGNED },
    Use { op: "log", attributes: &[], operands: POSITIVE },
    Use { op: "sqrt", attributes: &[], operands: POSITIVE },
    Use { op: "rsqrt", attributes: &[], operands: POSITIVE },
    Use { op: "pow", attributes: &[], operands: &[(&[2, 1, 6], 1.5), (&[4, 1], 0.0)] },
    Use { op: "maximum", attributes: &[], operands: &[(&[2, 1, 6], 0.0), (&[4, 1], 0.1)] },
    Use { op: "minimum", attributes: &[], operands: &[(&[2, 1, 6], 0.0), (&[4, 1], 0.1)] },
    Use { op: "softmax", attributes: &[("axis", "1")], operands: SIGNED },
    Use { op: "log_softmax", attributes: &[("axis", "1")], operands: SIGNED },
    Use { op: "attention", attributes: &[("scale", "none"), ("causal", "true")], operands: &[(&[2, 5, 4], 0.0), (&[2, 3, 4], 0.0), (&[2, 3, 6], 0.0)] },
    Use { op: "attention", attributes: &[("scale", "0.3"), ("causal", "true")], operands: &[(&[2, 3, 4], 0.0), (&[2, 5, 4], 0.0), (&[2, 5, 6], 0.0), (&[3, 5], 0.0)] },
    Use { op: "attention", attributes: &[("scale", "0.3"), ("causal", "false")], operands: &[(&[2, 2, 3, 4], 0.0), (&[2, 1, 5, 4], 0.0), (&[1, 2, 5, 6], 0.0)] },
    Use { op: "max_pool", attributes: &[("kernel", "[3,2]"), ("stride", "[2,2]"), ("pad", "[1,1]"), ("dilation", "[1,2]"), ("ceil", "true")], operands: IMAGE },
    Use { op: "max_pool", attributes: &[("kernel", "[2,3]"), ("stride", "[2,2]"), ("pad", "[0:1,2:0]"), ("dilation", "[1,1]"), ("ceil", "true")], operands: IMAGE },
    Use { op: "max_pool", attributes: &[("kernel", "[2,2,2]"), ("stride", "[2,1,2]"), ("pad", "[1,0,0]"), ("dilation", "[1,1,1]"), ("ceil", "false")], operands: &[(&[1, 2, 3, 4, 4], 0.0)] },
    Use { op: "avg_pool", attributes: &[("kernel", "[3,2]"), ("stride", "[2,2]"), ("pad", "[1,1]"), ("ceil", "true"), ("count_pad", "false")], operands: IMAGE },
    Use { op: "avg_pool", attributes: &[("kernel", "[2,3]"), ("stride", "[3,2]"), ("pad", "[0:1,2:0]"), ("ceil", "true"), ("count_pad", "false")], operands: IMAGE },
    Use { op: "avg_pool", attributes: &[("kernel", "[2,3]"), ("stride", "[3,2]"), ("pad", "[0:1,1:0]"), ("ceil", "true"), ("count_pad", "true")], operands: IMAGE },
    Use { op: "avg_pool", attributes: &[("kernel", "[3]"), ("stride", "[2]"), ("pad", "[0:1]"), ("ceil", "false"), ("count_pad", "true")], operands: SIGNED },
    Use { op: "adaptive_avg_pool", attributes: &[("output", "[3,2]")], operands: IMAGE },
    Use { op: "adaptive_avg_pool", attributes: &[("output", "[2,1,3]")], operands: &[(&[1, 2, 3, 4, 4], 0.0)] },
    Use { op: "adaptive_max_pool", attributes: &[("output", "[3,2]")], operands: IMAGE },
    Use { op: "adaptive_max_pool", attributes: &[("output", "[2,1,3]")], operands: &[(&[1, 2, 3, 4, 4], 0.0)] },
    Use { op: "mean", attributes: &[("axes", "[0,2]"), ("keep", "false")], operands: SIGNED },
    Use { op: "mean", attributes: &[("axes", "[]"), ("keep", "false")], operands: SIGNED },
    Use { op: "sum", attributes: &[("axes", "[0,2]"), ("keep", "true")], operands: SIGNED },
    Use { op: "max", attributes: &[("axes", "[0,2]"), ("keep", "false")], operands: SIGNED },
    Use { op: "pad", attributes: &[("before", "[0,2,-1]"), ("after", "[1,-1,0]"), ("mode", "constant"), ("value", "9.0")], operands: SIGNED },
    Use { op: "pad", attributes: &[("before", "[0,2,-1]"), ("after", "[0,-1,3]"), ("mode", "reflect"), ("value", "0.0")], operands: SIGNED },
    Use { op: "pad", attributes: &[("before", "[0,2,0]"), ("after", "[0,-1,3]"), ("mode", "replicate"), ("value", "0.0")], operands: SIGNED },
    Use { op: "pad", attributes: &[("before", "[0,2,0]"), ("after", "[0,-1,3]"), ("mode", "circular"), ("value", "0.0")], operands: SIGNED },
    Use { op: "resize", attributes: &[("size", "[5,13]"), ("mode", "nearest")], operands: IMAGE },
    Use { op: "resize", attributes: &[("size", "[5,13]"), ("mode", "linear")], operands: IMAGE },
    Use { op: "resize", attributes: &[("size", "[5,13]"), ("mode", "linear_aligned")], operands: IMAGE },
    Use { op: "resize", attributes: &[("size", "[9]"), ("mode", "linear")], operands: SIGNED },
    Use { op: "resize", attributes: &[("size", "[2,3,7]"), ("mode", "linear")], operands: &[(&[1, 2, 3, 4, 4], 0.0)] },
    Use { op: "concat", attributes: &[("axis", "1")], operands: &[(&[2, 1, 6], 0.0), (&[2, 3, 6], 0.0), (&[2, 2, 6], 0.0)] },
    Use { op: "slice", attributes: &[("axis", "2"), ("start", "1"), ("end", "6"), ("step", "2")], operands: SIGNED },
    Use { op: "gather", attributes: &[("axis", "1"), ("index", "[2,0,0,3]")], operands: SIGNED },
    Use { op: "flatten", attributes: &[("start", "1"), ("end", "2")], operands: SIGNED },
    Use { op: "reshape", attributes: &[("shape", "[8,6]")], operands: SIGNED },
    Use { op: "transpose", attributes: &[("perm", "[2,0,1]")], operands: SIGNED },
    Use { op: "squeeze", attributes: &[("axes", "[0,2]")], operands: &[(&[1, 4, 1], 0.0)] },
    Use { op: "unsqueeze", attributes: &[("axes", "[3,0]")], operands: SIGNED },
    Use { op: "expand", attributes: &[("shape", "[3,4,2,5]")], operands: &[(&[4, 1, 5], 0.0)] },
    Use { op: "cast", attributes: &[("dtype", "i64")], operands: SIGNED },
    Use { op: "cast", attributes: &[("dtype", "bool")], operands: SIGNED },
    Use { op: "cast", attributes: &[("dtype", "f16")], operands: SIGNED },
    Use { op: "dropout", attributes: &[("p", "0.5")], operands: SIGNED },
];

impl Use {
    fn operands(&self) -> Vec<ArrayD<f64>> {
        let operand = |(shape, offset): &(&[usize], f64)| noise(shape).mapv(|x| x + offset);
        self.operands.iter().map(operand).collect()
    }
}

/// [`USES`], and one of every operator that it does not name: these have no attributes, and take any number.
fn uses() -> impl Iterator<Item = Use> {
    let unnamed = Op::NAMES
        .iter()
        .filter(|name| USES.iter().all(|u| u.op != **name));
    let plain = unnamed.map(|name| Use {
        op: name,
        attributes: &[],
        operands: match op(name, &[]).class() {
            Class::Binary => TWO,
            _ => SIGNED,
        },
    });
    USES.iter().copied().chain(plain)
}

#[test]
fn libtorch_computes_what_the_interpreter_does() {
    for used in uses() {
        let operands = used.operands();
        // `run` asks libtorch too.
        run(
            &op(used.op, used.attributes),
            &operands.iter().collect::<Vec<_>>(),
        );
    }
}

/// libtorch's gradients by the operands of the outputs' weighed sum, computed in `dtype`; none of what has no gradient.
fn gradients(op: &Op, operands: &[ArrayD<f64>], dtype: DType) -> Option<Vec<ArrayD<f64>>> {
    let graph = alone(op, &operands.iter().collect::<Vec<_>>(), dtype);
    let network = Network::new(&graph, Device::Cpu, dtype).unwrap();
    let inputs: Vec<_> = operands
        .iter()
        .map(|x| from_array(x).unwrap().set_requires_grad(true))
        .collect();
    let y = network.run(&inputs, Mode::Evaluation).unwrap().remove(0);
    let weights = noise(&y.size().iter().map(|n| *n as usize).collect::<Vec<_>>());
    let total = (y * from_array(&weights).unwrap()).sum(tch::Kind::Double);
    if !total.requires_grad() {
        return None;
    }
    total.backward();
    let gradient = |x: &tch::Tensor| to_array::<f64>(&x.grad()).unwrap();
    Some(inputs.iter().map(gradient).collect())
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f64 = 1e-6;
    for used in uses() {
        let op = op(used.op, used.attributes);
        let operands = used.operands();
        // Outputs are weighed, so that no two of them can stand for each other.
        let loss = |operands: &[ArrayD<f64>]| {
            let operands = operands.iter().map(cast::<f64>);
            let y = evaluate(&op, operands, &Bindings::new()).unwrap();
            let weights = noise(y.shape());
            y.view()
                .iter()
                .zip(&weights)
                .map(|(y, w)| y * w)
                .sum::<f64>()
        };
        let Some(double) = gradients(&op, &operands, DType::F64) else {
            assert_eq!(used.op, "cast", "{op:?} stops gradients");
            continue;
        };
        let single = gradients(&op, &operands, DType::F32).unwrap();
        for (k, (gradient, single)) in double.iter().zip(&single).enumerate() {
            for (i, (a, b)) in gradient.iter().zip(single).enumerate() {
                assert!(
                    (a - b).abs() <= 1e-4 * a.abs().max(1.0),
                    "{op:?}, operand {k} at {i}: {a} in double precision, {b} in single"
                );
            }
            for i in (0..gradient.len()).step_by(1 + gradient.len() / 24) {
                let moved = |by: f64| {
                    let mut operands = operands.clone();
                    operands[k].as_slice_mut().unwrap()[i] += by;
                    loss(&operands)
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let found = gradient.as_slice().unwrap()[i];
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                    "{op:?}, operand {k} at {i}: {found} instead of {expected}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_of_libtorch_and_no_panic() {
    // Sizes that shape inference cannot know to be wrong.
    let mut graph = Graph::new("wrong");
    let x = graph.add_input("x", "f32[N,C]".parse().unwrap());
    let y = graph.add_input("y", "f32[N,D]".parse().unwrap());
    for (name, attributes, operands) in [
        ("reshape", &[("shape", "[7]")][..], &[x][..]),
        (
            "slice",
            &[("axis", "1"), ("start", "0"), ("end", "9"), ("step", "1")],
            &[x],
        ),
        ("gather", &[("axis", "1"), ("index", "[9]")], &[x]),
        ("add", &[], &[x, y]),
        ("matmul", &[], &[x, y]),
        ("reshape", &[("shape", "[M]")], &[x]),
    ] {
        let mut graph = graph.clone();
        let operands: Vec<Value> = operands.iter().map(|node| Value::from(*node)).collect();
        let Ok(node) = graph.add_op("bad", op(name, attributes), &operands) else {
            continue;
        };
        graph.add_output("y", node.into());
        let network = Network::new(&graph, Device::Cpu, DType::F32).unwrap();
        let inputs = [noise(&[2, 3]), noise(&[2, 4])].map(|x| from_array(&x).unwrap());
        let error = network.run(&inputs, Mode::Evaluation).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot run `bad`: "),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}
