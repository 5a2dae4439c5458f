//! Fitting one layer's weights to rows of inputs and aims.
//!
//! Ridge regression on centred rows towards the weights that stand, W′ = (Tᵀ X + λW)(XᵀX + λ)⁻¹ with the bias free, λ chosen
//! by the held-out error. Before a ReLU the aim is one-sided: where the original is cut off at zero, anything below does as
//! well, so the rows' aims move with the fit (majorize, minimise), as in the asymmetric reconstruction of Zhang et al. 2015.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatRef, Par, Side};

use super::aim::Clamp;
use crate::calibrate::Moments;

/// How weights are mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Bias and a factor for each output channel, so that means and variances are the original's.
    Statistics,
    /// All weights, by ridge regression.
    #[default]
    LeastSquares,
}

/// One group of a layer: its rows, and how its output is used.
pub(super) struct Problem<'a> {
    pub inputs: &'a [f32],
    pub aims: &'a [f32],
    pub added: &'a [f32],
    pub held_inputs: &'a [f32],
    pub held_aims: &'a [f32],
    pub held_added: &'a [f32],
    pub columns: usize,
    pub channels: usize,
    pub scale: &'a [f64],
    pub offset: &'a [f64],
    pub function: Option<Clamp>,
    /// Whether there is a bias to fit.
    pub biased: bool,
}

/// Weights (channels × columns, row-major) and biases, with their error on the held-out rows.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    pub error: f64,
}

/// Ridges tried, as shares of the mean diagonal.
const RIDGES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];
/// Rounds in which one-sided aims move.
const ROUNDS: usize = 8;
/// Fewer rows than this for a column, and only bias and factors are fitted: the rest would be noise (onnxsim's README
/// measured the cliff).
const ROWS_PER_COLUMN: f64 = 2.0;

impl Problem<'_> {
    /// The best of what there is and what can be fitted, by the held-out error.
    pub fn solve(&self, weight: &[f64], bias: &[f64], method: Method) -> Fit {
        let mut best = Fit { weight: weight.to_vec(), bias: bias.to_vec(), error: self.error(weight, bias) };
        let rows = self.inputs.len() / self.columns.max(1);
        if rows < 2 || !best.error.is_finite() {
            return best;
        }
        let mut moments = Moments::new(1, self.columns);
        moments.add(self.inputs);
        let mean = if self.biased { moments.mean(0) } else { vec![0.0; self.columns] };
        let count = rows as f64;
        let gram = Mat::from_fn(self.columns, self.columns, |a, b| moments.gram[0][(a, b)] / count - mean[a] * mean[b]);
        let mut targets = self.targets();
        let crossed = self.cross(&mean, &targets);
        self.keep_better(&mut best, self.matched(weight, bias, &gram, &mean, &targets, &crossed.1));
        if method == Method::Statistics || count < ROWS_PER_COLUMN * self.columns as f64 {
            return best;
        }
        let diagonal = (0..self.columns).map(|at| gram[(at, at)]).sum::<f64>() / self.columns as f64;
        let mut chosen = RIDGES[1];
        let mut least = f64::INFINITY;
        for ridge in RIDGES {
            let Some(fit) = self.ridge(weight, &gram, &mean, &crossed, ridge * diagonal) else { continue };
            if fit.error < least {
                (least, chosen) = (fit.error, ridge);
            }
            self.keep_better(&mut best, fit);
        }
        if let Some(function) = self.function {
            let mut current = best.clone();
            for _ in 0..ROUNDS {
                self.move_targets(&mut targets, function, &current);
                let Some(fit) = self.ridge(weight, &gram, &mean, &self.cross(&mean, &targets), chosen * diagonal) else { break };
                current = fit.clone();
                self.keep_better(&mut best, fit);
            }
        }
        best
    }

    fn keep_better(&self, best: &mut Fit, fit: Fit) {
        if fit.error < best.error && fit.weight.iter().chain(&fit.bias).all(|number| number.is_finite()) {
            *best = fit;
        }
    }

    /// What the layer itself should give: the aims less what is added, through the affine part backwards.
    fn targets(&self) -> Vec<f32> {
        let mut targets = vec![0.0f32; self.aims.len()];
        for (at, (target, (aim, added))) in targets.iter_mut().zip(self.aims.iter().zip(self.added)).enumerate() {
            let channel = at % self.channels;
            *target = self.backwards(channel, aim - added);
        }
        targets
    }

    fn backwards(&self, channel: usize, sum: f32) -> f32 {
        let scale = self.scale[channel];
        // A channel that a norm silences is as good as any.
        if scale.abs() < 1e-12 { 0.0 } else { ((f64::from(sum) - self.offset[channel]) / scale) as f32 }
    }

    /// Where the function is flat in the original, the fit's own value will do if it lies there too.
    fn move_targets(&self, targets: &mut [f32], function: Clamp, fit: &Fit) {
        let outputs = self.product(self.inputs, &fit.weight);
        for (at, target) in targets.iter_mut().enumerate() {
            let channel = at % self.channels;
            let sum = (f64::from(outputs[at]) + fit.bias[channel]) * self.scale[channel] + self.offset[channel] + f64::from(self.added[at]);
            let aim = f64::from(self.aims[at]);
            let wanted = match () {
                () if aim <= function.low => sum.min(function.low),
                () if aim >= function.high => sum.max(function.high),
                () => aim,
            };
            *target = self.backwards(channel, (wanted - f64::from(self.added[at])) as f32);
        }
    }

    /// Mean squared error over the held-out rows, after the function.
    pub fn error(&self, weight: &[f64], bias: &[f64]) -> f64 {
        let outputs = self.product(self.held_inputs, weight);
        let clamp = |sum: f64| self.function.map_or(sum, |function| sum.max(function.low).min(function.high));
        let mut error = 0.0;
        for (at, output) in outputs.iter().enumerate() {
            let channel = at % self.channels;
            let sum = (f64::from(*output) + bias[channel]) * self.scale[channel] + self.offset[channel] + f64::from(self.held_added[at]);
            error += (clamp(sum) - clamp(f64::from(self.held_aims[at]))).powi(2);
        }
        error / outputs.len().max(1) as f64
    }

    /// rows × channels.
    fn product(&self, inputs: &[f32], weight: &[f64]) -> Vec<f32> {
        let rows = inputs.len() / self.columns.max(1);
        let weight: Vec<f32> = weight.iter().map(|number| *number as f32).collect();
        let mut outputs = vec![0.0f32; rows * self.channels];
        let target = faer::MatMut::from_row_major_slice_mut(&mut outputs, rows, self.channels);
        let inputs = MatRef::from_row_major_slice(inputs, rows, self.columns);
        let weight = MatRef::from_row_major_slice(&weight, self.channels, self.columns);
        matmul(target, Accum::Replace, inputs, weight.transpose(), 1.0, Par::rayon(0));
        outputs
    }

    /// channels × columns: covariance of targets and inputs; and the targets' means.
    fn cross(&self, mean: &[f64], targets: &[f32]) -> (Mat<f64>, Vec<f64>) {
        /// Rows whose products are added in single precision.
        const BLOCK: usize = 4096;
        let rows = self.inputs.len() / self.columns;
        let mut sum = Mat::<f64>::zeros(self.channels, self.columns);
        let mut part = Mat::<f32>::zeros(self.channels, self.columns);
        let mut means = vec![0.0; self.channels];
        for (inputs, targets) in self.inputs.chunks(BLOCK * self.columns).zip(targets.chunks(BLOCK * self.channels)) {
            let count = inputs.len() / self.columns;
            let inputs = MatRef::from_row_major_slice(inputs, count, self.columns);
            let matrix = MatRef::from_row_major_slice(targets, count, self.channels);
            matmul(part.as_mut(), Accum::Replace, matrix.transpose(), inputs, 1.0, Par::rayon(0));
            for column in 0..self.columns {
                for row in 0..self.channels {
                    sum[(row, column)] += f64::from(part[(row, column)]);
                }
            }
            for row in targets.chunks_exact(self.channels) {
                means.iter_mut().zip(row).for_each(|(mean, target)| *mean += f64::from(*target));
            }
        }
        means.iter_mut().for_each(|mean| *mean /= rows as f64);
        let cross = Mat::from_fn(self.channels, self.columns, |row, column| sum[(row, column)] / rows as f64 - means[row] * mean[column]);
        (cross, means)
    }

    fn ridge(&self, weight: &[f64], gram: &Mat<f64>, mean: &[f64], (cross, means): &(Mat<f64>, Vec<f64>), ridge: f64) -> Option<Fit> {
        let damped = Mat::from_fn(self.columns, self.columns, |a, b| gram[(a, b)] + if a == b { ridge } else { 0.0 });
        let right =
            Mat::from_fn(self.columns, self.channels, |column, row| cross[(row, column)] + ridge * weight[row * self.columns + column]);
        let solved = damped.llt(Side::Lower).ok()?.solve(&right);
        let new: Vec<f64> = (0..self.channels)
            .flat_map(|row| (0..self.columns).map(move |column| (row, column)))
            .map(|(row, column)| solved[(column, row)])
            .collect();
        let bias = self.free_bias(&new, mean, means);
        let error = self.error(&new, &bias);
        Some(Fit { weight: new, bias, error })
    }

    fn free_bias(&self, weight: &[f64], mean: &[f64], means: &[f64]) -> Vec<f64> {
        let at = |row: usize| means[row] - (0..self.columns).map(|column| weight[row * self.columns + column] * mean[column]).sum::<f64>();
        (0..self.channels).map(|row| if self.biased { at(row) } else { 0.0 }).collect()
    }

    /// The weights that stand, with a factor and a bias for each channel that give the targets' mean and variance.
    fn matched(&self, weight: &[f64], bias: &[f64], gram: &Mat<f64>, mean: &[f64], targets: &[f32], means: &[f64]) -> Fit {
        let rows = (targets.len() / self.channels).max(1) as f64;
        let mut variance = vec![0.0; self.channels];
        for row in targets.chunks_exact(self.channels) {
            variance.iter_mut().zip(row.iter().zip(means)).for_each(|(sum, (target, mean))| *sum += (f64::from(*target) - mean).powi(2));
        }
        let mut new = weight.to_vec();
        for channel in 0..self.channels {
            let row = &mut new[channel * self.columns..(channel + 1) * self.columns];
            let own: f64 = (0..self.columns).map(|a| row[a] * (0..self.columns).map(|b| gram[(a, b)] * row[b]).sum::<f64>()).sum();
            let factor = if own > 1e-12 { (variance[channel] / rows / own).sqrt().clamp(0.25, 4.0) } else { 1.0 };
            row.iter_mut().for_each(|number| *number *= factor);
        }
        let bias = if self.biased { self.free_bias(&new, mean, means) } else { bias.to_vec() };
        let error = self.error(&new, &bias);
        Fit { weight: new, bias, error }
    }
}

/// The weights of a product once some of its columns are gone and the others make up for them, from the moments of its
/// inputs alone: groups × rows × columns, zeros where columns are gone, and what is to be added to each channel's bias.
/// `None`: the covariance is singular.
pub fn local(matrix: &[f64], moments: &Moments, gone: &[bool]) -> Option<(Vec<f64>, Vec<f64>)> {
    /// As a share of the mean diagonal.
    const RIDGE: f64 = 1e-3;
    let columns = moments.columns();
    let rows = matrix.len() / (columns * moments.gram.len()).max(1);
    let stay: Vec<usize> = (0..columns).filter(|column| !gone[*column]).collect();
    let (mut new, mut bias) = (vec![0.0; matrix.len()], Vec::new());
    for group in 0..moments.gram.len() {
        let (covariance, mean) = (moments.covariance(group), moments.mean(group));
        let weight = |row: usize, column: usize| matrix[(group * rows + row) * columns + column];
        let ridge = RIDGE * (0..columns).map(|at| covariance[(at, at)]).sum::<f64>() / columns.max(1) as f64;
        let kept = Mat::from_fn(stay.len(), stay.len(), |a, b| covariance[(stay[a], stay[b])] + if a == b { ridge } else { 0.0 });
        let weights = Mat::from_fn(rows, columns, weight);
        let mut right = Mat::from_fn(columns, stay.len(), |column, b| covariance[(column, stay[b])]);
        stay.iter().enumerate().for_each(|(b, column)| right[(*column, b)] += ridge);
        let right = &weights * &right;
        let solved = kept.llt(Side::Lower).ok()?.solve(right.transpose());
        for row in 0..rows {
            let mut shift = (0..columns).map(|column| weight(row, column) * mean[column]).sum::<f64>();
            for (b, column) in stay.iter().enumerate() {
                new[(group * rows + row) * columns + column] = solved[(b, row)];
                shift -= solved[(b, row)] * mean[*column];
            }
            bias.push(shift);
        }
    }
    Some((new, bias))
}
