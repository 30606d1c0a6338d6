//! A set of measurements, and the file that it is kept in.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Time;
use crate::analysis::latency::{Machine, Runtime};
use crate::files::write_whole;
use crate::{Error, Result};

/// The version of the file's format; a file of another is not used.
const FORMAT: u32 = 1;
/// The largest file that is read or written.
const MOST_BYTES: u64 = 64 << 20;

/// Where times are measured, as far as they depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The runtime.
    pub runtime: Runtime,
    /// The machine.
    pub machine: Machine,
    /// The threads that the runtime has.
    pub threads: usize,
}

/// `onnxruntime 1.22.0 on a processor (2 cores), 1 thread`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Runtime { name, version } = &self.runtime;
        let s = if self.threads == 1 { "" } else { "s" };
        let Setting {
            machine, threads, ..
        } = self;
        write!(f, "{name} {version} on {machine}, {threads} thread{s}")
    }
}

impl Setting {
    /// The name of the file for it.
    pub(super) fn file_name(&self) -> String {
        let mut name = String::new();
        for c in self.to_string().to_lowercase().chars() {
            match c {
                'a'..='z' | '0'..='9' | '.' => name.push(c),
                _ if name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
        // Long enough for any processor, and short enough for any file system.
        let mut name: String = name.chars().take(180).collect();
        name += ".json";
        name
    }
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Measurement {
    /// It was timed.
    Timed(Time),
    /// The runtime refuses it.
    Refused {
        /// What the runtime says.
        refused: String,
    },
}

/// Measurements by the text of what was timed.
pub(super) type Measurements = BTreeMap<String, Measurement>;

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    optc: String,
    #[serde(flatten)]
    setting: Setting,
    measurements: Measurements,
}

/// Reads the measurements of this setting; none where there is no file.
///
/// # Errors
/// Why the file is of no use: it cannot be read, is damaged, or is of another setting.
pub(super) fn read(path: &Path, setting: &Setting) -> Result<Measurements, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Measurements::new()),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("it has over {} MiB", MOST_BYTES >> 20));
    }
    let damaged = |error: serde_json::Error| format!("it is no set of measurements: {error}");
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
    if let Some(format) = json.get("format").and_then(serde_json::Value::as_u64)
        && format != u64::from(FORMAT)
    {
        return Err(format!(
            "it is of format {format}, and this optc reads format {FORMAT}"
        ));
    }
    let stored: Stored = serde_json::from_value(json).map_err(damaged)?;
    if stored.setting != *setting {
        return Err(format!(
            "it was measured with {}; here is {setting}",
            stored.setting
        ));
    }
    let mut timed = stored.measurements.values().filter_map(|m| match m {
        Measurement::Timed(time) => Some(time),
        Measurement::Refused { .. } => None,
    });
    let is_bad = |time: &&Time| !(time.ns > 0.0 && time.ns.is_finite() && time.spread >= 0.0);
    if let Some(bad) = timed.find(is_bad) {
        return Err(format!("something takes {} ns", bad.ns));
    }
    Ok(stored.measurements)
}

/// Writes the measurements, with those that another process wrote meanwhile; what that has measured too stays its own.
///
/// # Errors
/// [`Error::Io`], and [`Error::Latency`] for a file that would be too large.
pub(super) fn write(path: &Path, setting: &Setting, own: &Measurements) -> Result<()> {
    let refused = |source| Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    let mut measurements = own.clone();
    measurements.extend(read(path, setting).unwrap_or_default());
    let stored = Stored {
        format: FORMAT,
        optc: env!("CARGO_PKG_VERSION").to_string(),
        setting: setting.clone(),
        measurements,
    };
    // Nothing in it fails to serialise.
    let text = serde_json::to_string_pretty(&stored).unwrap_or_default() + "\n";
    if text.len() as u64 > MOST_BYTES {
        return Err(Error::Latency {
            path: path.to_path_buf(),
            what: format!("it would have over {} MiB", MOST_BYTES >> 20),
            help: "remove it: what is needed is measured again".to_string(),
        });
    }
    write_whole(path, |file| {
        file.write_all(text.as_bytes()).map_err(refused)
    })
}

/// The folder of this user for what programs can make again; `None` where the system names none.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from)?;
        path.is_absolute().then_some(path)
    };
    let local = if cfg!(windows) {
        named("LOCALAPPDATA")
    } else {
        named("HOME").map(|home| home.join(".cache"))
    };
    Some(named("XDG_CACHE_HOME").or(local)?.join("optc"))
}
