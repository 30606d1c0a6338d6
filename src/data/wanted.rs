//! What a network takes as its input, as far as data must fit it.

use super::Wrong;
#[cfg(feature = "images")]
use super::images::MAX_SIDE;
use crate::ir::{Graph, Type};
use crate::{Error, Result};

/// The one input of a network.
pub(super) struct Wanted {
    /// Sizes of one sample, without the batch; `None` where any will do. `None` as a whole where even the rank is open.
    sample: Option<Vec<Option<usize>>>,
    /// The input's name and type, for messages.
    input: String,
}

impl Wanted {
    /// What `graph` takes. A size that has a number in [`Graph::bindings`] must be that, but for the batch.
    ///
    /// # Errors
    /// [`Error::Usage`] when it has not one input, or that is no batch of floating-point numbers.
    pub(super) fn by(graph: &Graph) -> Result<Wanted> {
        let inputs: Vec<String> = graph
            .inputs()
            .iter()
            .map(|node| format!("`{}` {}", graph.node(*node).name, graph.ty((*node).into())))
            .collect();
        let (ty, input) = match graph.sole_input() {
            Some(one) => {
                let ty = graph.ty(one.into());
                (ty, format!("`{}` {ty}", graph.node(one).name))
            }
            None => {
                return Err(Error::Usage {
                    what: format!(
                        "data is for networks of one input; this one takes {}: {}",
                        inputs.len(),
                        inputs.join(", ")
                    ),
                    help: "leave out --data and --eval".to_string(),
                });
            }
        };
        let sample = match ty {
            Type::Tensor(dtype, None) if dtype.is_float() => None,
            Type::Tensor(dtype, Some(dims)) if dtype.is_float() && !dims.is_empty() => {
                let size = |dim: &crate::ir::Dim| dim.eval(&graph.bindings)?.try_into().ok();
                Some(dims[1..].iter().map(size).collect())
            }
            _ => {
                return Err(Error::Usage {
                    what: format!(
                        "data is for networks of one input that is a batch of floats; this one takes {input}"
                    ),
                    help: "leave out --data and --eval".to_string(),
                });
            }
        };
        Ok(Wanted { sample, input })
    }

    /// Checks that samples of this shape fit.
    pub(super) fn check(&self, sample: &[usize]) -> Result<(), Wrong> {
        let Some(wanted) = &self.sample else {
            return Ok(());
        };
        let fits = wanted.len() == sample.len()
            && wanted
                .iter()
                .zip(sample)
                .all(|(wanted, n)| wanted.is_none_or(|w| w == *n));
        if fits {
            Ok(())
        } else {
            Err(Wrong::new(
                format!(
                    "its samples have the shape {sample:?}, and the network's input is {}, of which one sample is [{}]",
                    self.input,
                    wanted
                        .iter()
                        .map(|n| n.map_or("any".to_string(), |n| n.to_string()))
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
                "give data of the input's shape; if --input set these sizes, set them to those of the data",
            ))
        }
    }

    /// Channels, height and width of an image, where they are numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] when the input is no image of one or three channels, or not even its rank is known.
    #[cfg(feature = "images")]
    pub(super) fn image(&self) -> Result<[Option<usize>; 3]> {
        let side = |n: &Option<usize>| n.is_none_or(|n| (1..=MAX_SIDE).contains(&n));
        match self.sample.as_deref() {
            Some([channels @ (None | Some(1 | 3)), height, width])
                if side(height) && side(width) =>
            {
                Ok([*channels, *height, *width])
            }
            None => Err(Error::Usage {
                what: format!(
                    "images need a size, and the network's input is {}",
                    self.input
                ),
                help: "give it with --input, such as --input 1x3x224x224".to_string(),
            }),
            _ => Err(Error::Usage {
                what: format!("images do not fit the network's input, which is {}", self.input),
                help: "images are for inputs f32[N,3,H,W] or f32[N,1,H,W]; give other data as npz:FILE".to_string(),
            }),
        }
    }
}
