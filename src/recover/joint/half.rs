//! One of two layers that are fitted together, as matrix products.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use crate::recover::aim::Clamp;
use crate::recover::rows::Layer;

/// Matrices of one layer.
pub(super) struct Half<'a> {
    pub groups: usize,
    pub rows: usize,
    pub columns: usize,
    pub biased: bool,
    pub scale: &'a [f64],
    pub offset: &'a [f64],
    pub function: Option<Clamp>,
}

impl<'a> Half<'a> {
    pub fn new(layer: &'a Layer, function: Option<Clamp>) -> Self {
        let view = &layer.pruned;
        Half {
            groups: view.groups,
            rows: view.rows,
            columns: view.columns,
            biased: layer.bias.is_some(),
            scale: &layer.aim.scale,
            offset: &layer.aim.offset,
            function,
        }
    }

    pub fn units(&self) -> usize {
        self.groups * self.rows
    }

    pub fn weights(&self) -> usize {
        self.units() * self.columns
    }

    pub fn input<'m>(&self, inputs: &'m [f32], count: usize, group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(
            &inputs[group * count * self.columns..][..count * self.columns],
            count,
            self.columns,
        )
    }

    pub fn weight<'m>(&self, weight: &'m [f32], group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(
            &weight[group * self.rows * self.columns..][..self.rows * self.columns],
            self.rows,
            self.columns,
        )
    }

    pub fn output<'m>(&self, output: &'m [f32], count: usize, group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(output, count, self.units()).submatrix(
            0,
            group * self.rows,
            count,
            self.rows,
        )
    }

    /// Adds the products of inputs and weights: count × units.
    pub fn multiply(&self, output: &mut [f32], inputs: &[f32], count: usize, weight: &[f32]) {
        for group in 0..self.groups {
            let into = MatMut::from_row_major_slice_mut(&mut *output, count, self.units());
            let into = into.submatrix_mut(0, group * self.rows, count, self.rows);
            let (inputs, weight) = (self.input(inputs, count, group), self.weight(weight, group));
            matmul(into, Accum::Add, inputs, weight.transpose(), 1.0, Par::Seq);
        }
    }

    /// What the weights and the bias get of `pulls` on the outputs (count × units).
    pub fn gather(
        &self,
        pulls: &[f32],
        inputs: &[f32],
        count: usize,
        weight: &mut [f64],
        bias: &mut [f64],
    ) {
        for group in 0..self.groups {
            let mut part = Mat::<f32>::zeros(self.rows, self.columns);
            let pulls = self.output(pulls, count, group);
            matmul(
                part.as_mut(),
                Accum::Replace,
                pulls.transpose(),
                self.input(inputs, count, group),
                1.0,
                Par::Seq,
            );
            for row in 0..self.rows {
                let into = &mut weight[(group * self.rows + row) * self.columns..][..self.columns];
                into.iter_mut()
                    .enumerate()
                    .for_each(|(column, sum)| *sum += f64::from(part[(row, column)]));
            }
        }
        if self.biased {
            for row in pulls.chunks_exact(self.units()) {
                bias.iter_mut()
                    .zip(row)
                    .for_each(|(sum, pull)| *sum += f64::from(*pull));
            }
        }
    }

    /// What the inputs get of pulls on the outputs: groups × count × columns.
    pub fn back(&self, pulls: &[f32], count: usize, weight: &[f32]) -> Vec<f32> {
        let mut inputs = vec![0.0f32; self.groups * count * self.columns];
        for group in 0..self.groups {
            let into = &mut inputs[group * count * self.columns..][..count * self.columns];
            let into = MatMut::from_row_major_slice_mut(into, count, self.columns);
            matmul(
                into,
                Accum::Replace,
                self.output(pulls, count, group),
                self.weight(weight, group),
                1.0,
                Par::Seq,
            );
        }
        inputs
    }
}
