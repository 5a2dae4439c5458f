//! Operators in which nothing may go, but whose shapes are known, so that what follows them stays known.

use super::{InferError, NodeView, Operator};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{Reason, Relation};

/// An operator in which nothing may go.
pub(super) struct FrozenOperator {
    /// Why, in a few words.
    pub reason: &'static str,
    /// Its shapes.
    pub infer: fn(&NodeView) -> Result<Vec<Fact>, InferError>,
}

impl Operator for FrozenOperator {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        (self.infer)(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator(self.reason))
    }

    fn frozen_reason(&self) -> Option<&'static str> {
        Some(self.reason)
    }
}

/// One fact per output of the node: these, and nothing known of further ones.
pub(super) fn outputs(node: &NodeView, facts: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
    facts
        .into_iter()
        .chain(std::iter::repeat_with(Fact::default))
        .take(node.node.output.len())
        .collect()
}

/// Nothing is known of the outputs.
pub(super) fn unknown(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    Ok(outputs(node, []))
}

/// The first output is as the first input.
pub(super) fn same(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let fact = node.input(0).cloned().unwrap_or_default();
    Ok(outputs(node, [fact.with_contents(None)]))
}

/// A scalar of this type, the contents not known.
pub(super) fn scalar(dtype: Dtype) -> Fact {
    Fact::new(Some(dtype), Vec::new()).with_contents(Contents::new(vec![Element::Unknown]))
}

/// The extent that an input holds as its only element.
pub(super) fn extent_in(node: &NodeView, input: usize) -> Option<Dim> {
    match node.contents(input)?.dims()?.as_slice() {
        [dim] if dim.num().is_none_or(|number| number >= 0) => Some(dim.clone()),
        _ => None,
    }
}
