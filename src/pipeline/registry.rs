//! The passes that a pipeline may name.

use super::Pipeline;
use super::pass::PassInfo;
use crate::Result;

/// A list of passes by name. Programs that embed the compiler add their own to the standard ones.
#[derive(Clone, Debug)]
pub struct Registry {
    passes: Vec<&'static PassInfo>,
}

impl Registry {
    /// No passes.
    pub fn empty() -> Registry {
        Registry { passes: Vec::new() }
    }

    /// This registry with one pass more, which takes the place of one of the same name.
    pub fn with(mut self, pass: &'static PassInfo) -> Registry {
        self.passes.retain(|known| known.name != pass.name);
        self.passes.push(pass);
        self
    }

    /// The pass of this name.
    pub fn find(&self, name: &str) -> Option<&'static PassInfo> {
        self.passes.iter().copied().find(|pass| pass.name == name)
    }

    /// Reads a pipeline of these passes.
    ///
    /// # Errors
    /// [`Error::Text`](crate::Error::Text), pointing at the mistake and listing what would be right there.
    pub fn parse(&self, pipeline: &str) -> Result<Pipeline> {
        super::text::parse(pipeline, self)
    }

    /// All passes.
    pub fn passes(&self) -> &[&'static PassInfo] {
        &self.passes
    }
}
