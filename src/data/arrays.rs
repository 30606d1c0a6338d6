//! Arrays by name, whatever file they are in: which is for which input, and whether they fit.

use std::sync::Arc;

use super::pixels::Pixels;
use super::samples::Filled;
use super::wanted::Input;
use super::{DataSpec, Elements, Opened, Source, Wanted, Wrong};
use crate::Result;
use crate::ir::{Bytes, DType, Tensor};

/// Arrays of a file.
pub(super) trait Arrays {
    /// Their names.
    fn names(&self) -> Vec<String>;
    /// The array of this name, which is one of them.
    fn read(&self, name: &str) -> Result<Tensor>;
}

/// How to write what is wanted.
const WRITE: &str = "write numpy.savez(\"data.npz\", x=inputs, y=labels)";

impl DataSpec {
    /// The name of the inputs' array.
    pub(super) fn x(&self) -> &str {
        self.x.as_deref().unwrap_or("x")
    }

    /// The name of the labels' array.
    fn y(&self) -> &str {
        self.y.as_deref().unwrap_or("y")
    }
}

/// Which array each input gets.
pub(super) struct Chosen<'w> {
    pub(super) arrays: Vec<(&'w Input, String)>,
    pub(super) filled: Vec<Filled>,
}

impl Chosen<'_> {
    pub(super) fn inputs(&self, whole: &[bool]) -> Vec<(Arc<str>, bool)> {
        let names = self.arrays.iter().map(|(input, _)| input.name.clone());
        names.zip(whole.iter().copied()).collect()
    }
}

/// Chooses from arrays of these names. The only input of a network may also be called `x`, or as `x=` says.
pub(super) fn choose<'w>(
    spec: &DataSpec,
    wanted: &'w Wanted,
    names: &[String],
) -> Result<Chosen<'w>, Wrong> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let (mut arrays, mut filled) = (Vec::new(), Vec::new());
    for input in &wanted.0 {
        let only = wanted.only().is_some_and(|only| only.name == input.name);
        let array = match (only, &spec.x) {
            (true, Some(x)) => Some(x.clone()),
            (true, None) if has("x") => Some("x".to_string()),
            _ => Some(input.name.to_string()),
        };
        match array.filter(|name| has(name)) {
            Some(array) => arrays.push((input, array)),
            None if input.optional => {}
            None if only => return Err(missing(spec.x(), names)),
            None => match input.fill {
                Some(with) => filled.push(Filled {
                    name: input.name.clone(),
                    with,
                }),
                None => return Err(missing_input(input, names)),
            },
        }
    }
    if spec.x.is_some() && wanted.only().is_none() {
        return Err(Wrong::new(
            "x=NAME is for networks of one input",
            "name the arrays like the network's inputs",
        ));
    }
    if arrays.is_empty() {
        return Err(Wrong::new("the network takes no input", ""));
    }
    Ok(Chosen { arrays, filled })
}

fn listed(names: &[String]) -> String {
    names[..names.len().min(8)].join(", ")
}

fn missing(name: &str, names: &[String]) -> Wrong {
    Wrong::new(
        format!("it has no array `{name}`, only {}", listed(names)),
        format!("name one with x=NAME (inputs) or y=NAME (labels), or {WRITE}"),
    )
}

fn missing_input(input: &Input, names: &[String]) -> Wrong {
    Wrong::new(
        format!(
            "it has no array `{}` for the network's input {}, only {}",
            input.name,
            input.text,
            listed(names)
        ),
        "name the arrays like the network's inputs, which optc inspect lists",
    )
}

/// Opens arrays whose first axis counts the samples.
pub(super) fn open(spec: &DataSpec, wanted: &Wanted, file: &dyn Arrays) -> Result<Opened> {
    let wrong = |w: Wrong| spec.wrong(w);
    let names = file.names();
    let chosen = choose(spec, wanted, &names).map_err(wrong)?;
    let taken = |name: &str| chosen.arrays.iter().any(|(_, array)| array == name);
    let has = |name: &str| names.iter().any(|n| n == name);
    let labels = match &spec.y {
        Some(y) if !has(y) => return Err(wrong(missing(y, &names))),
        Some(y) => Some(y.as_str()),
        None => Some("y").filter(|y| has(y) && !taken(y)),
    };
    let labels = labels.map(|y| file.read(y)).transpose()?;
    let tensors: Vec<Tensor> = { chosen.arrays.iter() }
        .map(|(_, name)| file.read(name))
        .collect::<Result<_>>()?;
    if let ([(input, _)], [x]) = (&chosen.arrays[..], &tensors[..])
        && input.is_float_batch()
        && !(x.shape().len() > 1 && input.is_whole(x.shape().len() - 1))
    {
        return plain(spec, &chosen, x.clone(), labels).map_err(wrong);
    }
    by_name(spec, &chosen, tensors, labels).map_err(wrong)
}

/// The number of samples and the shape of one.
fn shape_of<'x>(name: &str, x: &'x Tensor) -> Result<(usize, &'x [usize]), Wrong> {
    match x.shape() {
        [] => Err(Wrong::new(
            format!("the array `{name}` is a single number"),
            "its first dimension counts the samples",
        )),
        shape if x.is_empty() => Err(Wrong::new(
            format!("the array `{name}` of shape {shape:?} is empty"),
            "",
        )),
        [n, sample @ ..] => Ok((*n, sample)),
    }
}

/// Rows for the only input that the data is for, which takes a batch of floats.
fn plain(
    spec: &DataSpec,
    chosen: &Chosen,
    x: Tensor,
    labels: Option<Tensor>,
) -> Result<Opened, Wrong> {
    let [(input, name)] = &chosen.arrays[..] else {
        return Err(Wrong::new("there are several arrays", ""));
    };
    let (n, sample) = shape_of(name, &x)?;
    input.check(sample)?;
    let pixels = pixels(spec, name, x.dtype(), sample)?;
    let sample = sample.to_vec();
    Ok(Opened {
        inputs: chosen.inputs(&[false]),
        filled: chosen.filled.clone(),
        sample: Some(sample),
        pixels,
        source: Box::new(Rows(x)),
        ..labelled(spec, labels, n)?
    })
}

/// How to read an array as floats: `None` for as they are.
fn pixels(
    spec: &DataSpec,
    name: &str,
    dtype: DType,
    sample: &[usize],
) -> Result<Option<Pixels>, Wrong> {
    match dtype {
        DType::U8 => Ok(Some(Pixels::new(spec, channels(sample))?)),
        dtype if !dtype.is_float() => Err(Wrong::new(
            format!("the array `{name}` is of the type {dtype}"),
            "floats are taken as they are, and u8 as pixels",
        )),
        dtype if spec.has_normalisation() => Err(Wrong::new(
            format!("the array `{name}` is of the type {dtype}, which is taken as it is"),
            "mean and std are for pixels (u8); leave them out, or save u8",
        )),
        _ => Ok(None),
    }
}

/// The channels of a sample `[C, ...]`; one for a row of numbers.
fn channels(sample: &[usize]) -> usize {
    match sample {
        [channels, _, ..] => *channels,
        _ => 1,
    }
}

/// Nothing but the labels, of so many samples.
fn labelled(spec: &DataSpec, labels: Option<Tensor>, n: usize) -> Result<Opened, Wrong> {
    let labels = labels.map(|y| labels_of(spec, &y, n)).transpose()?;
    let last = labels.iter().flatten().max();
    Ok(Opened {
        // Labels are far below 2^53; a network has an output for each class.
        classes: last.map_or(0, |last| usize::try_from(*last).unwrap_or_default() + 1),
        labels,
        source: Box::new(Nothing),
        inputs: Vec::new(),
        filled: Vec::new(),
        sample: None,
        pixels: None,
        split: None,
    })
}

/// One label a sample.
fn labels_of(spec: &DataSpec, y: &Tensor, samples: usize) -> Result<Vec<i64>, Wrong> {
    if y.shape() != [samples] || y.dtype().is_float() || y.dtype() == DType::Bool {
        return Err(Wrong::new(
            format!(
                "the array `{}` is {}{:?}, for {samples} samples in `{}`",
                spec.y(),
                y.dtype(),
                y.shape(),
                spec.x()
            ),
            format!("labels are signed integers or u8 of the shape [{samples}]"),
        ));
    }
    // Class numbers are far below 2^53, where doubles are exact.
    Ok(y.elements::<f64>().iter().map(|y| *y as i64).collect())
}

/// Arrays for inputs of any types.
fn by_name(
    spec: &DataSpec,
    chosen: &Chosen,
    tensors: Vec<Tensor>,
    labels: Option<Tensor>,
) -> Result<Opened, Wrong> {
    let (mut columns, mut whole) = (Vec::new(), Vec::new());
    let mut first: Option<(usize, &str)> = None;
    for ((input, name), tensor) in chosen.arrays.iter().zip(tensors) {
        let (n, sample) = shape_of(name, &tensor)?;
        let (others, of) = *first.get_or_insert((n, name));
        if others != n {
            return Err(Wrong::new(
                format!("the array `{of}` has {others} samples, and `{name}` has {n}"),
                "the first dimension of each array counts the samples",
            ));
        }
        whole.push(input.is_whole(sample.len()));
        let column = Column::new(spec, input, name, tensor.dtype(), sample)?;
        columns.push((column, tensor));
    }
    let n = first.map_or(0, |(n, _)| n);
    Ok(Opened {
        inputs: chosen.inputs(&whole),
        filled: chosen.filled.clone(),
        source: Box::new(ByName { len: n, columns }),
        ..labelled(spec, labels, n)?
    })
}

/// How the samples of an array become those of an input.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    /// The type that samples have, and the one that they get.
    types: [DType; 2],
    pixels: Option<Pixels>,
}

impl Column {
    /// Checks that samples of this type and shape fit the input.
    pub(super) fn new(
        spec: &DataSpec,
        input: &Input,
        name: &str,
        dtype: DType,
        sample: &[usize],
    ) -> Result<Column, Wrong> {
        input.check_named(name, sample)?;
        let wanted = input.dtype.unwrap_or(dtype);
        let batch = usize::from(input.is_whole(sample.len()));
        let image = sample.get(batch..).unwrap_or_default();
        let mut pixels_of = None;
        let kept = match (wanted, dtype) {
            (wanted, dtype) if wanted.is_float() => {
                if dtype == DType::U8 || dtype.is_float() {
                    pixels_of = pixels(spec, name, dtype, image)?;
                }
                dtype == DType::U8 || dtype.is_float()
            }
            (DType::Bool, dtype) => dtype == DType::Bool,
            (_, dtype) => !dtype.is_float(),
        };
        if !kept {
            return Err(Wrong::new(
                format!(
                    "the array `{name}` is of the type {dtype}, and the input {} takes {wanted}",
                    input.text
                ),
                format!("save {name}.astype(\"{}\")", numpy_name(wanted)),
            ));
        }
        Ok(Column {
            name: name.to_string(),
            types: if wanted.is_float() {
                [dtype, DType::F32]
            } else {
                [dtype, wanted]
            },
            pixels: pixels_of,
        })
    }

    /// Whether samples of the same type become the same.
    pub(super) fn is_like(&self, other: &Column) -> bool {
        self.types == other.types
    }

    /// A sample in the input's type.
    ///
    /// # Errors
    /// That it holds a number which that type has not.
    pub(super) fn sample(&self, sample: Tensor) -> Result<Tensor, String> {
        if let Some(pixels) = &self.pixels {
            let mut numbers = Vec::with_capacity(sample.len());
            pixels.append(&sample.bytes(), &mut numbers);
            return Ok(Tensor::from_vec(sample.shape(), numbers));
        }
        let [_, dtype] = self.types;
        if dtype == sample.dtype() {
            return Ok(sample);
        }
        if dtype == DType::F32 {
            let numbers = sample.elements::<f32>().into_owned();
            return Ok(Tensor::from_vec(sample.shape(), numbers));
        }
        let numbers = sample.elements::<f64>();
        let made = Tensor::from_f64(dtype, sample.shape(), numbers.iter().copied());
        let same = made.elements::<f64>() == numbers;
        same.then_some(made).ok_or_else(|| {
            let name = &self.name;
            format!("the array `{name}` holds a number that {dtype} has not")
        })
    }
}

fn numpy_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => "float32",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::I16 => "int16",
        DType::I8 => "int8",
        DType::U8 => "uint8",
        DType::Bool => "bool",
    }
}

/// A stretch of an array along its first axis, without that axis.
fn row(x: &Tensor, position: usize) -> Result<Tensor, String> {
    let sample = x.shape().get(1..).unwrap_or_default();
    let bytes = sample.iter().product::<usize>() * x.dtype().size();
    let all = x.bytes();
    let one = all.get(position * bytes..(position + 1) * bytes);
    let one = one.unwrap_or_default().to_vec(); // Positions are below the length.
    Ok(Tensor::new(x.dtype(), sample, Bytes::new(Arc::new(one)))?)
}

/// Several arrays, where they lie in the file if that is not compressed.
#[derive(Debug)]
struct ByName {
    len: usize,
    columns: Vec<(Column, Tensor)>,
}

impl Source for ByName {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let columns = self.columns.iter();
        let samples = columns.map(|(column, all)| column.sample(row(all, position)?));
        samples.collect::<Result<_, _>>().map(Elements::Arrays)
    }
}

/// The rows of one array of floats, or of pixels.
#[derive(Debug)]
struct Rows(Tensor);

impl Source for Rows {
    fn len(&self) -> usize {
        self.0.shape()[0]
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let row = row(&self.0, position)?;
        Ok(match self.0.dtype() {
            DType::U8 => Elements::Pixels(row.bytes().into_owned()),
            _ => Elements::Numbers(row.elements::<f32>().into_owned()),
        })
    }
}

/// No samples.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn len(&self) -> usize {
        0
    }

    fn read(&self, _: usize) -> Result<Elements, String> {
        Err("there are no samples".to_string())
    }
}
