//! An `If` whose condition is known becomes the branch that is taken.

use std::collections::BTreeMap;

use super::inferred::{InferredFacts, constant_of};
use super::lowering::Lowering;
use super::rule::refusal;
use crate::model::edit::NodeExt;
use crate::model::rename;
use crate::proto::{GraphProto, NodeProto};
use crate::run::Unverifiable;

/// Folds what can be folded in the main graph, of the nodes that are `wanted`; says whether there was any.
pub(super) fn fold(
    lowering: &mut Lowering,
    known: &InferredFacts,
    wanted: fn(&NodeProto) -> bool,
) -> Result<bool, Unverifiable> {
    let mut graph = lowering.proto.graph.take().unwrap_or_default();
    let mut folded = false;
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match condition(&node, &graph, known).filter(|_| wanted(&node)) {
            Some(truth) => {
                folded = true;
                take(&node, truth, &mut graph, &mut nodes, lowering)?;
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    lowering.proto.graph = Some(graph);
    Ok(folded)
}

fn condition(node: &NodeProto, graph: &GraphProto, known: &InferredFacts) -> Option<bool> {
    if node.key() != ("", "If") {
        return None;
    }
    let name = node.input(0)?;
    let tensor = constant_of(name, graph, known)?;
    tensor.to_i64()?.first().map(|truth| *truth != 0)
}

fn take(
    node: &NodeProto,
    truth: bool,
    graph: &mut GraphProto,
    nodes: &mut Vec<NodeProto>,
    lowering: &mut Lowering,
) -> Result<(), Unverifiable> {
    let branch = node
        .attribute(if truth { "then_branch" } else { "else_branch" })
        .and_then(|attribute| attribute.g.clone());
    let mut branch = branch.ok_or_else(|| refusal(node, "has no such branch"))?;
    let mut names = BTreeMap::new();
    for tensor in &mut branch.initializer {
        let new = lowering.names.fresh(tensor.name());
        names.insert(tensor.name().to_owned(), new.clone());
        tensor.name = Some(new);
    }
    graph.initializer.append(&mut branch.initializer);
    for mut inner in branch.node {
        rename(&mut inner, &mut names, &mut |name| {
            lowering.names.fresh(name)
        });
        // A branch that a loop's turns each take is written more than once, and tract wants its nodes' names to differ.
        inner.name = Some(lowering.names.fresh(inner.name()));
        nodes.push(inner);
    }
    for (result, output) in branch
        .output
        .iter()
        .zip(&node.output)
        .filter(|(_, output)| !output.is_empty())
    {
        let source = names
            .get(result.name())
            .map_or(result.name(), String::as_str);
        nodes.push(NodeProto {
            op_type: Some("Identity".into()),
            name: Some(lowering.names.fresh("Identity")),
            input: vec![source.to_owned()],
            output: vec![output.clone()],
            ..Default::default()
        });
    }
    Ok(())
}
