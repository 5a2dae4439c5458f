//! Functions of one array, element by element.

use rayon::prelude::*;

use super::array::{CHUNK, FloatArray};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// A function of a number with its derivative, which is given `(x, y = f(x))`.
pub struct Map<V, S> {
    /// f(x).
    pub value: V,
    /// f′(x).
    pub slope: S,
}

impl<V, S> Function for Map<V, S>
where
    V: Fn(f32) -> f32 + Send + Sync,
    S: Fn(f32, f32) -> f32 + Send + Sync,
{
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        Ok(operand(inputs, 0)?.map(&self.value))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let Some(x) = point.input(0).filter(|_| wants(wanted, 0)) else {
            return Vec::new();
        };
        let mut out = point.gradient.clone();
        let read = x
            .data
            .par_chunks(CHUNK)
            .zip(point.output.data.par_chunks(CHUNK));
        out.data
            .par_chunks_mut(CHUNK)
            .zip(read)
            .for_each(|(out, (x, y))| {
                for (gradient, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
                    *gradient *= (self.slope)(*x, *y);
                }
            });
        vec![Some(out)]
    }
}

/// The error function (Abramowitz and Stegun, *Handbook of Mathematical Functions*, 7.1.26, in double precision; error below
/// 1.5e-7).
pub fn erf(x: f32) -> f32 {
    let z = f64::from(x).abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let value = 1.0 - series * (-z * z).exp();
    (if x < 0.0 { -value } else { value }) as f32
}

/// Density of the standard normal distribution.
pub fn normal_density(x: f32) -> f32 {
    const ROOT: f32 = 0.398_942_3;
    ROOT * (-0.5 * x * x).exp()
}

/// Distribution of the standard normal.
pub fn normal_distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// 1 / (1 + e^−x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
