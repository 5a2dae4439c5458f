//! Forms of whole numbers that tract refuses although the standard allows them.

use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "CumSum", cumulate),
    LoweringRule::code("", "ScatterND", from_the_end),
    LoweringRule::code("", "GatherND", gathered_from_the_end),
];

/// tract takes int64 values that are cast for extents, which it cannot add up at run time. Positions and counts fit 32 bits.
fn cumulate(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let x = node.input(0).unwrap_or_default();
    match site.dtype(Some(x)) {
        None => return Ok(Change::NeedsFacts),
        Some(Dtype::Int64) => {}
        Some(_) => return Ok(Change::Unchanged),
    }
    let small = site.builder.cast(x, Dtype::Int32);
    let mut sum = node.clone();
    let (Some(first), Some(output)) = (sum.input.first_mut(), sum.output.first_mut()) else {
        return Ok(Change::Unchanged);
    };
    *first = small;
    *output = site.builder.names.fresh("CumSum");
    let output = output.clone();
    site.builder.nodes.push(sum);
    let large = site.builder.cast(&output, Dtype::Int64);
    site.builder.bind_output(&large, node, 0);
    Ok(Change::Replaced)
}

/// Indices that count from the end count from the start.
fn from_the_end(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    const DONE: &str = "indices counted from the start";
    if node.doc_string() == DONE {
        return Ok(Change::Unchanged);
    }
    let (Some(data), Some(indices)) = (node.input(0), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    if site
        .tensor(Some(indices))
        .and_then(|indices| indices.to_i64())
        .is_some_and(|numbers| numbers.iter().all(|number| *number >= 0))
    {
        return Ok(Change::Unchanged);
    }
    let (Some(dims), Some(shape)) = (site.shape(Some(data)), site.shape(Some(indices))) else {
        return Ok(Change::NeedsFacts);
    };
    let depth = shape
        .last()
        .and_then(|depth| usize::try_from(*depth).ok())
        .unwrap_or(0);
    let builder = &mut site.builder;
    let extents = builder.ints(dims.get(..depth).unwrap_or(&dims));
    let zero = builder.constant(&TensorRef::from_i64(Vec::new(), &[0]));
    let negative = builder.op("Less", &[indices, &zero], Vec::new());
    let wrapped = builder.op("Add", &[indices, &extents], Vec::new());
    let mut scatter = node.clone();
    scatter.input[1] = builder.op("Where", &[&negative, &wrapped, indices], Vec::new());
    scatter.doc_string = Some(DONE.into());
    builder.nodes.push(scatter);
    Ok(Change::Replaced)
}

/// The same of constant indices into what is gathered.
fn gathered_from_the_end(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(indices) = site.tensor(node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let Some(numbers) = indices
        .to_i64()
        .filter(|numbers| numbers.iter().any(|number| *number < 0))
    else {
        return Ok(Change::Unchanged);
    };
    let Some(dims) = site.shape(node.input(0)) else {
        return Ok(Change::NeedsFacts);
    };
    let first = usize::try_from(node.int_or("batch_dims", 0)).unwrap_or(0);
    let extents = dims.get(first..).unwrap_or(&[]);
    let depth = indices.dims.last().copied().unwrap_or(0);
    if depth == 0 || depth > extents.len() {
        return Ok(Change::Unchanged);
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
        return Err(refusal(node, "an index before the first"));
    }
    let mut gather = node.clone();
    gather.input[1] = site
        .builder
        .constant(&TensorRef::from_i64(indices.dims, &wrapped));
    site.builder.nodes.push(gather);
    Ok(Change::Replaced)
}
