//! Attention without projections, with as many key heads as query heads: MultiHeadAttention, and DecoderMaskedMultiHeadAttention,
//! which takes one query at a time.

use super::attention::MASK;
use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, freeze_port, frozen_misfit, unless_ranked};
use crate::ops::frozen::outputs;
use crate::ops::heads::{
    CACHE, CAUSAL, KEYS, broadcast, broadcast_port, cached, heads, keep_scale, scores_and_values,
    split,
};
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment};

/// Where the operator's inputs are.
struct MultiHead {
    bias: usize,
    mask: usize,
    add: usize,
    /// Keys of earlier calls; their values come next.
    past: usize,
    /// How much of a cache that is written in place is filled.
    length: usize,
    beams: usize,
    /// Whether keys and values have one head size in every form.
    alike: bool,
}

const MULTI_HEAD: MultiHead = MultiHead {
    bias: 3,
    mask: 4,
    add: 5,
    past: 6,
    length: 8,
    beams: 9,
    alike: false,
};
const DECODER: MultiHead = MultiHead {
    bias: 10,
    mask: 3,
    add: 4,
    past: 5,
    length: 7,
    beams: 9,
    alike: true,
};

/// Queries, keys and values in one tensor.
const PARTS: Reason = Reason::structure("queries, keys and values in one tensor");
/// A cache whose keys are not in the order of their dimensions.
const REORDERED: Reason = Reason::operator("keys of a cache in an order of their own");

/// How queries, keys and values come in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HeadForm {
    /// Three tensors of three axes.
    Flat,
    /// Keys and values with an axis of heads.
    Apart,
    /// Keys beside values, of five axes.
    KeysTogether,
    /// All in one, of five axes.
    Together,
    /// All in one, one after the other on the last of three axes.
    Rows,
}

/// The extents of a MultiHeadAttention.
struct HeadExtents {
    b: Dim,
    s: Dim,
    h: Dim,
    d: Dim,
    e: Dim,
    /// Keys of this call.
    n: Dim,
    p: Option<Dim>,
    /// All keys.
    t: Dim,
    form: HeadForm,
}

/// Form, batch, query positions, keys, and head sizes.
type GivenExtent = (HeadForm, Dim, Dim, Dim, Dim, Dim);

impl MultiHead {
    /// `None` when a rank is unknown.
    fn given(&self, node: &NodeView, h: &Dim) -> Result<Option<GivenExtent>, InferError> {
        let ranked = |input: usize| !node.has_input(input) || node.shape(input).is_some();
        let Some(q) = node.shape(0).filter(|_| ranked(1) && ranked(2)) else {
            return Ok(None);
        };
        let given = match (q, node.shape(1), node.shape(2)) {
            ([b, s, width], None, None) if self.alike => {
                let d = split(&split(width, h)?, &Dim::Num(3))?;
                (HeadForm::Rows, b, s, s, d.clone(), d)
            }
            ([b, s, _, _, d], None, None) => (HeadForm::Together, b, s, s, d.clone(), d.clone()),
            ([b, s, width], Some([_, n, _, _, d]), None) if !split(width, h)?.differs(d) => {
                (HeadForm::KeysTogether, b, s, n, d.clone(), d.clone())
            }
            ([b, s, width], Some([_, n, _]), Some([_, _, values])) => {
                (HeadForm::Flat, b, s, n, split(width, h)?, split(values, h)?)
            }
            ([b, s, width], Some([_, _, n, _]), Some([_, _, _, e])) => {
                (HeadForm::Apart, b, s, n, split(width, h)?, e.clone())
            }
            _ => {
                return Err(InferError(
                    "query, key and value of axes that do not fit each other".into(),
                ));
            }
        };
        let (form, b, s, n, d, e) = given;
        Ok(Some((form, b.clone(), s.clone(), n.clone(), d, e)))
    }

    /// Whether keys and values have one head size for certain.
    fn alike(&self, node: &NodeView, form: HeadForm) -> bool {
        self.alike || form != HeadForm::Flat || node.has_input(self.past)
    }

    /// `None` when a rank is unknown.
    fn extents(&self, node: &NodeView) -> Result<Option<HeadExtents>, InferError> {
        let h = heads(node, "num_heads")?;
        let Some((form, b, s, n, d, e)) = self.given(node, &h)? else {
            return Ok(None);
        };
        if self.alike(node, form) && d.differs(&e) {
            return Err(InferError(format!(
                "keys of {d} and values of {e} dimensions a head"
            )));
        }
        match form {
            HeadForm::Flat => expect(node, 1, &[&b, &n, &(&h * &d)]).and(expect(
                node,
                2,
                &[&b, &n, &(&h * &e)],
            ))?,
            HeadForm::Apart => {
                expect(node, 1, &[&b, &h, &n, &d]).and(expect(node, 2, &[&b, &h, &n, &e]))?
            }
            HeadForm::KeysTogether => expect(node, 1, &[&b, &n, &h, &Dim::Num(2), &d])?,
            HeadForm::Together => expect(node, 0, &[&b, &s, &h, &Dim::Num(3), &d])?,
            HeadForm::Rows => {}
        }
        expect(node, self.bias, &[&(&h * &(&(&d + &d) + &e))])?;
        let p = cached(node, self.past)?.map(|[p, _]| p.clone());
        if let Some(p) = &p {
            expect(node, self.past, &[&b, &h, p, &d]).and(expect(
                node,
                self.past + 1,
                &[&b, &h, p, &e],
            ))?;
        }
        let t = match &p {
            None => n.clone(),
            Some(p) if self.in_place(node) => p.clone(),
            Some(p) => p + &n,
        };
        Ok(Some(HeadExtents {
            b,
            s,
            h,
            d,
            e,
            n,
            p,
            t,
            form,
        }))
    }

    /// The labels of [`Self::data`], of all keys, and of the cache.
    fn labels(
        &self,
        builder: &mut Builder,
        node: &NodeView,
        at: &HeadExtents,
    ) -> ([LabelId; 6], LabelId, Option<LabelId>) {
        let b = builder.free("b", at.b.clone());
        let causal = node.int("unidirectional").unwrap_or(0) != 0;
        let together = matches!(at.form, HeadForm::Rows | HeadForm::Together);
        let reason = if causal { CAUSAL } else { KEYS };
        let s = if causal || together {
            builder.fixed("s", at.s.clone(), reason)
        } else {
            builder.free("s", at.s.clone())
        };
        let h = builder.free("h", at.h.clone());
        let d = builder.free("d", at.d.clone());
        let e = if self.alike(node, at.form) {
            d
        } else {
            builder.free("e", at.e.clone())
        };
        if node.has_input(self.bias) {
            builder.fix(d, Reason::operator("queries and keys meet behind a bias"));
        }
        let n = if together {
            s
        } else {
            builder.fixed("n", at.n.clone(), KEYS)
        };
        let t = if at.t == at.n {
            n
        } else {
            builder.fixed("t", at.t.clone(), KEYS)
        };
        let p = at.p.clone().map(|p| builder.fixed("p", p, CACHE));
        ([b, s, n, h, d, e], t, p)
    }

    /// Whether the cache is written in place.
    fn in_place(&self, node: &NodeView) -> bool {
        node.has_input(self.length) || node.int("past_present_share_buffer").unwrap_or(0) != 0
    }

    /// Describes queries, keys and values.
    fn data(&self, builder: &mut Builder, form: HeadForm, [b, s, n, h, d, e]: [LabelId; 6]) {
        let flat = |positions: LabelId, width: LabelId| {
            [b.into(), positions.into(), Layout::product(&[h, width])]
        };
        let pair = |width: LabelId| Segment::Product([h, width].into_iter().collect());
        match form {
            HeadForm::Rows => builder.port(
                Port::In(0),
                "qkv",
                [
                    b.into(),
                    s.into(),
                    Layout([pair(d), pair(d), pair(e)].into_iter().collect()),
                ],
            ),
            HeadForm::Together => {
                let three = builder.fixed("", 3i64, PARTS);
                builder.port(Port::In(0), "qkv", [b, s, h, three, d]);
            }
            _ => builder.port(Port::In(0), "q", flat(s, d)),
        }
        match form {
            HeadForm::Flat => {
                builder.port(Port::In(1), "key", flat(n, d));
                builder.port(Port::In(2), "v", flat(n, e));
            }
            HeadForm::Apart => {
                builder.port(Port::In(1), "key", [b, h, n, d]);
                builder.port(Port::In(2), "v", [b, h, n, e]);
            }
            HeadForm::KeysTogether => {
                let two = builder.fixed("", 2i64, PARTS);
                builder.port(Port::In(1), "kv", [b, n, h, two, d]);
            }
            HeadForm::Rows | HeadForm::Together => {}
        }
        builder.port(
            Port::In(self.bias as u32),
            "bias",
            [Layout([pair(d), pair(d), pair(e)].into_iter().collect())],
        );
    }

    /// Describes masks, what is added to the scores, and what is known of a cache. Each full extent with its layout.
    fn masks(&self, builder: &mut Builder, node: &NodeView, full: &[(Dim, Layout); 4]) {
        let [batch, _, queries, _] = full;
        if let Some([first, rest @ ..]) = node.shape(self.mask) {
            let mut axes = vec![broadcast(builder, first, &batch.0, batch.1.clone())];
            if let [positions, _] = rest {
                axes.push(broadcast(builder, positions, &queries.0, queries.1.clone()));
            }
            axes.extend(
                rest.last()
                    .map(|dim| Layout::from(builder.fixed("", dim.clone(), MASK))),
            );
            builder.port(Port::In(self.mask as u32), "mask", axes);
        }
        broadcast_port(builder, node, self.add, "add", full);
        for (input, name) in [
            (self.length, "length"),
            (self.length + 1, "beam_width"),
            (self.beams, "beams"),
        ] {
            freeze_port(builder, node, input, name, &MASK);
        }
    }
}

impl Operator for MultiHead {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some(at) = self.extents(node)? else {
            return Ok(outputs(
                node,
                [Fact {
                    dtype,
                    ..Fact::default()
                }],
            ));
        };
        let present = |width: &Dim| vec![at.b.clone(), at.h.clone(), at.t.clone(), width.clone()];
        let y = vec![at.b.clone(), at.s.clone(), &at.h * &at.e];
        let qk = vec![at.b.clone(), at.h.clone(), at.s.clone(), at.t.clone()];
        Ok(outputs(
            node,
            [y, present(&at.d), present(&at.e), qk].map(|shape| Fact::new(dtype, shape)),
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = self.extents(node) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let (data, t, p) = self.labels(&mut builder, node, &at);
        let [b, s, n, h, d, e] = data;
        self.data(&mut builder, at.form, data);
        self.masks(
            &mut builder,
            node,
            &[
                (at.b, b.into()),
                (at.h, h.into()),
                (at.s, s.into()),
                (at.t, t.into()),
            ],
        );
        if let Some(p) = p {
            builder.port(Port::In(self.past as u32), "pastk", [b, h, p, d]);
            builder.port(Port::In(self.past as u32 + 1), "pastv", [b, h, p, e]);
            if self.alike && self.in_place(node) {
                builder.fix(d, REORDERED);
            }
        }
        if node.has_input(self.beams) {
            builder.fix(b, MASK);
        }
        builder.port(
            Port::Out(0),
            "y",
            [b.into(), s.into(), Layout::product(&[h, e])],
        );
        builder.port(Port::Out(1), "nextk", [b, h, t, d]);
        builder.port(Port::Out(2), "nextv", [b, h, t, e]);
        builder.port(Port::Out(3), "qk", [b, h, s, t]);
        let from = match at.form {
            HeadForm::Flat | HeadForm::Apart => [0, 1, 2],
            HeadForm::KeysTogether => [0, 1, 1],
            HeadForm::Together | HeadForm::Rows => [0, 0, 0],
        };
        scores_and_values(
            &mut builder,
            from,
            &[b, s, h],
            [d, e],
            n,
            p.map(|p| (p, self.past as u32)),
        );
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let heads = cut.extent_of("h").and_then(|heads| heads.num());
        edit.set_int(
            "num_heads",
            heads.ok_or_else(|| RewriteError("num_heads has no known number".into()))?,
        );
        keep_scale(
            cut,
            edit,
            node.float("scale").is_some_and(|scale| scale != 0.0),
        )
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("DecoderMaskedMultiHeadAttention", &DECODER),
    Rule::microsoft("MultiHeadAttention", &MULTI_HEAD).averages(&[2, 3, 7]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::OpCase;

    fn multi_head() -> OpCase {
        OpCase::op("MultiHeadAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
    }

    #[test]
    fn heads_and_sizes() {
        multi_head()
            .input("2x5x16")
            .input("2x7x16")
            .input("2x7x24")
            .none()
            .input("i32:2x7")
            .input("2x1x5x7")
            .expect_shapes("2x5x24")
            .expect_relation("q[b, s, h·d] key[b, n, h·d] v[b, n, h·e] mask[b, 7] add[b, 1, s, n] → y[b, s, h·e]  Σ d; Σ n");
    }

    #[test]
    fn heads_with_a_cache() {
        multi_head()
            .outputs(3)
            .input("bx1x16")
            .input("bx1x16")
            .input("bx1x16")
            .weight("48")
            .none()
            .none()
            .input("bx4xpx4")
            .input("bx4xpx4")
            .expect_shapes("bx1x16 bx4xp + 1x4 bx4xp + 1x4")
            .expect_relation(
                "q[b, s, h·d] key[b, n, h·d] v[b, n, h·d] bias[h·d+h·d+h·d] pastk[b, h, p, d] pastv[b, h, p, d] \
                 → y[b, s, h·d] nextk[b, h, t, d] nextv[b, h, t, d]  Σ d; Σ n; Σ d; Σ p",
            );
    }

    #[test]
    fn keys_and_values_of_one_tensor() {
        multi_head()
            .input("bx5x4x3x4")
            .expect_shapes("bx5x16")
            .expect_relation("qkv[b, s, h, 3, d] → y[b, s, h·d]  Σ d; Σ s");
        let keys = multi_head()
            .input("bx5x16")
            .input("bx7x4x2x4")
            .expect_shapes("bx5x16");
        keys.expect_relation("q[b, s, h·d] kv[b, n, h, 2, d] → y[b, s, h·d]  Σ d; Σ n");
        let apart = multi_head()
            .input("bx5x16")
            .input("bx4x7x4")
            .input("bx4x7x4")
            .expect_shapes("bx5x16");
        apart
            .expect_relation("q[b, s, h·d] key[b, h, n, d] v[b, h, n, d] → y[b, s, h·d]  Σ d; Σ n");
    }

    #[test]
    fn a_past_of_other_sizes_does_not_fit() {
        let past = multi_head()
            .input("2x5x16")
            .input("2x5x16")
            .input("2x5x24")
            .none()
            .none()
            .none()
            .input("2x4x3x4")
            .input("2x4x3x6");
        let view = past.named();
        let facts: Vec<_> = past
            .inputs
            .iter()
            .map(|input| input.as_ref().map(|input| &input.fact))
            .collect();
        let view = NodeView {
            node: &view,
            opset: 1,
            inputs: facts,
            outputs: vec![],
            branches: vec![],
            magnitudes: false,
        };
        assert!(MULTI_HEAD.infer(&view).is_err());
    }

    #[test]
    fn one_query_at_a_time() {
        let decoder = || {
            OpCase::op("DecoderMaskedMultiHeadAttention")
                .domain("com.microsoft")
                .at(1)
                .int("num_heads", 4)
        };
        decoder()
            .input("bx1x16")
            .input("bx1x16")
            .input("bx1x16")
            .none()
            .input("1x4x1x1")
            .expect_shapes("bx1x16")
            .expect_relation(
                "q[b, s, h·d] key[b, n, h·d] v[b, n, h·d] add[1, h, s, n] → y[b, s, h·d]  Σ d; Σ n",
            );
        decoder()
            .input("bx1x48")
            .expect_shapes("bx1x16")
            .expect_relation("qkv[b, s, h·d+h·d+h·d] → y[b, s, h·d]  Σ d; Σ s");
        let cache = decoder()
            .outputs(3)
            .input("bx1x16")
            .input("bx1x16")
            .input("bx1x16")
            .none()
            .none()
            .input("bx4x9x4")
            .input("bx4x9x4");
        cache.input("i32:1").none().none().weight("48").int("past_present_share_buffer", 1).expect_shapes("bx1x16 bx4x9x4 bx4x9x4").expect_relation(
            "q[b, s, h·d] key[b, n, h·d] v[b, n, h·d] pastk[b, h, p, d] pastv[b, h, p, d] length[1] bias[h·d+h·d+h·d] \
                 → y[b, s, h·d] nextk[b, h, t, d] nextv[b, h, t, d]  Σ d; Σ n; Σ d; Σ p",
        );
    }
}
