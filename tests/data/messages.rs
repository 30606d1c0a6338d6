//! Every message.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use optc::exec::top1;
use optc::formats::{InputShape, bind_inputs};
use optc::pipeline::{Cost, PassContext};
use tempfile::TempDir;

use crate::*;

/// Every message, with the folder's path taken out.
struct Messages {
    folder: TempDir,
    text: String,
}

impl Messages {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add<T>(&mut self, what: &str, result: optc::Result<T>) {
        let Err(error) = result else {
            panic!("{what} was accepted");
        };
        let message = error.to_string();
        let message = message.replace(&self.path().display().to_string(), "DIR");
        write!(self.text, "# {what}\n{message}\n\n").unwrap();
    }

    /// Opens and reads it.
    fn read(&mut self, what: &str, spec: &str, graph: &Graph) {
        let read = open(spec, graph).and_then(|data| data.sample(256, 0));
        self.add(what, read);
    }
}

#[test]
fn what_cannot_be_taken_is_explained() {
    let mut all = Messages {
        folder: tempfile::tempdir().unwrap(),
        text: String::new(),
    };
    let spec = |text: &str| text.parse::<DataSpec>();
    all.add("no kind", spec("data.npz"));
    all.add("an unknown kind", spec("zip:data.zip"));
    all.add("no path", spec("npz:"));
    all.add("an unknown option", spec("npz:data.npz,meen=0.5"));
    all.add("an option of another kind", spec("npz:data.npz,resize=8"));
    all.add("a mean that is no number", spec("npz:a,b.npz,mean=0.5/x"));
    all.add("a deviation of nothing", spec("npz:data.npz,mean=0,std=0"));
    all.add("an array without a name", spec("npz:data.npz,x="));
    assert_eq!(
        spec("npz:a,b.npz,std=2").unwrap().to_string(),
        "npz:a,b.npz,std=2"
    );

    let graph = network("f32[N,2]");
    let numbers = f32s(&[1.0, 2.0, 3.0, 4.0]);
    let x = |descr: &str, shape: &str| vec![("x", npy(descr, shape, &numbers))];
    let missing = format!("npz:{}", all.path().join("missing.npz").display());
    all.read("a file that is not there", &missing, &graph);
    let other = all.path().join("other.npz");
    fs::write(&other, b"\x93NUMPY").unwrap();
    all.read("no archive", &format!("npz:{}", other.display()), &graph);
    let good = npz(all.path(), &x("'<f4'", "(2, 2)"));
    let content = fs::read(all.path().join("data.npz")).unwrap();
    fs::write(&other, &content[..content.len() - 9]).unwrap();
    all.read(
        "an archive cut short",
        &format!("npz:{}", other.display()),
        &graph,
    );
    fs::write(&other, "").unwrap();
    all.read("an empty file", &format!("npz:{}", other.display()), &graph);
    all.add("another width", open(&good, &network("f32[N,3]")));
    let unlabelled = format!("{good},y=labels");
    all.read("no labels of this name", &unlabelled, &graph);
    let header = |text: &str| vec![("x", npy_with(text, &numbers))];
    let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}";
    let nested = format!("{{'descr': {}{}, ", "[".repeat(500), "]".repeat(500));
    let long = format!("{{'descr': {}1, ", "-".repeat(2000));
    let mut wrong_zip = x("'<f4'", "(2, 2)");
    wrong_zip[0].0 = "train_x";
    for (what, arrays) in [
        ("no x", wrong_zip),
        ("no array", vec![("x", b"1 2 3".to_vec())]),
        (
            "another version",
            vec![("x", b"\x93NUMPY\x09\x00\x02\x00{}".to_vec())],
        ),
        (
            "a header longer than the file",
            vec![("x", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec())],
        ),
        ("a header that is no dictionary", header("[1, 2]")),
        ("a header that nests", header(&nested)),
        (
            "a header of Python",
            header("{'descr': __import__('os'), 'shape': (2, 2)}"),
        ),
        ("a header that goes on", header(&long)),
        (
            "a header without a shape",
            header("{'descr': '<f4', 'fortran_order': False}"),
        ),
        ("a negative size", x("'<f4'", "(-2, 2)")),
        ("more than the file holds", x("'<f4'", "(1000000000, 2)")),
        (
            "more than memory holds",
            x("'<f4'", "(9223372036854775807, 4)"),
        ),
        ("less than the file holds", x("'<f4'", "(1, 2)")),
        ("Fortran order", header(fortran)),
        ("objects", x("'|O'", "(2, 2)")),
        ("records", x("[('a', '<f4')]", "(2, 2)")),
        ("big-endian numbers", x("'>f4'", "(2, 2)")),
        ("whole numbers", x("'<i4'", "(2, 2)")),
        (
            "a single number",
            vec![("x", npy("'<f4'", "()", &numbers[..4]))],
        ),
        ("no samples", vec![("x", npy("'<f4'", "(0, 2)", &[]))]),
        ("another shape", x("'<f4'", "(1, 4)")),
        ("another rank", x("'<f4'", "(2, 2, 1)")),
        (
            "not a number",
            vec![(
                "x",
                npy("'<f4'", "(2, 2)", &f32s(&[0.0, 1.0, 2.0, f32::NAN])),
            )],
        ),
        (
            "too few labels",
            vec![
                x("'<f4'", "(2, 2)").remove(0),
                ("y", npy("'|u1'", "(1,)", &[1])),
            ],
        ),
        (
            "labels that are no numbers of classes",
            vec![
                x("'<f4'", "(2, 2)").remove(0),
                ("y", npy("'<f8'", "(2,)", &[0; 16])),
            ],
        ),
        (
            "a bomb",
            vec![("x", npy("'<f4'", "(8388608, 2)", &vec![0; 64 << 20]))],
        ),
    ] {
        let spec = npz(all.path(), &arrays);
        if what == "a bomb" {
            // Deflate reaches a ratio of 1030; what says that it unpacks to more is refused unread.
            let path = all.path().join("data.npz");
            let mut content = fs::read(&path).unwrap();
            for signature in [&b"PK\x01\x02"[..], b"PK\x03\x04"] {
                let at = content
                    .windows(4)
                    .rposition(|four| four == signature)
                    .unwrap();
                let at = at + if signature[2] == 1 { 24 } else { 22 };
                content[at..at + 4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
            }
            fs::write(&path, content).unwrap();
        }
        all.read(what, &spec, &graph);
    }
    let spec = npz(all.path(), &x("'<f4'", "(2, 2)"));
    all.read("mean for floats", &format!("{spec},mean=0.5"), &graph);
    let pixels = npz(all.path(), &[("x", npy("'|u1'", "(1, 2, 2)", &[0; 4]))]);
    all.read(
        "means for other channels",
        &format!("{pixels},mean=1/2/3"),
        &network("f32[N,2,2]"),
    );
    let mut bound = network("f32[N,C,H,W]");
    bind_inputs(&mut bound, &["1x3x8x8".parse::<InputShape>().unwrap()]).unwrap();
    let images = npz(all.path(), &[("x", npy("'|u1'", "(1, 3, 4, 4)", &[0; 48]))]);
    all.read("another size than --input says", &images, &bound);

    let two = "graph net(%x: f32[N,2], %y: f32[N,2]) {\n  %z = add(%x, %y)\n  return %z\n}\n";
    all.read("a network of two inputs", &images, &two.parse().unwrap());
    all.read("a network of whole numbers", &images, &network("i64[N,2]"));

    let folder = all.path().join("images");
    let spec = format!("folder:{}", folder.display());
    all.read(
        "a folder that is not there",
        &spec,
        &network("f32[N,3,4,4]"),
    );
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "none").unwrap();
    all.read("a folder without images", &spec, &network("f32[N,3,4,4]"));
    fs::write(folder.join("bad.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    all.read("only damaged images", &spec, &network("f32[N,3,4,4]"));
    all.read(
        "images for an input of open rank",
        &spec,
        &network("f32[*]"),
    );
    all.read("images for no image", &spec, &graph);
    all.read("images for many channels", &spec, &network("f32[N,7,4,4]"));

    let graph = network("f32[N,2]");
    let counted = |spec: &str, graph: &Graph| top1(graph, &open(spec, graph)?, |_| {});
    let labelled = two_classes(all.path(), &[0, 1, 2]);
    all.add("a label beyond the classes", counted(&labelled, &graph));
    let negative = two_classes(all.path(), &[0, -1, 0]);
    all.add("a negative label", counted(&negative, &graph));
    let unlabelled = npz(all.path(), &x("'<f4'", "(2, 2)"));
    all.add("no labels", counted(&unlabelled, &graph));
    let labels = ("y", npy("'|u1'", "(1,)", &[0]));
    let spec = npz(
        all.path(),
        &[("x", npy("'<f4'", "(1, 2, 2)", &numbers)), labels],
    );
    all.add("no classifier", counted(&spec, &network("f32[N,2,2]")));

    let training = |spec: &str, graph: &Graph| open(spec, graph)?.training_set();
    let required = |spec: &str| training(spec, &graph)?.require_labels("training", 2);
    let unlabelled = npz(all.path(), &x("'<f4'", "(2, 2)"));
    all.add("no labels to train by", required(&unlabelled));
    let beyond = two_classes(all.path(), &[0, 1, 2]);
    all.add("a label to train by beyond the classes", required(&beyond));
    all.add(
        "to crop what is no image",
        training(&format!("{beyond},crop=2"), &graph),
    );
    let none = PassContext::new(0, Cost::default());
    all.add(
        "a pass that asks for data where there is none",
        none.training.training_set(),
    );

    common::snapshot("errors/data", &all.text);
}

#[test]
fn images_that_cannot_be_taken_are_explained() {
    let mut all = Messages {
        folder: tempfile::tempdir().unwrap(),
        text: String::new(),
    };
    let graph = network("f32[N,3,4,4]");
    let open_size = network("f32[N,3,H,W]");
    let folder = all.path().join("images");
    let images = format!("folder:{}", folder.display());
    fs::create_dir_all(folder.join("train")).unwrap();
    all.read("an empty folder", &images, &graph);
    fs::write(folder.join("train/a.png"), b"damaged").unwrap();
    all.read(
        "damaged images for an input of open size",
        &images,
        &open_size,
    );
    fs::write(folder.join("train/b.png"), png(3, [0; 3])).unwrap();
    fs::write(folder.join("train/c.png"), png(5, [0; 3])).unwrap();
    all.read("images of several sizes", &images, &open_size);
    all.read("no parts", &format!("{images},split=test"), &graph);
    let spec = |option: &str| format!("folder:images,{option}").parse::<DataSpec>();
    all.add("no such part", spec("split=val"));
    all.add("neither true nor false", spec("flip=1"));
    all.add("too much to crop", spec("crop=5000"));

    let path = all.path().join("images.tar");
    let spec = format!("folder:{}", path.display());
    let good = tar(&[("a.png", png(4, [0; 3])), ("b.png", png(4, [0; 3]))]);
    let linked = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, "a.png", "/etc/passwd")
            .unwrap();
        archive.into_inner().unwrap()
    };
    for (what, content) in [
        ("a tar of nothing", tar(&[])),
        ("a tar of texts", tar(&[("notes.txt", b"none".to_vec())])),
        ("a compressed tar", gzip(&good)),
        ("no tar", b"images".repeat(200)),
        ("a tar cut short in an entry", good[..600].to_vec()),
        ("a tar cut short in a header", good[..1100].to_vec()),
        ("a tar that leads out", tar(&[("../a.png", png(4, [0; 3]))])),
        (
            "a tar of absolute paths",
            tar(&[("/a.png", png(4, [0; 3]))]),
        ),
        ("a tar of links", linked),
    ] {
        fs::write(&path, content).unwrap();
        all.read(what, &spec, &graph);
    }

    let digits = network("f32[N,1,2,3]");
    let folder = all.path().join("mnist");
    let spec = format!("mnist:{}", folder.display());
    all.read("a folder of MNIST that is not there", &spec, &digits);
    fs::create_dir(&folder).unwrap();
    all.read("a folder of MNIST without its files", &spec, &digits);
    mnist(&folder, 2);
    all.read(
        "digits for an input of another size",
        &spec,
        &network("f32[N,1,8,8]"),
    );
    let good = idx(&[2, 2, 3], &[7; 12]);
    let huge = gzip(&idx(&[u32::MAX, 60000, 60000], &[7; 12]));
    let bomb = gzip(&idx(&[2, 2, 3], &vec![0; 8 << 20]));
    let mut wrong_sum = gzip(&good);
    let crc = wrong_sum.len() - 8;
    wrong_sum[crc] ^= 1;
    for (what, content) in [
        ("no images but labels", idx(&[2], &[0, 1])),
        ("floats", [&[0, 0, 0x0d, 3], &good[4..]].concat()),
        ("a header cut short", good[..9].to_vec()),
        ("too few pixels", good[..20].to_vec()),
        ("too many pixels", [&good[..], &[0]].concat()),
        ("no digits", idx(&[0, 2, 3], &[])),
        ("digits of no size", idx(&[2, 0, 3], &[])),
        (
            "more than a file holds",
            idx(&[u32::MAX, u32::MAX, u32::MAX], &[7; 12]),
        ),
        ("gzip cut short", gzip(&good)[..20].to_vec()),
        ("gzip cut short in its header", gzip(&good)[..5].to_vec()),
        ("gzip with a wrong sum", wrong_sum),
        ("gzip of too few pixels", gzip(&good[..20])),
        ("gzip that announces too much", huge),
        ("a bomb", bomb),
    ] {
        fs::write(folder.join("train-images-idx3-ubyte"), content).unwrap();
        all.read(what, &spec, &digits);
    }
    fs::write(folder.join("train-images-idx3-ubyte"), &good).unwrap();
    for (what, content) in [
        ("a label beyond ten", idx(&[2], &[0, 10])),
        ("too few labels for digits", idx(&[1], &[0])),
    ] {
        fs::write(folder.join("train-labels-idx1-ubyte"), content).unwrap();
        all.read(what, &spec, &digits);
    }

    let photographs = network("f32[N,3,32,32]");
    let folder = all.path().join("cifar10");
    let spec = format!("cifar10:{}", folder.display());
    all.read(
        "a folder of CIFAR-10 that is not there",
        &spec,
        &photographs,
    );
    fs::create_dir(&folder).unwrap();
    all.read(
        "a folder of CIFAR-10 without its files",
        &spec,
        &photographs,
    );
    cifar10(&folder);
    all.read(
        "photographs for an input of another size",
        &spec,
        &network("f32[N,3,64,64]"),
    );
    for (what, content) in [
        (
            "a file of CIFAR-10 cut short",
            record(1, 1)[..3000].to_vec(),
        ),
        (
            "a label beyond CIFAR-10's",
            [record(1, 1), record(10, 1)].concat(),
        ),
        ("an empty file of CIFAR-10", Vec::new()),
    ] {
        fs::write(folder.join("data_batch_3.bin"), content).unwrap();
        all.read(what, &spec, &photographs);
    }

    common::snapshot("errors/images", &all.text);
}
