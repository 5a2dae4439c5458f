//! Normalisations: of each row by its own mean and variance, and of each channel by stored ones.

use rayon::prelude::*;

use super::array::{FloatArray, dot, sum};
use super::broadcast::{sum_to, zip};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// Rows that one task goes through, at least.
const ROWS: usize = 64;

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
    fn row(&self, x: &FloatArray) -> Result<usize, Misfit> {
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
    pub(super) fn normalised(&self, x: &FloatArray) -> Result<(FloatArray, Vec<f32>), Misfit> {
        let row = self.row(x)?;
        let mut out = x.clone();
        let normalise = |row: &mut [f32]| {
            let count = row.len() as f32;
            if self.is_centred {
                let mean = sum(row) / count;
                row.iter_mut().for_each(|x| *x -= mean);
            }
            let factor = 1.0 / (dot(row, row) / count + self.epsilon).sqrt();
            row.iter_mut().for_each(|x| *x *= factor);
            factor
        };
        let rows = out.data.par_chunks_mut(row).with_min_len(ROWS);
        let factors = rows.map(normalise).collect();
        Ok((out, factors))
    }

    /// Derivative by x: with g the gradient by the normalised row n, factor · (g − mean(g) − n · mean(g · n)).
    pub(super) fn by_data(
        &self,
        normalised: &FloatArray,
        factors: &[f32],
        scaled: FloatArray,
    ) -> FloatArray {
        let row = (normalised.data.len() / factors.len().max(1)).max(1);
        let mut out = scaled;
        let rows = out.data.par_chunks_mut(row).with_min_len(ROWS);
        let others = normalised.data.par_chunks(row).zip(factors);
        rows.zip(others).for_each(|(gradient, (normal, factor))| {
            let count = gradient.len() as f32;
            let mean = match self.is_centred {
                true => sum(gradient) / count,
                false => 0.0,
            };
            let along = dot(gradient, normal) / count;
            for (gradient, normal) in gradient.iter_mut().zip(normal) {
                *gradient = factor * (*gradient - mean - normal * along);
            }
        });
        out
    }
}

impl Function for LayerNorm {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (mut out, _) = self.normalised(operand(inputs, 0)?)?;
        if let Some(scale) = inputs.get(1).copied().flatten() {
            out = zip(&out, scale, |x, scale| x * scale)?;
        }
        match inputs.get(2).copied().flatten() {
            Some(bias) => zip(&out, bias, |x, bias| x + bias),
            None => Ok(out),
        }
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
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

/// What a stored norm makes of a channel.
struct ChannelMap {
    mean: f32,
    /// 1 / √(variance + ε).
    factor: f32,
    scale: f32,
    bias: f32,
}

impl StoredNorm {
    fn channels(&self, inputs: &Arguments) -> Result<Vec<ChannelMap>, Misfit> {
        let x = operand(inputs, 0)?;
        let of = |at: usize| operand(inputs, at).map(|array| &array.data);
        let [scale, bias, mean, variance] = [of(1)?, of(2)?, of(3)?, of(4)?];
        let count = x.dims.get(1).copied().unwrap_or(0);
        if [scale, bias, mean, variance]
            .iter()
            .any(|numbers| numbers.len() != count)
        {
            return Err(Misfit(format!("{} channels for {:?}", scale.len(), x.dims)));
        }
        let channel = |at: usize| ChannelMap {
            mean: mean[at],
            factor: 1.0 / (variance[at] + self.epsilon).sqrt(),
            scale: scale[at],
            bias: bias[at],
        };
        Ok((0..count).map(channel).collect())
    }

    /// How many elements a channel of a sample has.
    fn plane(x: &FloatArray) -> usize {
        x.dims.iter().skip(2).product()
    }
}

impl Function for StoredNorm {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let channels = self.channels(inputs)?;
        let mut out = operand(inputs, 0)?.clone();
        let plane = Self::plane(&out).max(1);
        let planes = out.data.par_chunks_mut(plane).enumerate();
        planes.for_each(|(at, plane)| {
            let channel = &channels[at % channels.len()];
            let slope = channel.factor * channel.scale;
            plane
                .iter_mut()
                .for_each(|x| *x = (*x - channel.mean) * slope + channel.bias);
        });
        Ok(out)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let (Some(x), Ok(channels)) = (point.input(0), self.channels(point.inputs)) else {
            return Vec::new();
        };
        let (plane, count) = (Self::plane(x).max(1), channels.len());
        let by_data = wants(wanted, 0).then(|| {
            let mut out = point.gradient.clone();
            let planes = out.data.par_chunks_mut(plane).enumerate();
            planes.for_each(|(at, plane)| {
                let slope = channels[at % count].factor * channels[at % count].scale;
                plane.iter_mut().for_each(|gradient| *gradient *= slope);
            });
            out
        });
        // Sums over samples and places, each channel by itself.
        let sums: Vec<[f32; 2]> = (0..count)
            .into_par_iter()
            .map(|channel| {
                let map = &channels[channel];
                let (mut along, mut all) = (0.0f64, 0.0f64);
                let planes = x.data.chunks(plane).zip(point.gradient.data.chunks(plane));
                for (x, gradient) in planes.skip(channel).step_by(count) {
                    let gradients = sum(gradient);
                    along += f64::from(dot(x, gradient) - map.mean * gradients);
                    all += f64::from(gradients);
                }
                [map.factor * along as f32, all as f32]
            })
            .collect();
        let of = |at: usize| {
            let data = sums.iter().map(|sums| sums[at]).collect();
            wants(wanted, at + 1).then(|| FloatArray::new(vec![count], data))
        };
        vec![by_data, of(0), of(1)]
    }
}
