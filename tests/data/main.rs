//! Data for calibration, training and evaluation: what is read, and what is refused with which words.

mod arrays;
#[path = "../common/mod.rs"]
mod common;
mod images;
mod messages;
mod npz;
mod training;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::RgbImage;
use optc::data::{Data, DataSpec, Samples};
use optc::ir::Graph;
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

/// Two classes of two numbers each; the larger one is the class.
fn two_classes(folder: &Path, labels: &[i64]) -> String {
    let x = f32s(&[1.0, 0.0, 0.0, 1.0, 3.0, 2.0]);
    let y = npy("'<i8'", "(3,)", &bytes(labels, i64::to_le_bytes));
    npz(folder, &[("x", npy("'<f4'", "(3, 2)", &x)), ("y", y)])
}

/// An array of bytes in MNIST's format.
fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes = bytes(sizes, u32::to_be_bytes);
    let rank = (sizes.len() / 4) as u8;
    [&[0, 0, 8, rank], &sizes[..], elements].concat()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

/// Images of 2 rows and 3 columns in MNIST's files, training images as they are and test images gzipped: pixel `i` of
/// training image `n` is `10 n + i`, its label `n`; the one test image is 255, its label 7.
fn mnist(folder: &Path, images: u8) -> String {
    let pixels: Vec<u8> = (0..images)
        .flat_map(|n| (0..6).map(move |i| 10 * n + i))
        .collect();
    let labels: Vec<u8> = (0..images).collect();
    let write = |name: &str, content: &[u8]| fs::write(folder.join(name), content).unwrap();
    write(
        "train-images-idx3-ubyte",
        &idx(&[images.into(), 2, 3], &pixels),
    );
    write("train-labels-idx1-ubyte", &idx(&[images.into()], &labels));
    write(
        "t10k-images-idx3-ubyte.gz",
        &gzip(&idx(&[1, 2, 3], &[255; 6])),
    );
    write("t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[1], &[7])));
    format!("mnist:{}", folder.display())
}

/// A record of CIFAR-10: red rises from row to row, green from column to column, blue is `blue`.
fn record(label: u8, blue: u8) -> Vec<u8> {
    let plane = |value: fn(usize, usize) -> u8| {
        (0..1024)
            .map(move |at| value(at / 32, at % 32))
            .collect::<Vec<u8>>()
    };
    let (rows, columns) = (plane(|row, _| row as u8), plane(|_, column| column as u8));
    [&[label], &rows[..], &columns, &[blue; 1024]].concat()
}

/// Two records in each file of CIFAR-10; blue counts them.
fn cifar10(folder: &Path) -> String {
    for i in 0..5 {
        let records = [record(i, 2 * i), record(9 - i, 2 * i + 1)].concat();
        fs::write(folder.join(format!("data_batch_{}.bin", i + 1)), records).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(5, 100)).unwrap();
    format!("cifar10:{}", folder.display())
}

/// A PNG file of one colour.
fn png(side: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(side, side, image::Rgb(colour));
    image.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A tar archive of these files, with their paths as they are.
fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        // As `set_path` does, which refuses what leads out of the archive.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn a_fifth_of_the_samples_is_held_out_unless_they_are_too_few() {
    let samples = |n: usize| {
        let rows = ndarray::Array2::from_shape_fn((n, 1), |(i, _)| i as f32);
        Samples {
            labels: Some((0..n as i64).collect()),
            ..Samples::of_array("made", &rows.into_dyn())
        }
    };
    for (n, held) in [(8, 4), (40, 8), (Samples::with_held_out(256), 64)] {
        let (fitted, judged) = samples(n).hold_out();
        let judged = judged.unwrap();
        assert_eq!((fitted.len(), judged.len()), (n - held, held));
        let last = judged.stacked().unwrap()[[held - 1, 0]];
        assert_eq!(last, (n - 1) as f32);
        let mut all: Vec<i64> = [fitted.labels.unwrap(), judged.labels.unwrap()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..n as i64).collect::<Vec<_>>());
    }
    let (all, none) = samples(7).hold_out();
    assert_eq!((all.len(), none.is_none()), (7, true));
}
