//! What shells and `man` show of the command, made from its arguments.

use clap::CommandFactory;
use clap_complete::Shell;
use optc::{Error, Result};

use super::args::Args;
use super::output::say;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Print the manual page
#[derive(Debug, clap::Args)]
pub struct ManArgs {}

/// Prints what completes the command's arguments.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "optc", &mut text);
    say(&String::from_utf8_lossy(&text))
}

/// Prints the page.
pub fn man() -> Result<()> {
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(Args::command());
    page.render(&mut text).map_err(|source| Error::Io {
        doing: "write",
        path: "the manual page".into(),
        source,
    })?;
    say(&String::from_utf8_lossy(&text))
}
