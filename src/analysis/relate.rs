//! The relation of every node, by its rule.

use std::collections::HashMap;
use std::sync::Arc;

use super::infer::{Facts, view};
use crate::model::{Model, NodeId, Origin, ValueId};
use crate::ops::{ONE_READ, POSITIONS, Positions, meaning};
use crate::relation::{Fate, Port, Reason, Relation};

/// The value behind a port of a node.
pub fn port_value(model: &Model, node: NodeId, port: Port) -> Option<ValueId> {
    let entry = model.index().node(node);
    match port {
        Port::In(at) => entry.input(at as usize),
        Port::Out(at) => entry.output(at as usize),
        Port::Formal(branch, at) => entry
            .subgraphs
            .get(branch as usize)
            .and_then(|graph| model.index().graph(*graph).inputs.get(at as usize).copied()),
        Port::Result(branch, at) => entry.subgraphs.get(branch as usize).and_then(|graph| {
            model
                .index()
                .graph(*graph)
                .outputs
                .get(at as usize)
                .copied()
        }),
    }
}

/// Where only the shape of what a node gives is asked for, the index that it reads of an axis does not hold that axis.
fn free_shape_only_reads(model: &Model, node: NodeId, mut relation: Relation) -> Relation {
    let is_read = |fate: &Fate| matches!(fate, Fate::Fixed(reason) if *reason == ONE_READ);
    if !relation.labels.iter().any(|label| is_read(&label.fate)) {
        return relation;
    }
    let asks = |reader: &(NodeId, u32)| meaning(model.node(reader.0)).reads_extents;
    let shape_alone = |value: ValueId| {
        let entry = model.index().value(value);
        !entry.is_output && !entry.readers.is_empty() && entry.readers.iter().all(asks)
    };
    if model
        .index()
        .node(node)
        .outputs
        .iter()
        .flatten()
        .all(|output| shape_alone(*output))
    {
        relation
            .labels
            .iter_mut()
            .filter(|label| is_read(&label.fate))
            .for_each(|label| label.fate = Fate::Free);
    }
    relation
}

/// The pool and the places that it takes maxima from, if a node is a pool whose indices go to unpools alone that give as many
/// positions as it read, or such an unpool. A cut counts these indices anew on both sides.
fn unpooled(model: &Model, facts: &Facts, node: NodeId) -> bool {
    let gives = |node: NodeId| match meaning(model.node(node)).positions {
        Some(Positions::Given(output)) => Some(output),
        _ => None,
    };
    let pool = match meaning(model.node(node)).positions {
        Some(Positions::Given(_)) => node,
        Some(Positions::Read(input)) => match model
            .index()
            .node(node)
            .input(input as usize)
            .map(|indices| model.index().value(indices).origin)
        {
            Some(Origin::Output(pool, output)) if gives(pool) == Some(output) => pool,
            _ => return false,
        },
        _ => return false,
    };
    let entry = model.index().node(pool);
    let (Some(x), Some(indices)) = (
        entry.input(0),
        gives(pool).and_then(|output| entry.output(output as usize)),
    ) else {
        return false;
    };
    let positions = |value: ValueId| {
        facts
            .of(value)
            .shape
            .as_ref()
            .and_then(|shape| shape.get(2..))
    };
    let puts_back = |(reader, slot): &(NodeId, u32)| {
        let output = model.index().node(*reader).output(0);
        meaning(model.node(*reader)).positions == Some(Positions::Read(*slot))
            && output.is_some_and(|output| positions(output) == positions(x))
    };
    let indices = model.index().value(indices);
    !indices.is_output && positions(x).is_some() && indices.readers.iter().all(puts_back)
}

/// Relations of one operator that are kept at hand, to be shared with later nodes that have the same.
const RECENT: usize = 8;

/// The relation of every node, by its rule. Nodes of one operator share relations that are equal.
pub fn relate(model: &Model, facts: &Facts) -> Vec<Arc<Relation>> {
    let relate = |node: NodeId| {
        let view = view(model, facts, node, true);
        let entry = model.index().node(node);
        if entry.outputs.iter().flatten().next().is_none() && entry.subgraphs.is_empty() {
            return view.frozen(Reason::Unused);
        }
        match crate::ops::lookup(view.node.domain(), view.node.op_type()) {
            None => view.frozen(Reason::NoRule(view.key())),
            Some(operator) => match facts.problems.get(&node) {
                Some(problem) => view.frozen(Reason::NotInferred(problem.clone())),
                None => {
                    let mut relation = free_shape_only_reads(model, node, operator.relate(&view));
                    let counted =
                        |fate: &Fate| matches!(fate, Fate::Fixed(reason) if *reason == POSITIONS);
                    if relation.labels.iter().any(|label| counted(&label.fate))
                        && unpooled(model, facts, node)
                    {
                        relation
                            .labels
                            .iter_mut()
                            .filter(|label| counted(&label.fate))
                            .for_each(|label| label.fate = Fate::Free);
                    }
                    relation
                }
            },
        }
    };
    let mut recent: HashMap<&str, Vec<Arc<Relation>>> = HashMap::new();
    let mut shared = |node: NodeId| {
        let made = relate(node);
        let recent = recent.entry(model.node(node).op_type()).or_default();
        if let Some(same) = recent.iter().rev().find(|other| ***other == made) {
            return same.clone();
        }
        if recent.len() == RECENT {
            recent.remove(0);
        }
        let made = Arc::new(made);
        recent.push(made.clone());
        made
    };
    model
        .index()
        .nodes()
        .map(|(node, _)| shared(node))
        .collect()
}
