//! Products with weights of a few bits, packed in blocks.

use super::conv::set_extent;
use super::operand::{self, along, layouts};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment, Term};

/// Why the summed axis stays.
pub(super) const PACKED: Reason = Reason::operator("numbers packed into blocks with shared zero points");
/// Why the numbers of a block stay together.
pub(super) const BLOCK: Reason = Reason::operator("numbers of one block");

/// `y = x · wᵀ`, with the weight quantized in blocks of `block_size` numbers along the summed axis. Output channels
/// go one by one, summed ones by whole blocks, and by as many as share a byte of zero points.
struct MatMulNBits;

/// What the attributes say.
struct Packing {
    columns: i64,
    block: i64,
    /// Numbers of an output channel.
    sum: i64,
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
            sum,
            blocks: (sum - 1) / block + 1,
            bits,
        })
    }
}

impl MatMulNBits {
    /// Row after row; `None` where the rows are no product.
    fn by_row(row: LabelId, block: &Layout) -> Option<Layout> {
        let [Segment::Product(labels)] = block.0.as_slice() else { return None };
        Some(Layout::product(&std::iter::once(row).chain(labels.iter().copied()).collect::<Vec<_>>()))
    }

    /// Scales or zero points: `[n, q]` or both in one axis.
    fn per_block(builder: &mut Builder, input: u32, name: &'static str, (row, block): (LabelId, &Layout), extents: [i64; 2]) -> Option<()> {
        let Some(dims) = builder.shape(Port::In(input)).map(<[Dim]>::to_vec) else { return Some(()) };
        let [rows, columns] = extents;
        let axes = match dims.as_slice() {
            [all] if *all == Dim::Num(rows.saturating_mul(columns)) => vec![Self::by_row(row, block)?],
            [first, second] if (first, second) == (&Dim::Num(rows), &Dim::Num(columns)) => vec![row.into(), block.clone()],
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
            // What of the summed axis goes together: a block, or those that share a byte. The rest at the end stays; with one, rows
            // are not all alike, and have to be an axis of their own.
            let per = if shared { 8 / packing.bits } else { 1 };
            let (count, rest) = (packing.sum / (packing.block * per), packing.sum % (packing.block * per));
            let apart = [2, 3].iter().all(|input| node.shape(*input).is_none_or(|dims| dims.len() == 2));
            let free =
                !node.has_input(4) && per * packing.bits <= 8 && (!shared || 8 % packing.bits == 0) && count > 0 && (rest == 0 || apart);
            let (q, inner, odd) = if free {
                let q = builder.free("q", count);
                let shares = if shared { Some(builder.fixed("h", per, PACKED)) } else { None };
                let inner = (shares, builder.fixed("j", packing.block, BLOCK));
                let blocks = packing.blocks - count * per;
                let odd = if rest > 0 { Some((builder.fixed("r", blocks, PACKED), builder.fixed("k", rest, PACKED))) } else { None };
                (q, Some(inner), odd)
            } else {
                (builder.fixed("q", packing.blocks, PACKED), None, None)
            };
            let first: Vec<LabelId> = std::iter::once(q).chain(inner.and_then(|(shares, _)| shares)).collect();
            let blocks = Layout(
                std::iter::once(&first[..])
                    .chain(odd.as_ref().map(|(blocks, _)| std::slice::from_ref(blocks)))
                    .map(|labels| Segment::Product(labels.into()))
                    .collect(),
            );
            let (sum, summed) = match inner {
                Some((_, number)) => {
                    let numbers: Vec<LabelId> = first.iter().copied().chain([number]).collect();
                    let mut sum = Layout::product(&numbers);
                    sum.0.extend(odd.map(|(_, rest)| Segment::Product(smallvec::smallvec![rest])));
                    (sum, numbers)
                }
                None => {
                    let all = builder.fixed("k", packing.sum, PACKED);
                    (all.into(), vec![all])
                }
            };
            let z = builder.fixed("z", bytes.clone(), BLOCK);
            builder.port(Port::In(0), "x", layouts(&rows).into_iter().chain([sum]));
            builder.port(Port::In(1), "w", [n.into(), blocks.clone(), z.into()]);
            Self::per_block(builder, 2, "scales", (n, &blocks), [packing.columns, packing.blocks])?;
            if shared {
                let bytes = (packing.blocks.saturating_mul(packing.bits) - 1) / 8 + 1;
                let axis = match (inner, odd) {
                    (None, _) => builder.fixed("z", bytes, PACKED).into(),
                    (Some(_), None) => q.into(),
                    (Some(_), Some(_)) => Layout::sum(&[q, builder.fixed("", bytes - count, PACKED)]),
                };
                Self::per_block(builder, 3, "zero_points", (n, &axis), [packing.columns, bytes])?;
            } else {
                Self::per_block(builder, 3, "zero_points", (n, &blocks), [packing.columns, packing.blocks])?;
            }
            if let Some([length]) = node.shape(4) {
                let axis = builder.fixed("", length.clone(), PACKED);
                builder.port(Port::In(4), "g_idx", [axis]);
            }
            along(builder, 5, "bias", &n.into(), &Dim::Num(packing.columns))?;
            builder.port(Port::Out(0), "y", rows.iter().copied().chain([n]));
            // The weight's bytes are no numbers, so that what goes must become zero in the data.
            for summed in std::iter::once(summed).chain(odd.map(|(_, rest)| vec![rest])) {
                let labels = rows.iter().chain([&n]).chain(&summed).copied().collect();
                builder.term(Term { data: Port::In(0), weight: None, zero: None, labels, summed, window: None });
            }
            Some(())
        })
    }

    fn rewrite(&self, _node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_extent(cut, edit, "n", "N")?;
        if cut.relation.named("q").is_none_or(|q| cut.kept(q).is_none()) {
            return Ok(());
        }
        let sum = cut.dims(Port::In(0)).and_then(|dims| dims.last()?.num());
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
            .relates("x[p, p2, q·h·j] w[n, q·h, z] scales[n, q·h] zero_points[n·q] → y[p, p2, n]  Σ q,h,j");
        Prove::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bx160")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 160)
            .weight("u8:6x5x16")
            .weight("6x5")
            .weight("u8:6x3")
            .relates("x[p, q·h·j+k] w[n, q·h+r, z] scales[n, q·h+r] zero_points[n, q+1] → y[p, n]  Σ q,h,j; Σ k");
    }

    #[test]
    fn a_last_block_that_is_not_full_stays() {
        Prove::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bx200")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 200)
            .weight("u8:6x7x16")
            .weight("6x7")
            .weight("u8:6x4")
            .relates("x[p, q·h·j+k] w[n, q·h+r, z] scales[n, q·h+r] zero_points[n, q+1] → y[p, n]  Σ q,h,j; Σ k");
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
