//! Texts, as PyTorch's own functions treat them: byte by byte, so here those of ASCII alone.

mod methods;

use std::fmt::Write as _;

use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::Value;
use methods::Method;

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
        match known
            .then(|| Method { text, args: rest }.call(name))
            .flatten()
        {
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
        if exact {
            Value::Str(text.into())
        } else {
            Value::Unknown {
                why: format!(
                    "the text `{text}`, of which a part is known only when the model runs"
                )
                .into(),
                run: None,
            }
        }
    }
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
        let trim = |text: &str| {
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text.to_owned()
            }
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
