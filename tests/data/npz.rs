//! Arrays of NumPy's.

use std::fs;

use optc::exec::top1;
use zip::CompressionMethod;

use crate::*;

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
            let images = samples.stacked().unwrap();
            assert_eq!(images.shape(), [3, 2]);
            assert_eq!(images.as_slice().unwrap(), numbers);
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
        (samples.stacked().unwrap()[[0, 0]], samples.labels)
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
    let numbers = |spec: &str| {
        all(spec, &graph)
            .stacked()
            .unwrap()
            .into_raw_vec_and_offset()
            .0
    };
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
        all(&spec, &network("f32[N,1,H,W]")).stacked().unwrap()[[0, 0, 0, 1]],
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
            .stacked()
            .unwrap()
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
