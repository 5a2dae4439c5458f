//! Products with weights in blocks that are not MatMulNBits: small floats with a scale for each block, and several products of one
//! input.

use super::edit::set_extent;
use super::matmul_packed::{BLOCK, Packing, Sum, set_sum};
use super::operand::{self, describe_or_freeze, layouts, per_axis, scalars};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment};

/// `y = x · wᵀ` with floats of 8 or 4 bits, a scale for every `block_size` of a row.
struct Floats {
    /// Numbers in an element of the weight.
    each: i64,
    /// Numbers of a block where the attribute is not set.
    block: i64,
    /// Where scales for the whole tensor are.
    singles: &'static [(u32, &'static str)],
    bias: u32,
}

const FP8: Floats = Floats {
    each: 1,
    block: 128,
    singles: &[(3, "xscale")],
    bias: 4,
};
const FP4: Floats = Floats {
    each: 2,
    block: 16,
    singles: &[(3, "scale"), (4, "xscale")],
    bias: 5,
};

impl Operator for Floats {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let front = node
            .shape(0)
            .and_then(<[Dim]>::split_last)
            .map(|(_, front)| front);
        let shape = front
            .zip(node.shape(1))
            .and_then(|(front, w)| Some(front.iter().chain([w.first()?]).cloned().collect()));
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let ((last, front), [columns, width]) = (node.shape(0)?.split_last()?, node.shape(1)?)
            else {
                return None;
            };
            let block = node.int("block_size").unwrap_or(self.block);
            let sum = width.num()?.checked_mul(self.each)?;
            if sum <= 0
                || block <= 0
                || block % self.each != 0
                || last.differs(&Dim::Num(sum))
                || node.shape(2)?.len() != 2
            {
                return None;
            }
            let rows = operand::free(builder, "p", front);
            let n = builder.free("n", columns.clone());
            let parts = Sum::new(builder, sum, block, true);
            let weight = if self.each == 1 {
                parts.numbers.clone()
            } else {
                self.bytes(builder, &parts, sum, block)
            };
            let scales = node.shape(2)?.last()?;
            if scales.differs(&builder.extent(&parts.blocks))
                || width.differs(&builder.extent(&weight))
            {
                return None;
            }
            builder.port(
                Port::In(0),
                "x",
                layouts(&rows).into_iter().chain([parts.numbers.clone()]),
            );
            builder.port(Port::In(1), "w", [n.into(), weight]);
            builder.port(Port::In(2), "scales", [n.into(), parts.blocks.clone()]);
            scalars(builder, self.singles)?;
            per_axis(builder, self.bias, "bias", &n.into(), columns)?;
            let outer: Vec<_> = rows.into_iter().chain([n]).collect();
            builder.port(Port::Out(0), "y", outer.clone());
            parts.terms(builder, Port::In(0), &outer);
            Some(())
        })
    }
}

impl Floats {
    /// The elements of a row: those of whole blocks, and of a last one that is not full.
    fn bytes(&self, builder: &mut Builder, parts: &Sum, sum: i64, block: i64) -> Layout {
        match (parts.blocks.labels().next(), sum / block, sum % block) {
            (Some(q), full, rest) if full > 0 => {
                let z = builder.fixed("z", block / self.each, BLOCK);
                let mut layout = Layout::product(&[q, z]);
                if rest > 0 {
                    let last = builder.fixed("", rest / self.each, BLOCK);
                    layout
                        .0
                        .push(Segment::Product([last].into_iter().collect()));
                }
                layout
            }
            _ => builder.fixed("z", sum / self.each, BLOCK).into(),
        }
    }
}

/// One of several products.
struct BlockProduct {
    /// The input that holds the weight; its scales and a bias come next.
    at: u32,
    names: [&'static str; 3],
    /// The label of its output channels, and the attribute that holds their number.
    columns: [&'static str; 2],
    output: u32,
}

impl BlockProduct {
    const fn new(
        at: u32,
        names: [&'static str; 3],
        columns: [&'static str; 2],
        output: u32,
    ) -> Self {
        BlockProduct {
            at,
            names,
            columns,
            output,
        }
    }
}

/// Several products of one input, which may be normalised before, with an activation between two of them.
struct Several {
    products: &'static [BlockProduct],
    /// The output that holds the sum of the data and what was skipped.
    sum: u32,
}

const MLP: Several = Several {
    products: &[
        BlockProduct::new(3, ["gate", "scales", "bias"], ["n", "N"], 0),
        BlockProduct::new(6, ["up", "scales2", "bias2"], ["n", "N"], 0),
    ],
    sum: 1,
};
const QKV: Several = Several {
    products: &[
        BlockProduct::new(3, ["wq", "scales", "bias"], ["n", "Nq"], 0),
        BlockProduct::new(6, ["wk", "scales2", "bias2"], ["m", "Nkv"], 1),
        BlockProduct::new(9, ["wv", "scales3", "bias3"], ["m", "Nkv"], 2),
    ],
    sum: 3,
};

/// Why the summed axis stays where the data is normalised.
const NORMALISED: Reason = Reason::operator("a normalisation inside the operator reads it whole");

impl Operator for Several {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let mut facts = vec![
            Fact {
                dtype,
                ..Fact::default()
            };
            self.sum as usize
        ];
        let front = node
            .shape(0)
            .and_then(<[Dim]>::split_last)
            .map(|(_, front)| front);
        for BlockProduct {
            columns: [_, attribute],
            output,
            ..
        } in self.products
        {
            let columns = node
                .int(attribute)
                .ok_or_else(|| InferError(format!("attribute {attribute}")))?;
            if let (Some(fact), Some(front)) = (facts.get_mut(*output as usize), front) {
                fact.shape = Some(front.iter().cloned().chain([Dim::Num(columns)]).collect());
            }
        }
        facts.push(
            node.input(0)
                .cloned()
                .unwrap_or_default()
                .with_contents(None),
        );
        Ok(operand::outputs(node, facts))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let (last, front) = node.shape(0)?.split_last()?;
            let first = Packing::read(node, self.products.first()?.columns[1])?;
            if last.differs(&Dim::Num(first.sum)) {
                return None;
            }
            let rows = operand::free(builder, "p", front);
            let flat = |input: u32| {
                node.shape(input as usize)
                    .is_some_and(|dims| dims.len() == 1)
            };
            let apart = !self.products.iter().any(|product| flat(product.at + 1));
            let sum = match node.has_input(2) {
                true => Sum::held(builder, first.sum, first.block, &NORMALISED),
                false => Sum::new(builder, first.sum, first.block, apart),
            };
            let data: Vec<Layout> = layouts(&rows)
                .into_iter()
                .chain([sum.numbers.clone()])
                .collect();
            builder.port(Port::In(0), "x", data.clone());
            builder.port(Port::In(1), "skip", data.clone());
            builder.port(Port::In(2), "norm", [sum.numbers.clone()]);
            let mut labels: Vec<(&str, LabelId)> = Vec::new();
            for BlockProduct {
                at,
                names: [weight, scales, bias],
                columns: [name, attribute],
                output,
            } in self.products
            {
                let packing = Packing::read(node, attribute)?;
                let n = match labels.iter().find(|(other, _)| other == name) {
                    Some((_, label)) => *label,
                    None => builder.free(*name, packing.columns),
                };
                labels.push((name, n));
                packing.weight(builder, *at, [weight, scales], (n, &sum))?;
                per_axis(builder, at + 2, bias, &n.into(), &Dim::Num(packing.columns))?;
                let outer: Vec<_> = rows.iter().copied().chain([n]).collect();
                builder.port(Port::Out(*output), "y", outer.clone());
                sum.terms(builder, Port::In(0), &outer);
            }
            builder.port(Port::Out(self.sum), "sum", data);
            Some(())
        })
    }

    fn rewrite(&self, _: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        for BlockProduct {
            columns: [label, attribute],
            ..
        } in self.products
        {
            set_extent(cut, edit, label, attribute)?;
        }
        set_sum(cut, edit)
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::microsoft("MatMulBlockQuantizedFp4Weight", &FP4),
    Rule::microsoft("MatMulBlockQuantizedFp8Weight", &FP8),
    Rule::microsoft("MatMulNBitsMlp", &MLP),
    Rule::microsoft("MatMulNBitsQkv", &QKV),
];

#[cfg(test)]
mod tests {
    use crate::ops::Setting;
    use crate::ops::case::OpCase;

    #[test]
    fn small_floats() {
        let eight = OpCase::op("MatMulBlockQuantizedFp8Weight")
            .domain("com.microsoft")
            .at(1)
            .int("block_size", 16)
            .input("f16:bxsx40");
        let eight = eight.weight("u8:6x40").weight("6x3").none().weight("f16:6");
        eight.expect_shapes("bxsx6").expect_relation(
            "x[p, p2, q·j+k] w[n, q·j+k] scales[n, q+r] bias[n] → y[p, p2, n]  Σ q,j; Σ k",
        );
        let four = OpCase::op("MatMulBlockQuantizedFp4Weight")
            .domain("com.microsoft")
            .at(1)
            .input("f16:bx40")
            .weight("u8:6x20");
        let four = four.weight("u8:6x3").weight("").expect_shapes("bx6");
        four.expect_relation(
            "x[p, q·j+k] w[n, q·z+4] scales[n, q+r] scale[] → y[p, n]  Σ q,j; Σ k",
        );
    }

    #[test]
    fn several_products_of_one_input() {
        let start = |op| {
            OpCase::op(op)
                .domain("com.microsoft")
                .at(1)
                .int("K", 64)
                .int("block_size", 32)
                .input("bxsx64")
        };
        let mlp = OpCase::op("MatMulNBitsMlp")
            .domain("com.microsoft")
            .at(1)
            .int("K", 64)
            .int("block_size", 32)
            .int("N", 6)
            .input("bxsx64");
        let mlp = mlp
            .none()
            .none()
            .weight("u8:6x2x16")
            .weight("6x2")
            .weight("6")
            .weight("u8:6x2x16")
            .weight("6x2")
            .none();
        mlp.clone()
            .expect_shapes("bxsx6")
            .expect_relation("x[p, p2, q·j] gate[n, q, z] scales[n, q] bias[n] up[n, q, z2] scales2[n, q] → y[p, p2, n]  Σ q,j; Σ q,j");
        let edit = mlp.edit(&[("n", &[0, 3]), ("q", &[1])]).unwrap();
        assert_eq!(
            edit.settings[1..],
            [("N", Setting::Int(2)), ("K", Setting::Int(32))]
        );
        let qkv = start("MatMulNBitsQkv")
            .int("Nq", 8)
            .int("Nkv", 4)
            .none()
            .weight("64")
            .weight("u8:8x2x16")
            .weight("8x2")
            .none();
        let qkv = qkv
            .weight("u8:4x2x16")
            .weight("4x2")
            .none()
            .weight("u8:4x2x16")
            .weight("4x2")
            .outputs(3);
        qkv.expect_shapes("bxsx8 bxsx4 bxsx4").check_laws();
    }
}
