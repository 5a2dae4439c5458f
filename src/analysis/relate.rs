//! The relation of every node, by its rule.

use super::infer::{Facts, view};
use crate::model::{Model, NodeId, ValueId};
use crate::relation::{Port, Reason, Relation};

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

/// The relation of every node, by its rule.
pub fn relate(model: &Model, facts: &Facts) -> Vec<Relation> {
    let relate = |node: NodeId| {
        let view = view(model, facts, node, true);
        match crate::ops::lookup(view.node.domain(), view.node.op_type()) {
            None => view.frozen(Reason::NoRule(view.key())),
            Some(operator) => match facts.problems.get(&node) {
                Some(problem) => view.frozen(Reason::NotInferred(problem.clone())),
                None => operator.relate(&view),
            },
        }
    };
    model.index().nodes().map(|(node, _)| relate(node)).collect()
}
