//! What scripted networks do with lists, dictionaries and texts: the numbers are those that PyTorch returns for the same code.

use optc::ir::Op;

use super::{assert_same, graph, net, read};

/// Statements that compute `n` after `PREFIX`, and what it then is.
const PROGRAMS: &[(&str, i64)] = &[
    (
        "_0 = torch.append(l, 4)\nn = torch.add(torch.len(k), k[-1])",
        8,
    ),
    ("torch.extend(l, e)\nn = torch.add(torch.len(k), k[3])", 10),
    (
        "torch.insert(l, -1, 9)\nn = torch.add(torch.mul(l[0], 10), l[2])",
        39,
    ),
    ("torch.insert(l, 100, 9)\nn = l[-1]", 9),
    (
        "torch.Delete(l, 1)\nn = torch.add(torch.mul(k[1], 10), torch.len(k))",
        22,
    ),
    (
        "torch.remove(l, 1)\nn = torch.add(torch.mul(k[1], 10), torch.len(k))",
        22,
    ),
    (
        "torch.sort(l)\nn = torch.add(torch.mul(k[0], 10), k[2])",
        13,
    ),
    (
        "torch.sort(l, True)\nn = torch.add(torch.mul(l[0], 10), l[2])",
        31,
    ),
    (
        "f = [2.5, -1.0, -0.5]\ntorch.sort(f)\nn = int(torch.mul(f[0], 10))",
        -10,
    ),
    ("p = [(1, 2), (0, 5)]\ntorch.sort(p)\nn = (p[0])[1]", 5),
    (
        "s = sorted(l)\nn = torch.add(torch.mul(s[0], 10), l[0])",
        13,
    ),
    ("torch.reverse(l)\nn = k[0]", 2),
    (
        "n = torch.add(torch.pop(l), torch.mul(10, torch.pop(l, 0)))\nn = torch.add(n, torch.mul(100, torch.len(k)))",
        132,
    ),
    (
        "n = torch.add(torch.count(l, 2), torch.mul(torch.index(l, 2), 10))",
        21,
    ),
    (
        "m = torch.copy(l)\n_0 = torch._set_item(m, 0, 30)\nn = torch.add(m[0], l[0])",
        33,
    ),
    ("torch.clear(l)\nn = torch.len(k)", 0),
    ("m = torch.mul_(l, 2)\nn = torch.len(k)", 6),
    ("m = torch.mul(2, e)\nn = torch.len(m)", 4),
    (
        "m = torch.slice(l, None, None, -1)\nn = torch.add(torch.mul(m[0], 10), m[1])",
        21,
    ),
    (
        "m = torch.slice(l, -1, 0, -2)\nn = torch.add(torch.mul(torch.len(m), 10), m[0])",
        12,
    ),
    (
        "m = torch.slice(l, 5, 0, -1)\nn = torch.add(torch.mul(torch.len(m), 10), m[0])",
        22,
    ),
    (
        "m = torch.slice(l, None, -5, -1)\nn = torch.add(torch.mul(torch.len(m), 10), m[2])",
        33,
    ),
    (
        "m = torch.slice(l)\n_0 = torch._set_item(m, 0, 100)\nn = l[0]",
        3,
    ),
    (
        "n = torch.add(int(torch.__contains__(e, 3)), torch.mul(2, int(torch.__contains__(e, 5))))",
        2,
    ),
    (
        "m = [[1], [2]]\n_0 = torch.append(m[0], 3)\nn = torch.len(m[0])",
        2,
    ),
    (
        "p = [1]\nr = torch.mul([p, [3]], 2)\n_0 = torch.append(r[0], 3)\nn = torch.len(r[2])",
        2,
    ),
    ("torch._set_item(d, \"c\", 3)\nn = d[\"c\"]", 3),
    (
        "torch.update(d, {\"d\": 4, \"a\": 9})\nn = torch.add(torch.mul(d[\"a\"], 10), torch.len(d))",
        93,
    ),
    ("torch.Delete(d, \"a\")\nn = torch.len(d)", 1),
    (
        "n = torch.add(torch.pop(d, \"b\"), torch.mul(10, torch.len(d)))",
        12,
    ),
    (
        "n = torch.add(torch.pop(d, \"z\", 5), torch.mul(10, torch.len(d)))",
        25,
    ),
    (
        "n = torch.add(torch.setdefault(d, \"z\", 5), torch.mul(10, torch.setdefault(d, \"a\", 7)))\nn = torch.add(n, d[\"z\"])",
        20,
    ),
    (
        "z = torch.popitem(d)\nn = torch.add(torch.mul((z)[1], 10), torch.len(d))",
        11,
    ),
    (
        "m = torch.copy(d)\ntorch._set_item(m, \"a\", 10)\nn = torch.add(d[\"a\"], m[\"a\"])",
        11,
    ),
    ("torch.clear(d)\nn = torch.len(d)", 0),
    (
        "n = torch.add(torch.get(d, \"q\", 7), torch.get(d, \"b\"))",
        9,
    ),
    (
        "n = torch.len(torch.join(\", \", torch.split(\"a b c\", \" \")))",
        7,
    ),
    ("n = torch.len(torch.split(\" a  b \"))", 2),
    ("n = torch.len(torch.format(\"{} {}\", [2.5, 1.], 0.1))", 29),
    (
        "n = torch.len(torch.percentFormat(\"%d %s %%\", (3, [1, 2])))",
        10,
    ),
    (
        "n = 0\nfor i in range(3):\n  n = torch.add(n, torch.ord((\"abc\")[i]))",
        294,
    ),
    (
        "n = torch.find(torch.replace(\"Hello\", \"l\", \"LL\"), \"o\")",
        6,
    ),
    ("n = int(torch.pow(2, 3))", 8),
    (
        "n = torch.add(torch.__lshift__(3, 2), torch.__and__(6, 3))",
        14,
    ),
];

const PREFIX: &str = "l = [3, 1, 2]\nk = l\ne = [5, 4]\nd = {\"a\": 1, \"b\": 2}\n";

#[test]
fn lists_dictionaries_and_texts_are_what_they_are_in_pytorch() {
    for (program, n) in PROGRAMS {
        let body = format!("{PREFIX}{program}\nreturn torch.add(x, n)");
        assert_same(&body, &format!("return torch.add(x, {n})"));
    }
}

#[test]
fn lists_of_tensors_keep_their_order() {
    let parts = "p = [x, torch.mul(x, 2), torch.mul(x, 3)]\n";
    for (change, order) in [
        ("q = torch.slice(p, None, None, -1)", "[p[2], p[1], p[0]]"),
        ("torch.Delete(p, 1)\nq = p", "[x, torch.mul(x, 3)]"),
        (
            "torch.reverse(p)\nq = p",
            "[torch.mul(x, 3), torch.mul(x, 2), x]",
        ),
    ] {
        assert_same(
            &format!("{parts}{change}\nreturn torch.cat(q, 1)"),
            &format!("{parts}return torch.cat({order}, 1)"),
        );
    }
}

#[test]
fn what_is_not_evaluated_is_refused_and_never_dropped() {
    for (program, operator) in [
        (
            "l = [3, torch.size(x, 1)]\ntorch.sort(l)",
            "`sort` of a list",
        ),
        (
            "l = [torch.size(x, 2), 3]\ntorch.remove(l, 3)",
            "`remove` of a list",
        ),
        (
            "l = [1, 2]\ntorch.Delete(l, torch.size(x, 2))",
            "`pop` of a list",
        ),
        ("d = {\"a\": 1}\ntorch.frob(d, 2)", "`frob` of a dict"),
        (
            "l = torch.chunk(x, torch.size(x, 2), 1)\ntorch.reverse(l)",
            "`reverse` of a value known only at run time",
        ),
        (
            "d = {3: 1, torch.size(x, 2): 2}",
            "a dictionary's keys are known only when the model runs",
        ),
    ] {
        let error = read(&net(&format!("{program}\nreturn x")), &["1x3x8x8"]).unwrap_err();
        assert!(
            error.contains(operator) && error.contains("     | "),
            "{error}"
        );
    }
}

#[test]
fn a_condition_on_sizes_selects_between_what_both_branches_compute() {
    let branches = "if torch.__contains__([3, 5], torch.size(x, 2)):\n  y = torch.mul(x, 3)\nelse:\n  y = x\nreturn y";
    let graph = graph(branches);
    let templates: Vec<&str> = graph
        .nodes()
        .filter_map(|node| match graph.op(node) {
            Some(Op::Opaque(opaque)) => Some(&*opaque.template),
            _ => None,
        })
        .collect();
    assert_eq!(
        templates,
        ["torch.__contains__([3, 5], {$0})", "({0} if {1} else {2})"]
    );
    // What could fail in vain, or changes something, is not computed in vain.
    for branch in ["y = torch.max_pool2d(x, [9, 9])", "y = torch.relu_(x)"] {
        let body = branches.replace("y = torch.mul(x, 3)", branch);
        let error = read(&net(&body), &["1x3x8x8"]).unwrap_err();
        assert!(error.contains("the model branches on data"), "{error}");
    }
}
