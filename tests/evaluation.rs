//! How answers of a result are compared with those of the original, on data with labels and without.

use optc::data::DataSpec;
use optc::exec::{Frontier, agree};
use optc::ir::{DType, Graph, Tensor};

/// `y = linear(x)` with a unit matrix of which the second row is `scale` times as large.
fn network(scale: f32) -> Graph {
    format!(
        "graph net(%x: f32[N,2]) {{
  @w = parameter [[1.0, 0.0], [0.0, {scale:?}]] : f32[2,2]
  %y = linear(%x, @w)
  return %y
}}"
    )
    .parse()
    .unwrap()
}

/// An archive of the arrays, as `numpy.savez` writes it.
fn archive(folder: &std::path::Path, arrays: &[(&str, &str, &[u8], &str)]) -> String {
    use std::io::Write;
    let path = folder.join("data.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, kind, bytes, shape) in arrays {
        zip.start_file(format!("{name}.npy"), stored).unwrap();
        let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        let length = u16::try_from(text.len()).unwrap();
        zip.write_all(&length.to_le_bytes()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    format!("npz:{}", path.display())
}

const SAMPLES: [f32; 8] = [2.0, 1.0, 1.0, 2.0, 3.0, 2.0, 1.0, 4.0];

#[test]
fn answers_are_compared_sample_by_sample() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: &[u8] = bytemuck::cast_slice(&SAMPLES);
    let spec: DataSpec = archive(folder.path(), &[("x", "<f4", bytes, "(4, 2)")])
        .parse()
        .unwrap();
    let (before, after) = (network(1.0), network(1.75));
    let data = spec.open(&before).unwrap();
    let same = agree(&before, &before, &data, None, |_| Ok(())).unwrap();
    assert_eq!(
        (same.samples, same.agreement, same.cosine),
        (4, Some(1.0), 1.0)
    );
    assert!(same.top1.is_none());
    // (2, 1) stays with the first class as (2, 1.75); (3, 2) goes to the second as (3, 3.5).
    let moved = agree(&before, &after, &data, None, |_| Ok(())).unwrap();
    assert_eq!(moved.agreement, Some(0.75));
    let cosine = |a: f64, b: f64| {
        let c = 1.75 * b;
        (a * a + b * c) / ((a * a + b * b) * (a * a + c * c)).sqrt()
    };
    let by_hand = (cosine(2.0, 1.0) + cosine(1.0, 2.0) + cosine(3.0, 2.0) + cosine(1.0, 4.0)) / 4.0;
    assert!((moved.cosine - by_hand).abs() < 1e-6, "{}", moved.cosine);
}

#[test]
fn labels_say_how_many_answers_are_right_too() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: &[u8] = bytemuck::cast_slice(&SAMPLES);
    let labels: &[u8] = bytemuck::cast_slice(&[0i64, 1, 0, 1]);
    let arrays = [("x", "<f4", bytes, "(4, 2)"), ("y", "<i8", labels, "(4,)")];
    let spec: DataSpec = archive(folder.path(), &arrays).parse().unwrap();
    let (before, after) = (network(1.0), network(1.75));
    let data = spec.open(&before).unwrap();
    let found = agree(&before, &after, &data, None, |_| Ok(())).unwrap();
    let right = found.top1.map(|counts| counts.map(|count| count.right));
    assert_eq!(right, Some([4, 3]));
}

/// The default of an input is what it has where only the other is given, whatever their order.
#[test]
fn an_input_with_a_default_needs_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: &[u8] = bytemuck::cast_slice(&SAMPLES);
    let spec: DataSpec = archive(folder.path(), &[("x", "<f4", bytes, "(4, 2)")])
        .parse()
        .unwrap();
    let text = "graph net(%k: f32[2], %x: f32[N,2]) {\n  %y = mul(%x, %k)\n  return %y\n}";
    let mut network: Graph = text.parse().unwrap();
    let error = spec.open(&network).unwrap_err().to_string();
    assert!(error.contains("no array `k`"), "{error}");
    let default = |second: f64| Tensor::from_f64(DType::F32, &[2], [1.0, second]);
    network.defaults.insert("k".into(), default(1.0));
    let mut other = network.clone();
    other.defaults.insert("k".into(), default(1.75));
    let data = spec.open(&network).unwrap();
    // As the second row of the unit matrix.
    let moved = agree(&network, &other, &data, None, |_| Ok(())).unwrap();
    assert_eq!(moved.agreement, Some(0.75));
    // Passes calibrate on the same.
    let samples = data.read(&[0, 1, 2, 3]).unwrap();
    let y = network.outputs()[0].value;
    let mut frontier = Frontier::new(&other, &samples.into()).unwrap();
    frontier.hold(y);
    frontier.run_past(&other, y.node).unwrap();
    let batches = frontier.arrays(&other, y).unwrap();
    let found: Vec<f32> = batches
        .iter()
        .flat_map(|batch| batch.read().unwrap().into_iter())
        .collect();
    let scaled = [2.0, 1.75, 1.0, 3.5, 3.0, 3.5, 1.0, 7.0];
    assert_eq!(found, scaled);
}
