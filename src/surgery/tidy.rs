//! Leftovers: constants and shape-computing nodes that nothing reads any more since a copy took their place.

use std::collections::HashSet;

use crate::model::{GraphId, Model};
use crate::proto::{GraphProto, NodeProto};

/// Removes what the original read and the rewritten model does not. What nothing read before stays.
pub(super) fn remove_leftovers(pruned: &mut Model, original: &Model) {
    let read_before: HashSet<&str> = original
        .index()
        .values()
        .filter(|(_, value)| !value.readers.is_empty() || value.is_output)
        .map(|(_, value)| value.name.as_str())
        .collect();
    loop {
        let mut read = HashSet::new();
        if let Some(graph) = &pruned.proto.graph {
            collect_reads(graph, &mut read);
        }
        let dead = |name: &String| {
            name.is_empty()
                || (!read.contains(name)
                    && (read_before.contains(name.as_str()) || name.contains("_cut")))
        };
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
    let has_subgraphs = |node: &NodeProto| {
        node.attribute
            .iter()
            .any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
    };
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

fn collect_reads(graph: &GraphProto, read: &mut HashSet<String>) {
    read.extend(graph.output.iter().map(|output| output.name().to_owned()));
    for node in &graph.node {
        read.extend(node.input.iter().cloned());
        for subgraph in node
            .attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
        {
            collect_reads(subgraph, read);
        }
    }
}
