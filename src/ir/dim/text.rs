//! Sizes as text.

use std::fmt;

use super::super::types::TypeError;
use super::{Atom, Dim, Repr};

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repr::Sum(sum) = &self.0 else {
            return write!(f, "{}", self.as_number().unwrap_or(0));
        };
        for (i, (factors, c)) in sum.products.iter().enumerate() {
            let sign = if *c < 0 {
                "-"
            } else if i > 0 {
                "+"
            } else {
                ""
            };
            f.write_str(sign)?;
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            for (j, atom) in factors.iter().enumerate() {
                write!(f, "{}{atom}", if j > 0 { "*" } else { "" })?;
            }
        }
        match sum.constant {
            0 => Ok(()),
            c => write!(f, "{c:+}"),
        }
    }
}

/// A size as an operand of a quotient: in parentheses where it is a sum or a product.
struct Factor<'a>(&'a Dim);

impl fmt::Display for Factor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_string() {
            plain if plain.chars().all(|c| c.is_alphanumeric() || c == '_') => f.write_str(&plain),
            compound => write!(f, "({compound})"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => f.write_str(name),
            Atom::Quotient(a, b) => write!(f, "floor({}/{})", Factor(a), Factor(b)),
            Atom::Max(a, b) => write!(f, "max({a},{b})"),
        }
    }
}

/// Whether a symbol of this name is read back from its text: a word of letters, digits, `_` and `.` that starts with a letter or `_`
/// and is none of the functions.
pub fn is_symbol(name: &str) -> bool {
    let starts = |c: char| c == '_' || (c.is_alphanumeric() && !c.is_ascii_digit());
    name.starts_with(starts) && name.chars().all(is_word) && !["floor", "max"].contains(&name)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_.".contains(c)
}

/// How deeply a written size may nest; a reader's bound, not a limit of the arithmetic.
const MAX_DEPTH: usize = 64;

impl std::str::FromStr for Dim {
    type Err = TypeError;

    /// Reads what [`Dim`] prints: numbers, symbols, `+`, `-`, `*`, parentheses, `floor(a/b)` and `max(a,b)`.
    fn from_str(text: &str) -> Result<Dim, TypeError> {
        let mut parser = Parser { text, at: 0 };
        let dim = parser.sum(MAX_DEPTH)?;
        match parser.peek() {
            None => Ok(dim),
            Some(c) => Err(format!("unexpected `{c}` in the size `{text}`").into()),
        }
    }
}

fn bounded(dim: Dim) -> Result<Dim, String> {
    if dim.is_too_long() {
        Err(format!("the size is longer than {} terms", Dim::MAX_LENGTH))
    } else {
        Ok(dim)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(format!("expected `{c}` in the size `{}`", self.text))
        }
    }

    fn sum(&mut self, depth: usize) -> Result<Dim, String> {
        let negative = self.eat('-');
        let first = self.product(depth)?;
        let mut total = if negative { -first } else { first };
        loop {
            if self.eat('+') {
                total = bounded(total + self.product(depth)?)?;
            } else if self.eat('-') {
                total = bounded(total - self.product(depth)?)?;
            } else {
                return Ok(total);
            }
        }
    }

    fn product(&mut self, depth: usize) -> Result<Dim, String> {
        let mut product = self.atom(depth)?;
        while self.eat('*') {
            product = bounded(product * self.atom(depth)?)?;
        }
        Ok(product)
    }

    fn atom(&mut self, depth: usize) -> Result<Dim, String> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| format!("the size nests over {MAX_DEPTH} deep"))?;
        if self.eat('(') {
            let inner = self.sum(depth)?;
            self.expect(')')?;
            return Ok(inner);
        }
        self.peek();
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "" => Err(format!(
                "expected a number or a name in the size `{}`",
                self.text
            )),
            "floor" => {
                self.expect('(')?;
                let a = self.product(depth)?;
                self.expect('/')?;
                let b = self.atom(depth)?;
                self.expect(')')?;
                bounded(a.floor_div(&b))
            }
            "max" => {
                self.expect('(')?;
                let a = self.sum(depth)?;
                self.expect(',')?;
                let b = self.sum(depth)?;
                self.expect(')')?;
                bounded(a.maximum(&b))
            }
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => word
                .parse()
                .map(|n: i64| Dim::from(n))
                .map_err(|_| format!("`{word}` is not a size")),
            _ if is_symbol(word) => Ok(Dim::symbol(word)),
            _ => Err(format!("`{word}` is neither a number nor a name")),
        }
    }
}
