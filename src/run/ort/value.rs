//! Tensors of this crate and values of ONNX Runtime.

use ort::memory::Allocator;
use ort::value::{
    DynMap, DynMapValueType, DynSequenceValueType, DynTensor, DynTensorValueType, DynValue, Shape,
    TensorElementType, ValueType,
};

use super::error::OrtFailure;
use crate::model::TensorRef;
use crate::proto::Dtype;

const TYPES: &[(Dtype, TensorElementType)] = &[
    (Dtype::Float, TensorElementType::Float32),
    (Dtype::Double, TensorElementType::Float64),
    (Dtype::Float16, TensorElementType::Float16),
    (Dtype::Bfloat16, TensorElementType::Bfloat16),
    (Dtype::Bool, TensorElementType::Bool),
    (Dtype::Int8, TensorElementType::Int8),
    (Dtype::Int16, TensorElementType::Int16),
    (Dtype::Int32, TensorElementType::Int32),
    (Dtype::Int64, TensorElementType::Int64),
    (Dtype::Uint8, TensorElementType::Uint8),
    (Dtype::Uint16, TensorElementType::Uint16),
    (Dtype::Uint32, TensorElementType::Uint32),
    (Dtype::Uint64, TensorElementType::Uint64),
    (Dtype::Complex64, TensorElementType::Complex64),
    (Dtype::Complex128, TensorElementType::Complex128),
    (Dtype::Float8e4m3fn, TensorElementType::Float8E4M3FN),
    (Dtype::Float8e4m3fnuz, TensorElementType::Float8E4M3FNUZ),
    (Dtype::Float8e5m2, TensorElementType::Float8E5M2),
    (Dtype::Float8e5m2fnuz, TensorElementType::Float8E5M2FNUZ),
    (Dtype::Float8e8m0, TensorElementType::Float8E8M0),
    (Dtype::Float4e2m1, TensorElementType::Float4E2M1),
    (Dtype::Uint4, TensorElementType::Uint4),
    (Dtype::Int4, TensorElementType::Int4),
    (Dtype::Uint2, TensorElementType::Uint2),
    (Dtype::Int2, TensorElementType::Int2),
];

/// A copy in ONNX Runtime's memory. Errors: a type that it lacks, bytes that do not fit the shape.
pub(super) fn to_ort(tensor: &TensorRef) -> Result<DynTensor, OrtFailure> {
    let Some((_, theirs)) = TYPES.iter().find(|(ours, _)| *ours == tensor.dtype) else {
        return Err(OrtFailure::NoType(tensor.dtype));
    };
    let shape = Shape::new(tensor.dims.iter().map(|dim| *dim as i64));
    let mut made = DynTensor::new(&Allocator::default(), *theirs, shape)?;
    if made.size() != Some(tensor.bytes.len()) {
        return Err(OrtFailure::Misfit);
    }
    let target = made.data_ptr_mut().cast::<u8>();
    if !target.is_null() && !tensor.bytes.is_empty() {
        // Safety: the tensor was just made on the CPU and has exactly this many bytes.
        unsafe { std::ptr::copy_nonoverlapping(tensor.bytes.as_ptr(), target, tensor.bytes.len()) };
    }
    Ok(made)
}

/// A result in this crate's form. Half precision becomes single; strings become numbers that stand for them; the tensors of a
/// sequence and the values of a map (by key) stand one after the other. Errors: what has no such form.
pub(super) fn from_ort(value: DynValue) -> Result<TensorRef, OrtFailure> {
    match value.dtype().clone() {
        ValueType::Tensor {
            ty: TensorElementType::String,
            ..
        } => {
            let tensor = value.downcast::<DynTensorValueType>()?;
            let (shape, texts) = tensor.try_extract_strings()?;
            let numbers: Vec<i64> = texts.iter().map(|text| number_of(text)).collect();
            Ok(TensorRef::from_i64(
                shape.iter().map(|dim| *dim as usize).collect(),
                &numbers,
            ))
        }
        ValueType::Tensor { .. } => tensor(&value.downcast::<DynTensorValueType>()?),
        ValueType::Sequence(inner) => {
            let sequence = value.downcast::<DynSequenceValueType>()?;
            let parts: Vec<TensorRef> = match *inner {
                ValueType::Map { .. } => sequence
                    .try_extract_sequence::<DynMapValueType>()?
                    .iter()
                    .map(map)
                    .collect::<Result<_, _>>()?,
                _ => sequence
                    .try_extract_sequence::<DynTensorValueType>()?
                    .into_iter()
                    .map(|part| from_ort(part.into_dyn()))
                    .collect::<Result<_, _>>()?,
            };
            join(&parts)
        }
        ValueType::Map { .. } => map(&value.downcast::<DynMapValueType>()?),
        ValueType::Optional(_) => Err(OrtFailure::Optional),
    }
}

fn tensor(value: &DynTensor) -> Result<TensorRef, OrtFailure> {
    let theirs = *value.data_type();
    let Some((dtype, _)) = TYPES.iter().find(|(_, other)| *other == theirs) else {
        return Err(OrtFailure::ResultType(theirs));
    };
    let dims: Vec<usize> = value.shape().iter().map(|dim| *dim as usize).collect();
    let (length, source) = (value.size().unwrap_or(0), value.data_ptr().cast::<u8>());
    let bytes = if source.is_null() || length == 0 {
        Vec::new()
    } else {
        // Safety: the tensor lies in the CPU's memory, has this many bytes, and lives until they are copied.
        unsafe { std::slice::from_raw_parts(source, length) }.to_vec()
    };
    let tensor = TensorRef {
        dtype: *dtype,
        dims,
        bytes: bytes.into(),
    };
    match dtype {
        Dtype::Float16 | Dtype::Bfloat16 => Ok(TensorRef::from_f32(
            tensor.dims.clone(),
            &tensor.to_f32().unwrap_or_default(),
        )),
        _ => Ok(tensor),
    }
}

/// The values of a map in the order of its keys.
fn map(value: &DynMap) -> Result<TensorRef, OrtFailure> {
    let by_number = value.try_extract_key_values::<i64, f32>().map(sorted);
    let by_text = || value.try_extract_key_values::<String, f32>().map(sorted);
    let values = by_number.or_else(|_| by_text())?;
    Ok(TensorRef::from_f32(vec![values.len()], &values))
}

fn sorted<K: Ord>(mut pairs: Vec<(K, f32)>) -> Vec<f32> {
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs.into_iter().map(|(_, value)| value).collect()
}

fn join(parts: &[TensorRef]) -> Result<TensorRef, OrtFailure> {
    let Some(first) = parts.first() else {
        return Ok(TensorRef::from_f32(vec![0], &[]));
    };
    if parts.iter().any(|part| part.dtype != first.dtype) {
        return Err(OrtFailure::MixedSequence);
    }
    let bytes: Vec<u8> = parts
        .iter()
        .flat_map(|part| part.bytes.iter().copied())
        .collect();
    Ok(TensorRef {
        dtype: first.dtype,
        dims: vec![parts.iter().map(TensorRef::elements).sum()],
        bytes: bytes.into(),
    })
}

/// A number that stands for a text: its 64-bit FNV-1a hash.
fn number_of(text: &str) -> i64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }) as i64
}
