//! Multiply-accumulates of a model as it is.

use std::sync::Arc;

use crate::analysis::{Facts, Pins, constants, infer, relate};
use crate::facts::Dim;
use crate::model::{GraphId, Model, NodeId};
use crate::ops::{lookup, meaning};
use crate::relation::{Relation, Term};

/// Multiply-accumulates of one run at these input shapes. What depends on constants alone is not computed in a run.
pub(super) fn macs(model: &Model, pins: &Pins) -> f64 {
    let relations = relate(model, &infer(model, pins));
    let counts = products(model).into_iter().map(|node| {
        let relation = &relations[node.index()];
        let terms = relation
            .terms
            .iter()
            .filter(|term| relation.multiplies(term));
        once_if_branch(model, model.index().node(node).graph)
            * terms.map(|term| size(relation, term)).sum::<f64>()
    });
    counts.sum()
}

/// The nodes that run and whose operations are not known: those of operators without a rule, and products whose operands
/// could not be read.
pub(super) fn uncounted(model: &Model, relations: &[Arc<Relation>]) -> Vec<NodeId> {
    let unknown = |node: &NodeId| {
        let proto = model.node(*node);
        let meaning = meaning(proto);
        let multiplies = meaning.product.is_some() || meaning.recurrence.is_some();
        lookup(proto.domain(), proto.op_type()).is_none()
            || (multiplies && relations[node.index()].terms.is_empty())
    };
    products(model).into_iter().filter(unknown).collect()
}

/// The nodes that run: all whose results do not depend on constants alone.
pub(super) fn products(model: &Model) -> Vec<NodeId> {
    let constants = constants(model);
    let computed = |(_, entry): &(NodeId, &crate::model::NodeEntry)| {
        entry
            .outputs
            .iter()
            .flatten()
            .any(|output| !constants[output.index()])
    };
    model
        .index()
        .nodes()
        .filter(computed)
        .map(|(node, _)| node)
        .collect()
}

/// The product of the extents that a term runs over.
pub(super) fn size(relation: &Relation, term: &Term) -> f64 {
    term.labels
        .iter()
        .map(|label| number(&relation.label(*label).extent))
        .product()
}

/// Extents that stay unknown even with pinned inputs depend on data; they count once.
pub(super) fn number(dim: &Dim) -> f64 {
    dim.num().map_or(1.0, |number| number as f64)
}

/// Whether all extents are numbers.
pub(super) fn is_numeric(model: &Model, facts: &Facts) -> bool {
    model.index().values().all(|(value, _)| {
        facts
            .of(value)
            .shape
            .as_ref()
            .is_none_or(|shape| shape.iter().all(|dim| dim.num().is_some()))
    })
}

/// Only one branch of an `If` runs; each counts by its share.
pub(super) fn once_if_branch(model: &Model, graph: GraphId) -> f64 {
    let entry = model.index().graph(graph);
    match entry.parent {
        None => 1.0,
        Some(node) => {
            let own = if meaning(model.node(node))
                .control
                .is_some_and(|control| control.alternative)
            {
                0.5
            } else {
                1.0
            };
            own * once_if_branch(model, model.index().node(node).graph)
        }
    }
}
