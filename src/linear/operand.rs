//! Weights and the constants behind them: dequantized, transposed or cast on the way.

use half::{bf16, f16};

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
    },
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
                OperandStep::Same => {}
                OperandStep::Transpose(order) => {
                    (dims, numbers) = transposed(&dims, &numbers, order)?
                }
                OperandStep::Dequantize { .. } => {
                    let steps = QuantizationSteps::read(model, step, &dims)?;
                    numbers.iter_mut().enumerate().for_each(|(at, number)| {
                        *number = (*number - steps.zero(at)) * steps.scale(at)
                    });
                }
            }
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
            let last = dims.last()?.clone();
            dims.push(match step {
                OperandStep::Transpose(order) => order
                    .iter()
                    .map(|axis| last.get(*axis).copied())
                    .collect::<Option<_>>()?,
                _ => last,
            });
        }
        let mut numbers = numbers.to_vec();
        for (at, step) in self.steps.iter().enumerate().rev() {
            match step {
                OperandStep::Same => {}
                OperandStep::Transpose(order) => {
                    let mut back = vec![0; order.len()];
                    order
                        .iter()
                        .enumerate()
                        .for_each(|(to, from)| back[*from] = to);
                    numbers = transposed(&dims[at + 1], &numbers, &back)?.1;
                }
                OperandStep::Dequantize { .. } => {
                    let steps = QuantizationSteps::read(model, step, &dims[at])?;
                    numbers.iter_mut().enumerate().for_each(|(at, number)| {
                        let scale = steps.scale(at);
                        *number = if scale == 0.0 {
                            steps.zero(at)
                        } else {
                            *number / scale + steps.zero(at)
                        };
                    });
                }
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
        Flow::Dequantized if attribute("block_size").is_none_or(|size| size.i() == 0) => {
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
            }
        }
        _ => return None,
    };
    Some((step, source))
}

/// Scales and zero points, element by element.
struct QuantizationSteps {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    block: usize,
}

impl QuantizationSteps {
    fn read(model: &Model, step: &OperandStep, dims: &[usize]) -> Option<Self> {
        let OperandStep::Dequantize { scale, zero, axis } = step else {
            return None;
        };
        let scales = model.constant(*scale)?.to_f32()?;
        let zeros = match zero {
            Some(zero) => model.constant(*zero)?.to_f32()?,
            None => vec![0.0],
        };
        let block = if scales.len() == 1 {
            1
        } else {
            dims.get(axis + 1..)?.iter().product()
        };
        let fits = |list: &[f32]| list.len() == 1 || dims.get(*axis) == Some(&list.len());
        (fits(&scales) && fits(&zeros)).then_some(QuantizationSteps {
            scales,
            zeros,
            block,
        })
    }

    fn scale(&self, element: usize) -> f32 {
        self.scales[element / self.block.max(1) % self.scales.len()]
    }

    fn zero(&self, element: usize) -> f32 {
        self.zeros[element / self.block.max(1) % self.zeros.len()]
    }
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
