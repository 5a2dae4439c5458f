//! Fourier transforms in the one form that tract reads rightly.
//!
//! tract 0.23.9 takes every axis counted from the start for axis 1 in versions 17 to 19, the axis left out for axis 1 since
//! version 20, does not lengthen or shorten the signal, and wants a signal of three axes for frames.

use super::rule::{Change, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "DFT", transform),
    LoweringRule::code("", "STFT", frames),
];

/// Since this version the axis is an input.
const AXIS_IS_INPUT: i64 = 20;

fn transform(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (Some(x), opset) = (node.input(0), site.builder.opset) else {
        return Ok(Change::Unchanged);
    };
    let Some(dims) = site.shape(Some(x)) else {
        return Ok(Change::NeedsFacts);
    };
    let rank = dims.len() as i64;
    let axis = match node.input(2) {
        _ if opset < AXIS_IS_INPUT => Some(node.int_or("axis", 1)),
        None => Some(-2),
        Some(given) => number(site, given),
    };
    let Some(axis) = axis else {
        return Ok(Change::NeedsFacts);
    };
    let from_start = if axis < 0 { axis + rank } else { axis };
    let Some(extent) = usize::try_from(from_start)
        .ok()
        .filter(|_| from_start < rank - 1)
        .and_then(|at| dims.get(at))
    else {
        return Err(Unverifiable::new(format!(
            "{}: axis {axis} is none of a signal with {rank} axes",
            node.label()
        )));
    };
    // A real signal of a given length from half its spectrum: tract reads that length.
    let back = node.int_or("inverse", 0) != 0 && node.int_or("onesided", 0) != 0;
    let length = match node.input(1) {
        Some(length) if !back => match number(site, length) {
            Some(length) => Some(length),
            None => return Ok(Change::NeedsFacts),
        },
        _ => None,
    };
    let written = if opset < AXIS_IS_INPUT {
        axis < 0
    } else {
        axis >= 0 && node.input(2).is_some()
    };
    if written && length.is_none() {
        return Ok(Change::Unchanged);
    }
    let signal = match length {
        Some(length) if length < *extent => site.builder.slice(x, from_start, (0, length, 1)),
        Some(length) if length > *extent => lengthened(site, x, &dims, from_start, length - extent),
        _ => x.to_owned(),
    };
    let length = node.input(1).filter(|_| back);
    rewritten(node, site, (&signal, length), (from_start, rank));
    Ok(Change::Replaced)
}

/// The first number of a constant.
fn number(site: &Site, name: &str) -> Option<i64> {
    site.tensor(Some(name))
        .and_then(|tensor| tensor.to_i64()?.first().copied())
}

/// Writes the transform of a signal, with a length where tract reads one, along an axis counted from the start of `rank`.
fn rewritten(
    node: &NodeProto,
    site: &mut Site,
    (signal, length): (&str, Option<&str>),
    (axis, rank): (i64, i64),
) {
    let mut attributes: Vec<_> = node
        .attribute
        .iter()
        .filter(|attribute| attribute.name() != "axis")
        .cloned()
        .collect();
    let axis = if site.builder.opset < AXIS_IS_INPUT {
        attributes.push(AttributeProto::int("axis", axis - rank));
        None
    } else {
        Some(
            site.builder
                .constant(&TensorRef::from_i64(Vec::new(), &[axis])),
        )
    };
    let mut inputs = vec![signal];
    match (length, &axis) {
        (None, None) => {}
        (length, None) => inputs.extend(length),
        (length, Some(axis)) => inputs.extend([length.unwrap_or(""), axis]),
    }
    let value = site.builder.op("DFT", &inputs, attributes);
    site.builder.bind_output(&value, node, 0);
}

/// The signal with zeros behind it.
fn lengthened(site: &mut Site, x: &str, dims: &[i64], axis: i64, by: i64) -> String {
    let mut pads = vec![0; 2 * dims.len()];
    if let Some(pad) = pads.get_mut(dims.len() + axis as usize) {
        *pad = by;
    }
    let pads = site.builder.ints(&pads);
    site.builder.op("Pad", &[x, &pads], Vec::new())
}

/// A real signal without an axis for its parts, as torch writes it.
fn frames(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    let Some(dims) = site.shape(Some(x)) else {
        return Ok(Change::NeedsFacts);
    };
    match dims.len() {
        2 => {}
        3 => return Ok(Change::Unchanged),
        rank => {
            return Err(Unverifiable::new(format!(
                "{}: a signal with {rank} axes",
                node.label()
            )));
        }
    }
    let mut framed = node.clone();
    framed.input[0] = site.builder.unsqueeze(x, &[2]);
    site.builder.nodes.push(framed);
    Ok(Change::Replaced)
}
