//! Quantizing to numbers that tract does not quantize to: written out, as the standard defines it.

use super::blocks;
use super::precision::BITS;
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "DequantizeLinear", dequantize),
    LoweringRule::code("", "QuantizeLinear", quantize),
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

fn dequantize(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node.int_or("block_size", 0) != 0 {
        return blocks::blocked(node, site);
    }
    // Where neither type is known, bytes are meant.
    if !(0..3)
        .step_by(2)
        .any(|at| site.dtype(node.input(at)).is_some_and(is_wide))
    {
        return Ok(Change::Unchanged);
    }
    let (Some(x), Some(scale)) = (node.input(0), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let (Some(scale), Some(zero)) = (placed(node, site, scale)?, zero(node, site)?) else {
        return Ok(Change::NeedsFacts);
    };
    let builder = &mut site.builder;
    let mut value = builder.cast(x, Dtype::Float);
    if let Some(zero) = zero {
        value = builder.op("Sub", &[&value, &zero], Vec::new());
    }
    value = builder.op("Mul", &[&value, &scale], Vec::new());
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn quantize(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let named = node
        .int("output_dtype")
        .and_then(|code| Dtype::from_code(i32::try_from(code).ok()?))
        .filter(|_| node.input(2).is_none());
    let Some(dtype) = named.or_else(|| site.dtype(node.input(2))) else {
        return Ok(Change::Unchanged);
    };
    let bits = node.int(BITS);
    let (Some((low, high)), true) = (
        bounds(dtype, bits),
        named.is_some() || bits.is_some() || is_wide(dtype),
    ) else {
        return Ok(Change::Unchanged);
    };
    if node.int_or("block_size", 0) != 0 {
        return Ok(Change::Unchanged);
    }
    let (Some(x), Some(scale)) = (node.input(0), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let (Some(scale), Some(zero)) = (placed(node, site, scale)?, zero(node, site)?) else {
        return Ok(Change::NeedsFacts);
    };
    let builder = &mut site.builder;
    let steps = builder.op("Div", &[x, &scale], Vec::new());
    let mut value = builder.op("Round", &[&steps], Vec::new());
    if let Some(zero) = zero {
        value = builder.op("Add", &[&value, &zero], Vec::new());
    }
    for (op, bound) in [("Max", low), ("Min", high)] {
        let bound = builder.scalar(bound);
        value = builder.op(op, &[&value, &bound], Vec::new());
    }
    let value = builder.cast(&value, dtype);
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// The zero point as a float along its axis: `Some(None)` where there is none, `None` where more must be known.
fn zero(node: &NodeProto, site: &mut Site) -> Result<Option<Option<String>>, Unverifiable> {
    let Some(zero) = node.input(2) else {
        return Ok(Some(None));
    };
    let Some(zero) = placed(node, site, zero)? else {
        return Ok(None);
    };
    Ok(Some(Some(site.builder.cast(&zero, Dtype::Float))))
}

/// A scale or zero point along its axis; `None` where more must be known.
fn placed(node: &NodeProto, site: &mut Site, name: &str) -> Result<Option<String>, Unverifiable> {
    match site.shape(Some(name)).as_deref() {
        None => Ok(None),
        Some([]) => Ok(Some(name.to_owned())),
        Some([1]) => Ok(Some(site.builder.squeeze(name, &[0]))),
        Some([_]) => {
            let Some(rank) = site.shape(node.input(0)).map(|dims| dims.len() as i64) else {
                return Ok(None);
            };
            let axis = node.int_or("axis", 1);
            let axis = if axis < 0 { axis + rank } else { axis };
            let shape: Vec<i64> = (0..rank)
                .map(|at| if at == axis { -1 } else { 1 })
                .collect();
            Ok(Some(site.builder.reshape(name, &shape)))
        }
        Some(_) => Err(refusal(node, "a scale with several axes")),
    }
}
