//! Products made up for tests.

use faer::Mat;
use rand::Rng;

use super::pattern::MaskShape;
use crate::recover::{Candidate, damped, solve_on};

/// One group with correlated columns.
pub(super) fn candidate(shape: MaskShape, seed: u64) -> Candidate {
    let mut random = crate::rng::rng(seed, "candidate");
    let columns = shape.columns;
    let mix = Mat::from_fn(columns, columns, |_, _| random.random_range(-1.0..1.0));
    let hessian = damped(&(&mix * mix.transpose()), 0.2);
    let best: Vec<f64> = (0..shape.rows * columns)
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    Candidate {
        weight: best.clone(),
        best,
        hessian,
        scale: vec![1.0; shape.rows],
    }
}

/// The squared error that a mask leaves, the weights that stay refitted or as they were.
pub(super) fn loss(group: &Candidate, stays: &[bool], rows: usize, refitted: bool) -> f64 {
    let columns = stays.len() / rows;
    let weight = Mat::from_fn(columns, rows, |column, row| {
        group.best[row * columns + column]
    });
    let right = &group.hessian * &weight;
    let new = if refitted {
        solve_on(&group.hessian, &right, stays).unwrap()
    } else {
        Mat::from_fn(columns, rows, |column, row| {
            if stays[row * columns + column] {
                weight[(column, row)]
            } else {
                0.0
            }
        })
    };
    let off = &weight - &new;
    let moved = &group.hessian * &off;
    (0..rows)
        .map(|row| {
            (0..columns)
                .map(|column| off[(column, row)] * moved[(column, row)])
                .sum::<f64>()
        })
        .sum()
}
