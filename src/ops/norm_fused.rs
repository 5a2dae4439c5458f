//! ONNX Runtime's normalisations, fused with the sum before them.

use super::edit::set_extent;
use super::meaning::{Along, Pick};
use super::norm::{SPANNED, like};
use super::norm_last::{READ, mean_square};
use super::operand::{self, aligned, describe_or_freeze, gives, layouts, per_axis};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// A residual sum, normalised over the last axis.
enum SkipNormalization {
    /// By mean and variance.
    Layer,
    /// By the mean square.
    Root,
}

impl SkipNormalization {
    /// Where the bias stands that is added before normalising.
    fn bias(&self) -> u32 {
        match self {
            SkipNormalization::Layer => 4,
            SkipNormalization::Root => 3,
        }
    }

    fn statistics(node: &NodeView) -> bool {
        gives(node, 1) || gives(node, 2)
    }
}

impl Operator for SkipNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let statistic = || {
            let shape = node
                .shape(0)
                .and_then(<[Dim]>::split_last)
                .map(|(_, front)| {
                    front
                        .iter()
                        .cloned()
                        .chain(std::iter::once(Dim::Num(1)))
                        .collect::<Vec<_>>()
                });
            Fact {
                dtype: Some(Dtype::Float),
                shape,
                contents: None,
            }
        };
        Ok(operand::outputs(
            node,
            [like(node, 0), statistic(), statistic(), like(node, 0)],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.shape(0)?;
            let (last, front) = dims.split_last()?;
            let mut axes = operand::free(builder, "p", front);
            let exact = matches!(self, SkipNormalization::Root) && !Self::statistics(node);
            let c = match self {
                _ if exact => builder.free("c", last.clone()),
                SkipNormalization::Root => builder.lossy("c", last.clone(), READ),
                SkipNormalization::Layer => builder.lossy("c", last.clone(), SPANNED),
            };
            axes.push(c);
            builder.port(Port::In(0), "x", axes.clone());
            aligned(builder, 1, "skip", &layouts(&axes), dims)?;
            per_axis(builder, 2, "scale", &c.into(), last)?;
            if matches!(self, SkipNormalization::Layer) {
                per_axis(builder, 3, "beta", &c.into(), last)?;
            }
            per_axis(builder, self.bias(), "bias", &c.into(), last)?;
            builder.port(Port::Out(0), "y", axes.clone());
            for (output, name) in [(1, "mean"), (2, "inv_std")] {
                if gives(node, output as usize) {
                    let one = builder.fill(1i64);
                    builder.port(
                        Port::Out(output),
                        name,
                        axes.iter().take(front.len()).copied().chain([one]),
                    );
                }
            }
            builder.port(Port::Out(3), "sum", axes.clone());
            if exact {
                self.squares(node, builder, &axes, c);
            }
            Some(())
        })
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        match self {
            SkipNormalization::Layer => Ok(()),
            SkipNormalization::Root => mean_square(node, cut, edit, 2),
        }
    }
}

impl SkipNormalization {
    /// Squares are summed of a sum: an entry is gone when it is zero in each addend.
    fn squares(&self, node: &NodeView, builder: &mut Builder, axes: &[LabelId], c: LabelId) {
        for input in [0, 1, self.bias()] {
            let Some(rank) = node.shape(input as usize).map(<[Dim]>::len) else {
                continue;
            };
            let labels = axes
                .iter()
                .copied()
                .skip(axes.len().saturating_sub(rank))
                .collect();
            builder.term(Term {
                data: Port::In(input),
                weight: None,
                zero: None,
                labels,
                summed: vec![c],
                window: None,
            });
        }
    }
}

/// EmbedLayerNormalization: looks up words, positions and segments, sums and normalises.
struct EmbedLayerNormalization;

impl Operator for EmbedLayerNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(2);
        let shape = match (node.shape(0), node.shape(2)) {
            (Some([batch, length]), Some([_, width])) => {
                Some(vec![batch.clone(), length.clone(), width.clone()])
            }
            (Some(_), Some(_)) => {
                return Err(InferError(
                    "word numbers and embeddings have two axes each".into(),
                ));
            }
            _ => None,
        };
        let masks = shape
            .as_ref()
            .and_then(|shape| shape.first())
            .map(|batch| vec![batch.clone()]);
        Ok(operand::outputs(
            node,
            [
                Fact {
                    dtype,
                    shape: shape.clone(),
                    contents: None,
                },
                Fact {
                    dtype: Some(Dtype::Int32),
                    shape: masks,
                    contents: None,
                },
                Fact {
                    dtype,
                    shape,
                    contents: None,
                },
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let ([batch, length], [_, width]) = (node.shape(0)?, node.shape(2)?) else {
                return None;
            };
            let b = builder.free("b", batch.clone());
            let s = builder.fixed(
                "s",
                length.clone(),
                Reason::operator("positions in the text"),
            );
            let c = builder.lossy("c", width.clone(), SPANNED);
            let tokens = layouts(&[b, s]);
            let extents = [batch.clone(), length.clone()];
            for (input, name) in [(0, "ids"), (1, "segments"), (7, "mask"), (8, "positions")] {
                aligned(builder, input, name, &tokens, &extents)?;
            }
            for (input, name) in [(2, "words"), (3, "position"), (4, "segment")] {
                let Some(dims) = node.shape(input) else {
                    continue;
                };
                let [rows, _] = dims else { return None };
                let v = builder.fixed(
                    "v",
                    rows.clone(),
                    Reason::operator("entries looked up by number"),
                );
                builder.port(Port::In(input as u32), name, [v, c]);
            }
            per_axis(builder, 5, "scale", &c.into(), width)?;
            per_axis(builder, 6, "bias", &c.into(), width)?;
            builder.port(Port::Out(0), "y", [b, s, c]);
            builder.port(Port::Out(1), "mask_index", [b]);
            builder.port(Port::Out(2), "sum", [b, s, c]);
            Some(())
        })
    }
}

/// GroupNorm and SkipGroupNorm, with the channel axis last unless `channels_last` is 0.
struct GroupNorm {
    /// Where a second addend and a bias stand, if any.
    skip: Option<(u32, u32)>,
}

impl Operator for GroupNorm {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(operand::outputs(node, [like(node, 0), like(node, 0)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let last = node.int("channels_last").unwrap_or(1) != 0;
            let dims = node.shape(0)?;
            let (batch, channels, positions) = super::pool::parts(dims, last)?;
            let groups = node.int("groups").filter(|groups| *groups > 0)?;
            let inner = channels.exact_div(&Dim::Num(groups))?;
            let (b, g) = (builder.free("b", batch.clone()), builder.free("g", groups));
            let k = builder.lossy("k", inner, SPANNED);
            let s: Vec<LabelId> = positions
                .iter()
                .map(|dim| builder.lossy("s", dim.clone(), SPANNED))
                .collect();
            let c = Layout::product(&[g, k]);
            let axes = super::pool::join(Layout::from(b), c.clone(), &layouts(&s), last);
            builder.port(Port::In(0), "x", axes.clone());
            per_axis(builder, 1, "scale", &c, channels)?;
            per_axis(builder, 2, "bias", &c, channels)?;
            if let Some((skip, bias)) = self.skip {
                // The second addend may be one number per channel: [b, c], or [b, 1, 1, c].
                match node.shape(skip as usize).map(<[Dim]>::len) {
                    Some(2) => builder.port(Port::In(skip), "skip", [Layout::from(b), c.clone()]),
                    _ => aligned(builder, skip, "skip", &axes, dims)?,
                }
                per_axis(builder, bias, "skip_bias", &c, channels)?;
                builder.port(Port::Out(1), "sum", axes.clone());
            }
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }

    fn rewrite(
        &self,
        _node: &NodeView,
        cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        set_extent(cut, edit, "g", "groups")
    }
}

/// Words, segments and positions, each with its table.
const TABLES: [Pick; 3] = [row(0, 2), row(1, 4), row(8, 3)];

const fn row(indices: u32, table: u32) -> Pick {
    Pick {
        indices,
        table,
        along: Along::Rows,
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::microsoft("SkipLayerNormalization", &SkipNormalization::Layer).normalises(),
    Rule::microsoft("SkipSimplifiedLayerNormalization", &SkipNormalization::Root).normalises(),
    Rule::microsoft("EmbedLayerNormalization", &EmbedLayerNormalization)
        .picks(&TABLES)
        .normalises(),
    Rule::microsoft("GroupNorm", &GroupNorm { skip: None }),
    Rule::microsoft("SkipGroupNorm", &GroupNorm { skip: Some((3, 4)) }),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn start(op: &str) -> OpCase {
        OpCase::op(op).domain("com.microsoft").at(1)
    }

    #[test]
    fn skip() {
        let layer = start("SkipLayerNormalization")
            .input("bxsx8")
            .input("bxsx8")
            .weight("8")
            .weight("8")
            .weight("8")
            .outputs(4);
        layer
            .expect_shapes("bxsx8 bxsx1 bxsx1 bxsx8")
            .expect_relation("x[p, p2, c] skip[p, p2, c] scale[c] beta[c] bias[c] → y[p, p2, c] mean[p, p2, 1] inv_std[p, p2, 1] sum[p, p2, c]");
        let root = start("SkipSimplifiedLayerNormalization")
            .input("bxsx8")
            .input("sx8")
            .weight("8")
            .weight("8");
        root.expect_shapes("bxsx8").expect_relation(
            "x[p, p2, c] skip[p2, c] scale[c] bias[c] → y[p, p2, c]  Σ c; Σ c; Σ c",
        );
    }

    #[test]
    fn embeddings() {
        let ids = start("EmbedLayerNormalization")
            .input("i32:bxs")
            .input("i32:bxs")
            .weight("100x8")
            .weight("50x8")
            .weight("2x8");
        ids.weight("8").weight("8").input("i32:bxs").outputs(2).expect_shapes("bxsx8 b").expect_relation(
            "ids[b, s] segments[b, s] words[v, c] position[v2, c] segment[v3, c] scale[c] bias[c] mask[b, s] → y[b, s, c] mask_index[b]",
        );
    }

    #[test]
    fn groups() {
        start("GroupNorm")
            .input("2x5x5x8")
            .weight("8")
            .weight("8")
            .int("groups", 4)
            .expect_shapes("2x5x5x8")
            .expect_relation("x[b, s, s2, g·k] scale[g·k] bias[g·k] → y[b, s, s2, g·k]");
        start("SkipGroupNorm")
            .input("2x5x5x8")
            .weight("8")
            .weight("8")
            .input("2x8")
            .int("groups", 4)
            .expect_shapes("2x5x5x8")
            .expect_relation(
                "x[b, s, s2, g·k] scale[g·k] bias[g·k] skip[b, g·k] → y[b, s, s2, g·k]",
            );
    }
}
