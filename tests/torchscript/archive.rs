//! Archives made by hand: a pickle assembler, a module of one class, and the zip around them.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Writes pickles of protocol 2, right or wrong.
#[derive(Clone)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Pickle {
        Pickle(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Pickle {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn str(self, text: &str) -> Pickle {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub fn int(self, n: i32) -> Pickle {
        self.raw(b"J").raw(&n.to_le_bytes())
    }

    fn ints(self, items: &[usize]) -> Pickle {
        let opened = self.raw(b"(");
        items.iter().fold(opened, |p, n| p.int(*n as i32)).raw(b"t")
    }

    /// A tensor over `data/KEY`.
    pub fn tensor(self, class: &str, key: &str, shape: &[usize], strides: &[usize]) -> Pickle {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .str("storage")
            .global("torch", class)
            .str(key)
            .str("cpu")
            .int(shape.iter().product::<usize>() as i32)
            .raw(b"tQ")
            .int(0)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// An instance of `__torch__.CLASS` whose attributes `fill` pushes as names and values.
    pub fn module(self, class: &str, fill: impl FnOnce(Pickle) -> Pickle) -> Pickle {
        fill(self.global("__torch__", class).raw(b")\x81}(")).raw(b"ub")
    }
}

/// A zip of these entries, under the folder `net/`.
pub fn zip(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("net/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `data.pkl` of `Net`: `weight` f32[2,3,1,1] and `training`.
pub fn data(training: bool) -> Vec<u8> {
    let bool: &[u8] = if training { b"\x88" } else { b"\x89" };
    let module = Pickle::new().module("Net", |p| {
        p.str("training").raw(bool).str("weight").tensor(
            "FloatStorage",
            "0",
            &[2, 3, 1, 1],
            &[3, 1, 1, 1],
        )
    });
    module.raw(b".").0
}

/// The six weights of `data`.
pub fn weights() -> Vec<u8> {
    [1.0f32, -2.0, 0.5, 3.0, 0.25, -1.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect()
}

/// The code of `Net` whose `forward` has this body, two spaces deep.
pub fn code(body: &str) -> String {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "class Net(Module):\n  __parameters__ = [\"weight\", ]\n  __buffers__ = []\n  weight : Tensor\n  training : bool\n  \
         def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n{body}"
    )
}

/// An archive of `Net` with this `forward`.
pub fn net(body: &str) -> Vec<u8> {
    with(&code(body), &data(false), &weights())
}

/// An archive of this code, `data.pkl` and `data/0`.
pub fn with(code: &str, data: &[u8], weights: &[u8]) -> Vec<u8> {
    let entries: [(&str, &[u8]); 5] = [
        ("data.pkl", data),
        ("code/__torch__.py", code.as_bytes()),
        ("data/0", weights),
        ("constants.pkl", b"\x80\x02)."),
        ("version", b"3\n"),
    ];
    zip(&entries, CompressionMethod::Stored)
}

/// Replaces every occurrence of `from` in `bytes` by `to`, which is as long.
pub fn patch(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let mut found = 0;
    for at in 0..=bytes.len().saturating_sub(from.len()) {
        if &bytes[at..at + from.len()] == from {
            out[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "nothing to replace");
    out
}
