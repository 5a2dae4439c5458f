//! To and from quantized numbers.

use super::meaning::Flow;
use super::norm::like;
use super::operand::{self, aligned, describe_or_freeze, layouts, per_axis};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// Why the numbers of a block stay together.
const BLOCK: Reason = Reason::operator("numbers of one block");
/// Why an axis stays whose blocks are not all full.
const RAGGED: Reason = Reason::operator("blocks that do not fill the axis");

/// QuantizeLinear and DequantizeLinear: scales for the whole tensor, along an axis, or for blocks of an axis.
enum QuantizedLinear {
    Quantize,
    Dequantize,
}

impl QuantizedLinear {
    /// The element type of the output.
    fn dtype(&self, node: &NodeView) -> Option<Dtype> {
        let given = node.int("output_dtype").filter(|code| *code != 0);
        let given = given
            .and_then(|code| i32::try_from(code).ok())
            .and_then(Dtype::from_code);
        match self {
            QuantizedLinear::Quantize => node.dtype(2).or(given).or(if node.has_input(2) {
                None
            } else {
                Some(Dtype::Uint8)
            }),
            QuantizedLinear::Dequantize => given.or(node.dtype(1)).or(Some(Dtype::Float)),
        }
    }

    /// The axis that scales lie along.
    fn axis(node: &NodeView, rank: usize) -> Option<usize> {
        NodeView::axis(node.int("axis").unwrap_or(1), rank)
    }

    /// Scales of the tensor's rank: the axis holds blocks.
    fn blocked(node: &NodeView, builder: &mut Builder, dims: &[Dim], scales: &[Dim]) -> Option<()> {
        let at = Self::axis(node, dims.len())?;
        let block = node.int("block_size").filter(|block| *block > 0)?;
        let (extent, blocks) = (dims.get(at)?, scales.get(at)?);
        let (mut axes, mut of): (Vec<Layout>, Vec<Layout>) = (Vec::new(), Vec::new());
        for (axis, dim) in dims.iter().enumerate() {
            let (layout, scale) = if axis != at {
                let label = builder.free("p", dim.clone());
                (label.into(), label.into())
            } else if extent == &(blocks * &Dim::Num(block)) {
                let (n, k) = (
                    builder.free("n", blocks.clone()),
                    builder.fixed("k", block, BLOCK),
                );
                (Layout::product(&[n, k]), n.into())
            } else {
                (
                    builder.fixed("k", dim.clone(), RAGGED).into(),
                    builder.fixed("n", blocks.clone(), RAGGED).into(),
                )
            };
            axes.push(layout);
            of.push(scale);
        }
        builder.port(Port::In(0), "x", axes.clone());
        aligned(builder, 1, "scale", &of, scales)?;
        aligned(builder, 2, "zero", &of, scales)?;
        builder.port(Port::Out(0), "y", axes);
        Some(())
    }
}

impl Operator for QuantizedLinear {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(operand::outputs(
            node,
            [Fact {
                dtype: self.dtype(node),
                ..like(node, 0)
            }],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let (dims, scales) = (node.shape(0)?, node.shape(1)?);
            if node.int("block_size").unwrap_or(0) > 0 && scales.len() == dims.len() {
                return Self::blocked(node, builder, dims, scales);
            }
            let axes = operand::free(builder, "p", dims);
            builder.port(Port::In(0), "x", axes.clone());
            let at = Self::axis(node, dims.len()).and_then(|at| axes.get(at).zip(dims.get(at)));
            for (input, name) in [(1, "scale"), (2, "zero")] {
                match at {
                    Some((label, extent)) => {
                        per_axis(builder, input, name, &(*label).into(), extent)?
                    }
                    None => operand::scalars(builder, &[(input, name)])?,
                }
            }
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// DynamicQuantizeLinear: the scale spans the least number, the greatest, and zero, so that numbers which are zero
/// may as well be missing.
struct Dynamic;

impl Operator for Dynamic {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(operand::outputs(
            node,
            [
                Fact {
                    dtype: Some(Dtype::Uint8),
                    ..like(node, 0)
                },
                Fact::new(Some(Dtype::Float), Vec::new()),
                Fact::new(Some(Dtype::Uint8), Vec::new()),
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let axes = operand::free(builder, "p", node.shape(0)?);
            builder.port(Port::In(0), "x", axes.clone());
            builder.port(Port::Out(0), "y", axes.clone());
            builder.port(Port::Out(1), "scale", Vec::<LabelId>::new());
            builder.port(Port::Out(2), "zero", Vec::<LabelId>::new());
            builder.term(Term {
                data: Port::In(0),
                weight: None,
                zero: None,
                labels: axes.clone(),
                summed: axes,
                window: None,
            });
            Some(())
        })
    }
}

/// Quantization with scales for the whole tensor or along an axis, and element-wise use of it: QLinearSigmoid and others.
struct Unary {
    /// Whether an axis is normalised as a whole.
    softmax: bool,
}

impl Operator for Unary {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(operand::outputs(
            node,
            [Fact {
                dtype: node.dtype(4).or(node.dtype(0)),
                ..like(node, 0)
            }],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.shape(0)?;
            let axes = operand::free(builder, "p", dims);
            if self.softmax {
                // Before version 13 all axes from this one on were normalised together.
                let together = node.int("opset").unwrap_or(13) < 13;
                let from = NodeView::axis(
                    node.int("axis").unwrap_or(if together { 1 } else { -1 }),
                    dims.len(),
                )?;
                let to = if together { dims.len() } else { from + 1 };
                axes.get(from..to)?
                    .iter()
                    .for_each(|label| builder.fix(*label, Reason::operator("softmax axis")));
            }
            builder.port(Port::In(0), "x", axes.clone());
            for (input, name) in [(1, "x_scale"), (2, "x_zero"), (3, "y_scale"), (4, "y_zero")] {
                aligned(builder, input, name, &layouts(&[]), &[])?;
            }
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("QuantizeLinear", &QuantizedLinear::Quantize)
        .flow(Flow::Quantized)
        .counts_steps(),
    Rule::onnx("DequantizeLinear", &QuantizedLinear::Dequantize).flow(Flow::Dequantized),
    Rule::onnx("DynamicQuantizeLinear", &Dynamic).counts_steps(),
    Rule::microsoft("QuantizeLinear", &QuantizedLinear::Quantize)
        .flow(Flow::Quantized)
        .counts_steps(),
    Rule::microsoft("DequantizeLinear", &QuantizedLinear::Dequantize).flow(Flow::Dequantized),
    Rule::microsoft("QLinearSigmoid", &Unary { softmax: false }).counts_steps(),
    Rule::microsoft("QLinearLeakyRelu", &Unary { softmax: false }).counts_steps(),
    Rule::microsoft("QLinearSoftmax", &Unary { softmax: true }).counts_steps(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn per_tensor_and_per_axis() {
        let quantize = || OpCase::op("QuantizeLinear").input("bx8x4");
        quantize()
            .weight("")
            .weight("i8:")
            .expect_shapes("bx8x4")
            .expect_relation("x[p, p2, p3] scale[] zero[] → y[p, p2, p3]");
        quantize()
            .at(10)
            .weight("")
            .expect_shapes("bx8x4")
            .expect_relation("x[p, p2, p3] scale[] → y[p, p2, p3]");
        let weight = OpCase::op("DequantizeLinear")
            .at(13)
            .weight("i8:8x4x3x3")
            .weight("8")
            .weight("i8:8")
            .int("axis", 0);
        weight
            .expect_shapes("8x4x3x3")
            .expect_relation("x[p, p2, p3, p4] scale[p] zero[p] → y[p, p2, p3, p4]");
        OpCase::op("DequantizeLinear")
            .weight("i32:8")
            .weight("8")
            .int("axis", 0)
            .expect_relation("x[p] scale[p] → y[p]");
        OpCase::op("DequantizeLinear")
            .weight("i32:8")
            .weight("1")
            .expect_relation("x[p] scale[1] → y[p]");
    }

    #[test]
    fn blocks() {
        let weight = |x: &str, scale: &str| {
            OpCase::op("DequantizeLinear")
                .weight(x)
                .weight(scale)
                .int("axis", 1)
                .int("block_size", 16)
        };
        weight("i8:8x64", "8x4")
            .expect_shapes("8x64")
            .expect_relation("x[p, n·k] scale[p, n] → y[p, n·k]");
        weight("i8:8x60", "8x4")
            .expect_shapes("8x60")
            .expect_relation("x[p, k] scale[p, n] → y[p, k]");
    }

    #[test]
    fn types() {
        use crate::proto::Dtype;
        let dtype = |case: OpCase| case.facts()[0].dtype;
        assert_eq!(
            dtype(OpCase::op("QuantizeLinear").input("2").weight("")),
            Some(Dtype::Uint8)
        );
        assert_eq!(
            dtype(
                OpCase::op("QuantizeLinear")
                    .input("2")
                    .weight("")
                    .int("output_dtype", 3)
            ),
            Some(Dtype::Int8)
        );
        assert_eq!(
            dtype(OpCase::op("DequantizeLinear").input("i8:2").weight("f16:")),
            Some(Dtype::Float16)
        );
    }

    #[test]
    fn dynamic() {
        let quantize = OpCase::op("DynamicQuantizeLinear").input("bx8").outputs(3);
        quantize
            .expect_shapes("bx8  ")
            .expect_relation("x[p, p2] → y[p, p2] scale[] zero[]  Σ p,p2");
    }

    #[test]
    fn of_onnx_runtime() {
        let start = |op| {
            OpCase::op(op)
                .domain("com.microsoft")
                .at(1)
                .input("u8:2x8")
                .weight("")
                .weight("u8:")
                .weight("")
                .weight("u8:")
        };
        start("QLinearSigmoid")
            .expect_shapes("2x8")
            .expect_relation("x[p, p2] x_scale[] x_zero[] y_scale[] y_zero[] → y[p, p2]");
        let softmax = start("QLinearSoftmax").int("axis", -1);
        let fates = softmax.view(|view| {
            crate::ops::Operator::relate(&super::Unary { softmax: true }, view).labels
        });
        assert!(matches!(fates[1].fate, crate::relation::Fate::Fixed(_)));
        assert_eq!(fates[0].fate, crate::relation::Fate::Free);
    }
}
