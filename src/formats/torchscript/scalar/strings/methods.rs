//! The methods of a text of ASCII.

use crate::formats::sizes::{from_front, position, slice_positions};
use crate::formats::torchscript::eval::MAX_ITEMS;
use crate::formats::torchscript::scalar::lists::slice_bounds;
use crate::formats::torchscript::value::Value;

/// What PyTorch strips where nothing else is named.
const BLANKS: &str = " \n\t\u{c}\u{b}";

/// A call of a method.
pub(super) struct Method<'m, 'a> {
    pub text: &'m str,
    pub args: &'m [Value<'a>],
}

impl<'m, 'a> Method<'m, 'a> {
    /// What the method of this name gives; `None` where there is none with such arguments.
    pub fn call(&self, name: &str) -> Option<Value<'a>> {
        let known = self.letters(name).or_else(|| self.parts(name));
        known
            .or_else(|| self.facts(name))
            .or_else(|| self.made(name))
    }

    fn str(&self, i: usize) -> Option<&'m str> {
        match self.args.get(i) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        }
    }

    fn or(&self, i: usize, default: &'static str) -> Option<&'m str> {
        self.args.get(i).map_or(Some(default), |_| self.str(i))
    }

    fn int(&self, i: usize, default: i64) -> Option<i64> {
        self.args.get(i).map_or(Some(default), Value::as_int)
    }

    /// The part from argument `i` to the next, and where it starts. Where an end counts from behind, PyTorch's -1 is the end itself.
    fn within(&self, i: usize) -> Option<(i64, &'m str)> {
        let len = self.text.len() as i64;
        let start = from_front(self.int(i, 0)?, len).clamp(0, len);
        let end = from_front(self.int(i + 1, -1)?, len + 1).clamp(0, len);
        (start <= end).then(|| (start, &self.text[start as usize..end as usize]))
    }

    /// Letters of another case, and of which kind they are.
    fn letters(&self, name: &str) -> Option<Value<'a>> {
        let text = self.text;
        Some(match (name, self.args.len()) {
            ("lower", 0) => owned(text.to_ascii_lowercase()),
            ("upper", 0) => owned(text.to_ascii_uppercase()),
            ("capitalize", 0) => {
                let mut text = text.to_ascii_lowercase();
                if let Some(first) = text.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                owned(text)
            }
            ("swapcase", 0) => {
                let swap = |c: char| {
                    if c.is_ascii_lowercase() {
                        c.to_ascii_uppercase()
                    } else {
                        c.to_ascii_lowercase()
                    }
                };
                owned(text.chars().map(swap).collect())
            }
            ("isdigit" | "isdecimal" | "isnumeric", 0) => all(text, u8::is_ascii_digit),
            ("isalpha", 0) => all(text, u8::is_ascii_alphabetic),
            ("isalnum", 0) => all(text, u8::is_ascii_alphanumeric),
            ("isspace", 0) => all(text, |b| matches!(b, b' ' | 9..=13)),
            ("islower", 0) => cased(text, |b| b.is_ascii_lowercase()),
            ("isupper", 0) => cased(text, |b| b.is_ascii_uppercase()),
            _ => return None,
        })
    }

    /// Parts of the text.
    fn parts(&self, name: &str) -> Option<Value<'a>> {
        let text = self.text;
        Some(match (name, self.args.len()) {
            ("strip" | "lstrip" | "rstrip", 0 | 1) => {
                let blanks = self.or(0, BLANKS)?;
                let is_blank = |c: char| blanks.contains(c);
                Value::str(match name {
                    "strip" => text.trim_matches(is_blank),
                    "lstrip" => text.trim_start_matches(is_blank),
                    _ => text.trim_end_matches(is_blank),
                })
            }
            ("split", 0) | ("split", 1)
                if matches!(self.args.first(), None | Some(Value::None)) =>
            {
                list(
                    text.split(is_blank)
                        .filter(|part| !part.is_empty())
                        .collect(),
                )
            }
            ("split" | "rsplit", 1 | 2) => {
                let separator = self.str(0).filter(|separator| !separator.is_empty())?;
                let limit = usize::try_from(self.int(1, -1)?).ok().map(|n| n + 1);
                match (name, limit) {
                    ("split", None) => list(text.split(separator).collect()),
                    ("split", Some(n)) => list(text.splitn(n, separator).collect()),
                    (_, n) => {
                        let mut parts: Vec<&str> =
                            text.rsplitn(n.unwrap_or(usize::MAX), separator).collect();
                        parts.reverse();
                        list(parts)
                    }
                }
            }
            ("splitlines", 0) if !text.contains(['\r', '\u{b}', '\u{c}']) => {
                list(text.lines().collect())
            }
            ("partition" | "rpartition", 1) => {
                let separator = self.str(0).filter(|separator| !separator.is_empty())?;
                let parts = match name {
                    "partition" => text.split_once(separator),
                    _ => text.rsplit_once(separator),
                };
                let parts = match (parts, name) {
                    (Some((before, after)), _) => [before, separator, after],
                    (None, "partition") => [text, "", ""],
                    (None, _) => ["", "", text],
                };
                Value::tuple(parts.map(Value::str).to_vec())
            }
            ("__getitem__" | "select" | "StringIndex", 1) => {
                let at = position(self.args[0].as_int()?, text.len())?;
                Value::str(&text[at..=at])
            }
            ("slice", _) => {
                let positions = slice_positions(text.len(), slice_bounds(self.args)?)?;
                owned(
                    positions
                        .into_iter()
                        .map(|at| text.as_bytes()[at] as char)
                        .collect(),
                )
            }
            ("list", 0) => Value::list(
                text.chars()
                    .map(|c| Value::str(c.encode_utf8(&mut [0; 4])))
                    .collect(),
            ),
            _ => return None,
        })
    }

    /// What is so of the text.
    fn facts(&self, name: &str) -> Option<Value<'a>> {
        let text = self.text;
        Some(match (name, self.args.len()) {
            ("len", 0) => Value::Int(text.len() as i64),
            ("startswith", 1..=3) => Value::Bool(self.within(1)?.1.starts_with(self.str(0)?)),
            ("endswith", 1..=3) => Value::Bool(self.within(1)?.1.ends_with(self.str(0)?)),
            ("find" | "index", 1..=3) => {
                let (start, part) = self.within(1)?;
                found(name, part.find(self.str(0)?), start)?
            }
            ("rfind" | "rindex", 1..=3) => {
                let (start, part) = self.within(1)?;
                found(name, part.rfind(self.str(0)?), start)?
            }
            ("count", 1..=3) => {
                let what = self.str(0).filter(|what| !what.is_empty())?;
                Value::Int(self.within(1)?.1.matches(what).count() as i64)
            }
            ("__contains__", 1) => Value::Bool(text.contains(self.str(0)?)),
            ("lt", 1) => Value::Bool(text < self.str(0)?),
            ("le", 1) => Value::Bool(text <= self.str(0)?),
            ("gt", 1) => Value::Bool(text > self.str(0)?),
            ("ge", 1) => Value::Bool(text >= self.str(0)?),
            ("ord", 0) if text.len() == 1 => Value::Int(i64::from(text.as_bytes()[0])),
            ("Int", 0) => Value::Int(text.trim().parse().ok()?),
            ("Float", 0) => Value::Float(text.trim().parse().ok()?),
            ("Bool", 0) => Value::Bool(!text.is_empty()),
            _ => return None,
        })
    }

    /// Texts made of this one and others.
    fn made(&self, name: &str) -> Option<Value<'a>> {
        let text = self.text;
        Some(match (name, self.args.len()) {
            ("replace", 2 | 3) => {
                let (old, new) = (self.str(0).filter(|old| !old.is_empty())?, self.str(1)?);
                // The result is as long as it is checked to be only once it is there.
                if new.len().saturating_mul(text.len()) > MAX_ITEMS {
                    return None;
                }
                match usize::try_from(self.int(2, -1)?) {
                    Ok(times) => owned(text.replacen(old, new, times)),
                    Err(_) => owned(text.replace(old, new)),
                }
            }
            ("join", 1) => {
                let parts = self.args[0].items()?;
                let part = |value: &Value<'a>| match value {
                    Value::Str(text) => Some(text.clone()),
                    _ => None,
                };
                let parts = parts.iter().map(part).collect::<Option<Vec<_>>>()?;
                owned(parts.join(text))
            }
            ("zfill", 1) => {
                let missing = missing(text, self.int(0, 0)?)?;
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
                owned(format!("{sign}{}{digits}", "0".repeat(missing)))
            }
            ("ljust" | "rjust", 1 | 2) => {
                let fill = self.or(1, " ")?.repeat(missing(text, self.int(0, 0)?)?);
                owned(match name {
                    "ljust" => format!("{text}{fill}"),
                    _ => format!("{fill}{text}"),
                })
            }
            _ => return None,
        })
    }
}

fn owned<'a>(text: String) -> Value<'a> {
    Value::Str(text.into())
}

fn list<'a>(parts: Vec<&str>) -> Value<'a> {
    Value::list(parts.into_iter().map(Value::str).collect())
}

fn is_blank(c: char) -> bool {
    BLANKS.contains(c) || c == '\r'
}

/// Whether a text consists of such bytes.
fn all<'a>(text: &str, is: fn(&u8) -> bool) -> Value<'a> {
    Value::Bool(!text.is_empty() && text.bytes().all(|b| is(&b)))
}

/// Whether all letters of a text are of this case, and there are any.
fn cased<'a>(text: &str, is: fn(&u8) -> bool) -> Value<'a> {
    let mut letters = text.bytes().filter(u8::is_ascii_alphabetic).peekable();
    Value::Bool(letters.peek().is_some() && letters.all(|b| is(&b)))
}

/// Where something was found behind `start`; not to find it is an error to some.
fn found<'a>(name: &str, found: Option<usize>, start: i64) -> Option<Value<'a>> {
    let at = found.map_or(-1, |at| at as i64 + start);
    (at >= 0 || name.ends_with("find")).then_some(Value::Int(at))
}

/// How many characters a text lacks of a width, within reason.
fn missing(text: &str, width: i64) -> Option<usize> {
    let width = usize::try_from(width).unwrap_or(0);
    (width <= MAX_ITEMS).then(|| width.saturating_sub(text.len()))
}
