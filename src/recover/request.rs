//! What recovery starts from, how it goes, and what it tells of a layer.

use std::collections::BTreeSet;

use super::solve::Method;
use super::support::Selector;
use crate::analysis::{Analysis, Selection};
use crate::model::Model;

/// The original, and what was removed from it.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// The original.
    pub model: &'a Model,
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What was removed.
    pub selection: &'a Selection,
}

/// How to recover.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// How weights are mended.
    pub method: Method,
    /// Whether the weights come from a model that was mended before and cut further: layers that are fitted together then take
    /// one step instead of several.
    pub warm: bool,
    /// Weights that stay as they are, by name: several readers have a copy each, and all copies are equal.
    pub held: BTreeSet<String>,
}

/// What was done to one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Repair {
    /// Name of the layer's output.
    pub layer: String,
    /// Mean squared error on the held-out runs before and after; equal where nothing better was found.
    pub before: f64,
    /// After.
    pub after: f64,
}

/// How a pass mends what it comes to.
#[derive(Clone, Copy)]
pub(super) struct Fitting<'a> {
    pub method: Method,
    /// As in [`RepairOptions`].
    pub warm: bool,
    /// Chooses which weights stay.
    pub selector: Option<&'a dyn Selector>,
}
