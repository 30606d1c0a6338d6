//! Options as JSON.

use library::job::{self, Settings};
use library::{ReadOptions, Result};
use serde::Deserialize;

/// What to know about a model before it is read.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reading {
    input: Vec<String>,
}

/// How a model is to be read.
pub fn read(json: Option<&str>) -> Result<ReadOptions> {
    let reading: Reading = match json {
        Some(json) => job::parse(json)?,
        None => Reading::default(),
    };
    let shapes = reading.input.iter().map(|shape| shape.parse());
    Ok(ReadOptions {
        inputs: shapes.collect::<Result<_>>()?,
    })
}

/// How a pipeline is to be run.
pub fn run(json: Option<&str>) -> Result<Settings> {
    json.map_or(Ok(Settings::default()), Settings::parse)
}
