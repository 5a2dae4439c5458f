//! Axes of operators that only move elements: which axis an attribute means, and labels named by letters.

use super::{InferError, NodeView};
use crate::facts::{Dim, Element};
use crate::relation::{Builder, LabelId, Port, Reason};

/// Hands out labels named `a`, `b`, `c` … in order of first appearance; an axis of 1 needs no name.
pub(super) struct Letters(usize);

const ALPHABET: [&str; 26] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x", "y", "z",
];

impl Letters {
    /// From `a` on.
    pub fn new() -> Self {
        Letters(0)
    }

    /// From `u` on, as segments of one axis are named.
    pub fn segments() -> Self {
        Letters(20)
    }

    fn next(&mut self) -> &'static str {
        let letter = ALPHABET[self.0 % ALPHABET.len()];
        self.0 += 1;
        letter
    }

    /// A label whose indices may go.
    pub fn free(&mut self, builder: &mut Builder, extent: &Dim) -> LabelId {
        if extent.is_one() {
            builder.fill(Dim::Num(1))
        } else {
            builder.free(self.next(), extent.clone())
        }
    }

    /// A label whose indices all stay.
    pub fn fixed(&mut self, builder: &mut Builder, extent: &Dim, reason: &Reason) -> LabelId {
        if extent.is_one() {
            builder.fill(Dim::Num(1))
        } else {
            builder.fixed(self.next(), extent.clone(), reason.clone())
        }
    }

    /// One free label per axis.
    pub fn all(&mut self, builder: &mut Builder, extents: &[Dim]) -> Vec<LabelId> {
        extents
            .iter()
            .map(|extent| self.free(builder, extent))
            .collect()
    }
}

/// A free label of this name, unless there is only one index.
pub(super) fn named(builder: &mut Builder, name: &'static str, extent: &Dim) -> LabelId {
    if extent.is_one() {
        builder.fill(Dim::Num(1))
    } else {
        builder.free(name, extent.clone())
    }
}

/// Describes an input that says what to do (a shape, bounds, sizes): none of its elements may go.
pub(super) fn operand(builder: &mut Builder, input: u32, name: &'static str) {
    const REASON: Reason = Reason::operator("says what the operator does");
    let Some(dims) = builder.shape(Port::In(input)).map(<[Dim]>::to_vec) else {
        return;
    };
    let labels: Vec<LabelId> = dims
        .into_iter()
        .map(|dim| builder.fixed("", dim, REASON))
        .collect();
    builder.port(Port::In(input), name, labels);
}

/// The axis that an attribute names, made non-negative.
pub(super) fn axis_attribute(
    node: &NodeView,
    name: &str,
    default: i64,
    rank: usize,
) -> Result<usize, InferError> {
    axis_number(node.int(name).unwrap_or(default), rank)
}

/// An axis number made non-negative.
pub(super) fn axis_number(axis: i64, rank: usize) -> Result<usize, InferError> {
    NodeView::axis(axis, rank)
        .ok_or_else(|| InferError(format!("axis {axis} of a tensor of rank {rank}")))
}

/// Axis numbers made non-negative, each at most once.
pub(super) fn axis_numbers(axes: &[i64], rank: usize) -> Result<Vec<usize>, InferError> {
    let axes = axes
        .iter()
        .map(|axis| axis_number(*axis, rank))
        .collect::<Result<Vec<_>, _>>()?;
    match axes
        .iter()
        .enumerate()
        .find(|(at, axis)| axes[..*at].contains(axis))
    {
        Some((_, axis)) => Err(InferError(format!("axis {axis} is named twice"))),
        None => Ok(axes),
    }
}

/// Of two extents that must be equal the better known one; an error if they cannot be.
pub(super) fn same_extent(a: &Dim, b: &Dim, what: &str) -> Result<Dim, InferError> {
    if a.differs(b) {
        return Err(InferError(format!("{what}: {a} and {b} should be equal")));
    }
    Ok(if a.num().is_none() && b.num().is_some() {
        b.clone()
    } else {
        a.clone()
    })
}

/// A list given as an attribute (older versions) or as an input (newer ones), each element as far as it is known; `None`
/// when not even their number is.
pub(super) fn list(node: &NodeView, attribute: &str, input: usize) -> Option<Vec<Option<Dim>>> {
    if let Some(ints) = node.ints(attribute) {
        return Some(ints.iter().map(|number| Some(Dim::Num(*number))).collect());
    }
    if let Some(contents) = node.contents(input) {
        return Some(contents.0.iter().map(Element::dim).collect());
    }
    node.shape(input)?
        .first()?
        .count()
        .filter(|count| *count <= 64)
        .map(|count| vec![None; count])
}
