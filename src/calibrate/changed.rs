//! What inputs became before anything was fitted to them.

use std::sync::Arc;

use crate::inputs::{Batches, Views};

/// Inputs in several views each.
#[derive(Clone, Debug)]
pub struct Viewed {
    /// What is fitted to.
    pub rows: Arc<dyn Batches>,
    /// In which views.
    pub views: Views,
    /// As what each input counts.
    pub each: usize,
}

impl std::fmt::Display for Viewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} of each", self.views, self.each)
    }
}

/// What was found of padding.
#[derive(Clone, Debug)]
pub struct SequencePadding {
    /// The input that says which positions count.
    pub mask: String,
    /// The inputs with the padding that they came with.
    pub whole: Arc<dyn Batches>,
    /// Positions of all inputs, and how many of them count.
    pub positions: (usize, usize),
}

impl std::fmt::Display for SequencePadding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (all, counts) = self.positions;
        write!(
            f,
            "positions that '{}' switches off do not count: {:.0} % of all",
            self.mask,
            100.0 * (all - counts) as f64 / all.max(1) as f64
        )
    }
}
