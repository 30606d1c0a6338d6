//! What the graph does not say, and stays as it was called.

use super::*;

#[test]
fn a_function_that_stays_opaque_has_the_size_of_its_operand_and_the_type_that_pytorch_gives() {
    for (call, ty) in [
        ("torch.sigmoid(torch.gt(x, 0))", "f32[N,C,H,W]"),
        ("torch.tan(torch.gt(x, 0))", "f32[N,C,H,W]"),
        ("torch.abs(torch.gt(x, 0))", "bool[N,C,H,W]"),
    ] {
        let text = graph(&format!("return {call}")).to_string();
        assert!(text.contains(&format!(" : {ty}\n")), "{text}");
    }
}

#[test]
fn a_view_whose_sizes_have_too_long_a_product_is_left_to_libtorch() {
    let sum: String = (2..30)
        .map(|k| format!("s = torch.add(s, torch.floordiv(n, {k}))\n"))
        .collect();
    for rest in ["-1", "n"] {
        let view = format!("return torch.view(x, [s, s, s, s, s, s, s, s, {rest}])");
        let graph = graph(&format!("n = torch.size(x, 2)\ns = 1\n{sum}{view}"));
        assert_eq!(operators(&graph), ["opaque"]);
    }
    let ones = "1, ".repeat(100);
    let graph = graph(&format!("return torch.view(x, [{ones}-1])"));
    assert_eq!(operators(&graph), ["opaque"]);
}

#[test]
fn an_unknown_operator_is_kept_as_it_is_called() {
    let graph = graph(
        "return torch.frob_(torch.conv2d(x, self.weight), [1, torch.size(x, 0)], alpha=0.5, mode=\"{a}\")",
    );
    let opaque = graph.nodes().find_map(|node| match graph.op(node) {
        Some(Op::Opaque(opaque)) => Some(opaque.clone()),
        _ => None,
    });
    assert_eq!(
        &*opaque.unwrap().template,
        "torch.frob_(torch.clone({0}), [1, {$0}], alpha=0.5, mode=\"{{a}}\")"
    );
}

#[test]
fn a_linear_layer_that_is_no_matrix_or_broadcasts_its_bias_is_left_to_libtorch() {
    for arguments in [
        "torch.reshape(x, [192]), None",
        "torch.reshape(x, [24, 8]), torch.reshape(torch.sum(x), [1])",
    ] {
        let graph = graph(&format!("return torch.linear(x, {arguments})")).to_string();
        assert!(graph.contains("torch.linear("), "{graph}");
    }
}

#[test]
fn a_norm_without_weights_behind_an_unknown_operator_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("net.pt"), folder.path().join("out.pt"));
    for norm in [
        "torch.layer_norm(torch.frob(x), [8], None, None, 1e-05, True)",
        "torch.group_norm(torch.frob(x), 3, None, None, 1e-05, True)",
    ] {
        fs::write(&from, net(&format!("return {norm}"))).unwrap();
        optc::write(&optc::read(&from).unwrap(), &to).unwrap_or_else(|e| panic!("{norm}\n{e}"));
    }
}
