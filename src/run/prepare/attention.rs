//! Attention: truth-value masks of the standard's operator, and the fused operator of com.microsoft in primitives.

use super::node::{float, input, int_or, label, output, with_int};
use super::rules::{Entry, Outcome, Site};
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("", "Attention", boolean_mask),
    ("com.microsoft", "Attention", fused),
];

/// tract adds truth values to the logits; -1e9 where the mask is false is what is meant. A query that may look at nothing gets zeros.
fn boolean_mask(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let Some(mask) = input(node, 3) else {
        return Ok(Outcome::Leave);
    };
    match site.dtype(Some(mask)) {
        None => return Ok(Outcome::NeedsFacts),
        Some(Dtype::Bool) => {}
        Some(_) => return Ok(Outcome::Leave),
    }
    let Some(dims) = site.shape(Some(mask)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let wire = &mut site.wire;
    let (zero, low) = (wire.scalar(0.0), wire.scalar(-1e9));
    let added = wire.op("Where", &[mask, &zero, &low], Vec::new());
    let mut attention = node.clone();
    attention.input[3] = added;
    let Some(output) = attention.output.first_mut() else {
        return Ok(Outcome::Leave);
    };
    *output = wire.names.fresh("attention");
    let attended = output.clone();
    wire.nodes.push(attention);
    let open = wire.cast(mask, Dtype::Float);
    let open = wire.reduce("ReduceMax", &open, &[-1], true);
    // Against the heads' axis of the mask stands an axis of the output only where that has four axes, that is, no number of heads is named.
    let joined = int_or(node, "q_num_heads", 0) != 0;
    let open = match (joined, dims.as_slice()) {
        (false, _) | (true, [_, _] | [1, _, _]) => Some(open),
        (true, [_, 1, _, _]) => Some(wire.squeeze(&open, &[1])),
        _ => None,
    };
    let given = match open {
        Some(open) => wire.op("Mul", &[&attended, &open], Vec::new()),
        None => attended,
    };
    wire.give(&given, node, 0);
    Ok(Outcome::Done)
}

fn fused(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let fail = |what: &str| Err(Unverifiable::new(format!("{}: {what}", label(node))));
    let heads = int_or(node, "num_heads", 0);
    if heads <= 0 {
        return fail("has no number of heads");
    }
    if input(node, 4).is_some() || input(node, 6).is_some() || output(node, 1).is_some() {
        return fail("keeps past keys and values");
    }
    if int_or(node, "do_rotary", 0) != 0 {
        return fail("rotates queries and keys");
    }
    let (Some(x), Some(weights)) = (input(node, 0), input(node, 1)) else {
        return fail("lacks its weights");
    };
    let Some(columns) = site
        .shape(Some(weights))
        .and_then(|dims| dims.last().copied())
    else {
        return Ok(Outcome::NeedsFacts);
    };
    let sizes = match super::node::ints(node, "qkv_hidden_sizes") {
        Some([q, k, v]) => [*q, *k, *v],
        _ => [columns / 3; 3],
    };
    if sizes.iter().map(|size| i128::from(*size)).sum::<i128>() != i128::from(columns)
        || sizes[0] != sizes[1]
        || sizes.iter().any(|size| size % heads != 0)
    {
        return fail("its weights do not divide into heads");
    }
    let mask = match input(node, 3) {
        None => None,
        Some(mask) => match site.shape(Some(mask)) {
            Some(dims) => Some((mask, dims)),
            None => return Ok(Outcome::NeedsFacts),
        },
    };
    let causal = int_or(node, "unidirectional", 0) != 0;
    let length = site.shape(Some(x)).and_then(|dims| dims.get(1).copied());
    if length.is_none() && (causal || mask.is_some()) {
        return Ok(Outcome::NeedsFacts);
    }
    let length = length.unwrap_or(0);
    let batch = site.shape(Some(x)).and_then(|dims| dims.first().copied());
    let wire = &mut site.wire;
    let mut product = wire.op("MatMul", &[x, weights], Vec::new());
    if let Some(bias) = input(node, 2) {
        product = wire.op("Add", &[&product, bias], Vec::new());
    }
    let parts = wire.split(&product, 2, &sizes);
    let [q, k, v] = parts.as_slice() else {
        return fail("is malformed");
    };
    let apart = |wire: &mut super::wire::Wire, part: &str, size: i64, permutation: &[i64]| {
        let part = wire.reshape(part, &[0, 0, heads, size / heads]);
        wire.transpose(&part, permutation)
    };
    let q = apart(wire, q, sizes[0], &[0, 2, 1, 3]);
    let k = apart(wire, k, sizes[1], &[0, 2, 3, 1]);
    let v = apart(wire, v, sizes[2], &[0, 2, 1, 3]);
    let scale = float(node, "scale")
        .filter(|scale| *scale != 0.0)
        .unwrap_or(1.0 / ((sizes[0] / heads) as f32).sqrt());
    let scale = wire.scalar(scale);
    let logits = wire.op("MatMul", &[&q, &k], Vec::new());
    let mut logits = wire.op("Mul", &[&logits, &scale], Vec::new());
    if let Some(bias) = input(node, 5) {
        logits = wire.op("Add", &[&logits, bias], Vec::new());
    }
    let low = float(node, "mask_filter_value").unwrap_or(-10000.0);
    if let Some((mask, dims)) = mask {
        let kept = match dims.as_slice() {
            [_, _] => {
                let mask = wire.unsqueeze(mask, &[1, 2]);
                wire.cast(&mask, Dtype::Bool)
            }
            [_, _, _] => {
                let mask = wire.unsqueeze(mask, &[1]);
                wire.cast(&mask, Dtype::Bool)
            }
            // One of twice the batch's size also holds where each sample begins.
            [lengths] if Some(*lengths) == batch => {
                let positions: Vec<i64> = (0..length).collect();
                let positions = wire.constant(&TensorRef::from_i64(
                    vec![1, 1, 1, positions.len()],
                    &positions,
                ));
                let lengths = wire.cast(mask, Dtype::Int64);
                let lengths = wire.unsqueeze(&lengths, &[1, 2, 3]);
                wire.op("Less", &[&positions, &lengths], Vec::new())
            }
            _ => return fail("a mask of this form is not known"),
        };
        logits = masked(wire, &logits, &kept, low);
    }
    if causal {
        let size = usize::try_from(length).unwrap_or(0);
        let allowed: Vec<u8> = (0..size * size)
            .map(|at| u8::from(at % size.max(1) <= at / size.max(1)))
            .collect();
        let allowed = TensorRef {
            dtype: Dtype::Bool,
            dims: vec![1, 1, size, size],
            bytes: allowed.into(),
        };
        let allowed = wire.constant(&allowed);
        logits = masked(wire, &logits, &allowed, f32::MIN);
    }
    let attention = wire.op("Softmax", &[&logits], vec![with_int("axis", 3)]);
    let mixed = wire.op("MatMul", &[&attention, &v], Vec::new());
    let mixed = wire.transpose(&mixed, &[0, 2, 1, 3]);
    let joined = wire.reshape(&mixed, &[0, 0, sizes[2]]);
    wire.give(&joined, node, 0);
    Ok(Outcome::Done)
}

pub(super) fn masked(wire: &mut super::wire::Wire, logits: &str, kept: &str, low: f32) -> String {
    let (zero, low) = (wire.scalar(0.0), wire.scalar(low));
    let mask = wire.op("Where", &[kept, &zero, &low], Vec::new());
    wire.op("Add", &[logits, &mask], Vec::new())
}
