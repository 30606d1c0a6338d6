//! The passes that a pipeline may name.

use super::Pipeline;
use super::pass::{Group, PassInfo};
use crate::Result;

/// A list of passes by name. Programs that embed the compiler add their own to the standard ones.
#[derive(Clone, Debug)]
pub struct Registry {
    passes: Vec<&'static PassInfo>,
    groups: Vec<&'static Group>,
}

impl Registry {
    /// No passes.
    pub fn empty() -> Registry {
        Registry {
            passes: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// This registry with one pass more, which takes the place of one of the same name.
    pub fn with(mut self, pass: &'static PassInfo) -> Registry {
        self.passes.retain(|known| known.name != pass.name);
        self.passes.push(pass);
        self
    }

    /// This registry with a pass more that is made of others.
    #[doc(hidden)]
    pub fn with_group(mut self, group: &'static Group) -> Registry {
        self.groups.push(group);
        self
    }

    /// The pass of this name that is made of others.
    pub(super) fn group(&self, name: &str) -> Option<&'static Group> {
        self.groups
            .iter()
            .copied()
            .find(|group| group.info.name == name)
    }

    /// The passes that are made of others.
    #[doc(hidden)]
    pub fn groups(&self) -> &[&'static Group] {
        &self.groups
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

    /// The pipeline with adjacent lossy passes that have no budget of their own under one, such as `within{macs=0.7}`.
    ///
    /// # Errors
    /// As [`Registry::parse`] for the budget; [`Error::Usage`](crate::Error::Usage) when there are no such passes.
    #[doc(hidden)]
    pub fn under(&self, pipeline: Pipeline, budget: &str) -> Result<Pipeline> {
        super::text::under(pipeline, budget, self)
    }

    /// All passes.
    pub fn passes(&self) -> &[&'static PassInfo] {
        &self.passes
    }
}
