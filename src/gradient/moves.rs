//! Functions that give the same elements other places: their derivatives move them back.

use super::array::{FloatArray, rows, strides};
use super::broadcast::{common, expand, sum_to};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// The same elements under the extents of the second operand, as ONNX's Reshape reads them.
pub struct Reshaping {
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

/// Repeated to the extents of the second operand, where those are larger.
pub struct Expansion;

/// The derivative by the first operand, where it is wanted.
pub(super) fn first_pull_back(
    point: &Evaluated,
    wanted: &[bool],
    back: impl FnOnce(&FloatArray) -> Option<FloatArray>,
) -> Vec<Option<FloatArray>> {
    let x = point.input(0).filter(|_| wants(wanted, 0));
    vec![x.and_then(back)]
}

impl Reshaping {
    fn dims(&self, x: &FloatArray, wanted: &[i64]) -> Option<Vec<usize>> {
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

fn under(x: &FloatArray, dims: Option<Vec<usize>>) -> Result<FloatArray, Misfit> {
    match dims {
        Some(dims) if dims.iter().product::<usize>() == x.data.len() => {
            Ok(x.clone().reshaped(dims))
        }
        dims => Err(Misfit(format!("{:?} cannot become {dims:?}", x.dims))),
    }
}

impl Function for Reshaping {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        under(x, self.dims(x, &operand(inputs, 1)?.integers()))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            under(point.gradient, Some(x.dims.clone())).ok()
        })
    }
}

impl<F: Fn(&Arguments) -> Option<Vec<usize>> + Send + Sync> Function for Relabel<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        under(operand(inputs, 0)?, (self.dims)(inputs))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            under(point.gradient, Some(x.dims.clone())).ok()
        })
    }
}

pub(super) fn permuted(x: &FloatArray, order: &[usize]) -> FloatArray {
    let own = strides(&x.dims);
    let dims: Vec<usize> = order.iter().map(|axis| x.dims[*axis]).collect();
    let steps: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
    let mut out = FloatArray::zeros(&dims);
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
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        Ok(permuted(x, &self.order(x.dims.len())?))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
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

impl Function for Expansion {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let wanted: Vec<usize> = operand(inputs, 1)?
            .integers()
            .iter()
            .map(|dim| *dim as usize)
            .collect();
        let x = operand(inputs, 0)?;
        expand(x, &common(&x.dims, &wanted)?)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            Some(sum_to(point.gradient.clone(), &x.dims))
        })
    }
}
