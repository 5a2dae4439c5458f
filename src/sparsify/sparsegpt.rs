//! Weights removed column by column, the error of each passed on to the columns that follow.
//!
//! SparseGPT (Frantar and Alistarh 2023): the factor U of the inverse second moments, H⁻¹ = Uᵀ U, holds for every column
//! what those behind it have to change. Masks are chosen for a block of columns when its turn comes.

use faer::{Mat, Side};
use rayon::prelude::*;

use super::obs::inverse;
use super::pattern::{MaskShape, SparsityPattern};
use crate::recover::Candidate;

/// Columns whose masks are chosen at once.
const BLOCK: usize = 128;

/// Rows that errors are carried through.
struct Sweep<'a> {
    /// U, row by row.
    factor: &'a [f64],
    columns: usize,
}

impl Sweep<'_> {
    fn diagonal(&self, column: usize) -> f64 {
        self.factor[column * self.columns + column].max(f64::MIN_POSITIVE)
    }

    /// What a weight costs as it stands.
    fn cost(&self, row: &[f64], column: usize) -> f64 {
        (row[column] / self.diagonal(column)).powi(2)
    }

    /// Zeroes a weight; those behind it make up for it.
    fn remove(&self, row: &mut [f64], column: usize) {
        let error = row[column] / self.diagonal(column);
        let along = &self.factor[column * self.columns..(column + 1) * self.columns];
        row[column..]
            .iter_mut()
            .zip(&along[column..])
            .for_each(|(weight, along)| *weight -= error * along);
        row[column] = 0.0;
    }
}

/// The weights that stay, for patterns of single weights: groups × rows × columns. `None`: second moments are singular.
pub(super) fn choose(
    pattern: SparsityPattern,
    shape: MaskShape,
    groups: &[Candidate],
    zeros: usize,
) -> Option<Vec<bool>> {
    let mut stays = vec![true; shape.elements()];
    let size = shape.rows * shape.columns;
    for (at, (group, stays)) in groups.iter().zip(stays.chunks_mut(size)).enumerate() {
        let quota = zeros * (at + 1) / shape.groups - zeros * at / shape.groups;
        one(pattern, shape, group, quota, stays)?;
    }
    Some(stays)
}

fn one(
    pattern: SparsityPattern,
    shape: MaskShape,
    group: &Candidate,
    quota: usize,
    stays: &mut [bool],
) -> Option<()> {
    let columns = shape.columns;
    let units = pattern.units(shape);
    // Columns of a cell become neighbours.
    let order: Vec<usize> = match &units.cells {
        Some((cells, _)) => cells.iter().flatten().copied().collect(),
        None => (0..columns).collect(),
    };
    let moved = Mat::from_fn(columns, columns, |a, b| group.hessian[(order[a], order[b])]);
    let lower = inverse(&moved)?.llt(Side::Lower).ok()?;
    let lower = lower.L();
    let factor: Vec<f64> = (0..columns)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| {
            if column >= row {
                lower[(column, row)]
            } else {
                0.0
            }
        })
        .collect();
    let sweep = Sweep {
        factor: &factor,
        columns,
    };
    let mut rows: Vec<Vec<f64>> = (0..shape.rows)
        .map(|row| {
            let scale = group.scale.get(row).copied().unwrap_or(1.0);
            let weight = |column: &usize| group.best[row * columns + column] * scale;
            order.iter().map(weight).collect()
        })
        .collect();
    let gone = match &units.cells {
        Some((cells, keep)) => {
            by_cells(&sweep, &mut rows, cells.first().map_or(1, Vec::len), *keep)
        }
        None => by_blocks(&sweep, &mut rows, quota),
    };
    for (row, gone) in gone.iter().enumerate() {
        for (place, column) in order.iter().enumerate() {
            stays[row * columns + column] = !gone[place];
        }
    }
    Some(())
}

/// Zeroes all but `keep` of so many neighbouring columns, row by row.
fn by_cells(sweep: &Sweep, rows: &mut [Vec<f64>], length: usize, keep: usize) -> Vec<Vec<bool>> {
    let one = |row: &mut Vec<f64>| {
        let mut gone = vec![false; sweep.columns];
        for first in (0..sweep.columns).step_by(length) {
            let mut cell: Vec<usize> = (first..first + length).collect();
            cell.sort_by(|a, b| sweep.cost(row, *a).total_cmp(&sweep.cost(row, *b)));
            cell.truncate(length - keep);
            cell.sort_unstable();
            for column in cell {
                sweep.remove(row, column);
                gone[column] = true;
            }
        }
        gone
    };
    rows.par_iter_mut().map(one).collect()
}

/// Zeroes so many weights, of each block of columns its part.
fn by_blocks(sweep: &Sweep, rows: &mut [Vec<f64>], quota: usize) -> Vec<Vec<bool>> {
    let columns = sweep.columns;
    let mut gone = vec![vec![false; columns]; rows.len()];
    for first in (0..columns).step_by(BLOCK) {
        let last = (first + BLOCK).min(columns);
        let count = quota * last / columns - quota * first / columns;
        let block = cheapest(sweep, rows, first..last, count);
        block
            .iter()
            .for_each(|(row, column)| gone[*row][*column] = true);
        rows.par_iter_mut().zip(&gone).for_each(|(row, gone)| {
            (first..last)
                .filter(|column| gone[*column])
                .for_each(|column| sweep.remove(row, column));
        });
    }
    gone
}

/// The weights of some columns that cost least.
fn cheapest(
    sweep: &Sweep,
    rows: &[Vec<f64>],
    columns: std::ops::Range<usize>,
    count: usize,
) -> Vec<(usize, usize)> {
    let mut all: Vec<(f64, usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(at, row)| {
            columns
                .clone()
                .map(move |column| (sweep.cost(row, column), at, column))
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all.truncate(count);
    all.into_iter()
        .map(|(_, row, column)| (row, column))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::testing::{candidate, loss};

    const SHAPE: MaskShape = MaskShape {
        groups: 2,
        rows: 3,
        columns: 24,
        taps: 3,
    };

    #[test]
    fn masks_obey_the_pattern_and_the_count() {
        let groups = [candidate(SHAPE, 3), candidate(SHAPE, 4)];
        let stays = choose(SparsityPattern::Free, SHAPE, &groups, 101).unwrap();
        assert_eq!(stays.iter().filter(|stays| !**stays).count(), 101);
        let pattern = SparsityPattern::Within { keep: 2, of: 4 };
        let stays = choose(pattern, SHAPE, &groups, 0).unwrap();
        assert!(pattern.holds(SHAPE, &stays));
        assert_eq!(stays.iter().filter(|stays| **stays).count(), 72);
        // Less is lost than by magnitude in every cell.
        let mut by_size = vec![true; 72];
        for cell in pattern.units(SHAPE).cells.unwrap().0 {
            for row in 0..3 {
                let mut cell = cell.clone();
                let size = |column: &usize| groups[0].best[row * 24 + column].abs();
                cell.sort_by(|a, b| size(a).total_cmp(&size(b)));
                cell[..2]
                    .iter()
                    .for_each(|column| by_size[row * 24 + column] = false);
            }
        }
        assert!(loss(&groups[0], &stays[..72], 3, true) < loss(&groups[0], &by_size, 3, true));
    }
}
