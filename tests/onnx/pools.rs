//! Pools that count a last window that is not full: PyTorch counts those that start before the pad behind the input.

use optc::Model;
use optc::ir::Graph;
use optc::judge::{Options, Verdict, judge};

use super::{common, distance, holds, open, write};

/// A pool of `x` along the height, whose size is in the type or a symbol's number.
fn pool(kind: &str, height: (bool, usize), window: [usize; 5]) -> Option<(Graph, usize)> {
    let [kernel, stride, before, after, dilation] = window;
    let (free, size) = height;
    let extent = dilation * (kernel - 1) + 1;
    let travel = (size + before + after).checked_sub(extent)?;
    let mut windows = travel / stride + 1;
    if travel % stride != 0 && windows * stride < size + before {
        windows += 1;
    }
    let more = match kind {
        "max_pool" => format!("dilation=[{dilation},1]"),
        _ => format!("count_pad={}", kind.ends_with("pads")),
    };
    let name = kind.trim_end_matches("_with_pads");
    let (ty, bound) = if free {
        ("H".to_string(), format!(" where H={size}"))
    } else {
        (size.to_string(), String::new())
    };
    let text = format!(
        "graph g(%x: f32[1,2,{ty},3]){bound} {{
           %y = {name}(%x) {{kernel=[{kernel},1], stride=[{stride},1], pad=[{before}:{after},0], ceil=true, {more}}}
           return %y
         }}"
    );
    Some((text.parse().ok()?, windows))
}

#[test]
fn windows_that_are_not_full_are_filled_by_pads_where_sizes_are_numbers() {
    let mut tried = 0;
    for choice in 0..4 * 4 * 3 * 3 * 2 * 7usize {
        let mut rest = choice;
        let mut next = |n: usize| (rest % n, rest /= n).0;
        let (kernel, stride, before, after) = (1 + next(4), 1 + next(4), next(3), next(3));
        let (dilation, size) = (1 + next(2), 1 + next(7));
        for kind in ["max_pool", "avg_pool", "avg_pool_with_pads"] {
            let dilation = if kind == "max_pool" { dilation } else { 1 };
            let window = [kernel, stride, before, after, dilation];
            let Some((graph, windows)) = pool(kind, (false, size), window) else {
                continue;
            };
            let written = write(&Model::new(graph.clone()));
            assert!(!holds(&written, b"ceil_mode"), "{graph}");
            let again = open(&written).unwrap().graph;
            let shape = |graph: &Graph| {
                graph
                    .ty(graph.outputs()[0].value)
                    .shape()
                    .map(<[_]>::to_vec)
            };
            let wanted = [1, 2, windows, 3].map(optc::ir::Dim::from);
            assert_eq!(shape(&again).unwrap(), wanted, "{graph}");
            // No window is without an element.
            if before + after < kernel {
                assert!(distance(&graph, &again) < 1e-6, "{graph}\n{again}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn onnxruntime_counts_the_windows_that_pytorch_counts() {
    if !common::has_onnxruntime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Kernel, stride, pads, dilation; and the pads that fill the last window. The first of them reads rows 0 and 2 of 4.
    let cases = [
        ("max_pool", 4, [1, 2, 0, 0, 1], [0, 0]),
        ("max_pool", 4, [2, 2, 0, 1, 1], [0, 0]),
        ("max_pool", 6, [3, 2, 0, 0, 1], [0, 1]),
        ("max_pool", 5, [2, 3, 1, 1, 2], [1, 0]),
        ("avg_pool", 4, [1, 2, 0, 0, 1], [0, 0]),
        ("avg_pool", 6, [3, 2, 0, 0, 1], [0, 1]),
        ("avg_pool_with_pads", 5, [3, 4, 1, 1, 1], [1, 1]),
    ];
    for (kind, size, window, [before, after]) in cases {
        let filled = [window[0], window[1], before, after, window[4]];
        for free in [false, true] {
            let (graph, windows) = pool(kind, (free, size), window).unwrap();
            let (mut plain, filled) = pool(kind, (false, size), filled).unwrap();
            assert_eq!(filled, windows);
            let text = plain.to_string().replace(", ceil=true", "");
            plain = text.parse().unwrap();
            let [wanted, written] = ["wanted.onnx", "written.onnx"].map(|n| folder.path().join(n));
            optc::write(&Model::new(plain.clone()), &wanted).unwrap();
            optc::write(&Model::new(graph.clone()), &written).unwrap();
            match judge(&wanted, &written, &plain, &Options::default()) {
                Ok(Some(Verdict::Judged(judgement))) => {
                    assert!(judgement.max_rel() < 1e-6, "{graph}: {judgement}")
                }
                other => panic!("{graph}: {other:?}"),
            }
        }
    }
}
