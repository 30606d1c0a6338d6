//! optc for C and C++.
//!
//! A model is an opaque handle that nothing changes: a run gives a new one, so threads may share a model. No panic leaves a function,
//! and a handle that was freed is refused, as handles are numbers in a table (`handles`) and never addresses. Settings are JSON
//! under the names of the command's options (`settings`); what went wrong is a status and a text of the caller's own (`outcome`).
//! `optc.h` is generated from here.

#![allow(unsafe_code, reason = "pointers of C are what this crate is about")]

mod handles;
mod outcome;
mod pointers;
mod progress;
mod settings;

use std::ffi::{c_char, c_void};

use library::ir::Bytes;
use library::job::{Given, Told};
use library::pipeline::Cancellation;
use library::report::Inspection;

pub use handles::OptcModel;
pub use outcome::OptcStatus;
pub use pointers::OptcRelease;
pub use progress::OptcProgress;

use outcome::call;
use pointers::{Borrowed, handed_over, out, text};
use progress::Watch;

/// The version of this interface. It grows by one when something that was there changes; new functions leave it.
pub const OPTC_ABI_VERSION: u32 = 1;

/// The version of the interface that the library has; a program compares it with the `OPTC_ABI_VERSION` that it was built with.
#[unsafe(no_mangle)]
pub extern "C" fn optc_abi_version() -> u32 {
    OPTC_ABI_VERSION
}

/// optc's own version, such as "0.1.0"; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn optc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Reads a model file. `options` is NULL or JSON, {"input": ["1x3x224x224"]}: shapes of inputs, as the command's --input.
///
/// `error`, here and everywhere, is NULL or gets NULL, and on failure a text that says what is wrong, where, and what to do; it is freed
/// by `optc_string_free`.
///
/// # Safety
/// Texts end in a zero; `model` and `error` point to what may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_read_file(
    path: *const c_char,
    options: *const c_char,
    model: *mut *mut OptcModel,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let model = out(model, "model")?;
            let options = settings::read(text(options, "options")?)?;
            let path = text(path, "path")?.ok_or_else(|| pointers::null("path"))?;
            *model = handles::add(library::read_with(path, &options)?);
            Ok(())
        })
    }
}

/// Reads a model from the bytes of its file; what it is is told by them. With `release` NULL they are copied. Else the model, and all
/// that is made of it, go on to read them where they are, and `release(context)` is called once, perhaps on another thread, when
/// nothing does any more; also where reading fails.
///
/// # Safety
/// As `optc_read_file`; there are `length` bytes at `bytes`, which with `release` stay unchanged until it is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_read_bytes(
    bytes: *const u8,
    length: usize,
    release: OptcRelease,
    context: *mut c_void,
    options: *const c_char,
    model: *mut *mut OptcModel,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        // Before anything can fail, so that they are released then, too.
        let bytes = Borrowed::new(bytes, length, release, context);
        call(error, || {
            let model = out(model, "model")?;
            let options = settings::read(text(options, "options")?)?;
            let bytes: Bytes = bytes?.shared();
            *model = handles::add(library::read_bytes(bytes, &options)?);
            Ok(())
        })
    }
}

/// Runs a pipeline, such as "red{hash=none}", and gives what it makes of the model as a new one. `passes` is NULL for the usual ones.
/// `options` is NULL or JSON with "target" or "keep", "data", "samples", "statistics", "eval", "cost" ("macs", "params" or
/// "time"), "seed", "threads", "verify" ("whole", "each" or "none") and "tolerance": what the command's options of these names take.
///
/// `progress` is NULL or called as the run goes on, on the thread that called this, or with "threads" on another that is waited for;
/// where it returns anything but 0 the run ends before its next layer with OPTC_STATUS_CANCELLED. It must not unwind.
///
/// `report` is NULL or gets the report as JSON, freed by `optc_string_free`.
///
/// # Safety
/// As `optc_read_file`; `progress` can be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_run(
    model: *const OptcModel,
    passes: *const c_char,
    options: *const c_char,
    progress: OptcProgress,
    context: *mut c_void,
    result: *mut *mut OptcModel,
    report: *mut *mut c_char,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let result = out(result, "result")?;
            let mut report = pointers::optional_out(report);
            if let Some(report) = &mut report {
                **report = std::ptr::null_mut();
            }
            let settings = settings::run(text(options, "options")?)?;
            let passes = text(passes, "passes")?;
            let pipeline = settings.pipeline(passes, false)?;
            let mut made = (*handles::find(model)?).clone();
            let cancellation = Cancellation::default();
            let given = Given {
                names_passes: passes.is_some(),
                ..Given::default()
            };
            let options = settings.options(&made, given, cancellation.clone())?;
            let watch = Watch::new(progress, context, cancellation);
            let mut watch =
                Told(move |pass: &str, layer: &str, done| watch.tell(pass, layer, done));
            let told = pipeline.run_with(&mut made, &options, &mut watch)?;
            if let Some(report) = &mut report {
                **report = pointers::owned_text(told.to_json());
            }
            *result = handles::add(made);
            Ok(())
        })
    }
}

/// Writes a model file, and where it has one the file with its weights beside it: whole or not at all. The format is the suffix's.
///
/// # Safety
/// As `optc_read_file`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_write_file(
    model: *const OptcModel,
    path: *const c_char,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path = text(path, "path")?.ok_or_else(|| pointers::null("path"))?;
            Ok(library::write(&*handles::find(model)?, path)?)
        })
    }
}

/// Writes a model as the bytes of a file, freed by `optc_bytes_free` with the same length. `format` is a suffix, such as "onnx", or NULL
/// for what the model was read from.
///
/// # Safety
/// As `optc_read_file`; `bytes` and `length` point to what may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_write_bytes(
    model: *const OptcModel,
    format: *const c_char,
    bytes: *mut *mut u8,
    length: *mut usize,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let bytes = out(bytes, "bytes")?;
            let length = pointers::optional_out(length).ok_or_else(|| pointers::null("length"))?;
            let format = text(format, "format")?;
            (*bytes, *length) = handed_over(library::write_bytes(&*handles::find(model)?, format)?);
            Ok(())
        })
    }
}

/// What is in a model, as JSON: inputs and outputs, operators, layers. It is freed by `optc_string_free`.
///
/// # Safety
/// As `optc_read_file`; `json` points to what may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_inspect(
    model: *const OptcModel,
    json: *mut *mut c_char,
    error: *mut *mut c_char,
) -> OptcStatus {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let json = out(json, "json")?;
            *json = pointers::owned_text(Inspection::of(&*handles::find(model)?).to_json());
            Ok(())
        })
    }
}

/// Frees a model. A call on another thread that uses it goes on to its end. NULL is nothing to free; a model that was freed before is
/// refused.
#[unsafe(no_mangle)]
pub extern "C" fn optc_model_free(model: *mut OptcModel) -> OptcStatus {
    // SAFETY: there is no text to write.
    unsafe { call(std::ptr::null_mut(), || handles::remove(model)) }
}

/// Frees a text that the library gave. NULL is nothing to free.
///
/// # Safety
/// The text is one that this library gave, and was not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_string_free(text: *mut c_char) {
    // SAFETY: as the caller promises.
    unsafe { pointers::free_text(text) }
}

/// Frees bytes that the library gave. NULL is nothing to free.
///
/// # Safety
/// The bytes are those that this library gave, with their length, and were not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_bytes_free(bytes: *mut u8, length: usize) {
    // SAFETY: as the caller promises.
    unsafe { pointers::free_bytes(bytes, length) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The header is written by `UPDATE_HEADER=1 cargo test -p optc-capi`, and reviewed as a change of the interface.
    #[test]
    fn the_header_is_what_the_source_says() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
        let mut builder = cbindgen::Builder::new().with_config(config);
        for entry in here.join("src").read_dir().unwrap() {
            builder = builder.with_src(entry.unwrap().path());
        }
        let mut header = Vec::new();
        builder.generate().unwrap().write(&mut header);
        let header = String::from_utf8(header).unwrap();
        let path = here.join("optc.h");
        if std::env::var_os("UPDATE_HEADER").is_some() {
            std::fs::write(&path, &header).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), header);
    }
}
