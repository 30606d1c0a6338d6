//! What a size is at least, whatever its symbols stand for.

use super::{Atom, Dim, Repr};

impl Dim {
    /// Whether the expression is 0 or more whatever sizes, of 1 or more, the symbols stand for; as far as its form shows.
    pub(crate) fn is_never_negative(&self) -> bool {
        self.least(0).is_some_and(|least| least >= 0)
    }

    /// A lower bound for symbols of 1 or more; `None` if the form shows none.
    fn least(&self, depth: usize) -> Option<i64> {
        let Repr::Sum(sum) = &self.0 else {
            return self.as_number();
        };
        if depth > Dim::MAX_PROOF || self.is_too_long() {
            return None;
        }
        let mut least = sum.constant;
        for (factors, c) in &sum.products {
            if *c < 0 {
                return self.least_without(factors, *c, depth);
            }
            let factors = factors.iter().try_fold(1i64, |product, atom| {
                let factor = atom.least(depth).filter(|n| *n >= 0)?;
                Some(product.saturating_mul(factor))
            });
            least = least.saturating_add(factors?.saturating_mul(*c));
        }
        Some(least)
    }

    /// A lower bound where `c` times these factors is taken away: a quotient is at most what it is without rounding.
    fn least_without(&self, factors: &[Atom], c: i64, depth: usize) -> Option<i64> {
        let [Atom::Quotient(a, by)] = factors else {
            return None;
        };
        let by = by.as_number().filter(|by| *by > 0)?;
        let quotient = |a: &Dim, by: i64| Dim::atom(Atom::Quotient(a.clone(), by.into()));
        let rest = self.clone() - quotient(a, by) * Dim::from(c);
        let bound = |a: &Dim, by: i64| {
            let whole = rest.clone() * Dim::from(by) + a.clone() * Dim::from(c);
            let least = whole.least(depth + 1)?;
            Some(least.saturating_neg().div_euclid(by).saturating_neg())
        };
        // Rounded in two steps, the first of which the rest has, too, it is the same.
        let first_steps = self.products().filter_map(|factors| match factors {
            [Atom::Quotient(b, first)] if b == a => first.as_number(),
            _ => None,
        });
        let first = first_steps
            .filter(|first| (2..by).contains(first) && by % first == 0)
            .max();
        let stepwise = first.and_then(|first| bound(&quotient(a, first), by / first));
        stepwise.max(bound(a, by))
    }

    /// The products of atoms that the sum has.
    fn products(&self) -> impl Iterator<Item = &[Atom]> {
        let sum = match &self.0 {
            Repr::Sum(sum) => Some(&sum.products),
            Repr::Number(_) => None,
        };
        sum.into_iter().flatten().map(|(factors, _)| &factors[..])
    }

    /// How many quotients a bound is followed through.
    const MAX_PROOF: usize = 8;
}

impl Atom {
    /// As [`Dim::least`].
    fn least(&self, depth: usize) -> Option<i64> {
        match self {
            Atom::Symbol(_) => Some(1),
            Atom::Quotient(a, b) => {
                let a = a.least(depth + 1)?;
                match b.as_number() {
                    Some(0) => Some(0),
                    Some(b @ 1..) => Some(a.div_euclid(b)),
                    _ => (a >= 0 && b.least(depth + 1)? >= 0).then_some(0),
                }
            }
            Atom::Max(a, b) => a.least(depth + 1).max(b.least(depth + 1)),
        }
    }
}
