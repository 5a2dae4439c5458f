//! Rows of numbers of a few bits, some of which go.

use crate::model::TensorRef;
use crate::proto::Dtype;

/// What stays of every row of packed numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repack {
    /// Numbers in a row before the cut; rows begin at whole bytes.
    pub numbers: usize,
    /// Bits of a number, 1 to 8; the first number lies in the lowest bits of the first byte.
    pub bits: usize,
    /// The places in a row that stay, ascending.
    pub kept: Vec<u32>,
}

impl Repack {
    fn bytes(&self, numbers: usize) -> usize {
        (numbers * self.bits).div_ceil(8)
    }

    /// The tensor with every row cut; its last axis holds whole rows. `None` if it does not, or is not of bytes.
    pub(super) fn of(&self, tensor: &TensorRef) -> Option<TensorRef> {
        let (old, new) = (self.bytes(self.numbers), self.bytes(self.kept.len()));
        let last = *tensor.dims.last()?;
        if tensor.dtype != Dtype::Uint8
            || old == 0
            || !last.is_multiple_of(old)
            || self.kept.iter().any(|at| *at as usize >= self.numbers)
        {
            return None;
        }
        let mut bytes = vec![0u8; tensor.bytes.len() / old * new];
        for (from, to) in tensor
            .bytes
            .chunks_exact(old)
            .zip(bytes.chunks_exact_mut(new.max(1)))
        {
            for (at, place) in self.kept.iter().enumerate() {
                for bit in 0..self.bits {
                    let (source, target) =
                        (*place as usize * self.bits + bit, at * self.bits + bit);
                    to[target / 8] |= (from[source / 8] >> (source % 8) & 1) << (target % 8);
                }
            }
        }
        let mut dims = tensor.dims.clone();
        *dims.last_mut()? = last / old * new;
        Some(TensorRef {
            dtype: tensor.dtype,
            dims,
            bytes: bytes.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_close_up() {
        // Two rows of three numbers: 1 2 3 and 4 5 6.
        let tensor = TensorRef {
            dtype: Dtype::Uint8,
            dims: vec![2, 2],
            bytes: vec![0x21, 0x03, 0x54, 0x06].into(),
        };
        let cut = |kept: &[u32]| {
            Repack {
                numbers: 3,
                bits: 4,
                kept: kept.to_vec(),
            }
            .of(&tensor)
            .unwrap()
        };
        assert_eq!(
            (cut(&[0, 2]).dims, cut(&[0, 2]).bytes.to_vec()),
            (vec![2, 1], vec![0x31, 0x64])
        );
        assert_eq!(cut(&[1]).bytes.to_vec(), [0x02, 0x05]);
        assert_eq!(cut(&[0, 1, 2]), tensor);
        // The same rows one after the other.
        let flat = TensorRef {
            dims: vec![4],
            ..tensor.clone()
        };
        assert_eq!(
            Repack {
                numbers: 3,
                bits: 4,
                kept: vec![0, 2]
            }
            .of(&flat)
            .unwrap()
            .dims,
            [2]
        );
    }

    #[test]
    fn numbers_across_bytes() {
        // Three bits each: 1, 2, 3, 4 = 001 010 011 100 from the lowest bit.
        let number = 1u32 | 2 << 3 | 3 << 6 | 4 << 9;
        let tensor = TensorRef {
            dtype: Dtype::Uint8,
            dims: vec![1, 2],
            bytes: number.to_le_bytes()[..2].to_vec().into(),
        };
        let cut = Repack {
            numbers: 4,
            bits: 3,
            kept: vec![0, 2, 3],
        }
        .of(&tensor)
        .unwrap();
        assert_eq!(
            cut.bytes.to_vec(),
            (1u32 | 3 << 3 | 4 << 6).to_le_bytes()[..2].to_vec()
        );
        assert!(
            Repack {
                numbers: 7,
                bits: 3,
                kept: vec![0]
            }
            .of(&tensor)
            .is_none()
        );
    }
}
