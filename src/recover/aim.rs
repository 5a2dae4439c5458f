//! What a layer's output is used for: what is added to it, and what function follows.
//!
//! A layer at the end of a residual branch can make up for what the other branch lost, and a layer before a ReLU need not
//! be right where the ReLU gives zero.

use crate::linear::Linear;
use crate::model::edit::NodeExt;
use crate::model::{Model, NodeId, ValueId};
use crate::ops::{Flow, flow, meaning};
use crate::proto::Dtype;

/// What happens to the output of a layer up to the first function that is not affine.
#[derive(Clone, Debug, Default)]
pub(super) struct Aim {
    /// A value that is added, of the same shape.
    pub added: Option<ValueId>,
    /// By output channel: the factor and offset on the way to that sum (or to the function).
    pub scale: Vec<f64>,
    pub offset: Vec<f64>,
    /// The function that the sum goes into, if that is its only reader.
    pub function: Option<Clamp>,
    /// What the function gives: each number of the layer's output at its own place.
    pub end: Option<ValueId>,
}

/// ReLU, ReLU6 and Clip: what is below and above makes no difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    pub low: f64,
    pub high: f64,
}

impl Aim {
    /// Follows the output of a layer.
    pub fn find(model: &Model, view: &Linear) -> Option<Self> {
        let (axis, places) = view.channel_axis()?;
        let channels = places.len();
        let mut aim = Aim {
            scale: vec![1.0; channels],
            offset: vec![0.0; channels],
            ..Default::default()
        };
        let mut value = view.output?;
        let mut biased = crate::linear::Bias::find(model, view).is_some_and(|bias| bias.outside);
        // Bias, norm, sum, function: no chain is longer.
        for _ in 0..6 {
            let Some((reader, slot)) = sole_reader(model, value) else {
                break;
            };
            let outputs = &model.index().node(reader).outputs;
            let output = outputs.first().copied().flatten();
            match flow(model.node(reader)) {
                Flow::Normalised if axis == 1 && slot == 0 && aim.added.is_none() => {
                    aim.normalise(model, reader, &places)?;
                }
                // The layer's own bias is fitted with it.
                Flow::Add if biased => biased = false,
                Flow::Add => {
                    let inputs = &model.index().node(reader).inputs;
                    let other = inputs.get(1 - slot as usize).copied().flatten()?;
                    let constant = crate::linear::Operand::trace(model, other).is_some();
                    if aim.added.is_some() || constant {
                        break;
                    }
                    aim.added = Some(other);
                }
                Flow::Rectified => {
                    let (low, high) = (0.0, f64::INFINITY);
                    aim.end_at(Some(Clamp { low, high }), output);
                    break;
                }
                Flow::Clipped => {
                    aim.end_at(clip(model, reader), output);
                    break;
                }
                Flow::Quantized if slot == 0 => {
                    let Some(range) = quantized(model, reader) else {
                        break;
                    };
                    // A branch on its way to a sum keeps its sign; else the range is where an exporter put the ReLU.
                    let signed = range.low < 0.0 && aim.added.is_none();
                    let Some(onwards) = towards_sum(model, reader).filter(|_| signed) else {
                        aim.end_at(Some(range), dequantized(model, reader));
                        break;
                    };
                    value = onwards;
                    continue;
                }
                _ => break,
            }
            value = output?;
        }
        Some(aim)
    }

    /// Takes up a normalisation by stored statistics; `places` are those of the channels on its axis.
    fn normalise(&mut self, model: &Model, node: NodeId, places: &[usize]) -> Option<()> {
        let message = model.node(node);
        let inputs = &model.index().node(node).inputs;
        let constant = |at: u32| {
            model
                .constant(inputs.get(at as usize).copied().flatten()?)?
                .to_f32()
        };
        let statistics = meaning(message).statistics?;
        let epsilon = message.float("epsilon").map_or(1e-5, f64::from);
        let [scale, shift, mean, variance] = [
            constant(statistics.scale)?,
            constant(statistics.shift)?,
            constant(statistics.mean)?,
            constant(statistics.variance)?,
        ];
        for (channel, place) in places.iter().enumerate() {
            let get = |list: &[f32]| list.get(*place).map(|number| f64::from(*number));
            let factor = get(&scale)? / (get(&variance)? + epsilon).sqrt();
            self.scale[channel] *= factor;
            self.offset[channel] = (self.offset[channel] - get(&mean)?) * factor + get(&shift)?;
        }
        Some(())
    }

    /// The function at the end of the chain, and what gives its result.
    fn end_at(&mut self, function: Option<Clamp>, end: Option<ValueId>) {
        (self.function, self.end) = (function, end);
    }
}

/// What a quantization with one scale can tell apart.
fn quantized(model: &Model, node: NodeId) -> Option<Clamp> {
    let inputs = &model.index().node(node).inputs;
    let constant = |at: usize| model.constant(inputs.get(at).copied().flatten()?);
    let [scale] = constant(1)?.to_f64()?[..] else {
        return None;
    };
    let zero = constant(2)?;
    let [point] = zero.to_f64()?[..] else {
        return None;
    };
    let (least, most) = match zero.dtype {
        Dtype::Uint8 => (0.0, 255.0),
        Dtype::Int8 => (-128.0, 127.0),
        Dtype::Uint16 => (0.0, 65535.0),
        Dtype::Int16 => (-32768.0, 32767.0),
        _ => return None,
    };
    Some(Clamp {
        low: (least - point) * scale,
        high: (most - point) * scale,
    })
}

/// The one node that reads a value, and at which input; `None` for outputs of the graph.
fn sole_reader(model: &Model, value: ValueId) -> Option<(NodeId, u32)> {
    let entry = model.index().value(value);
    match entry.readers[..] {
        [only] if !entry.is_output => Some(only),
        _ => None,
    }
}

/// The one node that reads a value, as its first or second input.
fn only_reader(model: &Model, value: ValueId) -> Option<NodeId> {
    sole_reader(model, value)
        .filter(|(_, slot)| *slot < 2)
        .map(|(reader, _)| reader)
}

/// The dequantized value behind a quantization that nothing else reads.
fn dequantized(model: &Model, node: NodeId) -> Option<ValueId> {
    let output = |node: NodeId| model.index().node(node).outputs.first().copied().flatten();
    let reader = only_reader(model, output(node)?)
        .filter(|reader| flow(model.node(*reader)) == Flow::Dequantized)?;
    output(reader)
}

/// The same, if a sum alone reads it.
fn towards_sum(model: &Model, node: NodeId) -> Option<ValueId> {
    let value = dequantized(model, node)?;
    only_reader(model, value)
        .filter(|reader| flow(model.node(*reader)) == Flow::Add)
        .map(|_| value)
}

fn clip(model: &Model, node: NodeId) -> Option<Clamp> {
    let message = model.node(node);
    let attribute = |name: &str| message.float(name).map(f64::from);
    let bound = |at: usize, name: &str| {
        let given = model.index().node(node).inputs.get(at).copied().flatten();
        match given {
            Some(value) => model.constant(value)?.to_f64()?.first().copied().map(Some),
            None => Some(attribute(name)),
        }
    };
    Some(Clamp {
        low: bound(1, "min")?.unwrap_or(f64::NEG_INFINITY),
        high: bound(2, "max")?.unwrap_or(f64::INFINITY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Pins, infer, relate};
    use crate::linear::views;

    /// The aim of the layer that gives `y`, with what follows it.
    fn aim(rest: &str) -> (Model, Aim) {
        let text = format!(
            "opset 13\ninput x f32[1,4]\nconst w f32[4,4]\nconst s f32[] = 0.5\nconst low u8[] = 0\nconst mid u8[] = 128\n\
             r = Tanh(x)\ny = MatMul(x, w)\n{rest}\noutput z\n"
        );
        let model = crate::model::text::model(&text).unwrap();
        let view = views(&model, &relate(&model, &infer(&model, &Pins::new()))).remove(0);
        let aim = Aim::find(&model, &view).unwrap();
        (model, aim)
    }

    #[test]
    fn a_quantization_clips_where_its_range_ends() {
        let (_, aim) =
            aim("q = QuantizeLinear(y, s, low)\nd = DequantizeLinear(q, s, low)\nz = Exp(d)");
        assert_eq!(
            aim.function,
            Some(Clamp {
                low: 0.0,
                high: 127.5
            })
        );
    }

    #[test]
    fn a_branch_is_followed_through_its_quantization_to_the_sum() {
        let after = "t = Add(d, r)\np = QuantizeLinear(t, s, low)\nz = DequantizeLinear(p, s, low)";
        let (model, found) = aim(&format!(
            "q = QuantizeLinear(y, s, mid)\nd = DequantizeLinear(q, s, mid)\n{after}"
        ));
        assert_eq!(
            (found.added, found.function),
            (
                model.index().main_value("r"),
                Some(Clamp {
                    low: 0.0,
                    high: 127.5
                })
            )
        );
        // Where the ReLU lies in the quantization before the sum, that is where the aim ends.
        let (_, found) = aim(&format!(
            "q = QuantizeLinear(y, s, low)\nd = DequantizeLinear(q, s, low)\n{after}"
        ));
        assert_eq!(
            (found.added, found.function),
            (
                None,
                Some(Clamp {
                    low: 0.0,
                    high: 127.5
                })
            )
        );
    }
}
