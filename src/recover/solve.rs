//! Fitting one layer's weights to rows of inputs and aims.
//!
//! Ridge regression on centred rows towards the weights that stand, W′ = (Tᵀ X + λW)(XᵀX + λ)⁻¹ with the bias free, λ chosen
//! by the held-out error. Before a ReLU the aim is one-sided: where the original is cut off at zero, anything below does as
//! well, so the rows' aims move with the fit (majorize, minimise), as in the asymmetric reconstruction of Zhang et al. 2015.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};
use rayon::prelude::*;

use super::aim::Clamp;
use super::problem::{Problem, ROWS_AT_ONCE};
use super::support::solve_on;
use super::system::System;
use crate::calibrate::{Covariance, Moments};

/// How weights are mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// Bias and a factor for each output channel, so that means and variances are the original's.
    Statistics,
    /// All weights, by ridge regression.
    #[default]
    LeastSquares,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Method::Statistics => "statistics",
            Method::LeastSquares => "least-squares",
        })
    }
}

/// Weights (channels × columns, row-major) and biases, with their error on the held-out rows.
#[derive(Clone, Debug)]
pub(super) struct FittedWeights {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    pub error: f64,
}

/// Ridges tried, as shares of the mean diagonal.
const RIDGES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];
/// The same where there are few rows.
const STRONG_RIDGES: [f64; 4] = [1e-1, 3e-1, 1.0, 1e1];
/// Rounds in which one-sided aims move.
const ROUNDS: usize = 8;

impl Problem<'_> {
    /// The best of what there is and what can be fitted, by the held-out error.
    pub fn solve(&self, weight: &[f64], bias: &[f64], method: Method) -> FittedWeights {
        self.solve_in(self.system(), weight, bias, method)
    }

    /// The same, where the normal equations are at hand.
    pub fn solve_in(
        &self,
        system: Option<System>,
        weight: &[f64],
        bias: &[f64],
        method: Method,
    ) -> FittedWeights {
        let mut best = FittedWeights {
            weight: weight.to_vec(),
            bias: bias.to_vec(),
            error: self.error(weight, bias),
        };
        let Some(system) = system.filter(|_| best.error.is_finite()) else {
            return best;
        };
        self.keep_better(&mut best, self.matched(weight, bias, &system));
        let ridges = match (method, &self.support, system.determined) {
            (Method::Statistics, ..) | (_, None, false) => return best,
            // Weights that have lost others do better with any fit that the held-out rows allow.
            (_, Some(_), false) => STRONG_RIDGES,
            (_, _, true) => RIDGES,
        };
        let mut chosen = ridges[1];
        let mut least = f64::INFINITY;
        for ridge in ridges {
            let damping = ridge * system.diagonal;
            let Some(fit) = self.ridge(weight, &system, &system.crossed, damping) else {
                continue;
            };
            if fit.error < least {
                (least, chosen) = (fit.error, ridge);
            }
            self.keep_better(&mut best, fit);
        }
        if let Some(function) = self.function {
            let damping = chosen * system.diagonal;
            self.solve_one_sided(system, function, weight, damping, &mut best);
        }
        best
    }

    /// Fits again and again, from the best fit on, with aims that move where the function is flat.
    fn solve_one_sided(
        &self,
        mut system: System,
        function: Clamp,
        weight: &[f64],
        damping: f64,
        best: &mut FittedWeights,
    ) {
        let mut current = best.clone();
        for _ in 0..ROUNDS {
            self.move_targets(&mut system.targets, function, &current);
            let crossed = self.cross(&system.mean, &system.targets);
            let Some(fit) = self.ridge(weight, &system, &crossed, damping) else {
                break;
            };
            current = fit.clone();
            self.keep_better(best, fit);
        }
    }

    fn keep_better(&self, best: &mut FittedWeights, fit: FittedWeights) {
        if fit.error < best.error
            && fit
                .weight
                .iter()
                .chain(&fit.bias)
                .all(|number| number.is_finite())
        {
            *best = fit;
        }
    }

    /// Where the function is flat in the original, the fit's own value will do if it lies there too.
    fn move_targets(&self, targets: &mut [f32], function: Clamp, fit: &FittedWeights) {
        let outputs = self.product(&self.fit.inputs, &fit.weight);
        let size = self.channels * ROWS_AT_ONCE;
        let each = |(block, targets): (usize, &mut [f32])| {
            let start = block * size;
            for (at, target) in targets.iter_mut().enumerate() {
                let (at, channel) = (start + at, at % self.channels);
                let aim = f64::from(self.fit.aims[at]);
                if function.low < aim && aim < function.high {
                    continue;
                }
                let sum = (f64::from(outputs[at]) + fit.bias[channel]) * self.scale[channel]
                    + self.offset[channel]
                    + f64::from(self.fit.added[at]);
                let wanted = if aim <= function.low {
                    sum.min(function.low)
                } else {
                    sum.max(function.high)
                };
                *target = self.backwards(channel, (wanted - f64::from(self.fit.added[at])) as f32);
            }
        };
        targets
            .par_chunks_mut(size.max(1))
            .enumerate()
            .for_each(each);
    }

    fn ridge(
        &self,
        weight: &[f64],
        system: &System,
        (cross, means): &(Mat<f64>, Vec<f64>),
        ridge: f64,
    ) -> Option<FittedWeights> {
        let damped = Mat::from_fn(self.columns, self.columns, |a, b| {
            system.gram[(a, b)] + if a == b { ridge } else { 0.0 }
        });
        let right = Mat::from_fn(self.columns, self.channels, |column, row| {
            cross[(row, column)] + ridge * weight[row * self.columns + column]
        });
        let solved = match &self.support {
            Some(support) => solve_on(&damped, &right, support)?,
            None => damped.llt(Side::Lower).ok()?.solve(&right),
        };
        let new: Vec<f64> = (0..self.channels)
            .flat_map(|row| (0..self.columns).map(move |column| (row, column)))
            .map(|(row, column)| solved[(column, row)])
            .collect();
        let bias = self.free_bias(&new, &system.mean, means);
        let error = self.error(&new, &bias);
        Some(FittedWeights {
            weight: new,
            bias,
            error,
        })
    }

    fn free_bias(&self, weight: &[f64], mean: &[f64], means: &[f64]) -> Vec<f64> {
        let at = |row: usize| {
            means[row]
                - (0..self.columns)
                    .map(|column| weight[row * self.columns + column] * mean[column])
                    .sum::<f64>()
        };
        (0..self.channels)
            .map(|row| if self.biased { at(row) } else { 0.0 })
            .collect()
    }

    /// The weights that stand, with a factor and a bias for each channel that give the targets' mean and variance.
    fn matched(&self, weight: &[f64], bias: &[f64], system: &System) -> FittedWeights {
        let System {
            gram,
            mean,
            targets,
            crossed: (_, means),
            ..
        } = system;
        let rows = (targets.len() / self.channels).max(1) as f64;
        let mut variance = vec![0.0; self.channels];
        for row in targets.chunks_exact(self.channels) {
            variance
                .iter_mut()
                .zip(row.iter().zip(means))
                .for_each(|(sum, (target, mean))| *sum += (f64::from(*target) - mean).powi(2));
        }
        // Its products with the weights are the outputs' variances.
        let spread =
            gram * MatRef::from_row_major_slice(weight, self.channels, self.columns).transpose();
        let mut new = weight.to_vec();
        for channel in 0..self.channels {
            let row = &mut new[channel * self.columns..(channel + 1) * self.columns];
            let own: f64 = (0..self.columns)
                .map(|column| row[column] * spread[(column, channel)])
                .sum();
            let factor = if own > 1e-12 {
                (variance[channel] / rows / own).sqrt().clamp(0.25, 4.0)
            } else {
                1.0
            };
            row.iter_mut().for_each(|number| *number *= factor);
        }
        let bias = if self.biased {
            self.free_bias(&new, mean, means)
        } else {
            bias.to_vec()
        };
        let error = self.error(&new, &bias);
        FittedWeights {
            weight: new,
            bias,
            error,
        }
    }
}

/// The weights of a product once some of its columns are gone and the others make up for them, from the moments of its
/// inputs alone: groups × rows × columns, zeros where columns are gone, and what is to be added to each channel's bias.
/// `None`: the covariance is singular.
pub fn local(matrix: &[f64], moments: &Moments, gone: &[bool]) -> Option<(Vec<f64>, Vec<f64>)> {
    /// As a share of the mean diagonal.
    const RIDGE: f64 = 1e-3;
    let columns = moments.columns();
    let rows = matrix.len() / (columns * moments.groups()).max(1);
    let stay: Vec<usize> = (0..columns).filter(|column| !gone[*column]).collect();
    let (mut new, mut bias) = (vec![0.0; matrix.len()], Vec::new());
    for group in 0..moments.groups() {
        let mean = moments.mean(group);
        let weight = |row: usize, column: usize| matrix[(group * rows + row) * columns + column];
        let covariance = match moments.covariance(group) {
            Covariance::Full(covariance) => covariance,
            // Columns that are not known to go together cannot make up for each other but by their means.
            Covariance::Diagonal(_) => {
                for row in 0..rows {
                    stay.iter().for_each(|column| {
                        new[(group * rows + row) * columns + column] = weight(row, *column)
                    });
                    bias.push(
                        (0..columns)
                            .filter(|column| gone[*column])
                            .map(|column| weight(row, column) * mean[column])
                            .sum(),
                    );
                }
                continue;
            }
        };
        let ridge = RIDGE * (0..columns).map(|at| covariance[(at, at)]).sum::<f64>()
            / columns.max(1) as f64;
        let kept = Mat::from_fn(stay.len(), stay.len(), |a, b| {
            covariance[(stay[a], stay[b])] + if a == b { ridge } else { 0.0 }
        });
        let weights = Mat::from_fn(rows, columns, weight);
        let mut right = Mat::from_fn(columns, stay.len(), |column, b| {
            covariance[(column, stay[b])]
        });
        stay.iter()
            .enumerate()
            .for_each(|(b, column)| right[(*column, b)] += ridge);
        let right = &weights * &right;
        let solved = if stay.is_empty() {
            Mat::zeros(0, rows)
        } else {
            kept.llt(Side::Lower).ok()?.solve(right.transpose())
        };
        for row in 0..rows {
            let mut shift = (0..columns)
                .map(|column| weight(row, column) * mean[column])
                .sum::<f64>();
            for (b, column) in stay.iter().enumerate() {
                new[(group * rows + row) * columns + column] = solved[(b, row)];
                shift -= solved[(b, row)] * mean[*column];
            }
            bias.push(shift);
        }
    }
    Some((new, bias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::sample::SampleGroup;

    fn noise(count: usize, seed: usize) -> Vec<f32> {
        use rand::Rng;
        let mut random = crate::rng::rng(seed as u64, "rows");
        (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    fn problem<'a>(
        fit: &'a SampleGroup<'a>,
        held: &'a SampleGroup<'a>,
        function: Option<Clamp>,
    ) -> Problem<'a> {
        Problem {
            fit,
            held,
            columns: 3,
            channels: 2,
            scale: &[2.0, -1.0],
            offset: &[0.5, 0.0],
            function,
            biased: true,
            support: None,
        }
    }

    const TRUE: [f64; 6] = [1.0, -2.0, 0.5, 0.3, 0.8, -1.0];

    /// Rows whose aims are what the true weights give through scale, offset and what is added, bent by `bend`.
    fn rows(count: usize, seed: usize, bend: fn(f64) -> f64) -> SampleGroup<'static> {
        let (inputs, added) = (noise(count * 3, seed), noise(count * 2, seed + 100));
        let mut aims = Vec::new();
        for (at, row) in inputs.chunks(3).enumerate() {
            for channel in 0..2 {
                let sum: f64 = row
                    .iter()
                    .zip(&TRUE[channel * 3..])
                    .map(|(x, w)| f64::from(*x) * w)
                    .sum::<f64>()
                    + 0.25;
                let through = sum * [2.0, -1.0][channel]
                    + [0.5, 0.0][channel]
                    + f64::from(added[at * 2 + channel]);
                aims.push(bend(through) as f32);
            }
        }
        let (first, second) = inputs.split_at(count / 3 * 3);
        SampleGroup {
            inputs: vec![first.to_vec().into(), second.to_vec().into()],
            aims,
            added,
        }
    }

    #[test]
    fn weights_and_bias_are_found_behind_scale_offset_and_sum() {
        let (fit, held) = (rows(400, 1, |sum| sum), rows(80, 2, |sum| sum));
        let found = problem(&fit, &held, None).solve(&[0.0; 6], &[0.0; 2], Method::LeastSquares);
        assert!(found.error < 1e-5, "{}", found.error);
        found.weight.iter().zip(TRUE).for_each(|(found, wanted)| {
            assert!((found - wanted).abs() < 1e-2, "{found} for {wanted}")
        });
    }

    #[test]
    fn before_a_relu_the_aims_below_zero_do_not_matter() {
        // Below zero the aims say something that no weights can give.
        let bend: fn(f64) -> f64 = |sum| if sum > 0.0 { sum } else { -10.0 };
        let (fit, held) = (rows(400, 3, bend), rows(80, 4, bend));
        let relu = Some(Clamp {
            low: 0.0,
            high: f64::INFINITY,
        });
        let plain = problem(&fit, &held, None).solve(&[0.0; 6], &[0.0; 2], Method::LeastSquares);
        let bent = problem(&fit, &held, relu);
        let found = bent.solve(&[0.0; 6], &[0.0; 2], Method::LeastSquares);
        assert!(
            found.error < 0.2 * bent.error(&plain.weight, &plain.bias),
            "{} and {}",
            found.error,
            bent.error(&plain.weight, &plain.bias)
        );
    }

    #[test]
    fn nothing_is_made_worse() {
        let (fit, held) = (rows(3, 5, |sum| sum), rows(80, 6, |sum| sum));
        let bias = [0.25, 0.25];
        let problem = problem(&fit, &held, None);
        for method in [Method::Statistics, Method::LeastSquares] {
            assert!(problem.solve(&TRUE, &bias, method).error <= problem.error(&TRUE, &bias));
        }
    }

    #[test]
    fn columns_that_stay_make_up_for_those_that_go() {
        // The third column is the sum of the first two, so nothing is lost without it.
        let matrix: Vec<f32> = noise(600, 7)
            .chunks(2)
            .flat_map(|pair| [pair[0], pair[1], pair[0] + pair[1] + 0.5])
            .collect();
        let mut moments = Moments::new(1, 3);
        moments.add(&matrix);
        let (new, shift) = local(&[1.0, 2.0, 3.0], &moments, &[false, false, true]).unwrap();
        assert!(
            (new[0] - 4.0).abs() < 0.05 && (new[1] - 5.0).abs() < 0.05 && new[2] == 0.0,
            "{new:?}"
        );
        assert!((shift[0] - 1.5).abs() < 0.05, "{shift:?}");
    }
}
