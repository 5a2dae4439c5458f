//! Tensors of this crate and tensors of tract.

use tract_onnx::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::tract_hir::internal::bail;

use crate::model::TensorRef;
use crate::proto::Dtype;

const TYPES: &[(Dtype, DatumType)] = &[
    (Dtype::Float, DatumType::F32),
    (Dtype::Double, DatumType::F64),
    (Dtype::Bool, DatumType::Bool),
    (Dtype::Int8, DatumType::I8),
    (Dtype::Int16, DatumType::I16),
    (Dtype::Int32, DatumType::I32),
    (Dtype::Int64, DatumType::I64),
    (Dtype::Uint8, DatumType::U8),
    (Dtype::Uint16, DatumType::U16),
    (Dtype::Uint32, DatumType::U32),
    (Dtype::Uint64, DatumType::U64),
];

/// tract's name of a type that both have.
pub(super) fn datum_type(dtype: Dtype) -> Option<DatumType> {
    TYPES
        .iter()
        .find(|(ours, _)| *ours == dtype)
        .map(|(_, theirs)| *theirs)
}

/// This crate's name of a type.
pub(super) fn dtype(theirs: DatumType) -> Option<Dtype> {
    if theirs == DatumType::TDim {
        return Some(Dtype::Int64);
    }
    TYPES
        .iter()
        .find(|(_, other)| *other == theirs.unquantized())
        .map(|(ours, _)| *ours)
}

/// A copy in tract's memory; half precision becomes single.
pub(super) fn to_tract(tensor: &TensorRef) -> TractResult<Tensor> {
    if matches!(tensor.dtype, Dtype::Float16 | Dtype::Bfloat16) {
        let elements = tensor.to_f32().unwrap_or_default();
        return to_tract(&TensorRef::from_f32(tensor.dims.clone(), &elements));
    }
    let Some(theirs) = datum_type(tensor.dtype) else {
        bail!("tract has no type {}", tensor.dtype)
    };
    if tensor.bytes.len() != tensor.dtype.bytes_for(tensor.elements()) {
        bail!("a tensor's bytes do not fit its shape");
    }
    if theirs == DatumType::Bool && tensor.bytes.iter().any(|byte| *byte > 1) {
        let bytes: Vec<u8> = tensor
            .bytes
            .iter()
            .map(|byte| u8::from(*byte != 0))
            .collect();
        return to_tract(&TensorRef {
            bytes: bytes.into(),
            ..tensor.clone()
        });
    }
    // Safety: the length was just checked, and every bit pattern is a value of these types (truth values are 0 or 1).
    unsafe { Tensor::from_raw_dt(theirs, &tensor.dims, &tensor.bytes) }
}

/// A copy in this crate's form; extents become whole numbers.
pub(super) fn from_tract(tensor: &Tensor) -> TractResult<TensorRef> {
    if tensor.datum_type() == DatumType::TDim {
        let numbers = tensor.cast_to::<i64>()?;
        return from_tract(&numbers);
    }
    let Some(dtype) = dtype(tensor.datum_type()) else {
        bail!("a result of type {:?}", tensor.datum_type())
    };
    let bytes = tensor.try_as_plain_ram()?.as_bytes().to_vec();
    Ok(TensorRef {
        dtype,
        dims: tensor.shape().to_vec(),
        bytes: bytes.into(),
    })
}
