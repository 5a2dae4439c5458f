//! Mixtures of experts with quantized weights: the neurons inside them may go, the same in every expert (where neurons are
//! quantized in blocks, by whole blocks), and whole experts, with what a router says of them.

use super::moe::Gates;
use super::router::{
    ROUTED, blocks_of_activations, enough, is_of_each, of_router, routed, scales_of_each, used,
};
use crate::facts::{Dim, Fact};
use crate::ops::fit::{frozen_misfit, unless_ranked};
use crate::ops::frozen::same;
use crate::ops::matmul_packed::{BLOCK, bytes};
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// QMoE: two layers per expert, or three with separate gates.
struct QuantizedMixture;

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantized {
    /// Whole numbers, a scale for each row.
    Rows,
    /// Whole numbers, a scale for each block of a row.
    Blocks(i64),
    /// Floats of 8 bits, a scale for each expert.
    Floats,
    /// Floats of 8 bits, a scale for each square of this many rows and columns.
    Squares(i64),
}

/// What attributes and shapes say.
struct ExpertExtents {
    experts: Dim,
    neurons: i64,
    channels: i64,
    gates: Gates,
    quantized: Quantized,
    /// Bits of the numbers of the three layers.
    bits: [i64; 3],
}

/// Where the weights, scales, biases and zero points of the three layers are.
const LAYERS: [[u32; 4]; 3] = [[2, 3, 4, 11], [5, 6, 7, 12], [8, 9, 10, 13]];
const NAMES: [[&str; 4]; 3] = [
    ["w1", "scale1", "bias1", "zero1"],
    ["w2", "scale2", "bias2", "zero2"],
    ["w3", "scale3", "bias3", "zero3"],
];

impl ExpertExtents {
    fn of(node: &NodeView) -> Option<Self> {
        let block = node.int("block_size").unwrap_or(0);
        let quantized = match node.string("quant_type").unwrap_or("int") {
            // Packed for one device.
            "int" if node.int("weights_prepacked") == Some(1) => return None,
            "int" if block > 0 => Quantized::Blocks(block),
            "int" => Quantized::Rows,
            "fp8" if block > 0 => Quantized::Squares(block),
            "fp8" => Quantized::Floats,
            _ => return None,
        };
        let floats = matches!(quantized, Quantized::Floats | Quantized::Squares(_));
        let all = if floats {
            8
        } else {
            node.int("expert_weight_bits").unwrap_or(4)
        };
        let bits = [
            "fc1_expert_weight_bits",
            "fc2_expert_weight_bits",
            "fc3_expert_weight_bits",
        ];
        let bits = bits.map(|name| node.int(name).filter(|_| !floats).unwrap_or(all));
        if !bits.iter().all(|bits| (1..=8).contains(bits)) {
            return None;
        }
        let ([experts, rows, _], [_, outputs, summed]) = (node.shape(2)?, node.shape(5)?) else {
            return None;
        };
        let channels = node.shape(0)?.last()?.num()?;
        // Rows of neurons fill whole bytes.
        let neurons = summed.num()?.checked_mul(8)?.checked_div(bits[1])?;
        let rows = rows.num()?;
        let gates = match node.int("swiglu_fusion").unwrap_or(0) {
            _ if rows == neurons => Gates::None,
            1 if rows == 2 * neurons => Gates::Interleaved,
            2 if rows == 2 * neurons => Gates::Halves,
            _ => return None,
        };
        let whole = match quantized {
            Quantized::Blocks(block) => neurons % block == 0 && channels % block == 0,
            Quantized::Squares(block) => neurons % block == 0 && channels % block == 0,
            _ => true,
        };
        let fits = whole && neurons > 0 && outputs.num() == Some(channels);
        fits.then(|| ExpertExtents {
            experts: experts.clone(),
            neurons,
            channels,
            gates,
            quantized,
            bits,
        })
    }

    fn block(&self) -> Option<i64> {
        match self.quantized {
            Quantized::Blocks(block) | Quantized::Squares(block) => Some(block),
            Quantized::Rows | Quantized::Floats => None,
        }
    }
}

const BYTE: Reason = Reason::operator("numbers of one byte");

/// An axis that is summed over: as numbers, and as the blocks that they are in.
struct BlockAxis {
    numbers: Vec<LabelId>,
    /// The blocks, and the numbers of one; `None` where each goes by itself.
    block: Option<(LabelId, LabelId)>,
    /// Its bytes, where all numbers of one go together.
    bytes: Option<LabelId>,
}

impl BlockAxis {
    fn new(
        builder: &mut Builder,
        [number, block]: [&'static str; 2],
        extent: i64,
        of: Option<i64>,
    ) -> Self {
        match of {
            None => BlockAxis {
                numbers: vec![builder.free(number, extent)],
                block: None,
                bytes: None,
            },
            Some(size) => {
                let (q, j) = (
                    builder.free(block, extent / size),
                    builder.fixed(number, size, BLOCK),
                );
                BlockAxis {
                    numbers: vec![q, j],
                    block: Some((q, j)),
                    bytes: None,
                }
            }
        }
    }

    /// Neurons: a kernel tells their number from the bytes of a row, so that those of one byte go together.
    fn neurons(builder: &mut Builder, at: &ExpertExtents) -> Self {
        let together = 8 / at.bits[1].max(1);
        if at.block().is_some() || together < 2 || at.neurons % together != 0 {
            return BlockAxis::new(builder, ["n", "m"], at.neurons, at.block());
        }
        let (byte, inside) = (
            builder.free("m", at.neurons / together),
            builder.fixed("n", together, BYTE),
        );
        BlockAxis {
            numbers: vec![byte, inside],
            block: None,
            bytes: Some(byte),
        }
    }

    /// Its numbers in bytes: of whole blocks, or packed anew where one goes.
    fn bytes(&self, builder: &mut Builder, bits: i64) -> Option<Layout> {
        if let Some(bytes) = self.bytes {
            return Some(bytes.into());
        }
        match self.block {
            Some((q, j)) if bits != 8 => {
                let size = builder.extent(&j.into()).num()? * bits;
                let inside = builder.fixed("z", size / 8, BLOCK);
                (size % 8 == 0).then(|| Layout::product(&[q, inside]))
            }
            _ => bytes(builder, &Layout::product(&self.numbers), bits),
        }
    }
}

/// The rows of a layer, with what they are in the scales: blocks where scales are of squares.
struct ExpertRows {
    numbers: Layout,
    scales: Layout,
}

impl ExpertRows {
    fn new(at: &ExpertExtents, axis: &BlockAxis, two: Option<(LabelId, Gates)>) -> Self {
        let with = |labels: &[LabelId]| match two {
            Some((two, Gates::Interleaved)) => Layout::product(&[labels, &[two]].concat()),
            Some((two, Gates::Halves)) => Layout::product(&[&[two], labels].concat()),
            _ => Layout::product(labels),
        };
        let scales = match (at.quantized, axis.block) {
            (Quantized::Squares(_), Some((q, _))) => with(&[q]),
            _ => with(&axis.numbers),
        };
        ExpertRows {
            numbers: with(&axis.numbers),
            scales,
        }
    }
}

impl ExpertExtents {
    /// Describes a layer: its rows, what it sums over, and its number. `None` where an input does not fit.
    fn layer(
        &self,
        builder: &mut Builder,
        experts: LabelId,
        rows: &ExpertRows,
        summed: &BlockAxis,
        layer: usize,
    ) -> Option<()> {
        let ([weight, scale, bias, zero], names, bits) = (
            LAYERS.get(layer)?,
            NAMES.get(layer)?,
            *self.bits.get(layer)?,
        );
        let numbers = summed.bytes(builder, bits)?;
        let mut scales = vec![experts.into(), rows.scales.clone()];
        let mut zeros = vec![experts.into()];
        match summed.block {
            Some((q, _)) => {
                scales.push(q.into());
                zeros.extend([rows.numbers.clone(), bytes(builder, &q.into(), bits)?]);
            }
            None => zeros.push(bytes(builder, &rows.numbers, bits)?),
        }
        let ports = [
            (
                weight,
                names[0],
                vec![experts.into(), rows.numbers.clone(), numbers],
            ),
            (scale, names[1], scales),
            (bias, names[2], vec![experts.into(), rows.numbers.clone()]),
            (zero, names[3], zeros),
        ];
        for (input, name, axes) in ports {
            let fits = |dims: &[Dim]| {
                dims.len() == axes.len()
                    && !dims
                        .iter()
                        .zip(&axes)
                        .any(|(dim, axis)| dim.differs(&builder.extent(axis)))
            };
            if builder
                .shape(Port::In(*input))
                .is_some_and(|dims| !fits(dims))
            {
                return None;
            }
            builder.port(Port::In(*input), name, axes);
        }
        Some(())
    }

    fn describe(&self, node: &NodeView, builder: &mut Builder) -> Option<()> {
        if !is_of_each(node, &self.experts) {
            return None;
        }
        let (_, outer) = node.shape(0)?.split_last()?;
        let tokens: Vec<LabelId> = outer
            .iter()
            .map(|dim| builder.fixed("s", dim.clone(), ROUTED))
            .collect();
        let used = builder.fixed("", used(node), ROUTED);
        let experts = match blocks_of_activations(node) {
            true => builder.fixed("E", self.experts.clone(), ROUTED),
            false => routed(builder, node, self.experts.clone()),
        };
        let n = BlockAxis::neurons(builder, self);
        let c = BlockAxis::new(builder, ["c", "b"], self.channels, self.block());
        let two = (self.gates != Gates::None).then(|| {
            (
                builder.fixed("", 2i64, Reason::structure("gates")),
                self.gates,
            )
        });
        let data: Vec<Layout> = tokens
            .iter()
            .map(|label| (*label).into())
            .chain([Layout::product(&c.numbers)])
            .collect();
        builder.port(Port::In(0), "x", data.clone());
        of_router(builder, node, (1, "router"), experts);
        of_router(builder, node, (14, "weights"), experts);
        scales_of_each(builder, node, experts);
        let (first, gate) = (
            ExpertRows::new(self, &n, two),
            ExpertRows::new(self, &n, None),
        );
        self.layer(builder, experts, &first, &c, 0)?;
        self.layer(builder, experts, &ExpertRows::new(self, &c, None), &n, 1)?;
        if node.has_input(8) {
            self.layer(builder, experts, &gate, &c, 2)?;
        }
        builder.port(Port::Out(0), "y", data);
        let labels: Vec<LabelId> = [&tokens[..], &[used], &n.numbers, &c.numbers].concat();
        sums(builder, node, labels, [&n, &c], two.map(|(two, _)| two));
        Some(())
    }
}

/// What is summed over: channels in the first layers, neurons in the last; `two` is the label of gates beside neurons.
fn sums(
    builder: &mut Builder,
    node: &NodeView,
    labels: Vec<LabelId>,
    [n, c]: [&BlockAxis; 2],
    two: Option<LabelId>,
) {
    let mut term = |data, weight, labels: Vec<LabelId>, summed: &[LabelId]| {
        builder.term(Term {
            data,
            weight,
            zero: None,
            labels,
            summed: summed.to_vec(),
            window: None,
        });
    };
    // The weights' bytes are no numbers, so that what goes must become zero in the data, or in the scales.
    let with_gates = labels.iter().copied().chain(two).collect();
    term(Port::In(0), None, with_gates, &c.numbers);
    if node.has_input(8) {
        term(Port::In(0), None, labels.clone(), &c.numbers);
    }
    // Neurons exist only inside: one whose first layer is zero, and so is its bias, says nothing.
    let scale = if node.has_input(3) { 3 } else { 2 };
    term(Port::Out(0), Some(Port::In(scale)), labels, &n.numbers);
    if node.has_input(4) {
        term(
            Port::Out(0),
            Some(Port::In(4)),
            n.numbers.clone(),
            &n.numbers,
        );
    }
}

impl Operator for QuantizedMixture {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Some(at) = ExpertExtents::of(node) else {
            return node.frozen(Reason::operator(
                "experts quantized in a layout that is not described",
            ));
        };
        let mut builder = node.relation();
        match at.describe(node, &mut builder) {
            Some(()) => builder.finish(),
            None => frozen_misfit(node),
        }
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, _: &mut NodeEdit) -> Result<(), RewriteError> {
        enough(node, cut)
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[Rule::microsoft("QMoE", &QuantizedMixture)];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn experts(bits: i64) -> OpCase {
        let start = OpCase::op("QMoE")
            .domain("com.microsoft")
            .at(1)
            .int("expert_weight_bits", bits)
            .int("k", 2);
        start.input("2x5x32").input("10x3")
    }

    #[test]
    fn neurons_of_packed_experts() {
        let rows = experts(4)
            .weight("u8:3x48x16")
            .weight("3x48")
            .weight("3x48")
            .weight("u8:3x32x24")
            .weight("3x32")
            .weight("3x32");
        rows.expect_shapes("2x5x32").expect_relation(
            "x[s, s2, c] router[10, E] w1[E, m·n, c/2] scale1[E, m·n] bias1[E, m·n] w2[E, c, m] scale2[E, c] bias2[E, c] \
             → y[s, s2, c]  Σ c; Σ m,n; Σ m,n",
        );
        let fused = experts(8)
            .int("swiglu_fusion", 1)
            .weight("u8:3x96x32")
            .weight("3x96")
            .none()
            .weight("u8:3x32x48")
            .weight("3x32");
        fused
            .expect_shapes("2x5x32")
            .expect_relation("x[s, s2, c] router[10, E] w1[E, n·2, c] scale1[E, n·2] w2[E, c, n] scale2[E, c] → y[s, s2, c]  Σ c; Σ n");
    }

    #[test]
    fn neurons_in_blocks() {
        let blocks = experts(4)
            .int("block_size", 16)
            .weight("u8:3x48x16")
            .weight("3x48x2")
            .none()
            .weight("u8:3x32x24")
            .weight("3x32x3");
        let zeros = blocks
            .none()
            .weight("u8:3x48x16")
            .weight("3x48x2")
            .none()
            .weight("u8:3x48x1")
            .weight("u8:3x32x2")
            .weight("u8:3x48x1");
        zeros.expect_shapes("2x5x32").expect_relation(
            "x[s, s2, b·c] router[10, E] w1[E, m·n, b·z] scale1[E, m·n, b] w2[E, b·c, m·z2] scale2[E, b·c, m] w3[E, m·n, b·z3] \
             scale3[E, m·n, b] zero1[E, m·n, b/2] zero2[E, b·c, m/2] zero3[E, m·n, b/2] → y[s, s2, b·c]  Σ b,c; Σ b,c; Σ m,n",
        );
    }

    #[test]
    fn what_is_said_of_each_expert() {
        let floats = |activations: &str| {
            let mut case = experts(8)
                .text("quant_type", "fp8")
                .weight("u8:3x48x32")
                .none()
                .none()
                .weight("u8:3x32x48");
            for _ in 6..14 {
                case = case.none();
            }
            case.input("10x3")
                .weight("3")
                .weight("3")
                .weight(activations)
                .weight("1")
        };
        floats("3").expect_relation(
            "x[s, s2, c] router[10, E] w1[E, n, c] w2[E, c, n] weights[10, E] global1[E] global2[E] act1[E] act2[1] → y[s, s2, c]  Σ c; Σ n",
        );
        floats("4").expect_relation(
            "input 0[2, 5, 32] input 1[10, 3] input 2[3, 48, 32] input 5[3, 32, 48] input 14[10, 3] input 15[3] input 16[3] input 17[4] input 18[1] → output 0[2, 5, 32]",
        );
    }

    #[test]
    fn small_floats_in_squares() {
        let floats = experts(4)
            .text("quant_type", "fp8")
            .int("block_size", 16)
            .int("swiglu_fusion", 2);
        let floats = floats
            .weight("u8:3x96x32")
            .weight("3x6x2")
            .none()
            .weight("u8:3x32x48")
            .weight("3x2x3");
        floats.expect_shapes("2x5x32").expect_relation(
            "x[s, s2, b·c] router[10, E] w1[E, 2·m·n, b·c] scale1[E, 2·m, b] w2[E, b·c, m·n] scale2[E, b, m] → y[s, s2, b·c]  Σ b,c; Σ m,n",
        );
    }
}
