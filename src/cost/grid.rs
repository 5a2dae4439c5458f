//! Measured times as functions of what is kept.

use std::sync::Arc;

use super::share::KeptShare;

/// Milliseconds at the points of a grid of widths, between them linear in each.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// For each width its points, ascending shares of the whole.
    axes: Vec<Vec<f64>>,
    /// Milliseconds, the last width running fastest.
    milliseconds: Vec<f64>,
}

impl Grid {
    /// A grid. `None` where the numbers do not fill it.
    pub fn new(axes: Vec<Vec<f64>>, milliseconds: Vec<f64>) -> Option<Self> {
        let fills = axes.iter().map(Vec::len).product::<usize>() == milliseconds.len();
        (fills && axes.iter().all(|axis| !axis.is_empty() && axis.is_sorted()))
            .then_some(Grid { axes, milliseconds })
    }

    /// Milliseconds proportional to the product of all widths, for what cannot be measured narrower.
    pub fn proportional(widths: usize, whole: f64) -> Self {
        let mut milliseconds = vec![0.0; 1 << widths];
        if let Some(last) = milliseconds.last_mut() {
            *last = whole;
        }
        Grid {
            axes: vec![vec![0.0, 1.0]; widths],
            milliseconds,
        }
    }

    /// Milliseconds at these shares; below the smallest point along the line through the two smallest, not below nothing.
    pub fn at(&self, shares: &[f64]) -> f64 {
        self.inside(0, 0, shares).max(0.0)
    }

    fn inside(&self, depth: usize, row: usize, shares: &[f64]) -> f64 {
        let Some(axis) = self.axes.get(depth) else {
            return self.milliseconds.get(row).copied().unwrap_or(0.0);
        };
        let share = shares.get(depth).copied().unwrap_or(1.0);
        let value = |point: usize| self.inside(depth + 1, row * axis.len() + point, shares);
        let upper = axis
            .partition_point(|point| *point < share)
            .clamp(1, axis.len().max(2) - 1);
        let (Some(low), Some(high)) = (axis.get(upper - 1), axis.get(upper)) else {
            return value(0);
        };
        if share == *high {
            return value(upper);
        }
        let part = ((share - low) / (high - low)).min(1.0);
        let (below, above) = (value(upper - 1), value(upper));
        below + (above - below) * part
    }
}

/// The measured time of one node.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The widths that it depends on.
    pub widths: Vec<KeptShare>,
    /// Milliseconds by their shares.
    pub grid: Arc<Grid>,
    /// What the grid's numbers are multiplied by.
    pub factor: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_points_times_are_linear_in_each_width() {
        let grid = Grid::new(
            vec![vec![0.5, 1.0], vec![0.25, 0.5, 1.0]],
            vec![1.0, 2.0, 4.0, 2.0, 4.0, 9.0],
        )
        .unwrap();
        assert_eq!(grid.at(&[1.0, 1.0]), 9.0);
        assert_eq!(grid.at(&[0.5, 0.25]), 1.0);
        assert_eq!(grid.at(&[0.75, 0.5]), 3.0);
        assert_eq!(grid.at(&[0.75, 0.75]), 4.75);
        // Steps stay steps: no smoothing over points that were measured.
        let steps = Grid::new(vec![vec![0.5, 0.625, 1.0]], vec![1.0, 3.0, 3.0]).unwrap();
        assert_eq!(
            [0.5, 0.625, 0.8, 1.0].map(|share| steps.at(&[share])),
            [1.0, 3.0, 3.0, 3.0]
        );
    }

    #[test]
    fn below_the_points_the_line_goes_on_but_not_below_nothing() {
        let grid = Grid::new(vec![vec![0.5, 1.0]], vec![1.0, 3.0]).unwrap();
        assert_eq!(grid.at(&[0.375]), 0.5);
        assert_eq!(grid.at(&[0.1]), 0.0);
        assert_eq!(Grid::new(vec![vec![0.5, 1.0]], vec![1.0]), None);
        assert_eq!(
            Grid::new(vec![vec![1.0]], vec![7.0]).unwrap().at(&[0.5]),
            7.0
        );
        assert_eq!(Grid::new(vec![], vec![7.0]).unwrap().at(&[]), 7.0);
        assert_eq!(Grid::proportional(2, 8.0).at(&[0.5, 0.5]), 2.0);
    }
}
