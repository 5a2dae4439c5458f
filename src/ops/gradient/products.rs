//! Products with weights.

use super::{FunctionTable, first};
use crate::gradient::{
    AxisContraction, Convolution, Function, Gemm, MatMul, Permute, TransposedConvolution,
    WindowPadding,
};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "MatMul", |_, at| first(at, MatMul)),
    ("", "Gemm", gemm),
    ("", "Conv", convolution),
    ("", "ConvTranspose", transposed_convolution),
    ("", "Einsum", contraction),
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

/// With its padding given: what another size of the result asks for is not differentiated.
fn transposed_convolution(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let axes = node.shape(0)?.len().checked_sub(2)?;
    let padding = padding(node)?;
    let is_plain =
        matches!(padding, WindowPadding::Given(_)) && node.ints("output_shape").is_none();
    if !(1..=2).contains(&axes) || !is_plain {
        return None;
    }
    let of = Convolution {
        groups: usize::try_from(node.int("group").unwrap_or(1)).ok()?,
        strides: extents(node, "strides")?,
        dilations: extents(node, "dilations")?,
        padding,
    };
    let more = extents(node, "output_padding")?;
    first(output, TransposedConvolution { of, more })
}

/// A sum over two operands, or one operand with its axes in another order; no repeated axes, and no others left open.
fn contraction(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let equation: String = node.string("equation")?.split_whitespace().collect();
    let letters = |text: &str| -> Option<Vec<char>> {
        let all = text.chars();
        let all: Vec<char> = all.collect();
        all.iter().all(char::is_ascii_alphabetic).then_some(all)
    };
    let (read, result) = match equation.split_once("->") {
        Some((read, result)) => (read.to_owned(), letters(result)?),
        None => (equation.clone(), implied(&equation)),
    };
    let operands: Vec<Vec<char>> = read.split(',').map(letters).collect::<Option<_>>()?;
    match <[Vec<char>; 2]>::try_from(operands) {
        Ok(both) => first(output, AxisContraction::new(both, result)?),
        Err(one) => {
            let [only] = &one[..] else { return None };
            let place = |axis: &char| only.iter().position(|other| other == axis);
            let order: Option<Vec<usize>> = result.iter().map(place).collect();
            let order = order.filter(|order| order.len() == only.len())?;
            first(output, Permute { order: Some(order) })
        }
    }
}

/// The axes of a result that is not written: those that stand once, in alphabetical order.
fn implied(read: &str) -> Vec<char> {
    let mut letters: Vec<char> = read.chars().filter(|letter| *letter != ',').collect();
    letters.sort_unstable();
    let alone = |letter: &&char| letters.iter().filter(|other| other == letter).count() == 1;
    letters.iter().filter(alone).copied().collect()
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
