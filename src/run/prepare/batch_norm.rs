//! BatchNormalization by the batch's own statistics, or by numbers that are computed: tract has neither, so in primitives.

use super::node::{float, input, int_or, label};
use super::reduce::sums;
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[("", "BatchNormalization", in_primitives)];

/// The running statistics that such a node also gives are dropped: a reader of them is found to lack its input later.
fn in_primitives(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let given = int_or(node, "training_mode", 0) == 0;
    if given && (1..5).all(|at| site.tensor(input(node, at)).is_some()) {
        // Only a tensor of one axis, which is one channel, is not for tract.
        if site.shape(input(node, 1)).as_deref() != Some(&[1]) {
            return Ok(Outcome::Leave);
        }
        match site.shape(input(node, 0)) {
            Some(dims) if dims.len() == 1 => {}
            None if !site.asked() => return Ok(Outcome::NeedsFacts),
            _ => return Ok(Outcome::Leave),
        }
    }
    let (Some(x), Some(scale), Some(bias)) = (input(node, 0), input(node, 1), input(node, 2))
    else {
        return Err(Unverifiable::new(format!(
            "{}: lacks an input",
            label(node)
        )));
    };
    let Some(dims) = site.shape(Some(x)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let (rank, is_float) = (dims.len() as i64, site.dtype(Some(x)) == Some(Dtype::Float));
    let axes: Vec<i64> = (0..rank).filter(|axis| *axis != 1).collect();
    let channels: Vec<i64> = (0..rank)
        .map(|axis| if axis == 1 { -1 } else { 1 })
        .collect();
    let wire = &mut site.wire;
    let mean_of = |wire: &mut Wire, x: &str| {
        let by_rows = if is_float {
            sums(wire, "ReduceMean", (x, &dims), &axes, true)
        } else {
            None
        };
        by_rows.unwrap_or_else(|| wire.reduce("ReduceMean", x, &axes, true))
    };
    let epsilon = wire.scalar(float(node, "epsilon").unwrap_or(1e-5));
    let mean = match input(node, 3).filter(|_| given) {
        Some(mean) => wire.reshape(mean, &channels),
        None => mean_of(wire, x),
    };
    let centred = wire.op("Sub", &[x, &mean], Vec::new());
    let variance = match input(node, 4).filter(|_| given) {
        Some(variance) => wire.reshape(variance, &channels),
        None => {
            let square = wire.op("Mul", &[&centred, &centred], Vec::new());
            mean_of(wire, &square)
        }
    };
    let variance = wire.op("Add", &[&variance, &epsilon], Vec::new());
    let deviation = wire.op("Sqrt", &[&variance], Vec::new());
    let normal = wire.op("Div", &[&centred, &deviation], Vec::new());
    let (scale, bias) = (
        wire.reshape(scale, &channels),
        wire.reshape(bias, &channels),
    );
    let scaled = wire.op("Mul", &[&normal, &scale], Vec::new());
    let shifted = wire.op("Add", &[&scaled, &bias], Vec::new());
    wire.give(&shifted, node, 0);
    Ok(Outcome::Done)
}
