//! Real networks before and after exact passes, as the command's table without times.
//!
//! They lie beside the project, in `../shared/data`, or nowhere; `examples/shapes.pt` is always there.

mod common;

use std::path::{Path, PathBuf};

use optc::Pipeline;
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::report::table;

#[test]
fn exact_passes_do_to_networks_what_their_summaries_show() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let real = here.join("../shared/data/cifar10_resnet");
    let mut networks: Vec<PathBuf> = vec![here.join("examples/shapes.pt")];
    for name in ["resnet20", "resnet56"] {
        let kinds = ["", ".scripted", ".frozen"];
        networks.extend(kinds.map(|kind| real.join(format!("{name}{kind}.pt"))));
    }
    for path in networks {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !path.exists() {
            println!("{name} is not there: skipped");
            continue;
        }
        let options = ReadOptions {
            inputs: vec!["1x3x32x32".parse::<InputShape>().unwrap()],
        };
        let mut model = read_with(&path, &options).unwrap();
        let pipeline = Pipeline::parse("red{hash=none}").unwrap();
        let report = pipeline.run(&mut model).unwrap();
        // Time and rounding are the machine's affair.
        let filters = vec![(r"\d\.\de-\d+", "[small]"), (r"  \d+\.\d\d  ", "  0.00  ")];
        insta::with_settings!({filters => filters}, {
            common::snapshot(&format!("networks/{name}"), &table(&report));
        });
    }
}
