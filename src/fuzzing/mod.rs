//! What the fuzz targets call, and the tests for a second each: functions of bytes that must not panic.

mod archives;
mod choices;
mod graphs;
mod lossy;
mod models;
mod weights;

pub use crate::formats::PLANTED_FAULT;
pub use archives::{
    archive, archive_of, program, program_of, samples, unpacked, unpacked_archive, unpacked_program,
};
pub use choices::Choices;
pub use graphs::{Planted, planted_graph, random_graph};
pub use lossy::lossy_passes;
pub use models::{onnx, onnx_of, onnx_of_graph};

use crate::egraph::REFUSED;
use crate::ir::{Graph, Op, text};
use crate::pipeline::{Kind, Registry, Remark, RunOptions, Verify};
use crate::report::Verification;
use crate::{Model, Pipeline};

/// Reads a graph. One that can be read is printed, and read again as the same.
pub fn text(bytes: &[u8]) {
    let Ok(graph) = String::from_utf8_lossy(bytes).parse::<Graph>() else {
        return;
    };
    round_trip(&graph);
}

/// Prints a random graph and reads it again.
pub fn text_of_graph(bytes: &[u8]) {
    round_trip(&random_graph(bytes));
}

fn round_trip(graph: &Graph) {
    let printed = format!("{graph:#}");
    match printed.parse::<Graph>() {
        Ok(read) => assert_eq!(format!("{read:#}"), printed),
        Err(error) => panic!("{error}\n{printed}"),
    }
    let elided = graph.to_string();
    match text::parse(&elided, graph) {
        Ok(read) => assert_eq!(format!("{read:#}"), printed),
        Err(error) => panic!("{error}\n{elided}"),
    }
}

/// Reads a pipeline. One that can be read is printed, and read again as the same.
pub fn pipeline(bytes: &[u8]) {
    let Ok(pipeline) = Pipeline::parse(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    let printed = pipeline.to_string();
    match Pipeline::parse(&printed) {
        Ok(read) => assert_eq!(read.to_string(), printed),
        Err(error) => panic!("{error}"),
    }
}

/// A pass that its options make exact.
const EXACT_BY_OPTIONS: &str = "red{hash=none}";

/// Runs up to three exact passes on a random graph, and compares its outputs before and after each.
pub fn exact_passes(bytes: &[u8]) {
    let registry = Registry::standard();
    let mut exact = vec![EXACT_BY_OPTIONS];
    let passes = registry.passes().iter();
    exact.extend(
        passes
            .filter(|pass| pass.kind == Kind::Exact)
            .map(|pass| pass.name),
    );
    let (head, tail) = bytes.split_at(bytes.len().min(4));
    let mut choices = Choices::new(head);
    let passes: Vec<&str> = (0..1 + choices.below(3))
        .map(|_| choices.pick(&exact))
        .collect();
    let graph = random_graph(tail);
    let printed = format!("{graph:#}");
    let is_opaque = |node| matches!(graph.op(node), Some(Op::Opaque(_)));
    let opaque = graph.nodes().any(is_opaque);
    let options = RunOptions {
        verify: Verify::Each,
        inputs: 1,
        ..RunOptions::default()
    };
    let result = Pipeline::parse(&passes.join(","))
        .and_then(|pipeline| pipeline.run_with(&mut Model::new(graph), &options, &mut ()));
    match result {
        Err(error) => panic!("{}: {error}\n{printed}", passes.join(",")),
        Ok(report) => {
            let refused = |remark: &&Remark| remark.text.starts_with(REFUSED);
            if let Some(remark) = report
                .passes
                .iter()
                .flat_map(|pass| &pass.remarks)
                .find(refused)
            {
                panic!("{}: {}\n{printed}", passes.join(","), remark.text);
            }
            if let (Some(Verification::Skipped { skipped }), false) = (report.verify, opaque) {
                panic!("{skipped}\n{printed}");
            }
        }
    }
}
