//! Operators that tract lacks or reads in another way, each in a few of those it has.

use super::node::{
    attribute, float, floats, input, int_or, ints, label, text, with_int, with_tensor,
};
use super::rules::{Entry, Outcome, Site};
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("", "ConstantOfShape", constant_of_shape),
    ("", "Gemm", double_gemm),
    ("", "Squeeze", squeeze),
    ("", "SwiGLU", swiglu),
    ("", "Upsample", upsample),
    ("ai.onnx.ml", "ArrayFeatureExtractor", array_features),
    ("ai.onnx.ml", "Scaler", scaler),
];

/// Without a value it means zeros of type float; tract takes double.
fn constant_of_shape(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if attribute(node, "value").is_some() {
        return Ok(Outcome::Leave);
    }
    let mut node = node.clone();
    node.attribute
        .push(with_tensor("value", &TensorRef::from_f32(vec![1], &[0.0])));
    site.wire.nodes.push(node);
    Ok(Outcome::Done)
}

/// Without axes it drops all that have extent 1.
fn squeeze(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if input(node, 1).is_some() || ints(node, "axes").is_some() {
        return Ok(Outcome::Leave);
    }
    let Some(dims) = site.shape(input(node, 0)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let axes: Vec<i64> = (0..dims.len() as i64)
        .zip(&dims)
        .filter(|(_, dim)| **dim == 1)
        .map(|(axis, _)| axis)
        .collect();
    let x = input(node, 0).unwrap_or_default();
    let value = if axes.is_empty() {
        x.to_owned()
    } else {
        site.wire.squeeze(x, &axes)
    };
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

/// tract multiplies the bias by a factor of type float, whatever its own type.
fn double_gemm(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if !(0..3).any(|at| site.dtype(input(node, at)) == Some(Dtype::Double)) {
        return Ok(Outcome::Leave);
    }
    let wire = &mut site.wire;
    let mut factor = |name: &str| {
        let factor = f64::from(float(node, name).unwrap_or(1.0));
        let bytes = factor.to_le_bytes().to_vec();
        (factor != 1.0).then(|| {
            wire.constant(&TensorRef {
                dtype: Dtype::Double,
                dims: Vec::new(),
                bytes: bytes.into(),
            })
        })
    };
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    let mut side = |at: usize, name: &str| {
        let value = input(node, at).unwrap_or_default();
        if int_or(node, name, 0) == 0 {
            value.to_owned()
        } else {
            wire.transpose(value, &[1, 0])
        }
    };
    let (a, b) = (side(0, "transA"), side(1, "transB"));
    let mut value = wire.op("MatMul", &[&a, &b], Vec::new());
    if let Some(alpha) = alpha {
        value = wire.op("Mul", &[&value, &alpha], Vec::new());
    }
    if let Some(bias) = input(node, 2) {
        let bias = match beta {
            Some(beta) => wire.op("Mul", &[bias, &beta], Vec::new()),
            None => bias.to_owned(),
        };
        value = wire.op("Add", &[&value, &bias], Vec::new());
    }
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

fn swiglu(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let (Some(gate), Some(value)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let wire = &mut site.wire;
    let alpha = wire.scalar(float(node, "alpha").unwrap_or(1.0));
    let scaled = wire.op("Mul", &[gate, &alpha], Vec::new());
    let open = wire.op("Sigmoid", &[&scaled], Vec::new());
    let gate = wire.op("Mul", &[gate, &open], Vec::new());
    let product = wire.op("Mul", &[&gate, value], Vec::new());
    wire.give(&product, node, 0);
    Ok(Outcome::Done)
}

/// Axis by axis: rows gathered, or a product with the weights of the linear interpolation.
fn upsample(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let scales = match floats(node, "scales") {
        Some(scales) => scales.to_vec(),
        None => match site
            .tensor(input(node, 1))
            .and_then(|scales| scales.to_f32())
        {
            Some(scales) => scales,
            None => return Ok(Outcome::NeedsFacts),
        },
    };
    let Some(dims) = site.shape(input(node, 0)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let linear = match text(node, "mode").as_deref() {
        None | Some("nearest") => false,
        Some("linear" | "bilinear") => true,
        Some(mode) => {
            return Err(Unverifiable::new(format!(
                "{}: mode {mode} is not known",
                label(node)
            )));
        }
    };
    let wire = &mut site.wire;
    let rank = dims.len() as i64;
    let mut value = input(node, 0).unwrap_or_default().to_owned();
    for ((axis, dim), scale) in (0..rank).zip(&dims).zip(scales) {
        let (old, new) = (*dim, (*dim as f32 * scale).floor() as i64);
        if scale == 1.0 {
            continue;
        }
        const LONG: i64 = 1 << 16;
        if !(0..=LONG).contains(&new) || !(0..=LONG).contains(&old) {
            return Err(Unverifiable::new(format!(
                "{}: scales an axis to {new}",
                label(node)
            )));
        }
        let source = |at: i64| at as f32 / scale;
        if linear {
            let mut weights = vec![0.0; usize::try_from(old * new).unwrap_or(0)];
            for at in 0..new {
                let from = source(at).clamp(0.0, (old - 1).max(0) as f32);
                let (low, part) = (from.floor() as i64, from.fract());
                for (row, weight) in [(low, 1.0 - part), ((low + 1).min(old - 1), part)] {
                    if let Some(cell) = usize::try_from(row * new + at)
                        .ok()
                        .and_then(|cell| weights.get_mut(cell))
                    {
                        *cell += weight;
                    }
                }
            }
            let weights = wire.constant(&TensorRef::from_f32(
                vec![old as usize, new as usize],
                &weights,
            ));
            let mut permutation: Vec<i64> = (0..rank).collect();
            permutation.swap(axis as usize, rank as usize - 1);
            let turned = wire.transpose(&value, &permutation);
            let product = wire.op("MatMul", &[&turned, &weights], Vec::new());
            value = wire.transpose(&product, &permutation);
        } else {
            let rows: Vec<i64> = (0..new)
                .map(|at| (source(at).floor() as i64).clamp(0, (old - 1).max(0)))
                .collect();
            let rows = wire.ints(&rows);
            value = wire.op("Gather", &[&value, &rows], vec![with_int("axis", axis)]);
        }
    }
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

/// Entries of the last axis; a vector counts as one row.
fn array_features(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let (Some(x), Some(at)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let Some(rank) = site.shape(Some(x)).map(|dims| dims.len()) else {
        return Ok(Outcome::NeedsFacts);
    };
    let wire = &mut site.wire;
    let rows = if rank == 1 {
        wire.reshape(x, &[1, -1])
    } else {
        x.to_owned()
    };
    let at = wire.reshape(at, &[-1]);
    let chosen = wire.op(
        "Gather",
        &[&rows, &at],
        vec![with_int("axis", (rank.max(2) - 1) as i64)],
    );
    wire.give(&chosen, node, 0);
    Ok(Outcome::Done)
}

fn scaler(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let Some(x) = input(node, 0) else {
        return Ok(Outcome::Leave);
    };
    let (offset, scale) = (
        floats(node, "offset").unwrap_or(&[]),
        floats(node, "scale").unwrap_or(&[]),
    );
    let wire = &mut site.wire;
    let mut value = wire.cast(x, Dtype::Float);
    for (op, numbers) in [("Sub", offset), ("Mul", scale)] {
        if !numbers.is_empty() {
            let numbers = wire.constant(&TensorRef::from_f32(vec![numbers.len()], numbers));
            value = wire.op(op, &[&value, &numbers], Vec::new());
        }
    }
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}
