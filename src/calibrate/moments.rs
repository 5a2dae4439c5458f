//! Sums over activations that scores and recovery are computed from; sums of parts of the data add up to those of the whole.

use std::collections::BTreeMap;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// First and second moments of the rows of an activation matrix, group by group.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// How many rows were added.
    pub rows: f64,
    /// Sum of the rows: groups × columns.
    pub sum: Vec<f64>,
    /// Sum of the rows' outer products: for each group columns × columns, symmetric. Empty where the squares alone are kept.
    pub gram: Vec<Mat<f64>>,
    /// Sum of the rows' squares where the products are not kept: groups × columns.
    pub squares: Vec<f64>,
}

/// How the columns of one group go together.
#[derive(Clone, Debug, PartialEq)]
pub enum Covariance {
    /// As the rows say.
    Full(Mat<f64>),
    /// The variances alone: there are not rows enough to tell more.
    Diagonal(Vec<f64>),
}

impl Covariance {
    /// One entry.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        match self {
            Covariance::Full(matrix) => matrix[(row, column)],
            Covariance::Diagonal(variances) if row == column => variances[row],
            Covariance::Diagonal(_) => 0.0,
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        match self {
            Covariance::Full(matrix) => matrix.nrows(),
            Covariance::Diagonal(variances) => variances.len(),
        }
    }
}

/// Rows whose products are added in single precision before they go into the sums (the error of a block of this size is
/// far below that of the data).
const BLOCK: usize = 4096;
/// Columns are shared among threads in panels, of which there are about so many where they have the best width.
const PANELS: usize = 6;
/// Panels are multiples of this wide, for kernels work on so many columns at once.
const LANES: usize = 16;
/// Narrower panels leave kernels idle, wider ones compute much above the diagonal and leave the caches.
const NARROWEST: usize = 48;
const WIDEST: usize = 128;
/// Fewer rows than this for a column, and correlations are noise (onnxsim's README measured the cliff).
pub const ROWS_PER_COLUMN: f64 = 2.0;

impl Moments {
    /// No rows yet.
    pub fn new(groups: usize, columns: usize) -> Self {
        let gram = vec![Mat::zeros(columns, columns); groups];
        Moments {
            rows: 0.0,
            sum: vec![0.0; groups * columns],
            gram,
            squares: Vec::new(),
        }
    }

    /// The same without the products of different columns, for fewer rows than would tell anything of these.
    pub fn diagonal(columns: usize) -> Self {
        Moments {
            rows: 0.0,
            sum: vec![0.0; columns],
            gram: Vec::new(),
            squares: vec![0.0; columns],
        }
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        if self.squares.is_empty() {
            self.gram.len()
        } else {
            1
        }
    }

    /// Columns of each group.
    pub fn columns(&self) -> usize {
        if self.squares.is_empty() {
            self.gram.first().map_or(0, Mat::nrows)
        } else {
            self.squares.len()
        }
    }

    /// The sum of squares of a column.
    pub fn square(&self, group: usize, column: usize) -> f64 {
        match self.gram.get(group) {
            Some(gram) => gram[(column, column)],
            None => self.squares.get(column).copied().unwrap_or(0.0),
        }
    }

    /// Adds rows, given as groups × rows × columns.
    pub fn add(&mut self, matrix: &[f32]) {
        self.add_parts(&[matrix]);
    }

    /// Adds rows from several runs, each given as groups × rows × columns. What is added for one run does not depend on
    /// which others come with it, so that sums over parts of the data are those of the whole. Threads share the columns
    /// among them, never the rows, so that the numbers are the same whatever their number.
    pub fn add_parts<P: AsRef<[f32]> + Sync>(&mut self, parts: &[P]) {
        let (groups, columns) = (self.groups(), self.columns());
        if groups * columns == 0 {
            return;
        }
        for matrix in parts {
            self.rows += (matrix.as_ref().len() / (groups * columns)) as f64;
        }
        if !self.squares.is_empty() {
            for row in parts
                .iter()
                .flat_map(|part| part.as_ref().chunks_exact(columns))
            {
                for ((sum, square), element) in self.sum.iter_mut().zip(&mut self.squares).zip(row)
                {
                    *sum += f64::from(*element);
                    *square += f64::from(*element) * f64::from(*element);
                }
            }
            return;
        }
        let width = (columns / PANELS)
            .next_multiple_of(LANES)
            .clamp(NARROWEST, WIDEST);
        self.gram
            .par_iter_mut()
            .zip(self.sum.par_chunks_mut(columns))
            .enumerate()
            .for_each(|(group, (gram, sum))| {
                let panels = gram
                    .as_mut()
                    .par_col_chunks_mut(width)
                    .zip(sum.par_chunks_mut(width))
                    .enumerate();
                panels.for_each(|(panel, (gram, sum))| {
                    add_panel(gram, sum, panel * width, parts, (group, groups))
                });
                for column in 0..columns {
                    for row in column + 1..columns {
                        gram[(column, row)] = gram[(row, column)];
                    }
                }
            });
    }

    /// Adds what another part of the data gave. Errors: other groups or columns.
    pub fn merge(&mut self, other: &Moments) -> Result<(), String> {
        let alike = self.squares.is_empty() == other.squares.is_empty();
        if !alike || self.groups() != other.groups() || self.columns() != other.columns() {
            return Err("the statistics are of another model".to_owned());
        }
        self.rows += other.rows;
        self.sum
            .iter_mut()
            .zip(&other.sum)
            .for_each(|(sum, other)| *sum += other);
        self.gram
            .iter_mut()
            .zip(&other.gram)
            .for_each(|(gram, other)| *gram += other);
        self.squares
            .iter_mut()
            .zip(&other.squares)
            .for_each(|(square, other)| *square += other);
        Ok(())
    }

    /// Means of a group's columns.
    pub fn mean(&self, group: usize) -> Vec<f64> {
        let columns = self.columns();
        self.sum[group * columns..(group + 1) * columns]
            .iter()
            .map(|sum| sum / self.rows.max(1.0))
            .collect()
    }

    /// Whether there are rows enough to tell how columns go together. Fewer than two for a column, and any column seems
    /// to be made of the others.
    pub fn determined(&self) -> bool {
        self.squares.is_empty() && self.rows >= ROWS_PER_COLUMN * self.columns() as f64
    }

    /// Covariance of a group's columns; their variances alone where it is not [determined](Self::determined).
    pub fn covariance(&self, group: usize) -> Covariance {
        let mean = self.mean(group);
        let rows = self.rows.max(1.0);
        if !self.determined() {
            let variance =
                |column: usize| self.square(group, column) / rows - mean[column] * mean[column];
            return Covariance::Diagonal((0..self.columns()).map(variance).collect());
        }
        let entry = |row: usize, column: usize| {
            self.gram[group][(row, column)] / rows - mean[row] * mean[column]
        };
        Covariance::Full(Mat::from_fn(self.columns(), self.columns(), entry))
    }
}

/// Adds rows to some neighbouring columns of one group, from the column `start` on: to the part of their products that is
/// not above the diagonal, and to their sums.
fn add_panel<P: AsRef<[f32]>>(
    mut gram: MatMut<f64>,
    sum: &mut [f64],
    start: usize,
    parts: &[P],
    (group, groups): (usize, usize),
) {
    let (columns, width) = (gram.nrows(), gram.ncols());
    let mut product = Mat::<f32>::zeros(columns - start, width);
    for matrix in parts {
        let matrix = matrix.as_ref();
        let size = matrix.len() / groups;
        let matrix = matrix
            .get(group * size..(group + 1) * size)
            .unwrap_or_default();
        for block in matrix.chunks(BLOCK * columns) {
            let rows = MatRef::from_row_major_slice(block, block.len() / columns, columns);
            let below = rows.subcols(start, columns - start).transpose();
            matmul(
                product.as_mut(),
                Accum::Replace,
                below,
                rows.subcols(start, width),
                1.0,
                Par::Seq,
            );
            for (mut into, from) in gram
                .as_mut()
                .subrows_mut(start, columns - start)
                .col_iter_mut()
                .zip(product.col_iter())
            {
                let (into, from) = (
                    into.as_mut().try_as_col_major_mut(),
                    from.try_as_col_major(),
                );
                if let (Some(into), Some(from)) = (into, from) {
                    into.as_slice_mut()
                        .iter_mut()
                        .zip(from.as_slice())
                        .for_each(|(sum, product)| *sum += f64::from(*product));
                }
            }
        }
        for row in matrix.chunks_exact(columns) {
            sum.iter_mut()
                .zip(&row[start..])
                .for_each(|(sum, element)| *sum += f64::from(*element));
        }
    }
}

/// Moments of the activations of a model's products, by what tells their matrices apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Samples that they were taken from.
    pub samples: usize,
    /// By [`crate::linear::Linear::key`].
    #[doc(hidden)]
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
        (0..count * 3)
            .map(|at| ((at * 29 + seed * 7) % 17) as f32 / 4.0)
            .collect()
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
                assert!(
                    (one.gram[0][(row, column)] - whole.gram[0][(row, column)]).abs()
                        < 1e-6 * whole.gram[0][(row, column)]
                );
            }
        }
        assert!(one.merge(&Moments::new(1, 4)).is_err());
    }

    #[test]
    fn any_number_of_threads_gives_the_same_numbers() {
        let (groups, columns) = (2, 150);
        let part = |rows: usize| -> Vec<f32> {
            (0..groups * rows * columns)
                .map(|at| ((at * 7919) % 1009) as f32 / 997.0 - 0.5)
                .collect()
        };
        let parts = [part(70), part(3), part(41)];
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut moments = Moments::new(groups, columns);
            pool.install(|| moments.add_parts(&parts));
            moments
        };
        let found = with(1);
        assert_eq!(found, with(4));
        for (group, row, column) in [(0, 0, 0), (0, 149, 3), (1, 60, 60), (1, 20, 140)] {
            let rows = parts.iter().flat_map(|part| {
                part[group * part.len() / 2..(group + 1) * part.len() / 2].chunks(columns)
            });
            let wanted: f64 = rows
                .clone()
                .map(|entries| f64::from(entries[row]) * f64::from(entries[column]))
                .sum();
            assert!(
                (found.gram[group][(row, column)] - wanted).abs() < 1e-4,
                "{group} {row} {column}"
            );
            let wanted: f64 = rows.map(|entries| f64::from(entries[column])).sum();
            assert!((found.sum[group * columns + column] - wanted).abs() < 1e-9);
        }
    }

    #[test]
    fn columns_of_too_few_rows_are_not_said_to_go_together() {
        let mut moments = Moments::new(1, 3);
        moments.add(&[
            1.0, 2.0, 3.0, 2.0, 4.0, 7.0, 3.0, 6.0, 1.0, 4.0, 8.0, 0.0, 5.0, 10.0, 2.0,
        ]);
        let covariance = moments.covariance(0);
        assert!(!moments.determined());
        assert_eq!((covariance.at(0, 0), covariance.at(0, 1)), (2.0, 0.0));
        let mut few = Moments::diagonal(3);
        few.add(&[
            1.0, 2.0, 3.0, 2.0, 4.0, 7.0, 3.0, 6.0, 1.0, 4.0, 8.0, 0.0, 5.0, 10.0, 2.0,
        ]);
        assert_eq!(
            (few.covariance(0), few.mean(0), few.groups()),
            (covariance, moments.mean(0), 1)
        );
        moments.add(&[6.0, 12.0, 5.0]);
        assert!(moments.determined() && moments.covariance(0).at(0, 1) > 0.0);
        assert!(few.merge(&moments).is_err());
    }

    #[test]
    fn covariance_is_that_of_the_rows() {
        let matrix = rows(50, 3);
        let mut moments = Moments::new(1, 3);
        moments.add(&matrix);
        let (mean, covariance) = (moments.mean(0), moments.covariance(0));
        for a in 0..3 {
            for b in 0..3 {
                let products = matrix
                    .chunks(3)
                    .map(|row| (f64::from(row[a]) - mean[a]) * (f64::from(row[b]) - mean[b]));
                assert!((covariance.at(a, b) - products.sum::<f64>() / 50.0).abs() < 1e-6);
            }
        }
    }
}
