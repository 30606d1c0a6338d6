//! A place in the text, and the smallest things read there.

use std::sync::Arc;

use super::super::attribute::Attribute;
use super::print::is_word;
use crate::Error;

/// Something in the text that is not as it must be.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Byte offset.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) what: String,
    /// What to do about it; may be empty.
    pub(super) help: String,
}

impl Mistake {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Mistake {
        Mistake {
            at,
            what: what.into(),
            help: String::new(),
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = help.into();
        self
    }

    pub(super) fn in_text(self, text: &str) -> Error {
        Error::Text {
            what: self.what,
            text: text.to_string(),
            at: self.at,
            help: self.help,
        }
    }
}

pub(super) type Parsed<T> = Result<T, Mistake>;

/// A place in the text. Every method skips blanks and comments first.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Cursor<'t> {
        Cursor { text, at: 0 }
    }

    /// The offset of what comes next.
    pub(super) fn at(&mut self) -> usize {
        loop {
            self.at = self.text.len() - self.text[self.at..].trim_start().len();
            match self.text[self.at..].strip_prefix("//") {
                Some(comment) => self.at += 2 + comment.find('\n').unwrap_or(comment.len()),
                None => return self.at,
            }
        }
    }

    fn rest(&mut self) -> &'t str {
        let at = self.at();
        &self.text[at..]
    }

    /// The next character.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the character if it is next.
    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{c}`")))
        }
    }

    /// The mistake that something else stands here.
    pub(super) fn unexpected(&mut self, expected: &str) -> Mistake {
        let at = self.at();
        let found = match self.rest().chars().next() {
            None => "the end".to_string(),
            Some(c) if is_word(c) => format!("`{}`", self.take_while(is_word)),
            Some(c) => format!("`{c}`"),
        };
        Mistake::new(at, format!("expected {expected}, found {found}"))
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A word without quotes, of at least one character.
    pub(super) fn word(&mut self, expected: &str) -> Parsed<&'t str> {
        match self.peek() {
            Some(c) if is_word(c) => Ok(self.take_while(is_word)),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Takes the word if it is next.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let found = rest
            .strip_prefix(word)
            .is_some_and(|after| !after.starts_with(is_word));
        if found {
            self.at += word.len();
        }
        found
    }

    /// A number as it is written.
    pub(super) fn number(&mut self) -> Parsed<&'t str> {
        match self.peek() {
            Some(c) if c.is_ascii_alphanumeric() || "+-.".contains(c) => {
                Ok(self.take_while(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
            }
            _ => Err(self.unexpected("a number")),
        }
    }

    /// A number of the type that is asked for.
    pub(super) fn parsed<T: std::str::FromStr>(&mut self, expected: &str) -> Parsed<T> {
        let at = self.at();
        let text = self.number()?;
        text.parse()
            .map_err(|_| Mistake::new(at, format!("expected {expected}, found `{text}`")))
    }

    /// A name, quoted or not.
    pub(super) fn name(&mut self) -> Parsed<Arc<str>> {
        let at = self.at();
        match self.peek() {
            Some('"') => Attribute::parse(self.quoted()?).map_err(|e| Mistake::new(at, e)),
            _ => self.word("a name").map(Arc::from),
        }
    }

    /// A text in quotes, with them.
    pub(super) fn quoted(&mut self) -> Parsed<&'t str> {
        let at = self.at();
        if self.peek() != Some('"') {
            return Err(self.unexpected("a quoted text"));
        }
        let mut escaped = false;
        for (i, c) in self.text[at..].char_indices().skip(1) {
            match c {
                '"' if !escaped => {
                    self.at = at + i + 1;
                    return Ok(&self.text[at..self.at]);
                }
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Err(Mistake::new(at, "the quotes are not closed"))
    }

    /// Everything up to one of `ends`, or the end of the text, outside brackets and quotes; blanks around it are dropped.
    pub(super) fn raw_until(&mut self, ends: &[char]) -> Parsed<&'t str> {
        let start = self.at();
        let mut depth = 0usize;
        while let Some(c) = self.text[self.at..].chars().next() {
            match c {
                _ if depth == 0 && ends.contains(&c) => break,
                '"' => {
                    self.quoted()?;
                    continue;
                }
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => break,
                },
                _ => {}
            }
            self.at += c.len_utf8();
        }
        Ok(self.text[start..self.at].trim_end())
    }

    /// A word and, directly after it, something in quotes or brackets: a type.
    pub(super) fn word_with_brackets(&mut self) -> Parsed<&'t str> {
        let start = self.at();
        self.word("a type like f32[N,3]")?;
        match self.text[self.at..].chars().next() {
            Some('"') => {
                self.quoted()?;
            }
            Some('[') => {
                self.at += 1;
                self.raw_until(&[']'])?;
                self.expect(']')?;
            }
            _ => {}
        }
        Ok(&self.text[start..self.at])
    }
}
