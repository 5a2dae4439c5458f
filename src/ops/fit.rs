//! Whether the tensors of a node fit each other, and whether enough is known of them.

use super::{InferError, NodeView};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Port, Reason, Relation};

/// The relation of a node with a tensor of unknown rank: its axes cannot be tied to those of the others.
pub(super) fn unless_ranked(node: &NodeView) -> Option<Relation> {
    let strange = |fact: &Option<&Fact>| fact.is_some_and(|fact| fact.shape.is_none());
    let named = node
        .outputs
        .iter()
        .zip(&node.node.output)
        .filter(|(_, name)| !name.is_empty())
        .map(|(fact, _)| fact);
    let unranked = node.inputs.iter().any(strange)
        || named.into_iter().any(strange)
        || node.outputs.is_empty();
    unranked.then(|| node.frozen(Reason::operator("a tensor of unknown rank")))
}

/// An error when an input is given whose extents are known to differ from these.
pub(super) fn expect(node: &NodeView, input: usize, dims: &[&Dim]) -> Result<(), InferError> {
    let Some(found) = node.shape(input) else {
        return Ok(());
    };
    if found.len() == dims.len()
        && !found
            .iter()
            .zip(dims)
            .any(|(found, dim)| found.differs(dim))
    {
        return Ok(());
    }
    Err(InferError(format!(
        "input {input} has extents {found:?}, {dims:?} are expected"
    )))
}

/// The relation of a node whose shapes do not fit each other.
pub(super) fn frozen_misfit(node: &NodeView) -> Relation {
    node.frozen(Reason::operator("shapes that do not fit"))
}

/// Describes an input whose indices all stay.
pub(super) fn freeze_port(
    builder: &mut Builder,
    node: &NodeView,
    input: usize,
    name: &'static str,
    reason: &Reason,
) {
    let dims = node.shape(input).unwrap_or_default();
    let axes: Vec<LabelId> = dims
        .iter()
        .map(|dim| builder.fixed("", dim.clone(), reason.clone()))
        .collect();
    builder.port(Port::In(input as u32), name, axes);
}
