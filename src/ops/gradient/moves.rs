//! Functions that move elements about.

use super::{FunctionTable, MICROSOFT, axes, data, first, given};
use crate::gradient::{
    Arguments, AxisBlocks, AxisPart, Concatenation, Expansion, FloatArray, Function, Lookup,
    Misfit, PadFunction, PaddedEnds, Permute, Rearrangement, Relabel, Reshaping, Slicing, Tiling,
};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "Reshape", |node, at| {
        // Version 1 has the extents as an attribute.
        let allows_zero = node.int("allowzero").unwrap_or(0) != 0;
        node.has_input(1)
            .then(|| first(at, Reshaping { allows_zero }))
            .flatten()
    }),
    ("", "Flatten", flatten),
    ("", "Squeeze", |node, at| without_axes(node, at)),
    ("", "Unsqueeze", |node, at| with_axes(node, at)),
    ("", "Transpose", transpose),
    ("", "Concat", |node, at| {
        first(
            at,
            Concatenation {
                axis: node.int("axis")?,
            },
        )
    }),
    ("", "Split", split),
    ("", "Slice", slice),
    ("", "Gather", |node, at| {
        first(
            at,
            Lookup {
                axis: node.int("axis").unwrap_or(0),
            },
        )
    }),
    ("", "Expand", |_, at| first(at, Expansion)),
    ("", "Tile", |node, at| {
        // Version 1 has tiles and axis as operands.
        (node.opset > 5).then(|| first(at, Tiling)).flatten()
    }),
    ("", "DepthToSpace", depth_to_space),
    ("", "SpaceToDepth", space_to_depth),
    ("", "Pad", pad),
    (MICROSOFT, "Pad", pad),
];

fn flatten(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let axis = node.int("axis").unwrap_or(1);
    let dims = move |inputs: &Arguments| {
        let dims = &given(inputs, 0)?.dims;
        let axis = if axis < 0 {
            axis + dims.len() as i64
        } else {
            axis
        };
        let (before, after) = dims.split_at_checked(usize::try_from(axis).ok()?)?;
        Some(vec![before.iter().product(), after.iter().product()])
    };
    first(output, Relabel { dims })
}

/// Axes as an attribute (old versions), or as the second operand.
fn axes_of(attribute: Option<&[i64]>, inputs: &Arguments) -> Option<Vec<i64>> {
    attribute
        .map(<[i64]>::to_vec)
        .or_else(|| given(inputs, 1).map(FloatArray::integers))
}

fn without_axes(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let attribute = node.ints("axes").map(<[i64]>::to_vec);
    let dims = move |inputs: &Arguments| {
        let dims = &given(inputs, 0)?.dims;
        let gone: Vec<usize> = match axes_of(attribute.as_deref(), inputs) {
            Some(list) => axes(&list, dims.len()).ok()?,
            None => (0..dims.len()).filter(|axis| dims[*axis] == 1).collect(),
        };
        let kept = dims
            .iter()
            .enumerate()
            .filter(|(axis, _)| !gone.contains(axis));
        Some(kept.map(|(_, dim)| *dim).collect())
    };
    first(output, Relabel { dims })
}

fn with_axes(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let attribute = node.ints("axes").map(<[i64]>::to_vec);
    let dims = move |inputs: &Arguments| {
        let dims = &given(inputs, 0)?.dims;
        let list = axes_of(attribute.as_deref(), inputs)?;
        let rank = dims.len() + list.len();
        let added = axes(&list, rank).ok()?;
        let mut old = dims.iter().copied();
        (0..rank)
            .map(|axis| {
                if added.contains(&axis) {
                    Some(1)
                } else {
                    old.next()
                }
            })
            .collect()
    };
    first(output, Relabel { dims })
}

fn transpose(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let order = match node.ints("perm") {
        Some(order) => Some(axes(order, order.len()).ok()?),
        None => None,
    };
    first(output, Permute { order })
}

/// One of the pieces that an axis is split into: of given extents, or of equal ones, the last one smaller.
fn split(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let axis = node.int("axis").unwrap_or(0);
    let attribute = node.ints("split").map(<[i64]>::to_vec);
    let pieces = node
        .int("num_outputs")
        .map_or(node.outputs.len(), |count| count.max(1) as usize);
    let parts = move |inputs: &Arguments| {
        let dims = &data(inputs)?.dims;
        let axis = axes(&[axis], dims.len())?[0];
        let equal = dims[axis].div_ceil(pieces.max(1));
        let (start, count) = match axes_of(attribute.as_deref(), inputs) {
            Some(extents) => {
                let before: i64 = extents.iter().take(output).sum();
                (
                    before as usize,
                    extents.get(output).copied().unwrap_or(0) as usize,
                )
            }
            None => {
                let start = (equal * output).min(dims[axis]);
                (start, equal.min(dims[axis] - start))
            }
        };
        Ok(vec![AxisPart {
            axis,
            start,
            count,
            step: 1,
        }])
    };
    Some(Box::new(Slicing { parts }))
}

fn slice(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let [starts, ends, axes_given] =
        ["starts", "ends", "axes"].map(|name| node.ints(name).map(<[i64]>::to_vec));
    let parts = move |inputs: &Arguments| {
        let dims = &data(inputs)?.dims;
        let list = |attribute: &Option<Vec<i64>>, at: usize| {
            attribute
                .clone()
                .or_else(|| given(inputs, at).map(FloatArray::integers))
        };
        let missing = || Misfit("a slice without ends".to_owned());
        let starts = list(&starts, 1).ok_or_else(missing)?;
        let ends = list(&ends, 2).ok_or_else(missing)?;
        let which = list(&axes_given, 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(&None, 4).unwrap_or_else(|| vec![1; starts.len()]);
        let which = axes(&which, dims.len())?;
        let each = which.iter().zip(starts.iter().zip(&ends)).zip(&steps);
        each.map(|((axis, (start, end)), step)| {
            part(*axis, dims[*axis] as i64, [*start, *end, *step])
        })
        .collect()
    };
    first(output, Slicing { parts })
}

/// What start, end and step take of an axis, as the standard reads them.
fn part(axis: usize, extent: i64, [start, end, step]: [i64; 3]) -> Result<AxisPart, Misfit> {
    if step == 0 {
        return Err(Misfit("a slice with a step of 0".to_owned()));
    }
    let from_start = |at: i64| {
        if at < 0 {
            at.saturating_add(extent)
        } else {
            at
        }
    };
    let (start, end) = (from_start(start), from_start(end));
    let (start, end) = match step > 0 {
        true => (start.clamp(0, extent), end.clamp(0, extent)),
        false => (start.clamp(0, extent - 1), end.clamp(-1, extent - 1)),
    };
    let count = (end - start + step - step.signum()) / step;
    Ok(AxisPart {
        axis,
        start: start.max(0) as usize,
        count: count.max(0) as usize,
        step: step as isize,
    })
}

/// Channels into blocks of places, the blocks or the channels first.
fn depth_to_space(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let block = usize::try_from(node.int("blocksize")?).ok()?;
    let blocks_first = node.string("mode").unwrap_or("DCR") == "DCR";
    let blocks = move |dims: &[usize]| {
        let [batch, channels, height, width] = *dims else {
            return None;
        };
        let left = channels.checked_div(block * block)?;
        let (split, order) = match blocks_first {
            true => (
                [batch, block, block, left, height, width],
                [0, 3, 4, 1, 5, 2],
            ),
            false => (
                [batch, left, block, block, height, width],
                [0, 1, 4, 2, 5, 3],
            ),
        };
        Some(AxisBlocks {
            split: split.into(),
            order: order.into(),
            merged: vec![batch, left, height * block, width * block],
        })
    };
    first(output, Rearrangement { blocks })
}

/// AxisBlocks of places into channels.
fn space_to_depth(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let block = usize::try_from(node.int("blocksize")?).ok()?;
    let blocks = move |dims: &[usize]| {
        let [batch, channels, height, width] = *dims else {
            return None;
        };
        let (high, wide) = (height.checked_div(block)?, width.checked_div(block)?);
        Some(AxisBlocks {
            split: vec![batch, channels, high, block, wide, block],
            order: vec![0, 3, 5, 1, 2, 4],
            merged: vec![batch, channels * block * block, high, wide],
        })
    };
    first(output, Rearrangement { blocks })
}

/// Constant padding that crops nothing.
fn pad(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    if node.string("mode").is_some_and(|mode| mode != "constant") {
        return None;
    }
    let (attribute, fill) = (
        node.ints("pads").map(<[i64]>::to_vec),
        node.float("value").unwrap_or(0.0),
    );
    let ends = move |inputs: &Arguments| {
        let rank = data(inputs)?.dims.len();
        let pads = axes_of(attribute.as_deref(), inputs)
            .ok_or_else(|| Misfit("a pad without extents".to_owned()))?;
        let half = pads.len() / 2;
        let which = match given(inputs, 3) {
            Some(list) => axes(&list.integers(), rank)?,
            None => (0..half).collect(),
        };
        let mut counts = vec![(0, 0); rank];
        for (at, axis) in which.into_iter().enumerate().take(half) {
            let end = |at: usize| {
                usize::try_from(pads[at]).map_err(|_| Misfit("a pad that crops".to_owned()))
            };
            counts[axis] = (end(at)?, end(half + at)?);
        }
        let fill = given(inputs, 2)
            .and_then(|fill| fill.data.first().copied())
            .unwrap_or(fill);
        Ok(PaddedEnds { counts, fill })
    };
    first(output, PadFunction { ends })
}
