//! Sizes as integer expressions over symbols, kept in a canonical form so that equal sizes compare equal.
//!
//! A [`Dim`] is a polynomial with integer coefficients whose atoms are symbols (`N`, `H`), floored quotients and maxima.
//! `floor((H-1)/2)+1` and `floor((H+1)/2)` are the same value here: whole multiples of the divisor are taken out, and nested
//! quotients by constants are joined. Arithmetic saturates at the bounds of `i64`; nothing panics. Expressions from outside grow
//! only up to [`Dim::MAX_LENGTH`]: who computes sizes that a file asks for checks [`Dim::is_too_long`] as it goes.

mod arithmetic;
mod bounds;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::SmallVec;

pub use text::is_symbol;

/// The name of a size that is known only when the network runs, such as the batch `N`.
pub type Symbol = Arc<str>;

/// Numbers for symbols, as `--input` gives them; used for cost and verification, never to freeze a size.
pub type Bindings = IndexMap<Symbol, i64>;

/// A list of sizes: a shape, or the amounts of a pad.
pub type Dims = SmallVec<[Dim; 4]>;

/// A size: a number, or an expression over symbols.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Number(i64),
    /// Never constant: at least one product of atoms with a coefficient other than 0.
    Sum(Arc<Sum>),
}

#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sum {
    /// Sorted factors -> coefficient; no empty product, no zero coefficient.
    products: BTreeMap<Vec<Atom>, i64>,
    constant: i64,
    /// How many numbers and symbols it takes to write the sum.
    length: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Symbol),
    Quotient(Dim, Dim),
    Max(Dim, Dim),
}

impl Dim {
    /// The longest expression, in numbers and symbols, that readers and inference take.
    pub(crate) const MAX_LENGTH: u32 = 256;

    /// The most sizes of a shape that is looked at closely; tensors have fewer.
    pub(crate) const MAX_RANK: usize = 64;

    /// Whether the expression is longer than [`Dim::MAX_LENGTH`]. Time and stack that an operation takes grow with the length, and a
    /// product is as long as its factors' product.
    pub(crate) fn is_too_long(&self) -> bool {
        self.length() > Dim::MAX_LENGTH
    }

    fn length(&self) -> u32 {
        match &self.0 {
            Repr::Number(_) => 1,
            Repr::Sum(sum) => sum.length,
        }
    }

    /// The size with this name.
    pub fn symbol(name: impl Into<Symbol>) -> Dim {
        Dim::atom(Atom::Symbol(name.into()))
    }

    /// The number, if this is one.
    pub fn as_number(&self) -> Option<i64> {
        match self.0 {
            Repr::Number(n) => Some(n),
            Repr::Sum(_) => None,
        }
    }

    /// The number as a length, if this is a non-negative number.
    #[doc(hidden)]
    pub fn as_len(&self) -> Option<usize> {
        self.as_number().and_then(|n| usize::try_from(n).ok())
    }

    /// The symbol, if this is a bare one.
    #[doc(hidden)]
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Repr::Sum(sum) = &self.0 else { return None };
        match sum.products.iter().next() {
            Some((factors, 1)) if sum.products.len() == 1 && sum.constant == 0 => {
                match factors.as_slice() {
                    [Atom::Symbol(name)] => Some(name),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Symbol, factor and constant of a size that is `factor * symbol + constant` with a factor over 0: the symbol follows from it.
    pub(crate) fn as_linear(&self) -> Option<(Symbol, i64, i64)> {
        let Repr::Sum(sum) = &self.0 else { return None };
        let mut products = sum.products.iter();
        match (products.next(), products.next()) {
            (Some((factors, factor @ 1..)), None) => match factors.as_slice() {
                [Atom::Symbol(name)] => Some((name.clone(), *factor, sum.constant)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The product of sizes, unless it grows [too long](Dim::is_too_long).
    pub(crate) fn product<'a>(sizes: impl IntoIterator<Item = &'a Dim>) -> Option<Dim> {
        let mut sizes = sizes.into_iter();
        sizes.try_fold(Dim::from(1), |product, size| {
            let product = product * size.clone();
            (!product.is_too_long()).then_some(product)
        })
    }

    /// The size that `others` lack to have as many elements as `whole`, as a reshape to -1 makes it; `None` where there is none, or
    /// products grow [too long](Dim::is_too_long), or there are over [`Dim::MAX_RANK`].
    pub(crate) fn left_out(whole: &[Dim], others: &[Dim]) -> Option<Dim> {
        if whole.len().max(others.len()) > Dim::MAX_RANK {
            return None;
        }
        let (whole, others) = Dim::apart(whole, others, |size| size.as_number() != Some(0));
        let (whole, others) = (Dim::product(&whole)?, Dim::product(&others)?);
        let size = whole.floor_div(&others);
        let fits = whole.as_number().is_none() || size.clone() * others.clone() == whole;
        (fits && others.as_number() != Some(0)).then_some(size)
    }

    /// Both lists without the sizes that both have, as often as both have them, where `may` lets them go; as they are where there
    /// are over [`Dim::MAX_RANK`].
    pub(crate) fn apart(a: &[Dim], b: &[Dim], may: impl Fn(&Dim) -> bool) -> (Vec<Dim>, Vec<Dim>) {
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        if a.len().max(b.len()) > Dim::MAX_RANK {
            return (a, b);
        }
        a.retain(|size| match b.iter().position(|other| other == size) {
            Some(same) if may(size) => {
                b.remove(same);
                false
            }
            _ => true,
        });
        (a, b)
    }

    /// The value under `bindings`; `None` where a symbol has no number.
    pub fn eval(&self, bindings: &Bindings) -> Option<i64> {
        self.substitute(&|name| bindings.get(name).map(|n| Dim::from(*n)))
            .as_number()
    }

    /// This expression with each symbol for which `replace` has an answer replaced by it.
    pub(crate) fn substitute(&self, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        let Repr::Sum(sum) = &self.0 else {
            return self.clone();
        };
        let mut total = Dim::from(sum.constant);
        for (factors, coefficient) in &sum.products {
            let product = factors
                .iter()
                .fold(Dim::from(*coefficient), |product, atom| {
                    product
                        * match atom {
                            Atom::Symbol(name) => {
                                replace(name).unwrap_or_else(|| Dim::symbol(name.clone()))
                            }
                            Atom::Quotient(a, b) => {
                                a.substitute(replace).floor_div(&b.substitute(replace))
                            }
                            Atom::Max(a, b) => {
                                a.substitute(replace).maximum(&b.substitute(replace))
                            }
                        }
                });
            total = total + product;
        }
        total
    }

    /// The symbols in the expression, repeats included.
    pub(crate) fn symbols(&self) -> Vec<&Symbol> {
        let mut symbols = Vec::new();
        self.for_each_symbol(&mut |symbol| symbols.push(symbol));
        symbols
    }

    /// Calls `visit` with every symbol in the expression, repeats included.
    pub(crate) fn for_each_symbol<'d>(&'d self, visit: &mut dyn FnMut(&'d Symbol)) {
        let Repr::Sum(sum) = &self.0 else { return };
        for atom in sum.products.keys().flatten() {
            match atom {
                Atom::Symbol(name) => visit(name),
                Atom::Quotient(a, b) | Atom::Max(a, b) => {
                    a.for_each_symbol(visit);
                    b.for_each_symbol(visit);
                }
            }
        }
    }

    /// Builds code for this expression from its parts, for formats that compute sizes at run time.
    pub(crate) fn fold<T>(&self, builder: &mut dyn DimBuilder<T>) -> T {
        let Repr::Sum(sum) = &self.0 else {
            return builder.number(self.as_number().unwrap_or(0));
        };
        let mut total: Option<T> = None;
        for (factors, coefficient) in &sum.products {
            let mut product: Option<T> = (*coefficient != 1).then(|| builder.number(*coefficient));
            for atom in factors {
                let factor = match atom {
                    Atom::Symbol(name) => builder.symbol(name),
                    Atom::Quotient(a, b) => {
                        let (a, b) = (a.fold(builder), b.fold(builder));
                        builder.floor_div(a, b)
                    }
                    Atom::Max(a, b) => {
                        let (a, b) = (a.fold(builder), b.fold(builder));
                        builder.max(a, b)
                    }
                };
                product = Some(match product {
                    Some(product) => builder.mul(product, factor),
                    None => factor,
                });
            }
            let product = product.unwrap_or_else(|| builder.number(*coefficient));
            total = Some(match total {
                Some(total) => builder.add(total, product),
                None => product,
            });
        }
        match total {
            Some(total) if sum.constant == 0 => total,
            Some(total) => {
                let constant = builder.number(sum.constant);
                builder.add(total, constant)
            }
            None => builder.number(sum.constant),
        }
    }

    fn atom(atom: Atom) -> Dim {
        Sum {
            products: BTreeMap::from([(vec![atom], 1)]),
            ..Sum::default()
        }
        .into_dim()
    }

    fn to_sum(&self) -> Sum {
        match &self.0 {
            Repr::Number(n) => Sum {
                constant: *n,
                ..Sum::default()
            },
            Repr::Sum(sum) => Sum::clone(sum),
        }
    }
}

/// Turns a [`Dim`] into something else, an expression of a file format for example.
pub trait DimBuilder<T> {
    /// A number.
    fn number(&mut self, n: i64) -> T;
    /// The run-time value of a symbol.
    fn symbol(&mut self, name: &Symbol) -> T;
    /// A sum.
    fn add(&mut self, a: T, b: T) -> T;
    /// A product.
    fn mul(&mut self, a: T, b: T) -> T;
    /// A quotient rounded down.
    fn floor_div(&mut self, a: T, b: T) -> T;
    /// The larger of two.
    fn max(&mut self, a: T, b: T) -> T;
}

impl Sum {
    fn add(&mut self, factors: Vec<Atom>, coefficient: i64) {
        if coefficient == 0 {
            return;
        }
        match self.products.entry(factors) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(coefficient);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let sum = entry.get().saturating_add(coefficient);
                if sum == 0 {
                    entry.remove();
                } else {
                    entry.insert(sum);
                }
            }
        }
    }

    fn into_dim(mut self) -> Dim {
        let atoms = self.products.keys().map(|factors| {
            let lengths = factors.iter().map(|atom| match atom {
                Atom::Symbol(_) => 1,
                Atom::Quotient(a, b) | Atom::Max(a, b) => a.length().saturating_add(b.length()),
            });
            lengths.fold(1, u32::saturating_add)
        });
        self.length = atoms.fold(1, u32::saturating_add);
        Dim(if self.products.is_empty() {
            Repr::Number(self.constant)
        } else {
            Repr::Sum(Arc::new(self))
        })
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim(Repr::Number(n))
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Dim {
        Dim::from(i64::from(n))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim(Repr::Number(i64::try_from(n).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests;
