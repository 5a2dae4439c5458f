//! Nodes whose results are known.

use std::collections::{BTreeMap, BTreeSet};

use super::edit;
use crate::model::{LoadError, Model, NodeId, TensorRef};
use crate::ops::holds_tensor;

/// Results above this size are computed rather than stored: the file should not grow.
const LARGEST: usize = 1 << 16;

/// Stores the known results of nodes as initializers of the same names; returns how many nodes went. Graph outputs stay
/// computed.
pub(super) fn constants(
    model: &mut Model,
    contents: &BTreeMap<String, TensorRef>,
) -> Result<usize, LoadError> {
    let ambiguous = edit::ambiguous(model);
    let mut removed: BTreeSet<NodeId> = BTreeSet::new();
    for (id, entry) in model.index().nodes() {
        let known = |name: &str| {
            contents
                .get(name)
                .is_some_and(|tensor| tensor.bytes.len() <= LARGEST)
                && !ambiguous.contains(name)
        };
        let mut outputs = entry
            .outputs
            .iter()
            .flatten()
            .map(|value| model.index().value(*value))
            .peekable();
        if holds_tensor(model.node(id)) || outputs.peek().is_none() {
            continue;
        }
        if outputs.all(|value| !value.is_output && known(&value.name)) {
            removed.insert(id);
        }
    }
    let mut stored = Vec::new();
    for id in &removed {
        let entry = model.index().node(*id);
        for value in entry
            .outputs
            .iter()
            .flatten()
            .map(|value| model.index().value(*value))
        {
            let read = value
                .readers
                .iter()
                .any(|(reader, _)| !removed.contains(reader));
            if let (true, Some(tensor)) = (read, contents.get(&value.name)) {
                stored.push((entry.graph, tensor.to_proto(&value.name)));
            }
        }
    }
    for (graph, tensor) in stored {
        edit::add_initializer(model, graph, tensor);
    }
    edit::remove_nodes(model, &removed)?;
    Ok(removed.len())
}
