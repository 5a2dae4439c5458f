//! Sums and means, softmax, pools.

use super::products::{extents, padding};
use super::{FunctionTable, axes, data, first, given};
use crate::gradient::{
    Arguments, AxisReduction, FloatArray, Function, Misfit, Pooled, Pooling, Reduced,
    SoftmaxFunction,
};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "ReduceMean", |node, at| reduce(node, at, Reduced::Mean)),
    ("", "ReduceSum", |node, at| reduce(node, at, Reduced::Sum)),
    ("", "ReduceL2", |node, at| reduce(node, at, Reduced::Length)),
    ("", "ReduceMax", |node, at| {
        reduce(node, at, Reduced::Largest)
    }),
    ("", "ReduceMin", |node, at| {
        reduce(node, at, Reduced::Smallest)
    }),
    ("", "GlobalMaxPool", |_, at| places(at, Reduced::Largest)),
    ("", "GlobalAveragePool", |_, at| places(at, Reduced::Mean)),
    ("", "Softmax", |node, at| softmax(node, at, false)),
    ("", "LogSoftmax", |node, at| softmax(node, at, true)),
    ("", "MaxPool", |node, at| pool(node, at, Pooled::Maximum)),
    ("", "AveragePool", |node, at| {
        let counts_padding = node.int("count_include_pad").unwrap_or(0) != 0;
        pool(node, at, Pooled::Mean { counts_padding })
    }),
];

/// Over all places of each channel.
fn places(output: usize, reduced: Reduced) -> Option<Box<dyn Function>> {
    first(
        output,
        AxisReduction {
            axes: |inputs: &Arguments| Ok((2..data(inputs)?.dims.len()).collect()),
            keeps_axes: true,
            reduced,
        },
    )
}

fn reduce(node: &NodeView, output: usize, reduced: Reduced) -> Option<Box<dyn Function>> {
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
        AxisReduction {
            axes: of,
            keeps_axes: node.int("keepdims").unwrap_or(1) != 0,
            reduced,
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
