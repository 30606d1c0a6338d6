//! What a program does that embeds optc: models as bytes, samples as arrays, settings as text, and an end to a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use optc::data::Data;
use optc::ir::{Bytes, DType, NodeKind, Tensor};
use optc::job::{Given, Settings, usual_cost};
use optc::pipeline::{Cancellation, Cost, Observer, PassInfo, RunOptions};
use optc::{Error, Model, Pipeline, ReadOptions};

/// A network in each format, with the name of a file under which its bytes are the same as without one.
const FIXTURES: [(&str, &str); 4] = [
    ("tests/fixtures/torchscript/traced.pt", "archive.pt"),
    (
        "tests/fixtures/exported_program/exported.pt2",
        "archive.pt2",
    ),
    ("tests/fixtures/onnx/traced.onnx", "net.onnx"),
    ("examples/lenet5.ir", "net.ir"),
];

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(bytes: Vec<u8>) -> optc::Result<Model> {
    optc::read_bytes(Bytes::new(Arc::new(bytes)), &ReadOptions::default())
}

/// An ONNX model that adds a weight `w`, f32[2,3], which is in the file `net.onnx.data`.
const EXTERNAL: &[u8] = b"\x08\x08:g\x0a\x0e\x0a\x01x\x0a\x01w\x12\x01y\x22\x03Add\x12\x03net*&\x08\x02\x08\x03\x10\x01B\x01wj\x19\x0a\x08location\x12\x0dnet.onnx.datap\x01Z\x13\x0a\x01x\x12\x0e\x0a\x0c\x08\x01\x12\x08\x0a\x02\x08\x02\x0a\x02\x08\x03b\x13\x0a\x01y\x12\x0e\x0a\x0c\x08\x01\x12\x08\x0a\x02\x08\x02\x0a\x02\x08\x03B\x02\x10\x11";

/// A network in the text form, with sizes that take no time.
const NET: &str = "graph net(%x: f32[N,1,8,8]) {
  @a.weight = parameter normal(1) : f32[16,1,3,3]
  @b.weight = parameter normal(2) : f32[16,16,3,3]
  @c.weight = parameter normal(3) : f32[10,16]
  %a = conv(%x, @a.weight)
  %b = conv(%a, @b.weight)
  %f = relu(%b)
  %g = mean(%f) {axes=[2,3], keep=false}
  %y = linear(%g, @c.weight)
  return %y
}
";

/// The network, with a number for its batch.
fn net() -> Model {
    let inputs = vec!["1x1x8x8".parse().unwrap()];
    let bytes = Bytes::new(Arc::new(NET.as_bytes().to_vec()));
    optc::read_bytes(bytes, &ReadOptions { inputs }).unwrap()
}

#[test]
fn bytes_become_what_the_file_becomes() {
    let folder = tempfile::tempdir().unwrap();
    for (fixture, name) in FIXTURES {
        let mut of_file = optc::read(at(fixture)).unwrap();
        let mut of_bytes = read(std::fs::read(at(fixture)).unwrap()).unwrap();
        let pipeline = Pipeline::parse("canonicalize,fold-batch-norm").unwrap();
        pipeline.run(&mut of_file).unwrap();
        pipeline.run(&mut of_bytes).unwrap();
        let path = folder.path().join(name);
        optc::write(&of_file, &path).unwrap();
        let written = optc::write_bytes(&of_bytes, None).unwrap();
        assert!(written == std::fs::read(&path).unwrap(), "{fixture}");
        let again = read(written).unwrap();
        assert_eq!(
            again.graph.to_string(),
            optc::read(&path).unwrap().graph.to_string()
        );
    }
}

#[test]
fn weights_stay_where_the_bytes_are() {
    for (fixture, _) in &FIXTURES[..3] {
        let bytes = Arc::new(std::fs::read(at(fixture)).unwrap());
        let shared = Bytes::new(bytes.clone());
        let model = optc::read_bytes(shared, &ReadOptions::default()).unwrap();
        let inside = bytes.as_ptr_range();
        let (mut there, mut all) = (0, 0);
        for node in model.graph.nodes() {
            let NodeKind::Constant(constant) = &model.graph.node(node).kind else {
                continue;
            };
            all += constant.tensor.byte_len();
            if inside.contains(&constant.tensor.bytes().as_ptr()) {
                there += constant.tensor.byte_len();
            }
        }
        // Some numbers of the graph are made by the reader.
        assert!(
            there > 2000 && there * 100 > all * 99,
            "{fixture}: {there} of {all} bytes"
        );
    }
}

#[test]
fn bytes_of_another_format_are_written_on_request() {
    let model = read(std::fs::read(at("tests/fixtures/torchscript/traced.pt")).unwrap()).unwrap();
    for suffix in ["onnx", "pt2", "pt", "ir"] {
        let written = optc::write_bytes(&model, Some(suffix)).unwrap();
        let again = read(written).unwrap_or_else(|error| panic!("{suffix}: {error}"));
        assert_eq!(again.graph.inputs().len(), 1, "{suffix}");
    }
    let own = optc::write_bytes(&net(), None).unwrap();
    assert!(own.starts_with(b"graph net"));
}

#[test]
fn weights_in_files_are_put_into_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let weights = folder.path().join("net.onnx.data");
    std::fs::write(&path, EXTERNAL).unwrap();
    let numbers: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(&weights, &numbers).unwrap();
    let model = optc::read(&path).unwrap();
    let written = optc::write_bytes(&model, None).unwrap();
    assert!(written.windows(numbers.len()).any(|part| part == numbers));
    read(written).unwrap();
}

#[test]
fn bytes_that_cannot_be_taken_are_refused() {
    let said = |bytes: &[u8]| read(bytes.to_vec()).unwrap_err();
    for bytes in [
        &b""[..],
        b"nothing of this kind",
        b"PK\x03\x04",
        b"\x08\x08\x12\x00",
        EXTERNAL,
    ] {
        let error = said(bytes);
        assert!(error.to_string().starts_with("<memory>: "), "{error}");
        assert_eq!(error.path(), None);
    }
    let outside = said(EXTERNAL).to_string();
    assert!(outside.contains("read it from its path"), "{outside}");
    assert!(said(b"").to_string().contains("empty"));
    let error = optc::write_bytes(&net(), Some("tflite")).unwrap_err();
    assert!(
        error.to_string().contains("`.tflite` is no model format"),
        "{error}"
    );
}

/// Asks a run to end as soon as a pass says that it is at work.
struct Impatient(Cancellation);

impl Observer for Impatient {
    fn progress(&mut self, _: &PassInfo, _: &str, _: f64) {
        self.0.request();
    }
}

#[test]
fn a_run_that_is_asked_to_end_leaves_the_model_as_it_was() {
    for passes in ["red", "lrf{flops=0.5}", "within{macs=0.5}(lowrank,cut)"] {
        let mut model = net();
        let before = model.graph.to_string();
        let options = RunOptions::default();
        let mut observer = Impatient(options.cancellation.clone());
        let pipeline = Pipeline::parse(passes).unwrap();
        let ended = pipeline.run_with(&mut model, &options, &mut observer);
        assert!(
            matches!(ended, Err(Error::Interrupted(_))),
            "{passes}: {ended:?}"
        );
        assert_eq!(model.graph.to_string(), before);
    }
}

/// Thirty samples for the network, and labels.
fn arrays() -> Vec<(String, Tensor)> {
    let pixels = (0..30 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels = (0..30).map(|i| f64::from(i % 10));
    vec![
        ("x".to_string(), Tensor::from_vec(&[30, 1, 8, 8], pixels)),
        ("y".to_string(), Tensor::from_f64(DType::I64, &[30], labels)),
    ]
}

#[test]
fn arrays_are_samples_and_settings_are_text() {
    let mut model = net();
    let settings = Settings::parse(r#"{"target": "macs=0.8", "samples": 16, "seed": 3}"#).unwrap();
    let data = |arrays| Data::of_arrays(arrays, &model.graph);
    let given = Given {
        data: Some(data(arrays()).unwrap()),
        eval: Some(data(arrays()).unwrap()),
        names_passes: true,
    };
    let options = settings
        .options(&model, given, Cancellation::default())
        .unwrap();
    assert_eq!(
        options.samples.as_ref().map(|samples| samples.len()),
        Some(16)
    );
    let missing = data(vec![("images".to_string(), arrays()[0].1.clone())]).unwrap_err();
    assert!(
        missing.to_string().contains("no array `x`, only images"),
        "{missing}"
    );
    let report = settings.pipeline(Some("red"), false).unwrap();
    let report = report.run_with(&mut model, &options, &mut ()).unwrap();
    assert!(report.after.macs < report.before.macs);
    assert_eq!(report.calibration.map(|c| c.samples), Some(16));
    assert_eq!(report.eval.map(|eval| eval.samples), Some(30));
}

#[test]
fn settings_that_there_are_not_are_pointed_at() {
    let said = |json| Settings::parse(json).unwrap_err().to_string();
    let text = said("{\"seed\": 1,\n \"sample\": 5}");
    assert!(
        text.contains("line 2") && text.contains("unknown field `sample`"),
        "{text}"
    );
    assert!(said("{\"seed\": ").contains("EOF"));
    let usual = |has_data| Settings::default().pipeline(None, has_data).unwrap();
    assert_eq!(usual(false).to_string(), "canonicalize,red");
    assert_eq!(
        usual(true).to_string(),
        "canonicalize,red{hash=none},within{agreement=0.99}(red,lrf,lowrank,cut)"
    );
    // Whatever runtime is here, who asks for fewer multiply-adds or names passes goes by multiply-adds.
    for (goal, competing) in [
        (Some("macs=0.5"), true),
        (Some("params=0.5"), true),
        (None, false),
    ] {
        let cost = usual_cost(goal, competing, 1, &mut |warning| panic!("{warning}"));
        assert_eq!(cost.unwrap(), Cost::Macs);
    }
    let both = Settings::parse(r#"{"target": "macs=0.5", "keep": "cosine=0.9"}"#).unwrap();
    let error = both.pipeline(None, false).err().unwrap();
    assert!(matches!(error, Error::Usage { .. }), "{error}");
}
