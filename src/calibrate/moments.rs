//! Sums over activations that scores and recovery are computed from; sums of parts of the data add up to those of the whole.

use std::collections::BTreeMap;

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};

/// First and second moments of the rows of an activation matrix, group by group.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// How many rows were added.
    pub rows: f64,
    /// Sum of the rows: groups × columns.
    pub sum: Vec<f64>,
    /// Sum of the rows' outer products: for each group columns × columns, symmetric.
    pub gram: Vec<Mat<f64>>,
}

/// Rows whose products are added in single precision before they go into the sums (the error of a block of this size is
/// far below that of the data).
const BLOCK: usize = 4096;
/// Fewer rows than this for a column, and correlations are noise (onnxsim's README measured the cliff).
pub const ROWS_PER_COLUMN: f64 = 2.0;

impl Moments {
    /// No rows yet.
    pub fn new(groups: usize, columns: usize) -> Self {
        Moments { rows: 0.0, sum: vec![0.0; groups * columns], gram: vec![Mat::zeros(columns, columns); groups] }
    }

    /// Columns of each group.
    pub fn columns(&self) -> usize {
        self.gram.first().map_or(0, Mat::nrows)
    }

    /// Adds rows, given as groups × rows × columns.
    pub fn add(&mut self, matrix: &[f32]) {
        self.add_parts(&[matrix]);
    }

    /// Adds rows from several runs, each given as groups × rows × columns. What is added for one run does not depend on
    /// which others come with it, so that sums over parts of the data are those of the whole.
    pub fn add_parts<P: AsRef<[f32]>>(&mut self, parts: &[P]) {
        let (groups, columns) = (self.gram.len(), self.columns());
        if groups * columns == 0 {
            return;
        }
        let mut product = Mat::<f32>::zeros(columns, columns);
        for matrix in parts {
            let matrix = matrix.as_ref();
            let rows = matrix.len() / (groups * columns);
            self.rows += rows as f64;
            for (group, gram) in self.gram.iter_mut().enumerate() {
                let matrix = &matrix[group * rows * columns..(group + 1) * rows * columns];
                let sum = &mut self.sum[group * columns..(group + 1) * columns];
                for block in matrix.chunks(BLOCK * columns) {
                    let block = MatRef::from_row_major_slice(block, block.len() / columns, columns);
                    let lower = BlockStructure::TriangularLower;
                    let whole = BlockStructure::Rectangular;
                    matmul(product.as_mut(), lower, Accum::Replace, block.transpose(), whole, block, whole, 1.0, Par::Seq);
                    for column in 0..columns {
                        for row in column..columns {
                            gram[(row, column)] += f64::from(product[(row, column)]);
                        }
                    }
                }
                for row in matrix.chunks_exact(columns) {
                    sum.iter_mut().zip(row).for_each(|(sum, element)| *sum += f64::from(*element));
                }
            }
        }
        for gram in &mut self.gram {
            for column in 0..columns {
                for row in column + 1..columns {
                    gram[(column, row)] = gram[(row, column)];
                }
            }
        }
    }

    /// Adds what another part of the data gave. Errors: other groups or columns.
    pub fn merge(&mut self, other: &Moments) -> Result<(), String> {
        if self.gram.len() != other.gram.len() || self.columns() != other.columns() {
            return Err("the statistics are of another model".to_owned());
        }
        self.rows += other.rows;
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, other)| *sum += other);
        self.gram.iter_mut().zip(&other.gram).for_each(|(gram, other)| *gram += other);
        Ok(())
    }

    /// Means of a group's columns.
    pub fn mean(&self, group: usize) -> Vec<f64> {
        let columns = self.columns();
        self.sum[group * columns..(group + 1) * columns].iter().map(|sum| sum / self.rows.max(1.0)).collect()
    }

    /// Whether there are rows enough to tell how columns go together. Fewer than two for a column, and any column seems
    /// to be made of the others.
    pub fn determined(&self) -> bool {
        self.rows >= ROWS_PER_COLUMN * self.columns() as f64
    }

    /// Covariance of a group's columns; their variances alone where it is not [determined](Self::determined).
    pub fn covariance(&self, group: usize) -> Mat<f64> {
        let mean = self.mean(group);
        let rows = self.rows.max(1.0);
        let determined = self.determined();
        let entry = |row: usize, column: usize| self.gram[group][(row, column)] / rows - mean[row] * mean[column];
        Mat::from_fn(self.columns(), self.columns(), |row, column| if determined || row == column { entry(row, column) } else { 0.0 })
    }
}

/// Moments of the activations of a model's products, by what tells their matrices apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Samples that they were taken from.
    pub samples: usize,
    /// By [`crate::linear::Linear::key`].
    pub of: BTreeMap<String, Moments>,
}

impl Statistics {
    /// Adds what another part of the data gave. Errors: statistics of another model.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), String> {
        if !self.of.is_empty() && !self.of.keys().eq(other.of.keys()) {
            return Err("the statistics are of another model".to_owned());
        }
        self.samples += other.samples;
        for (key, moments) in &other.of {
            match self.of.get_mut(key) {
                Some(own) => own.merge(moments)?,
                None => {
                    self.of.insert(key.clone(), moments.clone());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, seed: usize) -> Vec<f32> {
        (0..count * 3).map(|at| ((at * 29 + seed * 7) % 17) as f32 / 4.0).collect()
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (first, second) = (rows(40, 1), rows(25, 2));
        let mut whole = Moments::new(1, 3);
        whole.add(&[first.clone(), second.clone()].concat());
        let (mut one, mut other) = (Moments::new(1, 3), Moments::new(1, 3));
        one.add(&first);
        other.add(&second);
        one.merge(&other).unwrap();
        assert_eq!(one.rows, 65.0);
        for row in 0..3 {
            assert!((one.sum[row] - whole.sum[row]).abs() < 1e-9);
            for column in 0..3 {
                assert!((one.gram[0][(row, column)] - whole.gram[0][(row, column)]).abs() < 1e-6 * whole.gram[0][(row, column)]);
            }
        }
        assert!(one.merge(&Moments::new(1, 4)).is_err());
    }

    #[test]
    fn columns_of_too_few_rows_are_not_said_to_go_together() {
        let mut moments = Moments::new(1, 3);
        moments.add(&[1.0, 2.0, 3.0, 2.0, 4.0, 7.0, 3.0, 6.0, 1.0, 4.0, 8.0, 0.0, 5.0, 10.0, 2.0]);
        let covariance = moments.covariance(0);
        assert!(!moments.determined());
        assert_eq!((covariance[(0, 0)], covariance[(0, 1)]), (2.0, 0.0));
        moments.add(&[6.0, 12.0, 5.0]);
        assert!(moments.determined() && moments.covariance(0)[(0, 1)] > 0.0);
    }

    #[test]
    fn covariance_is_that_of_the_rows() {
        let matrix = rows(50, 3);
        let mut moments = Moments::new(1, 3);
        moments.add(&matrix);
        let (mean, covariance) = (moments.mean(0), moments.covariance(0));
        for a in 0..3 {
            for b in 0..3 {
                let products = matrix.chunks(3).map(|row| (f64::from(row[a]) - mean[a]) * (f64::from(row[b]) - mean[b]));
                assert!((covariance[(a, b)] - products.sum::<f64>() / 50.0).abs() < 1e-6);
            }
        }
    }
}
