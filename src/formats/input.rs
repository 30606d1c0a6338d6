//! Shapes of inputs, as the user gives them.

use std::fmt;
use std::str::FromStr;

use crate::ir::{Dim, Graph, NodeId, Type};
use crate::{Error, Result};

/// The shape of an input: `1x3x224x224`, or `NAME:1x3x224x224`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// The input it is for; the next one without a shape if not named.
    pub name: Option<String>,
    /// Its sizes.
    pub shape: Vec<usize>,
}

impl FromStr for InputShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<InputShape> {
        let (name, shape) = match text.rsplit_once(':') {
            Some((name, shape)) => (Some(name), shape),
            None => (None, text),
        };
        let wrong = |at: usize, what: String| Error::Text {
            what,
            text: text.to_string(),
            at,
            help: "a shape is written `1x3x224x224`, for one of several inputs `NAME:1x3x224x224`"
                .to_string(),
        };
        if name == Some("") {
            return Err(wrong(0, "there is no name before `:`".to_string()));
        }
        let mut at = text.len() - shape.len();
        let mut sizes = Vec::new();
        for size in shape.split('x') {
            match size.parse::<u32>() {
                Ok(n) if n > 0 => sizes.push(n as usize),
                _ => return Err(wrong(at, format!("`{size}` is not a size"))),
            }
            at += size.len() + 1;
        }
        Ok(InputShape {
            name: name.map(str::to_string),
            shape: sizes,
        })
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}:")?;
        }
        let sizes: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        f.write_str(&sizes.join("x"))
    }
}

/// Gives numbers to the sizes of a graph's inputs. Sizes stay what they are: the numbers go to [`Graph::bindings`].
///
/// # Errors
/// [`Error::Usage`] when a shape is for no input, or does not fit the one it is for.
pub fn bind_inputs(graph: &mut Graph, shapes: &[InputShape]) -> Result<()> {
    let mut waiting: Vec<NodeId> = graph.inputs().to_vec();
    let named = shapes.iter().filter(|shape| shape.name.is_some());
    for shape in named.chain(shapes.iter().filter(|shape| shape.name.is_none())) {
        let position = match &shape.name {
            Some(name) => waiting
                .iter()
                .position(|input| *graph.node(*input).name == **name),
            None => (!waiting.is_empty()).then_some(0),
        };
        let Some(position) = position else {
            return Err(no_input(graph, shape));
        };
        let input = waiting.remove(position);
        bind(graph, input, shape)?;
    }
    Ok(())
}

fn bind(graph: &mut Graph, input: NodeId, given: &InputShape) -> Result<()> {
    let node = graph.node(input);
    let Some(dims) = node.outputs.first().and_then(Type::shape) else {
        return Ok(());
    };
    let dims = dims.to_vec();
    let misfit = |graph: &Graph| Error::Usage {
        what: format!(
            "the shape {given} does not fit the input `{}`, which is {}",
            graph.node(input).name,
            graph.ty(input.into())
        ),
        help: if dims.len() == given.shape.len() {
            "give the numbers that the input has; a name such as N is one size wherever it stands"
                .to_owned()
        } else {
            format!(
                "give {} sizes; where the input has a name such as N, any number will do",
                dims.len()
            )
        },
    };
    if dims.len() != given.shape.len() {
        return Err(misfit(graph));
    }
    for (dim, n) in dims.iter().zip(&given.shape) {
        let n = *n as i64;
        if let Some(symbol) = dim.as_symbol() {
            let bound = *graph.bindings.entry(symbol.clone()).or_insert(n);
            if bound != n {
                return Err(misfit(graph));
            }
        }
    }
    // Sizes that are numbers, or expressions over symbols that now have one.
    let fits = |(dim, n): (&Dim, &usize)| {
        dim.eval(&graph.bindings)
            .is_none_or(|known| known == *n as i64)
    };
    if !dims.iter().zip(&given.shape).all(fits) {
        return Err(misfit(graph));
    }
    Ok(())
}

fn no_input(graph: &Graph, shape: &InputShape) -> Error {
    let inputs: Vec<String> = graph
        .inputs()
        .iter()
        .map(|input| {
            format!(
                "`{}` {}",
                graph.node(*input).name,
                graph.ty((*input).into())
            )
        })
        .collect();
    Error::Usage {
        what: match &shape.name {
            Some(name) => format!(
                "the shape {shape} is for `{name}`, which is no input of the model, or has one already"
            ),
            None => format!("the shape {shape} is one too many"),
        },
        help: format!("the inputs are {}", inputs.join(", ")),
    }
}
