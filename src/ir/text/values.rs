//! The values of constants: printed, and parsed up to where their type matters.

use half::{bf16, f16};

use super::super::tensor::{DType, Tensor};
use super::cursor::{Cursor, Mistake, Parsed};

/// How deep lists, and values made of values, may be nested.
const MAX_NESTING: usize = 16;

/// Tensors of up to this many elements are looked through for one repeated element.
const MAX_REPEATED: usize = 1 << 16;

/// The elements as text where there are at most `full` or all are equal; else a hash that stands for them.
pub(super) fn print(tensor: &Tensor, full: usize) -> String {
    let size = tensor.dtype().size();
    let bytes = tensor.bytes();
    let mut elements = bytes.chunks_exact(size);
    if tensor.len() <= MAX_REPEATED
        && let Some(first) = elements.next()
        && elements.all(|e| e == first)
    {
        return element(tensor.dtype(), first);
    }
    if tensor.len() > full {
        return format!("#{:08x}", short_hash(tensor));
    }
    let mut text = String::new();
    list(tensor.dtype(), tensor.shape(), &bytes, &mut text);
    text
}

/// What a hash in the text is compared with.
pub(super) fn short_hash(tensor: &Tensor) -> u32 {
    (tensor.content_hash() >> 32) as u32
}

/// `[[1.0, 2.0], [3.0, 4.0]]`.
fn list(dtype: DType, shape: &[usize], bytes: &[u8], text: &mut String) {
    let Some((rows, rest)) = shape.split_first() else {
        *text += &element(dtype, bytes);
        return;
    };
    text.push('[');
    if let Some(row) = bytes.len().checked_div(*rows).filter(|n| *n > 0) {
        for (i, row) in bytes.chunks_exact(row).enumerate() {
            *text += if i > 0 { ", " } else { "" };
            list(dtype, rest, row, text);
        }
    }
    text.push(']');
}

/// The shortest text that is read as the same element.
fn element(dtype: DType, bytes: &[u8]) -> String {
    use bytemuck::pod_read_unaligned as read;
    match dtype {
        DType::F64 => format!("{:?}", read::<f64>(bytes)),
        DType::F32 => format!("{:?}", read::<f32>(bytes)),
        DType::F16 => format!("{:?}", read::<f16>(bytes).to_f32()),
        DType::BF16 => format!("{:?}", read::<bf16>(bytes).to_f32()),
        DType::I64 => read::<i64>(bytes).to_string(),
        DType::I32 => read::<i32>(bytes).to_string(),
        DType::I16 => read::<i16>(bytes).to_string(),
        DType::I8 => read::<i8>(bytes).to_string(),
        DType::U8 => read::<u8>(bytes).to_string(),
        DType::Bool => u8::from(read::<u8>(bytes) != 0).to_string(),
    }
}

/// A value as it is written, before its type is known.
pub(super) enum Written<'t> {
    /// A hash that stands for elements the text leaves out.
    Hash(u32),
    /// One element everywhere.
    Repeated(&'t str),
    /// Every element, each with its place.
    List(Vec<(&'t str, usize)>),
    /// Normally distributed: seed, standard deviation.
    Normal(u64, f64),
    /// Evenly distributed: seed, bounds.
    Uniform(u64, f64, f64),
    /// Along an axis, positions of another value, each times a factor.
    Select(usize, Box<Written<'t>>, Vec<(f64, u32)>),
}

/// Reads a value.
pub(super) fn parse<'t>(cursor: &mut Cursor<'t>) -> Parsed<Written<'t>> {
    parse_nested(cursor, MAX_NESTING)
}

fn parse_nested<'t>(cursor: &mut Cursor<'t>, depth: usize) -> Parsed<Written<'t>> {
    let at = cursor.at();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Mistake::new(at, "the value is nested too deep"));
    };
    if cursor.eat('#') {
        let text = cursor.number()?;
        return u32::from_str_radix(text, 16)
            .map(Written::Hash)
            .map_err(|_| Mistake::new(at, format!("`#{text}` is no hash of 8 digits")));
    }
    if cursor.peek() == Some('[') {
        let mut elements = Vec::new();
        list_elements(cursor, &mut elements, MAX_NESTING)?;
        return Ok(Written::List(elements));
    }
    for (axis, word) in ["rows", "columns"].into_iter().enumerate() {
        if cursor.eat_word(word) {
            cursor.expect('(')?;
            let inner = parse_nested(cursor, depth)?;
            cursor.expect(',')?;
            let positions = positions(cursor)?;
            cursor.expect(')')?;
            return Ok(Written::Select(axis, Box::new(inner), positions));
        }
    }
    if cursor.eat_word("normal") {
        cursor.expect('(')?;
        let seed = cursor.parsed("a seed")?;
        let deviation = if cursor.eat(',') {
            cursor.parsed("a number")?
        } else {
            1.0
        };
        cursor.expect(')')?;
        return Ok(Written::Normal(seed, deviation));
    }
    if cursor.eat_word("uniform") {
        cursor.expect('(')?;
        let seed = cursor.parsed("a seed")?;
        cursor.expect(',')?;
        let low = cursor.parsed("a number")?;
        cursor.expect(',')?;
        let high = cursor.parsed("a number")?;
        cursor.expect(')')?;
        return Ok(Written::Uniform(seed, low, high));
    }
    cursor.number().map(Written::Repeated)
}

fn list_elements<'t>(
    cursor: &mut Cursor<'t>,
    elements: &mut Vec<(&'t str, usize)>,
    depth: usize,
) -> Parsed<()> {
    let at = cursor.at();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Mistake::new(at, "the value is nested too deep"));
    };
    cursor.expect('[')?;
    while cursor.peek() != Some(']') {
        match cursor.peek() {
            Some('[') => list_elements(cursor, elements, depth)?,
            _ => {
                let at = cursor.at();
                elements.push((cursor.number()?, at));
            }
        }
        if !cursor.eat(',') {
            break;
        }
    }
    cursor.expect(']')
}

/// `[0, 1, 2.0*0]`.
fn positions(cursor: &mut Cursor<'_>) -> Parsed<Vec<(f64, u32)>> {
    let mut positions = Vec::new();
    cursor.expect('[')?;
    while cursor.peek() != Some(']') {
        let at = cursor.at();
        let first = cursor.number()?;
        let position = if cursor.eat('*') {
            first.parse().ok().zip(cursor.number()?.parse().ok())
        } else {
            first.parse().ok().map(|position| (1.0, position))
        };
        let wrong = || Mistake::new(at, "expected a position like 3, or 2.0*3");
        positions.push(position.ok_or_else(wrong)?);
        if !cursor.eat(',') {
            break;
        }
    }
    cursor.expect(']')?;
    Ok(positions)
}
