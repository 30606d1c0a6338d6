//! Arrays in NumPy's `.npy` format, and `npy:FILE`, which is one for the only input of a network: a Python dictionary that says type, order and shape, then the elements.
//!
//! The dictionary is read by the parser that reads TorchScript's code, never evaluated; elements stay where they lie.
//! The crates for this format make room for what a header asks for before they look whether it is there.

use ruff_python_ast::{Expr, Number};

use super::arrays::{self, Arrays};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Wanted, Wrong};
use crate::Result;
use crate::ir::{Bytes, DType, Tensor};

pub(super) static NPY: Kind = Kind {
    name: "npy",
    takes: "FILE",
    help: "one array [n, ...] for a network's only input",
    options: &["mean", "std", "flip", "crop"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    let bytes = super::map(&spec.path)?;
    let array = read("x", &bytes).map_err(|w| spec.wrong(w))?;
    if wanted.only().is_none() {
        let inputs: Vec<&str> = wanted.needed().map(|input| input.text.as_str()).collect();
        return Err(spec.wrong(Wrong::new(
            format!(
                "it is one array, and the network takes {}",
                inputs.join(", ")
            ),
            "give an array for each input, by its name: npz:FILE",
        )));
    }
    arrays::open(spec, wanted, &Sole(array))
}

/// The array of a file that has one.
struct Sole(Tensor);

impl Arrays for Sole {
    fn names(&self) -> Vec<String> {
        vec!["x".to_string()]
    }

    fn read(&self, _: &str) -> Result<Tensor> {
        Ok(self.0.clone())
    }
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers of plain arrays take 128 bytes. The bound keeps what nests in a hostile one off the stack.
const MAX_HEADER: usize = 1024;
/// What stands for the type of an array of records.
const RECORDS: &str = "records";

/// The array in `bytes`; `name` is for messages.
///
/// # Errors
/// What is wrong: it is no such array, is of objects or a type that weights do not have, lies column by column, or has not
/// the number of bytes that its shape asks for.
pub(super) fn read(name: &str, bytes: &Bytes) -> Result<Tensor, Wrong> {
    let damaged = |what: &str| {
        let what = format!("the array `{name}` {what}");
        Wrong::new(
            what,
            "the file was cut short or altered; save it again with numpy.savez",
        )
    };
    let all = bytes.as_ref();
    let Some([major, _, rest @ ..]) = all.strip_prefix(MAGIC) else {
        return Err(damaged("is not in NumPy's format"));
    };
    // Version 1 has two bytes of length, later ones four.
    let (len, rest) = match (*major, rest) {
        (1, [a, b, rest @ ..]) => (u16::from_le_bytes([*a, *b]).into(), rest),
        (2 | 3, [a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(damaged("has a header of no known version")),
    };
    let header = rest.get(..len).filter(|_| len <= MAX_HEADER);
    let header = header.and_then(|header| std::str::from_utf8(header).ok());
    let header = header.ok_or_else(|| damaged("has a header that cannot be read"))?;
    let header = Header::parse(header.trim())
        .ok_or_else(|| damaged("has a header that is not NumPy's dictionary"))?;

    let dtype = header.dtype(name)?;
    if header.fortran {
        return Err(Wrong::new(
            format!("the array `{name}` is in Fortran order"),
            format!("save numpy.ascontiguousarray({name}) instead"),
        ));
    }
    let elements = all.len() - (rest.len() - len)..all.len();
    let elements = bytes.slice(elements).ok_or_else(|| damaged("is cut off"))?;
    Tensor::new(dtype, &header.shape, elements)
        .map_err(|what| damaged(&format!("does not hold together: {what}")))
}

/// What comes before the elements of an array of f32 of this shape.
pub(super) fn header(shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Elements begin at a multiple of 64.
    let start = MAGIC.len() + 4;
    let end = (start + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', end - start - text.len() - 1));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

/// What the dictionary says.
struct Header {
    /// `<f4`, or [`RECORDS`].
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Option<Header> {
        let parsed = ruff_python_parser::parse_expression(text).ok()?;
        let Expr::Dict(entries) = &*parsed.syntax().body else {
            return None;
        };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        for entry in &entries.items {
            let Some(Expr::StringLiteral(key)) = &entry.key else {
                return None;
            };
            match (key.value.to_str(), &entry.value) {
                ("descr", Expr::StringLiteral(text)) => {
                    descr = Some(text.value.to_str().to_owned())
                }
                ("descr", Expr::List(_)) => descr = Some(RECORDS.to_owned()),
                ("fortran_order", Expr::BooleanLiteral(flag)) => fortran = Some(flag.value),
                ("shape", Expr::Tuple(sizes)) => {
                    shape = sizes.elts.iter().map(size).collect::<Option<_>>();
                }
                _ => return None,
            }
        }
        Some(Header {
            descr: descr?,
            fortran: fortran?,
            shape: shape?,
        })
    }

    fn dtype(&self, name: &str) -> Result<DType, Wrong> {
        match self.descr.as_str() {
            "<f8" => Ok(DType::F64),
            "<f4" => Ok(DType::F32),
            "<f2" => Ok(DType::F16),
            "<i8" => Ok(DType::I64),
            "<i4" => Ok(DType::I32),
            "<i2" => Ok(DType::I16),
            "|i1" => Ok(DType::I8),
            "|u1" => Ok(DType::U8),
            "|b1" => Ok(DType::Bool),
            RECORDS => Err(Wrong::new(
                format!("the array `{name}` holds records"),
                "save one array of numbers for inputs (x), and one for labels (y)",
            )),
            "|O" => Err(Wrong::new(
                format!("the array `{name}` holds Python objects, which are pickled code"),
                "save numbers: an array of one type and one shape",
            )),
            other => Err(Wrong::new(
                format!("the array `{name}` is of the type {other}"),
                format!(
                    "save {name}.astype(\"<f4\"), or another little-endian float or signed integer"
                ),
            )),
        }
    }
}

fn size(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::NumberLiteral(number) => match &number.value {
            Number::Int(n) => n.as_u64().and_then(|n| usize::try_from(n).ok()),
            _ => None,
        },
        _ => None,
    }
}
