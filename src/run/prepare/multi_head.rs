//! com.microsoft MultiHeadAttention and GroupQueryAttention in primitives, in the forms that tract lacks.

use super::attention::masked;
use super::contrib::concat;
use super::node::{float, input, int_or, label, output, with_int};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("com.microsoft", "MultiHeadAttention", multi_head),
    ("com.microsoft", "GroupQueryAttention", grouped),
];

fn fail(node: &NodeProto, what: &str) -> Result<Outcome, Unverifiable> {
    Err(Unverifiable::new(format!("{}: {what}", label(node))))
}

/// Inputs: q, k, v, their bias, key mask, what is added to the logits, past keys and values.
fn multi_head(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let plain = (3..node.input.len()).all(|at| input(node, at).is_none())
        && output(node, 1).is_none()
        && int_or(node, "unidirectional", 0) == 0;
    if plain {
        let width = |at: usize| {
            site.shape(input(node, at))
                .filter(|dims| dims.len() == 3)
                .and_then(|dims| dims.last().copied())
        };
        match (width(0), width(2)) {
            // tract takes it that values are as wide as queries.
            (Some(q), Some(v)) if q != v => {}
            (None, _) | (_, None) if site.shape(input(node, 0)).is_none() => {
                return Ok(Outcome::NeedsFacts);
            }
            _ => return Ok(Outcome::Leave),
        }
    }
    if (8..node.input.len()).any(|at| input(node, at).is_some()) || output(node, 3).is_some() {
        return fail(node, "keeps its cache in a buffer");
    }
    let heads = int_or(node, "num_heads", 0);
    let (Some(q), Some(k), Some(v)) = (input(node, 0), input(node, 1), input(node, 2)) else {
        return fail(node, "has queries, keys and values in one tensor");
    };
    let (Some(q_dims), Some(k_dims), Some(v_dims)) = (
        site.shape(Some(q)),
        site.shape(Some(k)),
        site.shape(Some(v)),
    ) else {
        return Ok(Outcome::NeedsFacts);
    };
    let (&[_, length, q_size], &[batch, mut keys, k_size], &[_, _, v_size]) =
        (q_dims.as_slice(), k_dims.as_slice(), v_dims.as_slice())
    else {
        return fail(node, "its keys have more axes than three");
    };
    if heads <= 0
        || [q_size, k_size, v_size]
            .iter()
            .any(|size| size % heads != 0)
    {
        return fail(node, "its widths do not divide into heads");
    }
    if let Some(past) = input(node, 6) {
        let Some(dims) = site.shape(Some(past)) else {
            return Ok(Outcome::NeedsFacts);
        };
        keys += dims.get(2).copied().unwrap_or(0);
    }
    let mask = match input(node, 4) {
        None => None,
        Some(mask) => match site.shape(Some(mask)) {
            Some(dims) => Some((mask, dims)),
            None => return Ok(Outcome::NeedsFacts),
        },
    };
    let wire = &mut site.wire;
    let biases = input(node, 3).map(|bias| wire.split(bias, 0, &[q_size, k_size, v_size]));
    let apart = |wire: &mut Wire, value: &str, at: usize, size: i64| {
        let shifted = match biases.as_ref().and_then(|biases| biases.get(at)) {
            Some(bias) => wire.op("Add", &[value, bias], Vec::new()),
            None => value.to_owned(),
        };
        let parted = wire.reshape(&shifted, &[0, 0, heads, size / heads]);
        wire.transpose(&parted, &[0, 2, 1, 3])
    };
    let (q, mut k, mut v) = (
        apart(wire, q, 0, q_size),
        apart(wire, k, 1, k_size),
        apart(wire, v, 2, v_size),
    );
    for (value, at) in [(&mut k, 6), (&mut v, 7)] {
        if let Some(past) = input(node, at) {
            *value = concat(wire, &[past, value], 2);
        }
    }
    wire.give(&k, node, 1);
    wire.give(&v, node, 2);
    let scale = float(node, "scale")
        .filter(|scale| *scale != 0.0)
        .unwrap_or(1.0 / ((q_size / heads) as f32).sqrt());
    let scale = wire.scalar(scale);
    let turned = wire.transpose(&k, &[0, 1, 3, 2]);
    let logits = wire.op("MatMul", &[&q, &turned], Vec::new());
    let mut logits = wire.op("Mul", &[&logits, &scale], Vec::new());
    if let Some(bias) = input(node, 5) {
        logits = wire.op("Add", &[&logits, bias], Vec::new());
    }
    if let Some((mask, dims)) = mask {
        let kept = match dims.as_slice() {
            [_, _] => wire.unsqueeze(mask, &[1, 2]),
            [_, _, _] => wire.unsqueeze(mask, &[1]),
            [lengths] if *lengths == batch => {
                let positions = positions(wire, keys, &[1, 1, 1, -1]);
                let lengths = wire.cast(mask, Dtype::Int64);
                let lengths = wire.unsqueeze(&lengths, &[1, 2, 3]);
                wire.op("Less", &[&positions, &lengths], Vec::new())
            }
            _ => return fail(node, "a mask of this form is not known"),
        };
        let kept = wire.cast(&kept, Dtype::Bool);
        logits = masked(
            wire,
            &logits,
            &kept,
            float(node, "mask_filter_value").unwrap_or(-10000.0),
        );
    }
    if int_or(node, "unidirectional", 0) != 0 {
        let (at, last) = (
            positions(wire, keys, &[1, 1, 1, -1]),
            positions(wire, length, &[1, 1, -1, 1]),
        );
        let before = wire.constant(&TensorRef::from_i64(vec![1], &[keys - length + 1]));
        let end = wire.op("Add", &[&last, &before], Vec::new());
        let kept = wire.op("Less", &[&at, &end], Vec::new());
        logits = masked(wire, &logits, &kept, f32::MIN);
    }
    let attention = wire.op("Softmax", &[&logits], vec![with_int("axis", 3)]);
    let mixed = wire.op("MatMul", &[&attention, &v], Vec::new());
    let mixed = wire.transpose(&mixed, &[0, 2, 1, 3]);
    let joined = wire.reshape(&mixed, &[0, 0, v_size]);
    wire.give(&joined, node, 0);
    Ok(Outcome::Done)
}

/// `0, 1, …` laid along one axis.
fn positions(wire: &mut Wire, count: i64, dims: &[i64]) -> String {
    let numbers: Vec<i64> = (0..count).collect();
    let dims = dims
        .iter()
        .map(|dim| {
            if *dim < 0 {
                numbers.len()
            } else {
                *dim as usize
            }
        })
        .collect();
    wire.constant(&TensorRef::from_i64(dims, &numbers))
}

/// Inputs: q, k, v, past keys and values, lengths less one, the longest length, cosines, sines.
fn grouped(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if (9..node.input.len()).any(|at| input(node, at).is_some())
        || output(node, 3).is_some()
        || int_or(node, "smooth_softmax", 0) > 0
    {
        return fail(node, "has inputs or outputs beyond the usual");
    }
    let (heads, shared) = (
        int_or(node, "num_heads", 0),
        int_or(node, "kv_num_heads", 0),
    );
    let (Some(q), Some(k), Some(v)) = (input(node, 0), input(node, 1), input(node, 2)) else {
        return fail(node, "has queries, keys and values in one tensor");
    };
    let (Some(lengths), Some(total)) = (input(node, 5), input(node, 6)) else {
        return fail(node, "lacks its lengths");
    };
    let (Some(dims), Some(total)) = (
        site.shape(Some(q)),
        site.tensor(Some(total)).and_then(|total| total.to_i64()),
    ) else {
        return Ok(Outcome::NeedsFacts);
    };
    let (&[batch, length, width], Some(total)) = (dims.as_slice(), total.first().copied()) else {
        return fail(node, "its queries have no three axes");
    };
    if heads <= 0 || shared <= 0 || heads % shared != 0 || width % heads != 0 || total < length {
        return fail(node, "its widths do not divide into heads");
    }
    let size = width / heads;
    let past = match input(node, 3) {
        None => 0,
        Some(past) => match site.shape(Some(past)).as_deref() {
            Some([_, _, past, _]) => *past,
            _ => return Ok(Outcome::NeedsFacts),
        },
    };
    // With nothing before, a prompt begins at once, and its padding stands behind it.
    let (first, keys) = (total == length, past.max(total));
    const LONG: i64 = 1 << 14;
    if keys > LONG {
        return fail(node, "its cache is too long");
    }
    let rotated = match (
        int_or(node, "do_rotary", 0) != 0,
        input(node, 7),
        input(node, 8),
    ) {
        (false, ..) => None,
        (true, Some(cos), Some(sin)) => match site.shape(Some(cos)).as_deref() {
            Some([_, half]) if 2 * half <= size => Some((cos, sin, *half)),
            Some(_) => return fail(node, "rotates more than a head has"),
            None => return Ok(Outcome::NeedsFacts),
        },
        _ => return fail(node, "lacks its cosines"),
    };
    let wire = &mut site.wire;
    let start = if first {
        wire.constant(&TensorRef::from_i64(vec![1, 1], &[0]))
    } else {
        let lengths = wire.cast(lengths, Dtype::Int64);
        let lengths = wire.reshape(&lengths, &[batch, 1]);
        let back = wire.constant(&TensorRef::from_i64(vec![1, 1], &[1 - length]));
        wire.op("Add", &[&lengths, &back], Vec::new())
    };
    let steps = positions(wire, length, &[1, -1]);
    let places = wire.op("Add", &[&start, &steps], Vec::new());
    let apart = |wire: &mut Wire, value: &str, heads: i64, rotate: bool| {
        let mut parted = wire.reshape(value, &[0, 0, heads, size]);
        if let Some((cos, sin, half)) = rotated.filter(|_| rotate) {
            let tables = [cos, sin].map(|table| {
                let rows = wire.op("Gather", &[table, &places], vec![with_int("axis", 0)]);
                wire.unsqueeze(&rows, &[2])
            });
            parted = rotate_pairs(
                wire,
                &parted,
                &tables,
                [heads, size, half],
                int_or(node, "rotary_interleaved", 0) != 0,
            );
        }
        wire.transpose(&parted, &[0, 2, 1, 3])
    };
    let (q, k, v) = (
        apart(wire, q, heads, true),
        apart(wire, k, shared, true),
        apart(wire, v, shared, false),
    );
    let (row, at) = (
        positions(wire, keys, &[1, 1, -1, 1]),
        wire.unsqueeze(&places, &[1, 2]),
    );
    let is_new = wire.op("Equal", &[&row, &at], Vec::new());
    let is_new = wire.cast(&is_new, Dtype::Float);
    let start = wire.unsqueeze(&start, &[1, 2]);
    let is_old = wire.op("Less", &[&row, &start], Vec::new());
    let mut caches = Vec::new();
    for (slot, fresh) in [(1, &k), (2, &v)] {
        // Each new row in its place by a product with zeros and ones, which is exact.
        let mut cache = wire.op("MatMul", &[&is_new, fresh], Vec::new());
        if let Some(old) = input(node, 2 + slot).filter(|_| past > 0) {
            let old = match keys - past {
                0 => old.to_owned(),
                more => {
                    let dims =
                        [batch, shared, more, size].map(|dim| usize::try_from(dim).unwrap_or(0));
                    let blank = vec![0.0; dims.iter().product()];
                    let blank = wire.constant(&TensorRef::from_f32(dims.to_vec(), &blank));
                    concat(wire, &[old, &blank], 2)
                }
            };
            cache = wire.op("Where", &[&is_old, &old, &cache], Vec::new());
        }
        wire.give(&cache, node, slot);
        caches.push(cache);
    }
    let [k, v] = caches.as_slice() else {
        return fail(node, "is malformed");
    };
    let rows = heads / shared * length;
    let q = wire.reshape(&q, &[batch, shared, rows, size]);
    let turned = wire.transpose(k, &[0, 1, 3, 2]);
    let logits = wire.op("MatMul", &[&q, &turned], Vec::new());
    let scale = float(node, "scale")
        .filter(|scale| *scale != 0.0)
        .unwrap_or(1.0 / (size as f32).sqrt());
    let scale = wire.scalar(scale);
    let mut logits = wire.op("Mul", &[&logits, &scale], Vec::new());
    if let Some(cap) = float(node, "softcap").filter(|cap| *cap > 0.0) {
        let cap = wire.scalar(cap);
        let small = wire.op("Div", &[&logits, &cap], Vec::new());
        let bent = wire.op("Tanh", &[&small], Vec::new());
        logits = wire.op("Mul", &[&bent, &cap], Vec::new());
    }
    let logits = wire.reshape(&logits, &[batch, heads, length, keys]);
    let (column, at) = (
        positions(wire, keys, &[1, 1, 1, -1]),
        wire.unsqueeze(&places, &[1, 3]),
    );
    let later = wire.op("Greater", &[&column, &at], Vec::new());
    let mut hidden = later;
    let window = int_or(node, "local_window_size", -1);
    if window > 0 {
        let window = wire.constant(&TensorRef::from_i64(vec![1], &[window]));
        let oldest = wire.op("Sub", &[&at, &window], Vec::new());
        let newer = wire.op("Greater", &[&column, &oldest], Vec::new());
        let too_old = wire.op("Not", &[&newer], Vec::new());
        hidden = wire.op("Or", &[&hidden, &too_old], Vec::new());
    }
    let low = wire.scalar(f32::MIN);
    let logits = wire.op("Where", &[&hidden, &low, &logits], Vec::new());
    let attention = wire.op("Softmax", &[&logits], vec![with_int("axis", 3)]);
    let attention = wire.reshape(&attention, &[batch, shared, rows, keys]);
    let mixed = wire.op("MatMul", &[&attention, v], Vec::new());
    let mixed = wire.reshape(&mixed, &[batch, heads, length, size]);
    let mixed = wire.transpose(&mixed, &[0, 2, 1, 3]);
    let joined = wire.reshape(&mixed, &[batch, length, width]);
    wire.give(&joined, node, 0);
    Ok(Outcome::Done)
}

/// Turns pairs of numbers of each head by their position's angles; `sizes` are the heads, their width, and the pairs.
fn rotate_pairs(
    wire: &mut Wire,
    value: &str,
    [cos, sin]: &[String; 2],
    [heads, size, half]: [i64; 3],
    neighbours: bool,
) -> String {
    let turned = wire.slice(value, 3, (0, 2 * half, 1));
    let (a, b) = if neighbours {
        let pairs = wire.reshape(&turned, &[0, 0, heads * half, 2]);
        let mut side = |at: i64| {
            let side = wire.slice(&pairs, 3, (at, at + 1, 1));
            wire.reshape(&side, &[0, 0, heads, half])
        };
        (side(0), side(1))
    } else {
        (
            wire.slice(&turned, 3, (0, half, 1)),
            wire.slice(&turned, 3, (half, 2 * half, 1)),
        )
    };
    let mut product = |left: &str, right: &str| wire.op("Mul", &[left, right], Vec::new());
    let (ac, bs, bc, as_) = (
        product(&a, cos),
        product(&b, sin),
        product(&b, cos),
        product(&a, sin),
    );
    let (a, b) = (
        wire.op("Sub", &[&ac, &bs], Vec::new()),
        wire.op("Add", &[&bc, &as_], Vec::new()),
    );
    let mut whole = if neighbours {
        let (a, b) = (wire.unsqueeze(&a, &[4]), wire.unsqueeze(&b, &[4]));
        let pairs = concat(wire, &[&a, &b], 4);
        wire.reshape(&pairs, &[0, 0, heads, 2 * half])
    } else {
        concat(wire, &[&a, &b], 3)
    };
    if 2 * half < size {
        let rest = wire.slice(value, 3, (2 * half, size, 1));
        whole = concat(wire, &[&whole, &rest], 3);
    }
    whole
}
