//! What can be wrong with an ONNX file.

/// Why an ONNX file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The bytes are no ONNX model.
    #[error(
        "the ONNX file is damaged: {detail}\n  the file was cut short or altered; fetch or export it again"
    )]
    Damaged {
        /// What does not fit.
        detail: String,
    },
    /// An operator set that is not known.
    #[error(
        "the model uses version {version} of ONNX's operators, and optc knows {least} to {most}\n  {help}"
    )]
    Opset {
        /// The version.
        version: i64,
        /// The oldest known.
        least: i64,
        /// The newest known.
        most: i64,
        /// What to do.
        help: &'static str,
    },
    /// No operator set.
    #[error(
        "the model does not say which version of ONNX's operators it uses (`opset_import`)\n  export it again; a model without it has no meaning"
    )]
    NoOpset,
    /// Two values of one name.
    #[error(
        "two values are called `{name}`\n  in ONNX every value has its own name; export the model again"
    )]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A value that nothing computes.
    #[error(
        "{reader} reads `{name}`, which nothing computes\n  the model is incomplete; export it again"
    )]
    Undefined {
        /// Who reads it: a node, or the graph.
        reader: String,
        /// The value.
        name: String,
    },
    /// Nodes that wait for each other.
    #[error(
        "`{name}` depends on itself\n  the model has a cycle and cannot be run; export it again"
    )]
    Cycle {
        /// A value on the cycle.
        name: String,
    },
    /// A tensor that does not hold together.
    #[error("tensor `{name}`: {what}\n  the file is damaged; export the model again")]
    Tensor {
        /// The initializer, or the attribute's node.
        name: String,
        /// What does not fit.
        what: String,
    },
    /// Data in another file, which cannot be taken.
    #[error("tensor `{name}` lies in the file `{location}`: {what}\n  {help}")]
    External {
        /// The tensor.
        name: String,
        /// The other file, as the model names it.
        location: String,
        /// What is wrong.
        what: String,
        /// What to do.
        help: &'static str,
    },
    /// A bound on size was reached.
    #[error("reading the model stopped at a limit: {what}\n  {help}")]
    Limit {
        /// Which, and how much.
        what: String,
        /// What to do.
        help: &'static str,
    },
    /// What the format cannot say.
    #[error("cannot be written as ONNX: {what}\n  {help}")]
    Unwritable {
        /// What.
        what: String,
        /// What to do.
        help: &'static str,
    },
}

/// What to do where a pass is to blame.
pub(crate) const MISTAKE: &str = "this is a mistake of the pass that made it";

impl OnnxError {
    pub(crate) fn damaged(detail: impl Into<String>) -> OnnxError {
        OnnxError::Damaged {
            detail: detail.into(),
        }
    }

    pub(crate) fn tensor(name: &str, what: impl Into<String>) -> OnnxError {
        OnnxError::Tensor {
            name: name.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn unwritable(what: impl Into<String>, help: &'static str) -> OnnxError {
        OnnxError::Unwritable {
            what: what.into(),
            help,
        }
    }
}
