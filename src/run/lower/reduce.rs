//! Sums over whole rows as products with a vector: tract's own are several times slower where an axis of extent 1 is reduced
//! beside the rows or lies behind them, as in weight standardisation.

use super::row_sums::sums;
use super::rule::{Change, LoweringRule, Site};
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "ReduceMean", over_rows),
    LoweringRule::code("", "ReduceSum", over_rows),
];

/// Shapes that nothing else needed are not asked for.
fn over_rows(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let x = node.input(0).unwrap_or_default();
    let axes = node
        .ints("axes")
        .map(<[i64]>::to_vec)
        .or_else(|| site.tensor(node.input(1))?.to_i64());
    let (Some(dims), Some(axes), Some(Dtype::Float)) =
        (site.shape(Some(x)), axes, site.dtype(Some(x)))
    else {
        return Ok(Change::Unchanged);
    };
    let keep = node.int_or("keepdims", 1) != 0;
    let Some(value) = sums(&mut site.builder, node.op_type(), (x, &dims), &axes, keep) else {
        return Ok(Change::Unchanged);
    };
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}
