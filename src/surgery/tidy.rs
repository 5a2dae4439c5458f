//! Leftovers: constants and shape-computing nodes that nothing reads any more since a copy took their place.

use std::collections::HashSet;

use crate::model::edit::{NodeExt, reads};
use crate::model::{GraphId, Model};
use crate::proto::NodeProto;

/// Removes what the original read, or the rewriting made, and nothing reads any more. What nothing read before stays.
pub(super) fn remove_leftovers(pruned: &mut Model, original: &Model) {
    let unread_before: HashSet<&str> = original
        .index()
        .values()
        .filter(|(_, value)| value.readers.is_empty() && !value.is_output)
        .map(|(_, value)| value.name.as_str())
        .collect();
    let read_before: HashSet<&str> = original
        .index()
        .values()
        .filter(|(_, value)| !value.readers.is_empty() || value.is_output)
        .map(|(_, value)| value.name.as_str())
        .collect();
    // A name that the original does not have was made by the rewriting.
    let may_go = |name: &str| read_before.contains(name) || !unread_before.contains(name);
    loop {
        let mut read = HashSet::new();
        if let Some(graph) = &pruned.proto.graph {
            reads(graph, &mut read);
        }
        let dead = |name: &String| name.is_empty() || (!read.contains(name) && may_go(name));
        let mut removed = false;
        for (id, _) in original
            .index()
            .graphs()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            removed |= sweep(pruned, id, &dead);
        }
        if !removed {
            return;
        }
    }
}

fn sweep(pruned: &mut Model, id: GraphId, dead: &dyn Fn(&String) -> bool) -> bool {
    // Paths to subgraphs count nodes, so nodes with subgraphs stay where they are; they are never leftovers.
    let has_subgraphs = |node: &NodeProto| node.subgraphs().next().is_some();
    let graph = pruned.graph_mut(id);
    let initializers = graph.initializer.len();
    let inputs: HashSet<String> = graph
        .input
        .iter()
        .map(|input| input.name().to_owned())
        .collect();
    graph
        .initializer
        .retain(|tensor| inputs.contains(tensor.name()) || !dead(&tensor.name().to_owned()));
    let mut removed = graph.initializer.len() != initializers;
    let last_with_subgraph = graph
        .node
        .iter()
        .rposition(has_subgraphs)
        .map_or(0, |at| at + 1);
    let mut gone: HashSet<String> = HashSet::new();
    for at in (0..graph.node.len()).rev() {
        let node = &graph.node[at];
        if node.output.is_empty()
            || !node.output.iter().all(dead)
            || has_subgraphs(node)
            || at < last_with_subgraph
        {
            continue;
        }
        gone.extend(node.output.iter().cloned());
        graph.node.remove(at);
        removed = true;
    }
    graph.value_info.retain(|info| !gone.contains(info.name()));
    removed
}
