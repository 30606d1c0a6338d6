//! What is written in place, and seen by other names.

use super::*;

#[test]
fn writing_in_place_is_seen_by_every_name() {
    assert_same(
        "y = torch.mul(x, 2)\nz = y\n_0 = torch.relu_(y)\nreturn torch.add(z, y)",
        "y = torch.relu(torch.mul(x, 2))\nreturn torch.add(y, y)",
    );
    assert_same(
        "y = [torch.mul(x, 2)]\n_0 = torch.add_(y[0], 1.)\nreturn y[0]",
        "return torch.add(torch.mul(x, 2), 1.)",
    );
}

#[test]
fn an_input_that_is_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt");
    for (body, written) in [
        ("_0 = torch.mul_(x, 2.)\nreturn torch.relu(x)", true),
        ("y = torch.relu_(torch.view(x, [-1]))\nreturn y", true),
        ("y = torch.mul(x, 2.)\n_0 = torch.relu_(y)\nreturn y", false),
    ] {
        fs::write(&path, net(body)).unwrap();
        let model = optc::read(&path).unwrap();
        assert_eq!(!model.written_inputs().is_empty(), written, "{body}");
    }
}

#[test]
fn a_view_that_is_written_is_read_but_its_base_is_not() {
    assert_same(
        "y = torch.mul(x, 2)\nv = torch.view(y, [-1, 8])\n_0 = torch.relu_(v)\nreturn v",
        "return torch.relu(torch.view(torch.mul(x, 2), [-1, 8]))",
    );
}

#[test]
fn writing_through_a_view_is_seen_in_the_base_and_in_other_views() {
    assert_same(
        "y = torch.mul(x, 2)\nw = torch.flatten(torch.transpose(y, 1, 2), 2)\nv = torch.view(torch.transpose(y, 2, 3), [-1, 8])\n\
         _0 = torch.relu_(torch.transpose(y, 0, 1))\nreturn torch.add(y, torch.mean(torch.transpose(y, 2, 3)))",
        "y = torch.relu(torch.mul(x, 2))\nreturn torch.add(y, torch.mean(torch.transpose(y, 2, 3)))",
    );
    assert_same(
        "y = torch.mul(x, 2)\nt = torch.permute(y, [3, 1, 0, 2])\nu = torch.unsqueeze(y, 1)\n_0 = torch.relu_(t)\n\
         return torch.add(torch.squeeze(u, 1), y)",
        "y = torch.relu(torch.mul(x, 2))\nreturn torch.add(y, y)",
    );
}

#[test]
fn a_part_that_is_written_is_scattered_into_the_whole() {
    let graph = graph(
        "y = torch.mul(x, 2)\n_0 = torch.fill_(torch.select(torch.slice(y, 2, 1, 3), 1, 0), 7)\nreturn y",
    );
    let templates: Vec<String> = graph
        .nodes()
        .filter_map(|node| match graph.op(node) {
            Some(Op::Opaque(opaque)) => Some(opaque.template.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(templates[0], "torch.fill_(torch.clone({0}), 7)");
    assert_eq!(templates[1..].len(), 2, "{templates:?}");
    assert!(
        templates[1..]
            .iter()
            .all(|t| t.starts_with("torch.slice_scatter("))
    );
}
