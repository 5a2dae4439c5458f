//! Attention with the input projections inside: `w[c, h·d + h·d + h·e]`. Heads and dimensions of values may go; those of queries
//! and keys stay, for they meet only inside, behind the bias.

use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, freeze_port, frozen_misfit, unless_ranked};
use crate::ops::frozen::{FrozenOperator, outputs, same, unknown};
use crate::ops::heads::{CACHE, KEYS, broadcast, broadcast_port, inner_products};
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment, Term};

/// Attention; QAttention, which is the same with quantized data and weights and other input numbers; and
/// DecoderMaskedSelfAttention, which takes one token at a time and knows which beam each came from.
struct Fused {
    quantized: bool,
}

/// Queries and keys of a fused projection.
pub(super) const INSIDE: Reason = Reason::operator("queries and keys meet inside the operator");
/// Keys and values in one tensor.
const TOGETHER: Reason = Reason::operator("keys and values share a head size");
/// Masks and lengths.
pub(super) const MASK: Reason = Reason::operator("positions of an attention mask");

/// The extents of a fused attention.
struct PackedExtents {
    b: Dim,
    s: Dim,
    c: Dim,
    h: Dim,
    d: Dim,
    e: Dim,
    /// Positions of the cache that comes in.
    p: Option<Dim>,
    /// All keys.
    t: Dim,
}

/// Head sizes of keys and of values in projections of this width.
pub(super) fn sizes(node: &NodeView, h: &Dim, width: &Dim) -> Result<(Dim, Dim), InferError> {
    let frozen_misfit = || {
        InferError(format!(
            "weights of {width} columns are not three projections of {h} heads"
        ))
    };
    let sizes: [Dim; 3] = match node.ints("qkv_hidden_sizes") {
        Some([]) | None => {
            let third = width.exact_div(&Dim::Num(3)).ok_or_else(frozen_misfit)?;
            [third.clone(), third.clone(), third]
        }
        Some([q, k, v]) => [*q, *k, *v].map(Dim::Num),
        Some(_) => return Err(InferError("qkv_hidden_sizes must be three".into())),
    };
    let [q, k, v] = &sizes;
    if q != k || (&(q + k) + v).differs(width) {
        return Err(frozen_misfit());
    }
    Ok((
        q.exact_div(h).ok_or_else(frozen_misfit)?,
        v.exact_div(h).ok_or_else(frozen_misfit)?,
    ))
}

impl Fused {
    fn mask(&self) -> usize {
        if self.quantized { 5 } else { 3 }
    }

    fn past(&self) -> usize {
        if self.quantized { 8 } else { 4 }
    }

    /// Whether keys and values have one head size for certain.
    fn together(&self, node: &NodeView) -> bool {
        self.quantized
            || node.has_input(self.past())
            || node.node.output.get(1).is_some_and(|name| !name.is_empty())
    }

    /// `None` when a rank is unknown.
    fn extents(&self, node: &NodeView) -> Result<Option<PackedExtents>, InferError> {
        let (Some(x), Some(w)) = (node.shape(0), node.shape(1)) else {
            return Ok(None);
        };
        let ([b, s, c], [_, width]) = (x, w) else {
            return Err(InferError("input must have 3 axes and weights 2".into()));
        };
        expect(node, 1, &[c, width])?;
        expect(node, 2, &[width])?;
        let h = node
            .int("num_heads")
            .filter(|heads| *heads > 0)
            .map(Dim::Num)
            .ok_or_else(|| InferError("no num_heads".into()))?;
        let (d, e) = sizes(node, &h, width)?;
        if self.together(node) && d != e {
            return Err(InferError(
                "a cache needs keys and values of one head size".into(),
            ));
        }
        let p = match node.shape(self.past()) {
            None => None,
            Some([_, _, _, p, _]) => Some(p.clone()),
            Some(_) => return Err(InferError("past must have 5 axes".into())),
        };
        let t = match &p {
            None => s.clone(),
            Some(p) if node.int("past_present_share_buffer").unwrap_or(0) != 0 => p.clone(),
            Some(p) => p + s,
        };
        for input in [4, 7].into_iter().filter(|_| self.quantized) {
            if node
                .shape(input)
                .is_some_and(|dims| !dims.iter().all(Dim::is_one))
            {
                expect(node, input, &[width])?;
            }
        }
        if let Some(p) = &p {
            expect(node, self.past(), &[&Dim::Num(2), b, &h, p, &d])?;
        }
        Ok(Some(PackedExtents {
            b: b.clone(),
            s: s.clone(),
            c: c.clone(),
            h,
            d,
            e,
            p,
            t,
        }))
    }
}

/// The labels of a fused attention, called as its extents are.
struct FusedLabels {
    b: LabelId,
    s: LabelId,
    c: LabelId,
    h: LabelId,
    d: LabelId,
    e: LabelId,
    t: LabelId,
}

impl FusedLabels {
    /// Queries, keys and values, one after the other.
    fn projections(&self) -> Layout {
        let pair = |width: LabelId| Segment::Product([self.h, width].into_iter().collect());
        Layout(
            [pair(self.d), pair(self.d), pair(self.e)]
                .into_iter()
                .collect(),
        )
    }
}

impl Fused {
    fn labels(&self, builder: &mut Builder, node: &NodeView, at: &PackedExtents) -> FusedLabels {
        let b = builder.free("b", at.b.clone());
        let s = builder.fixed("s", at.s.clone(), KEYS);
        let c = builder.free("c", at.c.clone());
        let h = builder.free("h", at.h.clone());
        let d = builder.fixed("d", at.d.clone(), INSIDE);
        let e = if self.together(node) {
            builder.fix(d, TOGETHER);
            d
        } else {
            builder.free("e", at.e.clone())
        };
        let t = builder.fixed("t", at.t.clone(), KEYS);
        FusedLabels {
            b,
            s,
            c,
            h,
            d,
            e,
            t,
        }
    }

    /// The product with the weights: queries and keys apart from the values where these have another width.
    fn project(&self, builder: &mut Builder, node: &NodeView, labels: &FusedLabels) {
        let FusedLabels {
            b, s, c, h, d, e, ..
        } = *labels;
        let zero = (self.quantized && node.has_input(7)).then_some(Port::In(7));
        let term = |labels: &[LabelId]| Term {
            data: Port::In(0),
            weight: Some(Port::In(1)),
            zero,
            labels: labels.to_vec(),
            summed: vec![c],
            window: None,
        };
        let parts = builder.fixed("", if d == e { 3i64 } else { 2 }, INSIDE);
        builder.term(term(&[b, s, c, parts, h, d]));
        if d != e {
            builder.term(term(&[b, s, c, h, e]));
        }
    }
}

/// Describes the scales and zero points of data and weights.
fn quantization(builder: &mut Builder, node: &NodeView, projections: &Layout) {
    const ONE: Reason = Reason::operator("one scale for all");
    freeze_port(builder, node, 3, "xscale", &ONE);
    freeze_port(builder, node, 6, "xzero", &ONE);
    for (input, name) in [(4, "wscale"), (7, "wzero")] {
        match node.shape(input) {
            Some([columns]) if !columns.is_one() => {
                builder.port(Port::In(input as u32), name, [projections.clone()])
            }
            _ => freeze_port(builder, node, input, name, &ONE),
        }
    }
}

/// Describes what is added to the scores, and what is known of the cache.
fn scores(builder: &mut Builder, node: &NodeView, at: PackedExtents, labels: &FusedLabels) {
    let full = [
        (at.b, labels.b.into()),
        (at.h, labels.h.into()),
        (at.s, labels.s.into()),
        (at.t, labels.t.into()),
    ];
    broadcast_port(builder, node, 5, "add", &full);
    for (input, name) in [(6, "length"), (7, "beam_width"), (8, "beams")] {
        freeze_port(builder, node, input, name, &MASK);
    }
    if node.has_input(8) {
        builder.fix(labels.b, MASK);
    }
}

impl Operator for Fused {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(if self.quantized { 3 } else { 0 });
        let Some(at) = self.extents(node)? else {
            return Ok(outputs(
                node,
                [Fact {
                    dtype,
                    ..Fact::default()
                }],
            ));
        };
        let y = vec![at.b.clone(), at.s, &at.h * &at.e];
        Ok(outputs(
            node,
            [
                Fact::new(dtype, y),
                Fact::new(dtype, vec![Dim::Num(2), at.b, at.h, at.t, at.d]),
            ],
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
        let labels = self.labels(&mut builder, node, &at);
        let FusedLabels {
            b,
            s,
            c,
            h,
            d,
            e,
            t,
        } = labels;
        let projections = labels.projections();
        builder.port(Port::In(0), "x", [b, s, c]);
        builder.port(Port::In(1), "w", [c.into(), projections.clone()]);
        builder.port(Port::In(2), "bias", [projections.clone()]);
        if let Some([first, rest @ ..]) = node.shape(self.mask()) {
            let first = broadcast(&mut builder, first, &at.b, b.into());
            let rest = rest
                .iter()
                .map(|dim| builder.fixed("", dim.clone(), MASK).into())
                .collect::<Vec<Layout>>();
            builder.port(
                Port::In(self.mask() as u32),
                "mask",
                std::iter::once(first).chain(rest),
            );
        }
        let two = builder.fixed("", 2i64, TOGETHER);
        if let Some(p) = at.p.clone() {
            let p = builder.fixed("p", p, CACHE);
            builder.port(Port::In(self.past() as u32), "past", [two, b, h, p, d]);
        }
        if self.quantized {
            quantization(&mut builder, node, &projections);
        } else {
            scores(&mut builder, node, at, &labels);
        }
        builder.port(
            Port::Out(0),
            "y",
            [b.into(), s.into(), Layout::product(&[h, e])],
        );
        builder.port(Port::Out(1), "next", [two, b, h, t, d]);
        self.project(&mut builder, node, &labels);
        inner_products(&mut builder, &[b, h, s], [d, e], t);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let number = |name: &str| cut.extent_of(name).and_then(|extent| extent.num());
        let (Some(h), Some(d)) = (number("h"), number("d")) else {
            return Err(RewriteError("head counts are not known numbers".into()));
        };
        let e = number("e").unwrap_or(d);
        edit.set_int("num_heads", h);
        if d != e
            || node
                .ints("qkv_hidden_sizes")
                .is_some_and(|sizes| !sizes.is_empty())
        {
            edit.set_ints("qkv_hidden_sizes", vec![h * d, h * d, h * e]);
        }
        Ok(())
    }
}

/// As wide inside as outside: heads would have to go with the channels of the data.
static SQUARE: FrozenOperator = FrozenOperator {
    reason: "an attention as wide inside as its data",
    infer: same,
};
/// Numbers of a device's own order.
static ORDERED: FrozenOperator = FrozenOperator {
    reason: "numbers in an order that only one device knows",
    infer: unknown,
};

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("Attention", &Fused { quantized: false }),
    Rule::microsoft("DecoderMaskedSelfAttention", &Fused { quantized: false }),
    Rule::microsoft("QAttention", &Fused { quantized: true }),
    Rule::microsoft("DecoderAttention", &SQUARE),
    Rule::microsoft("LongformerAttention", &SQUARE),
    Rule::microsoft("QOrderedAttention", &ORDERED),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Setting;
    use crate::ops::case::OpCase;

    fn attention() -> OpCase {
        OpCase::op("Attention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
            .input("2x5x16")
    }

    #[test]
    fn projections_share_heads() {
        let proof = attention()
            .weight("16x72")
            .weight("72")
            .input("i32:2x5")
            .ints("qkv_hidden_sizes", &[16, 16, 40])
            .expect_shapes("2x5x40")
            .expect_relation("x[b, s, c] w[c, h·d+h·d+h·e] bias[h·d+h·d+h·e] mask[b, 5] → y[b, s, h·e]  Σ c; Σ c; Σ d; Σ t");
        proof.view(|view| {
            let operator = Fused { quantized: false };
            let relation = operator.relate(view);
            let mut kept = vec![None; relation.labels.len()];
            kept[relation.named("h").unwrap().index()] = Some(vec![0u32, 3].into());
            kept[relation.named("e").unwrap().index()] = Some(vec![1u32, 2, 3].into());
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
            assert_eq!(
                edit.settings,
                [
                    ("num_heads", Setting::Int(2)),
                    ("qkv_hidden_sizes", Setting::Ints(vec![8, 8, 6]))
                ]
            );
        });
    }

    #[test]
    fn a_cache_ties_keys_to_values() {
        attention()
            .weight("16x48")
            .none()
            .none()
            .input("2x2x4x7x4")
            .input("1x1x5x12")
            .outputs(2)
            .expect_shapes("2x5x16 2x2x4x12x4")
            .expect_relation("x[b, s, c] w[c, h·d+h·d+h·d] past[2, b, h, p, d] add[1, 1, s, t] → y[b, s, h·d] next[2, b, h, t, d]  Σ c; Σ d; Σ t");
    }

    #[test]
    fn quantized() {
        OpCase::op("QAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
            .input("u8:2x5x16")
            .weight("i8:16x48")
            .weight("48")
            .weight("")
            .weight("48")
            .input("i32:2")
            .weight("u8:")
            .weight("i8:48")
            .expect_shapes("2x5x16")
            .expect_relation(
                "x[b, s, c] w[c, h·d+h·d+h·d] bias[h·d+h·d+h·d] xscale[] wscale[h·d+h·d+h·d] mask[b] xzero[] \
                 wzero[h·d+h·d+h·d] → y[b, s, h·d]  Σ c; Σ d; Σ t",
            );
    }

    #[test]
    fn one_token_at_a_time() {
        let start = OpCase::op("DecoderMaskedSelfAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
            .outputs(2)
            .input("bx1x16");
        let cache = start
            .weight("16x48")
            .weight("48")
            .none()
            .input("2xbx4x9x4")
            .none()
            .input("i32:1")
            .int("past_present_share_buffer", 1);
        cache.expect_shapes("bx1x16 2xbx4x9x4").expect_relation(
            "x[b, s, c] w[c, h·d+h·d+h·d] bias[h·d+h·d+h·d] past[2, b, h, p, d] length[1] → y[b, s, h·d] next[2, b, h, t, d]  Σ c; Σ d; Σ t",
        );
    }
}
