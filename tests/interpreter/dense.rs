//! Products of matrices, attention and normalisations.

use super::*;

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
