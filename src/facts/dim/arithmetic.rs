//! Sums and products of extents. What changes nothing hands the other operand on, so that equal extents stay one in memory.

use std::collections::BTreeMap;
use std::ops::{Add, Mul, Sub};

use super::{Dim, Monomial};

impl Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        if let (Dim::Num(a), Dim::Num(b)) = (self, other) {
            return Dim::Num(a.saturating_add(*b));
        }
        match (self, other) {
            (Dim::Num(0), _) => return other.clone(),
            (_, Dim::Num(0)) => return self.clone(),
            _ => {}
        }
        let mut terms = self.terms();
        for (monomial, coefficient) in other.terms() {
            let entry = terms.entry(monomial).or_insert(0i64);
            *entry = entry.saturating_add(coefficient);
        }
        Dim::from_terms(terms)
    }
}

impl Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim {
        if let (Dim::Num(a), Dim::Num(b)) = (self, other) {
            return Dim::Num(a.saturating_sub(*b));
        }
        if self == other {
            return Dim::Num(0);
        }
        self + &(other * &Dim::Num(-1))
    }
}

impl Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        if let (Dim::Num(a), Dim::Num(b)) = (self, other) {
            return Dim::Num(a.saturating_mul(*b));
        }
        match (self, other) {
            (Dim::Num(1), _) => return other.clone(),
            (_, Dim::Num(1)) => return self.clone(),
            _ => {}
        }
        let mut terms = BTreeMap::new();
        let others = other.terms();
        for (left, a) in self.terms() {
            for (right, b) in &others {
                let mut monomial: Monomial = left.iter().chain(right.iter()).cloned().collect();
                monomial.sort();
                let entry = terms.entry(monomial).or_insert(0i64);
                *entry = entry.saturating_add(a.saturating_mul(*b));
            }
        }
        Dim::from_terms(terms)
    }
}
