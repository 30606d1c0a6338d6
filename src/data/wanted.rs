//! What a network takes as its inputs, as far as data must fit them.

use std::sync::Arc;

use super::Wrong;
#[cfg(feature = "images")]
use super::images::MAX_SIDE;
use super::samples::Fill;
use crate::ir::{DType, Dim, Graph, NodeId, Op};
use crate::{Error, Result};

/// The inputs of a network.
pub(super) struct Wanted(pub(super) Vec<Input>);

/// One of them.
pub(super) struct Input {
    pub(super) name: Arc<str>,
    /// `None` where that is not known.
    pub(super) dtype: Option<DType>,
    /// Its sizes, the batch first; `None` where any will do. `None` as a whole where even the rank is open.
    pub(super) sizes: Option<Vec<Option<usize>>>,
    /// Whether a caller may leave it out.
    pub(super) optional: bool,
    /// What it gets where the data has nothing for it, if that is plain.
    pub(super) fill: Option<Fill>,
    /// Its name and type, for messages.
    pub(super) text: String,
}

impl Wanted {
    /// What `graph` takes. A size that has a number in [`Graph::bindings`] must be that, but for the batch.
    pub(super) fn by(graph: &Graph) -> Wanted {
        let input = |node: &NodeId| {
            let ty = graph.ty((*node).into());
            let size = |(axis, dim): (usize, &Dim)| {
                let number = match axis {
                    0 => dim.as_number(),
                    _ => dim.eval(&graph.bindings),
                };
                number?.try_into().ok()
            };
            let name = graph.node(*node).name.clone();
            Input {
                dtype: ty.dtype(),
                sizes: { ty.shape() }.map(|dims| dims.iter().enumerate().map(size).collect()),
                optional: graph.defaults.contains_key(&name),
                fill: plain(graph, *node),
                text: format!("`{name}` {ty}"),
                name,
            }
        };
        Wanted(graph.inputs().iter().map(input).collect())
    }

    /// The inputs that a caller must give.
    pub(super) fn needed(&self) -> impl Iterator<Item = &Input> {
        self.0.iter().filter(|input| !input.optional)
    }

    /// The only input that a caller must give; `None` where there are none or several.
    pub(super) fn only(&self) -> Option<&Input> {
        let mut needed = self.needed();
        let only = needed.next()?;
        needed.next().is_none().then_some(only)
    }

    /// The only input, a batch of floating-point numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] when there are others, or it is no such batch.
    pub(super) fn sole(&self) -> Result<&Input> {
        let Some(only) = self.only() else {
            let inputs: Vec<&str> = self.0.iter().map(|input| input.text.as_str()).collect();
            return Err(Error::Usage {
                what: format!(
                    "such data is for networks of one input; this one takes {}: {}",
                    inputs.len(),
                    inputs.join(", ")
                ),
                help: "give an array for each input, by its name: npz:FILE".to_string(),
            });
        };
        if only.is_float_batch() {
            return Ok(only);
        }
        Err(Error::Usage {
            what: format!(
                "such data is for networks of one input that is a batch of floats; this one takes {}",
                only.text
            ),
            help: "give an array of its type: npz:FILE".to_string(),
        })
    }

    /// Channels, height and width of an image, where they are numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] when the input is no image of one or three channels, or not even its rank is known.
    #[cfg(feature = "images")]
    pub(super) fn image(&self) -> Result<[Option<usize>; 3]> {
        let side = |n: &Option<usize>| n.is_none_or(|n| (1..=MAX_SIDE).contains(&n));
        let input = self.sole()?;
        match input.row() {
            Some([channels @ (None | Some(1 | 3)), height, width])
                if side(height) && side(width) =>
            {
                Ok([*channels, *height, *width])
            }
            None => Err(Error::Usage {
                what: format!(
                    "images need a size, and the network's input is {}",
                    input.text
                ),
                help: "give it with --input, such as --input 1x3x224x224".to_string(),
            }),
            _ => Err(Error::Usage {
                what: format!("images do not fit the network's input, which is {}", input.text),
                help: "images are for inputs f32[N,3,H,W] or f32[N,1,H,W]; give other data as npz:FILE".to_string(),
            }),
        }
    }

    /// Checks that rows of this shape fit the sole input.
    #[cfg(feature = "images")]
    pub(super) fn check(&self, sample: &[usize]) -> Result<(), Wrong> {
        self.only().map_or(Ok(()), |input| input.check(sample))
    }
}

impl Input {
    /// Whether it is a batch of floating-point numbers.
    pub(super) fn is_float_batch(&self) -> bool {
        let has_batch = self.sizes.as_ref().is_none_or(|sizes| !sizes.is_empty());
        self.dtype.is_some_and(DType::is_float) && has_batch
    }

    /// The sizes of a row of its batch.
    pub(super) fn row(&self) -> Option<&[Option<usize>]> {
        self.sizes.as_deref()?.get(1..)
    }

    /// Whether a sample of so many dimensions is all that the input takes at once, and not a row of its batch.
    pub(super) fn is_whole(&self, rank: usize) -> bool {
        self.sizes.as_ref().is_some_and(|sizes| sizes.len() == rank)
    }

    /// Checks that rows of this shape fit.
    pub(super) fn check(&self, sample: &[usize]) -> Result<(), Wrong> {
        let Some(wanted) = self.row() else {
            return Ok(());
        };
        if fits(wanted, sample) {
            return Ok(());
        }
        Err(Wrong::new(
            format!(
                "its samples have the shape {sample:?}, and the network's input is {}, of which one sample is {}",
                self.text,
                printed(wanted)
            ),
            "give data of the input's shape; if --input set these sizes, set them to those of the data",
        ))
    }

    /// Checks that a sample of this shape, of the array `name`, fits.
    pub(super) fn check_named(&self, name: &str, sample: &[usize]) -> Result<(), Wrong> {
        let Some(all) = &self.sizes else {
            return Ok(());
        };
        let row = self.row().unwrap_or_default();
        let whole = self.is_whole(sample.len());
        if fits(if whole { all } else { row }, sample) {
            return Ok(());
        }
        let one = match (whole, all.is_empty()) {
            (true, _) | (_, true) => printed(all),
            (false, false) => format!("{}, or with its batch {}", printed(row), printed(all)),
        };
        Err(Wrong::new(
            format!(
                "a sample of the array `{name}` has the shape {sample:?}, and of the input {} one sample is {one}",
                self.text
            ),
            "give arrays of the inputs' shapes, with an axis before them that counts the samples; if --input set these sizes, set them to those of the data",
        ))
    }
}

fn fits(wanted: &[Option<usize>], sample: &[usize]) -> bool {
    wanted.len() == sample.len() && { wanted.iter().zip(sample) }
        .all(|(wanted, n)| wanted.is_none_or(|w| w == *n))
}

/// `[3, any, any]`
fn printed(sizes: &[Option<usize>]) -> String {
    let sizes = sizes.iter();
    let sizes = sizes.map(|n| n.map_or("any".to_string(), |n| n.to_string()));
    format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
}

/// What an input plainly gets where nothing is given: masks keep all, types of tokens are the first, and states are those before
/// the first step.
fn plain(graph: &Graph, node: NodeId) -> Option<Fill> {
    const STATES: [&str; 8] = ["h", "c", "h0", "c0", "h_0", "c_0", "hx", "cx"];
    let name = graph.node(node).name.to_lowercase();
    let named = |part: &str| name.contains(part);
    let is_float = graph.ty(node.into()).is_float();
    let is_state = || {
        let readers = graph.readers(node.into()).into_iter();
        let mut read = readers.map(|(reader, operand)| operand > 0 && is_recurrent(graph, reader));
        STATES.contains(&name.as_str()) || named("state") || named("hidden") || read.any(|r| r)
    };
    match is_float {
        _ if named("mask") => Some(Fill::Ones),
        false if named("token_type") || named("segment") => Some(Fill::Zeros),
        true if is_state() => Some(Fill::Zeros),
        _ => None,
    }
}

fn is_recurrent(graph: &Graph, node: NodeId) -> bool {
    let Some(Op::Opaque(opaque)) = graph.op(node) else {
        return false;
    };
    let mut parts = opaque.name.split([':', '.']);
    parts.any(|part| ["LSTM", "GRU", "RNN", "lstm", "gru"].contains(&part))
}
