//! Products with weights.

use super::{FunctionTable, first};
use crate::gradient::{Convolution, Function, Gemm, MatMul, WindowPadding};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "MatMul", |_, at| first(at, MatMul)),
    ("", "Gemm", gemm),
    ("", "Conv", convolution),
];

fn gemm(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let turned = ["transA", "transB"].map(|name| node.int(name).unwrap_or(0) != 0);
    let [alpha, beta] = ["alpha", "beta"].map(|name| node.float(name).unwrap_or(1.0));
    first(
        output,
        Gemm {
            turned,
            alpha,
            beta,
        },
    )
}

fn convolution(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let axes = node.shape(0)?.len().checked_sub(2)?;
    if !(1..=2).contains(&axes) {
        return None;
    }
    let convolution = Convolution {
        groups: usize::try_from(node.int("group").unwrap_or(1)).ok()?,
        strides: extents(node, "strides")?,
        dilations: extents(node, "dilations")?,
        padding: padding(node)?,
    };
    first(output, convolution)
}

/// A list of extents; empty where it is left out, `None` where one is below zero.
pub(super) fn extents(node: &NodeView, name: &str) -> Option<Vec<usize>> {
    let list = node.ints(name).unwrap_or(&[]);
    list.iter()
        .map(|extent| usize::try_from(*extent).ok())
        .collect()
}

/// The padding of windows; `None` where the data are cropped.
pub(super) fn padding(node: &NodeView) -> Option<WindowPadding> {
    match node.string("auto_pad") {
        Some("SAME_UPPER") => Some(WindowPadding::Same { first: false }),
        Some("SAME_LOWER") => Some(WindowPadding::Same { first: true }),
        Some("VALID") => Some(WindowPadding::Given(Vec::new())),
        _ => extents(node, "pads").map(WindowPadding::Given),
    }
}
