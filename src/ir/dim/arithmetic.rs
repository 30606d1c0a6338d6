//! Sums, products, quotients and maxima of sizes.

use std::ops::{Add, Mul, Neg, Sub};

use super::{Atom, Dim, Sum};

impl Dim {
    /// The quotient by `divisor`, rounded down. A divisor that is 0 gives 0, as there is no such size.
    #[doc(hidden)]
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        if let Some(d) = divisor.as_number() {
            return match d {
                0 => Dim::from(0),
                i64::MIN..=-1 => (-self.clone()).floor_div(&-divisor.clone()),
                1 => self.clone(),
                _ => self.floor_div_number(d),
            };
        }
        if self == divisor {
            return Dim::from(1);
        }
        match self.exact_div(divisor) {
            Some(quotient) => quotient,
            None if self.as_number() == Some(0) => Dim::from(0),
            None => Dim::atom(Atom::Quotient(self.clone(), divisor.clone())),
        }
    }

    /// The quotient by `divisor`, rounded up.
    #[doc(hidden)]
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        match divisor.as_number() {
            Some(d @ 1..) => (self.clone() + Dim::from(d - 1)).floor_div(divisor),
            _ => -(-self.clone()).floor_div(divisor),
        }
    }

    /// The larger of the two.
    #[doc(hidden)]
    pub fn maximum(&self, other: &Dim) -> Dim {
        if let Some(difference) = (self.clone() - other.clone()).as_number() {
            return if difference >= 0 {
                self.clone()
            } else {
                other.clone()
            };
        }
        let (a, b) = if self <= other {
            (self, other)
        } else {
            (other, self)
        };
        Dim::atom(Atom::Max(a.clone(), b.clone()))
    }

    /// The smaller of the two.
    #[doc(hidden)]
    pub fn minimum(&self, other: &Dim) -> Dim {
        -(-self.clone()).maximum(&-other.clone())
    }

    /// floor(self / d) for d > 1: whole multiples of d leave the quotient, and a quotient of a quotient is one quotient.
    fn floor_div_number(&self, d: i64) -> Dim {
        let sum = self.to_sum();
        let (mut whole, mut rest) = (Sum::default(), Sum::default());
        for (factors, c) in sum.products {
            whole.add(factors.clone(), c.div_euclid(d));
            rest.add(factors, c.rem_euclid(d));
        }
        whole.constant = sum.constant.div_euclid(d);
        rest.constant = sum.constant.rem_euclid(d);
        let whole = whole.into_dim();
        if rest.products.is_empty() {
            return whole;
        }
        if let (1, Some((factors, 1))) = (rest.products.len(), rest.products.iter().next())
            && let [Atom::Quotient(inner, by)] = factors.as_slice()
            && let Some(by) = by.as_number()
            && by > 0
            && let Some(product) = by.checked_mul(d)
        {
            let inner = inner.clone() + Dim::from(rest.constant) * Dim::from(by);
            return whole + inner.floor_div(&Dim::from(product));
        }
        whole + Dim::atom(Atom::Quotient(rest.into_dim(), Dim::from(d)))
    }

    /// self / divisor where the divisor is one product of atoms that divides every term, or the quotient is one product.
    fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        let sum = divisor.to_sum();
        let (factors, coefficient) = sum.products.iter().next()?;
        if sum.products.len() == 1 && sum.constant == 0 {
            self.over_product(factors, *coefficient)
        } else {
            let dividend = self.to_sum();
            let terms = sum.products.len() + usize::from(sum.constant != 0);
            if dividend.constant != 0 || dividend.products.len() != terms {
                return None;
            }
            let terms = dividend.products.into_iter().map(|(atoms, c)| {
                let mut term = Sum::default();
                term.add(atoms, c);
                term.into_dim()
            });
            terms
                .filter_map(|term| term.over_product(factors, *coefficient))
                .find(|quotient| quotient.clone() * divisor.clone() == *self)
        }
    }

    /// self over a product of atoms that divides every term.
    fn over_product(&self, factors: &[Atom], coefficient: i64) -> Option<Dim> {
        let sum = self.to_sum();
        if sum.constant != 0 || sum.products.is_empty() {
            return None;
        }
        let mut quotient = Sum::default();
        for (mut atoms, c) in sum.products {
            for factor in factors {
                atoms.remove(atoms.iter().position(|a| a == factor)?);
            }
            if c % coefficient != 0 {
                return None;
            }
            if atoms.is_empty() {
                quotient.constant = quotient.constant.saturating_add(c / coefficient)
            } else {
                quotient.add(atoms, c / coefficient)
            }
        }
        Some(quotient.into_dim())
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return Dim::from(a.saturating_add(b));
        }
        let (mut sum, other) = (self.to_sum(), other.to_sum());
        for (factors, c) in other.products {
            sum.add(factors, c);
        }
        sum.constant = sum.constant.saturating_add(other.constant);
        sum.into_dim()
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return Dim::from(a.saturating_mul(b));
        }
        let (a, b) = (self.to_sum(), other.to_sum());
        let mut product = Sum {
            constant: a.constant.saturating_mul(b.constant),
            ..Sum::default()
        };
        for (factors, c) in &a.products {
            product.add(factors.clone(), c.saturating_mul(b.constant));
            for (others, d) in &b.products {
                let mut joined = [factors.as_slice(), others].concat();
                joined.sort();
                product.add(joined, c.saturating_mul(*d));
            }
        }
        for (others, d) in b.products {
            product.add(others, d.saturating_mul(a.constant));
        }
        product.into_dim()
    }
}

impl Neg for Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        self * Dim::from(-1)
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}
