//! Operators as TorchScript, opened by libtorch: what it computes is what the interpreter does.

use optc::Model;
use optc::exec::torch::to_array;
use optc::exec::{Array, Interpreter};
use optc::ir::Graph;

use super::torch::{Network, normal};

/// Requires libtorch to compute from the file what the interpreter does from the graph.
fn assert_written(shape: &[i64], body: &str) {
    let sizes: Vec<String> = shape.iter().map(i64::to_string).collect();
    let text = format!("graph net(%x: f32[{}]) {{\n{body}\n}}", sizes.join(","));
    let graph: Graph = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}\n{error}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt");
    let x = normal(shape, 0);
    let array = Array::from(to_array::<f32>(&x).unwrap());
    let expected = Interpreter::<f32>::new(&graph)
        .unwrap()
        .run(vec![array])
        .unwrap();
    let expected = expected.into_iter().next().unwrap().into_owned();
    optc::write(&Model::new(graph), &path).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let found = to_array::<f32>(&Network::open(&path).run(&x)).unwrap();
    assert_eq!(expected.shape(), found.shape(), "{text}");
    let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f32::max);
    assert!(apart < 1e-5, "{text}\n{apart}");
}

#[test]
fn pads_of_every_mode_are_written_at_every_rank() {
    let shape = [2, 3, 4, 5, 3];
    for rank in 1..=5usize {
        for padded in 1u32..1 << rank {
            let amounts = |by: usize| -> String {
                let amount = |axis: usize| {
                    if padded >> axis & 1 == 1 {
                        (axis + by) % 2
                    } else {
                        0
                    }
                };
                (0..rank)
                    .map(|axis| amount(axis).to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            };
            let (before, after) = (amounts(0), amounts(1));
            for mode in ["constant", "reflect", "replicate", "circular"] {
                // PyTorch has no such pads of more than three axes.
                if mode != "constant" && (padded.trailing_zeros() as usize) + 3 < rank {
                    continue;
                }
                let pad = format!("pad(%x) {{before=[{before}], after=[{after}], mode={mode}}}");
                assert_written(&shape[..rank], &format!("  %y = {pad}\n  return %y"));
            }
        }
    }
}

#[test]
fn a_window_that_starts_in_the_pad_is_not_counted() {
    for height in [4, 5] {
        for pool in [
            "max_pool(%x) {kernel=[2,2], stride=[2,1], pad=[0:1,0], dilation=[1,1], ceil=true}",
            "avg_pool(%x) {kernel=[2,2], stride=[2,1], pad=[0:1,0], ceil=true, count_pad=true}",
            "avg_pool(%x) {kernel=[2,2], stride=[2,1], pad=[0:1,0], ceil=true, count_pad=false}",
        ] {
            assert_written(&[2, 1, height, 5], &format!("  %y = {pool}\n  return %y"));
        }
    }
}

#[test]
fn attention_with_a_mask_also_hides_what_comes_later() {
    assert_written(
        &[2, 3, 4],
        "  @m = literal [0.5, -1.0, 0.25] : f32[3]\n  %y = attention(%x, %x, %x, @m) {causal=true}\n  return %y",
    );
}
