//! Real networks before and after exact passes, as the command's table without times.
//!
//! They lie beside the project, in `../shared/data`, or nowhere; `examples/shapes.pt` is always there.

mod common;

use std::path::{Path, PathBuf};

use optc::Pipeline;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::pipeline::RunOptions;
use optc::report::table;

#[test]
fn exact_passes_do_to_networks_what_their_summaries_show() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let real = here.join("../shared/data/cifar10_resnet");
    let onnx = here.join("../shared/data/onnx");
    let images = "1x3x32x32";
    let mut networks: Vec<(PathBuf, &str)> = vec![(here.join("examples/shapes.pt"), images)];
    for name in ["resnet20", "resnet56"] {
        let kinds = [".pt", ".scripted.pt", ".frozen.pt", ".onnx"];
        networks.extend(kinds.map(|kind| (real.join(format!("{name}{kind}")), images)));
    }
    networks.push((onnx.join("mnist_bn.onnx"), "1x1x28x28"));
    networks.push((onnx.join("mobilenet_v2.onnx"), "1x3x224x224"));
    for (path, input) in networks {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.trim_end_matches(".pt").to_owned();
        if !path.exists() {
            println!("{name} is not there: skipped");
            continue;
        }
        let options = ReadOptions {
            inputs: vec![input.parse::<InputShape>().unwrap()],
        };
        let mut model = read_with(&path, &options).unwrap();
        let pipeline = Pipeline::parse("red{hash=none}").unwrap();
        let run = RunOptions {
            inputs: if input == images { 4 } else { 1 },
            ..RunOptions::default()
        };
        let report = pipeline.run_with(&mut model, &run, &mut ()).unwrap();
        // Time and rounding are the machine's affair.
        let seconds = (r"(?:  | \d)\d\.\d\d  ", "  0.00  ");
        let filters = vec![(r"\d\.\de-\d+", "[small]"), seconds];
        insta::with_settings!({filters => filters}, {
            common::snapshot(&format!("networks/{name}"), &table(&report));
        });
    }
}
