//! What a pass is.

use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use super::context::PassContext;
use super::method::{Method, Methods};
use super::options::{OptionSpec, Options};
use crate::Result;
use crate::ir::Graph;
use crate::report::Kind;

/// A transformation of a graph, made from a [`PassInfo`] and parsed options.
///
/// ```
/// use optc::Result;
/// use optc::ir::Graph;
/// use optc::pipeline::{Changed, Kind, Pass, PassContext, PassInfo};
///
/// struct RemoveDead;
///
/// static REMOVE_DEAD: PassInfo = PassInfo {
///     name: "remove-dead",
///     summary: "remove what no output depends on",
///     kind: Kind::Exact,
///     options: &[],
///     build: |_| Ok(Box::new(RemoveDead)),
/// };
///
/// impl Pass for RemoveDead {
///     fn info(&self) -> &'static PassInfo {
///         &REMOVE_DEAD
///     }
///     fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed> {
///         Ok((graph.remove_dead() > 0).into())
///     }
/// }
/// ```
pub trait Pass: Send + Sync {
    /// Name, summary, kind and options.
    fn info(&self) -> &'static PassInfo;

    /// What the pass with its options promises; [`PassInfo::kind`] unless options decide it.
    fn kind(&self) -> Kind {
        self.info().kind
    }

    /// What it can offer where several passes share a budget; `None` for a pass that cannot, or that has a budget of its own.
    #[doc(hidden)]
    fn method(&self) -> Option<Arc<dyn Method>> {
        None
    }

    /// Changes the graph. Inputs and outputs keep their names, order, types and meaning.
    ///
    /// # Errors
    /// Why the graph cannot be changed at all. A place where the pass has nothing to do is not an error: say so by
    /// [`PassContext::missed`].
    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed>;
}

/// What is known about a pass before it is made.
#[derive(Debug)]
pub struct PassInfo {
    /// The name in pipelines: lower case, words joined by `-`.
    pub name: &'static str,
    /// One line that says what the pass does, in the imperative and without a full stop.
    pub summary: &'static str,
    /// What the pass promises with its default options.
    pub kind: Kind,
    /// The options, in the order in which they are printed.
    pub options: &'static [OptionSpec],
    /// Makes the pass; every option has a value by then.
    pub build: fn(&Options) -> Result<Box<dyn Pass>>,
}

/// A pass that is made of the passes in parentheses behind it: `within{macs=0.7}(red,lrf)`.
#[derive(Debug)]
pub struct Group {
    /// Name, summary, kind and options. Its `build` is not asked.
    pub info: &'static PassInfo,
    /// Makes the pass of what those in parentheses offer.
    pub build: fn(&Options, Methods) -> Result<Box<dyn Pass>>,
}

/// Whether a pass changed the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub enum Changed {
    /// The graph is as it was.
    #[default]
    No,
    /// Something is different.
    Yes,
}

impl Changed {
    /// Whether this is [`Changed::Yes`].
    #[doc(hidden)]
    pub fn is_yes(self) -> bool {
        self == Changed::Yes
    }
}

impl From<bool> for Changed {
    fn from(changed: bool) -> Changed {
        if changed { Changed::Yes } else { Changed::No }
    }
}

impl BitOr for Changed {
    type Output = Changed;
    fn bitor(self, other: Changed) -> Changed {
        (self.is_yes() || other.is_yes()).into()
    }
}

impl BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Changed) {
        *self = *self | other;
    }
}
