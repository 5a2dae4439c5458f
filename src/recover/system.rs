//! The normal equations that a layer is fitted by.

use faer::Mat;

use super::problem::Problem;
use crate::calibrate::Moments;

/// The normal equations of one group's rows.
pub(super) struct System {
    /// Covariance of the columns; about zero where there is no bias.
    pub gram: Mat<f64>,
    /// Means that it is taken about.
    pub mean: Vec<f64>,
    /// What the layer itself should give: rows × channels.
    pub targets: Vec<f32>,
    /// Covariance of targets and inputs, and the targets' means.
    pub crossed: (Mat<f64>, Vec<f64>),
    /// Whether there are rows enough to tell how columns go together.
    pub determined: bool,
    /// Mean of the diagonal.
    pub diagonal: f64,
}

impl Problem<'_> {
    /// The normal equations; `None`: there are too few rows for any.
    pub fn system(&self) -> Option<System> {
        let rows = self.fit.aims.len() / self.channels.max(1);
        if rows < 2 {
            return None;
        }
        let mut moments = Moments::new(1, self.columns);
        moments.add_parts(&self.fit.inputs);
        let mean = if self.biased {
            moments.mean(0)
        } else {
            vec![0.0; self.columns]
        };
        let count = rows as f64;
        let gram = Mat::from_fn(self.columns, self.columns, |a, b| {
            moments.gram[0][(a, b)] / count - mean[a] * mean[b]
        });
        let targets = self.targets();
        let crossed = self.cross(&mean, &targets);
        let diagonal =
            (0..self.columns).map(|at| gram[(at, at)]).sum::<f64>() / self.columns as f64;
        Some(System {
            determined: moments.determined(),
            gram,
            mean,
            targets,
            crossed,
            diagonal,
        })
    }
}
