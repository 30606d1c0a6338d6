//! Comparisons, as far as their outcome can be known.

use crate::formats::torchscript::value::{MAX_VISITS, Value};
use crate::ir::{Dim, DimBuilder, Symbol};

/// Whether two values are equal, where that can be known.
pub(super) fn same(a: &Value<'_>, b: &Value<'_>) -> Option<bool> {
    same_within(a, b, &mut MAX_VISITS.clone())
}

fn same_within(a: &Value<'_>, b: &Value<'_>, visits: &mut u32) -> Option<bool> {
    *visits = visits.checked_sub(1)?;
    let unknown =
        |v: &Value<'_>| matches!(v, Value::Tensor(_) | Value::Run(_) | Value::Unknown { .. });
    match (a.unwrap_zero_dim(), b.unwrap_zero_dim()) {
        (a, b) if unknown(a) || unknown(b) => None,
        (Value::None, Value::None) => Some(true),
        (Value::Str(a), Value::Str(b)) | (Value::Device(a), Value::Device(b)) => Some(a == b),
        (a @ (Value::List(_) | Value::Tuple(_)), b @ (Value::List(_) | Value::Tuple(_))) => {
            let (a, b) = (a.items()?, b.items()?);
            if a.len() != b.len() {
                return Some(false);
            }
            let mut all = true;
            for (a, b) in a.iter().zip(&b) {
                all &= same_within(a, b, visits)?;
            }
            Some(all)
        }
        (a, b) => match (a.as_dim(), b.as_dim()) {
            (Some(a), Some(b)) => match bounds(&(a - b)) {
                (0, 0) => Some(true),
                (low, high) if low > 0 || high < 0 => Some(false),
                _ => None,
            },
            _ => match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => Some(a == b),
                (None, None) => None,
                _ => Some(false),
            },
        },
    }
}

/// Where the first of these values is that equals `key`; `None` where only the running network knows.
pub(super) fn find<'v, 'a: 'v>(
    items: impl Iterator<Item = &'v Value<'a>>,
    key: &Value<'a>,
) -> Option<Option<usize>> {
    for (at, item) in items.enumerate() {
        if same(item, key)? {
            return Some(Some(at));
        }
    }
    Some(None)
}

/// What numbers, texts and tuples of them are sorted by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey {
    Int(i64),
    /// The bits of a float, in the floats' order.
    Float(i64),
    Str(std::rc::Rc<str>),
    Tuple(Vec<SortKey>),
}

/// The key of a value; `None` if it is not known, or has no order.
pub(super) fn sort_key(value: &Value<'_>) -> Option<SortKey> {
    Some(match value {
        Value::Bool(b) => SortKey::Int(i64::from(*b)),
        Value::Int(n) => SortKey::Int(*n),
        Value::Float(x) if !x.is_nan() => {
            // A zero's sign is none.
            let bits = (x + 0.0).to_bits() as i64;
            SortKey::Float(bits ^ ((bits >> 63) as u64 >> 1) as i64)
        }
        Value::Str(text) => SortKey::Str(text.clone()),
        Value::Tuple(tuple) => {
            SortKey::Tuple(tuple.items.iter().map(sort_key).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// A comparison, where its outcome can be known; in words what it depends on, where that is a size.
pub(super) fn compare(name: &str, a: &Value<'_>, b: &Value<'_>) -> Option<Result<bool, String>> {
    if !matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge") {
        return None;
    }
    if let ("eq" | "ne", Some(equal)) = (name, same(a, b)) {
        return Some(Ok(equal == (name == "eq")));
    }
    if let (Some(x), Some(y)) = (a.as_dim(), b.as_dim()) {
        let (low, high) = bounds(&(x.clone() - y.clone()));
        let (holds, fails) = match name {
            "lt" => (high < 0, low >= 0),
            "le" => (high <= 0, low > 0),
            "gt" => (low > 0, high <= 0),
            "ge" => (low >= 0, high < 0),
            "eq" => (false, low > 0 || high < 0),
            _ => (low > 0 || high < 0, false),
        };
        return Some(if holds || fails {
            Ok(holds)
        } else {
            let size = if x.as_number().is_none() { x } else { y };
            Err(format!(
                "a condition compares the size {size}, known only when the model runs"
            ))
        });
    }
    let (x, y) = (a.as_f64()?, b.as_f64()?);
    Some(Ok(match name {
        "eq" => x == y,
        "ne" => x != y,
        "lt" => x < y,
        "le" => x <= y,
        "gt" => x > y,
        _ => x >= y,
    }))
}

/// The least and the largest value of a size whose symbols are at least 1.
pub(super) fn bounds(dim: &Dim) -> (i64, i64) {
    dim.fold(&mut Bounds)
}

struct Bounds;

impl DimBuilder<(i64, i64)> for Bounds {
    fn number(&mut self, n: i64) -> (i64, i64) {
        (n, n)
    }
    fn symbol(&mut self, _: &Symbol) -> (i64, i64) {
        (1, i64::MAX)
    }
    fn add(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
    }
    fn mul(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        extremes(a, b, i64::saturating_mul)
    }
    fn floor_div(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        if b.0 <= 0 {
            return (i64::MIN, i64::MAX);
        }
        extremes(a, b, i64::div_euclid)
    }
    fn max(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        (a.0.max(b.0), a.1.max(b.1))
    }
}

/// The least and the largest result of an operation that is monotonic on each side.
fn extremes(a: (i64, i64), b: (i64, i64), of: fn(i64, i64) -> i64) -> (i64, i64) {
    let corners = [of(a.0, b.0), of(a.0, b.1), of(a.1, b.0), of(a.1, b.1)];
    let least = corners.into_iter().fold(i64::MAX, i64::min);
    (least, corners.into_iter().fold(i64::MIN, i64::max))
}
