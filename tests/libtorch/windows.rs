//! Windows that PyTorch cannot say as other formats do: with pads that are uneven or wide, and results that reach further.

use optc::exec::torch::to_array;
use optc::exec::{Array, Interpreter};
use optc::ir::Graph;

use super::*;

#[test]
fn windows_compute_in_libtorch_what_the_interpreter_does() {
    let transposed = |attributes: &str| {
        let weight = "@w = parameter normal(1) : f32[3,4,3,2]\n  @b = parameter normal(2) : f32[4]";
        format!("{weight}\n  %y = conv_transpose(%x, @w, @b) {{{attributes}}}")
    };
    let layers = [
        // More is cut at the end than at the beginning, and the other way round.
        transposed("stride=[2,1], pad=[0:2,1:0]"),
        transposed("stride=[2,2], pad=[2:0,0:1], output_pad=[1,0]"),
        // The result reaches further than a stride.
        transposed("stride=[1,2], pad=[1:0,2:0], output_pad=[0,1]"),
        transposed("stride=[2,2], pad=[2:0,1:1], output_pad=[0,1]"),
        transposed("stride=[1,1], pad=[2:0,3:1], output_pad=[0,1], dilation=[1,2]"),
        "%y = max_pool(%x) {kernel=[3,2], stride=[2,1], pad=[2:1,0:1]}".to_owned(),
        "%y = max_pool(%x) {kernel=[3,2], stride=[1,1], pad=[2,1]}".to_owned(),
        "%y = avg_pool(%x) {kernel=[3,2], stride=[2,1], pad=[1:0,0:1], count_pad=true}".to_owned(),
        "%y = avg_pool(%x) {kernel=[3,2], stride=[2,1], pad=[1:0,0:1], count_pad=false}".to_owned(),
        "%y = avg_pool(%x) {kernel=[3,3], stride=[1,2], pad=[2:2,1:2], count_pad=false}".to_owned(),
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("net.pt");
    let x = normal(&[2, 3, 7, 6], 1);
    for layer in layers {
        let text = format!("graph net(%x: f32[N,3,7,W]) {{\n  {layer}\n  return %y\n}}\n");
        let graph: Graph = text
            .parse()
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let interpreter = Interpreter::<f32>::new(&graph).expect("the graph runs");
        let input = Array::from(to_array::<f32>(&x).expect("an array"));
        let expected = interpreter
            .run(vec![input])
            .expect(&text)
            .remove(0)
            .into_owned();
        optc::write(&optc::Model::new(graph), &path)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let found = to_array::<f32>(&Network::open(&path).run(&x)).expect("an array");
        assert_eq!(found.shape(), expected.shape(), "{text}");
        let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        assert!(difference.fold(0.0, f32::max) < 1e-4, "{text}");
    }
}
