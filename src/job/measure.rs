//! Running the original, the masked and the pruned model.

use std::time::Duration;

use super::original::{BUDGET, Original};
use super::request::Data;
use super::{Error, Prepared};
use crate::analysis::{Selection, is_weight};
use crate::calibrate::{GatherError, held_out};
use crate::model::{Index, Model};
use crate::progress::{Phase, Work};
use crate::run::{Chosen, Runtime, Session, Tensors, latency};
use crate::verify::{Drift, Exactness, OutputDrift, Top1, Verdict, worst};

/// Inputs that a step of the search runs.
const QUICK: usize = 128;
/// With fewer inputs than this none is spared for judging.
const SPARED: usize = 48;
/// Inputs that exactness is checked on: more would prove no more.
const EXACT: usize = 8;
/// Time for measuring latencies.
const LATENCY: Duration = Duration::from_millis(1500);
/// Rounds at most.
const ROUNDS: usize = 200;

/// Milliseconds of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Latency {
    pub original: f64,
    pub pruned: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// Whether the surgery did what the plan says.
    pub exactness: Exactness,
    /// How far each output moved; empty where the models do not run.
    pub outputs: Vec<OutputDrift>,
    /// How many inputs were run.
    pub inputs: usize,
    /// Top-1 of original and pruned, where there are labels.
    pub labelled: Option<(f64, f64)>,
    /// Milliseconds of one run, where both run.
    pub latency: Option<Latency>,
}

impl Checks {
    /// The largest relative drift of any output; `None` where nothing ran.
    pub fn drift(&self) -> Option<f64> {
        (!self.outputs.is_empty()).then(|| worst(&self.outputs))
    }
}

/// The original, made ready and run.
pub(super) struct Bench<'a> {
    runtime: Option<&'a dyn Runtime>,
    names: Vec<String>,
    original: Result<Original, String>,
}

impl<'a> Bench<'a> {
    pub(super) fn none() -> Self {
        Bench { runtime: None, names: Vec::new(), original: Err("models are not run".to_owned()) }
    }

    /// Runs the original on the inputs, as many as its outputs are kept of; those that the search is judged by come first.
    /// Errors: inputs that can not be read, a stop asked for.
    pub(super) fn new(model: &Model, data: &Data, chosen: Chosen<'a>, work: &Work) -> Result<Self, Error> {
        let count = data.inputs.count();
        work.progress.begin(Phase::Run, count as u64);
        let names = model.index().graph(Index::MAIN).outputs.iter().map(|output| model.index().value(*output).name.clone()).collect();
        let mut bench = Bench { runtime: Some(chosen.runtime), names, original: Err("there are no inputs to run".to_owned()) };
        if count == 0 {
            return Ok(bench);
        }
        bench.original = match chosen.session {
            Ok(session) => {
                let mut runs = quick_runs(count);
                let quick = runs.clone();
                runs.extend((0..count).filter(|run| quick.binary_search(run).is_err()));
                match Original::new(session, &*data.inputs, runs, BUDGET, work) {
                    Err(GatherError::Run(reason)) => Err(reason),
                    other => Ok(other?),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        Ok(bench)
    }

    /// Errors: the original does not run.
    pub(super) fn require(&self) -> Result<(), Error> {
        match &self.original {
            Ok(_) => Ok(()),
            Err(reason) => Err(Error::Unverifiable(format!(
                "the search for a drift needs to run the model, and cannot: {reason}; name a size instead, with --target macs=0.7 for example"
            ))),
        }
    }

    /// The drift on some of the inputs: those that no statistics were taken of, where there are enough.
    pub(super) fn quick_drift(&self, pruned: &Model, data: &Data) -> Result<f64, Error> {
        self.drift(pruned, data, &quick_runs(data.inputs.count()))
    }

    /// The drift on all inputs.
    pub(super) fn full_drift(&self, pruned: &Model, data: &Data) -> Result<f64, Error> {
        self.drift(pruned, data, &(0..data.inputs.count()).collect::<Vec<usize>>())
    }

    fn drift(&self, pruned: &Model, data: &Data, runs: &[usize]) -> Result<f64, Error> {
        let original = self.original.as_ref().map_err(|reason| Error::Unverifiable(reason.clone()))?;
        let Some(example) = data.inputs.example()? else { return Err(Error::Unverifiable("there are no inputs to run".to_owned())) };
        let session = self.prepare(pruned, &example).map_err(Error::Broken)?;
        let mut drift = Drift::new(&self.names, &pruned.ends);
        // Whoever asks for drifts again and again counts those, not their runs.
        original.beside(&*session, &*data.inputs, runs, &Work { progress: &() }, |before, after| drift.add(before, after))?;
        Ok(worst(&drift.finish()))
    }

    fn prepare(&self, model: &Model, example: &Tensors) -> Result<Box<dyn Session>, String> {
        let Some(runtime) = self.runtime else { return Err("models are not run".to_owned()) };
        runtime.prepare_variant(model, example).map_err(|error| error.to_string())
    }

    /// Exactness of the model as it was cut, drift and latency of what became of it.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn check(
        &self,
        prepared: &Prepared,
        selection: &Selection,
        bare: &Model,
        pruned: &Model,
        data: &Data,
        runtime: &dyn Runtime,
        work: &Work,
    ) -> Result<Checks, Error> {
        let mut checks = Checks {
            exactness: Exactness {
                verdict: Verdict::Exact,
                max_relative_error: None,
                tolerance: crate::verify::TOLERANCE,
                inputs: 0,
                reason: None,
            },
            outputs: Vec::new(),
            inputs: 0,
            labelled: None,
            latency: None,
        };
        let original = match &self.original {
            Ok(original) => original,
            Err(reason) => {
                checks.exactness.verdict = Verdict::Unverifiable(reason.clone());
                return Ok(checks);
            }
        };
        let count = data.inputs.count();
        work.progress.begin(Phase::Verify, 0);
        if !selection.is_empty() {
            let inputs = (0..count.min(EXACT)).map(|run| data.inputs.fetch(run)).collect::<Result<Vec<_>, _>>()?;
            let outputs = inputs.iter().enumerate().map(|(run, inputs)| original.outputs(run, inputs)).collect::<Result<Vec<_>, _>>()?;
            checks.exactness = prepared.exactness(selection, bare, runtime, &outputs, &inputs, original.session.noise());
        }
        work.progress.begin(Phase::Drift, count as u64);
        let Some(example) = data.inputs.example()? else { return Ok(checks) };
        let Ok(session) = self.prepare(pruned, &example) else { return Ok(checks) };
        let mut drift = Drift::new(&self.names, &pruned.ends);
        // Classes that are gone have no number any more.
        let labels = data.labels.as_deref().filter(|_| !self.names.first().is_some_and(|name| pruned.ends.changes(name)));
        let mut labelled = labels.map(|labels| (Top1::new(labels), Top1::new(labels)));
        let all: Vec<usize> = (0..count).collect();
        let compared = original.beside(&*session, &*data.inputs, &all, work, |before, after| {
            drift.add(before, after);
            if let Some((original, pruned)) = &mut labelled {
                original.add(before);
                pruned.add(after);
            }
        });
        match compared {
            // What was cut and does not run has no drift.
            Err(GatherError::Run(_)) => return Ok(checks),
            other => other?,
        }
        checks.outputs = drift.finish();
        checks.inputs = count;
        checks.labelled = labelled.and_then(|(original, pruned)| Some((original.share()?, pruned.share()?)));
        work.progress.begin(Phase::Latency, 0);
        if let Ok(times) = latency(&[&*original.session, &*session], &example, ROUNDS, LATENCY) {
            checks.latency = Some(Latency { original: times[0], pruned: times[1] });
        }
        Ok(checks)
    }
}

/// The runs that statistics are taken of.
pub(super) fn fitted_runs(count: usize) -> Vec<usize> {
    (0..count).filter(|run| count < SPARED || !held_out(*run)).collect()
}

/// The runs that a step of the search is judged by.
fn quick_runs(count: usize) -> Vec<usize> {
    (0..count).filter(|run| count < SPARED || held_out(*run)).take(QUICK).collect()
}

/// What to know of a drift where no output is a real number.
pub(super) fn of_ids(prepared: &Prepared) -> Option<String> {
    let (index, facts) = (prepared.working.index(), &prepared.analysis.facts);
    let outputs = &index.graph(Index::MAIN).outputs;
    let whole = !outputs.is_empty() && outputs.iter().all(|output| facts.of(*output).dtype.is_some_and(|dtype| !dtype.is_float()));
    whole.then(|| "all outputs are whole numbers (class ids), so the drift is the share of them that change".to_owned())
}

/// Parameters of a model.
pub(super) fn params(model: &Model) -> f64 {
    let count = |value| {
        model.tensor_proto(value).filter(|tensor| is_weight(tensor)).map_or(0.0, |tensor| tensor.dims.iter().product::<i64>() as f64)
    };
    model.index().values().map(|(value, _)| count(value)).sum()
}
