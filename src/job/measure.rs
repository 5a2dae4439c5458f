//! Running the original, the masked and the pruned model.

use std::time::Duration;

use super::request::Data;
use super::{Error, Prepared};
use crate::analysis::{Selection, is_weight};
use crate::model::{Index, Model, TensorRef};
use crate::progress::{Phase, Work};
use crate::run::{Runtime, Session, Tensors, latency, run_all};
use crate::verify::{Exactness, OutputDrift, Verdict, drift, exactness, kept, top1, worst};

/// Inputs that a step of the search runs.
const QUICK: usize = 32;
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

/// The original, made ready and run once.
pub(super) struct Bench<'a> {
    runtime: Option<&'a dyn Runtime>,
    names: Vec<String>,
    session: Result<Box<dyn Session>, String>,
    outputs: Vec<Vec<TensorRef>>,
}

impl<'a> Bench<'a> {
    pub(super) fn none() -> Self {
        Bench { runtime: None, names: Vec::new(), session: Err("models are not run".to_owned()), outputs: Vec::new() }
    }

    /// Runs the original on all inputs.
    pub(super) fn new(model: &Model, data: &Data, runtime: &'a dyn Runtime, work: &Work) -> Self {
        work.progress.begin(Phase::Run, data.inputs.len() as u64);
        let names = model.index().graph(Index::MAIN).outputs.iter().map(|output| model.index().value(*output).name.clone()).collect();
        let mut bench = Bench { runtime: Some(runtime), names, session: Err("there are no inputs to run".to_owned()), outputs: Vec::new() };
        let Some(example) = data.inputs.first() else { return bench };
        bench.session = runtime.prepare(model, example, &[]).map_err(|error| error.to_string());
        if let Ok(session) = &bench.session {
            match run_all(&**session, &data.inputs).into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(outputs) => bench.outputs = outputs,
                Err(error) => bench.session = Err(error.to_string()),
            }
        }
        bench
    }

    /// Errors: the original does not run.
    pub(super) fn require(&self) -> Result<(), Error> {
        match &self.session {
            Ok(_) => Ok(()),
            Err(reason) => Err(Error::Unverifiable(format!(
                "the search for a drift needs to run the model, and cannot: {reason}; name a size instead, with --target macs=0.7 for example"
            ))),
        }
    }

    /// The drift on some of the inputs.
    pub(super) fn quick_drift(&self, pruned: &Model, data: &Data) -> Result<f64, String> {
        let count = data.inputs.len().min(QUICK);
        let outputs = self.run(pruned, &data.inputs[..count])?;
        Ok(worst(&self.drift(pruned, &outputs)))
    }

    /// The drift on all inputs.
    pub(super) fn full_drift(&self, pruned: &Model, data: &Data) -> Result<f64, String> {
        let outputs = self.run(pruned, &data.inputs)?;
        Ok(worst(&self.drift(pruned, &outputs)))
    }

    /// The drift of outputs of a pruned model on the first inputs; where slices of an output are gone, that of the others.
    fn drift(&self, pruned: &Model, outputs: &[Vec<TensorRef>]) -> Vec<OutputDrift> {
        let count = outputs.len().min(self.outputs.len());
        drift(&self.names, &kept(&pruned.ends, &self.names, &self.outputs[..count]), outputs)
    }

    fn run(&self, model: &Model, inputs: &[Tensors]) -> Result<Vec<Vec<TensorRef>>, String> {
        let session = self.prepare(model, inputs)?;
        run_all(&*session, inputs).into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    fn prepare(&self, model: &Model, inputs: &[Tensors]) -> Result<Box<dyn Session>, String> {
        let (Some(runtime), Some(example)) = (self.runtime, inputs.first()) else { return Err("there are no inputs to run".to_owned()) };
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
            exactness: Exactness { verdict: Verdict::Exact, max_relative_error: None, tolerance: crate::verify::TOLERANCE, inputs: 0 },
            outputs: Vec::new(),
            inputs: 0,
            labelled: None,
            latency: None,
        };
        let session = match &self.session {
            Ok(session) => session,
            Err(reason) => {
                checks.exactness.verdict = Verdict::Unverifiable(reason.clone());
                return Ok(checks);
            }
        };
        work.progress.begin(Phase::Verify, 0);
        if !selection.is_empty() {
            let count = data.inputs.len().min(EXACT);
            let masked = prepared.masked(selection)?;
            checks.exactness = exactness(runtime, &self.outputs[..count], &masked, bare, &data.inputs[..count], session.noise());
        }
        work.progress.begin(Phase::Drift, data.inputs.len() as u64);
        let pruned_session = match self.prepare(pruned, &data.inputs) {
            Ok(session) => session,
            Err(_) => return Ok(checks),
        };
        if let Ok(outputs) = run_all(&*pruned_session, &data.inputs).into_iter().collect::<Result<Vec<_>, _>>() {
            checks.outputs = self.drift(pruned, &outputs);
            checks.inputs = outputs.len();
            // Classes that are gone have no number any more.
            let labels = data.labels.as_ref().filter(|_| !self.names.first().is_some_and(|name| pruned.ends.changes(name)));
            checks.labelled = labels.and_then(|labels| Some((top1(&self.outputs, 0, labels)?, top1(&outputs, 0, labels)?)));
            work.progress.begin(Phase::Latency, 0);
            let example = &data.inputs[0];
            if let Ok(times) = latency(&[&**session, &*pruned_session], example, ROUNDS, LATENCY) {
                checks.latency = Some(Latency { original: times[0], pruned: times[1] });
            }
        }
        Ok(checks)
    }
}

/// Parameters of a model.
pub(super) fn params(model: &Model) -> f64 {
    let count = |value| {
        model.tensor_proto(value).filter(|tensor| is_weight(tensor)).map_or(0.0, |tensor| tensor.dims.iter().product::<i64>() as f64)
    };
    model.index().values().map(|(value, _)| count(value)).sum()
}
