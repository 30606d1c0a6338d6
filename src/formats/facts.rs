//! What files say of themselves.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// The format, such as "TorchScript".
    pub format: &'static str,
    /// The program that wrote it, if the format keeps that.
    pub producer: Option<String>,
    /// The versions that it names, each with what it is the version of: a file format, a set of operators.
    pub versions: BTreeMap<String, String>,
}
