//! Which single weights of a layer become zero, and what the others become to make up for them.
//!
//! A layer multiplies features of covariance H by rows of weights. Without weight j, the best fit of a row's others loses
//! `w_j² / [H^-1]_jj` and adds `- w_j H^-1_:j / [H^-1]_jj` to them (Optimal Brain Surgeon, Hassibi and Stork 1993). Done column by
//! column, where only columns to the right may still change, one factor `H^-1 = U^T U` holds all inverses that this takes: SparseGPT
//! (Frantar and Alistarh, ICML 2023). Columns are taken in chunks, and what a chunk loses is made up for in the rest at once. Where
//! that is not too much work, the best order of each row is followed instead, one weight at a time.

mod hessian;
mod magnitude;
mod reads;
mod sweep;
mod traces;

pub use hessian::{Factor, Hessian, fit};
pub use magnitude::smallest;
pub use reads::Reads;
pub use sweep::sweep;
pub use traces::Traces;

/// Where zeros may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zeros {
    /// So many of all weights, in blocks of rows by columns that are zero together.
    Share {
        /// The fraction that is zero.
        share: f64,
        /// The rows and the columns of a block.
        block: [usize; 2],
    },
    /// All but `kept` of each `of` weights that are beside each other in a row.
    Pattern {
        /// How many stay.
        kept: usize,
        /// Of how many.
        of: usize,
    },
}

impl Zeros {
    /// The rows and the columns of what is decided on together.
    pub fn unit(&self) -> [usize; 2] {
        match *self {
            Zeros::Share { block, .. } => block,
            Zeros::Pattern { of, .. } => [1, of],
        }
    }
}

/// A weight in which some elements are zero.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The weight, row by row.
    pub weight: Vec<f64>,
    /// Which elements stay.
    pub kept: Vec<bool>,
    /// The squared error of the result, in all.
    pub loss: f64,
}

#[cfg(test)]
mod tests;
