//! What a model costs, as a function of what is kept of it: operations, parameters, bytes, time.
//!
//! Invariant: no weights' values, no runtimes; times come in as data.

mod count;
mod file;
mod grid;
mod model;
mod share;
mod stored;

pub use count::{ShapeTrial, trial};
pub use file::{averages_branches, bytes, cost, params};
pub use grid::{Grid, Timed};
pub use model::{Cost, CostModel, IncrementalCost, NOTES};
pub use share::{KeptShare, width};

use crate::analysis::Analysis;

/// An analysed model, and what it costs.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What it costs, by what is kept.
    pub cost: &'a CostModel,
}
