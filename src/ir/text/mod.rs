//! The text form of a graph, printed and parsed.
//!
//! ```text
//! graph net(%x: f32[N,3,32,32]) where N=1 {
//!   @conv1.weight = parameter #8f1c09a2 : f32[16,3,3,3]
//!   @conv1.bias = parameter 0.0 : f32[16]
//!   %conv1 = conv(%x, @conv1.weight, @conv1.bias) {pad=[1,1]} : f32[N,16,32,32]
//!   %parts = opaque "aten::split"(%conv1) {template="torch.split({0}, 8, 1)"} : f32[N,8,32,32], f32[N,8,32,32]
//!   %out = add(%parts, %parts#1) : f32[N,8,32,32]
//!   return %out
//! }
//! ```
//!
//! * `%name` is the result of an operation or an input, `%name#1` its second result, `@name` a constant; a name with a
//!   character other than letters, digits and `_./-` is quoted: `%"my conv"`. Values are defined before they are used.
//! * The header lists the inputs with their types, and after `where` the numbers that are bound to sizes.
//! * `{..}` holds attributes; those with their usual value (a pad of 0, a stride of 1, `eps=1e-5`) are left out. `: type` after an
//!   operation may be left out in a text that is to be parsed, and is inferred.
//! * A constant has a role (`parameter`, `buffer`, `literal`), a value, after `mask` which of its elements are not held at zero
//!   (another value: 1 for those that are kept, else 0), and after `alias` its further names. The value is
//!   either a hash, which stands for elements that the text leaves out, or one of
//!   * `0.5`: every element,
//!   * `[[1.0, 2.0], [3.0, 4.0]]`: the elements in row-major order,
//!   * `normal(seed)`, `normal(seed, deviation)`, `uniform(seed, low, high)`: pseudo-random elements, the same ones everywhere,
//!   * `rows(value, [0, 1, 2.0*0])`: the positions of axis 0 taken from `value`, which has as many as are named, each times a
//!     factor; `columns` does so along axis 1. Texts for tests make equal, proportional and zero filters with these.
//! * An opaque operator has its name quoted after the word, its `template`, the `sizes` that it refers to, and the `dialect` it is
//!   of where that is not TorchScript.
//! * `return` lists the outputs, as `name=%value` where an output has a name of its own.
//! * `//` starts a comment.
//!
//! `{}` prints a graph with large constants as hashes, `{:#}` with all elements. What is printed is parsed to the same graph,
//! and printed as the same text again.

mod cursor;
mod defaults;
mod elements;
mod operator;
mod parse;
mod print;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use elements::normal;
pub use parse::parse;
pub(crate) use print::operation;
pub use print::print;
#[doc(hidden)]
pub use print::statement;
pub(super) use print::value;
