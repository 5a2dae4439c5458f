//! ONNX Runtime's other weights that are quantized in blocks: tables of which rows are looked up, and weights in one row of bytes.

use super::edit::set_extent;
use super::matmul_packed::{BLOCK, RAGGED, bytes};
use super::meaning::{Along, Pick};
use super::operand::{self, describe_or_freeze, layouts};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Relation, Term};

/// Rows of a quantized table, looked up by number. Columns go by whole blocks.
struct GatherBlockQuantized;

/// What the attributes say of a table.
struct PackedTable {
    looked_up: usize,
    quantized: usize,
    block: i64,
    /// Numbers that share one element of the table.
    packed: i64,
}

impl PackedTable {
    fn read(node: &NodeView, dims: &[Dim]) -> Option<Self> {
        let axis = |name, default| NodeView::axis(node.int(name).unwrap_or(default), dims.len());
        let bits = node.int("bits").unwrap_or(4);
        let packed = if node.dtype(0) == Some(Dtype::Uint8) && (1..8).contains(&bits) {
            8 / bits
        } else {
            1
        };
        let mut table = PackedTable {
            looked_up: axis("gather_axis", 0)?,
            quantized: axis("quantize_axis", 1)?,
            block: node.int("block_size").unwrap_or(128),
            packed,
        };
        if table.block == 0 {
            // One block.
            table.block = dims.get(table.quantized)?.num()?;
        }
        // Several numbers of a byte lie along the last axis.
        let along = packed == 1 || table.quantized + 1 == dims.len();
        (table.block > 0 && table.looked_up != table.quantized && along).then_some(table)
    }

    /// The quantized axis, of the data, of the scales, of the zero points and of the output.
    fn quantized_axis(
        &self,
        builder: &mut Builder,
        extent: &Dim,
        scales: &Dim,
    ) -> Option<[Layout; 4]> {
        let width = extent.num()?.checked_mul(self.packed)?;
        let bits = 8 / self.packed;
        if width % self.block == 0 && self.block % self.packed == 0 {
            let (q, j) = (
                builder.free("q", width / self.block),
                builder.fixed("j", self.block, BLOCK),
            );
            let z = builder.fixed("z", self.block / self.packed, BLOCK);
            return Some([
                Layout::product(&[q, z]),
                q.into(),
                bytes(builder, &q.into(), bits)?,
                Layout::product(&[q, j]),
            ]);
        }
        let q = builder.fixed("q", scales.clone(), RAGGED);
        let zero = bytes(builder, &q.into(), bits)?;
        Some([
            builder.fixed("z", extent.clone(), RAGGED).into(),
            q.into(),
            zero,
            builder.fixed("j", width, RAGGED).into(),
        ])
    }
}

impl Operator for GatherBlockQuantized {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(2);
        let (Some(data), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return Ok(operand::output(node, dtype, None));
        };
        let table = PackedTable::read(node, data)
            .ok_or_else(|| InferError("attributes that do not fit the table".into()))?;
        let axes = data.iter().enumerate().flat_map(|(axis, dim)| match axis {
            _ if axis == table.looked_up => indices.to_vec(),
            _ if axis == table.quantized => vec![dim * &Dim::Num(table.packed)],
            _ => vec![dim.clone()],
        });
        Ok(operand::output(node, dtype, Some(axes.collect())))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let (data, indices, scales) = (node.shape(0)?, node.shape(1)?, node.shape(2)?);
            let table = PackedTable::read(node, data)?;
            if scales.len() != data.len() {
                return None;
            }
            let rows = operand::free(builder, "i", indices);
            let (mut from, mut scale, mut zero, mut to) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (axis, (dim, scales)) in data.iter().zip(scales).enumerate() {
                let whole = if axis == table.looked_up {
                    let row = builder.fixed("v", dim.clone(), super::gather::LOOKED_UP);
                    from.push(Layout::from(row));
                    zero.push(row.into());
                    to.extend(layouts(&rows));
                    Layout::from(row)
                } else if axis == table.quantized {
                    let [data, scale, zeros, output] =
                        table.quantized_axis(builder, dim, scales)?;
                    from.push(data);
                    zero.push(zeros);
                    to.push(output);
                    scale
                } else {
                    let label = builder.free("p", dim.clone());
                    [&mut from, &mut zero, &mut to]
                        .into_iter()
                        .for_each(|axes| axes.push(label.into()));
                    label.into()
                };
                // One scale may hold for all of an axis.
                let one = scales.is_one() && !builder.extent(&whole).is_one();
                scale.push(if one {
                    builder.fill(1i64).into()
                } else {
                    whole
                });
            }
            builder.port(Port::In(0), "data", from);
            builder.port(Port::In(1), "indices", rows);
            builder.port(Port::In(2), "scales", scale);
            builder.port(Port::In(3), "zero_points", zero);
            builder.port(Port::Out(0), "y", to);
            Some(())
        })
    }
}

/// `y = x · wᵀ` with the weight as one row of half bytes, quantized block by block through all of it.
struct MatMulBnb4;

impl MatMulBnb4 {
    /// Summed numbers, output channels and numbers in a block.
    fn sizes(node: &NodeView) -> Option<[i64; 3]> {
        let sizes = [node.int("K")?, node.int("N")?, node.int("block_size")?];
        sizes.iter().all(|size| *size > 0).then_some(sizes)
    }
}

impl Operator for MatMulBnb4 {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let [_, columns, _] =
            Self::sizes(node).ok_or_else(|| InferError("attributes K, N or block_size".into()))?;
        let front = node
            .shape(0)
            .and_then(<[Dim]>::split_last)
            .map(|(_, front)| front);
        let shape = front.map(|front| front.iter().cloned().chain([Dim::Num(columns)]).collect());
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let [sum, columns, block] = Self::sizes(node)?;
            let (_, front) = node.shape(0)?.split_last()?;
            if sum % block != 0 || block % 2 != 0 || node.int("transB") == Some(0) {
                // Blocks run across output channels.
                return None;
            }
            let rows = operand::free(builder, "p", front);
            let (n, q) = (builder.free("n", columns), builder.free("q", sum / block));
            let (j, z) = (
                builder.fixed("j", block, BLOCK),
                builder.fixed("z", block / 2, BLOCK),
            );
            builder.port(
                Port::In(0),
                "x",
                layouts(&rows).into_iter().chain([Layout::product(&[q, j])]),
            );
            let bytes = Layout::product(&[n, q, z]);
            match node.shape(1)? {
                [_] => builder.port(Port::In(1), "w", [bytes]),
                [_, _] => {
                    let one = builder.fill(1i64);
                    builder.port(Port::In(1), "w", [bytes, one.into()]);
                }
                _ => return None,
            }
            builder.port(Port::In(2), "absmax", [Layout::product(&[n, q])]);
            builder.port(Port::Out(0), "y", rows.iter().copied().chain([n]));
            // The weight's bytes are no numbers, so that what goes must become zero in the data.
            let labels: Vec<LabelId> = rows.iter().copied().chain([n, q, j]).collect();
            builder.term(Term {
                data: Port::In(0),
                weight: None,
                zero: None,
                labels,
                summed: vec![q, j],
                window: None,
            });
            Some(())
        })
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_extent(cut, edit, "n", "N")?;
        let Some(q) = cut.relation.named("q").filter(|q| cut.kept(*q).is_some()) else {
            return Ok(());
        };
        let sum = cut
            .extent(q)
            .num()
            .zip(node.int("block_size"))
            .and_then(|(blocks, block)| blocks.checked_mul(block));
        edit.set_int("K", sum.ok_or_else(|| RewriteError("attribute K".into()))?);
        Ok(())
    }
}

/// Indices along one axis.
const BLOCKS: Pick = Pick {
    indices: 1,
    table: 0,
    along: Along::Axis("gather_axis"),
};

pub(super) static RULES: &[Rule] = &[
    Rule::microsoft("GatherBlockQuantized", &GatherBlockQuantized).picks(&[BLOCKS]),
    Rule::microsoft("MatMulBnb4", &MatMulBnb4),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;
    use crate::ops::{Operator, Setting};

    #[test]
    fn columns_of_a_table_go_by_blocks() {
        let table = || {
            OpCase::op("GatherBlockQuantized")
                .domain("com.microsoft")
                .at(1)
                .int("block_size", 16)
        };
        let packed = table().weight("u8:100x32").input("i64:bxs").weight("100x4");
        packed
            .expect_shapes("bxsx64")
            .expect_relation("data[v, q·z] indices[i, i2] scales[v, q] → y[i, i2, q·j]");
        let bytes = table()
            .int("bits", 8)
            .weight("u8:100x32")
            .input("i64:b")
            .weight("100x2")
            .weight("u8:100x2");
        bytes
            .expect_shapes("bx32")
            .expect_relation("data[v, q·z] indices[i] scales[v, q] zero_points[v, q] → y[i, q·j]");
        let shared = table()
            .weight("u8:100x32")
            .input("i64:b")
            .weight("100x4")
            .weight("u8:100x2");
        shared.expect_shapes("bx64").expect_relation(
            "data[v, q·z] indices[i] scales[v, q] zero_points[v, q/2] → y[i, q·j]",
        );
        let misfit = table().weight("u8:100x32").input("i64:b").weight("100");
        assert!(misfit.view(|view| super::GatherBlockQuantized.relate(view).terms.is_empty()));
    }

    #[test]
    fn a_row_of_half_bytes_holds_channel_after_channel() {
        let product = OpCase::op("MatMulBnb4")
            .domain("com.microsoft")
            .at(1)
            .int("K", 64)
            .int("N", 6)
            .int("block_size", 16)
            .int("quant_type", 1);
        let product = product.input("bxsx64").weight("u8:192").weight("24");
        product
            .clone()
            .expect_shapes("bxsx6")
            .expect_relation("x[p, p2, q·j] w[n·q·z] absmax[n·q] → y[p, p2, n]  Σ q,j");
        let edit = product.edit(&[("n", &[0, 2]), ("q", &[1])]).unwrap();
        assert_eq!(
            edit.settings,
            [("N", Setting::Int(2)), ("K", Setting::Int(16))]
        );
    }
}
