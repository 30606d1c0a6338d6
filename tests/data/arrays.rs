//! Arrays by name: several inputs, whole numbers, states, sizes that vary, and files of other kinds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use optc::data::{Feeds, Fill, Filled};
use optc::exec::agree;
use optc::ir::{DType, Tensor};
use optc::pipeline::{Pipeline, RunOptions};
use safetensors::tensor::{Dtype, TensorView};

use crate::*;

/// A network of two inputs that must go together, and a mask.
const TEXT: &str = "
    graph net(%ids: i64[N,T], %attention_mask: i64[N,T], %scale: f32[N,T]) {
      %y = mul(%scale, %scale)
      return %y
    }";

fn i64s(elements: &[i64]) -> Vec<u8> {
    bytes(elements, i64::to_le_bytes)
}

fn ids(shape: &str, elements: &[i64]) -> (&'static str, Vec<u8>) {
    ("ids", npy("'<i8'", shape, &i64s(elements)))
}

fn scale(shape: &str, elements: &[f32]) -> (&'static str, Vec<u8>) {
    ("scale", npy("'<f4'", shape, &f32s(elements)))
}

fn file(folder: &Path, name: &str, arrays: &[(&str, Vec<u8>)]) {
    let spec = npz(folder, arrays);
    fs::rename(spec.strip_prefix("npz:").unwrap(), folder.join(name)).unwrap();
}

#[test]
fn arrays_go_to_the_inputs_that_they_are_named_for() {
    let folder = tempfile::tempdir().unwrap();
    let graph: Graph = TEXT.parse().unwrap();
    let arrays = [
        scale("(3, 2)", &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0]),
        ids("(3, 2)", &[1, 2, 3, 4, 5, 6]),
    ];
    let samples = all(&npz(folder.path(), &arrays), &graph);
    assert_eq!(samples.len(), 3);
    let types: Vec<(&str, DType)> = { samples.inputs.iter() }
        .map(|input| (&*input.name, input.samples[0].dtype()))
        .collect();
    assert_eq!(types, [("ids", DType::I64), ("scale", DType::F32)]);
    let mask = Filled {
        name: "attention_mask".into(),
        with: Fill::Ones,
    };
    assert_eq!(samples.filled, [mask]);
    let feeds = Feeds::new(&graph, &samples, 2).unwrap();
    let sizes: Vec<usize> = feeds.runs().iter().map(|run| run.fresh).collect();
    assert_eq!(sizes, [2, 1]);
    let arrays = feeds.arrays::<f32>(&feeds.runs()[0]).unwrap();
    let found: Vec<Vec<f32>> = arrays.iter().map(|x| x.iter().copied().collect()).collect();
    assert_eq!(
        found,
        [[1.0, 2.0, 3.0, 4.0], [1.0; 4], [0.5, 1.0, 1.5, 2.0]]
    );
}

#[test]
fn a_sample_may_be_all_that_an_input_takes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "
        graph net(%frames: f32[S,2], %h: f32[1,1,3]) {
          %y = relu(%frames)
          return %y, %h
        }";
    let graph: Graph = text.parse().unwrap();
    let frames = |shape: &str| {
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        [("frames", npy("'<f4'", shape, &f32s(&numbers)))]
    };
    // Two sequences of three frames; the state is filled.
    let samples = all(&npz(folder.path(), &frames("(2, 3, 2)")), &graph);
    assert!(samples.inputs[0].whole);
    let feeds = Feeds::new(&graph, &samples, 16).unwrap();
    assert_eq!(feeds.runs().len(), 2);
    let arrays = feeds.arrays::<f32>(&feeds.runs()[1]).unwrap();
    assert_eq!(arrays[0].shape(), [3, 2]);
    assert_eq!(arrays[0][[0, 0]], 6.0);
    assert_eq!(arrays[1].shape(), [1, 1, 3]);
    // Rows of a batch: the state, which has no batch that is free, is that of one.
    let samples = all(&npz(folder.path(), &frames("(6, 2)")), &graph);
    let feeds = Feeds::new(&graph, &samples, 16).unwrap();
    assert_eq!(feeds.runs().len(), 6);
}

#[test]
fn a_network_with_a_batch_of_its_own_gets_that() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let x = [("x", npy("'<f4'", "(6, 2)", &f32s(&numbers)))];
    for (input, batches) in [("f32[1,2]", vec![1; 6]), ("f32[4,2]", vec![4, 2])] {
        let graph = network(input);
        let samples = all(&npz(folder.path(), &x), &graph);
        let feeds = Feeds::new(&graph, &samples, 16).unwrap();
        let fresh: Vec<usize> = feeds.runs().iter().map(|run| run.fresh).collect();
        assert_eq!(fresh, batches);
        let last = feeds.arrays::<f32>(feeds.runs().last().unwrap()).unwrap();
        assert_eq!(
            last[0].shape()[0],
            graph.ty(graph.inputs()[0].into()).len(0).unwrap()
        );
        // All of it runs, and a sample counts once.
        let data = open(&npz(folder.path(), &x), &graph).unwrap();
        assert_eq!(
            agree(&graph, &graph, &data, None, |_| Ok(()))
                .unwrap()
                .samples,
            6
        );
    }
}

#[test]
fn samples_in_a_folder_may_have_any_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let graph: Graph = TEXT.parse().unwrap();
    file(
        folder.path(),
        "b.npz",
        &[ids("(3,)", &[1, 2, 3]), scale("(3,)", &[1.0, 2.0, 3.0])],
    );
    file(
        folder.path(),
        "a.npz",
        &[ids("(2,)", &[4, 5]), scale("(2,)", &[4.0, 5.0])],
    );
    file(
        folder.path(),
        "c.npz",
        &[ids("(2,)", &[6, 7]), scale("(2,)", &[6.0, 7.0])],
    );
    fs::write(folder.path().join("notes.txt"), "none").unwrap();
    let spec = format!("npz:{}", folder.path().display());
    let samples = all(&spec, &graph);
    assert_eq!(samples.stacked(), None);
    let feeds = Feeds::new(&graph, &samples, 16).unwrap();
    let positions: Vec<&[usize]> = { feeds.runs().iter() }
        .map(|run| &run.positions[..])
        .collect();
    assert_eq!(positions, [&[0, 2][..], &[1]]);
    let data = open(&spec, &graph).unwrap();
    assert_eq!(
        agree(&graph, &graph, &data, None, |_| Ok(()))
            .unwrap()
            .samples,
        3
    );
    // The same with a batch of one in each file.
    for (name, n) in [("a", 2), ("b", 3), ("c", 2)] {
        let ones = vec![1; n];
        let shape = format!("(1, {n})");
        let floats = vec![1.0; n];
        file(
            folder.path(),
            &format!("{name}.npz"),
            &[ids(&shape, &ones), scale(&shape, &floats)],
        );
    }
    let samples = all(&spec, &graph);
    assert_eq!(Feeds::new(&graph, &samples, 16).unwrap().runs().len(), 3);
}

#[test]
fn other_files_hold_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = [1.0f32, 2.0, 3.0, 4.0];
    let path = folder.path().join("x.npy");
    fs::write(&path, npy("'<f4'", "(2, 2)", &f32s(&numbers))).unwrap();
    let samples = all(&format!("npy:{}", path.display()), &network("f32[N,2]"));
    assert_eq!(samples.stacked().unwrap().as_slice().unwrap(), numbers);

    let (floats, whole) = (f32s(&numbers), i64s(&[1, 2, 3, 4]));
    let views = [
        (
            "scale",
            TensorView::new(Dtype::F32, vec![2, 2], &floats).unwrap(),
        ),
        (
            "ids",
            TensorView::new(Dtype::I64, vec![2, 2], &whole).unwrap(),
        ),
    ];
    let path = folder.path().join("data.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let spec = format!("safetensors:{}", path.display());
    let samples = all(&spec, &TEXT.parse().unwrap());
    assert_eq!(
        samples.inputs[0].samples[1],
        Tensor::from_f64(DType::I64, &[2], [3.0, 4.0])
    );
    let content = fs::read(&path).unwrap();
    for at in 0..content.len() {
        fs::write(&path, &content[..at]).unwrap();
        assert!(open(&spec, &TEXT.parse().unwrap()).is_err(), "cut at {at}");
    }
}

#[test]
fn what_does_not_fit_several_inputs_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let mut add = |what: &str, result: optc::Result<()>| {
        let error = result.expect_err(what).to_string();
        let error = error.replace(&folder.path().display().to_string(), "DIR");
        writeln!(text, "# {what}\n{error}\n").unwrap();
    };
    let two: Graph = TEXT.parse().unwrap();
    let read = |arrays: &[(&str, Vec<u8>)], graph: &Graph| {
        let data = open(&npz(folder.path(), arrays), graph)?;
        data.sample(9, 0).map(|_| ())
    };
    let good = || scale("(2, 2)", &[0.0; 4]);
    add(
        "an array of another name",
        read(&[("id", vec![]), good()], &two),
    );
    let renamed = format!(
        "{},x=ids",
        npz(folder.path(), &[ids("(2, 2)", &[0; 4]), good()])
    );
    add("x= for several inputs", open(&renamed, &two).map(|_| ()));
    add(
        "another number of samples",
        read(&[ids("(1, 2)", &[0; 2]), good()], &two),
    );
    add(
        "floats for ids",
        read(
            &[("ids", npy("'<f4'", "(2, 2)", &f32s(&[0.0; 4]))), good()],
            &two,
        ),
    );
    add(
        "ids for floats",
        read(
            &[
                ids("(2, 2)", &[0; 4]),
                ("scale", npy("'<i8'", "(2, 2)", &i64s(&[0; 4]))),
            ],
            &two,
        ),
    );
    add(
        "another rank",
        read(&[ids("(2, 2, 2, 2)", &[0; 16]), good()], &two),
    );
    add(
        "not a number",
        read(
            &[ids("(1, 2)", &[0; 2]), scale("(1, 2)", &[0.0, f32::NAN])],
            &two,
        ),
    );
    add(
        "a number that is too large",
        read(
            &[ids("(1, 2)", &[0, 1 << 25]), scale("(1, 2)", &[0.0; 2])],
            &two,
        ),
    );
    let narrow: Graph = TEXT
        .replace("i64[N,T], %att", "i8[N,T], %att")
        .parse()
        .unwrap();
    add(
        "a number that the type has not",
        read(
            &[ids("(1, 2)", &[0, 300]), scale("(1, 2)", &[0.0; 2])],
            &narrow,
        ),
    );
    let fixed: Graph = TEXT.replace("f32[N,T]", "f32[N,2]").parse().unwrap();
    let images = folder.path().join("files");
    fs::create_dir(&images).unwrap();
    let spec = format!("npz:{}", images.display());
    let folder_of = |graph: &Graph| open(&spec, graph).map(|_| ());
    add("an empty folder", folder_of(&fixed));
    file(
        &images,
        "1.npz",
        &[ids("(2,)", &[0; 2]), scale("(2,)", &[0.0; 2])],
    );
    file(
        &images,
        "2.npz",
        &[ids("(3,)", &[0; 3]), scale("(3,)", &[0.0; 3])],
    );
    add("two sizes where one is fixed", folder_of(&fixed));
    file(&images, "2.npz", &[ids("(2,)", &[0; 2])]);
    add("a file without an array", folder_of(&two));
    file(
        &images,
        "2.npz",
        &[ids("(1, 2)", &[0; 2]), scale("(2,)", &[0.0; 2])],
    );
    add("a file with another rank", folder_of(&two));
    let run = |arrays: &[(&str, Vec<u8>)], graph: &Graph| {
        let samples = open(&npz(folder.path(), arrays), graph)?.sample(9, 0)?;
        let options = RunOptions {
            samples: Some(samples.into()),
            ..RunOptions::default()
        };
        let mut model = optc::Model::new(graph.clone());
        Pipeline::parse("")?.run_with(&mut model, &options, &mut ())?;
        Ok(())
    };
    add(
        "sizes that do not go together",
        run(&[ids("(2, 3)", &[0; 6]), good()], &two),
    );
    let embedding: Graph = r#"
        graph net(%ids: i64[N,T], %scale: f32[N,T]) {
          @table = parameter normal(1) : f32[10,4]
          %rows = opaque "onnx::Gather"(@table, %ids) {template="{\"op\":\"Gather\",\"inputs\":[0,1],\"outputs\":1}"} : f32[N,T,4]
          return %rows
        }"#
    .parse()
    .unwrap();
    add(
        "ids outside of the table",
        run(&[ids("(2, 2)", &[0, 9, 10, 0]), good()], &embedding),
    );
    let one = network("f32[N,2]");
    let numbers = npy("'<f4'", "(2, 2)", &f32s(&[0.0; 4]));
    let path = folder.path().join("x.npy");
    fs::write(&path, &numbers).unwrap();
    let spec = format!("npy:{}", path.display());
    add(
        "one array for several inputs",
        open(&spec, &two).map(|_| ()),
    );
    fs::write(&path, &numbers[..40]).unwrap();
    add("an array cut short", open(&spec, &one).map(|_| ()));
    let spec = format!("safetensors:{}", path.display());
    add("no file of safetensors", open(&spec, &one).map(|_| ()));
    let data = npz(folder.path(), &[ids("(2, 2)", &[0; 4]), good()]);
    add(
        "training on several inputs",
        open(&data, &two).and_then(|data| data.training_set().map(|_| ())),
    );
    common::snapshot("errors/data_by_name", &text);
}
