//! Quantizing to numbers that tract does not quantize to: written out, as the standard defines it.

use super::blocks;
use super::node::{input, int, int_or, label};
use super::precision::BITS;
use super::rules::{Entry, Outcome, Site};
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("", "DequantizeLinear", dequantize),
    ("", "QuantizeLinear", quantize),
];

/// The smallest and the largest number of so many bits of a type; single precision holds both exactly.
fn bounds(dtype: Dtype, bits: Option<i64>) -> Option<(f32, f32)> {
    let signed = match dtype {
        Dtype::Uint8 | Dtype::Uint16 => false,
        Dtype::Int8 | Dtype::Int16 => true,
        _ => return None,
    };
    let count = 2f32.powi(i32::try_from(bits.unwrap_or(dtype.bits() as i64)).ok()?);
    let low = if signed { -count / 2.0 } else { 0.0 };
    Some((low, low + count - 1.0))
}

fn is_wide(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Uint16 | Dtype::Int16)
}

fn dequantize(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if int_or(node, "block_size", 0) != 0 {
        return blocks::blocked(node, site);
    }
    // Where neither type is known, bytes are meant.
    if !(0..3)
        .step_by(2)
        .any(|at| site.dtype(input(node, at)).is_some_and(is_wide))
    {
        return Ok(Outcome::Leave);
    }
    let (Some(x), Some(scale)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let (Some(scale), Some(zero)) = (placed(node, site, scale)?, zero(node, site)?) else {
        return Ok(Outcome::NeedsFacts);
    };
    let wire = &mut site.wire;
    let mut value = wire.cast(x, Dtype::Float);
    if let Some(zero) = zero {
        value = wire.op("Sub", &[&value, &zero], Vec::new());
    }
    value = wire.op("Mul", &[&value, &scale], Vec::new());
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

fn quantize(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let named = int(node, "output_dtype")
        .and_then(|code| Dtype::from_code(i32::try_from(code).ok()?))
        .filter(|_| input(node, 2).is_none());
    let Some(dtype) = named.or_else(|| site.dtype(input(node, 2))) else {
        return Ok(Outcome::Leave);
    };
    let bits = int(node, BITS);
    let (Some((low, high)), true) = (
        bounds(dtype, bits),
        named.is_some() || bits.is_some() || is_wide(dtype),
    ) else {
        return Ok(Outcome::Leave);
    };
    if int_or(node, "block_size", 0) != 0 {
        return Ok(Outcome::Leave);
    }
    let (Some(x), Some(scale)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let (Some(scale), Some(zero)) = (placed(node, site, scale)?, zero(node, site)?) else {
        return Ok(Outcome::NeedsFacts);
    };
    let wire = &mut site.wire;
    let steps = wire.op("Div", &[x, &scale], Vec::new());
    let mut value = wire.op("Round", &[&steps], Vec::new());
    if let Some(zero) = zero {
        value = wire.op("Add", &[&value, &zero], Vec::new());
    }
    for (op, bound) in [("Max", low), ("Min", high)] {
        let bound = wire.scalar(bound);
        value = wire.op(op, &[&value, &bound], Vec::new());
    }
    let value = wire.cast(&value, dtype);
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

/// The zero point as a float along its axis: `Some(None)` where there is none, `None` where more must be known.
fn zero(node: &NodeProto, site: &mut Site) -> Result<Option<Option<String>>, Unverifiable> {
    let Some(zero) = input(node, 2) else {
        return Ok(Some(None));
    };
    let Some(zero) = placed(node, site, zero)? else {
        return Ok(None);
    };
    Ok(Some(Some(site.wire.cast(&zero, Dtype::Float))))
}

/// A scale or zero point along its axis; `None` where more must be known.
fn placed(node: &NodeProto, site: &mut Site, name: &str) -> Result<Option<String>, Unverifiable> {
    match site.shape(Some(name)).as_deref() {
        None => Ok(None),
        Some([]) => Ok(Some(name.to_owned())),
        Some([1]) => Ok(Some(site.wire.squeeze(name, &[0]))),
        Some([_]) => {
            let Some(rank) = site.shape(input(node, 0)).map(|dims| dims.len() as i64) else {
                return Ok(None);
            };
            let axis = int_or(node, "axis", 1);
            let axis = if axis < 0 { axis + rank } else { axis };
            let shape: Vec<i64> = (0..rank)
                .map(|at| if at == axis { -1 } else { 1 })
                .collect();
            Ok(Some(site.wire.reshape(name, &shape)))
        }
        Some(_) => Err(Unverifiable::new(format!(
            "{}: a scale with several axes",
            label(node)
        ))),
    }
}
