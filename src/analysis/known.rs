//! Values that inference knows whole, as tensors.

use std::collections::BTreeMap;

use super::infer::{Pins, infer};
use crate::facts::Element;
use crate::model::{Index, Model, Origin, TensorRef};
use crate::proto::Dtype;

/// The contents of every value that nodes of the main graph compute and that does not depend on the model's inputs, by name.
pub fn known(model: &Model) -> BTreeMap<String, TensorRef> {
    let facts = infer(model, &Pins::new());
    let mut known = BTreeMap::new();
    for (value, entry) in model.index().values() {
        let Origin::Output(node, _) = entry.origin else { continue };
        if entry.graph != Index::MAIN || model.node(node).op_type() == "Constant" {
            continue;
        }
        let fact = facts.of(value);
        let dims: Option<Vec<usize>> = fact.shape.as_ref().and_then(|shape| shape.iter().map(|dim| dim.count()).collect());
        let (Some(dims), Some(dtype), Some(contents)) = (dims, fact.dtype, &fact.contents) else { continue };
        let bytes: Option<Vec<u8>> =
            contents.0.iter().map(|element| bytes_of(element, dtype)).collect::<Option<Vec<_>>>().map(|parts| parts.concat());
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == dtype.bytes_for(dims.iter().product())) else { continue };
        known.insert(entry.name.clone(), TensorRef { dtype, dims, bytes: bytes.into() });
    }
    known
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
