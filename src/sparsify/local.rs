//! One product by itself: what its inputs in the original say of it.

use std::collections::BTreeMap;

use faer::Mat;

use super::parts::SparsePart;
use crate::calibrate::{Moments, Statistics};
use crate::linear::Bias;
use crate::model::Model;
use crate::recover::{Candidate, damped, solve_on};

/// Added to second moments, as a share of the mean diagonal;
const DAMPING: f64 = 1e-2;
/// and where there are few rows.
const STRONG_DAMPING: f64 = 1e-1;

/// A product with second moments of its inputs.
pub(super) struct Local {
    pub groups: Vec<Candidate>,
    /// Means of the inputs, group by group; the bias makes up for what the mean loses.
    means: Option<Vec<Vec<f64>>>,
    bias: Option<Bias>,
}

/// Weights and what is added to each row's bias, with the error that they leave as a share of the output's variance.
pub(super) struct Refitted {
    pub matrix: Vec<f64>,
    pub shift: Vec<f64>,
    pub error: f64,
}

impl Local {
    /// `None`: its weights can not be read. Without moments every input counts alike.
    pub fn new(model: &Model, part: &SparsePart, statistics: Option<&Statistics>) -> Option<Self> {
        let shape = part.shape;
        let matrix = part.view.matrix(model)?;
        let moments = statistics
            .and_then(|statistics| statistics.of.get(&part.view.key(model)))
            .filter(|moments| {
                moments.columns() == shape.columns && moments.groups() == shape.groups
            })
            .filter(|moments| moments.rows > 0.0);
        let bias = Bias::find(model, &part.view);
        let means = bias.as_ref().and_then(|_| {
            let moments = moments?;
            Some((0..shape.groups).map(|group| moments.mean(group)).collect())
        });
        let means: Option<Vec<Vec<f64>>> = means;
        let size = shape.rows * shape.columns;
        let groups = (0..shape.groups)
            .map(|group| {
                let weight = matrix[group * size..(group + 1) * size].to_vec();
                let mean = means.as_ref().map(|means| means[group].as_slice());
                Candidate {
                    best: weight.clone(),
                    weight,
                    hessian: hessian(moments, shape.columns, group, mean),
                    scale: vec![1.0; shape.rows],
                }
            })
            .collect();
        Some(Local {
            groups,
            means,
            bias,
        })
    }

    /// The weights that stay, fitted to give what all gave.
    pub fn refit(&self, stays: &[bool]) -> Option<Refitted> {
        let (mut matrix, mut shift) = (Vec::new(), Vec::new());
        let (mut lost, mut all) = (0.0, 0.0);
        for (at, group) in self.groups.iter().enumerate() {
            let columns = group.hessian.nrows();
            let rows = group.weight.len() / columns.max(1);
            let weight = Mat::from_fn(columns, rows, |column, row| {
                group.weight[row * columns + column]
            });
            let right = &group.hessian * &weight;
            let support = &stays[at * rows * columns..(at + 1) * rows * columns];
            let new = solve_on(&group.hessian, &right, support)?;
            for row in 0..rows {
                let (mut moved, mut whole, mut kept) = (0.0, 0.0, 0.0);
                for column in 0..columns {
                    let (old, new) = (weight[(column, row)], new[(column, row)]);
                    whole += old * right[(column, row)];
                    kept += new * right[(column, row)];
                    let mean = self.means.as_ref().map_or(0.0, |means| means[at][column]);
                    moved += (old - new) * mean;
                    matrix.push(new);
                }
                lost += (whole - kept).max(0.0);
                all += whole;
                shift.push(moved);
            }
        }
        let error = lost / all.max(f64::MIN_POSITIVE);
        Some(Refitted {
            matrix,
            shift,
            error,
        })
    }

    /// Puts weights into a model. `None`: they can not be written.
    pub fn write(&self, model: &mut Model, part: &SparsePart, new: &Refitted) -> Option<()> {
        part.view.set_matrix(model, &new.matrix)?;
        let Some(bias) = self.bias.as_ref().filter(|_| self.means.is_some()) else {
            return Some(());
        };
        let stands = bias.read(model)?;
        let moved: Vec<f64> = stands
            .iter()
            .zip(&new.shift)
            .map(|(bias, shift)| bias + shift)
            .collect();
        bias.write(model, &moved)
    }
}

/// Damped second moments of one group, about the mean where that is given.
fn hessian(
    moments: Option<&Moments>,
    columns: usize,
    group: usize,
    mean: Option<&[f64]>,
) -> Mat<f64> {
    let Some(moments) = moments else {
        return Mat::identity(columns, columns);
    };
    let of = |column: usize| mean.map_or(0.0, |mean| mean[column]);
    let matrix = match moments.gram.get(group) {
        Some(gram) => Mat::from_fn(columns, columns, |a, b| {
            gram[(a, b)] / moments.rows - of(a) * of(b)
        }),
        None => Mat::from_fn(columns, columns, |a, b| {
            if a == b {
                moments.square(group, a) / moments.rows - of(a) * of(a)
            } else {
                0.0
            }
        }),
    };
    let diagonal = (0..columns).map(|at| matrix[(at, at)]).sum::<f64>() / columns.max(1) as f64;
    let share = if moments.determined() {
        DAMPING
    } else {
        STRONG_DAMPING
    };
    damped(&matrix, (share * diagonal).max(1e-12))
}

/// Zeroes weights and leaves the others as they are. `None`: they can not be written.
pub(super) fn zero(model: &mut Model, part: &SparsePart, stays: &[bool]) -> Option<()> {
    let mut matrix = part.view.matrix(model)?;
    matrix
        .iter_mut()
        .zip(stays)
        .filter(|(_, stays)| !**stays)
        .for_each(|(weight, _)| *weight = 0.0);
    part.view.set_matrix(model, &matrix)
}

/// Masks by the name of the constant: for each weight in the order of the matrices whether it stays.
pub type Masks = BTreeMap<String, Vec<bool>>;
