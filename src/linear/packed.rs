//! Weights whose numbers of a few bits share bytes, in blocks along the summed axis with a scale each.
//!
//! The layout is that of com.microsoft's MatMulNBits: `N` rows of `⌈K / block_size⌉` blocks of `block_size · bits / 8` bytes,
//! the first number in the lowest bits; zero points are packed likewise row by row, or plain numbers, or half the range.
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits>

use super::quantization::Quantization;
use crate::model::edit::NodeExt;
use crate::model::{Model, NodeId, ValueId, bits_at};
use crate::ops::meaning;
use crate::proto::Dtype;

/// A packed weight of `rows` × `sum` numbers.
#[derive(Clone, Debug)]
pub(super) struct PackedWeight {
    rows: usize,
    sum: usize,
    block: usize,
    bits: usize,
    scales: ValueId,
    zeros: Option<ValueId>,
}

impl PackedWeight {
    /// The weight of a node, input 1. `None`: it is not packed so, or its zero points are none of its numbers.
    pub fn of(model: &Model, node: NodeId) -> Option<Self> {
        let (entry, message) = (model.index().node(node), model.node(node));
        let inputs = meaning(message).packed?;
        let count = |name: &str| message.int(name).and_then(|n| usize::try_from(n).ok());
        let bits = usize::try_from(message.int_or("bits", 4)).ok()?;
        let packed = PackedWeight {
            rows: count("N")?,
            sum: count("K")?,
            block: count("block_size").filter(|block| *block > 0)?,
            bits,
            scales: entry.input(inputs.scales as usize)?,
            zeros: entry.input(inputs.zeros as usize),
        };
        let in_order = message.int_or("weight_prepacked", 0) == 0
            && entry.input(inputs.order as usize).is_none();
        let whole_bytes =
            matches!(bits, 1 | 2 | 4 | 8) && packed.block.checked_mul(bits)?.is_multiple_of(8);
        (in_order && whole_bytes).then_some(())?;
        let bytes = model.constant(entry.input(1)?)?;
        let wanted = packed
            .rows
            .checked_mul(packed.blocks())?
            .checked_mul(packed.bytes())?;
        (bytes.dtype == Dtype::Uint8 && bytes.elements() == wanted).then_some(())?;
        let quantization = packed.quantization(model)?;
        let is_number = |zero: &f32| zero.fract() == 0.0 && (0.0..=packed.most()).contains(zero);
        quantization.zeros.iter().all(is_number).then_some(packed)
    }

    /// Its dims as numbers.
    pub fn dims(&self) -> Vec<usize> {
        vec![self.rows, self.sum]
    }

    fn blocks(&self) -> usize {
        self.sum.div_ceil(self.block)
    }

    /// The bytes of a block.
    fn bytes(&self) -> usize {
        self.block * self.bits / 8
    }

    /// The largest number.
    fn most(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    /// Scales and zero points, by rows and blocks. `None`: no constants, or of other extents.
    pub fn quantization(&self, model: &Model) -> Option<Quantization> {
        let all = self.rows.checked_mul(self.blocks())?;
        let scales = model.constant(self.scales)?.to_f32()?;
        let zeros = match self.zeros {
            None => vec![(1u32 << (self.bits - 1)) as f32],
            Some(value) => {
                let tensor = model.constant(value)?;
                let numbers = tensor.to_f32()?;
                match tensor.dtype {
                    Dtype::Uint8 => self.zeros_of_bytes(&numbers)?,
                    _ => numbers,
                }
            }
        };
        let fits = scales.len() == all && (zeros.len() == all || self.zeros.is_none());
        fits.then_some(Quantization {
            scales,
            zeros,
            inner: 1,
            extent: self.sum,
            block: self.block,
        })
    }

    /// Zero points that share bytes within a row.
    fn zeros_of_bytes(&self, bytes: &[f32]) -> Option<Vec<f32>> {
        let bytes: Vec<u8> = bytes.iter().map(|byte| *byte as u8).collect();
        let row = (self.blocks() * self.bits).div_ceil(8);
        let number = |at: usize| {
            let bytes = bytes.get(at / self.blocks() * row..)?;
            Some(f32::from(bits_at(bytes, at % self.blocks(), self.bits)?))
        };
        (0..self.rows * self.blocks()).map(number).collect()
    }

    /// The byte that holds a number, and by how many bits it is shifted there.
    fn place(&self, element: usize) -> (usize, usize) {
        let (row, at) = (element / self.sum, element % self.sum);
        let block = row * self.blocks() + at / self.block;
        let bit = at % self.block * self.bits;
        (block * self.bytes() + bit / 8, bit % 8)
    }

    /// The numbers in bytes, row by row. `None`: there are too few bytes.
    pub fn unpack(&self, bytes: &[f32]) -> Option<Vec<f32>> {
        let number = |element: usize| {
            let (byte, shift) = self.place(element);
            let byte = *bytes.get(byte)? as u8 >> shift;
            Some(f32::from(byte & self.most() as u8))
        };
        (0..self.rows * self.sum).map(number).collect()
    }

    /// Puts numbers into bytes, rounded and clipped; what fills up a last block stays. `None`: there are too few bytes.
    pub fn pack(&self, numbers: &[f32], bytes: &mut [f32]) -> Option<()> {
        for (element, number) in numbers.iter().enumerate() {
            let (byte, shift) = self.place(element);
            let number = number.round_ties_even().clamp(0.0, self.most()) as u8;
            let held = bytes.get_mut(byte)?;
            let others = *held as u8 & !((self.most() as u8) << shift);
            *held = f32::from(others | number << shift);
        }
        Some(())
    }
}
