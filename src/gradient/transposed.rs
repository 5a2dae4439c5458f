//! Transposed convolutions: the map by which a convolution's derivative goes back to its data.

use super::array::{FloatArray, sum};
use super::convolution::Convolution;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::window::WindowPadding;

/// A transposed convolution over one or two axes. Operands: x (batch × channels × extents), weight (channels × outputs of a group ×
/// extents), bias.
#[derive(Clone, Debug)]
pub struct TransposedConvolution {
    /// The convolution that it is the transpose of: from its results to its data.
    pub of: Convolution,
    /// So many places more at the end of each axis.
    pub more: Vec<usize>,
}

impl TransposedConvolution {
    /// Extents of the result. Errors: operands that do not fit.
    fn dims(&self, x: &FloatArray, weight: &FloatArray) -> Result<Vec<usize>, Misfit> {
        let refusal = || {
            Misfit(format!(
                "no transposed convolution of {:?} with {:?}",
                x.dims, weight.dims
            ))
        };
        let ([batch, channels, data @ ..], [into, per_group, kernel @ ..]) =
            (&x.dims[..], &weight.dims[..])
        else {
            return Err(refusal());
        };
        let WindowPadding::Given(ends) = &self.of.padding else {
            return Err(refusal());
        };
        if channels != into || data.len() != kernel.len() {
            return Err(refusal());
        }
        let mut dims = vec![*batch, per_group * self.of.groups];
        for (axis, (data, kernel)) in data.iter().zip(kernel).enumerate() {
            let of = |list: &[usize], least: usize| list.get(axis).copied().unwrap_or(least);
            let reach = of(&self.of.dilations, 1) * (kernel.max(&1) - 1) + 1;
            let cropped: usize = [axis, data_axes(ends) + axis]
                .iter()
                .map(|at| ends.get(*at).copied().unwrap_or(0))
                .sum();
            let whole = data.max(&1) - 1;
            let whole = whole * of(&self.of.strides, 1) + of(&self.more, 0) + reach;
            dims.push(whole.checked_sub(cropped).ok_or_else(refusal)?);
        }
        Ok(dims)
    }
}

/// How many axes paddings of both ends are for.
fn data_axes(ends: &[usize]) -> usize {
    ends.len() / 2
}

impl Function for TransposedConvolution {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let data = FloatArray::zeros(&self.dims(x, weight)?);
        let operands = [Some(&data), Some(weight)];
        // Places beside those of x would be left over: more of them than one stride says.
        if self.of.value(&operands)?.dims != x.dims {
            return Err(Misfit(format!(
                "{:?} is no result of {:?}",
                x.dims, data.dims
            )));
        }
        let point = Evaluated {
            inputs: &operands,
            output: x,
            gradient: x,
        };
        let mut pulled = self.of.pull_back(&point, &[true, false]);
        let out = pulled.first_mut().and_then(Option::take);
        let mut out = out.ok_or_else(|| Misfit("no transposed convolution".to_owned()))?;
        if let Some(bias) = inputs.get(2).copied().flatten() {
            let places: usize = out.dims[2..].iter().product();
            for (at, plane) in out.data.chunks_mut(places.max(1)).enumerate() {
                let bias = bias.data[at % bias.data.len().max(1)];
                plane.iter_mut().for_each(|y| *y += bias);
            }
        }
        Ok(out)
    }

    fn work(&self, inputs: &Arguments, _: &FloatArray) -> usize {
        let of = |at: usize| inputs.get(at).copied().flatten();
        let per_input = of(1).map_or(0, |weight| weight.dims[1..].iter().product());
        of(0).map_or(0, |x| x.data.len()) * per_input
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let (Some(x), Some(weight)) = (point.input(0), point.input(1)) else {
            return Vec::new();
        };
        // The gradient stands for the convolution's data.
        let operands = [Some(point.gradient), Some(weight)];
        let by_data = wants(wanted, 0).then(|| self.of.value(&operands).ok());
        let by_weight = wants(wanted, 1).then(|| {
            let point = Evaluated {
                inputs: &operands,
                output: x,
                gradient: x,
            };
            self.of.pull_back(&point, &[false, true]).get_mut(1)?.take()
        });
        let by_bias = point.input(2).filter(|_| wants(wanted, 2)).map(|bias| {
            let places: usize = point.gradient.dims[2..].iter().product();
            let mut sums = FloatArray::zeros(&bias.dims);
            let count = sums.data.len().max(1);
            for (at, plane) in point.gradient.data.chunks(places.max(1)).enumerate() {
                sums.data[at % count] += sum(plane);
            }
            sums
        });
        vec![by_data.flatten(), by_weight.flatten(), by_bias]
    }
}
