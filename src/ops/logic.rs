//! Comparisons, and arithmetic of truth values, on the elements of small tensors. What cannot be told is [`Element::Unknown`].

use super::NodeView;
use super::arithmetic::at_least;
use crate::facts::{Dim, Element};

/// `when_true` or `when_false`.
pub(super) fn choose(_: &NodeView, x: &[Element]) -> Element {
    match x {
        [Element::Bool(true), when_true, _] => when_true.clone(),
        [Element::Bool(false), _, when_false] => when_false.clone(),
        [_, when_true, when_false] if when_true == when_false => when_true.clone(),
        _ => Element::Unknown,
    }
}

fn truth(truth: Option<bool>) -> Element {
    truth.map_or(Element::Unknown, Element::Bool)
}

/// Compares: whole numbers by `dims`, real ones by `reals`.
fn compare(
    x: &[Element],
    dims: fn(&Dim, &Dim) -> Option<bool>,
    reals: fn(&f64, &f64) -> bool,
) -> Element {
    let [a, b] = x else { return Element::Unknown };
    truth(match (a.dim(), b.dim(), a.real(), b.real()) {
        (Some(a), Some(b), ..) => dims(&a, &b),
        (_, _, Some(a), Some(b)) => Some(reals(&a, &b)),
        _ => None,
    })
}

/// Whether the two are equal.
pub(super) fn equal(_: &NodeView, x: &[Element]) -> Element {
    compare(x, same, |a, b| a == b)
}

fn same(a: &Dim, b: &Dim) -> Option<bool> {
    let apart = |low: &Dim, high: &Dim| at_least(low, high) == Some(false);
    if a == b {
        return Some(true);
    }
    (a.differs(b) || apart(a, b) || apart(b, a)).then_some(false)
}

/// Whether the first is smaller.
pub(super) fn less(_: &NodeView, x: &[Element]) -> Element {
    compare(x, |a, b| at_least(a, b).map(|truth| !truth), |a, b| a < b)
}

/// Whether the first is smaller or equal.
pub(super) fn less_or_equal(_: &NodeView, x: &[Element]) -> Element {
    compare(x, |a, b| at_least(b, a), |a, b| a <= b)
}

/// Whether the first is larger.
pub(super) fn greater(_: &NodeView, x: &[Element]) -> Element {
    compare(x, |a, b| at_least(b, a).map(|truth| !truth), |a, b| a > b)
}

/// Whether the first is larger or equal.
pub(super) fn greater_or_equal(_: &NodeView, x: &[Element]) -> Element {
    compare(x, at_least, |a, b| a >= b)
}

/// Whether both hold.
pub(super) fn and(_: &NodeView, x: &[Element]) -> Element {
    match x {
        [Element::Bool(false), _] | [_, Element::Bool(false)] => Element::Bool(false),
        [Element::Bool(true), Element::Bool(true)] => Element::Bool(true),
        _ => Element::Unknown,
    }
}

/// Whether one holds.
pub(super) fn or(_: &NodeView, x: &[Element]) -> Element {
    match x {
        [Element::Bool(true), _] | [_, Element::Bool(true)] => Element::Bool(true),
        [Element::Bool(false), Element::Bool(false)] => Element::Bool(false),
        _ => Element::Unknown,
    }
}

/// Whether exactly one holds.
pub(super) fn xor(_: &NodeView, x: &[Element]) -> Element {
    match x {
        [Element::Bool(a), Element::Bool(b)] => Element::Bool(a != b),
        _ => Element::Unknown,
    }
}

/// Whether it does not hold.
pub(super) fn not(_: &NodeView, x: &[Element]) -> Element {
    match x {
        [Element::Bool(a)] => Element::Bool(!a),
        _ => Element::Unknown,
    }
}
