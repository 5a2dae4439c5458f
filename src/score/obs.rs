//! The structured optimal brain surgeon: how much of what the readers of a unit compute is lost when it goes and the
//! units that stay make up for it as well as they can.
//!
//! For a reader with weight W and inputs of covariance H, removing the columns P costs ½·tr(W_P [(H⁻¹)_PP]⁻¹ W_Pᵀ), after
//! which W and H⁻¹ are updated (Hassibi and Stork, 1993; for whole structures OSSCAR, Meng et al., 2024). Costs of all
//! readers are added, each as a share of its output's variance. One greedy pass gives the error for every width.

use std::borrow::Cow;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::columns::columns_by_unit;
use super::{ByReaders, Calibrated, Curve, Evidence, Norm, Score};
use crate::analysis::Group;
use crate::calibrate::{Covariance, Moments};

/// Damping of the covariance, as a share of its mean diagonal.
const DAMPING: f64 = 1e-2;
/// Of the units left, so many go at once: one in this many.
const AT_ONCE: usize = 48;

/// The structured optimal brain surgeon. Without statistics it ranks by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct Obs;

impl Score for Obs {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        Norm::L2.score(evidence, groups)
    }

    fn by_readers(&self, calibrated: &Calibrated, group: &Group) -> ByReaders {
        curve(readers(calibrated, group), group.units.len()).into()
    }

    fn swaps(&self) -> bool {
        true
    }
}

/// One reader of a group's units.
#[derive(Clone)]
pub struct Reader {
    /// Place among the evidence's views.
    pub view: usize,
    inputs: ObsInputs,
    width: usize,
    rows: usize,
    /// Columns of each unit of the group.
    pub(super) columns: Vec<Vec<usize>>,
    /// Variance of its output.
    variance: f64,
}

/// What a reader gets and what it makes of it.
#[derive(Clone)]
enum ObsInputs {
    /// Columns that go together: the inverse of their covariance, and their weights.
    Joint { inverse: Mat<f64>, weight: Mat<f64> },
    /// Columns that are not known to: the inverse of each one's variance, and the squared norm of its weights.
    Apart { inverse: Vec<f64>, energy: Vec<f64> },
}

/// The readers of a group's units that are products with constant weights. Where there are no statistics of a reader's
/// input, its columns count as uncorrelated and of variance one.
pub fn readers(calibrated: &Calibrated, group: &Group) -> Vec<Reader> {
    let read = |(at, columns): (usize, Vec<Vec<usize>>)| -> Vec<Reader> {
        let view = &calibrated.views[at];
        let Some(matrix) = view.matrix(calibrated.evidence.model) else {
            return Vec::new();
        };
        let moments = calibrated
            .statistics
            .and_then(|statistics| statistics.of.get(&view.key(calibrated.evidence.model)));
        let reader = |number: usize| {
            let covariance = match moments {
                Some(moments) => moments.covariance(number),
                None => Covariance::Diagonal(vec![1.0; view.columns]),
            };
            let size = view.rows * view.columns;
            let weights = &matrix[number * size..(number + 1) * size];
            let weights = without_silent(weights, moments, (number, view.columns));
            Reader::new(at, &weights, covariance, columns.clone())
        };
        (0..view.groups).filter_map(reader).collect()
    };
    let found: Vec<Vec<Reader>> = columns_by_unit(calibrated, group)
        .into_par_iter()
        .map(read)
        .collect();
    found.into_iter().flatten().collect()
}

/// The weights of a group of a reader, zero in columns that carry nothing but zeros: nothing is lost with these, though the
/// damping takes them to vary. `(number, columns)`: which group, and how wide it is.
fn without_silent<'a>(
    weights: &'a [f64],
    moments: Option<&Moments>,
    (number, columns): (usize, usize),
) -> Cow<'a, [f64]> {
    let Some(moments) = moments else {
        return weights.into();
    };
    let silent: Vec<usize> = (0..columns)
        .filter(|column| moments.square(number, *column) == 0.0)
        .collect();
    if silent.is_empty() {
        return weights.into();
    }
    let mut alive = weights.to_vec();
    for row in alive.chunks_exact_mut(columns) {
        silent.iter().for_each(|column| row[*column] = 0.0);
    }
    alive.into()
}

impl Reader {
    pub(super) fn new(
        view: usize,
        matrix: &[f64],
        covariance: Covariance,
        columns: Vec<Vec<usize>>,
    ) -> Option<Self> {
        let width = covariance.width();
        let rows = matrix.len() / width.max(1);
        let weight = Mat::from_fn(rows, width, |row, column| matrix[row * width + column]);
        let mean = (0..width).map(|at| covariance.at(at, at)).sum::<f64>() / width.max(1) as f64;
        let energy: Vec<f64> = (0..width)
            .map(|column| weight.col(column).squared_norm_l2())
            .collect();
        let variance = match &covariance {
            Covariance::Full(covariance) => (&weight * covariance * weight.transpose())
                .diagonal()
                .column_vector()
                .iter()
                .sum::<f64>(),
            Covariance::Diagonal(variances) => energy
                .iter()
                .zip(variances)
                .map(|(energy, variance)| energy * variance)
                .sum(),
        };
        if !(mean > 0.0 && variance > 0.0 && variance.is_finite()) {
            return None;
        }
        let inputs = match covariance {
            Covariance::Full(mut covariance) => {
                (0..width).for_each(|at| covariance[(at, at)] += DAMPING * mean);
                ObsInputs::Joint {
                    inverse: covariance
                        .llt(Side::Lower)
                        .ok()?
                        .solve(Mat::<f64>::identity(width, width)),
                    weight,
                }
            }
            Covariance::Diagonal(variances) => ObsInputs::Apart {
                inverse: variances
                    .iter()
                    .map(|variance| 1.0 / (variance + DAMPING * mean))
                    .collect(),
                energy,
            },
        };
        Some(Reader {
            view,
            inputs,
            width,
            rows,
            columns,
            variance,
        })
    }

    /// What removing some columns costs, as a share of the variance.
    pub(super) fn cost(&self, gone: &[usize]) -> f64 {
        let (inverse, weight) = match &self.inputs {
            ObsInputs::Joint { inverse, weight } => (inverse, weight),
            ObsInputs::Apart { inverse, energy } => {
                let cost =
                    |column: &usize| energy[*column] / inverse[*column].max(f64::MIN_POSITIVE);
                return 0.5 * gone.iter().map(cost).sum::<f64>() / self.variance;
            }
        };
        let rows = self.rows;
        if let [only] = gone {
            let energy: f64 = (0..rows).map(|row| weight[(row, *only)].powi(2)).sum();
            return 0.5 * energy / inverse[(*only, *only)].max(f64::MIN_POSITIVE) / self.variance;
        }
        let block = Mat::from_fn(gone.len(), gone.len(), |a, b| inverse[(gone[a], gone[b])]);
        let Ok(cholesky) = block.llt(Side::Lower) else {
            return 0.0;
        };
        let part = Mat::from_fn(rows, gone.len(), |row, column| weight[(row, gone[column])]);
        let energy = part.transpose() * &part;
        let solved = cholesky.solve(&energy);
        0.5 * (0..gone.len()).map(|at| solved[(at, at)]).sum::<f64>() / self.variance
    }

    /// Floating-point operations that removing so many columns takes, about.
    pub(super) fn work(&self, gone: usize) -> f64 {
        match self.inputs {
            ObsInputs::Joint { .. } => (self.width as f64).powi(2) * gone as f64,
            ObsInputs::Apart { .. } => self.width as f64,
        }
    }

    /// Variance of its output.
    pub(super) fn variance(&self) -> f64 {
        self.variance
    }

    /// The weights of some columns, and the block of the inverse covariance that is theirs; where columns do not go together
    /// instead what each costs that is gone, in the measure of [`Reader::cost`].
    pub(super) fn parts(&self, columns: &[usize]) -> Result<(Mat<f64>, Mat<f64>), Vec<f64>> {
        match &self.inputs {
            ObsInputs::Joint { inverse, weight } => {
                let weight = Mat::from_fn(self.rows, columns.len(), |row, at| {
                    weight[(row, columns[at])]
                });
                Ok((
                    weight,
                    Mat::from_fn(columns.len(), columns.len(), |a, b| {
                        inverse[(columns[a], columns[b])]
                    }),
                ))
            }
            ObsInputs::Apart { .. } => {
                Err(columns.iter().map(|column| self.cost(&[*column])).collect())
            }
        }
    }

    /// Removes columns: the others make up for them.
    pub(super) fn remove(&mut self, gone: &[usize]) {
        let (inverse, weight) = match &mut self.inputs {
            ObsInputs::Joint { inverse, weight } => (inverse, weight),
            ObsInputs::Apart { energy, .. } => {
                gone.iter().for_each(|column| energy[*column] = 0.0);
                return;
            }
        };
        let width = inverse.nrows();
        let block = Mat::from_fn(gone.len(), gone.len(), |a, b| inverse[(gone[a], gone[b])]);
        let across = Mat::from_fn(gone.len(), width, |a, column| inverse[(gone[a], column)]);
        if let Ok(cholesky) = block.llt(Side::Lower) {
            let solved = cholesky.solve(&across);
            let part = Mat::from_fn(self.rows, gone.len(), |row, a| weight[(row, gone[a])]);
            *weight -= &part * &solved;
            *inverse -= across.transpose() * &solved;
        }
        for column in gone {
            (0..self.rows).for_each(|row| weight[(row, *column)] = 0.0);
            for other in 0..width {
                inverse[(*column, other)] = 0.0;
                inverse[(other, *column)] = 0.0;
            }
        }
    }
}

/// The units that go next, the cheapest first, each with what it costs alone.
fn cheapest(readers: &[Reader], left: &[u32]) -> Vec<(f64, u32)> {
    let by_reader: Vec<Vec<f64>> = readers
        .par_iter()
        .map(|reader| {
            left.iter()
                .map(|unit| reader.cost(&reader.columns[*unit as usize]))
                .collect()
        })
        .collect();
    let mut costs: Vec<(f64, u32)> = left
        .iter()
        .enumerate()
        .map(|(at, unit)| (by_reader.iter().map(|costs| costs[at]).sum(), *unit))
        .collect();
    costs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    costs.truncate((left.len() / AT_ONCE).clamp(1, left.len() - 1));
    costs
}

/// The curve of a group from its readers; `None` where it has none.
pub(super) fn curve(mut readers: Vec<Reader>, units: usize) -> Option<Curve> {
    if readers.is_empty() {
        return None;
    }
    let mut left: Vec<u32> = (0..units as u32).collect();
    let mut curve = Curve {
        order: Vec::with_capacity(units),
        error: vec![0.0],
    };
    while left.len() > 1 {
        let costs = cheapest(&readers, &left);
        let joint: f64 = readers
            .par_iter_mut()
            .map(|reader| {
                let gone: Vec<usize> = costs
                    .iter()
                    .flat_map(|(_, unit)| reader.columns[*unit as usize].iter().copied())
                    .collect();
                let cost = if gone.is_empty() {
                    0.0
                } else {
                    reader.cost(&gone)
                };
                reader.remove(&gone);
                cost
            })
            .sum();
        let apart: f64 = costs.iter().map(|(cost, _)| cost).sum();
        for (cost, unit) in &costs {
            let share = if apart > 0.0 {
                cost / apart
            } else {
                1.0 / costs.len() as f64
            };
            curve
                .error
                .push(curve.error.last().copied().unwrap_or(0.0) + (joint * share).max(0.0));
            curve.order.push(*unit);
        }
        left.retain(|unit| !costs.iter().any(|(_, gone)| gone == unit));
    }
    curve
        .error
        .push(curve.error.last().copied().unwrap_or(0.0) + 1.0);
    curve.order.extend(left);
    Some(curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A covariance of correlated columns, and weights.
    fn reader(units: &[Vec<usize>]) -> (Reader, Mat<f64>, Mat<f64>) {
        let width = 6;
        let mix = Mat::from_fn(width, width, |a, b| {
            (((a * 5 + b * 3) % 7) as f64 - 3.0) / 3.0 + if a == b { 1.5 } else { 0.0 }
        });
        let covariance = &mix * mix.transpose();
        let weight = Mat::from_fn(4, width, |row, column| {
            ((row * 11 + column * 7) % 9) as f64 / 4.0 - 1.0
        });
        let flat: Vec<f64> = (0..4)
            .flat_map(|row| (0..width).map(move |column| (row, column)))
            .map(|at| weight[at])
            .collect();
        let mut damped = covariance.clone();
        let mean = (0..width).map(|at| covariance[(at, at)]).sum::<f64>() / width as f64;
        (0..width).for_each(|at| damped[(at, at)] += DAMPING * mean);
        (
            Reader::new(0, &flat, Covariance::Full(covariance), units.to_vec()).unwrap(),
            damped,
            weight,
        )
    }

    /// The least error with only some columns, by solving for the others' weights outright.
    fn least_error(covariance: &Mat<f64>, weight: &Mat<f64>, stay: &[usize]) -> f64 {
        let inner = Mat::from_fn(stay.len(), stay.len(), |a, b| {
            covariance[(stay[a], stay[b])]
        });
        let across = Mat::from_fn(stay.len(), covariance.nrows(), |a, column| {
            covariance[(stay[a], column)]
        });
        let best = inner
            .llt(Side::Lower)
            .unwrap()
            .solve(&across * weight.transpose());
        let explained = (&across * weight.transpose()).transpose() * &best;
        let all = weight * covariance * weight.transpose();
        0.5 * (0..weight.nrows())
            .map(|row| all[(row, row)] - explained[(row, row)])
            .sum::<f64>()
    }

    #[test]
    fn the_error_of_every_width_is_the_least_there_is() {
        let units = [vec![0, 1], vec![2, 3], vec![4, 5]];
        let (reader, covariance, weight) = reader(&units);
        let variance = reader.variance;
        let curve = curve(vec![reader], 3).unwrap();
        for gone in 1..3 {
            let stay: Vec<usize> = curve.order[gone..]
                .iter()
                .flat_map(|unit| units[*unit as usize].clone())
                .collect();
            let least = least_error(&covariance, &weight, &stay) / variance;
            assert!(
                (curve.error[gone] - least).abs() < 1e-9,
                "{gone} gone: {} instead of {least}",
                curve.error[gone]
            );
        }
    }

    #[test]
    fn columns_that_do_not_go_together_cost_what_a_matrix_of_theirs_says() {
        let units = [vec![0, 1], vec![2, 3], vec![4], vec![5]];
        let flat: Vec<f64> = (0..24)
            .map(|at| ((at * 11) % 9) as f64 / 4.0 - 1.0)
            .collect();
        let variances: Vec<f64> = (0..6).map(|at| 0.5 + at as f64).collect();
        let matrix = Mat::from_fn(6, 6, |a, b| if a == b { variances[a] } else { 0.0 });
        let of = |covariance| {
            curve(
                vec![Reader::new(0, &flat, covariance, units.to_vec()).unwrap()],
                4,
            )
            .unwrap()
        };
        let (full, diagonal) = (
            of(Covariance::Full(matrix)),
            of(Covariance::Diagonal(variances.clone())),
        );
        assert_eq!(full.order, diagonal.order);
        assert!(
            full.error
                .iter()
                .zip(&diagonal.error)
                .all(|(a, b)| (a - b).abs() < 1e-9),
            "{full:?} {diagonal:?}"
        );
    }

    #[test]
    fn the_first_to_go_is_the_one_that_costs_least() {
        let units: Vec<Vec<usize>> = (0..6).map(|column| vec![column]).collect();
        let (reader, covariance, weight) = reader(&units);
        let costs: Vec<f64> = (0..6)
            .map(|gone| {
                least_error(
                    &covariance,
                    &weight,
                    &(0..6).filter(|column| *column != gone).collect::<Vec<_>>(),
                )
            })
            .collect();
        let least = (0..6)
            .min_by(|a, b| costs[*a].total_cmp(&costs[*b]))
            .unwrap();
        assert_eq!(curve(vec![reader], 6).unwrap().order[0] as usize, least);
    }
}
