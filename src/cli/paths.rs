//! The files that a run writes, checked before anything is read.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use optc::{Error, Result};

/// `model.pt` -> `model.opt.pt`, and `model` -> `model.opt.pt` too.
pub fn default_output(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default();
    let suffix = model.extension().unwrap_or(OsStr::new("pt"));
    let mut name = OsString::from(stem);
    name.push(".opt.");
    name.push(suffix);
    model.with_file_name(name)
}

/// Checks that the model can be read, and that every target can be written and is neither the model nor another target.
///
/// `targets` are paths with the options they come from.
pub fn check(model: &Path, targets: &[(&str, &Path)]) -> Result<()> {
    let file = fs::File::open(model).map_err(io("read", model))?;
    if file.metadata().map_err(io("read", model))?.is_dir() {
        return usage(
            format!("{} is a folder, not a model file", model.display()),
            "give the path of a .pt, .pt2 or .onnx file",
        );
    }
    for (i, (option, target)) in targets.iter().enumerate() {
        if is_same(model, target) {
            return usage(
                format!("{option} {} is the model itself", target.display()),
                "the input is never overwritten; give another path",
            );
        }
        if let Some((other, _)) = targets[..i].iter().find(|(_, path)| is_same(path, target)) {
            return usage(
                format!("{other} and {option} both write {}", target.display()),
                "give them different paths",
            );
        }
        check_writable(option, target)?;
    }
    Ok(())
}

/// The suffix of a page for a browser.
pub const PAGE: &str = "html";

/// Whether a file is to be a page.
pub fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == PAGE)
}

/// Checks that the file that an option writes has a suffix of what can be written.
pub fn check_suffix(option: &str, path: Option<&Path>, suffixes: &[&str]) -> Result<()> {
    let known = |suffix: &OsStr| suffixes.iter().any(|known| suffix == *known);
    match path {
        Some(path) if !path.extension().is_some_and(known) => {
            let [named, help] = [" or .", " or FILE."].map(|or| suffixes.join(or));
            usage(
                format!("{option} {} is not named .{named}", path.display()),
                &format!("name it FILE.{help}, which is what is in it"),
            )
        }
        _ => Ok(()),
    }
}

/// Checks that the target of an option can be written.
pub fn check_writable(option: &str, target: &Path) -> Result<()> {
    if let Ok(metadata) = fs::metadata(target) {
        if !metadata.is_file() {
            let what = if metadata.is_dir() {
                "is a folder"
            } else {
                "is not a regular file"
            };
            return usage(
                format!("{option} {} {what}", target.display()),
                "give the path of a file",
            );
        }
        if metadata.permissions().readonly() {
            return usage(
                format!("{option} {} is write-protected", target.display()),
                "give another path",
            );
        }
    }
    let folder = folder(target);
    if !folder.is_dir() {
        return usage(
            format!(
                "{option} {}: there is no folder {}",
                target.display(),
                folder.display()
            ),
            "make it first, or give another path",
        );
    }
    // A file appears under another name first, so the folder must take one.
    tempfile::tempfile_in(folder).map_err(io("write to", folder))?;
    Ok(())
}

/// Whether both paths lead to the same file, through links of either kind, or will when it exists.
fn is_same(a: &Path, b: &Path) -> bool {
    if let Ok(same) = same_file::is_same_file(a, b) {
        return same;
    }
    let resolve = |path: &Path| {
        let folder = fs::canonicalize(folder(path)).ok()?;
        Some(folder.join(path.file_name()?))
    };
    a == b || resolve(a).is_some_and(|a| Some(a) == resolve(b))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

fn usage<T>(what: String, help: &str) -> Result<T> {
    Err(Error::Usage {
        what,
        help: help.to_string(),
    })
}
