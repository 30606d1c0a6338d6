//! The values that operators carry beside their operands, printed and parsed.

use std::fmt::Write as _;
use std::sync::Arc;

use ordered_float::OrderedFloat;
use smallvec::SmallVec;

use super::dim::{Dim, Dims};
use super::tensor::DType;

/// A floating-point attribute that can be compared and hashed.
pub type Float = OrderedFloat<f64>;

/// Lengths or axes, one a dimension.
pub type Ints = SmallVec<[usize; 4]>;

/// Which input position each output position of a gather reads.
pub type Index = Arc<[u32]>;

/// A value that has one printed form and is read back from it.
pub trait Attribute: Sized {
    /// The printed form: no blank outside quotes, brackets balanced.
    fn print(&self) -> String;
    /// Reads the printed form.
    fn parse(text: &str) -> Result<Self, String>;
}

/// The elements of `[a,b,c]`, split at the top level only.
pub(super) fn list_items(text: &str) -> Result<Vec<&str>, String> {
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'));
    let inner = inner.ok_or_else(|| format!("expected a list like [1,2], found `{text}`"))?;
    let (mut items, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, c) in inner.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                items.push(inner[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if !(items.is_empty() && inner.trim().is_empty()) {
        items.push(inner[start..].trim());
    }
    Ok(items)
}

fn print_list<T>(items: impl IntoIterator<Item = T>, print: impl Fn(T) -> String) -> String {
    format!(
        "[{}]",
        items.into_iter().map(print).collect::<Vec<_>>().join(",")
    )
}

macro_rules! attribute_by_display {
    ($($ty:ty: $what:literal),*) => {$(
        impl Attribute for $ty {
            fn print(&self) -> String {
                self.to_string()
            }
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("expected {}, found `{text}`", $what))
            }
        }
    )*};
}
attribute_by_display!(usize: "a number of 0 or more", i64: "a whole number", bool: "true or false");

impl Attribute for Float {
    fn print(&self) -> String {
        format!("{:?}", self.0)
    }
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map(OrderedFloat)
            .map_err(|_| format!("expected a number, found `{text}`"))
    }
}

impl Attribute for Dim {
    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.parse()?)
    }
}

impl Attribute for DType {
    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(text: &str) -> Result<Self, String> {
        DType::from_name(text).ok_or_else(|| format!("`{text}` is not an element type"))
    }
}

impl Attribute for Dims {
    fn print(&self) -> String {
        print_list(self, Dim::print)
    }
    fn parse(text: &str) -> Result<Self, String> {
        list_items(text)?.into_iter().map(Dim::parse).collect()
    }
}

impl Attribute for Ints {
    fn print(&self) -> String {
        print_list(self, usize::print)
    }
    fn parse(text: &str) -> Result<Self, String> {
        list_items(text)?.into_iter().map(usize::parse).collect()
    }
}

impl<T: Attribute> Attribute for Option<T> {
    fn print(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_string(), T::print)
    }
    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }
}

/// Runs of consecutive positions are printed as `0..16`.
impl Attribute for Index {
    fn print(&self) -> String {
        let mut items = Vec::new();
        let mut rest = &self[..];
        while let [first, ..] = *rest {
            let run = 1 + rest
                .windows(2)
                .take_while(|w| w[1] == w[0].wrapping_add(1))
                .count();
            if run > 2 {
                items.push(format!("{first}..{}", u64::from(first) + run as u64));
            } else {
                items.extend(rest[..run].iter().map(u32::to_string));
            }
            rest = &rest[run..];
        }
        print_list(items, |s| s)
    }
    fn parse(text: &str) -> Result<Self, String> {
        let number = |t: &str| {
            t.trim()
                .parse::<u32>()
                .map_err(|_| format!("`{t}` is not a position"))
        };
        let mut index = Vec::new();
        for item in list_items(text)? {
            match item.split_once("..") {
                None => index.push(number(item)?),
                Some((start, end)) => {
                    let range = number(start)?..number(end)?;
                    if range.len() > MAX_INDEX.saturating_sub(index.len()) {
                        return Err(format!("an index longer than {MAX_INDEX}"));
                    }
                    index.extend(range);
                }
            }
        }
        Ok(index.into())
    }
}

/// The longest index that the text form may abbreviate.
const MAX_INDEX: usize = 1 << 20;

impl Attribute for Arc<str> {
    fn print(&self) -> String {
        let mut text = String::from("\"");
        for c in self.chars() {
            match c {
                '"' | '\\' => {
                    let _ = write!(text, "\\{c}");
                }
                '\n' => text.push_str("\\n"),
                _ => text.push(c),
            }
        }
        text + "\""
    }
    fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let inner = inner.ok_or_else(|| format!("expected a quoted text, found `{text}`"))?;
        let (mut out, mut chars) = (String::new(), inner.chars());
        while let Some(c) = chars.next() {
            out.push(match c {
                '\\' => match chars.next() {
                    Some('n') => '\n',
                    Some(c) => c,
                    None => return Err("a text ends in a lone backslash".to_string()),
                },
                c => c,
            });
        }
        Ok(out.into())
    }
}

/// Zeros (or other values) added before and after each spatial dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Padding {
    /// Amount before the first position, one a dimension.
    pub before: Ints,
    /// Amount after the last position, one a dimension.
    pub after: Ints,
}

/// How many positions a kernel of this length reaches over.
pub(crate) fn extent(kernel: usize, dilation: usize) -> usize {
    let gaps = kernel.saturating_sub(1).saturating_mul(dilation);
    gaps.saturating_add(1)
}

impl Padding {
    /// The same amounts on both sides.
    pub fn symmetric(amounts: impl IntoIterator<Item = usize>) -> Padding {
        let before: Ints = amounts.into_iter().collect();
        Padding {
            after: before.clone(),
            before,
        }
    }

    /// Whether nothing is added.
    pub fn is_zero(&self) -> bool {
        self.before.iter().chain(&self.after).all(|n| *n == 0)
    }

    /// Whether both sides of every dimension get the same amount.
    pub fn is_symmetric(&self) -> bool {
        self.before == self.after
    }
}

/// `[1,1]`, or `[1:2,1:2]` where the sides differ.
impl Attribute for Padding {
    fn print(&self) -> String {
        print_list(self.before.iter().zip(&self.after), |(b, a)| {
            if b == a {
                b.to_string()
            } else {
                format!("{b}:{a}")
            }
        })
    }
    fn parse(text: &str) -> Result<Self, String> {
        let mut padding = Padding::default();
        for item in list_items(text)? {
            let (before, after) = item.split_once(':').unwrap_or((item, item));
            padding.before.push(usize::parse(before)?);
            padding.after.push(usize::parse(after)?);
        }
        Ok(padding)
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl Attribute for $name {
            fn print(&self) -> String {
                match self { $($name::$variant => $word.to_string()),* }
            }
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(format!("expected one of {}, found `{text}`", [$($word),*].join(", "))),
                }
            }
        }
    )*};
}

words! {
    /// What a pad writes.
    PadMode {
        /// One value everywhere.
        Constant = "constant",
        /// The interior mirrored, without its edge.
        Reflect = "reflect",
        /// The edge repeated.
        Replicate = "replicate",
        /// The interior repeated.
        Circular = "circular",
    }
    /// How a resize computes values between samples.
    ResizeMode {
        /// The nearest sample, rounding down.
        Nearest = "nearest",
        /// Linear along each spatial dimension, samples at pixel centres.
        Linear = "linear",
        /// Linear along each spatial dimension, first and last samples aligned.
        LinearAligned = "linear_aligned",
    }
}
