//! Normalisations over the last axes: a mean and variance there makes every entry count, a mean square is a sum.

use super::norm::{SPANNED, like};
use super::operand::{self, aligned, describe_or_freeze, gives, layouts};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Port, Reason, Relation, Term};

/// Why a mean square that is read as an output goes only at a loss.
pub(super) const READ: Reason = Reason::operator("its mean square is an output");

/// Normalisation over the last axes, from attribute `axis` on.
enum LastAxes {
    /// By mean and variance.
    Layer,
    /// By the mean square.
    Root,
}

/// The axes of a tensor as statistics see them.
struct Spanned {
    axes: Vec<LabelId>,
    /// The first of those that statistics span.
    from: usize,
}

impl LastAxes {
    fn from(node: &NodeView, rank: usize) -> Option<usize> {
        NodeView::axis(node.int("axis").unwrap_or(-1), rank)
    }

    fn describe(&self, node: &NodeView, builder: &mut Builder) -> Option<Spanned> {
        let dims = node.shape(0)?;
        let from = Self::from(node, dims.len())?;
        let reason = match self {
            LastAxes::Root if dims.len() - from == 1 && !gives(node, 1) => None,
            LastAxes::Root if dims.len() - from == 1 => Some(READ),
            _ => Some(SPANNED),
        };
        let mut axes = operand::free(builder, "p", dims.get(..from)?);
        for dim in dims.get(from..)? {
            axes.push(match &reason {
                None => builder.free("c", dim.clone()),
                Some(reason) => builder.lossy("c", dim.clone(), reason.clone()),
            });
        }
        if reason.is_none() {
            let summed = axes.get(from..)?.to_vec();
            builder.term(Term {
                data: Port::In(0),
                weight: None,
                zero: None,
                labels: axes.clone(),
                summed,
                window: None,
            });
        }
        Some(Spanned { axes, from })
    }
}

impl Operator for LastAxes {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let shape = match node.shape(0) {
            None => None,
            Some(dims) => {
                let from = Self::from(node, dims.len())
                    .ok_or_else(|| InferError("axis is out of range".into()))?;
                Some(
                    dims.iter()
                        .enumerate()
                        .map(|(at, dim)| if at < from { dim.clone() } else { Dim::Num(1) })
                        .collect::<Vec<_>>(),
                )
            }
        };
        let statistic = || Fact {
            dtype: Some(crate::proto::Dtype::Float),
            shape: shape.clone(),
            contents: None,
        };
        Ok(operand::outputs(
            node,
            [like(node, 0), statistic(), statistic()],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let Spanned { axes, from } = self.describe(node, builder)?;
            let extents = node.shape(0)?;
            builder.port(Port::In(0), "x", axes.clone());
            aligned(builder, 1, "scale", &layouts(&axes), extents)?;
            aligned(builder, 2, "bias", &layouts(&axes), extents)?;
            builder.port(Port::Out(0), "y", axes.clone());
            let names: &[&str] = if matches!(self, LastAxes::Layer) {
                &["mean", "inv_std"]
            } else {
                &["inv_std"]
            };
            for (at, name) in names
                .iter()
                .enumerate()
                .filter(|(at, _)| gives(node, at + 1))
            {
                let ones = (from..axes.len())
                    .map(|_| builder.fill(1i64))
                    .collect::<Vec<_>>();
                builder.port(
                    Port::Out(at as u32 + 1),
                    *name,
                    axes.iter().take(from).copied().chain(ones),
                );
            }
            Some(())
        })
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        match self {
            LastAxes::Layer => Ok(()),
            LastAxes::Root => mean_square(node, cut, edit, 1),
        }
    }
}

/// Makes a mean square over the C′ of C entries that stay give what it gave with zeros in place of the others:
/// x·γ / √(Σ/C + ε) = x·γ′ / √(Σ/C′ + ε′), with ε′ = ε·C/C′ and γ′ = γ·√(C/C′).
pub(super) fn mean_square(
    node: &NodeView,
    cut: &Cut,
    edit: &mut NodeEdit,
    scale: u32,
) -> Result<(), RewriteError> {
    let Some(c) = cut.relation.named("c").filter(|c| cut.kept(*c).is_some()) else {
        return Ok(());
    };
    if !matches!(cut.relation.label(c).fate, crate::relation::Fate::Free) {
        return Ok(());
    }
    let extents = cut.relation.label(c).extent.num().zip(cut.extent(c).num());
    let (before, after) = extents
        .filter(|(_, after)| *after > 0)
        .ok_or_else(|| RewriteError("a mean over an unknown count".into()))?;
    let ratio = before as f64 / after as f64;
    edit.set_float(
        "epsilon",
        (f64::from(node.float("epsilon").unwrap_or(1e-5)) * ratio) as f32,
    );
    edit.scale(scale, ratio.sqrt());
    Ok(())
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("LayerNormalization", &LastAxes::Layer).normalises(),
    Rule::onnx("RMSNormalization", &LastAxes::Root).normalises(),
    Rule::onnx("SimplifiedLayerNormalization", &LastAxes::Root).normalises(),
    Rule::microsoft("LayerNormalization", &LastAxes::Layer).normalises(),
    Rule::microsoft("SimplifiedLayerNormalization", &LastAxes::Root).normalises(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;
    use crate::ops::{Cut, NodeEdit, Setting, lookup};

    #[test]
    fn layer() {
        let start = || OpCase::op("LayerNormalization").at(17).input("bxsx8");
        start()
            .weight("8")
            .weight("8")
            .expect_shapes("bxsx8")
            .expect_relation("x[p, p2, c] scale[c] bias[c] → y[p, p2, c]");
        start()
            .weight("sx8")
            .int("axis", 1)
            .outputs(3)
            .expect_shapes("bxsx8 bx1x1 bx1x1")
            .expect_relation(
                "x[p, c, c2] scale[c, c2] → y[p, c, c2] mean[p, 1, 1] inv_std[p, 1, 1]",
            );
    }

    #[test]
    fn root_mean_square() {
        let text = "x[p, p2, c] scale[c] → y[p, p2, c]  Σ c";
        OpCase::op("RMSNormalization")
            .at(23)
            .input("bxsx8")
            .weight("8")
            .expect_shapes("bxsx8")
            .expect_relation(text);
        let start = || {
            OpCase::op("SimplifiedLayerNormalization")
                .input("bxsx8")
                .weight("8")
        };
        start().expect_shapes("bxsx8").expect_relation(text);
        start()
            .outputs(2)
            .expect_shapes("bxsx8 bxsx1")
            .expect_relation("x[p, p2, c] scale[c] → y[p, p2, c] inv_std[p, p2, 1]");
    }

    #[test]
    fn a_smaller_mean_square_is_made_up_for() {
        let edit = OpCase::op("RMSNormalization")
            .at(23)
            .input("bxsx8")
            .weight("8")
            .float("epsilon", 0.5)
            .view(|view| {
                let operator = lookup("", "RMSNormalization").unwrap();
                let relation = operator.relate(view);
                let mut kept = vec![None; relation.labels.len()];
                kept[relation.named("c").unwrap().index()] = Some([0, 5].into());
                let mut edit = NodeEdit::default();
                operator
                    .rewrite(
                        view,
                        &Cut {
                            relation: &relation,
                            kept,
                        },
                        &mut edit,
                    )
                    .unwrap();
                edit
            });
        assert_eq!(edit.settings, [("epsilon", Setting::Float(2.0))]);
        assert_eq!(edit.scales, [(1, 2.0)]);
        // With Σ the sum of squares: √(Σ/8 + 0.5) · 2 = √(Σ/2 + 2).
        let sum: f64 = 3.7;
        assert!(((sum / 8.0 + 0.5).sqrt() * 2.0 - (sum / 2.0 + 2.0).sqrt()).abs() < 1e-12);
    }
}
