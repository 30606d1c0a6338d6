//! What moves elements about.

use super::*;

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
