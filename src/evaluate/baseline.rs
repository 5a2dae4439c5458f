//! Running the original, the masked and the pruned model.

use std::time::Duration;

use super::outputs::{BUDGET, OutputCache, side_by_side};
use super::sequences::{alike_runs, output_axes};
use super::{Comparison, EvaluateError};
use crate::calibrate::{Dataset, SPARED, held_out};
use crate::inputs::{Batches, GatherError, examples};
use crate::latency::latency;
use crate::model::{Index, Model, TensorRef};
use crate::progress::{Phase, Work};
use crate::run::{Chosen, Runtime, Session, Tensors, for_shapes};
use crate::verify::{Agreement, Drift, Exactness, OutputDrift, Verdict, worst};
use crate::workspace::OriginalRuns;

/// Inputs that a step of the search runs.
const QUICK: usize = 128;
/// Fewer inputs than this say nothing by themselves.
const TELLING: usize = 4;
/// Inputs that exactness is checked on: more would prove no more.
const EXACT: usize = 8;
/// Time for measuring latencies.
const LATENCY: Duration = Duration::from_millis(1500);
/// Rounds at most.
const ROUNDS: usize = 200;

/// Milliseconds of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub struct Latency {
    pub original: f64,
    pub pruned: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checks {
    /// Whether the surgery did what the plan says.
    pub exactness: Exactness,
    /// How far each output moved; empty where the models do not run.
    pub outputs: Vec<OutputDrift>,
    /// How many inputs there were, those that were fitted to or chosen by included.
    pub inputs: usize,
    /// How many of them nothing was fitted to or chosen by: what is said of outputs, classes and labels is of these, or of
    /// all where there are none.
    pub held_out: usize,
    /// The share of rows that keep their class, or how alike embeddings rank; `None` where no output tells.
    pub agreement: Option<f64>,
    /// Top-1 of original and pruned, where there are labels.
    pub labelled: Option<(f64, f64)>,
    /// Milliseconds of one run, where both run.
    pub latency: Option<Latency>,
}

/// Holds a cut model against the masked original.
pub type Prove<'a> = dyn Fn(OriginalRuns) -> Exactness + 'a;

impl Default for Checks {
    /// Nothing was measured.
    fn default() -> Self {
        Checks {
            exactness: Exactness {
                verdict: Verdict::Exact,
                max_relative_error: None,
                tolerance: crate::verify::TOLERANCE,
                inputs: 0,
                reason: None,
            },
            outputs: Vec::new(),
            inputs: 0,
            held_out: 0,
            agreement: None,
            labelled: None,
            latency: None,
        }
    }
}

impl Checks {
    /// The largest relative drift of any output; `None` where nothing ran.
    pub fn drift(&self) -> Option<f64> {
        (!self.outputs.is_empty()).then(|| worst(&self.outputs))
    }
}

/// A drift, and what is to be expected of it on other inputs.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// On the inputs that were run.
    pub drift: f64,
    /// What it may well be on others. A drift asked for is met by what is measured on inputs that nothing was chosen by:
    /// a search that went by the first number alone would miss it half of the time.
    pub careful: f64,
    /// The share of rows that keep their class, or how alike embeddings rank; `None` where no output tells.
    pub agreement: Option<f64>,
}

/// By how much a drift may be above what was asked for and still meet it.
pub const ALLOWANCE: f64 = 1.1;
/// Standard deviations that a search allows for.
const CARE: f64 = 2.0;

/// The original, made ready and run.
pub struct Baseline<'a> {
    runtime: Option<&'a dyn Runtime>,
    pub(super) names: Vec<String>,
    /// Whether something is fitted to the inputs, or chosen by them.
    chooses: bool,
    pub(super) original: Result<OutputCache, String>,
}

/// The original and the pruned model, made ready.
#[derive(Clone, Copy)]
struct ReadyPair<'a> {
    original: &'a OutputCache,
    pruned: &'a dyn Session,
}

impl<'a> Baseline<'a> {
    /// Models are not run.
    pub fn none() -> Self {
        Baseline {
            runtime: None,
            names: Vec::new(),
            chooses: false,
            original: Err("models are not run".to_owned()),
        }
    }

    /// Runs the original on the inputs that choices are judged by (`chooses`: whether there are choices), as many as its
    /// outputs are kept of. Errors: inputs that can not be read, a stop asked for.
    pub fn new(
        model: &Model,
        data: &Dataset,
        chosen: Chosen<'a>,
        chooses: bool,
        work: &Work,
    ) -> Result<Self, EvaluateError> {
        let count = data.inputs.count();
        let mut runs = quick_runs(count);
        runs.truncate(if chooses { usize::MAX } else { 1 });
        work.progress.begin(Phase::Run, runs.len() as u64);
        let names = model
            .index()
            .graph(Index::MAIN)
            .outputs
            .iter()
            .map(|output| model.index().value(*output).name.clone())
            .collect();
        let mut bench = Baseline {
            runtime: Some(chosen.runtime),
            names,
            chooses,
            original: Err("there are no inputs to run".to_owned()),
        };
        if count == 0 {
            return Ok(bench);
        }
        bench.original = match chosen.session {
            Ok(session) => match OutputCache::new(session, &*data.inputs, runs, BUDGET, work)
                .map(|cache| cache.with_axes(output_axes(model, data)))
            {
                Err(GatherError::Run(reason)) => Err(reason),
                other => Ok(other?),
            },
            Err(error) => Err(error.to_string()),
        };
        Ok(bench)
    }

    /// Why the original does not run, if it does not.
    pub fn failure(&self) -> Option<&str> {
        self.original.as_ref().err().map(String::as_str)
    }

    /// The drift on some of the inputs: those that no statistics were taken of, where there are enough.
    pub fn quick_drift(&self, pruned: &Model, data: &Dataset) -> Result<f64, EvaluateError> {
        Ok(self.quick_estimate(pruned, data)?.drift)
    }

    /// The same, and what is to be expected of it.
    pub fn quick_estimate(
        &self,
        pruned: &Model,
        data: &Dataset,
    ) -> Result<Estimate, EvaluateError> {
        self.drift(pruned, data, &quick_runs(data.inputs.count()))
    }

    /// The drift on inputs that no weights were fitted to, where there are enough of them.
    pub fn drift_on_held_out(
        &self,
        pruned: &Model,
        data: &Dataset,
    ) -> Result<Estimate, EvaluateError> {
        self.drift(pruned, data, &spared_runs(data.inputs.count()))
    }

    /// The runs that a step of the search is judged by.
    pub fn quick_runs(data: &Dataset) -> Vec<usize> {
        quick_runs(data.inputs.count())
    }

    /// Names of the outputs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn drift(
        &self,
        pruned: &Model,
        data: &Dataset,
        runs: &[usize],
    ) -> Result<Estimate, EvaluateError> {
        self.drift_of(pruned, &*data.inputs, runs, data)
    }

    /// The drift of what gives the outputs from some inputs, or from these and what is computed from them.
    pub fn drift_of(
        &self,
        pruned: &Model,
        inputs: &dyn Batches,
        runs: &[usize],
        data: &Dataset,
    ) -> Result<Estimate, EvaluateError> {
        let original = self
            .original
            .as_ref()
            .map_err(EvaluateError::unverifiable)?;
        let none = || EvaluateError::unverifiable("there are no inputs to run");
        runs.first().ok_or_else(none)?;
        let session = self
            .prepare(pruned, &examples(inputs, runs)?)
            .map_err(EvaluateError::Broken)?;
        let mut drift = Drift::new(&self.names, &pruned.ends);
        let mut agreement = Agreement::new(&self.names, &pruned.ends);
        // Whoever asks for drifts again and again counts those, not their runs.
        original.compare_with(&*session, inputs, runs, &Work::new(&()), |before, after| {
            drift.add(before, after);
            agreement.add(before, after);
        })?;
        let off = drift.uncertainty(data.measured().0.count());
        let drift = worst(&drift.finish());
        Ok(Estimate {
            drift,
            careful: drift * ((1.0 + CARE * off) / ALLOWANCE).max(1.0),
            agreement: agreement.finish(),
        })
    }

    fn prepare(&self, model: &Model, examples: &[Tensors]) -> Result<Box<dyn Session>, String> {
        let Some(runtime) = self.runtime else {
            return Err("models are not run".to_owned());
        };
        let prepare = |model: &Model, example: &Tensors| runtime.prepare_variant(model, example);
        for_shapes(model, examples, prepare).map_err(|error| error.to_string())
    }

    /// What became of the outputs, on inputs that nothing was fitted to or chosen by where there are such. `false`: the
    /// pruned model does not run.
    fn measure(
        &self,
        both: ReadyPair,
        pruned: &Model,
        data: &Dataset,
        checks: &mut Checks,
        work: &Work,
    ) -> Result<bool, EvaluateError> {
        let (inputs, labels) = data.measured();
        work.progress.begin(Phase::Drift, inputs.count() as u64);
        let mut comparison = Comparison::new(&self.names, &pruned.ends, labels);
        let all: Vec<usize> = (0..inputs.count()).collect();
        let mut agreement = Agreement::new(&self.names, &pruned.ends);
        let take = |before: &[TensorRef], after: &[TensorRef]| {
            comparison.add(before, after);
            agreement.add(before, after);
        };
        let compared = match &data.apart {
            Some(_) => side_by_side(both.original, both.pruned, inputs, work, take),
            None => both
                .original
                .compare_with(both.pruned, inputs, &all, work, take),
        };
        match compared {
            // What was cut and does not run has no drift.
            Err(GatherError::Run(_)) => return Ok(false),
            other => other?,
        }
        (checks.outputs, checks.labelled) = comparison.finish();
        checks.agreement = agreement.finish();
        (checks.inputs, checks.held_out) = match &data.apart {
            Some(apart) => (
                data.inputs.count() + apart.inputs.count(),
                apart.inputs.count(),
            ),
            None => (
                data.inputs.count(),
                if self.chooses { 0 } else { data.inputs.count() },
            ),
        };
        Ok(true)
    }

    /// Exactness of the model as it was cut (`exactness`; `None`: nothing was), drift and latency of what became of it.
    pub fn check(
        &self,
        exactness: Option<&Prove>,
        pruned: &Model,
        data: &Dataset,
        work: &Work,
    ) -> Result<Checks, EvaluateError> {
        let mut checks = Checks::default();
        let original = match &self.original {
            Ok(original) => original,
            Err(reason) => {
                checks.exactness.verdict = Verdict::Unverifiable(reason.clone());
                return Ok(checks);
            }
        };
        work.progress.begin(Phase::Verify, 0);
        if let Some(exactness) = exactness {
            let runs = alike_runs(&*data.inputs, EXACT);
            let inputs = runs
                .iter()
                .map(|run| data.inputs.fetch(*run))
                .collect::<Result<Vec<_>, _>>()?;
            let outputs = runs
                .iter()
                .zip(&inputs)
                .map(|(run, inputs)| original.outputs(*run, inputs))
                .collect::<Result<Vec<_>, _>>()?;
            checks.exactness = exactness(OriginalRuns {
                inputs: &inputs,
                outputs: &outputs,
                noise: original.session.noise(),
            });
        }
        let examples = data.examples()?;
        let Some(example) = examples.first() else {
            return Ok(checks);
        };
        let Ok(session) = self.prepare(pruned, &examples) else {
            return Ok(checks);
        };
        let both = ReadyPair {
            original,
            pruned: &*session,
        };
        if !self.measure(both, pruned, data, &mut checks, work)? {
            return Ok(checks);
        }
        work.progress.begin(Phase::Latency, 0);
        if let Ok(times) = latency(&[&*original.session, &*session], example, ROUNDS, LATENCY)
            && let [original, pruned] = times[..]
        {
            checks.latency = Some(Latency { original, pruned });
        }
        Ok(checks)
    }
}

/// The runs that a search for a drift goes by: those that no weights were fitted to, where they are enough to tell.
fn spared_runs(count: usize) -> Vec<usize> {
    let spared: Vec<usize> = (0..count)
        .filter(|run| held_out(*run, count))
        .take(QUICK)
        .collect();
    if spared.len() < TELLING {
        (0..count).collect()
    } else {
        spared
    }
}

/// The runs that statistics are taken of.
pub fn fitted_runs(count: usize) -> Vec<usize> {
    (0..count)
        .filter(|run| count < SPARED || !held_out(*run, count))
        .collect()
}

/// The runs that a step of the search is judged by.
pub(super) fn quick_runs(count: usize) -> Vec<usize> {
    (0..count)
        .filter(|run| count < SPARED || held_out(*run, count))
        .take(QUICK)
        .collect()
}
