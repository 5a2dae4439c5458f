//! Attention: truth-value masks of the standard's operator, and the fused operator of com.microsoft in primitives.

use super::heads::{self, HeadSizes};
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "Attention", boolean_mask),
    LoweringRule::code("com.microsoft", "Attention", fused),
];

/// tract adds truth values to the logits; -1e9 where the mask is false is what is meant. A query that may look at nothing gets zeros.
fn boolean_mask(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(mask) = node.input(3) else {
        return Ok(Change::Unchanged);
    };
    match site.dtype(Some(mask)) {
        None => return Ok(Change::NeedsFacts),
        Some(Dtype::Bool) => {}
        Some(_) => return Ok(Change::Unchanged),
    }
    let Some(dims) = site.shape(Some(mask)) else {
        return Ok(Change::NeedsFacts);
    };
    let builder = &mut site.builder;
    let (zero, low) = (builder.scalar(0.0), builder.scalar(-1e9));
    let added = builder.op("Where", &[mask, &zero, &low], Vec::new());
    let mut attention = node.clone();
    attention.input[3] = added;
    let Some(output) = attention.output.first_mut() else {
        return Ok(Change::Unchanged);
    };
    *output = builder.names.fresh("attention");
    let attended = output.clone();
    builder.nodes.push(attention);
    let open = builder.cast(mask, Dtype::Float);
    let open = builder.reduce("ReduceMax", &open, &[-1], true);
    // Against the heads' axis of the mask stands an axis of the output only where that has four axes, that is, no number of heads is named.
    let joined = node.int_or("q_num_heads", 0) != 0;
    let open = match (joined, dims.as_slice()) {
        (false, _) | (true, [_, _] | [1, _, _]) => Some(open),
        (true, [_, 1, _, _]) => Some(builder.squeeze(&open, &[1])),
        _ => None,
    };
    let given = match open {
        Some(open) => builder.op("Mul", &[&attended, &open], Vec::new()),
        None => attended,
    };
    builder.bind_output(&given, node, 0);
    Ok(Change::Replaced)
}

fn fused(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (heads, past) = (node.int_or("num_heads", 0), [node.input(4), node.input(6)]);
    if heads <= 0 {
        return Err(refusal(node, "has no number of heads"));
    }
    if past.iter().any(Option::is_some) || node.output(1).is_some() {
        return Err(refusal(node, "keeps past keys and values"));
    }
    if node.int_or("do_rotary", 0) != 0 {
        return Err(refusal(node, "rotates queries and keys"));
    }
    let Some(widths) = widths(node, site, heads)? else {
        return Ok(Change::NeedsFacts);
    };
    let mask = match node.input(3).map(|mask| (mask, site.shape(Some(mask)))) {
        None => None,
        Some((mask, Some(dims))) => Some((mask, dims)),
        Some((_, None)) => return Ok(Change::NeedsFacts),
    };
    let dims = site.shape(node.input(0)).unwrap_or_default();
    let (batch, length) = (dims.first().copied(), dims.get(1).copied());
    let is_causal = node.int_or("unidirectional", 0) != 0;
    if length.is_none() && (is_causal || mask.is_some()) {
        return Ok(Change::NeedsFacts);
    }
    let (batch, length) = (batch.unwrap_or(-1), length.unwrap_or(0));
    let sizes = HeadSizes {
        batch,
        length,
        keys: length,
        heads,
    };
    let [q, k, v] = operands(node, site, heads, widths)?;
    let builder = &mut site.builder;
    let logits = heads::logits(builder, &q, &k, node.float("scale"), widths[0] / heads)?;
    let mut logits = builder.plus(logits, node.input(5));
    if let Some((mask, dims)) = mask {
        let kept = heads::kept(builder, mask, &dims, sizes)?
            .ok_or_else(|| refusal(node, "a mask of this form is not known"))?;
        let low = node.float("mask_filter_value").unwrap_or(-10000.0);
        logits = heads::masked(builder, &logits, &kept, low)?;
    }
    if is_causal {
        logits = heads::causal(builder, &logits, sizes)?;
    }
    let joined = heads::mix(builder, &logits, &v, &[0, 0, widths[2]])?;
    builder.bind_output(&joined, node, 0);
    Ok(Change::Replaced)
}

/// Widths of queries, keys and values; `None` where those of the weights are not known.
fn widths(node: &NodeProto, site: &Site, heads: i64) -> Result<Option<[i64; 3]>, Unverifiable> {
    let (Some(_), Some(weights)) = (node.input(0), node.input(1)) else {
        return Err(refusal(node, "lacks its weights"));
    };
    let dims = site.shape(Some(weights));
    let Some(columns) = dims.and_then(|dims| dims.last().copied()) else {
        return Ok(None);
    };
    let widths = match node.ints("qkv_hidden_sizes") {
        Some([q, k, v]) => [*q, *k, *v],
        _ => [columns / 3; 3],
    };
    let sum: i128 = widths.iter().map(|width| i128::from(*width)).sum();
    if sum != i128::from(columns)
        || widths[0] != widths[1]
        || widths.iter().any(|width| width % heads != 0)
    {
        return Err(refusal(node, "its weights do not divide into heads"));
    }
    Ok(Some(widths))
}

/// Queries, keys and values from one product, split into heads.
fn operands(
    node: &NodeProto,
    site: &mut Site,
    heads: i64,
    widths: [i64; 3],
) -> Result<[String; 3], Unverifiable> {
    let builder = &mut site.builder;
    let inputs = [0, 1].map(|slot| node.input(slot).unwrap_or_default());
    let product = builder.op("MatMul", &inputs, Vec::new());
    let product = builder.plus(product, node.input(2));
    let mut parts: [String; 3] = Default::default();
    let split = builder.split(&product, 2, &widths);
    for ((part, whole), width) in parts.iter_mut().zip(&split).zip(widths) {
        *part = heads::split(builder, whole, heads, width)?;
    }
    Ok(parts)
}
