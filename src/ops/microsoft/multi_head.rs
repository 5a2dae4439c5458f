//! Attention without projections: MultiHeadAttention and GroupQueryAttention.

use crate::facts::{Dim, Fact};
use crate::ops::attention::{CACHE, CAUSAL, KEYS, broadcast, broadcast_port, keep_scale, scores_and_values, set_heads};
use crate::ops::fit::{expect, hold, misfit, unless_ranked};
use crate::ops::frozen::outputs;
use crate::ops::rotary::ROTATION;
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{LabelId, Layout, Port, Reason, Relation, Segment, Term};

/// MultiHeadAttention: as many key heads as query heads.
struct MultiHead;

/// GroupQueryAttention: causal, with a cache; the projections may come packed into the query.
struct GroupQuery;

/// Positions in masks and caches.
const MASK: Reason = Reason::operator("positions of an attention mask");

fn heads(node: &NodeView, name: &str) -> Result<Dim, InferError> {
    node.int(name).filter(|heads| *heads > 0).map(Dim::Num).ok_or_else(|| InferError(format!("no {name}")))
}

fn split(width: &Dim, heads: &Dim) -> Result<Dim, InferError> {
    width.exact_div(heads).ok_or_else(|| InferError(format!("{width} is no multiple of {heads} heads")))
}

/// The extents of a MultiHeadAttention.
struct Extents {
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
    /// Keys and values come with an axis of heads.
    apart: bool,
}

impl Extents {
    /// `None` when a rank is unknown, or keys or values come packed.
    fn of(node: &NodeView) -> Result<Option<Self>, InferError> {
        let (Some(q), Some(key), Some(v)) = (node.shape(0), node.shape(1), node.shape(2)) else { return Ok(None) };
        let h = heads(node, "num_heads")?;
        let [b, s, width] = q else { return Err(InferError("query must have 3 axes".into())) };
        let d = split(width, &h)?;
        let (n, e) = match (key, v) {
            ([_, n, _], [_, _, width]) => (n, split(width, &h)?),
            ([_, _, n, _], [_, _, _, e]) => (n, e.clone()),
            _ => return Err(InferError("key and value must both have 3 axes, or 4".into())),
        };
        let apart = key.len() == 4;
        match apart {
            true => expect(node, 1, &[b, &h, n, &d]).and(expect(node, 2, &[b, &h, n, &e]))?,
            false => expect(node, 1, &[b, n, &(&h * &d)]).and(expect(node, 2, &[b, n, &(&h * &e)]))?,
        }
        let width = &h * &(&(&d + &d) + &e);
        expect(node, 3, &[&width])?;
        let p = match (node.shape(6), node.shape(7)) {
            (None, None) => None,
            (Some([_, _, p, _]), Some(_)) => Some(p.clone()),
            _ => return Err(InferError("past_key and past_value must both have 4 axes".into())),
        };
        if let Some(p) = &p {
            expect(node, 6, &[b, &h, p, &d]).and(expect(node, 7, &[b, &h, p, &e]))?;
        }
        let t = match &p {
            None => n.clone(),
            // The cache is written in place.
            Some(p) if node.has_input(8) => p.clone(),
            Some(p) => p + n,
        };
        Ok(Some(Extents { b: b.clone(), s: s.clone(), h, d, e, n: n.clone(), p, t, apart }))
    }
}

impl Operator for MultiHead {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some(at) = Extents::of(node)? else {
            // Packed forms, in which keys and values have one size.
            let y = match node.shape(0) {
                Some([b, s, h, _, d]) => Some(vec![b.clone(), s.clone(), h * d]),
                Some(q @ [_, _, _]) if node.shape(1).is_some_and(|key| key.len() == 5) => Some(q.to_vec()),
                _ => None,
            };
            return Ok(outputs(node, [Fact { dtype, shape: y, contents: None }]));
        };
        let present = |width: Dim| vec![at.b.clone(), at.h.clone(), at.t.clone(), width];
        let y = vec![at.b.clone(), at.s.clone(), &at.h * &at.e];
        let qk = vec![at.b.clone(), at.h.clone(), at.s.clone(), at.t.clone()];
        Ok(outputs(node, [y, present(at.d.clone()), present(at.e.clone()), qk].map(|shape| Fact::new(dtype, shape))))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if !node.has_input(1) || !node.has_input(2) {
            return node.frozen(Reason::operator("keys and values packed together"));
        }
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = Extents::of(node) else { return misfit(node) };
        let mut builder = node.relation();
        let b = builder.free("b", at.b.clone());
        let causal = node.int("unidirectional").unwrap_or(0) != 0;
        let s = if causal { builder.fixed("s", at.s.clone(), CAUSAL) } else { builder.free("s", at.s.clone()) };
        let h = builder.free("h", at.h.clone());
        let d = builder.free("d", at.d);
        let e = builder.free("e", at.e);
        if node.has_input(3) {
            builder.fix(d, Reason::operator("queries and keys meet behind a bias"));
        }
        let n = builder.fixed("n", at.n.clone(), KEYS);
        let t = if at.t == at.n { n } else { builder.fixed("t", at.t.clone(), KEYS) };
        let p = at.p.map(|p| builder.fixed("p", p, CACHE));
        let keys = |width: LabelId| -> Vec<Layout> {
            match at.apart {
                true => [b, h, n, width].map(Layout::from).to_vec(),
                false => vec![b.into(), n.into(), Layout::product(&[h, width])],
            }
        };
        builder.port(Port::In(0), "q", [b.into(), s.into(), Layout::product(&[h, d])]);
        builder.port(Port::In(1), "key", keys(d));
        builder.port(Port::In(2), "v", keys(e));
        let pair = |width: LabelId| Segment::Product([h, width].into_iter().collect());
        builder.port(Port::In(3), "bias", [Layout([pair(d), pair(d), pair(e)].into_iter().collect())]);
        if let Some([first, rest @ ..]) = node.shape(4) {
            let mut axes = vec![broadcast(&mut builder, first, &at.b, b.into())];
            if let [queries, _] = rest {
                axes.push(broadcast(&mut builder, queries, &at.s, s.into()));
            }
            axes.extend(rest.last().map(|dim| Layout::from(builder.fixed("", dim.clone(), MASK))));
            builder.port(Port::In(4), "mask", axes);
        }
        let full = [(at.b, b.into()), (at.h, h.into()), (at.s, s.into()), (at.t, t.into())];
        broadcast_port(&mut builder, node, 5, "add", &full);
        if let Some(p) = p {
            builder.port(Port::In(6), "pastk", [b, h, p, d]);
            builder.port(Port::In(7), "pastv", [b, h, p, e]);
        }
        hold(&mut builder, node, 8, "length", &MASK);
        if node.has_input(9) {
            builder.fix(b, MASK);
            hold(&mut builder, node, 9, "beams", &MASK);
        }
        builder.port(Port::Out(0), "y", [b.into(), s.into(), Layout::product(&[h, e])]);
        builder.port(Port::Out(1), "nextk", [b, h, t, d]);
        builder.port(Port::Out(2), "nextv", [b, h, t, e]);
        builder.port(Port::Out(3), "qk", [b, h, s, t]);
        scores_and_values(&mut builder, &[b, s, h], [d, e], n, p.map(|p| (p, 6)));
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let heads = cut.extent_of("h").and_then(|heads| heads.num());
        edit.set_int("num_heads", heads.ok_or_else(|| RewriteError("num_heads has no known number".into()))?);
        keep_scale(cut, edit, node.float("scale").is_some_and(|scale| scale != 0.0))
    }
}

/// The extents of a GroupQueryAttention.
struct Grouped {
    b: Dim,
    s: Dim,
    k: Dim,
    r: Dim,
    d: Dim,
    /// Keys of this call.
    n: Dim,
    /// All keys, or places of the cache.
    t: Dim,
    packed: bool,
}

impl Grouped {
    /// `None` when a rank is unknown.
    fn of(node: &NodeView) -> Result<Option<Self>, InferError> {
        let Some(q) = node.shape(0) else { return Ok(None) };
        let [b, s, width] = q else { return Err(InferError("query must have 3 axes".into())) };
        let (q_heads, k) = (heads(node, "num_heads")?, heads(node, "kv_num_heads")?);
        let r = split(&q_heads, &k)?;
        let packed = !node.has_input(1);
        let (d, n) = match node.shape(1) {
            _ if packed => (split(width, &(&q_heads + &(&k + &k)))?, s.clone()),
            None => return Ok(None),
            Some([_, n, _]) => (split(width, &q_heads)?, n.clone()),
            Some(_) => return Err(InferError("key must have 3 axes".into())),
        };
        for input in [1, 2] {
            expect(node, input, &[b, &n, &(&k * &d)])?;
        }
        let past = match (node.shape(3), node.shape(4)) {
            (Some([_, _, p, _]), Some(_)) => Some(p),
            (None, None) => None,
            _ => return Err(InferError("past_key and past_value must both have 4 axes".into())),
        };
        if let Some(p) = past {
            expect(node, 3, &[b, &k, p, &d]).and(expect(node, 4, &[b, &k, p, &d]))?;
        }
        expect(node, 11, &[&q_heads])?;
        expect(node, 14, &[&d]).and(expect(node, 15, &[&d]))?;
        let t = if past.is_some() { node.unknown(1, 2) } else { n.clone() };
        Ok(Some(Grouped { b: b.clone(), s: s.clone(), k, r, d, n, t, packed }))
    }
}

/// Whether the cache is quantized.
fn quantized(node: &NodeView) -> bool {
    let typed = |name| node.string(name).is_some_and(|kind| kind != "NONE");
    typed("k_quant_type")
        || typed("v_quant_type")
        || node.int("kv_cache_bit_width").unwrap_or(0) != 0
        || node.has_input(12)
        || node.has_input(13)
}

impl Operator for GroupQuery {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        if quantized(node) {
            let shape = node.shape(0).filter(|_| node.has_input(1)).map(<[Dim]>::to_vec);
            return Ok(outputs(node, [Fact { dtype, shape, contents: None }]));
        }
        let Some(at) = Grouped::of(node)? else { return Ok(outputs(node, [Fact { dtype, ..Fact::default() }])) };
        let heads = &at.k * &at.r;
        let cache = vec![at.b.clone(), at.k, at.t, at.d.clone()];
        let y = vec![at.b.clone(), at.s.clone(), &heads * &at.d];
        let qk = vec![at.b, heads, at.s, node.unknown(3, 3)];
        let kept = node.dtype(3).or(dtype);
        Ok(outputs(node, [(dtype, y), (kept, cache.clone()), (kept, cache), (dtype, qk)].map(|(dtype, shape)| Fact::new(dtype, shape))))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if quantized(node) {
            return node.frozen(Reason::operator("a quantized cache"));
        }
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = Grouped::of(node) else { return misfit(node) };
        let mut builder = node.relation();
        let b = builder.free("b", at.b.clone());
        let s = builder.fixed("s", at.s.clone(), CAUSAL);
        let k = builder.free("k", at.k.clone());
        let r = builder.free("r", at.r.clone());
        let rotary = node.int("do_rotary").unwrap_or(0) != 0;
        let d = builder.fixed("d", at.d, if rotary { ROTATION } else { Reason::operator("keys and values share a head size") });
        let n = builder.fixed("n", at.n.clone(), KEYS);
        let t = if at.t == at.n { n } else { builder.fixed("t", at.t.clone(), KEYS) };
        let queries = Layout::product(&[k, r, d]);
        let keys = Layout::product(&[k, d]);
        let mut q = queries.clone();
        if at.packed {
            q.0.extend(keys.0.iter().chain(&keys.0).cloned());
        }
        builder.port(Port::In(0), if at.packed { "qkv" } else { "q" }, [b.into(), s.into(), q]);
        builder.port(Port::In(1), "key", [b.into(), n.into(), keys.clone()]);
        builder.port(Port::In(2), "v", [b.into(), n.into(), keys]);
        if let Some(p) = node.shape(3).and_then(|dims| dims.get(2)) {
            let p = builder.fixed("p", p.clone(), CACHE);
            builder.port(Port::In(3), "pastk", [b, k, p, d]);
            builder.port(Port::In(4), "pastv", [b, k, p, d]);
        }
        for (input, name) in [(5, "lengths"), (6, "length"), (7, "cos"), (8, "sin"), (9, "at"), (16, "queries")] {
            hold(&mut builder, node, input, name, &MASK);
        }
        let total = node.shape(10).and_then(<[Dim]>::last).cloned().unwrap_or(Dim::Num(1));
        let keys = builder.fixed("", total.clone(), KEYS);
        let full = [(at.b, b.into()), (&at.k * &at.r, Layout::product(&[k, r])), (at.s, s.into()), (total, keys.into())];
        broadcast_port(&mut builder, node, 10, "add", &full);
        builder.port(Port::In(11), "sink", [Layout::product(&[k, r])]);
        builder.port(Port::In(14), "qscale", [d]);
        builder.port(Port::In(15), "kscale", [d]);
        builder.port(Port::Out(0), "y", [b.into(), s.into(), queries]);
        builder.port(Port::Out(1), "nextk", [b, k, t, d]);
        builder.port(Port::Out(2), "nextv", [b, k, t, d]);
        let last = node.output_shape(3).and_then(<[Dim]>::last).cloned().map(|dim| builder.fixed("", dim, KEYS));
        builder.port(Port::Out(3), "qk", [b.into(), Layout::product(&[k, r]), s.into()].into_iter().chain(last.map(Layout::from)));
        for summed in [d, t] {
            let labels = vec![b, k, r, s, t, d];
            builder.term(Term { data: Port::Out(0), weight: None, zero: None, labels, summed: vec![summed], window: None });
        }
        // Lengths and positions are held for the whole batch.
        builder.fix(b, MASK);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_heads(node, cut, edit, "num_heads", "kv_num_heads")
    }
}

pub(in crate::ops) static RULES: &[Rule] =
    &[Rule::microsoft("GroupQueryAttention", &GroupQuery), Rule::microsoft("MultiHeadAttention", &MultiHead)];

#[cfg(test)]
mod tests {
    use crate::ops::prove::Prove;

    fn multi_head() -> Prove {
        Prove::op("MultiHeadAttention").domain("com.microsoft").at(1).int("num_heads", 4)
    }

    fn grouped() -> Prove {
        Prove::op("GroupQueryAttention").domain("com.microsoft").at(1).int("num_heads", 6).int("kv_num_heads", 2).outputs(3)
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
            .gives("2x5x24")
            .relates("q[b, s, h·d] key[b, n, h·d] v[b, n, h·e] mask[b, 7] add[b, 1, s, n] → y[b, s, h·e]  Σ d; Σ n");
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
            .gives("bx1x16 bx4xp + 1x4 bx4xp + 1x4")
            .relates(
                "q[b, s, h·d] key[b, n, h·d] v[b, n, h·e] bias[h·d+h·d+h·e] pastk[b, h, p, d] pastv[b, h, p, e] \
                 → y[b, s, h·e] nextk[b, h, t, d] nextv[b, h, t, e]  Σ d; Σ n; Σ d; Σ p",
            );
        multi_head().input("bx5x4x3x4").gives("bx5x16");
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
            .gives("1xsx48 1x2x?out1.2x8 1x2x?out1.2x8")
            .relates(
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
            .gives("1xsx48 1x2xsx8 1x2xsx8")
            .relates("qkv[b, s, k·r·d+k·d+k·d] lengths[1] length[1] → y[b, s, k·r·d] nextk[b, k, n, d] nextv[b, k, n, d]  Σ d; Σ n");
    }
}
