//! Functions that only move elements about: their derivatives move them back.

use super::array::{Array, rows, strides};
use super::broadcast::{common, expand, sum_to};
use super::function::{Function, Misfit, Operands, Point, operand, wants};

/// The same elements under the extents of the second operand, as ONNX's Reshape reads them.
pub struct Reshape {
    /// Whether a 0 is an extent, and not a copy of the operand's.
    pub allows_zero: bool,
}

/// The same elements under extents that follow from those of the operand.
pub struct Relabel<F> {
    /// The extents; `None` where they do not fit.
    pub dims: F,
}

/// Axes in another order: output axis `i` is input axis `order[i]`; without an order, the axes reversed.
pub struct Permute {
    /// The order.
    pub order: Option<Vec<usize>>,
}

/// Every `step`th index of one axis from `start` on, `count` of them.
#[derive(Clone, Copy, Debug)]
pub struct Part {
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
pub struct Slice<F> {
    /// The parts; an error where the operands do not fit.
    pub parts: F,
}

/// Operands one behind the other along an axis, which may be counted from the end.
pub struct Concat {
    /// The axis.
    pub axis: i64,
}

/// Indices of an axis, given by the second operand.
pub struct Gather {
    /// The axis, which may be counted from the end.
    pub axis: i64,
}

/// Repeated to the extents of the second operand, where those are larger.
pub struct Expand;

/// Zeros, or a number, around the operand: for each axis how many before and after, which follow from the operands.
pub struct Pad<F> {
    /// How many of each axis.
    pub ends: F,
}

fn first_pull_back(
    point: &Point,
    wanted: &[bool],
    back: impl FnOnce(&Array) -> Option<Array>,
) -> Vec<Option<Array>> {
    let x = point.input(0).filter(|_| wants(wanted, 0));
    vec![x.and_then(back)]
}

fn axis_of(axis: i64, rank: usize) -> Result<usize, Misfit> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| Misfit(format!("there is no axis {axis} among {rank}")))
}

impl Reshape {
    fn dims(&self, x: &Array, wanted: &[i64]) -> Option<Vec<usize>> {
        let copied = |(axis, dim): (usize, &i64)| match *dim {
            0 if !self.allows_zero => x.dims.get(axis).map(|dim| *dim as i64),
            dim => Some(dim),
        };
        let dims: Vec<i64> = wanted
            .iter()
            .enumerate()
            .map(copied)
            .collect::<Option<_>>()?;
        let known: i64 = dims.iter().filter(|dim| **dim >= 0).product();
        let rest = x.data.len() as i64 / known.max(1);
        let dims = dims
            .iter()
            .map(|dim| if *dim < 0 { rest } else { *dim } as usize);
        Some(dims.collect())
    }
}

fn under(x: &Array, dims: Option<Vec<usize>>) -> Result<Array, Misfit> {
    match dims {
        Some(dims) if dims.iter().product::<usize>() == x.data.len() => {
            Ok(x.clone().reshaped(dims))
        }
        dims => Err(Misfit(format!("{:?} cannot become {dims:?}", x.dims))),
    }
}

impl Function for Reshape {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let x = operand(inputs, 0)?;
        under(x, self.dims(x, &operand(inputs, 1)?.integers()))
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |x| {
            under(point.gradient, Some(x.dims.clone())).ok()
        })
    }
}

impl<F: Fn(&Operands) -> Option<Vec<usize>> + Send + Sync> Function for Relabel<F> {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        under(operand(inputs, 0)?, (self.dims)(inputs))
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |x| {
            under(point.gradient, Some(x.dims.clone())).ok()
        })
    }
}

fn permuted(x: &Array, order: &[usize]) -> Array {
    let own = strides(&x.dims);
    let dims: Vec<usize> = order.iter().map(|axis| x.dims[*axis]).collect();
    let steps: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
    let mut out = Array::zeros(&dims);
    let (len, step) = (
        dims.last().copied().unwrap_or(1),
        steps.last().copied().unwrap_or(0),
    );
    let mut to = 0;
    rows(&dims, &[steps], |[from]| {
        let row = &mut out.data[to..to + len];
        if step == 1 {
            row.copy_from_slice(&x.data[from..from + len]);
        } else {
            for (at, to) in row.iter_mut().enumerate() {
                *to = x.data[from + at * step];
            }
        }
        to += len;
    });
    out
}

impl Permute {
    fn order(&self, rank: usize) -> Result<Vec<usize>, Misfit> {
        let order = self
            .order
            .clone()
            .unwrap_or_else(|| (0..rank).rev().collect());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        match sorted.iter().copied().eq(0..rank) {
            true => Ok(order),
            false => Err(Misfit(format!("{order:?} is no order of {rank} axes"))),
        }
    }
}

impl Function for Permute {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let x = operand(inputs, 0)?;
        Ok(permuted(x, &self.order(x.dims.len())?))
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |x| {
            let order = self.order(x.dims.len()).ok()?;
            let mut back = vec![0; order.len()];
            for (to, from) in order.iter().enumerate() {
                back[*from] = to;
            }
            Some(permuted(point.gradient, &back))
        })
    }
}

/// Calls `visit` with the offset in the whole and in the part of each run of elements, and with how many they are.
fn along(dims: &[usize], part: Part, mut visit: impl FnMut(usize, usize, usize)) {
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

fn cut(x: &Array, part: Part) -> Result<Array, Misfit> {
    let extent = x.dims.get(part.axis).copied().unwrap_or(0) as isize;
    let last = part.start as isize + part.step * (part.count as isize - 1);
    if part.count > 0 && (part.start as isize >= extent || !(0..extent).contains(&last)) {
        return Err(Misfit(format!("{part:?} is not within {:?}", x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[part.axis] = part.count;
    let mut out = Array::zeros(&dims);
    along(&x.dims, part, |from, to, len| {
        out.data[to..to + len].copy_from_slice(&x.data[from..from + len]);
    });
    Ok(out)
}

/// The transpose of [`cut`]: what is not in the part is zero.
fn uncut(part_of: &Array, part: Part, dims: &[usize]) -> Array {
    let mut out = Array::zeros(dims);
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

impl<F: Fn(&Operands) -> Result<Vec<Part>, Misfit> + Send + Sync> Function for Slice<F> {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let mut x = operand(inputs, 0)?.clone();
        for part in (self.parts)(inputs)? {
            x = cut(&x, part)?;
        }
        Ok(x)
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
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

impl Concat {
    fn parts<'a>(&self, inputs: &Operands<'a>) -> Result<(usize, Vec<(&'a Array, Part)>), Misfit> {
        let axis = axis_of(self.axis, operand(inputs, 0)?.dims.len())?;
        let mut start = 0;
        let mut parts = Vec::new();
        for array in inputs.iter().copied().flatten() {
            let count = *array
                .dims
                .get(axis)
                .ok_or_else(|| Misfit(format!("{:?} has no axis {axis}", array.dims)))?;
            parts.push((
                array,
                Part {
                    axis,
                    start,
                    count,
                    step: 1,
                },
            ));
            start += count;
        }
        Ok((start, parts))
    }
}

impl Function for Concat {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let (extent, parts) = self.parts(inputs)?;
        let first = operand(inputs, 0)?;
        let axis = axis_of(self.axis, first.dims.len())?;
        let mut dims = first.dims.clone();
        dims[axis] = extent;
        let mut out = Array::zeros(&dims);
        for (array, part) in parts {
            let others =
                |dims: &[usize]| -> Vec<usize> { [&dims[..axis], &dims[axis + 1..]].concat() };
            if array.dims.len() != dims.len() || others(&array.dims) != others(&dims) {
                return Err(Misfit(format!("{:?} does not join {dims:?}", array.dims)));
            }
            along(&dims, part, |to, from, len| {
                out.data[to..to + len].copy_from_slice(&array.data[from..from + len]);
            });
        }
        Ok(out)
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        let Ok((_, parts)) = self.parts(point.inputs) else {
            return Vec::new();
        };
        let mut parts = parts.into_iter();
        let one = |(at, input): (usize, &Option<&Array>)| {
            input.as_ref()?;
            let (_, part) = parts.next()?;
            wants(wanted, at)
                .then(|| cut(point.gradient, part).ok())
                .flatten()
        };
        point.inputs.iter().enumerate().map(one).collect()
    }
}

impl Gather {
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

impl Function for Gather {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let (table, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let axis = axis_of(self.axis, table.dims.len())?;
        let dims = [&table.dims[..axis], &indices.dims, &table.dims[axis + 1..]].concat();
        let mut out = Array::zeros(&dims);
        self.each(&table.dims, &indices.integers(), |from, to, len| {
            out.data[to..to + len].copy_from_slice(&table.data[from..from + len]);
        })?;
        Ok(out)
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |table| {
            let mut out = Array::zeros(&table.dims);
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

impl Function for Expand {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let wanted: Vec<usize> = operand(inputs, 1)?
            .integers()
            .iter()
            .map(|dim| *dim as usize)
            .collect();
        let x = operand(inputs, 0)?;
        expand(x, &common(&x.dims, &wanted)?)
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |x| {
            Some(sum_to(point.gradient.clone(), &x.dims))
        })
    }
}

/// How many elements come before and after each axis, and which number they are.
pub struct Ends {
    /// By axis.
    pub counts: Vec<(usize, usize)>,
    /// The number.
    pub fill: f32,
}

impl<F: Fn(&Operands) -> Result<Ends, Misfit> + Send + Sync> Function for Pad<F> {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let mut x = operand(inputs, 0)?.clone();
        let ends = (self.ends)(inputs)?;
        for (axis, (before, after)) in ends.counts.iter().enumerate().take(x.dims.len()) {
            let count = x.dims[axis];
            let mut dims = x.dims.clone();
            dims[axis] = before + count + after;
            let mut out = Array::full(&dims, ends.fill);
            let part = Part {
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

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        first_pull_back(point, wanted, |x| {
            let ends = (self.ends)(point.inputs).ok()?;
            let mut gradient = point.gradient.clone();
            for (axis, (before, _)) in ends.counts.iter().enumerate().take(x.dims.len()) {
                let part = Part {
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
