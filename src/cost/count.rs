//! Multiply-accumulates of one run.

use std::sync::Arc;

use crate::analysis::{Facts, Pins, Runs, constants, infer, relate};
use crate::facts::Dim;
use crate::model::{Model, NodeId};
use crate::ops::{lookup, meaning};
use crate::relation::{Relation, Term};

/// What one run does for one sum of products.
pub(super) struct CountedTerm {
    pub node: NodeId,
    /// Number of the term in its node's relation.
    pub term: usize,
    /// How many terms that has at these shapes.
    pub of: usize,
    /// Multiply-accumulates, those of a branch by the share of runs that take it.
    pub macs: f64,
    /// Whether only a share of all runs does it.
    pub sometimes: bool,
}

/// What one run does, at the shapes of these facts; all that is ever said of operations is counted here. What depends on
/// constants alone is not computed in a run.
pub(super) fn counts(
    model: &Model,
    facts: &Facts,
    relations: &[Arc<Relation>],
) -> Vec<CountedTerm> {
    let runs = Runs::new(model, facts);
    let of_node = |node: NodeId| {
        let relation = &relations[node.index()];
        let share = runs.share(model.index().node(node).graph);
        let multiplies = |(_, term): &(usize, &Term)| share > 0.0 && relation.multiplies(term);
        let terms = relation.terms.iter().enumerate().filter(multiplies);
        terms
            .map(|(number, term)| CountedTerm {
                node,
                term: number,
                of: relation.terms.len(),
                macs: share * size(relation, term),
                sometimes: share < 1.0,
            })
            .collect::<Vec<_>>()
    };
    products(model).into_iter().flat_map(of_node).collect()
}

/// What shapes of the inputs come to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ShapeTrial {
    /// Multiply-accumulates of one run.
    pub macs: f64,
    /// Nodes that do not take the shapes that reach them.
    pub misfits: usize,
}

/// Tries shapes of the inputs; calls of functions are to be inlined before.
pub fn trial(model: &Model, pins: &Pins) -> ShapeTrial {
    let facts = infer(model, pins);
    ShapeTrial {
        macs: macs(model, &facts),
        misfits: Runs::new(model, &facts).misfits,
    }
}

/// Multiply-accumulates of one run at the shapes of these facts.
pub(super) fn macs(model: &Model, facts: &Facts) -> f64 {
    let counts = counts(model, facts, &relate(model, facts));
    counts.iter().map(|count| count.macs).sum()
}

/// The nodes that run and whose operations are not known: those of operators without a rule, and products whose operands
/// could not be read.
pub(super) fn uncounted(model: &Model, facts: &Facts, relations: &[Arc<Relation>]) -> Vec<NodeId> {
    let runs = Runs::new(model, facts);
    let unknown = |node: &NodeId| {
        let proto = model.node(*node);
        let meaning = meaning(proto);
        let multiplies = meaning.product.is_some() || meaning.recurrence.is_some();
        let is_unknown = lookup(proto.domain(), proto.op_type()).is_none()
            || (multiplies && relations[node.index()].terms.is_empty());
        is_unknown && runs.share(model.index().node(*node).graph) > 0.0
    };
    products(model).into_iter().filter(unknown).collect()
}

/// The nodes that run: all whose results do not depend on constants alone.
fn products(model: &Model) -> Vec<NodeId> {
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
fn size(relation: &Relation, term: &Term) -> f64 {
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
