//! com.microsoft MultiHeadAttention in primitives, in the forms that tract lacks.

use super::heads::{self, HeadSizes};
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::edit::NodeExt;
use crate::proto::NodeProto;
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code(
    "com.microsoft",
    "MultiHeadAttention",
    multi_head,
)];

/// Whether tract takes the node as it is; `None` where the facts to tell are missing.
fn is_plain(node: &NodeProto, site: &Site) -> Option<bool> {
    let plain = (3..node.input.len()).all(|slot| node.input(slot).is_none())
        && node.output(1).is_none()
        && node.int_or("unidirectional", 0) == 0;
    if !plain {
        return Some(false);
    }
    let width = |slot: usize| {
        site.shape(node.input(slot))
            .filter(|dims| dims.len() == 3)
            .and_then(|dims| dims.last().copied())
    };
    match (width(0), width(2)) {
        // tract takes it that values are as wide as queries.
        (Some(q), Some(v)) => Some(q == v),
        _ => site.shape(node.input(0)).map(|_| true),
    }
}

/// Sizes, and the widths of queries, keys and values; `None` where the facts are missing. Errors: a form that is not known.
fn sizes(node: &NodeProto, site: &Site) -> Result<Option<(HeadSizes, [i64; 3])>, Unverifiable> {
    let [Some(q), Some(k), Some(v)] = [0, 1, 2].map(|slot| node.input(slot)) else {
        return Err(refusal(node, "has queries, keys and values in one tensor"));
    };
    let [Some(q), Some(k), Some(v)] = [q, k, v].map(|name| site.shape(Some(name))) else {
        return Ok(None);
    };
    let (&[_, length, q], &[batch, mut keys, k], &[_, _, v]) = (&q[..], &k[..], &v[..]) else {
        return Err(refusal(node, "its keys have more axes than three"));
    };
    let (heads, widths) = (node.int_or("num_heads", 0), [q, k, v]);
    if heads <= 0 || widths.iter().any(|width| width % heads != 0) {
        return Err(refusal(node, "its widths do not divide into heads"));
    }
    if let Some(past) = node.input(6) {
        let Some(dims) = site.shape(Some(past)) else {
            return Ok(None);
        };
        keys += dims.get(2).copied().unwrap_or(0);
    }
    let sizes = HeadSizes {
        batch,
        length,
        keys,
        heads,
    };
    Ok(Some((sizes, widths)))
}

/// Inputs: q, k, v, their bias, key mask, what is added to the logits, past keys and values.
fn multi_head(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    match is_plain(node, site) {
        None => return Ok(Change::NeedsFacts),
        Some(true) => return Ok(Change::Unchanged),
        Some(false) => {}
    }
    let beyond = (8..node.input.len()).any(|slot| node.input(slot).is_some());
    if beyond || node.output(3).is_some() {
        return Err(refusal(node, "keeps its cache in a buffer"));
    }
    let Some((sizes, widths)) = sizes(node, site)? else {
        return Ok(Change::NeedsFacts);
    };
    let mask = match node.input(4).map(|mask| (mask, site.shape(Some(mask)))) {
        None => None,
        Some((mask, Some(dims))) => Some((mask, dims)),
        Some((_, None)) => return Ok(Change::NeedsFacts),
    };
    let [q, k, v] = operands(node, site, sizes.heads, widths)?;
    let builder = &mut site.builder;
    builder.bind_output(&k, node, 1);
    builder.bind_output(&v, node, 2);
    let logits = heads::logits(
        builder,
        &q,
        &k,
        node.float("scale"),
        widths[0] / sizes.heads,
    )?;
    let mut logits = builder.plus(logits, node.input(5));
    if let Some((mask, dims)) = mask {
        let kept = heads::kept(builder, mask, &dims, sizes)?
            .ok_or_else(|| refusal(node, "a mask of this form is not known"))?;
        let low = node.float("mask_filter_value").unwrap_or(-10000.0);
        logits = heads::masked(builder, &logits, &kept, low)?;
    }
    if node.int_or("unidirectional", 0) != 0 {
        logits = heads::causal(builder, &logits, sizes)?;
    }
    let joined = heads::mix(builder, &logits, &v, &[0, 0, widths[2]])?;
    builder.bind_output(&joined, node, 0);
    Ok(Change::Replaced)
}

/// Queries, keys and values with their biases, split into heads, the past before keys and values.
fn operands(
    node: &NodeProto,
    site: &mut Site,
    heads: i64,
    widths: [i64; 3],
) -> Result<[String; 3], Unverifiable> {
    let builder = &mut site.builder;
    let biases = node.input(3).map(|bias| builder.split(bias, 0, &widths));
    let mut parts: [String; 3] = Default::default();
    for (slot, (part, width)) in parts.iter_mut().zip(widths).enumerate() {
        let bias = biases.as_ref().and_then(|biases| biases.get(slot));
        let given = node.input(slot).unwrap_or_default().to_owned();
        let shifted = builder.plus(given, bias.map(String::as_str));
        *part = heads::split(builder, &shifted, heads, width)?;
        // Past keys are input 6, past values input 7.
        if let Some(past) = node.input(slot + 5).filter(|_| slot > 0) {
            *part = builder.concat(&[past, part], 2);
        }
    }
    Ok(parts)
}
