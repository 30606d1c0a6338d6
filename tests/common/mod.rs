//! What several test binaries share.

/// Whether ONNX Runtime is here to judge. Under `CI` it must be: a test that is left out finds nothing.
#[allow(dead_code)]
pub fn has_onnxruntime() -> bool {
    let found = optc::profile::onnxruntime::find_library();
    if let (Err(error), Some(_)) = (&found, std::env::var_os("CI")) {
        panic!("{error}");
    }
    found.is_ok()
}

/// Compares `text` with the reviewed `snapshots/NAME.snap`; `NAME` may have folders.
///
/// `INSTA_UPDATE=always cargo test` accepts what has changed; the diff is then reviewed as any other.
#[allow(dead_code)]
pub fn snapshot(name: &str, text: &str) {
    let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("{}/snapshots/{folder}", env!("CARGO_MANIFEST_DIR")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
