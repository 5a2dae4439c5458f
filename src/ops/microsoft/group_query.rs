//! Attention of grouped queries without projections, with a cache: GroupQueryAttention, and SparseAttention, in which heads see
//! chosen blocks of keys.

use super::attention::MASK;
use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, freeze_port, frozen_misfit, unless_ranked};
use crate::ops::frozen::outputs;
use crate::ops::heads::{
    CACHE, CAUSAL, KEYS, broadcast_port, cached, heads, scores_and_values, set_heads, split,
};
use crate::ops::rotary::ROTATION;
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation};

/// Both keep keys and values in a cache; the projections may come packed into the query.
struct GroupQuery {
    /// Whether heads see chosen blocks of keys, and the cache keeps its length.
    sparse: bool,
}

/// Why the head size stays.
const TOGETHER: Reason = Reason::operator("keys and values share a head size");
/// Why heads stay that see different blocks.
const TURNS: Reason = Reason::operator("heads that take turns in what they see");

/// The extents of a grouped attention.
pub(super) struct Grouped {
    pub b: Dim,
    pub s: Dim,
    pub k: Dim,
    pub r: Dim,
    pub d: Dim,
    /// Keys of this call.
    pub n: Dim,
    /// All keys, or places of the cache.
    pub t: Dim,
    /// Whether the projections come one after the other in the query.
    pub packed: bool,
}

impl Grouped {
    /// `None` when a rank is unknown.
    fn of(node: &NodeView, sparse: bool) -> Result<Option<Self>, InferError> {
        let Some(q) = node.shape(0) else {
            return Ok(None);
        };
        let [b, s, width] = q else {
            return Err(InferError("query must have 3 axes".into()));
        };
        let (q_heads, k) = (heads(node, "num_heads")?, heads(node, "kv_num_heads")?);
        let r = split(&q_heads, &k)?;
        let packed = !node.has_input(1);
        let (d, n) = match node.shape(1) {
            _ if packed => (split(width, &(&q_heads + &(&k + &k)))?, s.clone()),
            None => return Ok(None),
            Some([_, n, _]) => (split(width, &q_heads)?, n.clone()),
            // Of earlier layers, with an axis of heads.
            Some([_, _, n, _]) if !sparse => (split(width, &q_heads)?, n.clone()),
            Some(_) => return Err(InferError("key must have 3 axes".into())),
        };
        for input in [1, 2] {
            match node.shape(input) {
                Some([_, _, _, _]) => expect(node, input, &[b, &k, &n, &d])?,
                _ => expect(node, input, &[b, &n, &(&k * &d)])?,
            }
        }
        let past = cached(node, 3)?;
        if let Some([p, c]) = past {
            // A quantized cache may hold two numbers in a byte.
            let width = if node.dtype(3) == Some(Dtype::Uint8) {
                c
            } else {
                &d
            };
            expect(node, 3, &[b, &k, p, width]).and(expect(node, 4, &[b, &k, p, width]))?;
        }
        let t = match past {
            Some([p, _]) if sparse => p.clone(),
            Some(_) => node.unknown(1, 2),
            None => n.clone(),
        };
        if !sparse {
            expect(node, 11, &[&q_heads])?;
            expect(node, 14, &[&d]).and(expect(node, 15, &[&d]))?;
        }
        Ok(Some(Grouped {
            b: b.clone(),
            s: s.clone(),
            k,
            r,
            d,
            n,
            t,
            packed,
        }))
    }
}

/// Why the head size stays.
pub(super) fn head_size(node: &NodeView) -> Reason {
    if node.int("do_rotary").unwrap_or(0) != 0 {
        ROTATION
    } else {
        TOGETHER
    }
}

/// Describes scales of a cache: one number, or one for each head and dimension.
pub(super) fn cache_scales(
    builder: &mut Builder,
    node: &NodeView,
    inputs: [usize; 2],
    [k, d]: [LabelId; 2],
) {
    let extents = [k, d].map(|label| builder.extent(&label.into()));
    for (input, name) in inputs.into_iter().zip(["kscale", "vscale"]) {
        let Some(dims) = node.shape(input) else {
            continue;
        };
        let axes = dims.iter().enumerate().map(|(axis, dim)| match dim {
            _ if dim.is_one() => builder.fill(1i64),
            _ if axis + 1 == dims.len() && *dim == extents[1] => d,
            _ if axis + 1 < dims.len() && *dim == extents[0] => k,
            _ => builder.fixed("", dim.clone(), TOGETHER),
        });
        let axes: Vec<LabelId> = axes.collect();
        builder.port(Port::In(input as u32), name, axes);
    }
}

/// Inputs that are held for all heads, of GroupQueryAttention.
const DENSE: &[(usize, &str)] = &[
    (5, "lengths"),
    (6, "length"),
    (7, "cos"),
    (8, "sin"),
    (9, "at"),
    (16, "queries"),
];
/// The same of SparseAttention.
const BLOCKED: &[(usize, &str)] = &[
    (5, "rows"),
    (6, "columns"),
    (7, "length"),
    (8, "lengths"),
    (9, "cos"),
    (10, "sin"),
];

/// Fixes heads that see different blocks of keys by turns.
fn fix_turns(builder: &mut Builder, node: &NodeView, at: &Grouped, [k, r]: [LabelId; 2]) {
    let layouts = node
        .shape(5)
        .and_then(<[Dim]>::first)
        .cloned()
        .unwrap_or(Dim::Num(1));
    if !layouts.is_one() {
        builder.fix(r, TURNS);
        // Key heads may go where each has its queries see all the layouts.
        if at.r.exact_div(&layouts).is_none() {
            builder.fix(k, TURNS);
        }
    }
}

impl GroupQuery {
    /// Describes the caches that come in and go out.
    fn caches(&self, builder: &mut Builder, node: &NodeView, [b, k, t, d]: [LabelId; 4]) {
        // Several numbers in a byte: the head size stays, whatever the bytes are.
        let width = |builder: &mut Builder, dims: Option<&[Dim]>| match dims.and_then(<[Dim]>::last)
        {
            Some(dim) if *dim != builder.extent(&d.into()) => {
                builder.fixed("", dim.clone(), TOGETHER)
            }
            _ => d,
        };
        if let Some(p) = node.shape(3).and_then(|dims| dims.get(2)) {
            let p = if self.sparse {
                t
            } else {
                builder.fixed("p", p.clone(), CACHE)
            };
            for (input, name) in [(3u32, "pastk"), (4, "pastv")] {
                let width = width(builder, node.shape(input as usize));
                builder.port(Port::In(input), name, [b, k, p, width]);
            }
        }
        for (output, name) in [(1u32, "nextk"), (2, "nextv")] {
            let width = width(builder, node.output_shape(output as usize));
            builder.port(Port::Out(output), name, [b, k, t, width]);
        }
    }

    /// Describes what is held for all heads, and what each head has of its own.
    fn others(
        &self,
        builder: &mut Builder,
        node: &NodeView,
        at: &Grouped,
        [b, k, r, s, d]: [LabelId; 5],
    ) {
        for (input, name) in if self.sparse { BLOCKED } else { DENSE } {
            freeze_port(builder, node, *input, name, &MASK);
        }
        if self.sparse {
            fix_turns(builder, node, at, [k, r]);
            return;
        }
        let total = node
            .shape(10)
            .and_then(<[Dim]>::last)
            .cloned()
            .unwrap_or(Dim::Num(1));
        let keys = builder.fixed("", total.clone(), KEYS);
        let each = Layout::product(&[k, r]);
        let full = [
            (at.b.clone(), b.into()),
            (&at.k * &at.r, each.clone()),
            (at.s.clone(), s.into()),
            (total, keys.into()),
        ];
        broadcast_port(builder, node, 10, "add", &full);
        builder.port(Port::In(11), "sink", [each.clone()]);
        cache_scales(builder, node, [12, 13], [k, d]);
        builder.port(Port::In(14), "qscale", [d]);
        builder.port(Port::In(15), "kscale", [d]);
        let last = node
            .output_shape(3)
            .and_then(<[Dim]>::last)
            .cloned()
            .map(|dim| builder.fixed("", dim, KEYS));
        builder.port(
            Port::Out(3),
            "qk",
            [b.into(), each, s.into()]
                .into_iter()
                .chain(last.map(Layout::from)),
        );
    }
}

impl Operator for GroupQuery {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some(at) = Grouped::of(node, self.sparse)? else {
            return Ok(outputs(
                node,
                [Fact {
                    dtype,
                    ..Fact::default()
                }],
            ));
        };
        let heads = &at.k * &at.r;
        let width = node.shape(3).and_then(<[Dim]>::last).unwrap_or(&at.d);
        let cache = vec![at.b.clone(), at.k.clone(), at.t.clone(), width.clone()];
        let y = vec![at.b.clone(), at.s.clone(), &heads * &at.d];
        let qk = vec![at.b, heads, at.s, node.unknown(3, 3)];
        let kept = node.dtype(3).or(dtype);
        Ok(outputs(
            node,
            [
                (dtype, y),
                (kept, cache.clone()),
                (kept, cache),
                (dtype, qk),
            ]
            .map(|(dtype, shape)| Fact::new(dtype, shape)),
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = Grouped::of(node, self.sparse) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let b = builder.free("b", at.b.clone());
        let s = builder.fixed("s", at.s.clone(), CAUSAL);
        let k = builder.free("k", at.k.clone());
        let r = builder.free("r", at.r.clone());
        let d = builder.fixed("d", at.d.clone(), head_size(node));
        let n = if at.packed {
            s
        } else {
            builder.fixed("n", at.n.clone(), KEYS)
        };
        let t = if at.t == at.n {
            n
        } else {
            builder.fixed("t", at.t.clone(), KEYS)
        };
        let queries = Layout::product(&[k, r, d]);
        let keys = Layout::product(&[k, d]);
        let mut q = queries.clone();
        if at.packed {
            q.0.extend(keys.0.iter().chain(&keys.0).cloned());
        }
        builder.port(
            Port::In(0),
            if at.packed { "qkv" } else { "q" },
            [b.into(), s.into(), q],
        );
        for (input, name) in [(1u32, "key"), (2, "v")] {
            match node.shape(input as usize).map(<[Dim]>::len) {
                Some(4) => builder.port(Port::In(input), name, [b, k, n, d]),
                _ => builder.port(Port::In(input), name, [b.into(), n.into(), keys.clone()]),
            }
        }
        self.caches(&mut builder, node, [b, k, t, d]);
        self.others(&mut builder, node, &at, [b, k, r, s, d]);
        builder.port(Port::Out(0), "y", [b.into(), s.into(), queries]);
        let from = if at.packed { [0, 0, 0] } else { [0, 1, 2] };
        scores_and_values(&mut builder, from, &[b, k, r, s], [d, d], t, None);
        // Lengths and positions are held for the whole batch.
        builder.fix(b, MASK);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_heads(node, cut, edit, "num_heads", "kv_num_heads")
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("GroupQueryAttention", &GroupQuery { sparse: false }),
    Rule::microsoft("SparseAttention", &GroupQuery { sparse: true }),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn grouped() -> OpCase {
        OpCase::op("GroupQueryAttention")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 6)
            .int("kv_num_heads", 2)
            .outputs(3)
    }

    #[test]
    fn groups_and_packed_groups() {
        grouped()
            .input("1xsx48")
            .input("1xsx16")
            .input("1xsx16")
            .input("1x2xpx8")
            .input("1x2xpx8")
            .input("i32:1")
            .input("i32:1")
            .expect_shapes("1xsx48 1x2x?out1.2x8 1x2x?out1.2x8")
            .expect_relation(
                "q[b, s, k·r·d] key[b, n, k·d] v[b, n, k·d] pastk[b, k, p, d] pastv[b, k, p, d] lengths[1] length[1] \
                 → y[b, s, k·r·d] nextk[b, k, t, d] nextv[b, k, t, d]  Σ d; Σ t",
            );
        grouped()
            .input("1xsx80")
            .none()
            .none()
            .none()
            .none()
            .input("i32:1")
            .input("i32:1")
            .expect_shapes("1xsx48 1x2xsx8 1x2xsx8")
            .expect_relation("qkv[b, s, k·r·d+k·d+k·d] lengths[1] length[1] → y[b, s, k·r·d] nextk[b, k, s, d] nextv[b, k, s, d]  Σ d; Σ s");
    }

    #[test]
    fn biases_and_sinks_of_heads() {
        let fed = grouped()
            .input("2x5x48")
            .input("2x5x16")
            .input("2x5x16")
            .none()
            .none()
            .input("i32:2")
            .input("i32:")
            .none()
            .none()
            .none();
        fed.weight("1x6x5x5").weight("6").expect_shapes("2x5x48 2x2x5x8 2x2x5x8").expect_relation(
            "q[b, s, k·r·d] key[b, n, k·d] v[b, n, k·d] lengths[2] length[] add[1, k·r, s, 5] sink[k·r] \
             → y[b, s, k·r·d] nextk[b, k, n, d] nextv[b, k, n, d]  Σ d; Σ n",
        );
    }

    #[test]
    fn a_quantized_cache() {
        let fed = grouped()
            .input("1xsx48")
            .input("1xsx16")
            .input("1xsx16")
            .input("u8:1x2x9x4")
            .input("u8:1x2x9x4")
            .input("i32:1");
        let scaled = fed
            .input("i32:")
            .none()
            .none()
            .none()
            .none()
            .none()
            .weight("1x2x1x8")
            .weight("1")
            .int("kv_cache_bit_width", 4);
        scaled.expect_shapes("1xsx48 1x2x?out1.2x4 1x2x?out1.2x4").expect_relation(
            "q[b, s, k·r·d] key[b, n, k·d] v[b, n, k·d] pastk[b, k, p, 4] pastv[b, k, p, 4] lengths[1] length[] \
             kscale[1, k, 1, d] vscale[1] → y[b, s, k·r·d] nextk[b, k, t, 4] nextv[b, k, t, 4]  Σ d; Σ t",
        );
    }

    #[test]
    fn blocks_of_keys() {
        let sparse = |layouts: usize| {
            let start = OpCase::op("SparseAttention")
                .domain("com.microsoft")
                .at(1)
                .int("num_heads", 6)
                .int("kv_num_heads", 2)
                .outputs(3);
            let data = start
                .int("sparse_block_size", 16)
                .input("1xsx48")
                .input("1xsx16")
                .input("1xsx16")
                .input("1x2x32x8")
                .input("1x2x32x8");
            let layouts = data
                .weight(&format!("i32:{layouts}x3"))
                .weight(&format!("i32:{layouts}x4"));
            layouts
                .input("i32:")
                .input("i32:1")
                .expect_shapes("1xsx48 1x2x32x8 1x2x32x8")
        };
        sparse(1).expect_relation(
            "q[b, s, k·r·d] key[b, n, k·d] v[b, n, k·d] pastk[b, k, t, d] pastv[b, k, t, d] rows[1, 3] columns[1, 4] length[] lengths[1] \
             → y[b, s, k·r·d] nextk[b, k, t, d] nextv[b, k, t, d]  Σ d; Σ t",
        );
        let fixed = |layouts| {
            let operator = super::GroupQuery { sparse: true };
            sparse(layouts).view(|view| {
                let relation = crate::ops::Operator::relate(&operator, view);
                ["k", "r"].map(|name| {
                    matches!(
                        relation.label(relation.named(name).unwrap()).fate,
                        crate::relation::Fate::Fixed(_)
                    )
                })
            })
        };
        assert_eq!(
            [fixed(1), fixed(3), fixed(2)],
            [[false, false], [false, true], [true, true]]
        );
    }
}
