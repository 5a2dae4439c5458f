//! The part of a model that some of its values depend on.

use std::collections::HashSet;

use super::{LoadError, Model};
use crate::proto::{GraphProto, ValueInfoProto};

/// The model that computes these values of the main graph, and nothing that they do not need. Weights are shared with
/// the original. Errors: never, for a model that was valid.
pub fn prefix(model: &Model, outputs: &[String]) -> Result<Model, LoadError> {
    let mut part = model.clone();
    let Some(graph) = &mut part.proto.graph else { return Ok(part) };
    let mut needed: HashSet<String> = outputs.iter().cloned().collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            node.attribute
                .iter()
                .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
                .for_each(|inner| reads(inner, &mut needed));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(tensor.name()));
    graph.sparse_initializer.retain(|tensor| tensor.values.as_ref().is_some_and(|values| needed.contains(values.name())));
    let declared = |name: &String| graph.output.iter().chain(&graph.value_info).find(|info| info.name() == name).cloned();
    let bare = |name: &String| ValueInfoProto { name: Some(name.clone()), ..Default::default() };
    graph.output = outputs.iter().map(|name| declared(name).unwrap_or_else(|| bare(name))).collect();
    graph.value_info.clear();
    part.reindex()?;
    Ok(part)
}

/// All names that a subgraph reads, its own among them.
fn reads(graph: &GraphProto, into: &mut HashSet<String>) {
    into.extend(graph.output.iter().map(|output| output.name().to_owned()));
    for node in &graph.node {
        into.extend(node.input.iter().cloned());
        node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)).for_each(|inner| reads(inner, into));
    }
}
