//! Forms of whole numbers that tract refuses although the standard allows them.

use super::node::{input, int_or, label};
use super::rules::{Entry, Outcome, Site};
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("", "CumSum", cumulate),
    ("", "ScatterND", from_the_end),
    ("", "GatherND", gathered_from_the_end),
];

/// tract takes int64 values that are cast for extents, which it can not add up at run time. Positions and counts fit 32 bits.
fn cumulate(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let x = input(node, 0).unwrap_or_default();
    match site.dtype(Some(x)) {
        None => return Ok(Outcome::NeedsFacts),
        Some(Dtype::Int64) => {}
        Some(_) => return Ok(Outcome::Leave),
    }
    let small = site.wire.cast(x, Dtype::Int32);
    let mut sum = node.clone();
    let (Some(first), Some(output)) = (sum.input.first_mut(), sum.output.first_mut()) else {
        return Ok(Outcome::Leave);
    };
    *first = small;
    *output = site.wire.names.fresh("CumSum");
    let output = output.clone();
    site.wire.nodes.push(sum);
    let large = site.wire.cast(&output, Dtype::Int64);
    site.wire.give(&large, node, 0);
    Ok(Outcome::Done)
}

/// Indices that count from the end count from the start.
fn from_the_end(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    const DONE: &str = "indices counted from the start";
    if node.doc_string() == DONE {
        return Ok(Outcome::Leave);
    }
    let (Some(data), Some(indices)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    if site
        .tensor(Some(indices))
        .and_then(|indices| indices.to_i64())
        .is_some_and(|numbers| numbers.iter().all(|number| *number >= 0))
    {
        return Ok(Outcome::Leave);
    }
    let (Some(dims), Some(shape)) = (site.shape(Some(data)), site.shape(Some(indices))) else {
        return Ok(Outcome::NeedsFacts);
    };
    let depth = shape
        .last()
        .and_then(|depth| usize::try_from(*depth).ok())
        .unwrap_or(0);
    let wire = &mut site.wire;
    let extents = wire.ints(dims.get(..depth).unwrap_or(&dims));
    let zero = wire.constant(&TensorRef::from_i64(Vec::new(), &[0]));
    let negative = wire.op("Less", &[indices, &zero], Vec::new());
    let wrapped = wire.op("Add", &[indices, &extents], Vec::new());
    let mut scatter = node.clone();
    scatter.input[1] = wire.op("Where", &[&negative, &wrapped, indices], Vec::new());
    scatter.doc_string = Some(DONE.into());
    wire.nodes.push(scatter);
    Ok(Outcome::Done)
}

/// The same of constant indices into what is gathered.
fn gathered_from_the_end(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let Some(indices) = site.tensor(input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let Some(numbers) = indices
        .to_i64()
        .filter(|numbers| numbers.iter().any(|number| *number < 0))
    else {
        return Ok(Outcome::Leave);
    };
    let Some(dims) = site.shape(input(node, 0)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let first = usize::try_from(int_or(node, "batch_dims", 0)).unwrap_or(0);
    let extents = dims.get(first..).unwrap_or(&[]);
    let depth = indices.dims.last().copied().unwrap_or(0);
    if depth == 0 || depth > extents.len() {
        return Ok(Outcome::Leave);
    }
    let wrapped: Vec<i64> = numbers
        .iter()
        .zip(extents.iter().take(depth).cycle())
        .map(|(number, extent)| {
            if *number < 0 {
                number + extent
            } else {
                *number
            }
        })
        .collect();
    if wrapped.iter().any(|number| *number < 0) {
        return Err(Unverifiable::new(format!(
            "{}: an index before the first",
            label(node)
        )));
    }
    let mut gather = node.clone();
    gather.input[1] = site
        .wire
        .constant(&TensorRef::from_i64(indices.dims, &wrapped));
    site.wire.nodes.push(gather);
    Ok(Outcome::Done)
}
