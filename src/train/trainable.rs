//! Which weights can be trained: those from which every way to an output can be differentiated.

use std::collections::BTreeSet;

use crate::analysis::{Facts, view};
use crate::model::{GraphId, Index, Model, NodeId, Origin, ValueId};
use crate::ops::gradient::function;
use crate::ops::{lookup, meaning};
use crate::proto::Dtype;

/// What can be trained in a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Trainable {
    /// Stored tensors that can be trained.
    pub weights: BTreeSet<ValueId>,
    /// Values that depend on them.
    dependent: BTreeSet<ValueId>,
    /// Nodes that cannot be differentiated and would have had to be: what they read stays as it is.
    pub stops: Vec<String>,
}

impl Trainable {
    /// All float tensors of more than one number, less those that a node without a derivative depends on.
    pub fn find(model: &Model, facts: &Facts) -> Self {
        let index = model.index();
        // Scales of a resizing are floats, and no weights.
        let nodes = index.graph(Index::MAIN).nodes.iter();
        let extents: BTreeSet<ValueId> = nodes
            .flat_map(|node| shape_operands(model, facts, *node))
            .collect();
        let is_weight = |value: ValueId| {
            let fact = facts.of(value);
            let elements = fact.elements().unwrap_or(0);
            let is_float = fact.dtype == Some(Dtype::Float);
            is_stored(model, value) && is_float && elements > 1 && !extents.contains(&value)
        };
        let mut found = Trainable {
            weights: index
                .values()
                .map(|(value, _)| value)
                .filter(|value| is_weight(*value))
                .collect(),
            ..Default::default()
        };
        loop {
            found.follow(model);
            let stops: Vec<NodeId> = index
                .graph(Index::MAIN)
                .nodes
                .iter()
                .copied()
                .filter(|node| found.stops_at(model, facts, *node))
                .collect();
            let held: BTreeSet<ValueId> = stops
                .iter()
                .flat_map(|node| sources(model, *node))
                .collect();
            let label = |node: &NodeId| {
                format!(
                    "{} ({})",
                    model.node_label(*node),
                    model.node(*node).op_type()
                )
            };
            found.stops.extend(stops.iter().map(label));
            let before = found.weights.len();
            found.weights.retain(|weight| !held.contains(weight));
            if stops.is_empty() || found.weights.len() == before {
                return found;
            }
        }
    }

    /// Whether a value depends on a weight that is trained.
    pub fn depends(&self, value: ValueId) -> bool {
        self.dependent.contains(&value)
    }

    /// Finds what depends on the weights.
    fn follow(&mut self, model: &Model) {
        self.dependent.clear();
        for node in &model.index().graph(Index::MAIN).nodes {
            let depends =
                |value: &ValueId| self.weights.contains(value) || self.dependent.contains(value);
            if numbers_read(model, *node).iter().any(depends) {
                self.dependent
                    .extend(model.index().node(*node).outputs.iter().flatten());
            }
        }
    }

    /// Whether a node depends on weights and cannot be differentiated: some output that is read is no function of arrays, or an
    /// operand that is read as extents depends on them.
    fn stops_at(&self, model: &Model, facts: &Facts, node: NodeId) -> bool {
        let entry = model.index().node(node);
        if !entry
            .outputs
            .iter()
            .flatten()
            .any(|output| self.depends(*output))
        {
            return false;
        }
        let view = view(model, facts, node, true);
        let is_read = |value: ValueId| {
            let entry = model.index().value(value);
            entry.is_output || !entry.readers.is_empty()
        };
        let mut outputs = entry.outputs.iter().enumerate();
        let lacks = outputs
            .any(|(at, output)| output.is_some_and(is_read) && function(&view, at).is_none());
        let mut shapes = shape_operands(model, facts, node).into_iter();
        lacks || shapes.any(|input| self.depends(input) || self.weights.contains(&input))
    }
}

/// What a node reads as extents.
fn shape_operands(model: &Model, facts: &Facts, node: NodeId) -> Vec<ValueId> {
    let (view, entry) = (view(model, facts, node, true), model.index().node(node));
    let places = lookup(view.node.domain(), view.node.op_type())
        .map(|operator| operator.shape_inputs(&view));
    let read = |at: &u32| entry.inputs.get(*at as usize).copied().flatten();
    places.iter().flatten().filter_map(read).collect()
}

/// Values whose numbers a node reads, those that its subgraphs read included.
fn numbers_read(model: &Model, node: NodeId) -> Vec<ValueId> {
    if meaning(model.node(node)).reads_extents {
        return Vec::new();
    }
    let entry = model.index().node(node);
    let mut read: Vec<ValueId> = entry.inputs.iter().copied().flatten().collect();
    entry
        .subgraphs
        .iter()
        .for_each(|graph| within(model, *graph, &mut read));
    read
}

fn within(model: &Model, graph: GraphId, read: &mut Vec<ValueId>) {
    let entry = model.index().graph(graph);
    read.extend(&entry.outputs);
    for node in &entry.nodes {
        read.extend(numbers_read(model, *node));
    }
}

/// Stored tensors that a node depends on.
fn sources(model: &Model, node: NodeId) -> BTreeSet<ValueId> {
    let (mut seen, mut open) = (BTreeSet::new(), numbers_read(model, node));
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        if let Origin::Output(producer, _) = model.index().value(value).origin {
            open.extend(numbers_read(model, producer));
        }
    }
    seen.retain(|value| is_stored(model, *value));
    seen
}

/// Whether a value is a stored tensor: an initializer, or the result of a Constant node.
pub(super) fn is_stored(model: &Model, value: ValueId) -> bool {
    model.tensor_proto(value).is_some()
}
