//! Sums and means along axes, softmax.

use rayon::prelude::*;

use super::array::{CHUNK, FloatArray};
use super::broadcast::{expand, fold_to, sum_to, zip};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// What a reduction makes of the elements along axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduced {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The root of the sum of their squares.
    Length,
    /// The largest of them.
    Largest,
    /// The smallest.
    Smallest,
}

/// One number of all along axes, which follow from the operands.
pub struct AxisReduction<F> {
    /// The axes.
    pub axes: F,
    /// Whether reduced axes stay, with extent 1.
    pub keeps_axes: bool,
    /// What is made of the elements.
    pub reduced: Reduced,
}

impl<F: Fn(&Arguments) -> Result<Vec<usize>, Misfit>> AxisReduction<F> {
    /// Extents with the reduced axes as 1, and how many elements make one number.
    fn shape(&self, inputs: &Arguments) -> Result<(Vec<usize>, usize), Misfit> {
        let x = operand(inputs, 0)?;
        let mut dims = x.dims.clone();
        let mut count = 1;
        for axis in (self.axes)(inputs)? {
            count *= std::mem::replace(&mut dims[axis], 1);
        }
        Ok((dims, count))
    }
}

impl<F: Fn(&Arguments) -> Result<Vec<usize>, Misfit> + Send + Sync> Function for AxisReduction<F> {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (dims, count) = self.shape(inputs)?;
        let x = operand(inputs, 0)?;
        let reduced = match self.reduced {
            Reduced::Sum => sum_to(x.clone(), &dims),
            Reduced::Mean => sum_to(x.clone(), &dims).map(|x| x / count as f32),
            Reduced::Length => sum_to(x.map(|x| x * x), &dims).map(f32::sqrt),
            Reduced::Largest => fold_to(x, &dims, f32::NEG_INFINITY, f32::max),
            Reduced::Smallest => fold_to(x, &dims, f32::INFINITY, f32::min),
        };
        if self.keeps_axes {
            return Ok(reduced);
        }
        let axes = (self.axes)(inputs)?;
        let left = (0..dims.len()).filter(|axis| !axes.contains(axis));
        Ok(reduced.reshaped(left.map(|axis| dims[axis]).collect()))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let x = point.input(0)?;
            let (dims, count) = self.shape(point.inputs).ok()?;
            let output = point.output.clone().reshaped(dims.clone());
            let gradient = point.gradient.clone().reshaped(dims);
            let along = |gradient: &FloatArray| expand(gradient, &x.dims).ok();
            match self.reduced {
                Reduced::Sum => along(&gradient),
                Reduced::Mean => along(&gradient.map(|g| g / count as f32)),
                Reduced::Length => {
                    let share = |g: f32, length: f32| if length > 0.0 { g / length } else { 0.0 };
                    zip(&zip(&gradient, &output, share).ok()?, x, |g, x| g * x).ok()
                }
                Reduced::Largest | Reduced::Smallest => {
                    let taken = zip(x, &output, |x, y| f32::from(x == y)).ok()?;
                    zip(&taken, &gradient, |taken, g| taken * g).ok()
                }
            }
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
