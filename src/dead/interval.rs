//! Bounds on numbers.

/// All numbers from `low` to `high`; none where `low` is above `high`. What is not known is [`Interval::ALL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub const ALL: Interval = Interval {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };
    pub const NONE: Interval = Interval {
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
    };
    pub const ZERO: Interval = Interval::point(0.0);

    /// One number.
    pub const fn point(number: f64) -> Self {
        Interval {
            low: number,
            high: number,
        }
    }

    /// Whether there is no number in it.
    pub fn is_none(self) -> bool {
        self.low > self.high
    }

    /// Whether all numbers in it are 0.
    pub fn is_zero(self) -> bool {
        self.is_none() || self == Interval::ZERO
    }

    /// The only number in it, if it is finite.
    pub fn number(self) -> Option<f64> {
        (self.low == self.high && self.low.is_finite()).then_some(self.low)
    }

    /// The least that holds both.
    pub fn hull(self, other: Self) -> Self {
        Interval {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    pub fn add(self, other: Self) -> Self {
        if self.is_none() || other.is_none() {
            return Interval::NONE;
        }
        Interval {
            low: self.low + other.low,
            high: self.high + other.high,
        }
    }

    pub fn negated(self) -> Self {
        Interval {
            low: -self.high,
            high: -self.low,
        }
    }

    pub fn sub(self, other: Self) -> Self {
        self.add(other.negated())
    }

    /// Products. A zero stays zero whatever it is multiplied by, for numbers in a model that works are finite.
    pub fn mul(self, other: Self) -> Self {
        if self.is_none() || other.is_none() {
            return Interval::NONE;
        }
        if self.is_zero() || other.is_zero() {
            return Interval::ZERO;
        }
        let product = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let corners = [
            product(self.low, other.low),
            product(self.low, other.high),
            product(self.high, other.low),
            product(self.high, other.high),
        ];
        Interval {
            low: corners.into_iter().fold(f64::INFINITY, f64::min),
            high: corners.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Quotients; all numbers where the divisor may be 0.
    pub fn div(self, other: Self) -> Self {
        if other.is_none() {
            return Interval::NONE;
        }
        if other.low <= 0.0 && other.high >= 0.0 {
            return Interval::ALL;
        }
        self.mul(Interval {
            low: 1.0 / other.high,
            high: 1.0 / other.low,
        })
    }

    /// The larger of a number of each.
    pub fn max(self, other: Self) -> Self {
        if self.is_none() || other.is_none() {
            return Interval::NONE;
        }
        Interval {
            low: self.low.max(other.low),
            high: self.high.max(other.high),
        }
    }

    /// The smaller of a number of each.
    pub fn min(self, other: Self) -> Self {
        self.negated().max(other.negated()).negated()
    }

    /// Absolute values.
    pub fn magnitude(self) -> Self {
        if self.is_none() {
            return self;
        }
        let least = if self.low <= 0.0 && self.high >= 0.0 {
            0.0
        } else {
            self.low.abs().min(self.high.abs())
        };
        Interval {
            low: least,
            high: self.low.abs().max(self.high.abs()),
        }
    }

    /// Sums of so many numbers; `None`: of any number of them.
    pub fn times(self, count: Option<f64>) -> Self {
        self.mul(Interval {
            low: count.unwrap_or(0.0),
            high: count.unwrap_or(f64::INFINITY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(low: f64, high: f64) -> Interval {
        Interval { low, high }
    }

    #[test]
    fn arithmetic_holds_every_result() {
        let samples = [
            from(-2.0, 3.0),
            from(0.0, 0.0),
            from(0.5, 0.5),
            from(-4.0, -1.0),
            from(1.0, 6.0),
        ];
        let inside = |interval: Interval, number: f64| {
            interval.low <= number + 1e-12 && number <= interval.high + 1e-12
        };
        for a in samples {
            for b in samples {
                for (x, y) in [
                    (a.low, b.low),
                    (a.low, b.high),
                    (a.high, b.low),
                    (a.high, b.high),
                ] {
                    assert!(inside(a.add(b), x + y) && inside(a.sub(b), x - y));
                    assert!(inside(a.mul(b), x * y) && inside(a.max(b), x.max(y)));
                    assert!(inside(a.min(b), x.min(y)) && inside(a.hull(b), x));
                    assert!(inside(a.magnitude(), x.abs()));
                    assert!(y == 0.0 || inside(a.div(b), x / y));
                }
            }
        }
    }

    #[test]
    fn zero_times_the_unknown_is_zero() {
        assert!(Interval::ZERO.mul(Interval::ALL).is_zero());
        assert_eq!(Interval::ALL.mul(from(1.0, 2.0)), Interval::ALL);
        assert_eq!(
            from(0.0, f64::INFINITY).mul(from(-1.0, 0.0)),
            from(f64::NEG_INFINITY, 0.0)
        );
        assert_eq!(from(-1.0, 2.0).times(Some(3.0)), from(-3.0, 6.0));
        assert_eq!(from(-1.0, 0.0).times(None), from(f64::NEG_INFINITY, 0.0));
    }

    #[test]
    fn what_may_be_zero_divides_nothing() {
        assert_eq!(Interval::ZERO.div(from(-1.0, 1.0)), Interval::ALL);
        assert!(Interval::ZERO.div(from(1.0, 2.0)).is_zero());
    }
}
