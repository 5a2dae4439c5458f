//! Attention of ai.onnx, and FlexAttention, which passes scores and probabilities through subgraphs. Heads go as a whole (of grouped queries: a key head with its queries, or the same query head of every
//! group), and so do single dimensions of queries with keys, or of values.

use super::fit::{expect, frozen_misfit, unless_ranked};
use super::frozen::outputs;
use super::heads::{
    CACHE, CAUSAL, KEYS, broadcast_port, cached, keep_scale, scores_and_values, set_heads,
};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Relation};

/// Attention (23 and later); FlexAttention has three inputs of four axes, one output, and no attributes but the scale.
struct Attention;

/// The extents of an attention.
struct AttentionExtents {
    b: Dim,
    /// Key heads.
    k: Dim,
    /// Queries per key head.
    r: Dim,
    /// Query positions.
    s: Dim,
    /// Keys of this call.
    n: Dim,
    /// Keys of earlier calls.
    p: Option<Dim>,
    d: Dim,
    e: Dim,
}

impl AttentionExtents {
    /// `None` when a rank is unknown.
    fn of(node: &NodeView) -> Result<Option<Self>, InferError> {
        let (Some(q), Some(key), Some(v)) = (node.shape(0), node.shape(1), node.shape(2)) else {
            return Ok(None);
        };
        let frozen_misfit = || {
            InferError(format!(
                "Q, K, V of {}, {}, {} axes with these head counts",
                q.len(),
                key.len(),
                v.len()
            ))
        };
        let count = |name| {
            node.int(name)
                .filter(|count| *count > 0)
                .map(Dim::Num)
                .ok_or_else(|| InferError(format!("no {name}")))
        };
        let (b, heads, s, d, k, n, e) = match (q, key, v) {
            ([b, heads, s, d], [_, k, n, _], [_, _, _, e]) => {
                (b, heads.clone(), s, d.clone(), k.clone(), n, e.clone())
            }
            ([b, s, width], [_, n, _], [_, _, v_width]) => {
                let (heads, k) = (count("q_num_heads")?, count("kv_num_heads")?);
                let (d, e) = (
                    width.exact_div(&heads).ok_or_else(frozen_misfit)?,
                    v_width.exact_div(&k).ok_or_else(frozen_misfit)?,
                );
                (b, heads, s, d, k, n, e)
            }
            _ => return Err(frozen_misfit()),
        };
        let r = heads.exact_div(&k).ok_or_else(frozen_misfit)?;
        let at = AttentionExtents {
            b: b.clone(),
            k,
            r,
            s: s.clone(),
            n: n.clone(),
            p: None,
            d,
            e,
        };
        at.complete(node, q.len() == 3).map(Some)
    }

    /// Reads the cache. Errors: an input has other extents than it must have.
    fn complete(mut self, node: &NodeView, packed: bool) -> Result<Self, InferError> {
        let AttentionExtents { b, k, n, d, e, .. } = &self;
        if packed {
            expect(node, 1, &[b, n, &(k * d)])?;
            expect(node, 2, &[b, n, &(k * e)])?;
        } else {
            expect(node, 1, &[b, k, n, d])?;
            expect(node, 2, &[b, k, n, e])?;
        }
        let p = cached(node, 4)?.map(|[p, _]| p.clone());
        if let Some(p) = &p {
            expect(node, 4, &[b, k, p, d])?;
            expect(node, 5, &[b, k, p, e])?;
        }
        expect(node, 6, &[b])?;
        self.p = p;
        Ok(self)
    }

    /// Query heads.
    fn heads(&self) -> Dim {
        &self.k * &self.r
    }

    /// All keys.
    fn keys(&self) -> Dim {
        self.p
            .as_ref()
            .map_or_else(|| self.n.clone(), |p| p + &self.n)
    }
}

/// The labels of an attention, called as its extents are; `t` for the keys of this call.
#[derive(Clone, Copy)]
struct AttentionLabels {
    b: LabelId,
    s: LabelId,
    k: LabelId,
    r: LabelId,
    d: LabelId,
    e: LabelId,
    p: Option<LabelId>,
    t: LabelId,
}

impl AttentionLabels {
    fn new(builder: &mut Builder, node: &NodeView, at: &AttentionExtents) -> Self {
        let window = |name| node.int(name).is_some_and(|size| size >= 0);
        let positions = node.int("is_causal").unwrap_or(0) != 0
            || window("left_window_size")
            || window("right_window_size");
        let b = builder.free("b", at.b.clone());
        let s = if positions {
            builder.fixed("s", at.s.clone(), CAUSAL)
        } else {
            builder.free("s", at.s.clone())
        };
        let k = builder.free("k", at.k.clone());
        let r = builder.free("r", at.r.clone());
        let d = builder.free("d", at.d.clone());
        let e = builder.free("e", at.e.clone());
        let p = at.p.clone().map(|p| builder.fixed("p", p, CACHE));
        let t = builder.fixed("t", at.n.clone(), KEYS);
        AttentionLabels {
            b,
            s,
            k,
            r,
            d,
            e,
            p,
            t,
        }
    }

    /// Axes of queries, keys or values: in a packed tensor heads stand beside the width.
    fn axes(
        &self,
        packed: bool,
        positions: LabelId,
        heads: &[LabelId],
        width: LabelId,
    ) -> Vec<Layout> {
        match packed {
            true => vec![
                self.b.into(),
                positions.into(),
                Layout::product(&[heads, &[width]].concat()),
            ],
            false => vec![
                self.b.into(),
                Layout::product(heads),
                positions.into(),
                width.into(),
            ],
        }
    }

    /// Earlier keys, and all.
    fn keys(&self) -> [Layout; 2] {
        let past: Vec<LabelId> = self.p.into_iter().collect();
        let all: Vec<LabelId> = past.iter().copied().chain([self.t]).collect();
        [Layout::sum(&past), Layout::sum(&all)]
    }

    /// Describes the cache that comes in, and the one that goes out.
    fn caches(&self, builder: &mut Builder) {
        let [past, all] = self.keys();
        for (at, names, width) in [
            (0, ["pastk", "nextk"], self.d),
            (1, ["pastv", "nextv"], self.e),
        ] {
            let axes = |keys: &Layout| [self.b.into(), self.k.into(), keys.clone(), width.into()];
            builder.port(Port::In(4 + at), names[0], axes(&past));
            builder.port(Port::Out(1 + at), names[1], axes(&all));
        }
    }
}

impl Operator for Attention {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some(at) = AttentionExtents::of(node)? else {
            return Ok(outputs(
                node,
                (0..4).map(|_| Fact {
                    dtype,
                    ..Fact::default()
                }),
            ));
        };
        let y = match node.shape(0).map_or(0, <[Dim]>::len) {
            3 => vec![at.b.clone(), at.s.clone(), &at.heads() * &at.e],
            _ => vec![at.b.clone(), at.heads(), at.s.clone(), at.e.clone()],
        };
        let present = |width: &Dim| vec![at.b.clone(), at.k.clone(), at.keys(), width.clone()];
        let logits = vec![at.b.clone(), at.heads(), at.s.clone(), at.keys()];
        let facts = [
            (dtype, y),
            (node.dtype(1), present(&at.d)),
            (node.dtype(2), present(&at.e)),
            (dtype, logits),
        ];
        Ok(outputs(
            node,
            facts.map(|(dtype, shape)| Fact::new(dtype, shape)),
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = AttentionExtents::of(node) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let labels = AttentionLabels::new(&mut builder, node, &at);
        let AttentionLabels {
            b,
            s,
            k,
            r,
            d,
            e,
            p,
            t,
        } = labels;
        let packed = node.shape(0).is_some_and(|dims| dims.len() == 3);
        builder.port(Port::In(0), "q", labels.axes(packed, s, &[k, r], d));
        builder.port(Port::In(1), "key", labels.axes(packed, t, &[k], d));
        builder.port(Port::In(2), "v", labels.axes(packed, t, &[k], e));
        let [_, all] = labels.keys();
        let full = [
            (at.b.clone(), b.into()),
            (at.heads(), Layout::product(&[k, r])),
            (at.s.clone(), s.into()),
            (at.keys(), all),
        ];
        broadcast_port(&mut builder, node, 3, "mask", &full);
        labels.caches(&mut builder);
        builder.port(Port::In(6), "lengths", [b]);
        builder.port(Port::Out(0), "y", labels.axes(packed, s, &[k, r], e));
        let scores = full.map(|(_, layout)| layout);
        builder.port(Port::Out(3), "qk", scores.clone());
        for branch in 0..node.branches.len() as u32 {
            builder.port(Port::Formal(branch, 0), "scores", scores.clone());
            builder.port(Port::Result(branch, 0), "modified", scores.clone());
        }
        scores_and_values(
            &mut builder,
            [0, 1, 2],
            &[b, s, k, r],
            [d, e],
            t,
            p.map(|p| (p, 4)),
        );
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_heads(node, cut, edit, "q_num_heads", "kv_num_heads")?;
        keep_scale(cut, edit, node.float("scale").is_some())
    }

    fn formal_facts(&self, node: &NodeView, _: u32) -> Vec<Fact> {
        let Ok(Some(at)) = AttentionExtents::of(node) else {
            return Vec::new();
        };
        let precision = node
            .int("softmax_precision")
            .and_then(|code| Dtype::from_code(code as i32));
        let usual = if node.dtype(0) == Some(Dtype::Double) {
            Dtype::Double
        } else {
            Dtype::Float
        };
        vec![Fact::new(
            Some(precision.unwrap_or(usual)),
            vec![at.b.clone(), at.heads(), at.s.clone(), at.keys()],
        )]
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Attention", &Attention).averages(&[2, 5]),
    Rule::of("ai.onnx.preview", "FlexAttention", &Attention),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Setting;
    use crate::ops::case::OpCase;

    fn packed() -> OpCase {
        OpCase::op("Attention")
            .at(23)
            .int("q_num_heads", 6)
            .int("kv_num_heads", 2)
    }

    /// What the rule sets when these indices of a label stay.
    fn settings(proof: &OpCase, label: &str, kept: &[u32]) -> Vec<(&'static str, Setting)> {
        proof.view(|view| {
            let relation = Attention.relate(view);
            let mut all = vec![None; relation.labels.len()];
            all[relation.named(label).unwrap().index()] = Some(kept.into());
            let mut edit = NodeEdit::default();
            Attention
                .rewrite(
                    view,
                    &Cut {
                        relation: &relation,
                        kept: all,
                    },
                    &mut edit,
                )
                .unwrap();
            edit.settings
        })
    }

    #[test]
    fn grouped_queries() {
        let proof = packed()
            .input("2x5x24")
            .input("2x7x8")
            .input("2x7x10")
            .input("bool:5x7")
            .expect_shapes("2x5x30")
            .expect_relation(
                "q[b, s, k·r·d] key[b, t, k·d] v[b, t, k·e] mask[s, t] → y[b, s, k·r·e]  Σ d; Σ t",
            );
        assert_eq!(
            settings(&proof, "k", &[1]),
            [
                ("q_num_heads", Setting::Int(3)),
                ("kv_num_heads", Setting::Int(1))
            ]
        );
        assert_eq!(
            settings(&proof, "r", &[0, 2]),
            [
                ("q_num_heads", Setting::Int(4)),
                ("kv_num_heads", Setting::Int(2))
            ]
        );
        assert_eq!(
            settings(&proof, "d", &[0, 1, 3])[2],
            ("scale", Setting::Float(0.5))
        );
        let scaled = proof.float("scale", 0.1);
        assert_eq!(settings(&scaled, "d", &[0, 1, 3]).len(), 2);
    }

    #[test]
    fn four_axes_with_cache() {
        OpCase::op("Attention")
            .at(24)
            .outputs(4)
            .input("bx4x1x8")
            .input("bx4x1x8")
            .input("bx4x1x6")
            .input("bx1x1xT")
            .input("bx4xpx8")
            .input("bx4xpx6")
            .expect_shapes("bx4x1x6 bx4xp + 1x8 bx4xp + 1x6 bx4x1xp + 1")
            .expect_relation(
                "q[b, k·r, s, d] key[b, k, t, d] v[b, k, t, e] mask[b, 1, s, T] pastk[b, k, p, d] pastv[b, k, p, e] \
                 → y[b, k·r, s, e] nextk[b, k, p+t, d] nextv[b, k, p+t, e] qk[b, k·r, s, p+t]  Σ d; Σ t; Σ d; Σ p",
            );
    }

    #[test]
    fn a_mask_of_its_own_per_head() {
        packed()
            .input("2x5x24")
            .input("2x7x8")
            .input("2x7x10")
            .input("2x6x5x7")
            .expect_relation("q[b, s, k·r·d] key[b, t, k·d] v[b, t, k·e] mask[b, k·r, s, t] → y[b, s, k·r·e]  Σ d; Σ t");
    }

    #[test]
    fn flexible_attention() {
        let flex = OpCase::op("FlexAttention").domain("ai.onnx.preview").at(1);
        flex.input("bx4xsx8")
            .input("bx2xtx8")
            .input("bx2xtx6")
            .expect_shapes("bx4xsx6")
            .expect_relation(
                "q[b, k·r, s, d] key[b, k, t, d] v[b, k, t, e] → y[b, k·r, s, e]  Σ d; Σ t",
            );
    }

    #[test]
    fn odd_heads_are_errors() {
        let proof = packed().input("2x5x25").input("2x7x8").input("2x7x10");
        let node = proof.named();
        let facts: Vec<Fact> = proof
            .inputs
            .iter()
            .flatten()
            .map(|input| input.fact.clone())
            .collect();
        let view = NodeView {
            node: &node,
            opset: 23,
            inputs: facts.iter().map(Some).collect(),
            outputs: vec![],
            branches: vec![],
            magnitudes: false,
        };
        assert!(Attention.infer(&view).is_err());
        assert_eq!(Attention.relate(&view).terms, []);
    }
}
