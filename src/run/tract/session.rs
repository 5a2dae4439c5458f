//! A model that tract has made ready.

use std::sync::{Arc, OnceLock};

use tract_onnx::prelude::{IntoTValue, TValue, TVec};

use super::plan::{TractPlan, run};
use super::tensor::{from_tract, to_tract};
use crate::model::{Ends, TensorRef};
use crate::run::session::fitted;
use crate::run::shared::RunShare;
use crate::run::{RunError, Session, Tensors};

/// An input and the shape that it was prepared for.
#[derive(Clone, Debug)]
pub(super) struct Formal {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    /// Whether it holds whole numbers, which may pick entries.
    pub(super) whole: bool,
}

/// How tract says that an index lies outside its axis.
const OUTSIDE: &[&str] = &[
    "index < dim",
    "out of bounds",
    "out of range",
    "Invalid gather",
    "Invalid GatherElements",
];

/// Where a result comes from.
#[derive(Clone, Debug)]
pub(super) enum ResultSource {
    Input(String),
    Computed(usize),
}

/// The plain plan, made when the optimized one fails as it runs: an operator that tract fused wrongly.
pub(super) struct Spare {
    plan: OnceLock<Option<TractPlan>>,
    make: Box<dyn Fn() -> Option<TractPlan> + Send + Sync>,
}

impl Spare {
    pub(super) fn new(make: impl Fn() -> Option<TractPlan> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Spare {
            plan: OnceLock::new(),
            make: Box::new(make),
        })
    }
}

#[derive(Clone)]
pub(super) struct TractSession {
    pub(super) plan: TractPlan,
    pub(super) spare: Option<Arc<Spare>>,
    pub(super) inputs: Vec<Formal>,
    pub(super) pinned: Vec<(String, TensorRef)>,
    pub(super) results: Vec<ResultSource>,
    pub(super) noise: f64,
    /// What of the inputs it takes.
    pub(super) ends: Ends,
    pub(super) share: RunShare,
}

impl TractSession {
    fn convert(&self, inputs: &Tensors) -> Result<TVec<TValue>, RunError> {
        for (name, value) in &self.pinned {
            if inputs.get(name).is_some_and(|given| given != value) {
                return Err(RunError(format!(
                    "input '{name}' decides the control flow and differs from the example's"
                )));
            }
        }
        let mut values = TVec::new();
        for Formal { name, dims, .. } in &self.inputs {
            let value = inputs
                .get(name)
                .ok_or_else(|| RunError(format!("input '{name}' is missing")))?;
            if value.dims != *dims {
                return Err(RunError(format!(
                    "input '{name}' has shape {:?}, prepared was {dims:?}",
                    value.dims
                )));
            }
            values.push(
                to_tract(value)
                    .map_err(|error| RunError(format!("input '{name}': {error}")))?
                    .into_tvalue(),
            );
        }
        Ok(values)
    }

    pub(super) fn run_fitted(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        let failed = match self.run_once(&self.plan, inputs) {
            Err(failed) => failed,
            done => return done,
        };
        let spare = self
            .spare
            .as_ref()
            .and_then(|spare| spare.plan.get_or_init(&spare.make).as_ref());
        spare
            .and_then(|plan| self.run_once(plan, inputs).ok())
            .ok_or(failed)
    }

    /// An error of a run, which says what the inputs have to do with it.
    fn explain(&self, error: RunError) -> RunError {
        let names: Vec<String> = self
            .inputs
            .iter()
            .filter(|input| input.whole)
            .map(|input| format!("'{}'", input.name))
            .collect();
        if names.is_empty() || !OUTSIDE.iter().any(|words| error.0.contains(words)) {
            return error;
        }
        let values = names.join(" or ");
        RunError(format!(
            "the values of {values} do not fit: one picks an entry that is not there; if they were made up, give inputs ({error})"
        ))
    }

    /// Runs a plan of the model on inputs that fit it.
    pub(super) fn run_once(
        &self,
        plan: &TractPlan,
        inputs: &Tensors,
    ) -> Result<Vec<TensorRef>, RunError> {
        let _taken = self.share.take();
        let computed = run(plan, self.convert(inputs)?)
            .map_err(|error| self.explain(RunError(error.to_string())))?;
        self.results
            .iter()
            .map(|result| match result {
                ResultSource::Input(name) => inputs
                    .get(name)
                    .cloned()
                    .ok_or_else(|| RunError(format!("input '{name}' is missing"))),
                ResultSource::Computed(at) => {
                    let value = computed
                        .get(*at)
                        .ok_or_else(|| RunError("an output is missing".into()))?;
                    from_tract(value).map_err(|error| RunError(error.to_string()))
                }
            })
            .collect()
    }
}

impl Session for TractSession {
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        self.run_fitted(&fitted(&self.ends, inputs))
    }

    fn time(&self, inputs: &Tensors) -> Result<f64, RunError> {
        let inputs = fitted(&self.ends, inputs);
        let start = std::time::Instant::now();
        self.run_fitted(&inputs)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn noise(&self) -> f64 {
        self.noise
    }
}
