//! Linear attention: a recurrence over tokens with one state per head. Heads and dimensions of values may go; those of queries
//! and keys stay, for the delta rules read the state back with the keys.

use super::fit::{expect, misfit, unless_ranked};
use super::frozen::outputs;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Layout, Port, Reason, Relation, Term};

/// LinearAttention (27 and later), also ONNX Runtime's: a recurrence over tokens with one state per key head.
struct LinearAttention;

/// The extents of a linear attention: batch, tokens, key heads, queries per key head, head sizes of keys and of values.
fn linear_extents(node: &NodeView) -> Result<Option<[Dim; 6]>, InferError> {
    let (Some(q), Some(_), Some(v)) = (node.shape(0), node.shape(1), node.shape(2)) else { return Ok(None) };
    let ([b, t, width], [_, _, v_width]) = (q, v) else { return Err(InferError("query and value must have 3 axes".into())) };
    let count = |name| node.int(name).filter(|count| *count > 0).map(Dim::Num).ok_or_else(|| InferError(format!("no {name}")));
    let (heads, k) = (count("q_num_heads")?, count("kv_num_heads")?);
    let split =
        |width: &Dim, heads: &Dim| width.exact_div(heads).ok_or_else(|| InferError(format!("{width} is no multiple of {heads} heads")));
    let (d, e, r) = (split(width, &heads)?, split(v_width, &k)?, split(&heads, &k)?);
    expect(node, 1, &[b, t, &(&k * &d)])?;
    expect(node, 2, &[b, t, &(&k * &e)])?;
    expect(node, 3, &[b, &k, &d, &e])?;
    Ok(Some([b.clone(), t.clone(), k, r, d, e]))
}

impl Operator for LinearAttention {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let window = node.int("state_window").unwrap_or(0) != 0;
        let Some([b, t, k, r, d, e]) = linear_extents(node)?.filter(|_| !window) else { return Ok(outputs(node, [])) };
        let y = vec![b.clone(), t, &(&k * &r) * &e];
        let state = node.dtype(3).or_else(|| node.dtype(0));
        Ok(outputs(node, [Fact::new(node.dtype(0), y), Fact::new(state, vec![b, k, d, e])]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some([b, t, k, r, d, e])) = linear_extents(node) else { return misfit(node) };
        let (decay, beta) = (node.shape(4).and_then(<[Dim]>::last), node.shape(5).and_then(<[Dim]>::last));
        let per_head = decay.is_some_and(|dim| *dim == k);
        if !r.is_one() || decay.is_some_and(|dim| !per_head && *dim != &k * &d) || beta.is_some_and(|dim| !dim.is_one() && *dim != k) {
            return node.frozen(Reason::operator("grouped heads of a linear attention"));
        }
        let mut builder = node.relation();
        let b = builder.free("b", b);
        let t = builder.fixed("t", t, Reason::operator("time steps of a recurrence"));
        let k = builder.free("k", k);
        let d = builder.fixed("d", d, Reason::operator("queries and keys of a recurrence"));
        let e = builder.free("e", e);
        let keys = Layout::product(&[k, d]);
        builder.port(Port::In(0), "q", [b.into(), t.into(), keys.clone()]);
        builder.port(Port::In(1), "key", [b.into(), t.into(), keys.clone()]);
        builder.port(Port::In(2), "v", [b.into(), t.into(), Layout::product(&[k, e])]);
        builder.port(Port::In(3), "past", [b, k, d, e]);
        builder.port(Port::In(4), "decay", [b.into(), t.into(), if per_head { k.into() } else { keys }]);
        let steps = match beta {
            Some(dim) if dim.is_one() && node.int("kv_num_heads") != Some(1) => builder.fill(1i64),
            _ => k,
        };
        builder.port(Port::In(5), "beta", [b, t, steps]);
        builder.port(Port::Out(0), "y", [b.into(), t.into(), Layout::product(&[k, e])]);
        builder.port(Port::Out(1), "next", [b, k, d, e]);
        for _update_and_read in 0..2 {
            let labels = vec![b, t, k, d, e];
            builder.term(Term { data: Port::Out(0), weight: Some(Port::In(1)), zero: None, labels, summed: vec![d], window: None });
        }
        builder.finish()
    }

    fn rewrite(&self, _node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let k = cut.extent_of("k").and_then(|k| k.num()).ok_or_else(|| RewriteError("head counts are not known numbers".into()))?;
        edit.set_int("q_num_heads", k);
        edit.set_int("kv_num_heads", k);
        Ok(())
    }
}

pub(super) static RULES: &[Rule] = &[Rule::onnx("LinearAttention", &LinearAttention), Rule::microsoft("LinearAttention", &LinearAttention)];

#[cfg(test)]
mod tests {
    use crate::ops::prove::Prove;

    #[test]
    fn linear_attention_heads() {
        let heads = || Prove::op("LinearAttention").at(27).outputs(2).int("q_num_heads", 4).int("kv_num_heads", 4);
        heads()
            .input("2x5x12")
            .input("2x5x12")
            .input("2x5x8")
            .none()
            .input("2x5x4")
            .input("2x5x1")
            .gives("2x5x8 2x4x3x2")
            .relates("q[b, t, k·d] key[b, t, k·d] v[b, t, k·e] decay[b, t, k] beta[b, t, 1] → y[b, t, k·e] next[b, k, d, e]  Σ d; Σ d");
    }
}
