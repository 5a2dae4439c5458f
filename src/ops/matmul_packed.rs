//! Products with weights of a few bits, packed in blocks.

use super::conv::set_extent;
use super::operand::{self, along, layouts};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// Why the summed axis stays.
pub(super) const PACKED: Reason = Reason::operator("numbers packed into blocks with shared zero points");
/// Why the numbers of a block stay together.
pub(super) const BLOCK: Reason = Reason::operator("numbers of one block");

/// `y = x · wᵀ`, with the weight quantized in blocks of `block_size` numbers along the summed axis. Output channels
/// go one by one, summed ones by whole blocks.
struct MatMulNBits;

/// What the attributes say.
struct Packing {
    columns: i64,
    block: i64,
    /// Blocks of an output channel, if no number is missing in the last one.
    whole: Option<i64>,
    /// Blocks of an output channel, counting a last one that is not full.
    blocks: i64,
    bits: i64,
}

impl Packing {
    fn read(node: &NodeView) -> Option<Self> {
        let (sum, columns) = (node.int("K")?, node.int("N")?);
        let (block, bits) = (node.int("block_size")?, node.int("bits").unwrap_or(4));
        (sum > 0 && columns > 0 && block > 0 && (1..=8).contains(&bits)).then(|| Packing {
            columns,
            block,
            whole: (sum % block == 0).then_some(sum / block),
            blocks: (sum - 1) / block + 1,
            bits,
        })
    }
}

impl MatMulNBits {
    /// Scales or zero points: `[n, q]` or both in one axis.
    fn per_block(builder: &mut Builder, input: u32, name: &'static str, labels: [LabelId; 2], extents: [i64; 2]) -> Option<()> {
        let Some(dims) = builder.shape(Port::In(input)).map(<[Dim]>::to_vec) else { return Some(()) };
        let [rows, columns] = extents;
        let axes = match dims.as_slice() {
            [all] if *all == Dim::Num(rows.saturating_mul(columns)) => vec![Layout::product(&labels)],
            [first, second] if (first, second) == (&Dim::Num(rows), &Dim::Num(columns)) => layouts(&labels),
            _ => return None,
        };
        builder.port(Port::In(input), name, axes);
        Some(())
    }
}

impl Operator for MatMulNBits {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let packing = Packing::read(node).ok_or_else(|| InferError("attributes K, N, block_size or bits".into()))?;
        let shape = node
            .shape(0)
            .and_then(<[Dim]>::split_last)
            .map(|(_, front)| front.iter().cloned().chain(std::iter::once(Dim::Num(packing.columns))).collect());
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::placed(node, |node, builder| {
            let packing = Packing::read(node)?;
            let (_, front) = node.shape(0)?.split_last()?;
            let [_, _, bytes] = node.shape(1)? else { return None };
            // Zero points of fewer than 8 bits share bytes across blocks.
            let shared = node.has_input(3) && node.dtype(3).is_none_or(|dtype| dtype == Dtype::Uint8) && packing.bits != 8;
            let rows = operand::free(builder, "p", front);
            let n = builder.free("n", packing.columns);
            let (q, summed): (LabelId, Vec<LabelId>) = match packing.whole.filter(|_| !node.has_input(4)) {
                Some(blocks) => {
                    let q = builder.free("q", blocks);
                    if shared {
                        builder.fix(q, PACKED);
                    }
                    (q, vec![q, builder.fixed("j", packing.block, BLOCK)])
                }
                None => (builder.fixed("q", packing.blocks, PACKED), vec![builder.fixed("k", node.int("K")?, PACKED)]),
            };
            let z = builder.fixed("z", bytes.clone(), BLOCK);
            builder.port(Port::In(0), "x", layouts(&rows).into_iter().chain([Layout::product(&summed)]));
            builder.port(Port::In(1), "w", [n, q, z]);
            Self::per_block(builder, 2, "scales", [n, q], [packing.columns, packing.blocks])?;
            if shared {
                let bytes = (packing.blocks.saturating_mul(packing.bits) - 1) / 8 + 1;
                let axis = builder.fixed("z", bytes, PACKED);
                Self::per_block(builder, 3, "zero_points", [n, axis], [packing.columns, bytes])?;
            } else {
                Self::per_block(builder, 3, "zero_points", [n, q], [packing.columns, packing.blocks])?;
            }
            if let Some([length]) = node.shape(4) {
                let axis = builder.fixed("", length.clone(), PACKED);
                builder.port(Port::In(4), "g_idx", [axis]);
            }
            along(builder, 5, "bias", &n.into(), &Dim::Num(packing.columns))?;
            builder.port(Port::Out(0), "y", rows.iter().copied().chain([n]));
            // The weight's bytes are no numbers, so that what goes must become zero in the data.
            let labels = rows.iter().chain([&n]).chain(&summed).copied().collect();
            builder.term(Term { data: Port::In(0), weight: None, zero: None, labels, summed, window: None });
            Some(())
        })
    }

    fn rewrite(&self, _node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_extent(cut, edit, "n", "N")?;
        let Some(q) = cut.relation.named("q").filter(|q| cut.kept(*q).is_some()) else { return Ok(()) };
        let block = cut.extent_of("j").and_then(|block| block.num());
        let sum = cut.extent(q).num().zip(block).and_then(|(blocks, block)| blocks.checked_mul(block));
        edit.set_int("K", sum.ok_or_else(|| RewriteError("attribute K".into()))?);
        Ok(())
    }
}

pub(super) static RULES: &[Rule] = &[Rule::microsoft("MatMulNBits", &MatMulNBits)];

#[cfg(test)]
mod tests {
    use crate::ops::prove::Prove;

    fn start() -> Prove {
        Prove::op("MatMulNBits").domain("com.microsoft").at(1).input("bxsx128").int("N", 6).int("block_size", 32)
    }

    #[test]
    fn whole_blocks_go() {
        start()
            .int("K", 128)
            .weight("u8:6x4x16")
            .weight("24")
            .gives("bxsx6")
            .relates("x[p, p2, q·j] w[n, q, z] scales[n·q] → y[p, p2, n]  Σ q,j");
        start()
            .int("K", 128)
            .weight("u8:6x4x16")
            .weight("6x4")
            .weight("u8:12")
            .relates("x[p, p2, q·j] w[n, q, z] scales[n, q] zero_points[n·z2] → y[p, p2, n]  Σ q,j");
    }

    #[test]
    fn packed_weights_are_multiplied() {
        let multiplies = |case: Prove| {
            let operator = crate::ops::lookup(case.node.domain(), case.node.op_type()).unwrap();
            case.view(|view| {
                let relation = operator.relate(view);
                relation.terms.iter().any(|term| relation.multiplies(term))
            })
        };
        assert!(multiplies(start().int("K", 128).weight("u8:6x4x16").weight("24")));
        assert!(!multiplies(Prove::op("ReduceSum").input("2x8").list(&[1])));
    }

    #[test]
    fn a_block_that_is_not_full_fixes_the_sum() {
        let text = "x[p, p2, k] w[n, q, z] scales[n·q] → y[p, p2, n]  Σ k";
        Prove::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bxsx100")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 100)
            .weight("u8:6x4x16")
            .weight("24")
            .gives("bxsx6")
            .relates(text);
    }

    #[test]
    fn attributes_follow() {
        let proof = start().int("K", 128).weight("u8:6x4x16").weight("24");
        let edit = proof.view(|view| {
            let operator = super::MatMulNBits;
            let relation = crate::ops::Operator::relate(&operator, view);
            let mut kept = vec![None; relation.labels.len()];
            kept[relation.named("n").unwrap().index()] = Some([0, 2, 3].into());
            kept[relation.named("q").unwrap().index()] = Some([1, 2].into());
            let mut edit = crate::ops::NodeEdit::default();
            crate::ops::Operator::rewrite(&operator, view, &crate::ops::Cut { relation: &relation, kept }, &mut edit).unwrap();
            edit.settings
        });
        assert_eq!(edit, [("N", crate::ops::Setting::Int(3)), ("K", crate::ops::Setting::Int(64))]);
    }
}
