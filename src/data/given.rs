//! Arrays that a program has in memory: taken as those of `npz:FILE` are, where they lie.

use super::arrays::{self, Arrays};
use super::{Data, DataSpec, Wanted};
use crate::ir::{Graph, Tensor};
use crate::{Error, Result};

impl Data {
    /// Arrays `[n, ...]` for a network: named like its inputs, `x` for the only one, and `y` for labels.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when they do not fit the network's inputs.
    #[doc(hidden)]
    pub fn of_arrays(arrays: Vec<(String, Tensor)>, graph: &Graph) -> Result<Data> {
        let spec: DataSpec = "npz:<memory>".parse()?;
        let opened = arrays::open(&spec, &Wanted::by(graph), &Given(arrays))?;
        Ok(Data::new(&spec, opened))
    }
}

struct Given(Vec<(String, Tensor)>);

impl Arrays for Given {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let found = self.0.iter().find(|(other, _)| other == name);
        let array = found.map(|(_, array)| array.clone());
        array.ok_or_else(|| Error::Usage {
            what: format!("there is no array `{name}`"),
            help: format!("there are {}", self.names().join(", ")),
        })
    }
}
