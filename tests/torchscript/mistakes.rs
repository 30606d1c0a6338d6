//! Files that are no networks, and networks that are no files: what is said about them.

use std::fmt::Write as _;
use std::fs;

use super::*;

/// A damaged or unwelcome file, and what is said about it.
fn mistakes() -> Vec<(&'static str, Vec<u8>)> {
    let good = net("return torch.conv2d(x, self.weight)");
    let module = |class: &str, attribute: &str| {
        Pickle::new()
            .module("Net", |p| {
                p.str("weight").global(class, attribute).raw(b")R")
            })
            .raw(b".")
            .0
    };
    let tensor = |class: &str, shape: &[usize], strides: &[usize]| {
        Pickle::new()
            .module("Net", |p| {
                p.str("weight").tensor(class, "0", shape, strides)
            })
            .raw(b".")
            .0
    };
    let forward = code("return torch.conv2d(x, self.weight)");
    let pickled = |bytes: &[u8]| with(&forward, bytes, &weights());
    let encrypted = {
        // The flag of encryption in the central directory and the local header of `data.pkl`.
        let mut bytes = good.clone();
        for (signature, flags) in [(b"PK\x01\x02", 8), (b"PK\x03\x04", 6)] {
            let at = bytes.windows(4).position(|w| w == signature).unwrap();
            bytes[at + flags] |= 1;
        }
        bytes
    };
    // Method 12, bzip2, in both headers of `data.pkl`.
    let compressed = {
        let mut bytes = good.clone();
        for (signature, method) in [(b"PK\x01\x02", 10), (b"PK\x03\x04", 8)] {
            let at = bytes.windows(4).position(|w| w == signature).unwrap();
            bytes[at + method] = 12;
        }
        bytes
    };
    let bomb = {
        let zeros = vec![0; 1 << 20];
        let bytes = zip(
            &[("data.pkl", &zeros), ("code/a.py", b"")],
            CompressionMethod::Deflated,
        );
        let (size, lie) = ((1u32 << 20).to_le_bytes(), (1u32 << 30).to_le_bytes());
        patch(&bytes, &size, &lie)
    };
    let more_than_it_says = {
        let text = [b"# ".as_slice(), &[b'a'; 4000]].concat();
        let entries: [(&str, &[u8]); 3] = [
            ("data.pkl", &data(false)),
            ("code/__torch__.py", &text),
            ("constants.pkl", b"\x80\x02)."),
        ];
        let bytes = zip(&entries, CompressionMethod::Deflated);
        patch(&bytes, &4002u32.to_le_bytes(), &40u32.to_le_bytes())
    };
    let state_dict = Pickle::new()
        .global("collections", "OrderedDict")
        .raw(b")R.")
        .0;
    let state_dict = zip(
        &[
            ("data.pkl", &state_dict),
            ("data/0", &weights()),
            ("version", b"3\n"),
        ],
        CompressionMethod::Stored,
    );
    let object = Pickle::new()
        .global("torch.nn.modules.linear", "Linear")
        .raw(b")\x81.")
        .0;
    let object = zip(
        &[("data.pkl", &object), ("version", b"3\n")],
        CompressionMethod::Stored,
    );
    let exported = zip(
        &[("models/model.json", b"{}"), ("archive_format", b"pt2")],
        CompressionMethod::Stored,
    );
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let mut safetensors = 2u64.to_le_bytes().to_vec();
    safetensors.extend_from_slice(b"{}");
    let twice = zip(
        &[("data.pkl", b"a"), ("data.pkk", b"b")],
        CompressionMethod::Stored,
    );
    let twice = patch(&twice, b"data.pkk", b"data.pkl");
    let itself = Pickle::new()
        .global("__torch__", "Net")
        .raw(b")\x81q\x00}(")
        .str("child")
        .raw(b"h\x00ub.")
        .0;
    let deep = format!("return {}x{}", "torch.relu(".repeat(3000), ")".repeat(3000));
    vec![
        ("an empty file", vec![]),
        ("a file cut short", good[..good.len() / 2].to_vec()),
        (
            "a file cut in its directory",
            [&good[..good.len() - 40], &good[good.len() - 22..]].concat(),
        ),
        ("a file of something else", b"not a model\n".to_vec()),
        (
            "a zip of something else",
            zip(&[("readme.txt", b"hello")], CompressionMethod::Stored),
        ),
        ("a state dict", state_dict),
        ("a pickled module", object),
        (
            "a pickle of 2019",
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
        ),
        ("a tar of 2017", tar),
        ("an exported program", exported),
        ("safetensors", safetensors),
        ("onnx", b"\x08\x07\x12\x07pytorch".to_vec()),
        ("an encrypted entry", encrypted),
        ("an entry of another compression", compressed),
        ("a bomb", bomb),
        (
            "an entry that unpacks to more than it says",
            more_than_it_says,
        ),
        (
            "a path that leaves the archive",
            patch(&good, b"net/data/0", b"../../pw/0"),
        ),
        (
            "an absolute path",
            patch(&good, b"net/version", b"/et/version"),
        ),
        ("two entries of one name", twice),
        (
            "no code",
            zip(
                &[("data.pkl", &data(false)), ("constants.pkl", b"\x80\x02).")],
                CompressionMethod::Stored,
            ),
        ),
        (
            "a pickle that calls something",
            pickled(&module("os", "system")),
        ),
        (
            "a pickle that names a builtin",
            pickled(&module("builtins", "eval")),
        ),
        ("a pickle of another protocol", pickled(b"\x80\x04.")),
        ("a pickle cut short", pickled(&data(false)[..40])),
        ("a pickle with an empty stack", pickled(b"\x80\x02R.")),
        ("a pickle of another opcode", pickled(b"\x80\x02i.")),
        (
            "no storage",
            zip(
                &[
                    ("data.pkl", &data(false)),
                    ("code/__torch__.py", forward.as_bytes()),
                    ("constants.pkl", b"\x80\x02)."),
                ],
                CompressionMethod::Stored,
            ),
        ),
        (
            "a storage too short",
            pickled(&tensor("FloatStorage", &[2, 3, 2, 1], &[6, 2, 1, 1])),
        ),
        (
            "a stride beyond the storage",
            pickled(&tensor("FloatStorage", &[2, 3, 1, 1], &[1 << 30, 1, 1, 1])),
        ),
        (
            "a complex weight",
            pickled(&tensor("ComplexFloatStorage", &[1], &[1])),
        ),
        (
            "a quantized weight",
            pickled(&module("torch._utils", "_rebuild_qtensor")),
        ),
        ("a module within itself", pickled(&itself)),
        (
            "a branch on data",
            net(
                "if bool(torch.gt(torch.sum(x), 0.)):\n  y = x\nelse:\n  y = torch.max_pool2d(x, [2, 2])\nreturn y",
            ),
        ),
        (
            "a branch on a size",
            net(
                "if torch.gt(torch.size(x, 2), 7):\n  y = x\nelse:\n  y = torch.max_pool2d(x, [2, 2])\nreturn y",
            ),
        ),
        (
            "a loop over data",
            net("for i in range(int(torch.sum(x))):\n  x = torch.relu(x)\nreturn x"),
        ),
        (
            "a model that raises",
            net("ops.prim.RaiseException(\"no\")\nreturn x"),
        ),
        ("a loop without end", net("while True:\n  pass\nreturn x")),
        (
            "a list that grows without end",
            net("a = [1]\nwhile True:\n  a = torch.add(a, a)\nreturn x"),
        ),
        (
            "lists that nest without end",
            net("a = [1]\nwhile True:\n  a = [a]\nreturn x"),
        ),
        (
            "a function that calls itself",
            net("return (self).forward(x, )"),
        ),
        ("an expression that nests too deep", net(&deep)),
        ("code that is no Python", net("return (((")),
        ("code beyond TorchScript", net("return [x for x in y]")),
        ("a name that is not defined", net("return torch.relu(z)")),
        (
            "an attribute that is not there",
            net("return torch.relu(self.bias)"),
        ),
        (
            "a shape that does not fit",
            net("return torch.conv2d(torch.conv2d(x, self.weight), self.weight)"),
        ),
        (
            "an overwritten base that is read",
            net("y = torch.mul(x, 2)\nv = torch.reshape(y, [-1])\n_0 = torch.relu_(v)\nreturn y"),
        ),
        (
            "a weight that is written",
            net("_0 = torch.add_(self.weight, 1)\nreturn x"),
        ),
        (
            "an attribute that is written",
            net("self.weight = x\nreturn x"),
        ),
        (
            "batch norm in training",
            net("m = self.weight\nreturn torch.batch_norm(x, m, m, m, m, True, 0.1, 1e-05, True)"),
        ),
        (
            "dropout in training",
            with(
                &code("return torch.dropout(x, 0.5, self.training)"),
                &data(true),
                &weights(),
            ),
        ),
        (
            "an input that is no tensor",
            with(
                &forward.replace("x: Tensor", "x: List[Tensor]"),
                &data(false),
                &weights(),
            ),
        ),
    ]
}

#[test]
fn every_mistake_in_a_file_is_explained() {
    let mut text = String::new();
    for (what, bytes) in mistakes() {
        match read(&bytes, &[]) {
            Err(error) => {
                let _ = writeln!(text, "# {what}\n{error}\n");
            }
            Ok(graph) => panic!("{what} was read:\n{graph}"),
        }
    }
    common::snapshot("errors/torchscript", &text);
}

#[test]
fn what_cannot_be_written_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        "graph net(%x: f32[N,3,8,8]) {\n  return %x\n}",
        "graph net(%x: f32[N,3,8,8]) {
  %a = opaque \"aten::foo\"(%x) {template=\"torch.foo({0})\"} : f32[N,3,8,8]
  %b = opaque \"aten::bar\"(%a) {template=\"torch.bar({0})\"} : f32[N,3,8,8]
  %c = opaque \"aten::foo\"(%b) {template=\"torch.foo({0})\"} : f32[N,3,8,8]
  return %c
}",
    ];
    let mut text = String::new();
    for (graph, name) in texts.iter().zip(["net.h5", "net.onnx"]) {
        let model = optc::Model::new(graph.parse().unwrap());
        let error = optc::write(&model, folder.path().join(name)).unwrap_err();
        let error = error.to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        let _ = writeln!(text, "{error}\n");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    common::snapshot("errors/write", &text);
}
