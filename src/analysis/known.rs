//! Values that inference knows whole, as tensors.

use std::collections::BTreeMap;

use super::infer::{Pins, infer};
use crate::facts::{Element, Fact};
use crate::model::{Index, Model, Origin, TensorRef};
use crate::ops::holds_tensor;
use crate::proto::Dtype;

/// The contents of every value that nodes of the main graph compute and that does not depend on the model's inputs, by name.
pub fn known(model: &Model) -> BTreeMap<String, TensorRef> {
    let facts = infer(model, &Pins::new());
    let mut known = BTreeMap::new();
    for (value, entry) in model.index().values() {
        let Origin::Output(node, _) = entry.origin else {
            continue;
        };
        if entry.graph != Index::MAIN || holds_tensor(model.node(node)) {
            continue;
        }
        let Some(tensor) = tensor_of(facts.of(value)) else {
            continue;
        };
        known.insert(entry.name.clone(), tensor);
    }
    known
}

/// What a fact says, as a tensor, if it says all.
pub(super) fn tensor_of(fact: &Fact) -> Option<TensorRef> {
    let dims: Vec<usize> = fact
        .shape
        .as_ref()?
        .iter()
        .map(|dim| dim.count())
        .collect::<Option<_>>()?;
    let (dtype, contents) = (fact.dtype?, fact.contents.as_ref()?);
    let bytes = contents
        .0
        .iter()
        .map(|element| bytes_of(element, dtype))
        .collect::<Option<Vec<_>>>()?
        .concat();
    (bytes.len() == dtype.bytes_for(dims.iter().product())).then(|| TensorRef {
        dtype,
        dims,
        bytes: bytes.into(),
    })
}

fn bytes_of(element: &Element, dtype: Dtype) -> Option<Vec<u8>> {
    let whole = || element.dim()?.num();
    Some(match dtype {
        Dtype::Int64 => whole()?.to_le_bytes().to_vec(),
        Dtype::Int32 => i32::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        Dtype::Bool => vec![u8::from(whole()? != 0)],
        Dtype::Float => (element.real()? as f32).to_le_bytes().to_vec(),
        _ => return None,
    })
}
