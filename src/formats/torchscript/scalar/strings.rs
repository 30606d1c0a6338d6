//! Texts, as PyTorch's own functions treat them: byte by byte, so here those of ASCII alone.

use std::fmt::Write as _;

use super::lists::slice_bounds;
use crate::formats::sizes::{from_front, position, slice_positions};
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::Value;

/// What PyTorch strips where nothing else is named.
const BLANKS: &str = " \n\t\u{c}\u{b}";

impl<'a> Evaluator<'a> {
    /// A method of a text.
    pub(super) fn str_method(
        &mut self,
        name: &str,
        text: &str,
        args: &Args<'a>,
    ) -> Eval<Option<Value<'a>>> {
        let whole = &args.positional[0];
        let rest = &args.positional[1..];
        self.spend(text.len())?;
        match (name, rest) {
            ("format", values) => return self.format(text, values).map(Some),
            ("percentFormat", values) => return self.percent_format(text, values).map(Some),
            ("add", [Value::Str(more)]) => {
                self.check_items(text.len() + more.len())?;
                return Ok(Some(Value::Str(format!("{text}{more}").into())));
            }
            ("add", [more @ Value::Unknown { .. }]) => {
                let mut out = text.to_owned();
                self.show(more, 0, &mut out)?;
                return Ok(Some(self.text(out, false)));
            }
            // Not methods of a text, but operators whose first argument is one.
            (
                "device" | "warn" | "einsum" | "eq" | "ne" | "__is__" | "__isnot__" | "__not__",
                _,
            ) => {
                return Ok(None);
            }
            _ => {}
        }
        let known = args.all().all(|v| match v {
            Value::Str(text) => text.is_ascii(),
            Value::Int(_) | Value::Bool(_) | Value::None | Value::List(_) => true,
            _ => false,
        });
        match known.then(|| method(name, text, rest)).flatten() {
            Some(Value::Str(text)) => {
                self.check_items(text.len())?;
                Ok(Some(Value::Str(text)))
            }
            Some(value) => Ok(Some(value)),
            None => self.refuse(name, whole),
        }
    }

    /// `"{}".format(..)`.
    fn format(&mut self, pattern: &str, values: &[Value<'a>]) -> Eval<Value<'a>> {
        let mut out = String::new();
        let mut parts = pattern.split("{}");
        out.push_str(parts.next().unwrap_or_default());
        let (mut values, mut exact) = (values.iter(), true);
        for part in parts {
            exact &= match values.next() {
                Some(value) => self.show(value, 0, &mut out)?,
                None => false,
            };
            out.push_str(part);
            self.check_items(out.len())?;
        }
        Ok(self.text(out, exact))
    }

    /// `"%d" % ..`.
    fn percent_format(&mut self, pattern: &str, values: &[Value<'a>]) -> Eval<Value<'a>> {
        let values = match values {
            [Value::Tuple(tuple)] => tuple.items.clone(),
            values => values.to_vec(),
        };
        let (mut out, mut values, mut exact) = (String::new(), values.iter(), true);
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            let mut letters = after.chars();
            let letter = letters.next();
            rest = letters.as_str();
            exact &= match (letter, values.len()) {
                (Some('%'), _) => {
                    out.push('%');
                    true
                }
                (Some('s'), 1..) => match values.next() {
                    Some(value) => self.show(value, 0, &mut out)?,
                    None => false,
                },
                (Some('d' | 'i'), 1..) => match values.next() {
                    Some(value @ Value::Int(_)) => self.show(value, 0, &mut out)?,
                    _ => false,
                },
                _ => false,
            };
            self.check_items(out.len())?;
        }
        out.push_str(rest);
        exact &= values.len() == 0;
        Ok(self.text(out, exact))
    }

    /// A text, or where it is not exactly what the running network makes, the reason why it is unknown.
    pub(super) fn text(&mut self, text: String, exact: bool) -> Value<'a> {
        match exact {
            true => Value::Str(text.into()),
            false => Value::Unknown {
                why: format!(
                    "the text `{text}`, of which a part is known only when the model runs"
                )
                .into(),
                run: None,
            },
        }
    }
}

fn method<'a>(name: &str, text: &str, args: &[Value<'a>]) -> Option<Value<'a>> {
    let str = |i: usize| match args.get(i) {
        Some(Value::Str(text)) => Some(&**text),
        _ => None,
    };
    let or = |i: usize, default: &'static str| args.get(i).map_or(Some(default), |_| str(i));
    let int = |i: usize, default: i64| args.get(i).map_or(Some(default), Value::as_int);
    let list = |parts: Vec<&str>| Value::list(parts.into_iter().map(Value::str).collect());
    let all =
        |test: fn(&u8) -> bool| Value::Bool(!text.is_empty() && text.bytes().all(|b| test(&b)));
    let owned = |text: String| Value::Str(text.into());
    // Where an end counts from behind, PyTorch's -1 is the end itself.
    let within = |i: usize| {
        let (start, end) = (int(i, 0)?, int(i + 1, -1)?);
        let len = text.len() as i64;
        let start = from_front(start, len).clamp(0, len);
        let end = from_front(end, len + 1).clamp(0, len);
        (start <= end).then(|| (start, &text[start as usize..end as usize]))
    };
    let at = |found: Option<usize>, start: i64| found.map_or(-1, |at| at as i64 + start);
    let is_blank = |c: char| BLANKS.contains(c) || c == '\r';
    Some(match (name, args.len()) {
        ("len", 0) => Value::Int(text.len() as i64),
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
            let swap = |c: char| match c.is_ascii_lowercase() {
                true => c.to_ascii_uppercase(),
                false => c.to_ascii_lowercase(),
            };
            owned(text.chars().map(swap).collect())
        }
        ("isdigit" | "isdecimal" | "isnumeric", 0) => all(u8::is_ascii_digit),
        ("isalpha", 0) => all(u8::is_ascii_alphabetic),
        ("isalnum", 0) => all(u8::is_ascii_alphanumeric),
        ("isspace", 0) => all(|b| matches!(b, b' ' | 9..=13)),
        ("islower", 0) => cased(text, |b| b.is_ascii_lowercase()),
        ("isupper", 0) => cased(text, |b| b.is_ascii_uppercase()),
        ("strip", 0 | 1) => {
            let blanks = or(0, BLANKS)?;
            Value::str(text.trim_matches(|c| blanks.contains(c)))
        }
        ("lstrip", 0 | 1) => {
            let blanks = or(0, BLANKS)?;
            Value::str(text.trim_start_matches(|c| blanks.contains(c)))
        }
        ("rstrip", 0 | 1) => {
            let blanks = or(0, BLANKS)?;
            Value::str(text.trim_end_matches(|c| blanks.contains(c)))
        }
        ("startswith", 1..=3) => Value::Bool(within(1)?.1.starts_with(str(0)?)),
        ("endswith", 1..=3) => Value::Bool(within(1)?.1.ends_with(str(0)?)),
        ("find" | "index", 1..=3) => {
            let (start, part) = within(1)?;
            found(name, at(part.find(str(0)?), start))?
        }
        ("rfind" | "rindex", 1..=3) => {
            let (start, part) = within(1)?;
            found(name, at(part.rfind(str(0)?), start))?
        }
        ("count", 1..=3) => {
            let what = str(0).filter(|what| !what.is_empty())?;
            Value::Int(within(1)?.1.matches(what).count() as i64)
        }
        ("replace", 2 | 3) => {
            let (old, new) = (str(0).filter(|old| !old.is_empty())?, str(1)?);
            // The result is as long as it is checked to be only once it is there.
            if new.len().saturating_mul(text.len()) > super::super::eval::MAX_ITEMS {
                return None;
            }
            match usize::try_from(int(2, -1)?) {
                Ok(times) => owned(text.replacen(old, new, times)),
                Err(_) => owned(text.replace(old, new)),
            }
        }
        ("split", 0) | ("split", 1) if matches!(args.first(), None | Some(Value::None)) => list(
            text.split(is_blank)
                .filter(|part| !part.is_empty())
                .collect(),
        ),
        ("split" | "rsplit", 1 | 2) => {
            let separator = str(0).filter(|separator| !separator.is_empty())?;
            let limit = usize::try_from(int(1, -1)?).ok().map(|n| n + 1);
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
            let separator = str(0).filter(|separator| !separator.is_empty())?;
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
        ("join", 1) => {
            let parts = args[0].items()?;
            let part = |value: &Value<'a>| match value {
                Value::Str(text) => Some(text.clone()),
                _ => None,
            };
            let parts = parts.iter().map(part).collect::<Option<Vec<_>>>()?;
            owned(parts.join(text))
        }
        ("zfill", 1) => {
            let missing = missing(text, int(0, 0)?)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            owned(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        ("ljust" | "rjust", 1 | 2) => {
            let fill = or(1, " ")?.repeat(missing(text, int(0, 0)?)?);
            owned(match name {
                "ljust" => format!("{text}{fill}"),
                _ => format!("{fill}{text}"),
            })
        }
        ("__contains__", 1) => Value::Bool(text.contains(str(0)?)),
        ("__getitem__" | "select" | "StringIndex", 1) => {
            let at = position(args[0].as_int()?, text.len())?;
            Value::str(&text[at..=at])
        }
        ("slice", _) => {
            let positions = slice_positions(text.len(), slice_bounds(args)?)?;
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
        ("lt", 1) => Value::Bool(text < str(0)?),
        ("le", 1) => Value::Bool(text <= str(0)?),
        ("gt", 1) => Value::Bool(text > str(0)?),
        ("ge", 1) => Value::Bool(text >= str(0)?),
        ("ord", 0) if text.len() == 1 => Value::Int(i64::from(text.as_bytes()[0])),
        ("Int", 0) => Value::Int(text.trim().parse().ok()?),
        ("Float", 0) => Value::Float(text.trim().parse().ok()?),
        ("Bool", 0) => Value::Bool(!text.is_empty()),
        _ => return None,
    })
}

/// Whether all letters of a text are of this case, and there are any.
fn cased<'a>(text: &str, is: fn(&u8) -> bool) -> Value<'a> {
    let mut letters = text.bytes().filter(u8::is_ascii_alphabetic).peekable();
    Value::Bool(letters.peek().is_some() && letters.all(|b| is(&b)))
}

/// A place that was found; not to find one is an error to some.
fn found<'a>(name: &str, at: i64) -> Option<Value<'a>> {
    (at >= 0 || name.ends_with("find")).then_some(Value::Int(at))
}

/// How many characters a text lacks of a width, within reason.
fn missing(text: &str, width: i64) -> Option<usize> {
    let width = usize::try_from(width).unwrap_or(0);
    (width <= super::super::eval::MAX_ITEMS).then(|| width.saturating_sub(text.len()))
}

/// A number as PyTorch prints it into a text.
pub(super) fn print_number(x: f64, out: &mut String) {
    if x.is_nan() {
        out.push_str("nan");
    } else if x.is_infinite() {
        out.push_str(if x < 0.0 { "-inf" } else { "inf" });
    } else if x.fract() == 0.0 && x.abs() < 1e10 {
        let _ = write!(out, "{x}.");
    } else {
        // C's `%.17g`.
        let scientific = format!("{x:.16e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let trim = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if (-4..17).contains(&exponent) {
            let decimals = usize::try_from(16 - exponent).unwrap_or(0);
            out.push_str(&trim(&format!("{x:.decimals$}")));
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(out, "{}e{sign}{:02}", trim(digits), exponent.abs());
        }
    }
}
