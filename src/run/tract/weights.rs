//! Weights in tract's memory, one copy for all sessions that have the same bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tract_onnx::prelude::{Tensor, TractResult};

use super::tensor::to_tract;
use crate::model::TensorRef;

/// Address, length, type and dims.
type Key = (usize, usize, i32, Vec<usize>);

/// The bytes are kept with each entry, so that their address is not given to others while it stands here.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<BTreeMap<Key, (Bytes, Weak<Tensor>)>>);

impl Weights {
    /// The tensor, copied if no session holds it yet.
    pub(super) fn tensor(&self, tensor: &TensorRef) -> TractResult<Arc<Tensor>> {
        let key = (
            tensor.bytes.as_ptr() as usize,
            tensor.bytes.len(),
            tensor.dtype.code(),
            tensor.dims.clone(),
        );
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = entries.get(&key).and_then(|(_, weak)| weak.upgrade()) {
            return Ok(found);
        }
        let made = Arc::new(to_tract(tensor)?);
        entries.insert(key, (tensor.bytes.clone(), Arc::downgrade(&made)));
        Ok(made)
    }

    /// Forgets tensors that no session holds any more.
    pub(super) fn tidy(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (_, weak)| weak.strong_count() > 0);
    }
}
