//! Weights removed one by one, each time the one that costs least when the others make up for it.
//!
//! ExactOBS (Frantar and Alistarh 2022): every band of rows is taken apart on its own, with the costs noted; then as many
//! steps are taken of each as make up the layer's zeros at the least cost together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::pattern::{MaskShape, SparsityPattern, Units};
use crate::recover::Candidate;

/// Multiplications that the exact order may cost.
const WORK: usize = 6_000_000_000;

/// Whether a product is small enough for the exact order.
pub(super) fn is_small(shape: MaskShape, units: &Units) -> bool {
    let bands = shape.groups * shape.rows.div_ceil(units.band.max(1));
    let each = shape.columns.saturating_pow(3) / 6;
    bands.saturating_mul(each) <= WORK
}

/// The inverse of a positive definite matrix; `None` where it is none.
pub(super) fn inverse(matrix: &Mat<f64>) -> Option<Mat<f64>> {
    let size = matrix.nrows();
    Some(
        matrix
            .llt(Side::Lower)
            .ok()?
            .solve(Mat::<f64>::identity(size, size)),
    )
}

/// The weights that stay: groups × rows × columns, `zeros` of them not. `None`: second moments are singular.
pub(super) fn choose(
    pattern: SparsityPattern,
    shape: MaskShape,
    groups: &[Candidate],
    zeros: usize,
) -> Option<Vec<bool>> {
    let units = pattern.units(shape);
    let (columns, band) = (shape.columns, units.band);
    let inverses: Vec<Mat<f64>> = groups
        .iter()
        .map(|group| inverse(&group.hessian))
        .collect::<Option<_>>()?;
    let bands: Vec<(usize, usize)> = (0..shape.groups)
        .flat_map(|group| (0..shape.rows).step_by(band).map(move |row| (group, row)))
        .collect();
    let steps: Vec<Vec<(usize, f64)>> = bands
        .par_iter()
        .map(|(group, first)| {
            let rows = *first..(first + band).min(shape.rows);
            let scaled = |row: usize| -> Vec<f64> {
                let scale = groups[*group].scale.get(row).copied().unwrap_or(1.0);
                groups[*group].best[row * columns..(row + 1) * columns]
                    .iter()
                    .map(|weight| weight * scale)
                    .collect()
            };
            Elimination::new(&inverses[*group], rows.map(scaled).collect()).run(&units)
        })
        .collect();
    let size = |at: usize, set: usize| (band.min(shape.rows - bands[at].1)) * units.sets[set].len();
    let taken = match units.cells {
        Some(_) => steps.iter().map(Vec::len).collect(),
        None => cheapest(&steps, size, zeros),
    };
    let mut stays = vec![true; shape.elements()];
    for (at, (group, first)) in bands.iter().enumerate() {
        for row in *first..(first + band).min(shape.rows) {
            let start = (group * shape.rows + row) * columns;
            for (set, _) in &steps[at][..taken[at]] {
                units.sets[*set]
                    .iter()
                    .for_each(|column| stays[start + column] = false);
            }
        }
    }
    Some(stays)
}

/// How many steps of each band are taken so that `zeros` weights go at the least cost: always the band whose next one is
/// cheapest.
fn cheapest(
    steps: &[Vec<(usize, f64)>],
    size: impl Fn(usize, usize) -> usize,
    zeros: usize,
) -> Vec<usize> {
    let mut taken = vec![0; steps.len()];
    let next = |at: usize, taken: &[usize]| {
        let (_, cost) = steps[at].get(taken[at])?;
        Some(Reverse((BlockCost(*cost), at)))
    };
    let mut heap: BinaryHeap<_> = (0..steps.len()).filter_map(|at| next(at, &taken)).collect();
    let mut gone = 0;
    while gone < zeros {
        let Some(Reverse((_, at))) = heap.pop() else {
            break;
        };
        gone += size(at, steps[at][taken[at]].0);
        taken[at] += 1;
        heap.extend(next(at, &taken));
    }
    taken
}

/// A number in its total order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct BlockCost(f64);

impl Eq for BlockCost {}

impl PartialOrd for BlockCost {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BlockCost {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Some rows, from which one set of columns after the other is removed.
struct Elimination {
    /// Inverse second moments of the columns that are left, the lower triangle, rows `stride` apart.
    inverse: Vec<f64>,
    stride: usize,
    left: usize,
    /// Row by row, by slot.
    weights: Vec<Vec<f64>>,
    /// For each column its slot, and for each slot its column.
    slot_of: Vec<usize>,
    column_at: Vec<usize>,
}

impl Elimination {
    fn new(inverse: &Mat<f64>, weights: Vec<Vec<f64>>) -> Self {
        let size = inverse.nrows();
        let mut flat = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                flat[row * size + column] = inverse[(row, column)];
            }
        }
        Elimination {
            inverse: flat,
            stride: size,
            left: size,
            weights,
            slot_of: (0..size).collect(),
            column_at: (0..size).collect(),
        }
    }

    /// Removes sets of columns in the order of their costs, as many as may go.
    fn run(mut self, units: &Units) -> Vec<(usize, f64)> {
        let mut open: Vec<usize> = (0..units.sets.len()).collect();
        let mut quota = Vec::new();
        let mut cell_of = vec![0; units.sets.len()];
        if let Some((cells, keep)) = &units.cells {
            for (at, cell) in cells.iter().enumerate() {
                cell.iter().for_each(|set| cell_of[*set] = at);
                quota.push(cell.len().saturating_sub(*keep));
            }
            open.retain(|set| quota[cell_of[*set]] > 0);
        }
        let mut steps = Vec::new();
        while let Some((place, cost)) = open
            .iter()
            .enumerate()
            .map(|(place, set)| (place, self.cost(&units.sets[*set])))
            .min_by(|a, b| a.1.total_cmp(&b.1))
        {
            let set = open.swap_remove(place);
            units.sets[set]
                .iter()
                .for_each(|column| self.remove(*column));
            steps.push((set, cost));
            if let Some(quota) = quota.get_mut(cell_of[set]) {
                *quota -= 1;
                if *quota == 0 {
                    open.retain(|other| cell_of[*other] != cell_of[set]);
                }
            }
        }
        steps
    }

    fn entry(&self, a: usize, b: usize) -> f64 {
        self.inverse[a.max(b) * self.stride + a.min(b)]
    }

    /// What removing some columns together costs: w_P (H⁻¹_PP)⁻¹ w_Pᵀ over all rows.
    fn cost(&self, set: &[usize]) -> f64 {
        if let [only] = set {
            let slot = self.slot_of[*only];
            let energy: f64 = self.weights.iter().map(|row| row[slot] * row[slot]).sum();
            return energy / self.entry(slot, slot).max(f64::MIN_POSITIVE);
        }
        let slots: Vec<usize> = set.iter().map(|column| self.slot_of[*column]).collect();
        let factor = factor(slots.len(), |a, b| self.entry(slots[a], slots[b]));
        self.weights
            .iter()
            .map(|row| {
                // The square of L⁻¹ w.
                let mut solved = vec![0.0; slots.len()];
                for a in 0..slots.len() {
                    let before: f64 = (0..a).map(|b| factor[a][b] * solved[b]).sum();
                    solved[a] = (row[slots[a]] - before) / factor[a][a];
                }
                solved.iter().map(|number| number * number).sum::<f64>()
            })
            .sum()
    }

    /// Removes a column; the others make up for it.
    fn remove(&mut self, column: usize) {
        let (slot, left, stride) = (self.slot_of[column], self.left, self.stride);
        let pivot = self.entry(slot, slot).max(f64::MIN_POSITIVE);
        let along: Vec<f64> = (0..left).map(|other| self.entry(other, slot)).collect();
        for row in &mut self.weights {
            let factor = row[slot] / pivot;
            row.iter_mut()
                .zip(&along)
                .for_each(|(weight, along)| *weight -= factor * along);
        }
        for (at, row) in self.inverse.chunks_exact_mut(stride).take(left).enumerate() {
            let factor = along[at] / pivot;
            row[..=at]
                .iter_mut()
                .zip(&along)
                .for_each(|(entry, along)| *entry -= factor * along);
        }
        // The last one takes its slot.
        let last = left - 1;
        if slot != last {
            for other in 0..last {
                let moved = self.entry(last, if other == slot { last } else { other });
                self.inverse[slot.max(other) * stride + slot.min(other)] = moved;
            }
            self.weights
                .iter_mut()
                .for_each(|row| row[slot] = row[last]);
            let moved = self.column_at[last];
            (self.column_at[slot], self.slot_of[moved]) = (moved, slot);
        }
        self.weights.iter_mut().for_each(|row| row[last] = 0.0);
        self.left = last;
    }
}

/// The lower triangle L of a small positive definite matrix L Lᵀ.
fn factor(size: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let mut factor = vec![vec![0.0; size]; size];
    for a in 0..size {
        for b in 0..=a {
            let before: f64 = (0..b).map(|c| factor[a][c] * factor[b][c]).sum();
            let rest = entry(a, b) - before;
            factor[a][b] = if a == b {
                rest.max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / factor[b][b]
            };
        }
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::testing::{candidate, loss};

    const SHAPE: MaskShape = MaskShape {
        groups: 1,
        rows: 4,
        columns: 12,
        taps: 3,
    };

    #[test]
    fn costs_of_all_steps_add_up_to_the_loss() {
        let group = candidate(SHAPE, 1);
        let inverse = inverse(&group.hessian).unwrap();
        let row = group.best[..12].to_vec();
        for pattern in [
            SparsityPattern::Free,
            SparsityPattern::Kernels,
            SparsityPattern::Blocks {
                rows: 1,
                channels: 4,
            },
        ] {
            let units = pattern.units(SHAPE);
            let steps = Elimination::new(&inverse, vec![row.clone()]).run(&units);
            let mut stays = vec![true; 48];
            let mut sum = 0.0;
            for (set, cost) in steps.iter().take(steps.len() / 2) {
                units.sets[*set]
                    .iter()
                    .for_each(|column| stays[*column] = false);
                sum += cost;
            }
            let found = loss(&group, &stays, 4, true);
            assert!(
                (found - sum).abs() < 1e-6 * sum,
                "{pattern}: {found} and {sum}"
            );
        }
    }

    #[test]
    fn it_loses_less_than_going_by_magnitude() {
        let group = candidate(SHAPE, 2);
        let stays = choose(
            SparsityPattern::Free,
            SHAPE,
            std::slice::from_ref(&group),
            24,
        )
        .unwrap();
        assert_eq!(stays.iter().filter(|stays| !**stays).count(), 24);
        let mut order: Vec<usize> = (0..48).collect();
        order.sort_by(|a, b| group.best[*a].abs().total_cmp(&group.best[*b].abs()));
        let mut by_size = vec![true; 48];
        order[..24].iter().for_each(|at| by_size[*at] = false);
        assert!(loss(&group, &stays, 4, true) < 0.9 * loss(&group, &by_size, 4, true));
    }
}
