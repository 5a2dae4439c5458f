//! The second moments of what two layers read, which make the steps of both easy to solve for.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, Par, Side};
use rayon::prelude::*;

use super::half::Half;
use super::{JointPoint, PointPair};
use crate::recover::patches::{NOWHERE, Patches};

/// As a share of the mean diagonal, what is added to it.
const RIDGE: f64 = 1e-4;

/// The second derivatives with all that couples units left out: for each group the second moments of its inputs (and of the
/// constant that a bias is multiplied by), times a factor for each unit.
pub(super) struct JointMoments {
    first: Vec<(Mat<f64>, Llt<f64>)>,
    second: Vec<(Mat<f64>, Llt<f64>)>,
    first_factors: Vec<f64>,
    second_factors: Vec<f64>,
}

impl JointMoments {
    pub fn new(
        pair: &PointPair,
        fit: &[Patches],
        points: &[JointPoint],
        now: &[f64],
    ) -> Option<Self> {
        let (first, second) = (&pair.first, &pair.second);
        let inputs: Vec<(&[f32], usize)> = fit
            .iter()
            .map(|part| (&part.inputs[..], part.positions))
            .collect();
        let inner: Vec<(&[f32], usize)> = fit
            .iter()
            .zip(points)
            .map(|(part, point)| (&point.inputs[..], part.rows))
            .collect();
        let (positions, rows) = (
            fit.iter().map(|part| part.positions).sum::<usize>(),
            fit.iter().map(|part| part.rows).sum::<usize>(),
        );
        let mut second_factors = second_factors(second, points, rows);
        let mut first_factors = first_factors(pair, (fit, points), now, &second_factors);
        first_factors
            .iter_mut()
            .for_each(|factor| *factor /= positions.max(1) as f64);
        for factors in [&mut first_factors, &mut second_factors] {
            let most = factors.iter().copied().fold(0.0, f64::max);
            factors
                .iter_mut()
                .for_each(|factor| *factor = factor.max(1e-6 * most).max(f64::MIN_POSITIVE));
        }
        Some(JointMoments {
            first: factored(first, &inputs)?,
            second: factored(second, &inner)?,
            first_factors,
            second_factors,
        })
    }

    /// Applies `to` to the rows of each unit, with its factor.
    fn each(
        &self,
        pair: &PointPair,
        all: &[f64],
        to: impl Fn(&(Mat<f64>, Llt<f64>), &Mat<f64>) -> Mat<f64>,
        factor: impl Fn(f64) -> f64,
    ) -> Vec<f64> {
        let mut result = vec![0.0; all.len()];
        let [first, first_bias, second, second_bias] = pair.split(all);
        let [to_first, to_first_bias, to_second, to_second_bias] = pair.split_mut(&mut result);
        let sides = [
            (
                &pair.first,
                &self.first,
                &self.first_factors,
                (first, first_bias),
                (to_first, to_first_bias),
            ),
            (
                &pair.second,
                &self.second,
                &self.second_factors,
                (second, second_bias),
                (to_second, to_second_bias),
            ),
        ];
        for (side, moments, factors, (weight, bias), (into, into_bias)) in sides {
            for (group, moments) in moments.iter().enumerate() {
                let unit = |row: usize| group * side.rows + row;
                let rows = Mat::from_fn(
                    side.columns + usize::from(side.biased),
                    side.rows,
                    |column, row| {
                        if column < side.columns {
                            weight[unit(row) * side.columns + column]
                        } else {
                            bias[unit(row)]
                        }
                    },
                );
                let applied = to(moments, &rows);
                for row in 0..side.rows {
                    let factor = factor(factors[unit(row)]);
                    for column in 0..side.columns {
                        into[unit(row) * side.columns + column] = applied[(column, row)] * factor;
                    }
                    if side.biased {
                        into_bias[unit(row)] = applied[(side.columns, row)] * factor;
                    }
                }
            }
        }
        result
    }

    pub fn multiply(&self, pair: &PointPair, all: &[f64]) -> Vec<f64> {
        self.each(
            pair,
            all,
            |(moments, _), rows| moments * rows,
            |factor| factor,
        )
    }

    pub fn solve(&self, pair: &PointPair, all: &[f64]) -> Vec<f64> {
        self.each(
            pair,
            all,
            |(_, factors), rows| factors.solve(rows),
            |factor| 1.0 / factor,
        )
    }
}

/// How much the errors follow the sums of each unit of the second layer: squared, the mean over all rows.
fn second_factors(second: &Half, points: &[JointPoint], rows: usize) -> Vec<f64> {
    let mut factors = vec![0.0; second.units()];
    for row in points
        .iter()
        .flat_map(|point| point.follows.chunks_exact(second.units()))
    {
        factors
            .iter_mut()
            .zip(row)
            .for_each(|(sum, follows)| *sum += f64::from(*follows).powi(2));
    }
    factors
        .iter_mut()
        .for_each(|factor| *factor /= rows.max(1) as f64);
    factors
}

/// How much each unit of the first layer moves the second one's sums, over all positions.
fn first_factors(
    pair: &PointPair,
    (fit, points): (&[Patches], &[JointPoint]),
    now: &[f64],
    second_factors: &[f64],
) -> Vec<f64> {
    let (first, second) = (&pair.first, &pair.second);
    let reach = reach(second, pair.split(now)[2], second_factors);
    let mut factors = vec![0.0; first.units()];
    for (part, point) in fit.iter().zip(points) {
        for (at, place) in part
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| **place != NOWHERE)
        {
            let (group, column) = (at / (part.rows * second.columns), at % second.columns);
            let slope = f64::from(point.slopes[*place as usize]);
            factors[*place as usize % first.units()] +=
                slope * slope * reach[group * second.columns + column];
        }
    }
    factors
}

/// How much each column of the second layer moves its sums, group by group.
fn reach(second: &Half, weight: &[f64], factors: &[f64]) -> Vec<f64> {
    (0..second.groups * second.columns)
        .map(|at| {
            let (group, column) = (at / second.columns, at % second.columns);
            let unit = |row: usize| group * second.rows + row;
            (0..second.rows)
                .map(|row| weight[unit(row) * second.columns + column].powi(2) * factors[unit(row)])
                .sum()
        })
        .collect()
}

/// Second moments of a layer's inputs, with a one beside them where there is a bias, group by group.
fn factored(side: &Half, inputs: &[(&[f32], usize)]) -> Option<Vec<(Mat<f64>, Llt<f64>)>> {
    let size = side.columns + usize::from(side.biased);
    let one = |group: usize| -> Option<(Mat<f64>, Llt<f64>)> {
        let part = |(inputs, count): &(&[f32], usize)| -> Mat<f32> {
            let inputs = side.input(inputs, *count, group);
            let mut part = Mat::<f32>::zeros(size, size);
            let square = part
                .as_mut()
                .submatrix_mut(0, 0, side.columns, side.columns);
            matmul(
                square,
                Accum::Replace,
                inputs.transpose(),
                inputs,
                1.0,
                Par::Seq,
            );
            if side.biased {
                for column in 0..side.columns {
                    let total: f32 = (0..*count).map(|row| inputs[(row, column)]).sum();
                    part[(side.columns, column)] = total;
                    part[(column, side.columns)] = total;
                }
                part[(side.columns, side.columns)] = *count as f32;
            }
            part
        };
        let parts: Vec<Mat<f32>> = inputs.par_iter().map(part).collect();
        let mut moments = Mat::<f64>::zeros(size, size);
        for part in parts {
            for column in 0..size {
                for row in 0..size {
                    moments[(row, column)] += f64::from(part[(row, column)]);
                }
            }
        }
        let ridge = RIDGE * (0..size).map(|at| moments[(at, at)]).sum::<f64>() / size.max(1) as f64;
        (0..size).for_each(|at| moments[(at, at)] += ridge);
        let factors = moments.llt(Side::Lower).ok()?;
        Some((moments, factors))
    };
    (0..side.groups).map(one).collect()
}
