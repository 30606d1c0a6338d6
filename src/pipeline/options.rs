//! The options of passes, as data: listed, parsed, checked and printed from one description.

use std::fmt;

use crate::{Error, Result};

/// An option of a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionSpec {
    /// Its name: lower case, words joined by `-`.
    #[doc(hidden)]
    pub name: &'static str,
    /// What it may be set to.
    #[doc(hidden)]
    pub values: Values,
    /// The value it has when it is not set, as a pipeline would write it.
    #[doc(hidden)]
    pub default: &'static str,
    /// One line that says what it does.
    #[doc(hidden)]
    pub help: &'static str,
}

/// What an option may be set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// `true` or `false`; the bare name of the option means `true`.
    Flag,
    /// A whole number within bounds, both included.
    Count {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A number within bounds, both included.
    Number {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// Such a number, or `auto` where the pass chooses one.
    NumberOrAuto {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// Two whole numbers of 1 or more with a sign between them, such as `2:4`, or `none`.
    #[doc(hidden)]
    PairOrNone {
        /// The sign.
        sign: char,
        /// The most that either may be.
        max: usize,
    },
    /// One of these words.
    Words(&'static [&'static str]),
}

/// What stands for a number that the pass chooses.
const AUTO: &str = "auto";

/// What stands for no pair.
const NONE: &str = "none";

impl Values {
    /// Reads a value.
    ///
    /// # Errors
    /// What would be right, in words.
    #[doc(hidden)]
    pub fn parse(&self, text: &str) -> Result<OptionValue, String> {
        let value = match *self {
            Values::Flag => text.parse().ok().map(OptionValue::Flag),
            Values::Count { min, max } => text
                .parse()
                .ok()
                .filter(|n| (min..=max).contains(n))
                .map(OptionValue::Count),
            Values::Number { min, max } => text
                .parse()
                .ok()
                .filter(|x| (min..=max).contains(x))
                .map(OptionValue::Number),
            Values::NumberOrAuto { .. } if text == AUTO => Some(OptionValue::Word(AUTO)),
            Values::NumberOrAuto { min, max } => Values::Number { min, max }.parse(text).ok(),
            Values::PairOrNone { .. } if text == NONE => Some(OptionValue::Word(NONE)),
            Values::PairOrNone { sign, max } => text.split_once(sign).and_then(|(a, b)| {
                let pair = [a.parse().ok()?, b.parse().ok()?];
                let fits = pair.iter().all(|n| (1..=max).contains(n));
                fits.then_some(OptionValue::Pair { sign, pair })
            }),
            Values::Words(words) => words
                .iter()
                .find(|word| **word == text)
                .map(|word| OptionValue::Word(word)),
        };
        value.ok_or_else(|| self.to_string())
    }
}

/// What is allowed, as messages and listings put it: `true or false`, `a number from 0 to 1`, `none or kde`.
impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Values::Flag => f.write_str("true or false"),
            Values::Count {
                min,
                max: usize::MAX,
            } => write!(f, "a whole number of {min} or more"),
            Values::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Values::Number { min, max } if max == f64::INFINITY => {
                write!(f, "a number of {min} or more")
            }
            Values::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Values::NumberOrAuto { min, max } => {
                write!(f, "{}, or {AUTO}", Values::Number { min, max })
            }
            Values::PairOrNone { sign, max } => {
                write!(
                    f,
                    "two whole numbers from 1 to {max} as in 1{sign}4, or {NONE}"
                )
            }
            Values::Words(words) => match words {
                [others @ .., last] if !others.is_empty() => {
                    write!(f, "{} or {last}", others.join(", "))
                }
                words => f.write_str(&words.join(", ")),
            },
        }
    }
}

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionValue {
    /// Of [`Values::Flag`].
    Flag(bool),
    /// Of [`Values::Count`].
    Count(usize),
    /// Of [`Values::Number`] and [`Values::NumberOrAuto`].
    Number(f64),
    /// Of [`Values::PairOrNone`].
    Pair {
        /// The sign between them.
        sign: char,
        /// Both numbers.
        pair: [usize; 2],
    },
    /// Of [`Values::Words`], and of [`Values::NumberOrAuto`] and [`Values::PairOrNone`] where there is none.
    Word(&'static str),
}

/// As a pipeline writes it; parsing gives the same value again.
impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Flag(value) => write!(f, "{value}"),
            OptionValue::Count(n) => write!(f, "{n}"),
            OptionValue::Number(x) => {
                let text = format!("{x:?}");
                f.write_str(text.strip_suffix(".0").unwrap_or(&text))
            }
            OptionValue::Pair { sign, pair: [a, b] } => write!(f, "{a}{sign}{b}"),
            OptionValue::Word(word) => f.write_str(word),
        }
    }
}

/// A value for every option of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    values: Vec<(&'static OptionSpec, OptionValue)>,
}

impl Options {
    /// The defaults.
    ///
    /// # Errors
    /// [`Error::Usage`] when a default is not one of the option's own values: a mistake in the pass.
    #[doc(hidden)]
    pub fn defaults(specs: &'static [OptionSpec]) -> Result<Options> {
        let values = specs.iter().map(|spec| {
            let value = spec.values.parse(spec.default);
            value
                .map(|value| (spec, value))
                .map_err(|expected| Error::Usage {
                    what: format!(
                        "the default `{}` of the option `{}` is not {expected}",
                        spec.default, spec.name
                    ),
                    help: String::new(),
                })
        });
        Ok(Options {
            values: values.collect::<Result<_>>()?,
        })
    }

    /// Sets an option that is there; anything else is left alone.
    pub(super) fn set(&mut self, name: &str, value: OptionValue) {
        if let Some(entry) = self.values.iter_mut().find(|(spec, _)| spec.name == name) {
            entry.1 = value;
        }
    }

    /// The options that differ from their defaults, in the order of their descriptions.
    #[doc(hidden)]
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, OptionValue)> + '_ {
        self.values
            .iter()
            .filter(|(spec, value)| spec.values.parse(spec.default).as_ref() != Ok(value))
            .map(|(spec, value)| (spec.name, *value))
    }

    /// The value of an option, as the type that its [`Values`] go with: `bool`, `usize`, `f64`, `Option<f64>` with `None` for `auto`,
    /// `Option<[usize; 2]>` for a pair, and an enum of its words.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such option, or one of other values: a mistake in the pass.
    #[doc(hidden)]
    pub fn get<T: FromOption>(&self, name: &str) -> Result<T> {
        let found = self.values.iter().find(|(spec, _)| spec.name == name);
        let value = found.and_then(|(_, value)| T::from_option(*value));
        value.ok_or_else(|| Error::Usage {
            what: format!(
                "the pass reads `{name}` as {}, which its description does not list",
                std::any::type_name::<T>()
            ),
            help: String::new(),
        })
    }
}

/// A type that the value of an option is read as.
pub trait FromOption: Sized {
    /// The value; `None` for one of another kind.
    fn from_option(value: OptionValue) -> Option<Self>;
}

impl FromOption for bool {
    fn from_option(value: OptionValue) -> Option<bool> {
        match value {
            OptionValue::Flag(value) => Some(value),
            _ => None,
        }
    }
}

impl FromOption for usize {
    fn from_option(value: OptionValue) -> Option<usize> {
        match value {
            OptionValue::Count(n) => Some(n),
            _ => None,
        }
    }
}

impl FromOption for f64 {
    fn from_option(value: OptionValue) -> Option<f64> {
        match value {
            OptionValue::Number(x) => Some(x),
            _ => None,
        }
    }
}

impl FromOption for Option<f64> {
    fn from_option(value: OptionValue) -> Option<Option<f64>> {
        match value {
            OptionValue::Number(x) => Some(Some(x)),
            OptionValue::Word(AUTO) => Some(None),
            _ => None,
        }
    }
}

impl FromOption for Option<[usize; 2]> {
    fn from_option(value: OptionValue) -> Option<Option<[usize; 2]>> {
        match value {
            OptionValue::Pair { pair, .. } => Some(Some(pair)),
            OptionValue::Word(NONE) => Some(None),
            _ => None,
        }
    }
}

/// An enum of the words that an option may be set to: `WORDS` lists them, for [`Values::Words`], and it is read from one.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
        }

        impl $name {
            /// The words, in order.
            $vis const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<$name, String> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err($crate::pipeline::Values::Words($name::WORDS).to_string()),
                }
            }
        }

        impl $crate::pipeline::FromOption for $name {
            fn from_option(value: $crate::pipeline::OptionValue) -> Option<$name> {
                match value {
                    $crate::pipeline::OptionValue::Word(word) => word.parse().ok(),
                    _ => None,
                }
            }
        }
    };
}

/// A struct of a pass's options, each with its type, default, values and help: `SPECS` describes them, and `of` reads them.
#[macro_export]
macro_rules! options {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($field:ident: $type:ty = $default:literal, $values:expr, $help:expr;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        // A build without libtorch lists options that it cannot use.
        #[allow(dead_code)]
        $vis struct $name {
            $(#[allow(missing_docs)] pub $field: $type,)+
        }

        #[allow(dead_code)]
        impl $name {
            /// What pipelines, listings and messages know of the options.
            $vis const SPECS: &'static [$crate::pipeline::OptionSpec] = &[$(
                $crate::pipeline::OptionSpec {
                    name: stringify!($field),
                    values: $values,
                    default: $default,
                    help: $help,
                },
            )+];

            /// The options that a pipeline gave, and the defaults of the others.
            $vis fn of(options: &$crate::pipeline::Options) -> $crate::Result<$name> {
                Ok($name { $($field: options.get(stringify!($field))?,)+ })
            }
        }
    };
}
