//! Products with weights of a few bits, packed in blocks.

use super::edit::set_extent;
use super::meaning::PackedInputs;
use super::operand::{self, layouts, per_axis};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment, Term};

/// Why bytes stay together that hold several numbers.
pub(super) const BYTES: Reason = Reason::operator("numbers packed into bytes");
/// Why the numbers of a block stay together.
pub(in crate::ops) const BLOCK: Reason = Reason::operator("numbers of one block");
/// Why a block stays that is not full.
pub(super) const RAGGED: Reason = Reason::operator("a last block that is not full");
/// Why a weight stays that is laid out for one device.
const PREPACKED: Reason = Reason::operator("numbers in an order that only one device knows");
/// Why the summed axis stays where an input says which block each number belongs to.
const GROUPED: Reason = Reason::operator("numbers in groups that an input names");

/// The axis that a weight in blocks is summed over.
pub(super) struct Sum {
    /// The blocks of a row, counting a last one that is not full.
    pub blocks: Layout,
    /// The numbers of a row.
    pub numbers: Layout,
    /// What is summed, part after part.
    pub summed: Vec<Vec<LabelId>>,
}

impl Sum {
    /// `sum` numbers in blocks of `block`, which go one by one. A last one that is not full stays, and with it all of them unless
    /// `apart`: the blocks of a row are an axis of their own wherever they occur.
    pub fn new(builder: &mut Builder, sum: i64, block: i64, apart: bool) -> Self {
        let (full, rest) = (sum / block, sum % block);
        if full == 0 || (rest > 0 && !apart) {
            return Sum::held(builder, sum, block, &RAGGED);
        }
        let (q, j) = (builder.free("q", full), builder.fixed("j", block, BLOCK));
        let (mut blocks, mut numbers, mut summed) =
            (Layout::from(q), Layout::product(&[q, j]), vec![vec![q, j]]);
        if rest > 0 {
            let (r, k) = (
                builder.fixed("r", 1i64, RAGGED),
                builder.fixed("k", rest, RAGGED),
            );
            blocks.0.push(Segment::Product([r].into_iter().collect()));
            numbers.0.push(Segment::Product([k].into_iter().collect()));
            summed.push(vec![k]);
        }
        Sum {
            blocks,
            numbers,
            summed,
        }
    }

    /// The same where all numbers stay.
    pub fn held(builder: &mut Builder, sum: i64, block: i64, reason: &Reason) -> Self {
        let q = builder.fixed("q", (sum - 1) / block + 1, reason.clone());
        let k = builder.fixed("k", sum, reason.clone());
        Sum {
            blocks: q.into(),
            numbers: k.into(),
            summed: vec![vec![k]],
        }
    }

    /// The products of data with a weight that is no tensor of numbers, so that what goes must become zero in the data. `labels`:
    /// rows and columns.
    pub fn terms(&self, builder: &mut Builder, data: Port, labels: &[LabelId]) {
        for summed in &self.summed {
            let labels = labels.iter().chain(summed).copied().collect();
            builder.term(Term {
                data,
                weight: None,
                zero: None,
                labels,
                summed: summed.clone(),
                window: None,
            });
        }
    }
}

/// A row of numbers of `bits` bits: their bytes. `None` where their number is not known.
pub(in crate::ops) fn bytes(builder: &mut Builder, numbers: &Layout, bits: i64) -> Option<Layout> {
    if bits == 8 {
        return Some(numbers.clone());
    }
    builder
        .packed(numbers.clone(), u32::try_from(bits).ok()?, BYTES)
        .map(Layout::from)
}

/// What a cut leaves of the summed axis, as an attribute.
pub(super) fn set_sum(cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
    if cut
        .relation
        .named("q")
        .is_none_or(|q| cut.kept(q).is_none())
    {
        return Ok(());
    }
    let sum = cut.dims(Port::In(0)).and_then(|dims| dims.last()?.num());
    edit.set_int("K", sum.ok_or_else(|| RewriteError("attribute K".into()))?);
    Ok(())
}

/// `y = x · wᵀ`, with the weight quantized in blocks of `block_size` numbers along the summed axis. Output channels
/// go one by one, summed ones by whole blocks; zero points that share bytes are packed anew.
struct MatMulNBits;

/// What the attributes say.
pub(super) struct Packing {
    pub columns: i64,
    pub block: i64,
    /// Numbers of an output channel.
    pub sum: i64,
    pub bits: i64,
}

impl Packing {
    /// `columns`: the attribute that holds the number of output channels.
    pub fn read(node: &NodeView, columns: &str) -> Option<Self> {
        let (sum, columns) = (node.int("K")?, node.int(columns)?);
        let (block, bits) = (node.int("block_size")?, node.int("bits").unwrap_or(4));
        (sum > 0 && columns > 0 && block > 0 && (1..=8).contains(&bits)).then_some(Packing {
            columns,
            block,
            sum,
            bits,
        })
    }

    /// Errors: the attributes are of other numbers than the data or the packed weight have.
    fn fits(&self, node: &NodeView) -> Result<(), InferError> {
        let last = node.shape(0).and_then(<[Dim]>::last);
        if last.is_some_and(|last| last.differs(&Dim::Num(self.sum))) {
            return Err(InferError(format!("K={} for other data", self.sum)));
        }
        let extents = [self.columns, self.blocks(), self.bytes()].map(Dim::Num);
        let packed = node.shape(1).map(Dim::product);
        if packed.is_some_and(|packed| packed.differs(&Dim::product(&extents))) {
            return Err(InferError(format!(
                "a packed weight of other numbers than N={} and K={}",
                self.columns, self.sum
            )));
        }
        Ok(())
    }

    /// Blocks of an output channel, counting a last one that is not full.
    pub fn blocks(&self) -> i64 {
        (self.sum - 1) / self.block + 1
    }

    /// The bytes of a block.
    pub fn bytes(&self) -> i64 {
        self.block.saturating_mul(self.bits).div_euclid(8)
    }

    /// Describes a weight `[n, q, z]` and its scales, `[n, q]` or both in one axis.
    pub fn weight(
        &self,
        builder: &mut Builder,
        at: u32,
        names: [&'static str; 2],
        (n, sum): (LabelId, &Sum),
    ) -> Option<()> {
        let extents = [self.columns, self.blocks(), self.bytes()].map(Dim::Num);
        if builder.shape(Port::In(at))?.iter().ne(&extents) {
            return None;
        }
        let z = builder.fixed("z", self.bytes(), BLOCK);
        builder.port(
            Port::In(at),
            names[0],
            [n.into(), sum.blocks.clone(), z.into()],
        );
        self.per_block(builder, at + 1, names[1], (n, &sum.blocks))
    }

    /// Numbers for each block: `[n, q]` or both in one axis. Left out is fine; `None`: it does not fit.
    fn per_block(
        &self,
        builder: &mut Builder,
        input: u32,
        name: &'static str,
        (row, block): (LabelId, &Layout),
    ) -> Option<()> {
        let Some(dims) = builder.shape(Port::In(input)).map(<[Dim]>::to_vec) else {
            return Some(());
        };
        let rows = Dim::Num(self.columns);
        let length = builder.extent(block);
        let axes = match (dims.as_slice(), block.0.as_slice()) {
            ([all], [Segment::Product(labels)]) if *all == &rows * &length => {
                vec![Layout::product(
                    &std::iter::once(row)
                        .chain(labels.iter().copied())
                        .collect::<Vec<_>>(),
                )]
            }
            ([first, second], _) if (first, second) == (&rows, &length) => {
                vec![row.into(), block.clone()]
            }
            _ => return None,
        };
        builder.port(Port::In(input), name, axes);
        Some(())
    }
}

impl Operator for MatMulNBits {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let packing = Packing::read(node, "N")
            .ok_or_else(|| InferError("attributes K, N, block_size or bits".into()))?;
        packing.fits(node)?;
        let shape = node
            .shape(0)
            .and_then(<[Dim]>::split_last)
            .map(|(_, front)| {
                front
                    .iter()
                    .cloned()
                    .chain(std::iter::once(Dim::Num(packing.columns)))
                    .collect()
            });
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if node.int("weight_prepacked").unwrap_or(0) != 0 {
            return node.frozen(PREPACKED);
        }
        operand::describe_or_freeze(node, |node, builder| {
            let packing = Packing::read(node, "N")?;
            let (last, front) = node.shape(0)?.split_last()?;
            if last.differs(&Dim::Num(packing.sum)) {
                return None;
            }
            // Zero points of fewer than 8 bits share bytes across blocks, unless they are numbers like the data.
            let bits = if node.dtype(3).is_none_or(|dtype| dtype == Dtype::Uint8) {
                packing.bits
            } else {
                8
            };
            let rows = operand::free(builder, "p", front);
            let n = builder.free("n", packing.columns);
            let flat = |input: usize| node.shape(input).is_some_and(|dims| dims.len() == 1);
            let sum = match node.has_input(4) {
                true => Sum::held(builder, packing.sum, packing.block, &GROUPED),
                false => Sum::new(
                    builder,
                    packing.sum,
                    packing.block,
                    !(flat(2) || (flat(3) && bits == 8)),
                ),
            };
            builder.port(
                Port::In(0),
                "x",
                layouts(&rows).into_iter().chain([sum.numbers.clone()]),
            );
            packing.weight(builder, 1, ["w", "scales"], (n, &sum))?;
            if node.has_input(3) {
                let axis = bytes(builder, &sum.blocks, bits)?;
                packing.per_block(builder, 3, "zero_points", (n, &axis))?;
            }
            if let Some([length]) = node.shape(4) {
                let axis = builder.fixed("", length.clone(), GROUPED);
                builder.port(Port::In(4), "g_idx", [axis]);
            }
            per_axis(builder, 5, "bias", &n.into(), &Dim::Num(packing.columns))?;
            builder.port(Port::Out(0), "y", rows.iter().copied().chain([n]));
            let outer: Vec<LabelId> = rows.into_iter().chain([n]).collect();
            sum.terms(builder, Port::In(0), &outer);
            Some(())
        })
    }

    fn rewrite(
        &self,
        _node: &NodeView,
        cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        set_extent(cut, edit, "n", "N")?;
        set_sum(cut, edit)
    }
}

const INPUTS: PackedInputs = PackedInputs {
    scales: 2,
    zeros: 3,
    order: 4,
    bias: 5,
};

pub(super) static RULES: &[Rule] = &[Rule::microsoft("MatMulNBits", &MatMulNBits).packed(INPUTS)];

#[cfg(test)]
mod tests {
    use super::Packing;
    use crate::ops::case::OpCase;

    fn start() -> OpCase {
        OpCase::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bxsx128")
            .int("N", 6)
            .int("block_size", 32)
    }

    #[test]
    fn whole_blocks_go() {
        start()
            .int("K", 128)
            .weight("u8:6x4x16")
            .weight("24")
            .expect_shapes("bxsx6")
            .expect_relation("x[p, p2, q·j] w[n, q, z] scales[n·q] → y[p, p2, n]  Σ q,j");
        start()
            .int("K", 128)
            .weight("u8:6x4x16")
            .weight("6x4")
            .weight("u8:12")
            .expect_relation(
                "x[p, p2, q·j] w[n, q, z] scales[n, q] zero_points[n·q/2] → y[p, p2, n]  Σ q,j",
            );
        OpCase::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bx160")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 160)
            .weight("u8:6x5x16")
            .weight("6x5")
            .weight("u8:6x3")
            .expect_relation(
                "x[p, q·j] w[n, q, z] scales[n, q] zero_points[n, q/2] → y[p, n]  Σ q,j",
            );
    }

    #[test]
    fn zero_points_of_other_widths() {
        for (bits, zeros, text) in [
            (2, "u8:6x1", "q/4"),
            (8, "u8:6x4", "q"),
            (3, "u8:6x2", "q·3/8"),
            (4, "6x4", "q"),
        ] {
            let weight = format!("u8:6x4x{}", 4 * bits);
            let case = start()
                .int("K", 128)
                .int("bits", bits)
                .weight(&weight)
                .weight("6x4")
                .weight(zeros);
            case.expect_relation(&format!(
                "x[p, p2, q·j] w[n, q, z] scales[n, q] zero_points[n, {text}] → y[p, p2, n]  Σ q,j"
            ));
        }
    }

    #[test]
    fn a_last_block_that_is_not_full_stays() {
        OpCase::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bx200")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 200)
            .weight("u8:6x7x16")
            .weight("6x7")
            .weight("u8:6x4")
            .expect_relation("x[p, q·j+k] w[n, q+r, z] scales[n, q+r] zero_points[n, (q+r)/2] → y[p, n]  Σ q,j; Σ k");
    }

    #[test]
    fn packed_weights_are_multiplied() {
        let multiplies = |case: OpCase| {
            let operator = crate::ops::lookup(case.node.domain(), case.node.op_type()).unwrap();
            case.view(|view| {
                let relation = operator.relate(view);
                relation.terms.iter().any(|term| relation.multiplies(term))
            })
        };
        assert!(multiplies(
            start().int("K", 128).weight("u8:6x4x16").weight("24")
        ));
        assert!(!multiplies(OpCase::op("ReduceSum").input("2x8").list(&[1])));
    }

    #[test]
    fn attributes_of_other_numbers_are_an_error() {
        let fits = |case: OpCase, weight: &str, sum: i64| {
            let case = case.int("K", 128).weight(weight).weight("24");
            case.view(|view| {
                let attributes = Packing {
                    sum,
                    ..Packing::read(view, "N").unwrap()
                };
                attributes.fits(view).map_err(|error| error.0)
            })
        };
        assert_eq!(fits(start(), "u8:6x4x16", 128), Ok(()));
        let error = fits(start(), "u8:6x4x16", i64::from(i32::MAX)).unwrap_err();
        assert_eq!(error, "K=2147483647 for other data");
        let unknown = || {
            OpCase::op("MatMulNBits")
                .domain("com.microsoft")
                .at(1)
                .input("bxk")
                .int("N", 6)
                .int("block_size", 32)
        };
        let error = fits(unknown(), "u8:6x4x16", 256).unwrap_err();
        assert!(error.contains("N=6 and K=256"), "{error}");
    }

    #[test]
    fn a_block_that_is_not_full_fixes_the_sum() {
        let text = "x[p, p2, k] w[n, q, z] scales[n·q] → y[p, p2, n]  Σ k";
        OpCase::op("MatMulNBits")
            .domain("com.microsoft")
            .at(1)
            .input("bxsx100")
            .int("N", 6)
            .int("block_size", 32)
            .int("K", 100)
            .weight("u8:6x4x16")
            .weight("24")
            .expect_shapes("bxsx6")
            .expect_relation(text);
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
            crate::ops::Operator::rewrite(
                &operator,
                view,
                &crate::ops::Cut {
                    relation: &relation,
                    kept,
                },
                &mut edit,
            )
            .unwrap();
            edit.settings
        });
        assert_eq!(
            edit,
            [
                ("N", crate::ops::Setting::Int(3)),
                ("K", crate::ops::Setting::Int(64))
            ]
        );
    }
}
