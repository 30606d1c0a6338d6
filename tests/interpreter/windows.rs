//! Pools, reductions, pads and resizes.

use super::*;

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
    // The only window is larger than all there is, and starts inside.
    let short = array(&[1, 1, 2], &[1.0, -2.0]);
    let attributes = [
        ("kernel", "[3]"),
        ("stride", "[2]"),
        ("pad", "[0]"),
        ("ceil", "true"),
    ];
    let max = [&attributes[..], &[("dilation", "[1]")]].concat();
    assert_close(
        &run(&op("max_pool", &max), &[&short]),
        &array(&[1, 1, 1], &[1.0]),
    );
    let mean = [&attributes[..], &[("count_pad", "true")]].concat();
    assert_close(
        &run(&op("avg_pool", &mean), &[&short]),
        &array(&[1, 1, 1], &[-0.5]),
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
