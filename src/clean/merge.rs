//! Initializers that are equal to another.

use std::collections::HashMap;

use super::edit;
use crate::model::{GraphId, LoadError, Model, Origin, ValueId};
use crate::proto::Dtype;

/// Lets the readers of equal initializers of one graph read the first of them; returns how many others there were. They
/// stay, unread.
pub(super) fn equal(model: &mut Model) -> Result<usize, LoadError> {
    let (ambiguous, annotated) = (edit::ambiguous(model), edit::annotated(model));
    let mut leaders: HashMap<(GraphId, Dtype, Vec<usize>, bytes::Bytes), ValueId> = HashMap::new();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let count = same_size(model);
    for (value, entry) in model.index().values() {
        let Origin::Initializer(_) = entry.origin else {
            continue;
        };
        if ambiguous.contains(&entry.name)
            || annotated.contains(&entry.name)
            || entry.is_output
            || !edit::is_constant(model, value)
        {
            continue;
        }
        let Some(proto) = model.tensor_proto(value) else {
            continue;
        };
        // Reading the bytes of a weight that has no equal in size would be a waste.
        if proto.data_type() == Dtype::String.code()
            || count
                .get(&(proto.data_type(), proto.dims.clone()))
                .is_none_or(|count| *count < 2)
        {
            continue;
        }
        let Some(tensor) = model.constant(value) else {
            continue;
        };
        if entry.readers.is_empty() {
            continue;
        }
        match leaders.entry((entry.graph, tensor.dtype, tensor.dims, tensor.bytes)) {
            std::collections::hash_map::Entry::Occupied(leader) => {
                renamed.insert(
                    entry.name.clone(),
                    model.index().value(*leader.get()).name.clone(),
                );
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(value);
            }
        }
    }
    if renamed.is_empty() {
        return Ok(0);
    }
    edit::rename_reads(model, &renamed);
    model.reindex()?;
    Ok(renamed.len())
}

fn same_size(model: &Model) -> HashMap<(i32, Vec<i64>), usize> {
    let mut count = HashMap::new();
    for (value, entry) in model.index().values() {
        if let (Origin::Initializer(_), Some(tensor)) = (entry.origin, model.tensor_proto(value)) {
            *count
                .entry((tensor.data_type(), tensor.dims.clone()))
                .or_insert(0) += 1;
        }
    }
    count
}
