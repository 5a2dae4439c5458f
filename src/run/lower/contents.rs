//! Values that are known before the model runs become constants, and what nobody reads goes.

use super::inferred::InferredFacts;
use super::lowering::Lowering;
use crate::model::TensorRef;
use crate::model::edit::{NodeExt, retain_live};
use crate::proto::{Dtype, NodeProto};

/// Whether there are operators that tract does better with constants.
pub(super) fn wanted(lowering: &Lowering) -> bool {
    let Some(graph) = &lowering.proto.graph else {
        return false;
    };
    graph.node.iter().any(|node| {
        let (domain, op) = node.key();
        domain.is_empty()
            && (matches!(op, "If" | "CumSum" | "ScatterND" | "Loop")
                || super::sequences::is_sequence(op)
                || makes_doubles(node))
    })
}

/// Products of doubles are written in another way, which takes knowing the type.
fn makes_doubles(node: &NodeProto) -> bool {
    node.op_type() == "Cast" && node.int("to") == Some(i64::from(Dtype::Double.code()))
}

/// Replaces computed values whose contents are known; says whether there were any.
pub(super) fn fold(lowering: &mut Lowering, known: &InferredFacts) -> bool {
    let graph = lowering.graph();
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
pub(super) fn drop_dead(lowering: &mut Lowering) {
    let roots = lowering.wanted.clone();
    retain_live(lowering.graph(), roots, &|_| false);
}
