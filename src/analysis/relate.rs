//! The relation of every node, by its rule.

use super::infer::{Facts, view};
use crate::model::{Model, NodeId, ValueId};
use crate::ops::ONE_READ;
use crate::relation::{Fate, Port, Reason, Relation};

/// The value behind a port of a node.
pub fn port_value(model: &Model, node: NodeId, port: Port) -> Option<ValueId> {
    let entry = model.index().node(node);
    match port {
        Port::In(at) => entry.inputs.get(at as usize).copied().flatten(),
        Port::Out(at) => entry.outputs.get(at as usize).copied().flatten(),
        Port::Formal(branch, at) => {
            entry.subgraphs.get(branch as usize).and_then(|graph| model.index().graph(*graph).inputs.get(at as usize).copied())
        }
        Port::Result(branch, at) => {
            entry.subgraphs.get(branch as usize).and_then(|graph| model.index().graph(*graph).outputs.get(at as usize).copied())
        }
    }
}

/// Where only the shape of what a node gives is asked for, the index that it reads of an axis does not hold that axis.
fn unlooked(model: &Model, node: NodeId, mut relation: Relation) -> Relation {
    let is_read = |fate: &Fate| matches!(fate, Fate::Fixed(reason) if *reason == ONE_READ);
    if !relation.labels.iter().any(|label| is_read(&label.fate)) {
        return relation;
    }
    let asks = |reader: &(NodeId, u32)| matches!(model.node(reader.0).op_type(), "Shape" | "Size");
    let shape_alone = |value: ValueId| {
        let entry = model.index().value(value);
        !entry.is_output && !entry.readers.is_empty() && entry.readers.iter().all(asks)
    };
    if model.index().node(node).outputs.iter().flatten().all(|output| shape_alone(*output)) {
        relation.labels.iter_mut().filter(|label| is_read(&label.fate)).for_each(|label| label.fate = Fate::Free);
    }
    relation
}

/// The relation of every node, by its rule.
pub fn relate(model: &Model, facts: &Facts) -> Vec<Relation> {
    let relate = |node: NodeId| {
        let view = view(model, facts, node, true);
        match crate::ops::lookup(view.node.domain(), view.node.op_type()) {
            None => view.frozen(Reason::NoRule(view.key())),
            Some(operator) => match facts.problems.get(&node) {
                Some(problem) => view.frozen(Reason::NotInferred(problem.clone())),
                None => unlooked(model, node, operator.relate(&view)),
            },
        }
    };
    model.index().nodes().map(|(node, _)| relate(node)).collect()
}
