//! Lists of names that are known beforehand, as texts with spaces between them.

/// Whether a name is in a list.
pub(super) fn among(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|word| word == name)
}
