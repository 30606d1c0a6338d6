//! ONNX models as bytes.

use std::sync::Arc;

use crate::exec::compare;
use crate::formats::ReadOptions;
use crate::formats::onnx::{Source, read_bytes, write_bytes};
use crate::fuzzing::random_graph;
use crate::ir::{Bytes, Graph, Op, verify};
use crate::report::Verification;

/// The ONNX file that holds `graph`, if the format can.
pub fn onnx_of(graph: &Graph) -> Option<Vec<u8>> {
    write_bytes(graph, &Source::default()).ok()
}

fn read(bytes: &[u8]) -> Result<(Graph, Source), crate::error::FormatError> {
    read_bytes(
        Bytes::new(Arc::new(bytes.to_vec())),
        &ReadOptions::default(),
    )
}

/// Reads an ONNX model. One that can be read gives a graph that keeps the rules, and where it can be written is read again.
pub fn onnx(bytes: &[u8]) {
    let Ok((graph, source)) = read(bytes) else {
        return;
    };
    if let Err(violations) = verify(&graph) {
        panic!("{}\n{graph}", violations[0]);
    }
    if let Ok(written) = write_bytes(&graph, &source)
        && let Err(error) = read(&written)
    {
        panic!("{error}\n{graph}");
    }
}

/// Writes a random graph as ONNX and reads it again, as one that computes the same.
pub fn onnx_of_graph(bytes: &[u8]) {
    let graph = random_graph(bytes);
    let written = match write_bytes(&graph, &Source::default()) {
        Ok(written) => written,
        Err(error) => panic!("{error}\n{graph}"),
    };
    let again = match read(&written) {
        Ok((mut again, _)) => {
            again.bindings.clone_from(&graph.bindings);
            again
        }
        Err(error) => panic!("{error}\n{graph}"),
    };
    // What depends on how a runtime rounds, or on sizes that only the graph knows to be positive, is read as opaque.
    if again
        .nodes()
        .any(|node| matches!(again.op(node), Some(Op::Opaque(_))))
    {
        return;
    }
    match compare::<f64>(&graph, &again, 1, 0) {
        Ok(Verification::Measured { moved, .. }) if moved.max_rel < 1e-5 => {}
        Ok(other) => panic!("{other:?}\n{graph}\n{again}"),
        Err(error) => panic!("{error}\n{graph}\n{again}"),
    }
}
