//! Names: those that Python code may use, be it TorchScript or generated from a program, and those that are free.

use super::words::among;

/// What no variable may be called.
pub(in crate::formats) const RESERVED: &str = "
    self torch ops CONSTANTS getattr annotate unchecked_cast uninitialized isinstance inf nan infj nanj int float bool str
    complex range len list dict tuple print Tensor List Tuple Dict Optional Future Any None True False and as assert async await
    break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise
    return try while with yield fork rpc_async super max min abs round divmod device number Scalar _ match case";

/// Whether a name can be written as `self.name`.
pub(in crate::formats) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') && !among(RESERVED, name)
}

/// A name made fit to be a variable's or a class's.
pub(in crate::formats) fn identifier(name: &str) -> String {
    let mut out: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        out.insert(0, '_');
    }
    if among(RESERVED, &out) {
        out.push('_');
    }
    out
}

/// A name that is not used yet: this one, or it with a number.
pub(in crate::formats) fn unused(base: &str, used: impl Fn(&str) -> bool) -> String {
    let mut name = base.to_owned();
    let mut n = 0u64;
    while used(&name) {
        n += 1;
        name = format!("{base}_{n}");
    }
    name
}
