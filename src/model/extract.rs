//! The part of a model that some of its values depend on.

use std::collections::BTreeMap;

use super::{LoadError, Model, TensorRef, edit};
use crate::proto::ValueInfoProto;

/// Returns the model that computes these values of the main graph, and nothing that they do not need. Values of which
/// `starts` gives an example become inputs. Weights are shared with the original. Errors: never, for a model that was valid.
pub fn extract_subgraph(
    model: &Model,
    outputs: &[String],
    starts: &BTreeMap<String, TensorRef>,
) -> Result<Model, LoadError> {
    let mut part = model.clone();
    let Some(graph) = &mut part.proto.graph else {
        return Ok(part);
    };
    let needed = edit::retain_live(graph, outputs.iter().cloned(), &|name| {
        starts.contains_key(name)
    });
    let declared = |name: &String| {
        graph
            .output
            .iter()
            .chain(&graph.value_info)
            .find(|info| info.name() == name)
            .cloned()
    };
    graph.output = outputs
        .iter()
        .map(|name| declared(name).unwrap_or_else(|| ValueInfoProto::named(name)))
        .collect();
    graph.value_info.clear();
    graph.input.retain(|input| needed.contains(input.name()));
    graph.input.extend(
        starts
            .iter()
            .filter(|(name, _)| needed.contains(*name))
            .map(|(name, tensor)| ValueInfoProto::like(name, tensor)),
    );
    part.reindex()?;
    Ok(part)
}
