//! Floating-point numbers that JSON has no way to say. Early PyTorch writes them as Python prints them, later ones as text.

use std::borrow::Cow;

use serde_json::Value as Json;

const NAMES: [(&str, f64); 3] = [
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
    ("NaN", f64::NAN),
];

/// A number, or the name of one.
pub(super) fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some(text) => NAMES.iter().find(|(name, _)| *name == text).map(|n| n.1),
        None => json.as_f64(),
    }
}

/// What [`float`] reads.
pub(super) fn json(x: f64) -> Json {
    let same = |known: f64| known == x || known.is_nan() && x.is_nan();
    match NAMES.iter().find(|(_, known)| same(*known)) {
        Some((name, _)) => (*name).into(),
        None => x.into(),
    }
}

/// The text with such numbers as text; as it is where there are none but in text.
pub(super) fn quoted(text: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted: Vec<u8> = Vec::new();
    let (mut copied, mut at, mut within) = (0, 0, false);
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if within => at += 1,
            b'"' => within = !within,
            b'I' | b'N' | b'-' if !within => {
                let rest = &text[at..];
                let name = NAMES
                    .iter()
                    .find(|(name, _)| rest.starts_with(name.as_bytes()));
                if let Some((name, _)) = name {
                    quoted.extend_from_slice(&text[copied..at]);
                    quoted.extend_from_slice(format!("\"{name}\"").as_bytes());
                    at += name.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.extend_from_slice(&text[copied..]);
    Cow::Owned(quoted)
}

/// The text of a program with its infinite arguments as Python prints them.
pub(super) fn unquoted(text: &[u8]) -> Vec<u8> {
    let mut unquoted = Vec::with_capacity(text.len());
    let (mut rest, mut within_list) = (text, false);
    while let Some((first, after)) = rest.split_first() {
        unquoted.push(*first);
        rest = after;
        // Within text, every quotation mark has a backslash before it.
        let is_argument = match first {
            b':' => unquoted.ends_with(b"\"as_float\":"),
            b'[' => {
                within_list = unquoted.ends_with(b"\"as_floats\":[");
                within_list
            }
            b']' => {
                within_list = false;
                false
            }
            b',' => within_list,
            _ => false,
        };
        if !is_argument {
            continue;
        }
        let name = NAMES.iter().find_map(|(name, _)| {
            let after = rest.strip_prefix(format!("\"{name}\"").as_bytes())?;
            Some((name, after))
        });
        if let Some((name, after)) = name {
            unquoted.extend_from_slice(name.as_bytes());
            rest = after;
        }
    }
    unquoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_numbers_are_quoted_where_they_are_no_text_and_unquoted_where_they_are_arguments() {
        let bare = r#"{"as_float":-Infinity,"a":[NaN, Infinity,-1],"t":"\"as_float\":-Infinity NaN","s":"\\","as_floats":[1.5,Infinity],"b":[Infinity]}"#;
        let text = r#"{"as_float":"-Infinity","a":["NaN", "Infinity",-1],"t":"\"as_float\":-Infinity NaN","s":"\\","as_floats":[1.5,"Infinity"],"b":["Infinity"]}"#;
        assert_eq!(quoted(bare.as_bytes()), Cow::Owned::<[u8]>(text.into()));
        assert!(matches!(quoted(text.as_bytes()), Cow::Borrowed(_)));
        let back = unquoted(text.as_bytes());
        let arguments = r#"{"as_float":-Infinity,"a":["NaN", "Infinity",-1],"t":"\"as_float\":-Infinity NaN","s":"\\","as_floats":[1.5,Infinity],"b":["Infinity"]}"#;
        assert_eq!(std::str::from_utf8(&back).unwrap(), arguments);
    }

    #[test]
    fn every_float_is_read_as_it_was_written() {
        for x in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.5, 0.0] {
            assert_eq!(float(&json(x)).map(f64::to_bits), Some(x.to_bits()));
        }
        assert_eq!(float(&"Infinite".into()), None);
    }
}
