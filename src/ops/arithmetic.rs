//! Arithmetic on the elements of small tensors, as element-wise operators do it.
//!
//! Whole numbers may be expressions over symbols; real numbers are rounded to the type of the tensor after every step. A
//! whole number in a tensor of real numbers is a symbolic one that was converted: exact, as the type has enough digits for
//! extents. What cannot be told is [`Element::Unknown`].

use super::NodeView;
use crate::facts::{Dim, Element};
use crate::proto::Dtype;

/// Computes one element of an output from the aligned elements of the inputs.
pub(super) type Compute = fn(&NodeView, &[Element]) -> Element;

/// Rounds a real number to a type of real numbers.
fn round_to(dtype: Option<Dtype>, number: f64) -> f64 {
    match dtype {
        Some(Dtype::Float) => f64::from(number as f32),
        Some(Dtype::Float16) => half::f16::from_f64(number).to_f64(),
        Some(Dtype::Bfloat16) => half::bf16::from_f64(number).to_f64(),
        _ => number,
    }
}

/// A whole number, if the type can hold it.
fn fitting(dtype: Option<Dtype>, dim: Option<Dim>) -> Element {
    let Some(dim) = dim else {
        return Element::Unknown;
    };
    let range = match dtype {
        Some(Dtype::Int8) => i64::from(i8::MIN)..=i64::from(i8::MAX),
        Some(Dtype::Uint8) => 0..=i64::from(u8::MAX),
        Some(Dtype::Int16) => i64::from(i16::MIN)..=i64::from(i16::MAX),
        Some(Dtype::Uint16) => 0..=i64::from(u16::MAX),
        Some(Dtype::Int32) => i64::from(i32::MIN)..=i64::from(i32::MAX),
        Some(Dtype::Uint32) => 0..=i64::from(u32::MAX),
        Some(Dtype::Uint64) => 0..=i64::MAX,
        Some(Dtype::Int64) => i64::MIN..=i64::MAX,
        Some(dtype) if dtype.is_float() => {
            return dim.num().map_or(Element::Int(dim), |number| {
                Element::Float(round_to(Some(dtype), number as f64))
            });
        }
        _ => return Element::Unknown,
    };
    if dim.num().is_none_or(|number| range.contains(&number)) {
        Element::Int(dim)
    } else {
        Element::Unknown
    }
}

/// A real number of a type.
fn real(dtype: Option<Dtype>, number: f64) -> Element {
    Element::Float(round_to(dtype, number))
}

fn is_float(dtype: Option<Dtype>) -> bool {
    dtype.is_some_and(Dtype::is_float)
}

/// Two operands of one type: `reals` where both are known numbers of a real type, else `dims`.
fn two(
    dtype: Option<Dtype>,
    a: &Element,
    b: &Element,
    dims: fn(&Dim, &Dim) -> Option<Dim>,
    reals: fn(f64, f64) -> f64,
) -> Element {
    if let (true, Some(a), Some(b)) = (is_float(dtype), a.real(), b.real()) {
        return real(dtype, reals(a, b));
    }
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => fitting(dtype, dims(&a, &b)),
        _ => Element::Unknown,
    }
}

/// The element as a whole number, also where it is a real number without a fraction.
pub(super) fn whole(element: &Element) -> Option<Dim> {
    match element {
        Element::Float(number) => {
            truncate(*number).filter(|dim| dim.num().is_some_and(|whole| whole as f64 == *number))
        }
        other => other.dim(),
    }
}

/// A real number without its fraction, if 64 bits can hold that.
fn truncate(number: f64) -> Option<Dim> {
    const BOUND: f64 = 9.2e18;
    (number.abs() < BOUND).then(|| Dim::Num(number.trunc() as i64))
}

fn plus(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Num(a), Dim::Num(b)) => a.checked_add(*b).map(Dim::Num),
        _ => Some(a + b),
    }
}

fn minus(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Num(a), Dim::Num(b)) => a.checked_sub(*b).map(Dim::Num),
        _ => Some(a - b),
    }
}

fn times(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Num(a), Dim::Num(b)) => a.checked_mul(*b).map(Dim::Num),
        _ => Some(a * b),
    }
}

/// Division towards zero.
fn over(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Num(a), Dim::Num(b)) => a.checked_div(*b).map(Dim::Num),
        _ => a.exact_div(b).or_else(|| {
            if a.is_count() && b.is_count() {
                a.floor_div(b)
            } else {
                None
            }
        }),
    }
}

fn larger(a: &Dim, b: &Dim) -> Option<Dim> {
    match at_least(a, b) {
        Some(true) => Some(a.clone()),
        Some(false) => Some(b.clone()),
        None => Some(a.max(b)),
    }
}

fn smaller(a: &Dim, b: &Dim) -> Option<Dim> {
    match at_least(a, b) {
        Some(true) => Some(b.clone()),
        Some(false) => Some(a.clone()),
        None => Some(a.min(b)),
    }
}

/// Whether `a ≥ b`, if that can be told.
pub(super) fn at_least(a: &Dim, b: &Dim) -> Option<bool> {
    if let (Dim::Num(a), Dim::Num(b)) = (a, b) {
        return Some(a >= b);
    }
    if (a - b).is_count() {
        return Some(true);
    }
    (&(b - a) - &Dim::Num(1)).is_count().then_some(false)
}

/// Sum.
pub(super) fn add(node: &NodeView, x: &[Element]) -> Element {
    fold(node, x, plus, |a, b| a + b)
}

/// Difference.
pub(super) fn sub(node: &NodeView, x: &[Element]) -> Element {
    fold(node, x, minus, |a, b| a - b)
}

/// Product.
pub(super) fn mul(node: &NodeView, x: &[Element]) -> Element {
    fold(node, x, times, |a, b| a * b)
}

/// Quotient, of whole numbers towards zero.
pub(super) fn div(node: &NodeView, x: &[Element]) -> Element {
    if is_float(node.dtype(0)) {
        fold(node, x, Dim::exact_div, |a, b| a / b)
    } else {
        fold(node, x, over, |a, b| a / b)
    }
}

/// The largest.
pub(super) fn max(node: &NodeView, x: &[Element]) -> Element {
    fold(node, x, larger, |a, b| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            a.max(b)
        }
    })
}

/// The smallest.
pub(super) fn min(node: &NodeView, x: &[Element]) -> Element {
    fold(node, x, smaller, |a, b| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            a.min(b)
        }
    })
}

fn fold(
    node: &NodeView,
    x: &[Element],
    dims: fn(&Dim, &Dim) -> Option<Dim>,
    reals: fn(f64, f64) -> f64,
) -> Element {
    let dtype = node.dtype(0);
    x.iter()
        .cloned()
        .reduce(|a, b| two(dtype, &a, &b, dims, reals))
        .unwrap_or(Element::Unknown)
}

/// Remainder: with the sign of the divisor, or by `fmod` that of the dividend.
pub(super) fn modulo(node: &NodeView, x: &[Element]) -> Element {
    let [a, b] = x else { return Element::Unknown };
    match (node.int("fmod").unwrap_or(0) != 0, is_float(node.dtype(0))) {
        (true, true) => two(node.dtype(0), a, b, |_, _| None, |a, b| a % b),
        (true, false) => two(
            node.dtype(0),
            a,
            b,
            |a, b| a.num()?.checked_rem(b.num()?).map(Dim::Num),
            |a, b| a % b,
        ),
        (false, true) => Element::Unknown,
        (false, false) => two(node.dtype(0), a, b, Dim::modulo, |a, b| a % b),
    }
}

/// Power; the exponent may be of another type.
pub(super) fn pow(node: &NodeView, x: &[Element]) -> Element {
    let [base, exponent] = x else {
        return Element::Unknown;
    };
    let dtype = node.dtype(0);
    if let (true, Some(base), Some(exponent)) = (is_float(dtype), base.real(), exponent.real()) {
        return real(dtype, base.powf(exponent));
    }
    let exponent = whole(exponent)
        .and_then(|exponent| exponent.count())
        .and_then(|exponent| u32::try_from(exponent).ok());
    match (whole(base), exponent) {
        (Some(Dim::Num(base)), Some(exponent)) => {
            fitting(dtype, base.checked_pow(exponent).map(Dim::Num))
        }
        (Some(base), Some(exponent @ 0..=4)) => fitting(
            dtype,
            Some((0..exponent).fold(Dim::Num(1), |power, _| &power * &base)),
        ),
        _ => Element::Unknown,
    }
}

/// The mean of all arguments.
pub(super) fn mean(node: &NodeView, x: &[Element]) -> Element {
    match add(node, x) {
        Element::Float(sum) => real(node.dtype(0), sum / x.len() as f64),
        _ => Element::Unknown,
    }
}

fn one(
    node: &NodeView,
    x: &[Element],
    dims: fn(&Dim) -> Option<Dim>,
    reals: fn(f64) -> f64,
) -> Element {
    let dtype = node.dtype(0);
    match x {
        [Element::Float(number)] => real(dtype, reals(*number)),
        [Element::Int(dim)] => fitting(dtype, dims(dim)),
        _ => Element::Unknown,
    }
}

/// The number without its sign.
pub(super) fn abs(node: &NodeView, x: &[Element]) -> Element {
    one(
        node,
        x,
        |dim| {
            if dim.is_count() {
                Some(dim.clone())
            } else {
                dim.num()?.checked_abs().map(Dim::Num)
            }
        },
        f64::abs,
    )
}

/// The number with the opposite sign.
pub(super) fn neg(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |dim| minus(&Dim::Num(0), dim), |number| -number)
}

/// The next whole number at or below.
pub(super) fn floor(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |dim| Some(dim.clone()), f64::floor)
}

/// The next whole number at or above.
pub(super) fn ceil(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |dim| Some(dim.clone()), f64::ceil)
}

/// The nearest whole number, halves to the even one.
pub(super) fn round(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |dim| Some(dim.clone()), f64::round_ties_even)
}

/// Square root.
pub(super) fn sqrt(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |_| None, f64::sqrt)
}

/// One divided by the number.
pub(super) fn reciprocal(node: &NodeView, x: &[Element]) -> Element {
    one(node, x, |_| None, |number| 1.0 / number)
}

/// The number, or zero where it is negative.
pub(super) fn relu(node: &NodeView, x: &[Element]) -> Element {
    one(
        node,
        x,
        |dim| larger(dim, &Dim::Num(0)),
        |number| if number < 0.0 { 0.0 } else { number },
    )
}

/// −1, 0 or 1.
pub(super) fn sign(node: &NodeView, x: &[Element]) -> Element {
    one(
        node,
        x,
        |dim| dim.num().map(|number| Dim::Num(number.signum())),
        |number| if number == 0.0 { 0.0 } else { number.signum() },
    )
}

/// The number within bounds that may be left out.
pub(super) fn clip(node: &NodeView, x: &[Element]) -> Element {
    let mut result = x.first().cloned().unwrap_or(Element::Unknown);
    for (input, attribute, bound) in [(1, "min", max as Compute), (2, "max", min as Compute)] {
        let limit = match (node.has_input(input), node.float(attribute)) {
            (true, _) => x.get(input).cloned().unwrap_or(Element::Unknown),
            (false, Some(limit)) => Element::Float(f64::from(limit)),
            (false, None) => continue,
        };
        result = bound(node, &[result, limit]);
    }
    result
}

/// The number in the type of `dtype`.
pub(super) fn cast(dtype: Option<Dtype>, x: &Element) -> Element {
    match dtype {
        Some(Dtype::Bool) => match x {
            Element::Bool(truth) => Element::Bool(*truth),
            Element::Float(number) => Element::Bool(*number != 0.0),
            Element::Int(dim) if *dim == Dim::Num(0) => Element::Bool(false),
            Element::Int(dim) if dim.differs(&Dim::Num(0)) => Element::Bool(true),
            _ => Element::Unknown,
        },
        Some(dtype) if dtype.is_float() => match x {
            Element::Float(number) => real(Some(dtype), *number),
            other => fitting(Some(dtype), other.dim()),
        },
        Some(dtype) if dtype.is_integer() => match x {
            Element::Float(number) => fitting(Some(dtype), truncate(*number)),
            other => fitting(Some(dtype), other.dim()),
        },
        _ => Element::Unknown,
    }
}
