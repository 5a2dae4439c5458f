//! The structured optimal brain surgeon: how much of what the readers of a unit compute is lost when it goes and the
//! units that stay make up for it as well as they can.
//!
//! For a reader with weight W and inputs of covariance H, removing the columns P costs ½·tr(W_P [(H⁻¹)_PP]⁻¹ W_Pᵀ), after
//! which W and H⁻¹ are updated (Hassibi and Stork, 1993; for whole structures OSSCAR, Meng et al., 2024). Costs of all
//! readers are added, each as a share of its output's variance. One greedy pass gives the error for every width.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::columns::columns_by_unit;
use super::{Calibrated, Curve};
use crate::analysis::Group;

/// Damping of the covariance, as a share of its mean diagonal.
const DAMPING: f64 = 1e-2;
/// Of the units left, so many go at once: one in this many.
const AT_ONCE: usize = 48;

/// One reader of a group's units.
#[derive(Clone)]
pub struct Reader {
    /// Place among the evidence's views.
    pub view: usize,
    inverse: Mat<f64>,
    weight: Mat<f64>,
    /// Columns of each unit of the group.
    pub(super) columns: Vec<Vec<usize>>,
    /// Variance of its output.
    variance: f64,
}

/// The readers of a group's units that are products with constant weights. Where there are no statistics of a reader's
/// input, its columns count as uncorrelated and of variance one.
pub fn readers(calibrated: &Calibrated, group: &Group) -> Vec<Reader> {
    let read = |(at, columns): (usize, Vec<Vec<usize>>)| -> Vec<Reader> {
        let view = &calibrated.views[at];
        let Some(matrix) = view.matrix(calibrated.evidence.model) else { return Vec::new() };
        let moments = calibrated.statistics.and_then(|statistics| statistics.of.get(&view.key(calibrated.evidence.model)));
        let reader = |number: usize| {
            let covariance = match moments {
                Some(moments) => moments.covariance(number),
                None => Mat::identity(view.columns, view.columns),
            };
            let size = view.rows * view.columns;
            Reader::new(at, &matrix[number * size..(number + 1) * size], covariance, columns.clone())
        };
        (0..view.groups).filter_map(reader).collect()
    };
    let found: Vec<Vec<Reader>> = columns_by_unit(calibrated, group).into_par_iter().map(read).collect();
    found.into_iter().flatten().collect()
}

impl Reader {
    pub(super) fn new(view: usize, matrix: &[f64], mut covariance: Mat<f64>, columns: Vec<Vec<usize>>) -> Option<Self> {
        let width = covariance.nrows();
        let rows = matrix.len() / width.max(1);
        let weight = Mat::from_fn(rows, width, |row, column| matrix[row * width + column]);
        let variance = (&weight * &covariance * weight.transpose()).diagonal().column_vector().iter().sum::<f64>();
        let mean = (0..width).map(|at| covariance[(at, at)]).sum::<f64>() / width.max(1) as f64;
        if !(mean > 0.0 && variance > 0.0 && variance.is_finite()) {
            return None;
        }
        (0..width).for_each(|at| covariance[(at, at)] += DAMPING * mean);
        let inverse = covariance.llt(Side::Lower).ok()?.solve(Mat::<f64>::identity(width, width));
        Some(Reader { view, inverse, weight, columns, variance })
    }

    /// What removing some columns costs, as a share of the variance.
    pub(super) fn cost(&self, gone: &[usize]) -> f64 {
        let weight = |row: usize, column: usize| self.weight[(row, gone[column])];
        let rows = self.weight.nrows();
        if let [only] = gone {
            let energy: f64 = (0..rows).map(|row| self.weight[(row, *only)].powi(2)).sum();
            return 0.5 * energy / self.inverse[(*only, *only)].max(f64::MIN_POSITIVE) / self.variance;
        }
        let block = Mat::from_fn(gone.len(), gone.len(), |a, b| self.inverse[(gone[a], gone[b])]);
        let Ok(cholesky) = block.llt(Side::Lower) else { return 0.0 };
        let part = Mat::from_fn(rows, gone.len(), weight);
        let energy = part.transpose() * &part;
        let solved = cholesky.solve(&energy);
        0.5 * (0..gone.len()).map(|at| solved[(at, at)]).sum::<f64>() / self.variance
    }

    /// Columns of its weight.
    pub(super) fn width(&self) -> usize {
        self.inverse.nrows()
    }

    /// Variance of its output.
    pub(super) fn variance(&self) -> f64 {
        self.variance
    }

    /// The weights of some columns, and the block of the inverse covariance that is theirs.
    pub(super) fn parts(&self, columns: &[usize]) -> (Mat<f64>, Mat<f64>) {
        let weight = Mat::from_fn(self.weight.nrows(), columns.len(), |row, at| self.weight[(row, columns[at])]);
        (weight, Mat::from_fn(columns.len(), columns.len(), |a, b| self.inverse[(columns[a], columns[b])]))
    }

    /// Removes columns: the others make up for them.
    pub(super) fn remove(&mut self, gone: &[usize]) {
        let width = self.inverse.nrows();
        let block = Mat::from_fn(gone.len(), gone.len(), |a, b| self.inverse[(gone[a], gone[b])]);
        let across = Mat::from_fn(gone.len(), width, |a, column| self.inverse[(gone[a], column)]);
        if let Ok(cholesky) = block.llt(Side::Lower) {
            let solved = cholesky.solve(&across);
            let part = Mat::from_fn(self.weight.nrows(), gone.len(), |row, a| self.weight[(row, gone[a])]);
            self.weight -= &part * &solved;
            self.inverse -= across.transpose() * &solved;
        }
        for column in gone {
            (0..self.weight.nrows()).for_each(|row| self.weight[(row, *column)] = 0.0);
            for other in 0..width {
                self.inverse[(*column, other)] = 0.0;
                self.inverse[(other, *column)] = 0.0;
            }
        }
    }
}

/// The curve of a group from its readers; `None` where it has none.
pub fn curve(mut readers: Vec<Reader>, units: usize) -> Option<Curve> {
    if readers.is_empty() {
        return None;
    }
    let mut left: Vec<u32> = (0..units as u32).collect();
    let mut curve = Curve { order: Vec::with_capacity(units), error: vec![0.0] };
    while left.len() > 1 {
        let by_reader: Vec<Vec<f64>> =
            readers.par_iter().map(|reader| left.iter().map(|unit| reader.cost(&reader.columns[*unit as usize])).collect()).collect();
        let mut costs: Vec<(f64, u32)> =
            left.iter().enumerate().map(|(at, unit)| (by_reader.iter().map(|costs| costs[at]).sum(), *unit)).collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        costs.truncate((left.len() / AT_ONCE).clamp(1, left.len() - 1));
        let joint: f64 = readers
            .par_iter_mut()
            .map(|reader| {
                let gone: Vec<usize> = costs.iter().flat_map(|(_, unit)| reader.columns[*unit as usize].iter().copied()).collect();
                let cost = if gone.is_empty() { 0.0 } else { reader.cost(&gone) };
                reader.remove(&gone);
                cost
            })
            .sum();
        let apart: f64 = costs.iter().map(|(cost, _)| cost).sum();
        for (cost, unit) in &costs {
            let share = if apart > 0.0 { cost / apart } else { 1.0 / costs.len() as f64 };
            curve.error.push(curve.error.last().copied().unwrap_or(0.0) + (joint * share).max(0.0));
            curve.order.push(*unit);
        }
        left.retain(|unit| !costs.iter().any(|(_, gone)| gone == unit));
    }
    curve.error.push(curve.error.last().copied().unwrap_or(0.0) + 1.0);
    curve.order.extend(left);
    Some(curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A covariance of correlated columns, and weights.
    fn reader(units: &[Vec<usize>]) -> (Reader, Mat<f64>, Mat<f64>) {
        let width = 6;
        let mix = Mat::from_fn(width, width, |a, b| (((a * 5 + b * 3) % 7) as f64 - 3.0) / 3.0 + if a == b { 1.5 } else { 0.0 });
        let covariance = &mix * mix.transpose();
        let weight = Mat::from_fn(4, width, |row, column| ((row * 11 + column * 7) % 9) as f64 / 4.0 - 1.0);
        let flat: Vec<f64> = (0..4).flat_map(|row| (0..width).map(move |column| (row, column))).map(|at| weight[at]).collect();
        let mut damped = covariance.clone();
        let mean = (0..width).map(|at| covariance[(at, at)]).sum::<f64>() / width as f64;
        (0..width).for_each(|at| damped[(at, at)] += DAMPING * mean);
        (Reader::new(0, &flat, covariance, units.to_vec()).unwrap(), damped, weight)
    }

    /// The least error with only some columns, by solving for the others' weights outright.
    fn least_error(covariance: &Mat<f64>, weight: &Mat<f64>, stay: &[usize]) -> f64 {
        let inner = Mat::from_fn(stay.len(), stay.len(), |a, b| covariance[(stay[a], stay[b])]);
        let across = Mat::from_fn(stay.len(), covariance.nrows(), |a, column| covariance[(stay[a], column)]);
        let best = inner.llt(Side::Lower).unwrap().solve(&across * weight.transpose());
        let explained = (&across * weight.transpose()).transpose() * &best;
        let all = weight * covariance * weight.transpose();
        0.5 * (0..weight.nrows()).map(|row| all[(row, row)] - explained[(row, row)]).sum::<f64>()
    }

    #[test]
    fn the_error_of_every_width_is_the_least_there_is() {
        let units = [vec![0, 1], vec![2, 3], vec![4, 5]];
        let (reader, covariance, weight) = reader(&units);
        let variance = reader.variance;
        let curve = curve(vec![reader], 3).unwrap();
        for gone in 1..3 {
            let stay: Vec<usize> = curve.order[gone..].iter().flat_map(|unit| units[*unit as usize].clone()).collect();
            let least = least_error(&covariance, &weight, &stay) / variance;
            assert!((curve.error[gone] - least).abs() < 1e-9, "{gone} gone: {} instead of {least}", curve.error[gone]);
        }
    }

    #[test]
    fn the_first_to_go_is_the_one_that_costs_least() {
        let units: Vec<Vec<usize>> = (0..6).map(|column| vec![column]).collect();
        let (reader, covariance, weight) = reader(&units);
        let costs: Vec<f64> =
            (0..6).map(|gone| least_error(&covariance, &weight, &(0..6).filter(|column| *column != gone).collect::<Vec<_>>())).collect();
        let least = (0..6).min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap();
        assert_eq!(curve(vec![reader], 6).unwrap().order[0] as usize, least);
    }
}
