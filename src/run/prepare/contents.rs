//! Values that are known before the model runs become constants, and what nobody reads goes.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::known::Known;
use super::node::{each_node, int, kind};
use crate::model::TensorRef;
use crate::proto::{Dtype, GraphProto, NodeProto};

/// Whether there are operators that tract does better with constants.
pub(super) fn wanted(draft: &Draft) -> bool {
    let Some(graph) = &draft.proto.graph else {
        return false;
    };
    graph.node.iter().any(|node| {
        let (domain, op) = kind(node);
        domain.is_empty()
            && (matches!(op, "If" | "CumSum" | "ScatterND" | "Loop")
                || super::sequences::is_sequence(op)
                || makes_doubles(node))
    })
}

/// Products of doubles are written in another way, which takes knowing the type.
fn makes_doubles(node: &NodeProto) -> bool {
    node.op_type() == "Cast" && int(node, "to") == Some(i64::from(Dtype::Double.code()))
}

/// A value of the main graph that is known: a constant of it, or computed from such.
pub(super) fn constant_of(name: &str, graph: &GraphProto, known: &Known) -> Option<TensorRef> {
    let constant = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name() == name)
        .and_then(|tensor| TensorRef::from_proto(tensor).ok());
    constant.or_else(|| known.contents.get(name).cloned())
}

/// Replaces computed values whose contents are known; says whether there were any.
pub(super) fn fold(draft: &mut Draft, known: &Known) -> bool {
    let graph = draft.graph();
    let mut made = Vec::new();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let outputs: Vec<&String> = node.output.iter().filter(|name| !name.is_empty()).collect();
        let contents: Option<Vec<TensorRef>> = outputs
            .iter()
            .map(|name| known.contents.get(*name).cloned())
            .collect();
        match contents {
            Some(contents) if !outputs.is_empty() => {
                made.extend(
                    outputs
                        .iter()
                        .zip(contents)
                        .map(|(name, tensor)| tensor.to_proto(name)),
                );
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    let folded = !made.is_empty();
    graph.initializer.extend(made);
    folded
}

/// Drops nodes and constants of the main graph that no output, tap or subgraph needs.
pub(super) fn drop_dead(draft: &mut Draft) {
    let mut needed: BTreeSet<String> = draft.wanted.iter().cloned().collect();
    let graph = draft.graph();
    // Nodes stand behind what they read.
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if !node
            .output
            .iter()
            .any(|name| !name.is_empty() && needed.contains(name))
        {
            continue;
        }
        needed.extend(node.input.iter().cloned());
        super::node::subgraphs(&node).for_each(|subgraph| reads(subgraph, &mut needed));
        kept.push(node);
    }
    kept.reverse();
    graph.node = kept;
    graph
        .initializer
        .retain(|tensor| needed.contains(tensor.name()));
}

fn reads(graph: &GraphProto, needed: &mut BTreeSet<String>) {
    needed.extend(graph.output.iter().map(|output| output.name().to_owned()));
    let _ = each_node(graph, &mut |node| {
        needed.extend(node.input.iter().cloned());
        for subgraph in super::node::subgraphs(node) {
            needed.extend(
                subgraph
                    .output
                    .iter()
                    .map(|output| output.name().to_owned()),
            );
        }
        Ok::<(), ()>(())
    });
}
