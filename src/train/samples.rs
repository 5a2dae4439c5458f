//! Batches of inputs: runs of the data put together along the first axis, where the model leaves that open.

use crate::analysis::declared;
use crate::inputs::Batches;
use crate::model::{Model, TensorRef};
use crate::run::Tensors;

use super::TrainError;

/// Whether inputs of several runs can be computed as one: each input declares a first axis without a number.
pub(super) fn can_be_stacked(model: &Model) -> bool {
    let graph = model.proto.graph.as_ref();
    let stored: Vec<&str> = graph
        .iter()
        .flat_map(|graph| &graph.initializer)
        .map(|tensor| tensor.name())
        .collect();
    let mut inputs = graph.iter().flat_map(|graph| &graph.input);
    inputs.all(|input| {
        let shape = declared(input).shape;
        stored.contains(&input.name())
            || shape.is_some_and(|shape| shape.first().is_some_and(|dim| dim.num().is_none()))
    })
}

/// Inputs of these runs, one behind the other. Errors: one that cannot be read.
pub(super) fn stacked(inputs: &dyn Batches, runs: &[usize]) -> Result<Tensors, TrainError> {
    let mut all: Vec<Tensors> = Vec::with_capacity(runs.len());
    for run in runs {
        all.push(inputs.fetch(*run)?);
    }
    if all.len() == 1 {
        return Ok(all.pop().unwrap_or_default());
    }
    let Some(first) = all.first() else {
        return Ok(Tensors::new());
    };
    let join = |name: &String, tensor: &TensorRef| {
        let parts: Vec<&TensorRef> = all.iter().filter_map(|inputs| inputs.get(name)).collect();
        let mut dims = tensor.dims.clone();
        if let Some(rows) = dims.first_mut() {
            *rows = parts
                .iter()
                .map(|part| part.dims.first().copied().unwrap_or(1))
                .sum();
        }
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.bytes.iter().copied())
            .collect();
        TensorRef {
            dtype: tensor.dtype,
            dims,
            bytes: bytes.into(),
        }
    };
    Ok(first
        .iter()
        .map(|(name, tensor)| (name.clone(), join(name, tensor)))
        .collect())
}
