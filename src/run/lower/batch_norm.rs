//! BatchNormalization by the batch's own statistics, or by numbers that are computed: tract has neither, so in primitives.

use super::builder::GraphBuilder;
use super::row_sums::sums;
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] =
    &[LoweringRule::code("", "BatchNormalization", in_primitives)];

/// The running statistics that such a node also gives are dropped: a reader of them is found to lack its input later.
fn in_primitives(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let given = node.int_or("training_mode", 0) == 0;
    if given && (1..5).all(|at| site.tensor(node.input(at)).is_some()) {
        // Only a tensor of one axis, which is one channel, is not for tract.
        if site.shape(node.input(1)).as_deref() != Some(&[1]) {
            return Ok(Change::Unchanged);
        }
        match site.shape(node.input(0)) {
            Some(dims) if dims.len() == 1 => {}
            None if !site.asked() => return Ok(Change::NeedsFacts),
            _ => return Ok(Change::Unchanged),
        }
    }
    let (Some(x), Some(scale), Some(bias)) = (node.input(0), node.input(1), node.input(2)) else {
        return Err(refusal(node, "lacks an input"));
    };
    let Some(dims) = site.shape(Some(x)) else {
        return Ok(Change::NeedsFacts);
    };
    let (rank, is_float) = (dims.len() as i64, site.dtype(Some(x)) == Some(Dtype::Float));
    let axes: Vec<i64> = (0..rank).filter(|axis| *axis != 1).collect();
    let channels: Vec<i64> = (0..rank)
        .map(|axis| if axis == 1 { -1 } else { 1 })
        .collect();
    let builder = &mut site.builder;
    let mean_of = |builder: &mut GraphBuilder, x: &str| {
        let by_rows = if is_float {
            sums(builder, "ReduceMean", (x, &dims), &axes, true)
        } else {
            None
        };
        by_rows.unwrap_or_else(|| builder.reduce("ReduceMean", x, &axes, true))
    };
    let epsilon = builder.scalar(node.float("epsilon").unwrap_or(1e-5));
    let mean = match node.input(3).filter(|_| given) {
        Some(mean) => builder.reshape(mean, &channels),
        None => mean_of(builder, x),
    };
    let centred = builder.op("Sub", &[x, &mean], Vec::new());
    let variance = match node.input(4).filter(|_| given) {
        Some(variance) => builder.reshape(variance, &channels),
        None => {
            let square = builder.op("Mul", &[&centred, &centred], Vec::new());
            mean_of(builder, &square)
        }
    };
    let variance = builder.op("Add", &[&variance, &epsilon], Vec::new());
    let deviation = builder.op("Sqrt", &[&variance], Vec::new());
    let normal = builder.op("Div", &[&centred, &deviation], Vec::new());
    let (scale, bias) = (
        builder.reshape(scale, &channels),
        builder.reshape(bias, &channels),
    );
    let scaled = builder.op("Mul", &[&normal, &scale], Vec::new());
    let shifted = builder.op("Add", &[&scaled, &bias], Vec::new());
    builder.bind_output(&shifted, node, 0);
    Ok(Change::Replaced)
}
