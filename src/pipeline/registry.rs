//! The passes that a pipeline may name.

use super::Pipeline;
use super::pass::PassInfo;
use crate::Result;

/// A list of passes by name. Programs that embed the compiler add their own to the standard ones.
#[derive(Clone, Debug)]
pub struct Registry {
    passes: Vec<&'static PassInfo>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}

impl Registry {
    /// The passes of this crate.
    pub fn standard() -> Registry {
        Registry {
            passes: crate::passes::ALL.to_vec(),
        }
    }

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

/// The candidate nearest to `name`, if one is near enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
