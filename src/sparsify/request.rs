//! What is asked for, and what comes of it.

use std::collections::BTreeSet;

use globset::Glob;

use super::SparsePlan;
use super::measure::MeasuredLoss;
use super::parts::LeftDense;
use super::pattern::SparsityPattern;
use super::score::SparseScore;
use crate::analysis::Pins;
use crate::inputs::Batches;
use crate::model::Model;
use crate::recover::{Method, Teacher};
use crate::train::{Training, TrainingRecord};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct SparsifyRequest {
    /// The share of the weights that becomes zero; what the pattern gives, if not given.
    pub sparsity: Option<f64>,
    /// How zeros lie.
    pub pattern: SparsityPattern,
    /// How weights are ranked.
    pub score: SparseScore,
    /// The same share of every layer.
    pub uniform: bool,
    /// No weights whose constant or node matches one of these.
    pub exclude: Vec<Glob>,
    /// How the weights that stay are fitted; `None`: they are not.
    pub recover: Option<Method>,
    /// How they are trained after that, with the original as teacher; `None`: they are not.
    pub training: Option<Training>,
    /// A plan to apply instead of making one.
    pub plan: Option<SparsePlan>,
    /// Whether the plan is wanted as a file, with digests.
    pub keep_plan: bool,
    /// Shapes of inputs.
    pub pins: Pins,
}

/// Inputs, where there are any.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// What is fitted to and chosen by.
    pub inputs: &'a dyn Batches,
    /// The same with the padding that they came with, for a plan to tell what they were.
    pub whole: &'a dyn Batches,
    /// Class ids of all their rows, where training may learn from them.
    pub labels: Option<&'a [i64]>,
    /// Whether they were made up.
    pub synthetic: bool,
    /// What is measured on, with the class ids of all its rows.
    pub measured: (&'a dyn Batches, Option<&'a [i64]>),
    /// How inputs were prepared.
    pub preparation: &'a str,
    /// Where the model was cut before: the original, which weights are fitted to and outputs are held against.
    pub original: Option<Teacher<'a>>,
}

/// One constant after the work.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SparseLayer {
    /// Its name.
    pub weight: String,
    /// Elements.
    pub elements: usize,
    /// Zeros among them.
    pub zeros: usize,
    /// Mean squared error of the layer's sum on inputs that it was not fitted to, with the weights that stay as they were; and
    /// fitted. `None` where it was not fitted to data.
    pub error: Option<(f64, f64)>,
}

/// What was made and found.
#[derive(Debug)]
pub struct SparsifyOutcome {
    /// The sparse model.
    pub model: Model,
    /// Which weights are zero, as data.
    pub plan: SparsePlan,
    /// Constant by constant.
    pub layers: Vec<SparseLayer>,
    /// How the weights were trained, if they were.
    pub training: Option<TrainingRecord>,
    /// Weights that stay as they are.
    pub left: Vec<LeftDense>,
    /// What ran the models, and its version.
    pub engine: Option<(String, String)>,
    /// Drift on inputs kept apart; the reason where nothing ran.
    pub measured: Result<MeasuredLoss, String>,
    /// What the user should know.
    pub remarks: Vec<String>,
}

impl SparsifyOutcome {
    /// Constants that were thinned out.
    pub fn constants(&self) -> BTreeSet<String> {
        self.layers
            .iter()
            .map(|layer| layer.weight.clone())
            .collect()
    }
}
