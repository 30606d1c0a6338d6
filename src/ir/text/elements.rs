//! From a written value to a tensor.

use std::sync::Arc;

use half::{bf16, f16};
use rustc_hash::FxHashMap;

use super::super::bytes::Bytes;
use super::super::graph::Graph;
use super::super::tensor::{DType, Tensor, byte_len};
use super::cursor::{Mistake, Parsed};
use super::values::{Written, short_hash};

/// How many elements a text may ask for without writing them.
const MAX_INVENTED: usize = 1 << 24;

/// Where the elements come from that a text does not write.
pub(super) struct Weights {
    known: FxHashMap<u32, Vec<Tensor>>,
    /// Elements made up so far.
    invented: usize,
}

impl Weights {
    /// Hashes stand for the constants of `graph`, and for their masks.
    pub(super) fn of(graph: &Graph) -> Weights {
        let mut known: FxHashMap<u32, Vec<Tensor>> = FxHashMap::default();
        let mut add = |tensor: Tensor| {
            known.entry(short_hash(&tensor)).or_default().push(tensor);
        };
        for constant in graph.nodes().filter_map(|node| graph.constant(node)) {
            add(constant.tensor.clone());
            let mask = constant.mask.as_ref();
            let mask = mask.map(|mask| mask.to_tensor(constant.tensor.shape()));
            mask.into_iter().flatten().for_each(&mut add);
        }
        Weights { known, invented: 0 }
    }

    /// The tensor of this type that `value`, written at `at`, stands for.
    pub(super) fn tensor(
        &mut self,
        value: &Written<'_>,
        dtype: DType,
        shape: &[usize],
        at: usize,
    ) -> Parsed<Tensor> {
        let len = byte_len(dtype, shape).map(|bytes| bytes / dtype.size());
        let len = len.ok_or_else(|| Mistake::new(at, "the constant is too large"))?;
        let bytes = match value {
            Written::Hash(hash) => {
                let known = self.known.get(hash).into_iter().flatten();
                let mut fitting = known.filter(|t| t.dtype() == dtype && t.shape() == shape);
                let missing = || {
                    Mistake::new(at, "the elements of this constant are not in the text").help(
                        "print the graph with all elements, give the graph that has them, or write a value like normal(1)",
                    )
                };
                return fitting.next().cloned().ok_or_else(missing);
            }
            Written::Repeated(text) => {
                self.invent(len, at)?;
                let mut one = Vec::new();
                push_element(dtype, text, at, &mut one)?;
                one.repeat(len)
            }
            Written::List(elements) => {
                if elements.len() != len {
                    let what = format!("{} elements for the shape {shape:?}", elements.len());
                    return Err(Mistake::new(at, what));
                }
                let mut bytes = Vec::with_capacity(len * dtype.size());
                for (text, at) in elements {
                    push_element(dtype, text, *at, &mut bytes)?;
                }
                bytes
            }
            value => {
                let elements = self.reals(value, shape, at)?;
                return Ok(Tensor::from_f64(dtype, shape, elements));
            }
        };
        Tensor::new(dtype, shape, Bytes::new(Arc::new(bytes))).map_err(|e| Mistake::new(at, e))
    }

    /// The elements as numbers, where they are computed.
    fn reals(&mut self, value: &Written<'_>, shape: &[usize], at: usize) -> Parsed<Vec<f64>> {
        let len = byte_len(DType::F64, shape).map(|bytes| bytes / DType::F64.size());
        let len = len.ok_or_else(|| Mistake::new(at, "the constant is too large"))?;
        self.invent(len, at)?;
        Ok(match value {
            Written::Normal(seed, deviation) => {
                let mut random = fastrand::Rng::with_seed(*seed);
                (0..len).map(|_| deviation * normal(&mut random)).collect()
            }
            Written::Uniform(seed, low, high) => {
                let mut random = fastrand::Rng::with_seed(*seed);
                (0..len)
                    .map(|_| low + (high - low) * random.f64())
                    .collect()
            }
            Written::Select(axis, inner, positions) => {
                if shape.get(*axis) != Some(&positions.len()) {
                    let what = format!(
                        "{} positions along axis {axis} of the shape {shape:?}",
                        positions.len()
                    );
                    return Err(Mistake::new(at, what));
                }
                if len == 0 {
                    return Ok(Vec::new());
                }
                let count = positions.iter().map(|(_, i)| *i as usize + 1).max();
                let mut inner_shape = shape.to_vec();
                inner_shape[*axis] = count.unwrap_or(0);
                let inner = self.reals(inner, &inner_shape, at)?;
                let stride: usize = shape[*axis + 1..].iter().product();
                let mut elements = Vec::with_capacity(len);
                for block in inner.chunks(stride * inner_shape[*axis]) {
                    for (factor, position) in positions {
                        let slice = &block[*position as usize * stride..][..stride];
                        elements.extend(slice.iter().map(|x| factor * x));
                    }
                }
                elements
            }
            written => self
                .tensor(written, DType::F64, shape, at)?
                .elements::<f64>()
                .into_owned(),
        })
    }

    fn invent(&mut self, len: usize, at: usize) -> Parsed<()> {
        self.invented = self.invented.saturating_add(len);
        if self.invented > MAX_INVENTED {
            Err(Mistake::new(
                at,
                format!("the text asks for over {MAX_INVENTED} elements that it does not write"),
            ))
        } else {
            Ok(())
        }
    }
}

/// Nearly normal with deviation 1: twelve uniform numbers less 6. Unlike a logarithm, sums are the same on every machine.
pub(crate) fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// Appends the bytes of one written element.
fn push_element(dtype: DType, text: &str, at: usize, bytes: &mut Vec<u8>) -> Parsed<()> {
    fn push<T: std::str::FromStr, E: bytemuck::Pod>(
        text: &str,
        bytes: &mut Vec<u8>,
        to_element: impl Fn(T) -> E,
    ) -> Option<()> {
        let element = to_element(text.parse().ok()?);
        bytes.extend_from_slice(bytemuck::bytes_of(&element));
        Some(())
    }
    let done = match dtype {
        DType::F64 => push(text, bytes, |x: f64| x),
        DType::F32 => push(text, bytes, |x: f32| x),
        DType::F16 => push(text, bytes, f16::from_f32),
        DType::BF16 => push(text, bytes, bf16::from_f32),
        DType::I64 => push(text, bytes, |x: i64| x),
        DType::I32 => push(text, bytes, |x: i32| x),
        DType::I16 => push(text, bytes, |x: i16| x),
        DType::I8 => push(text, bytes, |x: i8| x),
        DType::U8 => push(text, bytes, |x: u8| x),
        DType::Bool => push(text, bytes, |x: u8| x.min(1)),
    };
    done.ok_or_else(|| Mistake::new(at, format!("`{text}` is no element of type {dtype}")))
}
