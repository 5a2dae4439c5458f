//! Nodes that hand an input on as it is: sums with zero, products with one, other forms of the same numbers in the same order.

use std::collections::BTreeMap;

use super::carry::Carried;
use super::membership::Membership;
use crate::model::edit::NodeExt;
use crate::model::{Index, NodeId, ValueId};
use crate::ops::{Flow, flow};
use crate::workspace::Workspace;

/// Such nodes of the main graph, each with the value that it hands on and the value that it gives.
pub(super) fn idle(workspace: &Workspace) -> BTreeMap<NodeId, (ValueId, ValueId)> {
    let (model, analysis) = (&workspace.working, &workspace.analysis);
    let membership = Membership::new(analysis);
    let carried = Carried::new(model, analysis, &membership);
    let nodes = &model.index().graph(Index::MAIN).nodes;
    nodes
        .iter()
        .filter_map(|node| Some((*node, handed_on(&carried, *node)?)))
        .collect()
}

fn handed_on(carried: &Carried, node: NodeId) -> Option<(ValueId, ValueId)> {
    let (message, entry) = (carried.model.node(node), carried.model.index().node(node));
    let input = |at: usize| entry.input(at);
    let whole = |at: usize| Some(carried.of(input(at)?).whole);
    let is = |at: usize, number: f64| whole(at).and_then(|whole| whole.number()) == Some(number);
    let output = entry.output(0)?;
    let at = match flow(message) {
        Flow::Add if is(1, 0.0) => 0,
        Flow::Add if is(0, 0.0) => 1,
        Flow::Sub if is(1, 0.0) => 0,
        Flow::Mul if is(1, 1.0) => 0,
        Flow::Mul if is(0, 1.0) => 1,
        Flow::Div if is(1, 1.0) => 0,
        Flow::Rectified if whole(0)?.low >= 0.0 => 0,
        Flow::Converted | Flow::Reshaped => 0,
        Flow::Permuted
            if message
                .ints("perm")
                .is_some_and(|order| order.iter().copied().eq(0..order.len() as i64)) =>
        {
            0
        }
        Flow::Joined if entry.inputs.len() == 1 => 0,
        _ => return None,
    };
    let from = input(at)?;
    let fact = |value: ValueId| carried.analysis.facts.of(value);
    let is_same = fact(from).dtype.is_some()
        && fact(from).dtype == fact(output).dtype
        && fact(from).shape.is_some()
        && fact(from).shape == fact(output).shape;
    (is_same && entry.outputs.len() == 1).then_some((from, output))
}
