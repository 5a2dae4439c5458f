//! Interpolation axis by axis: each place of the result is a weighted sum of places of the data.

use rayon::prelude::*;

use super::array::FloatArray;
use super::function::{Arguments, Evaluated, Function, Misfit, operand};
use super::moves::first_pull_back;

/// What each place along an axis of the result is made of: places of the data, and their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisWeights {
    /// The axis.
    pub axis: usize,
    /// Place by place.
    pub places: Vec<Vec<(usize, f32)>>,
}

/// A resized array: what axes are made of is found from the operands, of which the first is the data.
pub struct Interpolation<F> {
    /// The axes that change. Errors: operands that do not fit.
    pub axes: F,
}

/// One axis after the other.
fn forward(x: &FloatArray, weights: &AxisWeights) -> FloatArray {
    let [_, extent, after] = x.around(weights.axis);
    let mut dims = x.dims.clone();
    dims[weights.axis] = weights.places.len();
    let mut out = FloatArray::zeros(&dims);
    let blocks = out
        .data
        .par_chunks_mut((weights.places.len() * after).max(1));
    let read = x.data.par_chunks((extent * after).max(1));
    blocks.zip(read).for_each(|(out, x)| {
        for (out, sources) in out.chunks_mut(after.max(1)).zip(&weights.places) {
            for (from, weight) in sources {
                let row = &x[from * after..][..after];
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, x)| *out += weight * x);
            }
        }
    });
    out
}

/// The transpose of that; `dims` are those of the data.
fn backward(gradient: &FloatArray, weights: &AxisWeights, dims: &[usize]) -> FloatArray {
    let mut out = FloatArray::zeros(dims);
    let [_, extent, after] = out.around(weights.axis);
    let blocks = out.data.par_chunks_mut((extent * after).max(1));
    let read = gradient
        .data
        .par_chunks((weights.places.len() * after).max(1));
    blocks.zip(read).for_each(|(out, gradient)| {
        for (gradient, sources) in gradient.chunks(after.max(1)).zip(&weights.places) {
            for (to, weight) in sources {
                let row = &mut out[to * after..][..after];
                row.iter_mut()
                    .zip(gradient)
                    .for_each(|(out, gradient)| *out += weight * gradient);
            }
        }
    });
    out
}

impl<F: Fn(&Arguments) -> Result<Vec<AxisWeights>, Misfit> + Send + Sync> Function
    for Interpolation<F>
{
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let axes = (self.axes)(inputs)?;
        let x = operand(inputs, 0)?.clone();
        Ok(axes.iter().fold(x, |x, weights| forward(&x, weights)))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        first_pull_back(point, wanted, |x| {
            let axes = (self.axes)(point.inputs).ok()?;
            // Extents before each axis was changed.
            let mut dims = vec![x.dims.clone()];
            for weights in &axes {
                let mut next = dims.last()?.clone();
                next[weights.axis] = weights.places.len();
                dims.push(next);
            }
            let steps = axes.iter().zip(&dims).rev();
            Some(
                steps.fold(point.gradient.clone(), |gradient, (weights, dims)| {
                    backward(&gradient, weights, dims)
                }),
            )
        })
    }
}
