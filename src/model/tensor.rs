//! One tensor's bytes, whatever encoding the file chose for them.

use bytes::Bytes;

use super::tensor_problem::TensorProblem;
use crate::proto::{Dtype, TensorProto};

/// A dense tensor: its type, its dims, and its elements as little-endian bytes in row-major order (as
/// `raw_data` has them; types below eight bits are packed, the first element in the low bits). The bytes
/// are *not aligned*: read them by `from_le_bytes`.
///
/// ```
/// use onnx_prune::{Dtype, TensorRef};
///
/// let tensor = TensorRef::from_f32(vec![1, 2], &[0.5, 2.0]);
/// assert_eq!((tensor.dtype, tensor.to_f32()), (Dtype::Float, Some(vec![0.5, 2.0])));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRef {
    /// Element type.
    pub dtype: Dtype,
    /// Extents; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements.
    pub bytes: Bytes,
}

/// A tensor message that makes no sense.
#[derive(Clone, Debug, thiserror::Error)]
#[error("tensor '{name}': {problem}")]
pub struct TensorError {
    name: String,
    problem: String,
}

impl TensorRef {
    /// Reads a message: `raw_data` is shared, the typed fields are gathered into bytes.
    #[doc(hidden)]
    pub fn from_proto(tensor: &TensorProto) -> Result<Self, TensorError> {
        let error = |problem: String| TensorError {
            name: tensor.name().to_owned(),
            problem,
        };
        let (expected, stored) =
            expected_bytes(tensor).map_err(|problem| error(problem.to_string()))?;
        let dtype =
            Dtype::from_code(tensor.data_type()).ok_or_else(|| error("unknown type".into()))?;
        let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
        if stored.is_some_and(|stored| stored != expected) {
            return Err(error(format!(
                "{stored:?} bytes where {expected} are expected"
            )));
        }
        let bytes = match &tensor.raw_data {
            Some(raw) if !raw.is_empty() || expected == 0 => raw.clone(),
            _ => typed_bytes(tensor, dtype).into(),
        };
        if bytes.len() != expected {
            return Err(error(format!(
                "{} bytes where {expected} are expected",
                bytes.len()
            )));
        }
        Ok(TensorRef { dtype, dims, bytes })
    }

    /// A float tensor of these elements.
    pub fn from_f32(dims: Vec<usize>, elements: &[f32]) -> Self {
        TensorRef {
            dtype: Dtype::Float,
            dims,
            bytes: elements
                .iter()
                .flat_map(|element| element.to_le_bytes())
                .collect::<Vec<_>>()
                .into(),
        }
    }

    /// An int64 tensor of these elements.
    pub fn from_i64(dims: Vec<usize>, elements: &[i64]) -> Self {
        TensorRef {
            dtype: Dtype::Int64,
            dims,
            bytes: elements
                .iter()
                .flat_map(|element| element.to_le_bytes())
                .collect::<Vec<_>>()
                .into(),
        }
    }

    /// The number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// As a message of this name, in `raw_data` form (strings are not representable and give an empty tensor).
    #[doc(hidden)]
    pub fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(self.dtype.code()),
            dims: self.dims.iter().map(|dim| *dim as i64).collect(),
            raw_data: Some(self.bytes.clone()),
            ..Default::default()
        }
    }

    /// The elements as f32 (f64, f16, bf16 and whole numbers converted); `None` for types that are no numbers of a byte or more.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.convert(|number| number as f32, |number| number as f32)
    }

    /// The elements as f64, likewise.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        self.convert(|number| number, |number| number as f64)
    }

    /// The elements of a tensor of whole numbers or truth values.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        if self.dtype.is_float() {
            return None;
        }
        self.convert(|number| number as i64, |number| number)
    }

    /// The first entries along an axis; all where there are not more.
    pub(crate) fn first_along(&self, axis: usize, count: usize) -> TensorRef {
        if self.dims.get(axis).is_none_or(|extent| *extent <= count) {
            return self.clone();
        }
        let mut kept = vec![None; self.dims.len()];
        kept[axis] = Some((0..count as u32).collect());
        self.select(&kept)
    }

    /// The sub-tensor of the kept indices of each axis (`None`: all), in one pass over the bytes.
    pub fn select(&self, kept: &[Option<Vec<u32>>]) -> TensorRef {
        let dims: Vec<usize> = self
            .dims
            .iter()
            .zip(kept)
            .map(|(dim, kept)| kept.as_ref().map_or(*dim, Vec::len))
            .collect();
        let bits = self.dtype.bits();
        if !bits.is_multiple_of(8) {
            return self.select_packed(kept, dims);
        }
        // Axes behind the last cut one are copied as blocks.
        let Some(last) = kept.iter().rposition(Option::is_some) else {
            return self.clone();
        };
        let block = self.dims[last + 1..].iter().product::<usize>() * bits / 8;
        let runs = runs(kept[last].as_deref().unwrap_or_default());
        let mut bytes = Vec::with_capacity(dims.iter().product::<usize>() * bits / 8);
        let row = self.dims[last] * block;
        for_each_row(&self.dims[..last], &kept[..last], 0, &mut |at| {
            for (start, length) in &runs {
                let first = at * row + start * block;
                bytes.extend_from_slice(&self.bytes[first..first + length * block]);
            }
        });
        TensorRef {
            dtype: self.dtype,
            dims,
            bytes: bytes.into(),
        }
    }

    /// The reverse of [`TensorRef::select`]: this tensor with the elements of `part` at the kept indices. `None`: another type
    /// or other extents than the selection has, or elements of less than a byte.
    pub(crate) fn put_back(
        &self,
        kept: &[Option<Vec<u32>>],
        part: &TensorRef,
    ) -> Option<TensorRef> {
        let counts = self.dims.iter().zip(kept);
        let same = counts
            .map(|(dim, kept)| kept.as_ref().map_or(*dim, Vec::len))
            .eq(part.dims.iter().copied());
        let bits = self.dtype.bits();
        if !same || self.dtype != part.dtype || !bits.is_multiple_of(8) {
            return None;
        }
        let (size, mut bytes, mut from) = (bits / 8, self.bytes.to_vec(), 0);
        for_each_row(&self.dims, kept, 0, &mut |at| {
            bytes[at * size..][..size].copy_from_slice(&part.bytes[from..][..size]);
            from += size;
        });
        Some(TensorRef {
            dtype: self.dtype,
            dims: self.dims.clone(),
            bytes: bytes.into(),
        })
    }

    /// The same for elements of less than a byte, one by one.
    fn select_packed(&self, kept: &[Option<Vec<u32>>], dims: Vec<usize>) -> TensorRef {
        let bits = self.dtype.bits();
        let mut bytes = vec![0u8; self.dtype.bytes_for(dims.iter().product())];
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (at % 8) & 1;
        let mut to = 0;
        for_each_row(&self.dims, kept, 0, &mut |at| {
            for offset in 0..bits {
                bytes[to / 8] |= bit(&self.bytes, at * bits + offset) << (to % 8);
                to += 1;
            }
        });
        TensorRef {
            dtype: self.dtype,
            dims,
            bytes: bytes.into(),
        }
    }

    fn convert<T>(&self, real: fn(f64) -> T, whole: fn(i64) -> T) -> Option<Vec<T>> {
        macro_rules! read {
            ($ty:ty, $convert:expr) => {
                self.bytes
                    .chunks_exact(size_of::<$ty>())
                    .map(|chunk| {
                        let mut bytes = [0; size_of::<$ty>()];
                        bytes.copy_from_slice(chunk);
                        $convert(<$ty>::from_le_bytes(bytes))
                    })
                    .collect()
            };
        }
        Some(match self.dtype {
            Dtype::Float => read!(f32, |x| real(f64::from(x))),
            Dtype::Double => read!(f64, real),
            Dtype::Float16 => read!(u16, |x| real(half::f16::from_bits(x).to_f64())),
            Dtype::Bfloat16 => read!(u16, |x| real(half::bf16::from_bits(x).to_f64())),
            Dtype::Int8 => read!(i8, |x| whole(i64::from(x))),
            Dtype::Uint8 | Dtype::Bool => read!(u8, |x| whole(i64::from(x))),
            Dtype::Int16 => read!(i16, |x| whole(i64::from(x))),
            Dtype::Uint16 => read!(u16, |x| whole(i64::from(x))),
            Dtype::Int32 => read!(i32, |x| whole(i64::from(x))),
            Dtype::Uint32 => read!(u32, |x| whole(i64::from(x))),
            Dtype::Int64 => read!(i64, whole),
            Dtype::Uint64 => read!(u64, |x| whole(x as i64)),
            Dtype::Int4 | Dtype::Uint4 | Dtype::Int2 | Dtype::Uint2 => {
                let (bits, signed) = (
                    self.dtype.bits(),
                    matches!(self.dtype, Dtype::Int4 | Dtype::Int2),
                );
                (0..self.elements())
                    .map(|at| whole(packed(&self.bytes, at, bits, signed)))
                    .collect()
            }
            _ => return None,
        })
    }
}

/// Ascending indices as runs of (start, length).
fn runs(indices: &[u32]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for index in indices.iter().map(|index| *index as usize) {
        match runs.last_mut() {
            Some((start, length)) if *start + *length == index => *length += 1,
            _ => runs.push((index, 1)),
        }
    }
    runs
}

/// Calls a function with the flat position of every kept combination of indices, in row-major order.
fn for_each_row(
    dims: &[usize],
    kept: &[Option<Vec<u32>>],
    base: usize,
    visit: &mut impl FnMut(usize),
) {
    let (Some((dim, dims)), Some((kept, rest))) = (dims.split_first(), kept.split_first()) else {
        return visit(base);
    };
    match kept {
        Some(kept) => kept
            .iter()
            .for_each(|index| for_each_row(dims, rest, base * dim + *index as usize, visit)),
        None => (0..*dim).for_each(|index| for_each_row(dims, rest, base * dim + index, visit)),
    }
}

/// Number `at` of those of `bits` bits, eight at most, that share bytes, the first in the lowest bits of the first byte. `None`:
/// there are too few bytes.
pub(crate) fn bits_at(bytes: &[u8], at: usize, bits: usize) -> Option<u8> {
    let byte = bytes.get(at * bits / 8)?;
    Some(byte >> (at * bits % 8) & ((1u16 << bits) - 1) as u8)
}

/// The same with a sign, where the numbers have one.
fn packed(bytes: &[u8], at: usize, bits: usize, signed: bool) -> i64 {
    let raw = bits_at(bytes, at, bits).map_or(0, i64::from);
    if signed && raw >> (bits - 1) == 1 {
        raw - (1 << bits)
    } else {
        raw
    }
}

/// Bytes that type and dims ask for, and bytes that `raw_data` or the typed field stores (`None` for strings).
pub(super) fn expected_bytes(
    tensor: &TensorProto,
) -> Result<(usize, Option<usize>), TensorProblem> {
    let dtype = Dtype::from_code(tensor.data_type())
        .ok_or_else(|| TensorProblem::ElementType(tensor.data_type()))?;
    let elements = tensor.dims.iter().try_fold(1usize, |product, dim| {
        let dim = usize::try_from(*dim).map_err(|_| TensorProblem::NegativeExtent(*dim))?;
        product.checked_mul(dim).ok_or(TensorProblem::TooLarge)
    })?;
    if dtype == Dtype::String {
        // Their number keeps the dims in bounds, as the bytes do for the others.
        let stored = tensor.string_data.len();
        return if stored == elements {
            Ok((0, None))
        } else {
            Err(TensorProblem::Texts {
                stored,
                asked: elements,
            })
        };
    }
    let expected = elements
        .checked_mul(dtype.bits())
        .ok_or(TensorProblem::TooLarge)?
        .div_ceil(8);
    let raw = tensor.raw_data.as_ref().map_or(0, |raw| raw.len());
    let stored = if raw > 0 {
        raw
    } else {
        use Dtype::*;
        match dtype {
            Float | Complex64 => tensor.float_data.len() * 4,
            Double | Complex128 => tensor.double_data.len() * 8,
            Int64 => tensor.int64_data.len() * 8,
            Uint32 => tensor.uint64_data.len() * 4,
            Uint64 => tensor.uint64_data.len() * 8,
            // Packed types put one byte's worth of elements into each entry of int32_data.
            _ if dtype.bits() < 8 => tensor.int32_data.len(),
            _ => tensor.int32_data.len() * dtype.bits() / 8,
        }
    };
    Ok((expected, Some(stored)))
}

fn typed_bytes(tensor: &TensorProto, dtype: Dtype) -> Vec<u8> {
    use Dtype::*;
    match dtype {
        Float | Complex64 => tensor
            .float_data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Double | Complex128 => tensor
            .double_data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Int64 => tensor
            .int64_data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Uint32 => tensor
            .uint64_data
            .iter()
            .flat_map(|x| (*x as u32).to_le_bytes())
            .collect(),
        Uint64 => tensor
            .uint64_data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Int32 => tensor
            .int32_data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Int16 | Uint16 | Float16 | Bfloat16 => tensor
            .int32_data
            .iter()
            .flat_map(|x| (*x as u16).to_le_bytes())
            .collect(),
        _ => tensor.int32_data.iter().map(|x| *x as u8).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_and_raw_encodings_agree() {
        let typed = TensorProto {
            data_type: Some(10),
            dims: vec![2],
            int32_data: vec![0x3c00, 0xc000],
            ..Default::default()
        };
        let raw = TensorProto {
            data_type: Some(10),
            dims: vec![2],
            raw_data: Some(vec![0x00, 0x3c, 0x00, 0xc0].into()),
            ..Default::default()
        };
        let (typed, raw) = (
            TensorRef::from_proto(&typed).unwrap(),
            TensorRef::from_proto(&raw).unwrap(),
        );
        assert_eq!(typed, raw);
        assert_eq!(raw.to_f32().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn selecting_keeps_order_on_every_axis() {
        let tensor = TensorRef::from_i64(vec![2, 3, 2], &(0..12).collect::<Vec<_>>());
        let cut = tensor.select(&[None, Some(vec![0, 2]), Some(vec![1])]);
        assert_eq!(
            (cut.dims.as_slice(), cut.to_i64().unwrap()),
            ([2, 2, 1].as_slice(), vec![1, 5, 7, 11])
        );
        let packed = TensorRef {
            dtype: Dtype::Int4,
            dims: vec![2, 3],
            bytes: vec![0x21, 0x43, 0x65].into(),
        };
        assert_eq!(
            packed.select(&[None, Some(vec![1, 2])]).to_i64().unwrap(),
            [2, 3, 5, 6]
        );
    }

    #[test]
    fn nibbles_unpack_low_first() {
        let tensor = TensorRef {
            dtype: Dtype::Int4,
            dims: vec![3],
            bytes: vec![0x9f, 0x07].into(),
        };
        assert_eq!(tensor.to_i64().unwrap(), [-1, -7, 7]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let short = TensorProto {
            data_type: Some(1),
            dims: vec![2],
            raw_data: Some(vec![0; 4].into()),
            ..Default::default()
        };
        assert!(TensorRef::from_proto(&short).is_err());
        let huge = TensorProto {
            data_type: Some(1),
            dims: vec![i64::MAX, i64::MAX],
            ..Default::default()
        };
        assert!(TensorRef::from_proto(&huge).is_err());
    }
}
