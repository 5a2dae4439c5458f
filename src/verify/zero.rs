//! What stands in place of slices that are silenced.

use crate::model::TensorRef;
use crate::proto::Dtype;

/// What stands in place of silenced data.
pub(super) enum Silence {
    Zero,
    /// The zero point of this name.
    ZeroPoint(String),
    /// −∞, which is never the largest.
    Lowest,
}

impl Silence {
    /// The number, of a type; `None` where the type has none.
    pub(super) fn number(&self, dtype: Dtype) -> Option<TensorRef> {
        let bytes = match (self, dtype) {
            (Silence::Lowest, Dtype::Float) => f32::NEG_INFINITY.to_le_bytes().to_vec(),
            (Silence::Lowest, Dtype::Double) => f64::NEG_INFINITY.to_le_bytes().to_vec(),
            (Silence::Lowest, Dtype::Float16) => half::f16::NEG_INFINITY.to_le_bytes().to_vec(),
            (Silence::Lowest, Dtype::Bfloat16) => half::bf16::NEG_INFINITY.to_le_bytes().to_vec(),
            (Silence::Lowest, _) => return None,
            _ => vec![0; dtype.bytes_for(1)],
        };
        Some(TensorRef {
            dtype,
            dims: Vec::new(),
            bytes: bytes.into(),
        })
    }
}

/// The numbers that mean zero: one, or one for each index of an axis of the constant.
#[derive(Clone, Debug)]
pub(super) struct Zero {
    pub(super) numbers: Vec<i64>,
    pub(super) axis: Option<usize>,
}

impl Zero {
    /// A constant in which the indices of an axis that are not `kept` hold zeros.
    pub(super) fn silenced(&self, tensor: TensorRef, axis: usize, kept: &[u32]) -> TensorRef {
        let bits = tensor.dtype.bits();
        let block = tensor.dims[axis + 1..].iter().product::<usize>();
        let mut bytes = tensor.bytes.to_vec();
        let mut keeps = vec![false; tensor.dims[axis]];
        kept.iter().for_each(|index| keeps[*index as usize] = true);
        let (stride, count) = self.spread(&tensor.dims);
        let zero_at = |element: usize| {
            self.numbers
                .get(element / stride % count.max(1))
                .copied()
                .unwrap_or(0)
        };
        for row in 0..tensor.dims[..axis].iter().product::<usize>() * tensor.dims[axis] {
            if keeps[row % tensor.dims[axis]] {
                continue;
            }
            if bits >= 8 {
                let range = row * block * bits / 8..(row + 1) * block * bits / 8;
                // Only bytes can have a zero point that is not 0.
                if bits == 8 && !tensor.dtype.is_float() {
                    range.for_each(|element| bytes[element] = zero_at(element) as u8);
                } else {
                    bytes[range].fill(0);
                }
            } else {
                for element in row * block..(row + 1) * block {
                    let (byte, shift) = (element * bits / 8, element * bits % 8);
                    let mask = ((1u16 << bits) - 1) as u8;
                    bytes[byte] =
                        bytes[byte] & !(mask << shift) | (zero_at(element) as u8 & mask) << shift;
                }
            }
        }
        TensorRef {
            bytes: bytes.into(),
            ..tensor
        }
    }

    /// How far apart elements with the next zero point lie in a tensor of these dims, and how many zero points there are.
    fn spread(&self, dims: &[usize]) -> (usize, usize) {
        match self.axis {
            Some(axis) if self.numbers.len() == dims[axis] => (
                dims[axis + 1..].iter().product::<usize>().max(1),
                self.numbers.len(),
            ),
            _ => (1, 1),
        }
    }
}
