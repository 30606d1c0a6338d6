//! `optc inspect`.

use std::path::PathBuf;

use optc::Result;
use optc::formats::{self, InputShape, ReadOptions};
use optc::report::{Inspection, inspection_table};

use super::output::say;

/// Say what is in a model: format, inputs and outputs, operators, weights and multiply-adds of each layer, tied weights, and what
/// passes will leave alone
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The model
    pub model: PathBuf,

    /// The shape of an input, such as 1x3x224x224, to count multiply-adds. Once for each input
    #[arg(long, value_name = "[NAME:]SHAPE")]
    pub input: Vec<InputShape>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads the model, and prints what is in it.
pub fn run(args: &InspectArgs) -> Result<()> {
    let options = ReadOptions {
        inputs: args.input.clone(),
    };
    let model = formats::read_with(&args.model, &options)?;
    let mut inspection = Inspection::of(&model);
    inspection.model = args.model.display().to_string();
    say(&if args.json {
        inspection.to_json()
    } else {
        inspection_table(&inspection)
    })
}
