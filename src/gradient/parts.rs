//! Functions that take parts of axes, or put parts together: their derivatives put back what was taken.

use super::array::FloatArray;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::moves::first_pull_back;

/// Every `step`th index of one axis from `start` on, `count` of them.
#[derive(Clone, Copy, Debug)]
pub struct AxisPart {
    /// The axis.
    pub axis: usize,
    /// The first index.
    pub start: usize,
    /// How many.
    pub count: usize,
    /// From one to the next; below zero backwards.
    pub step: isize,
}

/// Parts of some axes, which follow from the operands.
pub struct Slicing<F> {
    /// The parts; an error where the operands do not fit.
    pub parts: F,
}

/// Operands one behind the other along an axis, which may be counted from the end.
pub struct Concatenation {
    /// The axis.
    pub axis: i64,
}

/// Indices of an axis, given by the second operand.
pub struct Lookup {
    /// The axis, which may be counted from the end.
    pub axis: i64,
}

/// Zeros, or a number, around the operand: for each axis how many before and after, which follow from the operands.
pub struct PadFunction<F> {
    /// How many of each axis.
    pub ends: F,
}

fn axis_of(axis: i64, rank: usize) -> Result<usize, Misfit> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| Misfit(format!("there is no axis {axis} among {rank}")))
}

/// Calls `visit` with the offset in the whole and in the part of each run of elements, and with how many they are.
fn along(dims: &[usize], part: AxisPart, mut visit: impl FnMut(usize, usize, usize)) {
    let before: usize = dims[..part.axis].iter().product();
    let after: usize = dims[part.axis + 1..].iter().product();
    for outer in 0..before {
        for at in 0..part.count {
            let index = (part.start as isize + at as isize * part.step) as usize;
            let whole = (outer * dims[part.axis] + index) * after;
            visit(whole, (outer * part.count + at) * after, after);
        }
    }
}

fn cut(x: &FloatArray, part: AxisPart) -> Result<FloatArray, Misfit> {
    let extent = x.dims.get(part.axis).copied().unwrap_or(0) as isize;
    let last = part.start as isize + part.step * (part.count as isize - 1);
    if part.count > 0 && (part.start as isize >= extent || !(0..extent).contains(&last)) {
        return Err(Misfit(format!("{part:?} is not within {:?}", x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[part.axis] = part.count;
    let mut out = FloatArray::zeros(&dims);
    along(&x.dims, part, |from, to, len| {
        out.data[to..to + len].copy_from_slice(&x.data[from..from + len]);
    });
    Ok(out)
}

/// The transpose of [`cut`]: what is not in the part is zero.
fn uncut(part_of: &FloatArray, part: AxisPart, dims: &[usize]) -> FloatArray {
    let mut out = FloatArray::zeros(dims);
    along(dims, part, |whole, from, len| {
        for (to, from) in out.data[whole..whole + len]
            .iter_mut()
            .zip(&part_of.data[from..])
        {
            *to += from;
        }
    });
    out
}

impl<F: Fn(&Arguments) -> Result<Vec<AxisPart>, Misfit> + Send + Sync> Function for Slicing<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let mut x = operand(inputs, 0)?.clone();
        for part in (self.parts)(inputs)? {
            x = cut(&x, part)?;
        }
        Ok(x)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            let parts = (self.parts)(point.inputs).ok()?;
            let mut dims = vec![x.dims.clone()];
            for part in &parts {
                let mut next = dims.last()?.clone();
                next[part.axis] = part.count;
                dims.push(next);
            }
            let mut gradient = point.gradient.clone();
            for (part, dims) in parts.iter().zip(&dims).rev() {
                gradient = uncut(&gradient, *part, dims);
            }
            Some(gradient)
        })
    }
}

/// Operands that are joined.
struct JoinedArrays<'a> {
    /// Extents of the result.
    dims: Vec<usize>,
    /// Each operand, and where it stands in the result.
    parts: Vec<(&'a FloatArray, AxisPart)>,
}

impl Concatenation {
    fn joined<'a>(&self, inputs: &Arguments<'a>) -> Result<JoinedArrays<'a>, Misfit> {
        let mut dims = operand(inputs, 0)?.dims.clone();
        let axis = axis_of(self.axis, dims.len())?;
        let mut parts = Vec::new();
        let mut start = 0;
        for array in inputs.iter().copied().flatten() {
            let mut others = array.dims.clone();
            let count = others
                .get_mut(axis)
                .map_or(0, |dim| std::mem::replace(dim, dims[axis]));
            if others != dims {
                return Err(Misfit(format!("{:?} does not join {dims:?}", array.dims)));
            }
            parts.push((
                array,
                AxisPart {
                    axis,
                    start,
                    count,
                    step: 1,
                },
            ));
            start += count;
        }
        dims[axis] = start;
        Ok(JoinedArrays { dims, parts })
    }
}

impl Function for Concatenation {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let JoinedArrays { dims, parts } = self.joined(inputs)?;
        let mut out = FloatArray::zeros(&dims);
        for (array, part) in parts {
            along(&dims, part, |to, from, len| {
                out.data[to..to + len].copy_from_slice(&array.data[from..from + len]);
            });
        }
        Ok(out)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let Ok(JoinedArrays { parts, .. }) = self.joined(point.inputs) else {
            return Vec::new();
        };
        let mut parts = parts.into_iter();
        let one = |(at, input): (usize, &Option<&FloatArray>)| {
            input.as_ref()?;
            let (_, part) = parts.next()?;
            wants(wanted, at)
                .then(|| cut(point.gradient, part).ok())
                .flatten()
        };
        point.inputs.iter().enumerate().map(one).collect()
    }
}

impl Lookup {
    /// Calls `visit` with offsets in the table and in the result, and with how many elements lie there.
    fn each(
        &self,
        table: &[usize],
        indices: &[i64],
        mut visit: impl FnMut(usize, usize, usize),
    ) -> Result<usize, Misfit> {
        let axis = axis_of(self.axis, table.len())?;
        let (extent, after) = (table[axis], table[axis + 1..].iter().product::<usize>());
        for outer in 0..table[..axis].iter().product() {
            for (at, index) in indices.iter().enumerate() {
                let index = if *index < 0 {
                    index + extent as i64
                } else {
                    *index
                };
                let index = usize::try_from(index)
                    .ok()
                    .filter(|index| *index < extent)
                    .ok_or_else(|| Misfit(format!("index {index} of {extent}")))?;
                visit(
                    (outer * extent + index) * after,
                    (outer * indices.len() + at) * after,
                    after,
                );
            }
        }
        Ok(axis)
    }
}

impl Function for Lookup {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (table, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let axis = axis_of(self.axis, table.dims.len())?;
        let dims = [&table.dims[..axis], &indices.dims, &table.dims[axis + 1..]].concat();
        let mut out = FloatArray::zeros(&dims);
        self.each(&table.dims, &indices.integers(), |from, to, len| {
            out.data[to..to + len].copy_from_slice(&table.data[from..from + len]);
        })?;
        Ok(out)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |table| {
            let mut out = FloatArray::zeros(&table.dims);
            let indices = point.input(1)?.integers();
            self.each(&table.dims, &indices, |to, from, len| {
                for (to, from) in out.data[to..to + len]
                    .iter_mut()
                    .zip(&point.gradient.data[from..])
                {
                    *to += from;
                }
            })
            .ok()?;
            Some(out)
        })
    }
}

/// How many elements come before and after each axis, and which number they are.
pub struct PaddedEnds {
    /// By axis.
    pub counts: Vec<(usize, usize)>,
    /// The number.
    pub fill: f32,
}

impl<F: Fn(&Arguments) -> Result<PaddedEnds, Misfit> + Send + Sync> Function for PadFunction<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let mut x = operand(inputs, 0)?.clone();
        let ends = (self.ends)(inputs)?;
        for (axis, (before, after)) in ends.counts.iter().enumerate().take(x.dims.len()) {
            let count = x.dims[axis];
            let mut dims = x.dims.clone();
            dims[axis] = before + count + after;
            let mut out = FloatArray::full(&dims, ends.fill);
            let part = AxisPart {
                axis,
                start: *before,
                count,
                step: 1,
            };
            along(&dims, part, |to, from, len| {
                out.data[to..to + len].copy_from_slice(&x.data[from..from + len]);
            });
            x = out;
        }
        Ok(x)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            let ends = (self.ends)(point.inputs).ok()?;
            let mut gradient = point.gradient.clone();
            for (axis, (before, _)) in ends.counts.iter().enumerate().take(x.dims.len()) {
                let part = AxisPart {
                    axis,
                    start: *before,
                    count: x.dims[axis],
                    step: 1,
                };
                gradient = cut(&gradient, part).ok()?;
            }
            Some(gradient)
        })
    }
}
