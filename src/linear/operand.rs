//! Weights and the constants behind them: dequantized, transposed or cast on the way.

use half::{bf16, f16};

use super::packed::PackedWeight;
use super::quantization::Quantization;
use crate::model::edit::NodeExt;
use crate::model::{Model, NodeId, Origin, TensorRef, ValueId};
use crate::ops::{Flow, flow};
use crate::proto::Dtype;

/// A weight that one constant determines.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The constant whose numbers it holds.
    pub constant: ValueId,
    /// What is done to it, the first first.
    steps: Vec<OperandStep>,
    /// Whether nothing else reads the constant or what is made of it.
    own: bool,
}

#[derive(Clone, Debug)]
enum OperandStep {
    Same,
    Transpose(Vec<usize>),
    Dequantize {
        scale: ValueId,
        zero: Option<ValueId>,
        axis: usize,
        block: usize,
    },
    Unpack(PackedWeight),
}

impl OperandStep {
    /// The dims of what it gives. `None`: it does not fit.
    fn dims(&self, of: &[usize]) -> Option<Vec<usize>> {
        match self {
            OperandStep::Transpose(order) => order
                .iter()
                .map(|axis| of.get(*axis).copied())
                .collect::<Option<_>>(),
            OperandStep::Unpack(packed) => Some(packed.dims()),
            OperandStep::Same | OperandStep::Dequantize { .. } => Some(of.to_vec()),
        }
    }

    /// Scales and zero points, where it is one of quantized numbers.
    fn quantization(&self, model: &Model, dims: &[usize]) -> Option<Quantization> {
        match self {
            OperandStep::Dequantize {
                scale,
                zero,
                axis,
                block,
            } => Quantization::read(model, (*scale, *zero), (*axis, *block), dims),
            OperandStep::Unpack(packed) => packed.quantization(model),
            OperandStep::Same | OperandStep::Transpose(_) => None,
        }
    }
}

impl Operand {
    /// Walks back from a value to the constant it is made of. `None`: it is not, or by operators not known here.
    pub fn trace(model: &Model, value: ValueId) -> Option<Self> {
        let mut steps = Vec::new();
        let (mut value, mut own) = (value, true);
        // Longer chains than this are not weights.
        for _ in 0..8 {
            own &= model.index().value(value).readers.len() <= 1
                && !model.index().value(value).is_output;
            if model.tensor_proto(value).is_some() {
                steps.reverse();
                return Some(Operand {
                    constant: value,
                    steps,
                    own,
                });
            }
            let Origin::Output(node, 0) = model.index().value(value).origin else {
                return None;
            };
            let (step, source) = step(model, node)?;
            steps.push(step);
            value = source;
        }
        None
    }

    /// The weight of a node whose operator unpacks it. `None`: it does not, or the weight is no constant.
    pub fn packed(model: &Model, node: NodeId) -> Option<Self> {
        let packed = PackedWeight::of(model, node)?;
        let constant = model.index().node(node).input(1)?;
        let value = model.index().value(constant);
        Some(Operand {
            constant,
            steps: vec![OperandStep::Unpack(packed)],
            own: value.readers.len() <= 1 && !value.is_output,
        })
    }

    /// Whether several of its numbers share a byte or a word of the constant, or its operator takes them apart.
    pub fn is_packed(&self) -> bool {
        matches!(self.steps[..], [OperandStep::Unpack(_)])
    }

    /// Whether it can be written without changing what others read.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The weight as real numbers, with its dims. `None`: a type that holds none.
    pub fn read(&self, model: &Model) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = model.constant(self.constant)?;
        let (mut dims, mut numbers) = (tensor.dims.clone(), tensor.to_f32()?);
        for step in &self.steps {
            match step {
                OperandStep::Same => continue,
                OperandStep::Transpose(order) => {
                    (dims, numbers) = transposed(&dims, &numbers, order)?;
                    continue;
                }
                OperandStep::Unpack(packed) => {
                    (dims, numbers) = (packed.dims(), packed.unpack(&numbers)?);
                }
                OperandStep::Dequantize { .. } => {}
            }
            let quantization = step.quantization(model, &dims)?;
            let real = |(at, number): (usize, &mut f32)| *number = quantization.real(at, *number);
            numbers.iter_mut().enumerate().for_each(real);
        }
        Some((dims, numbers))
    }

    /// Puts numbers (in the weight's own order) into the constant; quantized ones by the scales that stand.
    /// `None`: others read the constant too, or its type holds no such numbers.
    pub fn write(&self, model: &mut Model, numbers: &[f32]) -> Option<()> {
        if !self.own {
            return None;
        }
        let tensor = model.constant(self.constant)?;
        // Dims before each step.
        let mut dims = vec![tensor.dims.clone()];
        for step in &self.steps {
            dims.push(step.dims(dims.last()?)?);
        }
        let mut numbers = numbers.to_vec();
        for (at, step) in self.steps.iter().enumerate().rev() {
            match step {
                OperandStep::Same => continue,
                OperandStep::Transpose(order) => {
                    let mut back = vec![0; order.len()];
                    order
                        .iter()
                        .enumerate()
                        .for_each(|(to, from)| back[*from] = to);
                    numbers = transposed(&dims[at + 1], &numbers, &back)?.1;
                    continue;
                }
                OperandStep::Dequantize { .. } | OperandStep::Unpack(_) => {}
            }
            let quantization = step.quantization(model, &dims[at])?;
            let steps = |(at, number): (usize, &mut f32)| *number = quantization.steps(at, *number);
            numbers.iter_mut().enumerate().for_each(steps);
            if let OperandStep::Unpack(packed) = step {
                let mut bytes = tensor.to_f32()?;
                packed.pack(&numbers, &mut bytes)?;
                numbers = bytes;
            }
        }
        let new = encode(tensor.dtype, tensor.dims, &numbers)?;
        let target = model.tensor_proto_mut(self.constant)?;
        let mut message = new.to_proto("");
        message.name = target.name.take();
        message.doc_string = target.doc_string.take();
        message.metadata_props = std::mem::take(&mut target.metadata_props);
        *target = message;
        Some(())
    }
}

/// Numbers as a tensor of some type, rounded and clipped to what it holds. `None`: not a type of plain numbers.
pub fn encode(dtype: Dtype, dims: Vec<usize>, numbers: &[f32]) -> Option<TensorRef> {
    let whole = |low: f32, high: f32| {
        numbers
            .iter()
            .map(move |number| number.round_ties_even().clamp(low, high))
    };
    let bytes: Vec<u8> = match dtype {
        Dtype::Float => numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        Dtype::Double => numbers
            .iter()
            .flat_map(|number| f64::from(*number).to_le_bytes())
            .collect(),
        Dtype::Float16 => numbers
            .iter()
            .flat_map(|number| f16::from_f32(*number).to_le_bytes())
            .collect(),
        Dtype::Bfloat16 => numbers
            .iter()
            .flat_map(|number| bf16::from_f32(*number).to_le_bytes())
            .collect(),
        Dtype::Int8 => whole(-128.0, 127.0)
            .map(|number| number as i8 as u8)
            .collect(),
        Dtype::Uint8 => whole(0.0, 255.0).map(|number| number as u8).collect(),
        Dtype::Int4 => sharing_bytes(whole(-8.0, 7.0), 4),
        Dtype::Uint4 => sharing_bytes(whole(0.0, 15.0), 4),
        Dtype::Int2 => sharing_bytes(whole(-2.0, 1.0), 2),
        Dtype::Uint2 => sharing_bytes(whole(0.0, 3.0), 2),
        Dtype::Int32 => numbers
            .iter()
            .flat_map(|number| (number.round_ties_even() as i32).to_le_bytes())
            .collect(),
        _ => return None,
    };
    Some(TensorRef {
        dtype,
        dims,
        bytes: bytes.into(),
    })
}

/// Whole numbers of a few bits, the first in the lowest bits of the first byte.
fn sharing_bytes(numbers: impl Iterator<Item = f32>, bits: usize) -> Vec<u8> {
    let (each, mask) = (8 / bits, (1u8 << bits) - 1);
    let mut bytes = Vec::new();
    for (at, number) in numbers.enumerate() {
        if at % each == 0 {
            bytes.push(0);
        }
        if let Some(byte) = bytes.last_mut() {
            *byte |= (number as i8 as u8 & mask) << (at % each * bits);
        }
    }
    bytes
}

/// What a node does to its first input, if that is something known here.
fn step(model: &Model, node: NodeId) -> Option<(OperandStep, ValueId)> {
    let (entry, message) = (model.index().node(node), model.node(node));
    let source = entry.input(0)?;
    let attribute = |name: &str| message.attribute(name);
    let rank = |value: ValueId| model.tensor_proto(value).map(|tensor| tensor.dims.len());
    let step = match flow(message) {
        Flow::Same => OperandStep::Same,
        Flow::Permuted => {
            let order: Vec<usize> = attribute("perm")?
                .ints
                .iter()
                .map(|axis| usize::try_from(*axis).ok())
                .collect::<Option<_>>()?;
            OperandStep::Transpose(order)
        }
        Flow::Dequantized => {
            let axis = attribute("axis").map_or(1, |axis| axis.i());
            let axis = if axis < 0 {
                axis + rank(source)? as i64
            } else {
                axis
            };
            let scale = entry.input(1)?;
            OperandStep::Dequantize {
                scale,
                zero: entry.input(2),
                axis: usize::try_from(axis).ok()?,
                block: usize::try_from(message.int_or("block_size", 0)).ok()?,
            }
        }
        _ => return None,
    };
    Some((step, source))
}

fn transposed(dims: &[usize], numbers: &[f32], order: &[usize]) -> Option<(Vec<usize>, Vec<f32>)> {
    let to: Vec<usize> = order
        .iter()
        .map(|axis| dims.get(*axis).copied())
        .collect::<Option<_>>()?;
    if to.len() != dims.len() {
        return None;
    }
    let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
    let strides: Vec<usize> = order.iter().map(|axis| stride(*axis)).collect();
    let mut offsets = vec![0usize];
    for (extent, stride) in to.iter().zip(&strides) {
        offsets = offsets
            .iter()
            .flat_map(|offset| (0..*extent).map(move |index| offset + index * stride))
            .collect();
    }
    let moved = offsets
        .into_iter()
        .map(|offset| numbers.get(offset).copied())
        .collect::<Option<_>>()?;
    Some((to, moved))
}
