//! The extent of an axis: a number, or a polynomial over named symbols.

mod arithmetic;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

/// A product of symbols, sorted by name; empty for the constant term.
type Monomial = SmallVec<[Arc<str>; 2]>;

/// An extent. Equal values have equal representations, so `==` is a proof of equality (its
/// absence proves nothing when symbols are involved).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A known number. Contents of shape tensors may be negative (`-1` in a Reshape target).
    Num(i64),
    /// A polynomial in at least one symbol.
    Expr(Arc<Polynomial>),
}

/// Terms of one extent beyond which it is no longer followed as a polynomial.
const MOST_TERMS: usize = 64;
/// Symbols multiplied in one term, likewise.
const MOST_FACTORS: usize = 16;
/// Characters of a symbol's name; a longer name is told by its digest.
const LONGEST: usize = 512;

/// A sum of monomials with whole coefficients, none of them zero, in the order of the monomials. There is one for every axis whose
/// extent is not known, so it is small.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Polynomial(Box<[(Monomial, i64)]>);

impl From<BTreeMap<Monomial, i64>> for Polynomial {
    fn from(terms: BTreeMap<Monomial, i64>) -> Self {
        Polynomial(terms.into_iter().collect())
    }
}

impl Dim {
    /// A named, unknown extent, as `dim_param` declares.
    pub fn symbol(name: &str) -> Self {
        let monomial: Monomial = std::iter::once(Arc::from(name)).collect();
        Dim::Expr(Arc::new(Polynomial(Box::new([(monomial, 1)]))))
    }

    /// The number, if it is known.
    pub fn num(&self) -> Option<i64> {
        match self {
            Dim::Num(number) => Some(*number),
            Dim::Expr(_) => None,
        }
    }

    /// The number as a count, if it is known and not negative.
    pub fn count(&self) -> Option<usize> {
        self.num().and_then(|number| usize::try_from(number).ok())
    }

    /// Whether this is the number 1.
    pub fn is_one(&self) -> bool {
        *self == Dim::Num(1)
    }

    /// Whether the two are known to differ.
    pub fn differs(&self, other: &Dim) -> bool {
        matches!((self - other).num(), Some(difference) if difference != 0)
    }

    /// 1 when no coefficient is negative, -1 when none is positive; `None` when the sign depends on the symbols.
    pub fn sign(&self) -> Option<i64> {
        let terms = self.terms();
        match (
            terms.values().any(|coefficient| *coefficient < 0),
            terms.values().any(|coefficient| *coefficient > 0),
        ) {
            (true, true) => None,
            (true, false) => Some(-1),
            (false, _) => Some(1),
        }
    }

    /// Whether this cannot be negative, whatever the symbols (they are extents) stand for.
    pub fn is_count(&self) -> bool {
        match self {
            Dim::Num(number) => *number >= 0,
            // A symbol made of a difference (`floor((h - 3)/2)`) is only an extent where it is used as one.
            Dim::Expr(polynomial) => polynomial.0.iter().all(|(monomial, coefficient)| {
                *coefficient > 0 && !monomial.iter().any(|symbol| symbol.contains('-'))
            }),
        }
    }

    fn terms(&self) -> BTreeMap<Monomial, i64> {
        match self {
            Dim::Num(0) => BTreeMap::new(),
            Dim::Num(number) => BTreeMap::from([(Monomial::new(), *number)]),
            Dim::Expr(polynomial) => polynomial.0.iter().cloned().collect(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Monomial, i64>) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        let large =
            terms.len() > MOST_TERMS || terms.keys().any(|monomial| monomial.len() > MOST_FACTORS);
        match terms.len() {
            0 => Dim::Num(0),
            1 if terms
                .keys()
                .next()
                .is_some_and(|monomial| monomial.is_empty()) =>
            {
                Dim::Num(terms.values().next().copied().unwrap_or(0))
            }
            _ if large => Dim::Expr(Arc::new(terms.into())).as_symbol(),
            _ => Dim::Expr(Arc::new(terms.into())),
        }
    }

    /// An expression that is too large to follow, as a symbol that stands for it: equal expressions give the same symbol.
    fn as_symbol(&self) -> Dim {
        let mut digest = Digest::default();
        // A digest does not fail to take text.
        let _ = write!(digest, "{self}");
        Dim::symbol(&digest.name(!self.is_count()))
    }

    /// The symbol of an expression, as it is written or by its digest.
    fn composed(text: String) -> Dim {
        if text.len() <= LONGEST {
            return Dim::symbol(&text);
        }
        let mut digest = Digest::default();
        let _ = digest.write_str(&text);
        Dim::symbol(&digest.name(text.contains('-')))
    }

    /// `self / divisor` where the division leaves no remainder as a polynomial, else `None`.
    pub fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        if let (Dim::Num(a), Dim::Num(b)) = (self, divisor) {
            let exact = a.checked_rem(*b) == Some(0);
            return a.checked_div(*b).filter(|_| exact).map(Dim::Num);
        }
        if self == divisor {
            return Some(Dim::Num(1));
        }
        if divisor.is_one() {
            return Some(self.clone());
        }
        let by = divisor.terms();
        let lead = |terms: &BTreeMap<Monomial, i64>| {
            // Graded order: the degree first, so that the leading monomial is multiplicative.
            terms
                .iter()
                .max_by(|a, b| (a.0.len(), a.0).cmp(&(b.0.len(), b.0)))
                .map(|(monomial, coefficient)| (monomial.clone(), *coefficient))
        };
        let (by_monomial, by_coefficient) = lead(&by)?;
        let mut rest = self.clone();
        let mut quotient = Dim::Num(0);
        for _ in 0..64 {
            let Some((monomial, coefficient)) = lead(&rest.terms()) else {
                return Some(quotient);
            };
            let whole = coefficient.checked_rem(by_coefficient) == Some(0);
            let share = coefficient.checked_div(by_coefficient).filter(|_| whole)?;
            let mut left = monomial;
            for symbol in &by_monomial {
                let at = left.iter().position(|other| other == symbol)?;
                left.remove(at);
            }
            let step = Dim::from_terms(BTreeMap::from([(left, share)]));
            rest = &rest - &(&step * divisor);
            quotient = &quotient + &step;
        }
        None
    }

    /// `floor(self / divisor)`: exact where it can be, else a symbol named by the expression.
    /// `None` when the divisor is zero (or the quotient too large).
    pub fn floor_div(&self, divisor: &Dim) -> Option<Dim> {
        match (self, divisor) {
            (_, Dim::Num(0)) => None,
            (Dim::Num(a), Dim::Num(b)) => {
                let quotient = a.checked_div(*b)?;
                Some(Dim::Num(
                    quotient - i64::from(a.checked_rem(*b)? != 0 && (*a < 0) != (*b < 0)),
                ))
            }
            _ => Some(
                self.exact_div(divisor)
                    .unwrap_or_else(|| Dim::composed(format!("floor(({self})/({divisor}))"))),
            ),
        }
    }

    /// The smallest whole number at or above `self / divisor`; `None` when the divisor is zero.
    pub fn ceil_div(&self, divisor: i64) -> Option<Dim> {
        (self + &Dim::Num(divisor.saturating_sub(1))).floor_div(&Dim::Num(divisor))
    }

    /// The remainder of the division with the sign of the divisor; `None` when it is zero.
    pub fn modulo(&self, divisor: &Dim) -> Option<Dim> {
        match (self, divisor) {
            (_, Dim::Num(0)) => None,
            (Dim::Num(a), Dim::Num(b)) => {
                let rest = a.checked_rem(*b)?;
                Some(Dim::Num(if rest != 0 && (rest < 0) != (*b < 0) {
                    rest + b
                } else {
                    rest
                }))
            }
            _ if self.exact_div(divisor).is_some() => Some(Dim::Num(0)),
            _ => Some(Dim::composed(format!("mod({self},{divisor})"))),
        }
    }

    /// The larger of the two.
    pub fn max(&self, other: &Dim) -> Dim {
        self.pick(other, "max", i64::max)
    }

    /// The smaller of the two.
    pub fn min(&self, other: &Dim) -> Dim {
        self.pick(other, "min", i64::min)
    }

    fn pick(&self, other: &Dim, name: &str, choose: fn(i64, i64) -> i64) -> Dim {
        match (self, other) {
            (Dim::Num(a), Dim::Num(b)) => Dim::Num(choose(*a, *b)),
            _ if self == other => self.clone(),
            _ => {
                let (low, high) = if self <= other {
                    (self, other)
                } else {
                    (other, self)
                };
                Dim::composed(format!("{name}({low},{high})"))
            }
        }
    }

    /// The extent that broadcasting two axes gives (ONNX's multidirectional rule). Two symbols that
    /// are not known to be equal are taken to be; a number wins over a symbol, for only 1 could
    /// stand beside it.
    pub fn broadcast(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Num(1), _) => other.clone(),
            (_, Dim::Num(1)) => self.clone(),
            (Dim::Num(_), _) => self.clone(),
            (_, Dim::Num(_)) => other.clone(),
            _ => self.clone(),
        }
    }

    /// What it is when these symbols stand for these numbers; `None` when another symbol occurs.
    #[cfg(test)]
    pub(crate) fn at(&self, symbols: &[(String, i64)]) -> Option<i64> {
        let number = |symbol: &Arc<str>| {
            symbols
                .iter()
                .find(|(name, _)| **name == **symbol)
                .map(|(_, number)| *number)
        };
        let monomial = |monomial: &Monomial| {
            monomial
                .iter()
                .try_fold(1, |product, symbol| Some(product * number(symbol)?))
        };
        self.terms()
            .iter()
            .try_fold(0, |sum, (symbols, coefficient)| {
                Some(sum + coefficient * monomial(symbols)?)
            })
    }

    /// The product of many.
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        dims.into_iter()
            .fold(Dim::Num(1), |product, dim| &product * dim)
    }
}

/// The name of an expression that is too long to be written out.
#[derive(Default)]
struct Digest {
    hash: Sha256,
    /// Whether an extent occurs that has no meaning outside of its subgraph.
    inner: bool,
}

impl Digest {
    /// By the first 128 bits; the marks that others look for in names stay.
    fn name(self, negative: bool) -> String {
        let hex = crate::hash::hex(&self.hash.finalize()[..16]);
        format!(
            "{}expression {}{hex}",
            if self.inner { "?" } else { "" },
            if negative { "-" } else { "" }
        )
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.inner |= text.contains('?');
        self.hash.update(text.as_bytes());
        Ok(())
    }
}

impl From<i64> for Dim {
    fn from(number: i64) -> Self {
        Dim::Num(number)
    }
}

impl From<usize> for Dim {
    fn from(number: usize) -> Self {
        Dim::Num(number as i64)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let polynomial = match self {
            Dim::Num(number) => return write!(f, "{number}"),
            Dim::Expr(polynomial) => polynomial,
        };
        for (position, (monomial, coefficient)) in polynomial.0.iter().rev().enumerate() {
            let sign = match (position, *coefficient < 0) {
                (0, true) => "-",
                (0, false) => "",
                (_, true) => " - ",
                (_, false) => " + ",
            };
            f.write_str(sign)?;
            let size = coefficient.unsigned_abs();
            if monomial.is_empty() {
                write!(f, "{size}")?;
            } else {
                if size != 1 {
                    write!(f, "{size}*")?;
                }
                f.write_str(&monomial.join("*"))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self
            .0
            .iter()
            .map(|(monomial, coefficient)| (monomial, coefficient));
        f.debug_map().entries(terms).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_quotients_cancel() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        let product = &(&b * &s) * &Dim::Num(384);
        assert_eq!(
            product.exact_div(&(&s * &Dim::Num(12))),
            Some(&b * &Dim::Num(32))
        );
        let odd = &(&b + &Dim::Num(1)) * &(&s - &Dim::Num(2));
        assert_eq!(odd.exact_div(&(&s - &Dim::Num(2))), Some(&b + &Dim::Num(1)));
        assert_eq!(odd.exact_div(&Dim::symbol("t")), None);
    }

    #[test]
    fn the_smallest_number_has_no_opposite() {
        let least = Dim::Num(i64::MIN);
        assert_eq!(least.exact_div(&Dim::Num(-1)), None);
        assert_eq!(least.exact_div(&Dim::Num(0)), None);
        assert!(!least.differs(&least));
    }

    #[test]
    fn expressions_end_where_they_are_too_large_to_follow() {
        let sum = |symbols: &str| {
            symbols.chars().fold(Dim::Num(1), |sum, name| {
                &sum + &Dim::symbol(&name.to_string())
            })
        };
        let grown = |order: &str| (0..40).fold(sum(order), |dim, _| &(&dim * &dim) + &Dim::Num(1));
        assert_eq!(grown("abcdefgh"), grown("hgfedcba"));
        assert_ne!(grown("abcdefgh"), grown("abcdefg"));
        assert!(grown("abcdefgh").is_count() && grown("abcdefgh").to_string().len() < 20 * LONGEST);
        let power = (0..40).fold(Dim::symbol("a"), |dim, _| &dim * &dim);
        assert!(power.to_string().len() < 20 * LONGEST);
        let halves = (0..40).fold(Dim::symbol("a"), |dim, _| {
            Dim::max(&dim, &(&dim + &Dim::Num(1)))
                .floor_div(&Dim::Num(2))
                .unwrap()
        });
        assert!(halves.to_string().len() <= LONGEST);
        let negative = (0..10).fold(&Dim::Num(1) - &sum("abcdefgh"), |dim, _| {
            &(&dim * &dim) - &dim
        });
        assert!(!negative.is_count());
    }

    #[test]
    fn equal_expressions_are_equal_values() {
        let h = Dim::symbol("h");
        let half = |dim: &Dim| dim.floor_div(&Dim::Num(2)).unwrap();
        assert_eq!(half(&(&h + &Dim::Num(1))), half(&(&Dim::Num(1) + &h)));
        assert_eq!(&(&h + &h) - &h, h);
        assert_eq!(Dim::Num(-7).floor_div(&Dim::Num(2)), Some(Dim::Num(-4)));
        assert_eq!(Dim::Num(7).floor_div(&Dim::Num(-2)), Some(Dim::Num(-4)));
    }
}
