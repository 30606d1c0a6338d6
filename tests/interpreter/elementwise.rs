//! Functions of single elements, and softmax.

use super::*;

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
    check("softsign", &[], &|x| x / (1.0 + x.abs()));
    check("selu", &[], &|x| {
        1.0507009873554805 * (x.max(0.0) + 1.6732632423543772 * (x.min(0.0).exp() - 1.0))
    });
    check("sin", &[], &f64::sin);
    check("cos", &[], &f64::cos);
    check("atan", &[], &f64::atan);
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
