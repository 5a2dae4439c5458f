//! One group of a layer that is fitted: its rows, and what weights make of them.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::aim::Clamp;
use super::sample::SampleGroup;

/// One group of a layer: its rows, and how its output is used.
pub(super) struct Problem<'a> {
    pub fit: &'a SampleGroup<'a>,
    pub held: &'a SampleGroup<'a>,
    pub columns: usize,
    pub channels: usize,
    pub scale: &'a [f64],
    pub offset: &'a [f64],
    pub function: Option<Clamp>,
    /// Whether there is a bias to fit.
    pub biased: bool,
    /// Which weights may differ from zero, channels × columns; `None`: all.
    pub support: Option<Vec<bool>>,
}

/// Rows that one thread looks at.
pub(super) const ROWS_AT_ONCE: usize = 1024;

impl Problem<'_> {
    /// What the layer itself should give: the aims less what is added, through the affine part backwards.
    pub(super) fn targets(&self) -> Vec<f32> {
        let mut targets = vec![0.0f32; self.fit.aims.len()];
        for (at, (target, (aim, added))) in targets
            .iter_mut()
            .zip(self.fit.aims.iter().zip(&self.fit.added))
            .enumerate()
        {
            let channel = at % self.channels;
            *target = self.backwards(channel, aim - added);
        }
        targets
    }

    /// A sum through the affine part backwards.
    pub(super) fn backwards(&self, channel: usize, sum: f32) -> f32 {
        let scale = self.scale[channel];
        // A channel that a norm silences is as good as any.
        if scale.abs() < 1e-12 {
            0.0
        } else {
            ((f64::from(sum) - self.offset[channel]) / scale) as f32
        }
    }

    /// Mean squared error over the held-out rows, after the function.
    pub fn error(&self, weight: &[f64], bias: &[f64]) -> f64 {
        let outputs = self.product(&self.held.inputs, weight);
        let clamp = |sum: f64| {
            self.function
                .map_or(sum, |function| sum.max(function.low).min(function.high))
        };
        let size = self.channels * ROWS_AT_ONCE;
        let of_block = |(block, outputs): (usize, &[f32])| {
            let start = block * size;
            let mut error = 0.0;
            for (at, output) in outputs.iter().enumerate() {
                let (at, channel) = (start + at, at % self.channels);
                let sum = (f64::from(*output) + bias[channel]) * self.scale[channel]
                    + self.offset[channel]
                    + f64::from(self.held.added[at]);
                error += (clamp(sum) - clamp(f64::from(self.held.aims[at]))).powi(2);
            }
            error
        };
        // Added in the order of the rows, whatever the number of threads.
        let errors: Vec<f64> = outputs
            .par_chunks(size.max(1))
            .enumerate()
            .map(of_block)
            .collect();
        let error: f64 = errors.iter().sum();
        error / outputs.len().max(1) as f64
    }

    /// rows × channels.
    pub(super) fn product(&self, pieces: &[Cow<[f32]>], weight: &[f64]) -> Vec<f32> {
        let weight: Vec<f32> = weight.iter().map(|number| *number as f32).collect();
        let weight = MatRef::from_row_major_slice(&weight, self.channels, self.columns);
        let elements: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut outputs = vec![0.0f32; elements / self.columns.max(1) * self.channels];
        let mut rest = &mut outputs[..];
        for piece in pieces {
            let rows = piece.len() / self.columns.max(1);
            let (part, after) = rest.split_at_mut(rows * self.channels);
            rest = after;
            let target = faer::MatMut::from_row_major_slice_mut(part, rows, self.channels);
            let inputs = MatRef::from_row_major_slice(piece, rows, self.columns);
            matmul(
                target,
                Accum::Replace,
                inputs,
                weight.transpose(),
                1.0,
                Par::rayon(0),
            );
        }
        outputs
    }

    /// channels × columns: covariance of targets and inputs; and the targets' means.
    pub(super) fn cross(&self, mean: &[f64], targets: &[f32]) -> (Mat<f64>, Vec<f64>) {
        /// Rows whose products are added in single precision.
        const BLOCK: usize = 4096;
        let rows = targets.len() / self.channels;
        let mut sum = Mat::<f64>::zeros(self.channels, self.columns);
        let mut part = Mat::<f32>::zeros(self.channels, self.columns);
        let mut means = vec![0.0; self.channels];
        let mut rest = targets;
        for inputs in self
            .fit
            .inputs
            .iter()
            .flat_map(|piece| piece.chunks(BLOCK * self.columns))
        {
            let count = inputs.len() / self.columns;
            let (targets, after) = rest.split_at(count * self.channels);
            rest = after;
            let inputs = MatRef::from_row_major_slice(inputs, count, self.columns);
            let matrix = MatRef::from_row_major_slice(targets, count, self.channels);
            matmul(
                part.as_mut(),
                Accum::Replace,
                matrix.transpose(),
                inputs,
                1.0,
                Par::rayon(0),
            );
            for column in 0..self.columns {
                for row in 0..self.channels {
                    sum[(row, column)] += f64::from(part[(row, column)]);
                }
            }
            for row in targets.chunks_exact(self.channels) {
                means
                    .iter_mut()
                    .zip(row)
                    .for_each(|(mean, target)| *mean += f64::from(*target));
            }
        }
        means.iter_mut().for_each(|mean| *mean /= rows as f64);
        let cross = Mat::from_fn(self.channels, self.columns, |row, column| {
            sum[(row, column)] / rows as f64 - means[row] * mean[column]
        });
        (cross, means)
    }
}
