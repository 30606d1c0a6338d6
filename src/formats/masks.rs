//! Masks as a file of safetensors, for training elsewhere.

use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::files::write_whole;
use crate::ir::{Graph, Role};
use crate::{Error, Result};

/// Writes the masks of a graph's parameters and buffers to a file of safetensors, whole or not at all: under each name that the
/// parameter has in the state dict, booleans of its shape, true where it is kept. Returns how many masks there are.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn write_masks(graph: &Graph, path: impl AsRef<Path>) -> Result<usize> {
    let path = path.as_ref();
    let mut masks = Vec::new();
    for node in graph.nodes() {
        let constant = graph.constant(node);
        let constant = constant.filter(|constant| constant.role != Role::Literal);
        if let Some((constant, mask)) = constant.and_then(|c| Some((c, c.mask.as_ref()?))) {
            let bytes: Vec<u8> = mask.iter().map(u8::from).collect();
            for name in std::iter::once(&graph.node(node).name).chain(&constant.aliases) {
                masks.push((
                    name.clone(),
                    constant.tensor.shape().to_vec(),
                    bytes.clone(),
                ));
            }
        }
    }
    let refused = |source: std::io::Error| Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    };
    let views: Result<Vec<_>, _> = masks
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::BOOL, shape.clone(), bytes)?)))
        .collect();
    let file = views.and_then(|views| safetensors::serialize(views, None));
    let file = file.map_err(|error| refused(std::io::Error::other(error)))?;
    write_whole(path, |out| out.write_all(&file).map_err(refused))?;
    Ok(masks.len())
}
