//! Fits in which only some weights may differ from zero.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Par, Side};
use rayon::prelude::*;

use super::problem::Problem;
use super::system::System;

/// One group of a product, as a pass finds it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The weights that stand: rows × columns, row-major.
    pub weight: Vec<f64>,
    /// Those that fit the aims best when none has to be zero: likewise.
    pub best: Vec<f64>,
    /// Second moments of the inputs, damped: columns × columns.
    pub hessian: Mat<f64>,
    /// What each row is multiplied by before it is held against its aim.
    pub scale: Vec<f64>,
}

/// Chooses weights that stay when the turn comes to a product: all layers before it are final then.
pub trait Selector: Sync {
    /// For each weight, group by group, whether it stays; `None`: all do. `layer`: the name of the product's output.
    fn select(&self, layer: &str, groups: &[Candidate]) -> Option<Vec<bool>>;
}

/// Damping of the second moments that choices go by, as a share of the mean diagonal;
const DAMPING: f64 = 1e-3;
/// and where there are few rows.
const STRONG_DAMPING: f64 = 1e-1;

impl Problem<'_> {
    /// The group as a selector sees it.
    pub fn candidate(&self, system: &System, weight: &[f64]) -> Option<Candidate> {
        let share = if system.determined {
            DAMPING
        } else {
            STRONG_DAMPING
        };
        let ridge = share * system.diagonal.max(f64::MIN_POSITIVE);
        let hessian = damped(&system.gram, ridge);
        let best = match system.determined {
            true => {
                let right = Mat::from_fn(self.columns, self.channels, |column, row| {
                    system.crossed.0[(row, column)] + ridge * weight[row * self.columns + column]
                });
                let solved = hessian.llt(Side::Lower).ok()?.solve(&right);
                by_rows(&solved, self.channels, self.columns)
            }
            false => weight.to_vec(),
        };
        Some(Candidate {
            weight: weight.to_vec(),
            best,
            hessian,
            scale: self.scale.to_vec(),
        })
    }
}

/// columns × rows, as rows × columns in one list.
fn by_rows(solved: &Mat<f64>, rows: usize, columns: usize) -> Vec<f64> {
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| solved[(column, row)])
        .collect()
}

/// A symmetric matrix with something added to its diagonal.
pub fn damped(matrix: &Mat<f64>, ridge: f64) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |a, b| {
        matrix[(a, b)] + if a == b { ridge } else { 0.0 }
    })
}

/// Supports of up to so many columns are solved outright; of wider ones all rows together by conjugate gradients.
const OUTRIGHT: usize = 320;

/// Solves H x = right for each row on its own support: `hessian` columns × columns, positive definite; `right`
/// columns × rows; `support` rows × columns. Gives columns × rows, zeros outside of the supports.
/// `None`: the matrix is singular.
pub fn solve_on(hessian: &Mat<f64>, right: &Mat<f64>, support: &[bool]) -> Option<Mat<f64>> {
    let (columns, rows) = (right.nrows(), right.ncols());
    let stays = support.iter().filter(|stays| **stays).count();
    if stays > OUTRIGHT * rows.max(1) {
        return Some(by_gradients(hessian, right, support));
    }
    let one = |row: usize| -> Option<Vec<f64>> {
        let own: Vec<usize> = (0..columns)
            .filter(|column| support[row * columns + column])
            .collect();
        let mut found = vec![0.0; columns];
        if own.is_empty() {
            return Some(found);
        }
        let inner = Mat::from_fn(own.len(), own.len(), |a, b| hessian[(own[a], own[b])]);
        let aim = Mat::from_fn(own.len(), 1, |a, _| right[(own[a], row)]);
        let solved = inner.llt(Side::Lower).ok()?.solve(&aim);
        own.iter()
            .enumerate()
            .for_each(|(a, column)| found[*column] = solved[(a, 0)]);
        Some(found)
    };
    let found: Vec<Vec<f64>> = (0..rows).into_par_iter().map(one).collect::<Option<_>>()?;
    Some(Mat::from_fn(columns, rows, |column, row| {
        found[row][column]
    }))
}

/// Steps of the conjugate gradients, at most.
const STEPS: usize = 80;
/// The residual at which they end, as a share of the first one's square.
const NEAR: f64 = 1e-10;

/// The same by conjugate gradients (Hestenes and Stiefel 1952) with the diagonal as preconditioner, on the final support
/// as in ALPS (Meng et al. 2024): one product of matrices a step for all rows together.
fn by_gradients(hessian: &Mat<f64>, right: &Mat<f64>, support: &[bool]) -> Mat<f64> {
    let (columns, rows) = (right.nrows(), right.ncols());
    let masked = |matrix: &mut Mat<f64>| {
        for row in 0..rows {
            for column in 0..columns {
                if !support[row * columns + column] {
                    matrix[(column, row)] = 0.0;
                }
            }
        }
    };
    let preconditioned = |r: &Mat<f64>| {
        Mat::from_fn(columns, rows, |column, row| {
            r[(column, row)] / hessian[(column, column)]
        })
    };
    let dots = |a: &Mat<f64>, b: &Mat<f64>| -> Vec<f64> {
        let dot = |row: usize| (0..columns).map(|c| a[(c, row)] * b[(c, row)]).sum();
        (0..rows).map(dot).collect()
    };
    let mut x = Mat::<f64>::zeros(columns, rows);
    let mut r = right.clone();
    masked(&mut r);
    let mut z = preconditioned(&r);
    let mut p = z.clone();
    let mut rz = dots(&r, &z);
    let first = rz.clone();
    let mut hp = Mat::<f64>::zeros(columns, rows);
    for _ in 0..STEPS {
        matmul(hp.as_mut(), Accum::Replace, hessian, &p, 1.0, Par::rayon(0));
        masked(&mut hp);
        let curvature = dots(&p, &hp);
        for row in 0..rows {
            let alpha = ratio(rz[row], curvature[row]);
            for column in 0..columns {
                x[(column, row)] += alpha * p[(column, row)];
                r[(column, row)] -= alpha * hp[(column, row)];
            }
        }
        z = preconditioned(&r);
        let next = dots(&r, &z);
        for row in 0..rows {
            let beta = ratio(next[row], rz[row]);
            for column in 0..columns {
                p[(column, row)] = z[(column, row)] + beta * p[(column, row)];
            }
        }
        rz = next;
        if rz
            .iter()
            .zip(&first)
            .all(|(now, first)| *now <= NEAR * first)
        {
            break;
        }
    }
    x
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 && a.is_finite() { a / b } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_find_what_factors_do() {
        let (columns, rows) = (12, 5);
        let mix = Mat::from_fn(columns, columns, |a, b| {
            ((a * 7 + b * 5) % 11) as f64 / 5.0 - 1.0 + if a == b { 2.0 } else { 0.0 }
        });
        let hessian = damped(&(&mix * mix.transpose()), 0.1);
        let right = Mat::from_fn(columns, rows, |a, b| ((a * 3 + b * 4) % 7) as f64 - 3.0);
        let support: Vec<bool> = (0..rows * columns)
            .map(|at| at % 5 != 1 && at % 7 != 3)
            .collect();
        let (outright, steps) = (
            solve_on(&hessian, &right, &support).unwrap(),
            by_gradients(&hessian, &right, &support),
        );
        for row in 0..rows {
            for column in 0..columns {
                let (a, b) = (outright[(column, row)], steps[(column, row)]);
                assert!((a - b).abs() < 1e-4, "{a} and {b}");
                assert!(support[row * columns + column] || (a == 0.0 && b == 0.0));
            }
        }
    }
}
