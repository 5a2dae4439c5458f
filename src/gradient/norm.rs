//! Normalisations: of each row by its own mean and variance, and of each channel by stored ones.

use super::array::Array;
use super::broadcast::{sum_to, zip};
use super::function::{Function, Misfit, Operands, Point, operand, wants};

/// (x − mean) / √(variance + ε) · scale + bias over the axes from `axis` on (layer normalisation, Ba et al. 2016), or
/// x / √(mean of x² + ε) · scale (root mean square normalisation, Zhang and Sennrich 2019). Operands: x, scale, bias.
pub struct LayerNorm {
    /// The first normalised axis, which may be counted from the end.
    pub axis: i64,
    /// ε.
    pub epsilon: f32,
    /// Whether the mean is taken off.
    pub is_centred: bool,
}

impl LayerNorm {
    /// How many elements a row has.
    fn row(&self, x: &Array) -> Result<usize, Misfit> {
        let rank = x.dims.len() as i64;
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        match usize::try_from(axis)
            .ok()
            .and_then(|axis| x.dims.get(axis..))
        {
            Some(dims) if !dims.is_empty() => Ok(dims.iter().product::<usize>().max(1)),
            _ => Err(Misfit(format!("{:?} has no axis {}", x.dims, self.axis))),
        }
    }

    /// Each row normalised, before scale and bias, and what its deviations were multiplied by.
    fn normalised(&self, x: &Array) -> Result<(Array, Vec<f32>), Misfit> {
        let row = self.row(x)?;
        let mut out = x.clone();
        let mut factors = Vec::with_capacity(x.data.len() / row);
        for row in out.data.chunks_mut(row) {
            let count = row.len() as f32;
            if self.is_centred {
                let mean = row.iter().sum::<f32>() / count;
                row.iter_mut().for_each(|x| *x -= mean);
            }
            let power = row.iter().map(|x| x * x).sum::<f32>() / count;
            let factor = 1.0 / (power + self.epsilon).sqrt();
            row.iter_mut().for_each(|x| *x *= factor);
            factors.push(factor);
        }
        Ok((out, factors))
    }

    /// Derivative by x: with g the gradient by the normalised row n, factor · (g − mean(g) − n · mean(g · n)).
    fn by_data(&self, normalised: &Array, factors: &[f32], scaled: Array) -> Array {
        let row = normalised.data.len() / factors.len().max(1);
        let mut out = scaled;
        let rows = out
            .data
            .chunks_mut(row.max(1))
            .zip(normalised.data.chunks(row.max(1)));
        for ((gradient, normal), factor) in rows.zip(factors) {
            let count = gradient.len() as f32;
            let mean = if self.is_centred {
                gradient.iter().sum::<f32>() / count
            } else {
                0.0
            };
            let along = gradient.iter().zip(normal).map(|(g, n)| g * n).sum::<f32>() / count;
            for (gradient, normal) in gradient.iter_mut().zip(normal) {
                *gradient = factor * (*gradient - mean - normal * along);
            }
        }
        out
    }
}

impl Function for LayerNorm {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let (mut out, _) = self.normalised(operand(inputs, 0)?)?;
        if let Some(scale) = inputs.get(1).copied().flatten() {
            out = zip(&out, scale, |x, scale| x * scale)?;
        }
        match inputs.get(2).copied().flatten() {
            Some(bias) => zip(&out, bias, |x, bias| x + bias),
            None => Ok(out),
        }
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        let back = || {
            let (normalised, factors) = self.normalised(point.input(0)?).ok()?;
            let by_data = wants(wanted, 0).then(|| {
                let scaled = match point.input(1) {
                    Some(scale) => zip(point.gradient, scale, |gradient, scale| gradient * scale),
                    None => Ok(point.gradient.clone()),
                };
                scaled
                    .ok()
                    .map(|scaled| self.by_data(&normalised, &factors, scaled))
            });
            let by_scale = point
                .input(1)
                .filter(|_| wants(wanted, 1))
                .and_then(|scale| {
                    let product = zip(point.gradient, &normalised, |gradient, normal| {
                        gradient * normal
                    });
                    Some(sum_to(product.ok()?, &scale.dims))
                });
            let by_bias = point
                .input(2)
                .filter(|_| wants(wanted, 2))
                .map(|bias| sum_to(point.gradient.clone(), &bias.dims));
            Some(vec![by_data.flatten(), by_scale, by_bias])
        };
        back().unwrap_or_default()
    }
}

/// (x − mean) / √(variance + ε) · scale + bias with stored moments of each channel (axis 1), which are held fixed (Ioffe and
/// Szegedy 2015, at inference). Operands: x, scale, bias, mean, variance.
pub struct StoredNorm {
    /// ε.
    pub epsilon: f32,
}

impl StoredNorm {
    /// Numbers of the channels, one behind the other, seen as channels of x.
    fn channels(x: &Array, numbers: &[f32]) -> Result<Array, Misfit> {
        if x.dims.get(1) != Some(&numbers.len()) {
            return Err(Misfit(format!(
                "{} channels for {:?}",
                numbers.len(),
                x.dims
            )));
        }
        let mut dims = vec![1; x.dims.len()];
        dims[1] = numbers.len();
        Ok(Array::new(dims, numbers.to_vec()))
    }

    /// What the deviations are multiplied by to have a variance of 1.
    fn factors(&self, x: &Array, inputs: &Operands) -> Result<Array, Misfit> {
        let variance = operand(inputs, 4)?;
        let factors = variance.map(|variance| 1.0 / (variance + self.epsilon).sqrt());
        Self::channels(x, &factors.data)
    }

    fn normalised(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let x = operand(inputs, 0)?;
        let mean = Self::channels(x, &operand(inputs, 3)?.data)?;
        let centred = zip(x, &mean, |x, mean| x - mean)?;
        zip(&centred, &self.factors(x, inputs)?, |x, factor| x * factor)
    }
}

impl Function for StoredNorm {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let x = operand(inputs, 0)?;
        let scale = Self::channels(x, &operand(inputs, 1)?.data)?;
        let bias = Self::channels(x, &operand(inputs, 2)?.data)?;
        let scaled = zip(&self.normalised(inputs)?, &scale, |x, scale| x * scale)?;
        zip(&scaled, &bias, |x, bias| x + bias)
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        let by_data = || {
            let (x, scale) = (point.input(0)?, point.input(1)?);
            let scale = Self::channels(x, &scale.data).ok()?;
            let factors = self.factors(x, point.inputs).ok()?;
            let both = zip(&scale, &factors, |scale, factor| scale * factor).ok()?;
            zip(point.gradient, &both, |gradient, both| gradient * both).ok()
        };
        let summed = |array: Array| {
            let mut dims = vec![1; array.dims.len()];
            dims[1] = array.dims[1];
            let sum = sum_to(array, &dims);
            let count = sum.data.len();
            sum.reshaped(vec![count])
        };
        let by_scale = || {
            let normalised = self.normalised(point.inputs).ok()?;
            let product = zip(point.gradient, &normalised, |gradient, normal| {
                gradient * normal
            });
            product.ok().map(summed)
        };
        let by_bias = || Some(summed(point.gradient.clone()));
        vec![
            wants(wanted, 0).then(by_data).flatten(),
            wants(wanted, 1).then(by_scale).flatten(),
            wants(wanted, 2).then(by_bias).flatten(),
        ]
    }
}
