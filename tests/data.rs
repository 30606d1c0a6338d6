//! Data for calibration and evaluation: what is read, and what is refused with which words.

mod common;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use optc::data::{Data, DataSpec, Samples};
use optc::exec::top1;
use optc::formats::{InputShape, bind_inputs};
use optc::ir::Graph;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A graph whose input has this type.
fn network(input: &str) -> Graph {
    let text = format!("graph net(%x: {input}) {{\n  %y = relu(%x)\n  return %y\n}}\n");
    text.parse().unwrap()
}

/// An array in NumPy's format.
fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    npy_with(
        &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"),
        elements,
    )
}

fn npy_with(header: &str, elements: &[u8]) -> Vec<u8> {
    let len = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), elements].concat()
}

fn bytes<const N: usize, T: Copy>(elements: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    elements.iter().flat_map(|x| to(*x)).collect()
}

fn f32s(elements: &[f32]) -> Vec<u8> {
    bytes(elements, f32::to_le_bytes)
}

fn npz(folder: &Path, arrays: &[(&str, Vec<u8>)]) -> String {
    pack(folder, arrays, CompressionMethod::Deflated)
}

fn pack(folder: &Path, arrays: &[(&str, Vec<u8>)], method: CompressionMethod) -> String {
    let path = folder.join("data.npz");
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for (name, array) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(array).unwrap();
    }
    zip.finish().unwrap();
    format!("npz:{}", path.display())
}

fn open(spec: &str, graph: &Graph) -> optc::Result<Data> {
    spec.parse::<DataSpec>()?.open(graph)
}

fn all(spec: &str, graph: &Graph) -> Samples {
    open(spec, graph).unwrap().sample(usize::MAX, 0).unwrap()
}

#[test]
fn floats_are_taken_as_they_are_whatever_their_width() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = [0.5f32, -1.0, 2.0, 0.25, 8.0, -0.125];
    let y = npy("'<i8'", "(3,)", &bytes(&[4i64, 0, 9], i64::to_le_bytes));
    for (descr, elements) in [
        ("'<f4'", f32s(&numbers)),
        ("'<f8'", bytes(&numbers, |x| f64::from(x).to_le_bytes())),
        (
            "'<f2'",
            bytes(&numbers, |x| half::f16::from_f32(x).to_le_bytes()),
        ),
    ] {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let x = npy(descr, "(3, 2)", &elements);
            let spec = pack(folder.path(), &[("x", x), ("y", y.clone())], method);
            let samples = all(&spec, &network("f32[N,2]"));
            assert_eq!(samples.images.shape(), [3, 2]);
            assert_eq!(samples.images.as_slice().unwrap(), numbers);
            assert_eq!(samples.labels.as_deref(), Some(&[4, 0, 9][..]));
            assert_eq!(samples.name, spec);
        }
    }
}

#[test]
fn arrays_of_other_names_are_taken_where_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let spec = npz(
        folder.path(),
        &[
            ("test", npy("'<f4'", "(1, 2)", &f32s(&[1.0, 2.0]))),
            ("train", npy("'<f4'", "(1, 2)", &f32s(&[3.0, 4.0]))),
            ("y", npy("'|u1'", "(1,)", &[5])),
            ("of_train", npy("'|u1'", "(1,)", &[6])),
        ],
    );
    let read = |options: &str| {
        let samples = all(&format!("{spec},{options}"), &network("f32[N,2]"));
        (samples.images[[0, 0]], samples.labels)
    };
    assert_eq!(read("x=test"), (1.0, Some(vec![5])));
    assert_eq!(read("x=train,y=of_train"), (3.0, Some(vec![6])));
}

#[test]
fn bytes_are_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let x = npy("'|u1'", "(1, 3, 1, 2)", &[0, 255, 0, 255, 0, 255]);
    let spec = npz(folder.path(), &[("x", x)]);
    let graph = network("f32[N,3,H,W]");
    let numbers = |spec: &str| all(spec, &graph).images.into_raw_vec_and_offset().0;
    let imagenet = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225f32)];
    let expected = imagenet.map(|(mean, std)| [(0.0 - mean) / std, (1.0 - mean) / std]);
    assert_eq!(numbers(&spec), expected.concat());
    assert_eq!(
        numbers(&format!("{spec},mean=0,std=1")),
        [0.0, 1.0].repeat(3)
    );
    assert_eq!(
        numbers(&format!("{spec},std=0.5,mean=0/0.5/1")),
        [0.0, 2.0, -1.0, 1.0, -2.0, 0.0]
    );
    assert_eq!(all(&spec, &graph).labels, None);
    // One channel has no default but the scale.
    let x = npy("'|u1'", "(1, 1, 1, 2)", &[0, 51]);
    let spec = npz(folder.path(), &[("x", x)]);
    assert_eq!(
        all(&spec, &network("f32[N,1,H,W]")).images[[0, 0, 0, 1]],
        0.2
    );
}

#[test]
fn samples_come_from_all_over_the_data_and_only_the_seed_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let spec = npz(
        folder.path(),
        &[("x", npy("'<f4'", "(1000, 1)", &f32s(&numbers)))],
    );
    let data = open(&spec, &network("f32[N,1]")).unwrap();
    let drawn = |count, seed| {
        data.sample(count, seed)
            .unwrap()
            .images
            .into_raw_vec_and_offset()
            .0
    };
    let ten = drawn(10, 0);
    let hundreds: Vec<usize> = ten.iter().map(|x| *x as usize / 100).collect();
    assert_eq!(hundreds, (0..10).collect::<Vec<_>>());
    assert_eq!(drawn(10, 0), ten);
    assert_ne!(drawn(10, 1), ten);
    assert_eq!(drawn(1000, 3), numbers);
    assert_eq!(drawn(5000, 3), numbers);
}

#[test]
fn images_are_scaled_and_cut_to_the_input() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["b", "a/deeper"] {
        fs::create_dir_all(folder.path().join(class)).unwrap();
    }
    // Three columns of one colour each: a square cut out of the middle is green.
    let colours = [Rgb([255, 0, 0]), Rgb([0, 255, 0]), Rgb([0, 0, 255])];
    let wide = RgbImage::from_fn(24, 8, |x, _| colours[x as usize / 8]);
    wide.save(folder.path().join("b/wide.png")).unwrap();
    let same = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, y as u8, 9]));
    same.save(folder.path().join("b/same.PNG")).unwrap();
    let grey = GrayImage::from_pixel(5, 9, Luma([102]));
    grey.save(folder.path().join("a/deeper/grey.jpg")).unwrap();
    fs::write(folder.path().join("a/notes.txt"), "no image").unwrap();

    let spec = format!("folder:{},mean=0,std=1", folder.path().display());
    let samples = all(&spec, &network("f32[N,3,4,4]"));
    assert_eq!(samples.images.shape(), [3, 3, 4, 4]);
    // In order of path: a/deeper/grey.jpg, b/same.PNG, b/wide.png.
    assert_eq!(samples.labels.as_deref(), Some(&[0, 1, 1][..]));
    let image = |i| samples.images.index_axis(ndarray::Axis(0), i);
    assert!(image(0).iter().all(|x| (x - 0.4).abs() < 0.01));
    assert_eq!(image(1)[[0, 2, 3]], 3.0 / 255.0);
    assert_eq!(image(1)[[1, 2, 3]], 2.0 / 255.0);
    let green = [0.0f32, 1.0, 0.0].map(|x| vec![x; 16]).concat();
    assert_eq!(image(2).iter().copied().collect::<Vec<_>>(), green);

    // Scaled to 16 first, half of the height is seen.
    let samples = all(&format!("{spec},resize=8"), &network("f32[N,1,4,4]"));
    assert_eq!(samples.images.shape(), [3, 1, 4, 4]);
    let grey = samples.images[[2, 0, 0, 0]];
    assert!((grey - 0.7152).abs() < 0.01, "the luma of green is {grey}");

    fs::copy(
        folder.path().join("b/wide.png"),
        folder.path().join("loose.png"),
    )
    .unwrap();
    assert_eq!(all(&spec, &network("f32[N,3,4,4]")).labels, None);
}

#[test]
fn a_damaged_image_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    RgbImage::new(4, 4)
        .save(folder.path().join("good.png"))
        .unwrap();
    fs::write(
        folder.path().join("bad.jpg"),
        b"\xff\xd8\xff\xe0 and no more",
    )
    .unwrap();
    let spec = format!("folder:{}", folder.path().display());
    let samples = all(&spec, &network("f32[N,3,4,4]"));
    assert_eq!(samples.len(), 1);
    let [why] = &samples.left_out[..] else {
        panic!("{:?}", samples.left_out);
    };
    assert!(
        why.contains("bad.jpg: ") && !why.ends_with(char::is_whitespace),
        "{why:?}"
    );
}

#[test]
fn a_changed_file_is_read_or_refused_but_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let graph = network("f32[N,2]");
    let x = npy("'<f4'", "(2, 2)", &f32s(&[1.0, 2.0, 3.0, 4.0]));
    let y = npy("'|u1'", "(2,)", &[0, 1]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let spec = pack(folder.path(), &[("x", x.clone()), ("y", y.clone())], method);
        let path = folder.path().join("data.npz");
        let good = fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            open(&spec, &graph).and_then(|data| data.sample(9, 0))
        };
        for at in (0..good.len()).step_by(3) {
            assert!(read(&good[..at]).is_err(), "cut at {at}");
            for change in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                let _ = read(&bytes);
            }
        }
    }
}

/// Two classes of two numbers each; the larger one is the class.
fn two_classes(folder: &Path, labels: &[i64]) -> String {
    let x = f32s(&[1.0, 0.0, 0.0, 1.0, 3.0, 2.0]);
    let y = npy("'<i8'", "(3,)", &bytes(labels, i64::to_le_bytes));
    npz(folder, &[("x", npy("'<f4'", "(3, 2)", &x)), ("y", y)])
}

#[test]
fn top1_counts_right_answers_in_batches_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let spec = two_classes(folder.path(), &[0, 1, 1]);
    for input in ["f32[N,2]", "f32[1,2]", "f32[2,2]", "f32[7,2]"] {
        let graph = network(input);
        let mut progress = Vec::new();
        let data = open(&spec, &graph).unwrap();
        let count = top1(&graph, &data, |done| progress.push(done)).unwrap();
        assert_eq!((count.samples, count.right), (3, 2), "{input}");
        assert!(progress.is_sorted() && progress.iter().all(|done| (0.0..1.0).contains(done)));
    }
}

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
        "images for an input of open size",
        &spec,
        &network("f32[N,3,H,W]"),
    );
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

    common::snapshot("errors/data", &all.text);
}
