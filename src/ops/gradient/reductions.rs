//! Sums and means, softmax, pools.

use super::products::{extents, padding};
use super::{FunctionTable, axes, data, first, given};
use crate::gradient::{
    Arguments, AxisSum, FloatArray, Function, Misfit, Pooled, Pooling, SoftmaxFunction,
};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "ReduceMean", |node, at| reduce(node, at, true)),
    ("", "ReduceSum", |node, at| reduce(node, at, false)),
    ("", "GlobalAveragePool", |_, at| {
        first(
            at,
            AxisSum {
                axes: |inputs: &Arguments| Ok((2..data(inputs)?.dims.len()).collect()),
                keeps_axes: true,
                is_mean: true,
            },
        )
    }),
    ("", "Softmax", |node, at| softmax(node, at, false)),
    ("", "LogSoftmax", |node, at| softmax(node, at, true)),
    ("", "MaxPool", |node, at| pool(node, at, Pooled::Maximum)),
    ("", "AveragePool", |node, at| {
        let counts_padding = node.int("count_include_pad").unwrap_or(0) != 0;
        pool(node, at, Pooled::Mean { counts_padding })
    }),
];

fn reduce(node: &NodeView, output: usize, is_mean: bool) -> Option<Box<dyn Function>> {
    let attribute = node.ints("axes").map(<[i64]>::to_vec);
    let none_if_empty = node.int("noop_with_empty_axes").unwrap_or(0) != 0;
    let of = move |inputs: &Arguments| -> Result<Vec<usize>, Misfit> {
        let rank = data(inputs)?.dims.len();
        let list = attribute
            .clone()
            .or_else(|| given(inputs, 1).map(FloatArray::integers))
            .unwrap_or_default();
        match list.is_empty() {
            true if none_if_empty => Ok(Vec::new()),
            true => Ok((0..rank).collect()),
            false => axes(&list, rank),
        }
    };
    first(
        output,
        AxisSum {
            axes: of,
            keeps_axes: node.int("keepdims").unwrap_or(1) != 0,
            is_mean,
        },
    )
}

/// One axis; before version 13 all from one on.
fn softmax(node: &NodeView, output: usize, is_logarithm: bool) -> Option<Box<dyn Function>> {
    let is_old = node.opset < 13;
    let axis = node.int("axis").unwrap_or(if is_old { 1 } else { -1 });
    let axes = move |rank: usize| {
        let axis = NodeView::axis(axis, rank)?;
        Some((axis, if is_old { rank - axis } else { 1 }))
    };
    first(output, SoftmaxFunction { axes, is_logarithm })
}

fn pool(node: &NodeView, output: usize, pooled: Pooled) -> Option<Box<dyn Function>> {
    let axes = node.shape(0)?.len().checked_sub(2)?;
    if !(1..=2).contains(&axes) || node.int("storage_order").unwrap_or(0) != 0 {
        return None;
    }
    first(
        output,
        Pooling {
            pooled,
            kernel: extents(node, "kernel_shape")?,
            strides: extents(node, "strides")?,
            dilations: extents(node, "dilations")?,
            padding: padding(node)?,
            rounds_up: node.int("ceil_mode").unwrap_or(0) != 0,
        },
    )
}
