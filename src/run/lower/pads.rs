//! Pads that tract misreads: cropping ones, a wrapping one, a value in one dimension.

use super::builder::GraphBuilder;
use super::rule::{Change, LoweringRule, Site, standard};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "Pad", pad),
    LoweringRule::code("com.microsoft", "Pad", standard),
];

/// How much is added before and after an axis; less than nothing where it is cropped.
struct PadEnds {
    axis: i64,
    before: i64,
    after: i64,
}

fn pad(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    let Some(ends) = ends(node, site) else {
        // Where the pads are not known to us, they may be to tract.
        return if site.asked() {
            scalar_value(node, site)
        } else {
            Ok(Change::NeedsFacts)
        };
    };
    if node.string("mode").is_some_and(|mode| mode == "wrap") {
        return wrapped(node, site, x, &ends);
    }
    if ends.iter().all(|ends| ends.before >= 0 && ends.after >= 0) {
        return scalar_value(node, site);
    }
    // What is cropped goes first: what is repeated at the ends is then what is left.
    let mut value = x.to_owned();
    for PadEnds {
        axis,
        before,
        after,
    } in ends.iter().filter(|ends| ends.before < 0 || ends.after < 0)
    {
        let end = if *after < 0 { *after } else { i64::MAX };
        value = site
            .builder
            .slice(&value, *axis, (before.saturating_neg().max(0), end, 1));
    }
    let rest: Vec<i64> = ends
        .iter()
        .map(|ends| ends.before.max(0))
        .chain(ends.iter().map(|ends| ends.after.max(0)))
        .collect();
    if rest.iter().all(|pad| *pad == 0) {
        site.builder.bind_output(&value, node, 0);
        return Ok(Change::Replaced);
    }
    let mut padded = node.clone();
    padded.input[0] = value;
    if node.attribute("pads").is_some() {
        padded
            .attribute
            .retain(|attribute| attribute.name() != "pads");
        padded.attribute.push(AttributeProto::ints("pads", &rest));
    } else {
        padded.input[1] = site.builder.ints(&rest);
    }
    site.builder.nodes.push(padded);
    Ok(Change::Replaced)
}

/// By axis, in the order in which they are given; `None` where that is not known.
fn ends(node: &NodeProto, site: &Site) -> Option<Vec<PadEnds>> {
    let pads = match node.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => site.tensor(node.input(1))?.to_i64()?,
    };
    let count = pads.len() / 2;
    let axes = match node.input(3) {
        None => (0..count as i64).collect(),
        axes => site.tensor(axes)?.to_i64()?,
    };
    let (before, after) = pads.split_at(count);
    let ends = axes.into_iter().zip(before.iter().zip(after));
    Some(
        ends.map(|(axis, (before, after))| PadEnds {
            axis,
            before: *before,
            after: *after,
        })
        .collect(),
    )
}

/// Rows gathered round and round.
fn wrapped(
    node: &NodeProto,
    site: &mut Site,
    x: &str,
    ends: &[PadEnds],
) -> Result<Change, Unverifiable> {
    const LONG: i64 = 1 << 24;
    let Some(dims) = site.shape(Some(x)) else {
        return Ok(Change::NeedsFacts);
    };
    let mut value = x.to_owned();
    for PadEnds {
        axis,
        before,
        after,
    } in ends
        .iter()
        .filter(|ends| ends.before != 0 || ends.after != 0)
    {
        let at = if *axis < 0 {
            axis + dims.len() as i64
        } else {
            *axis
        };
        let Some(extent) = usize::try_from(at).ok().and_then(|at| dims.get(at)) else {
            return Ok(Change::Unchanged);
        };
        // Cropped first, then wrapped.
        let first = before.saturating_neg().max(0);
        let left = extent.saturating_sub(first).saturating_add(*after.min(&0));
        let (before, after) = (*before.max(&0), *after.max(&0));
        if left <= 0 || before.saturating_add(after).saturating_add(left) > LONG {
            return Ok(Change::Unchanged);
        }
        let rows: Vec<i64> = (-before..left + after)
            .map(|row| first + row.rem_euclid(left))
            .collect();
        value = gather(&mut site.builder, &value, &rows, at);
    }
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn gather(builder: &mut GraphBuilder, value: &str, rows: &[i64], axis: i64) -> String {
    let rows = builder.ints(rows);
    builder.op(
        "Gather",
        &[value, &rows],
        vec![AttributeProto::int("axis", axis)],
    )
}

/// The value to pad with, in one dimension instead of none, or where nothing is padded with it: tract would, whatever the mode.
fn scalar_value(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(value) = node.input(2) else {
        return Ok(Change::Unchanged);
    };
    if node.string("mode").is_some_and(|mode| mode != "constant") {
        let mut node = node.clone();
        node.input[2].clear();
        if node.input.len() == 3 {
            node.input.pop();
        }
        site.builder.nodes.push(node);
        return Ok(Change::Replaced);
    }
    let Some(dims) = site.shape(Some(value)) else {
        return Ok(Change::NeedsFacts);
    };
    if dims.is_empty() || dims.iter().any(|dim| *dim != 1) {
        return Ok(Change::Unchanged);
    }
    let axes: Vec<i64> = (0..dims.len() as i64).collect();
    let scalar = match site.tensor(Some(value)) {
        Some(tensor) => site.builder.constant(&TensorRef {
            dims: Vec::new(),
            ..tensor
        }),
        None => site.builder.squeeze(value, &axes),
    };
    let mut node = node.clone();
    node.input[2] = scalar;
    site.builder.nodes.push(node);
    Ok(Change::Replaced)
}
