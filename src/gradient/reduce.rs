//! Sums and means along axes, softmax.

use rayon::prelude::*;

use super::array::{CHUNK, FloatArray};
use super::broadcast::{expand, sum_to};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// The sum or the mean along axes, which follow from the operands.
pub struct AxisSum<F> {
    /// The axes.
    pub axes: F,
    /// Whether reduced axes stay, with extent 1.
    pub keeps_axes: bool,
    /// Whether the sum is divided by the number of what was added.
    pub is_mean: bool,
}

impl<F: Fn(&Arguments) -> Result<Vec<usize>, Misfit>> AxisSum<F> {
    /// Extents with the reduced axes as 1, and what each sum is multiplied by.
    fn shape(&self, inputs: &Arguments) -> Result<(Vec<usize>, f32), Misfit> {
        let x = operand(inputs, 0)?;
        let mut dims = x.dims.clone();
        let mut count = 1;
        for axis in (self.axes)(inputs)? {
            count *= std::mem::replace(&mut dims[axis], 1);
        }
        Ok((
            dims,
            if self.is_mean {
                1.0 / count as f32
            } else {
                1.0
            },
        ))
    }
}

impl<F: Fn(&Arguments) -> Result<Vec<usize>, Misfit> + Send + Sync> Function for AxisSum<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (dims, scale) = self.shape(inputs)?;
        let x = operand(inputs, 0)?;
        let mut sum = sum_to(x.clone(), &dims);
        if scale != 1.0 {
            sum = sum.map(|x| x * scale);
        }
        if !self.keeps_axes {
            let axes = (self.axes)(inputs)?;
            let left = (0..dims.len()).filter(|axis| !axes.contains(axis));
            let left = left.map(|axis| dims[axis]).collect();
            sum = sum.reshaped(left);
        }
        Ok(sum)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let x = point.input(0)?;
            let (dims, scale) = self.shape(point.inputs).ok()?;
            let gradient = point.gradient.clone().reshaped(dims);
            expand(&gradient.map(|x| x * scale), &x.dims).ok()
        };
        vec![wants(wanted, 0).then(back).flatten()]
    }
}

/// e^x / Σ e^x along an axis (or from an axis on, in old versions), or the logarithm of that.
pub struct SoftmaxFunction<F> {
    /// The axes that are summed over, which follow from the rank: from one on, how many.
    pub axes: F,
    /// Whether its logarithm is the value.
    pub is_logarithm: bool,
}

impl<F: Fn(usize) -> Option<(usize, usize)>> SoftmaxFunction<F> {
    /// Extents before the axes, of them, and behind.
    fn around(&self, x: &FloatArray) -> Option<[usize; 3]> {
        let (first, count) = (self.axes)(x.dims.len())?;
        let part = |from: usize, to: usize| x.dims.get(from..to).map(|dims| dims.iter().product());
        Some([
            part(0, first)?,
            part(first, first + count)?,
            part(first + count, x.dims.len())?,
        ])
    }
}

/// Goes through the lines along the middle one of three axes: `visit` is given those of each array, and changes the last.
fn lines(
    [_, len, after]: [usize; 3],
    read: [&[f32]; 2],
    out: &mut [f32],
    visit: impl Fn([&[f32]; 2], &mut [f32]) + Sync,
) {
    let block = len * after;
    if block == 0 {
        return;
    }
    out.par_chunks_mut(block)
        .enumerate()
        .with_min_len(CHUNK.div_ceil(block))
        .for_each(|(outer, out)| {
            let own = read.map(|read| &read[outer * block..][..block]);
            if after == 1 {
                return visit(own, out);
            }
            let mut line = vec![0.0; len];
            for inner in 0..after {
                let one = own.map(|own| {
                    own.iter()
                        .skip(inner)
                        .step_by(after)
                        .copied()
                        .collect::<Vec<_>>()
                });
                visit([&one[0], &one[1]], &mut line);
                for (to, from) in out.iter_mut().skip(inner).step_by(after).zip(&line) {
                    *to = *from;
                }
            }
        });
}

impl<F: Fn(usize) -> Option<(usize, usize)> + Send + Sync> Function for SoftmaxFunction<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        let around = self
            .around(x)
            .ok_or_else(|| Misfit(format!("{:?} has no such axis", x.dims)))?;
        let mut out = FloatArray::zeros(&x.dims);
        lines(around, [&x.data, &x.data], &mut out.data, |[x, _], out| {
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let largest = if largest.is_finite() { largest } else { 0.0 };
            for (to, from) in out.iter_mut().zip(x) {
                *to = (from - largest).exp();
            }
            let sum: f32 = out.iter().sum();
            if self.is_logarithm {
                let log = sum.ln() + largest;
                for (to, from) in out.iter_mut().zip(x) {
                    *to = from - log;
                }
            } else {
                out.iter_mut().for_each(|out| *out /= sum);
            }
        });
        Ok(out)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let around = self.around(point.input(0)?)?;
            let mut out = FloatArray::zeros(&point.output.dims);
            let read: [&[f32]; 2] = [&point.output.data, &point.gradient.data];
            lines(around, read, &mut out.data, |[y, gradient], out| {
                if self.is_logarithm {
                    let sum: f32 = gradient.iter().sum();
                    for (to, (y, gradient)) in out.iter_mut().zip(y.iter().zip(gradient)) {
                        *to = gradient - y.exp() * sum;
                    }
                } else {
                    let sum: f32 = y
                        .iter()
                        .zip(gradient)
                        .map(|(y, gradient)| y * gradient)
                        .sum();
                    for (to, (y, gradient)) in out.iter_mut().zip(y.iter().zip(gradient)) {
                        *to = y * (gradient - sum);
                    }
                }
            });
            Some(out)
        };
        vec![wants(wanted, 0).then(back).flatten()]
    }
}
