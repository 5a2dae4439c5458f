//! Attention over tokens without padding, one sequence after the other: PackedAttention, PackedMultiHeadAttention and
//! PagedAttention.

use super::attention::{INSIDE, MASK, sizes};
use super::group_query::{cache_scales, head_size};
use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, freeze_port, frozen_misfit, unless_ranked};
use crate::ops::frozen::outputs;
use crate::ops::heads::{
    CACHE, KEYS, broadcast_port, heads, inner_products, keep_scale, scores_and_values, set_heads,
    split,
};
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment, Term};

/// PackedAttention has the projections inside; PackedMultiHeadAttention has not.
struct PackedRows {
    inside: bool,
}

/// The extents of an attention over tokens without padding.
struct RaggedExtents {
    tokens: Dim,
    h: Dim,
    d: Dim,
    e: Dim,
    /// Whether queries, keys and values come in one tensor.
    together: bool,
}

impl PackedRows {
    /// Where the bias of the projections, the offsets and what is added to the scores are.
    fn inputs(&self) -> [usize; 3] {
        if self.inside { [2, 3, 5] } else { [3, 4, 6] }
    }

    /// `None` when a rank is unknown.
    fn extents(&self, node: &NodeView) -> Result<Option<RaggedExtents>, InferError> {
        let h = heads(node, "num_heads")?;
        let frozen_misfit = || InferError("inputs of axes that do not fit each other".into());
        let ranked = |input: usize| !node.has_input(input) || node.shape(input).is_some();
        let Some(first) = node.shape(0).filter(|_| ranked(1) && ranked(2)) else {
            return Ok(None);
        };
        let (tokens, d, e, together) = match (first, node.shape(1), node.shape(2)) {
            ([tokens, c], Some([rows, width]), _) if self.inside && !rows.differs(c) => {
                let (d, e) = sizes(node, &h, width)?;
                (tokens, d, e, false)
            }
            ([tokens, width], Some([_, _]), Some([_, values])) if !self.inside => {
                (tokens, split(width, &h)?, split(values, &h)?, false)
            }
            ([tokens, _, _, d], None, None) if !self.inside => (tokens, d.clone(), d.clone(), true),
            _ => return Err(frozen_misfit()),
        };
        if !self.inside && !together {
            expect(node, 1, &[tokens, &(&h * &d)])?;
        }
        expect(node, self.inputs()[0], &[&(&h * &(&(&d + &d) + &e))])?;
        Ok(Some(RaggedExtents {
            tokens: tokens.clone(),
            h,
            d,
            e,
            together,
        }))
    }
}

impl PackedRows {
    /// Describes data and projections; gives the layout of queries, keys and values one after the other.
    fn data(
        &self,
        builder: &mut Builder,
        node: &NodeView,
        together: bool,
        [t, h, d, e]: [LabelId; 4],
    ) -> Layout {
        let pair = |width: LabelId| Segment::Product([h, width].into_iter().collect());
        let three = Layout([pair(d), pair(d), pair(e)].into_iter().collect());
        if self.inside {
            let c = builder.free(
                "c",
                node.shape(0)
                    .and_then(<[Dim]>::last)
                    .cloned()
                    .unwrap_or(Dim::Num(1)),
            );
            builder.port(Port::In(0), "x", [t, c]);
            builder.port(Port::In(1), "w", [c.into(), three.clone()]);
            let parts = builder.fixed("", 2i64, INSIDE);
            for labels in [vec![t, c, parts, h, d], vec![t, c, h, e]] {
                builder.term(Term {
                    data: Port::In(0),
                    weight: Some(Port::In(1)),
                    zero: None,
                    labels,
                    summed: vec![c],
                    window: None,
                });
            }
        } else if together {
            let parts = builder.fixed("", 3i64, INSIDE);
            builder.port(Port::In(0), "qkv", [t, h, parts, d]);
        } else {
            for (input, name, width) in [(0, "q", d), (1, "key", d), (2, "v", e)] {
                builder.port(
                    Port::In(input),
                    name,
                    [t.into(), Layout::product(&[h, width])],
                );
            }
        }
        three
    }
}

/// Describes what is added to the scores of some heads.
fn added(builder: &mut Builder, node: &NodeView, add: usize, (heads, h): (Dim, LabelId)) {
    let added = node.shape(add).unwrap_or_default();
    let held = |builder: &mut Builder, axis: usize| {
        let dim = added.get(axis).cloned().unwrap_or(Dim::Num(1));
        (dim.clone(), Layout::from(builder.fixed("", dim, MASK)))
    };
    let full = [
        held(builder, 0),
        (heads, h.into()),
        held(builder, 2),
        held(builder, 3),
    ];
    broadcast_port(builder, node, add, "add", &full);
}

impl Operator for PackedRows {
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
        Ok(outputs(
            node,
            [Fact::new(dtype, vec![at.tokens, &at.h * &at.e])],
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
        let t = builder.fixed("t", at.tokens, TOKENS);
        let h = builder.free("h", at.h.clone());
        let d = builder.free("d", at.d.clone());
        let e = if at.together {
            d
        } else {
            builder.free("e", at.e.clone())
        };
        let [bias, offsets, add] = self.inputs();
        if self.inside {
            builder.fix(d, INSIDE);
        } else if node.has_input(bias) {
            builder.fix(d, Reason::operator("queries and keys meet behind a bias"));
        }
        let three = self.data(&mut builder, node, at.together, [t, h, d, e]);
        builder.port(Port::In(bias as u32), "bias", [three]);
        freeze_port(&mut builder, node, offsets, "offsets", &TOKENS);
        freeze_port(&mut builder, node, offsets + 1, "starts", &TOKENS);
        added(&mut builder, node, add, (at.h, h));
        builder.port(Port::Out(0), "y", [t.into(), Layout::product(&[h, e])]);
        match (self.inside, at.together) {
            (true, _) => inner_products(&mut builder, &[h], [d, e], t),
            (_, true) => scores_and_values(&mut builder, [0, 0, 0], &[h], [d, e], t, None),
            (_, false) => scores_and_values(&mut builder, [0, 1, 2], &[h], [d, e], t, None),
        }
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let number = |name: &str| cut.extent_of(name).and_then(|extent| extent.num());
        let (Some(h), Some(d)) = (number("h"), number("d")) else {
            return Err(RewriteError("head counts are not known numbers".into()));
        };
        let e = number("e").unwrap_or(d);
        edit.set_int("num_heads", h);
        if self.inside
            && (d != e
                || node
                    .ints("qkv_hidden_sizes")
                    .is_some_and(|sizes| !sizes.is_empty()))
        {
            edit.set_ints("qkv_hidden_sizes", vec![h * d, h * d, h * e]);
        }
        keep_scale(
            cut,
            edit,
            node.float("scale").is_some_and(|scale| scale != 0.0),
        )
    }
}

/// Why tokens stay.
const TOKENS: Reason =
    Reason::operator("rows of sequences of different lengths one after the other");

/// PagedAttention: grouped queries, with a cache in pages; values may be the first dimensions of the keys.
struct Paged;

impl Paged {
    /// Tokens, key heads, queries of each, head sizes of keys and of values; `None` when a rank is unknown.
    fn extents(node: &NodeView) -> Result<Option<[Dim; 5]>, InferError> {
        let Some(q) = node.shape(0) else {
            return Ok(None);
        };
        let [tokens, width] = q else {
            return Err(InferError("query must have 2 axes".into()));
        };
        let (q_heads, k) = (heads(node, "num_heads")?, heads(node, "kv_num_heads")?);
        let r = split(&q_heads, &k)?;
        let d = match node.has_input(1) {
            true => split(width, &q_heads)?,
            false => split(width, &(&q_heads + &(&k + &k)))?,
        };
        for input in [1, 2] {
            expect(node, input, &[tokens, &(&k * &d)])?;
        }
        expect(node, 11, &[&q_heads])?;
        let e = node
            .int("v_head_size")
            .filter(|size| *size > 0)
            .map_or_else(|| d.clone(), Dim::Num);
        Ok(Some([tokens.clone(), k, r, d, e]))
    }
}

impl Paged {
    /// Describes the pages that come in and go out.
    fn caches(builder: &mut Builder, node: &NodeView, [k, d]: [LabelId; 2]) {
        for (input, names) in [(3u32, ["keys", "nextk"]), (4, ["values", "nextv"])] {
            let Some([pages, places, _, bytes]) = node.shape(input as usize) else {
                continue;
            };
            let (pages, places) = (
                builder.fixed("", pages.clone(), CACHE),
                builder.fixed("", places.clone(), CACHE),
            );
            let bytes = if *bytes == builder.extent(&d.into()) {
                d
            } else {
                builder.fixed("", bytes.clone(), head_size(node))
            };
            builder.port(Port::In(input), names[0], [pages, places, k, bytes]);
            builder.port(Port::Out(input - 2), names[1], [pages, places, k, bytes]);
        }
    }
}

impl Operator for Paged {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some([tokens, k, r, _, e]) = Self::extents(node)? else {
            return Ok(outputs(
                node,
                [Fact {
                    dtype,
                    ..Fact::default()
                }],
            ));
        };
        let cache = |input: usize| {
            node.input(input)
                .cloned()
                .unwrap_or_default()
                .with_contents(None)
        };
        Ok(outputs(
            node,
            [
                Fact::new(dtype, vec![tokens, &(&k * &r) * &e]),
                cache(3),
                cache(4),
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some([tokens, k, r, d, e])) = Self::extents(node) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let s = builder.fixed("s", tokens, TOKENS);
        let (k, r) = (builder.free("k", k), builder.free("r", r));
        let same = d == e;
        let d = builder.fixed("d", d, head_size(node));
        let e = if same {
            d
        } else {
            builder.fixed("e", e, head_size(node))
        };
        let keys = Layout::product(&[k, d]);
        let mut q = Layout::product(&[k, r, d]);
        if !node.has_input(1) {
            q.0.extend(keys.0.iter().chain(&keys.0).cloned());
        }
        builder.port(
            Port::In(0),
            if node.has_input(1) { "q" } else { "qkv" },
            [s.into(), q],
        );
        builder.port(Port::In(1), "key", [s.into(), keys.clone()]);
        builder.port(Port::In(2), "v", [s.into(), keys]);
        Self::caches(&mut builder, node, [k, d]);
        for (input, name) in [
            (5, "starts"),
            (6, "lengths"),
            (7, "pages"),
            (8, "cos"),
            (9, "sin"),
            (10, "slots"),
            (16, "bounds"),
        ] {
            freeze_port(&mut builder, node, input, name, &TOKENS);
        }
        builder.port(Port::In(11), "sink", [Layout::product(&[k, r])]);
        builder.port(Port::In(12), "qscale", [d]);
        builder.port(Port::In(13), "knorm", [d]);
        cache_scales(&mut builder, node, [14, 15], [k, d]);
        builder.port(Port::Out(0), "y", [s.into(), Layout::product(&[k, r, e])]);
        let t = builder.fixed("t", 1i64, KEYS);
        let from = match (node.has_input(1), node.has_input(2)) {
            (false, _) => [0, 0, 0],
            // Values are the first dimensions of the keys.
            (_, false) => [0, 1, 1],
            _ => [0, 1, 2],
        };
        scores_and_values(&mut builder, from, &[s, k, r], [d, e], t, None);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_heads(node, cut, edit, "num_heads", "kv_num_heads")
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("PackedAttention", &PackedRows { inside: true }),
    Rule::microsoft("PackedMultiHeadAttention", &PackedRows { inside: false }),
    Rule::microsoft("PagedAttention", &Paged),
];

#[cfg(test)]
mod tests {
    use crate::ops::Setting;
    use crate::ops::case::OpCase;

    #[test]
    fn tokens_without_padding() {
        let inside = OpCase::op("PackedAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
            .input("tx16")
            .weight("16x72");
        let inside = inside
            .weight("72")
            .input("i32:2x5")
            .input("i32:3")
            .weight("1x4x5x5")
            .ints("qkv_hidden_sizes", &[16, 16, 40]);
        inside
            .clone()
            .expect_shapes("tx40")
            .expect_relation("x[t, c] w[c, h·d+h·d+h·e] bias[h·d+h·d+h·e] offsets[2, 5] starts[3] add[1, h, 5, 5] → y[t, h·e]  Σ c; Σ c; Σ d; Σ t");
        let edit = inside.edit(&[("h", &[0, 3])]).unwrap();
        assert_eq!(
            edit.settings,
            [
                ("num_heads", Setting::Int(2)),
                ("qkv_hidden_sizes", Setting::Ints(vec![8, 8, 20]))
            ]
        );
        let heads = || {
            OpCase::op("PackedMultiHeadAttention")
                .domain("com.microsoft")
                .at(1)
                .int("num_heads", 4)
        };
        let apart = heads()
            .input("tx16")
            .input("tx16")
            .input("tx24")
            .none()
            .input("i32:2x5")
            .input("i32:3");
        apart.expect_shapes("tx24").expect_relation(
            "q[t, h·d] key[t, h·d] v[t, h·e] offsets[2, 5] starts[3] → y[t, h·e]  Σ d; Σ t",
        );
        let together = heads()
            .input("tx4x3x4")
            .none()
            .none()
            .weight("48")
            .input("i32:2x5")
            .input("i32:3");
        together.expect_shapes("tx16").expect_relation(
            "qkv[t, h, 3, d] bias[h·d+h·d+h·d] offsets[2, 5] starts[3] → y[t, h·d]  Σ d; Σ t",
        );
    }

    #[test]
    fn a_cache_in_pages() {
        let start = OpCase::op("PagedAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 6)
            .int("kv_num_heads", 2)
            .outputs(3);
        let data = start
            .input("f16:tx48")
            .input("f16:tx16")
            .input("f16:tx16")
            .input("f16:7x16x2x8")
            .input("f16:7x16x2x8");
        let ids = data.input("i32:3").input("i32:2").input("i32:2x4");
        ids.none().none().none().weight("f16:6").expect_shapes("tx48 7x16x2x8 7x16x2x8").expect_relation(
            "q[s, k·r·d] key[s, k·d] v[s, k·d] keys[7, 16, k, d] values[7, 16, k, d] starts[3] lengths[2] pages[2, 4] sink[k·r] \
             → y[s, k·r·d] nextk[7, 16, k, d] nextv[7, 16, k, d]  Σ d; Σ t",
        );
    }
}
