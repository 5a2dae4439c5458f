//! What a model is measured with: inputs, those kept apart, statistics taken before.

use std::sync::Arc;

use super::Statistics;
use crate::inputs::{Batches, Tensors};

/// Inputs to measure with.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What is fitted to and chosen by: one batch a run, made whenever it is asked for.
    pub inputs: Arc<dyn Batches>,
    /// Whether they were made up from the declared shapes.
    pub synthetic: bool,
    /// Class ids of all rows of all these inputs, in order.
    pub labels: Option<Vec<i64>>,
    /// What drift, agreement and accuracy are measured on instead. Nothing is fitted to them or chosen by them.
    pub apart: Option<Apart>,
    /// Statistics of the original's activations, taken before.
    pub statistics: Option<Statistics>,
    /// How the inputs were prepared, for the plan to tell.
    pub preparation: String,
}

/// Inputs that were kept apart to measure on.
#[derive(Clone, Debug)]
pub struct Apart {
    /// One batch a run.
    pub inputs: Arc<dyn Batches>,
    /// Whether they were made up.
    pub synthetic: bool,
    /// Class ids of all their rows, in order.
    pub labels: Option<Vec<i64>>,
}

impl Default for Dataset {
    fn default() -> Self {
        Dataset {
            inputs: Arc::new(Vec::<Tensors>::new()),
            synthetic: false,
            labels: None,
            apart: None,
            statistics: None,
            preparation: String::new(),
        }
    }
}

impl Dataset {
    /// What drift is measured on: what was kept apart, or all there is, and its class ids.
    pub fn measured(&self) -> (&dyn Batches, Option<&[i64]>) {
        match &self.apart {
            Some(apart) => (&*apart.inputs, apart.labels.as_deref()),
            None => (&*self.inputs, self.labels.as_deref()),
        }
    }

    /// Whether what drift is measured on was made up.
    pub fn measured_on_made_up(&self) -> bool {
        self.apart
            .as_ref()
            .map_or(self.synthetic, |apart| apart.synthetic)
    }

    /// Whether statistics are all that is known of how the model is used.
    pub fn statistics_alone(&self) -> bool {
        self.statistics.is_some() && (self.synthetic || self.inputs.count() == 0)
    }
}
