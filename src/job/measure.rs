//! Running the original, the masked and the pruned model.

use std::time::Duration;

use super::original::{BUDGET, Original, side_by_side};
use super::request::Data;
use super::{Error, Prepared};
use crate::analysis::{Cost, Pins, Selection, is_weight, macs};
use crate::calibrate::{Batches, GatherError, held_out};
use crate::model::{Index, Model, TensorRef, encoded_len, functions, is_constant_node};
use crate::progress::{Phase, Work};
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::run::{Chosen, Runtime, Session, Tensors, latency};
use crate::verify::{Drift, Exactness, OutputDrift, Top1, Verdict, worst};

/// Inputs that a step of the search runs.
const QUICK: usize = 128;
/// With fewer inputs than this none is spared for judging.
const SPARED: usize = 48;
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
    /// How many inputs there were, those that were fitted to or chosen by included.
    pub inputs: usize,
    /// How many of them nothing was fitted to or chosen by: what is said of outputs, classes and labels is of these, or of
    /// all where there are none.
    pub held_out: usize,
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

/// A drift, and what is to be expected of it on other inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    /// On the inputs that were run.
    pub drift: f64,
    /// What it may well be on others. A drift asked for is met by what is measured on inputs that nothing was chosen by:
    /// a search that went by the first number alone would miss it half of the time.
    pub careful: f64,
}

/// By how much a drift may be above what was asked for and still meet it.
pub const ALLOWANCE: f64 = 1.1;
/// Standard deviations that a search allows for.
const CARE: f64 = 2.0;

/// The original, made ready and run.
pub(super) struct Bench<'a> {
    runtime: Option<&'a dyn Runtime>,
    names: Vec<String>,
    /// Whether something is fitted to the inputs, or chosen by them.
    chooses: bool,
    original: Result<Original, String>,
}

impl<'a> Bench<'a> {
    pub(super) fn none() -> Self {
        Bench {
            runtime: None,
            names: Vec::new(),
            chooses: false,
            original: Err("models are not run".to_owned()),
        }
    }

    /// Runs the original on the inputs that choices are judged by (`chooses`: whether there are choices), as many as its
    /// outputs are kept of. Errors: inputs that can not be read, a stop asked for.
    pub(super) fn new(
        model: &Model,
        data: &Data,
        chosen: Chosen<'a>,
        chooses: bool,
        work: &Work,
    ) -> Result<Self, Error> {
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
        let mut bench = Bench {
            runtime: Some(chosen.runtime),
            names,
            chooses,
            original: Err("there are no inputs to run".to_owned()),
        };
        if count == 0 {
            return Ok(bench);
        }
        bench.original = match chosen.session {
            Ok(session) => match Original::new(session, &*data.inputs, runs, BUDGET, work) {
                Err(GatherError::Run(reason)) => Err(reason),
                other => Ok(other?),
            },
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
        Ok(self.quick_estimate(pruned, data)?.drift)
    }

    /// The same, and what is to be expected of it.
    pub(super) fn quick_estimate(&self, pruned: &Model, data: &Data) -> Result<Estimate, Error> {
        self.drift(pruned, data, &quick_runs(data.inputs.count()))
    }

    /// The drift on inputs that no weights were fitted to, where there are enough of them.
    pub(super) fn spared_drift(&self, pruned: &Model, data: &Data) -> Result<Estimate, Error> {
        self.drift(pruned, data, &spared_runs(data.inputs.count()))
    }

    /// The runs that a step of the search is judged by.
    pub(super) fn quick_runs(data: &Data) -> Vec<usize> {
        quick_runs(data.inputs.count())
    }

    /// Names of the outputs.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn drift(&self, pruned: &Model, data: &Data, runs: &[usize]) -> Result<Estimate, Error> {
        self.drift_of(pruned, &*data.inputs, runs, data)
    }

    /// The drift of what gives the outputs from some inputs, or from these and what is computed from them.
    pub(super) fn drift_of(
        &self,
        pruned: &Model,
        inputs: &dyn Batches,
        runs: &[usize],
        data: &Data,
    ) -> Result<Estimate, Error> {
        let original = self
            .original
            .as_ref()
            .map_err(|reason| Error::Unverifiable(reason.clone()))?;
        let none = || Error::Unverifiable("there are no inputs to run".to_owned());
        let example = inputs.fetch(*runs.first().ok_or_else(none)?)?;
        let session = self.prepare(pruned, &example).map_err(Error::Broken)?;
        let mut drift = Drift::new(&self.names, &pruned.ends);
        // Whoever asks for drifts again and again counts those, not their runs.
        original.beside(&*session, inputs, runs, &Work::new(&()), |before, after| {
            drift.add(before, after)
        })?;
        let off = drift.uncertainty(data.measured().0.count());
        let drift = worst(&drift.finish());
        Ok(Estimate {
            drift,
            careful: drift * ((1.0 + CARE * off) / ALLOWANCE).max(1.0),
        })
    }

    fn prepare(&self, model: &Model, example: &Tensors) -> Result<Box<dyn Session>, String> {
        let Some(runtime) = self.runtime else {
            return Err("models are not run".to_owned());
        };
        runtime
            .prepare_variant(model, example)
            .map_err(|error| error.to_string())
    }

    /// What became of the outputs, on inputs that nothing was fitted to or chosen by where there are such. `false`: the
    /// pruned model does not run.
    fn measure(
        &self,
        original: &Original,
        session: &dyn Session,
        pruned: &Model,
        data: &Data,
        checks: &mut Checks,
        work: &Work,
    ) -> Result<bool, Error> {
        let (inputs, labels) = data.measured();
        work.progress.begin(Phase::Drift, inputs.count() as u64);
        let mut drift = Drift::new(&self.names, &pruned.ends);
        // Classes that are gone have no number any more.
        let labels = labels.filter(|_| {
            !self
                .names
                .first()
                .is_some_and(|name| pruned.ends.changes(name))
        });
        let mut labelled = labels.map(|labels| (Top1::new(labels), Top1::new(labels)));
        let all: Vec<usize> = (0..inputs.count()).collect();
        let take = |before: &[TensorRef], after: &[TensorRef]| {
            drift.add(before, after);
            if let Some((original, pruned)) = &mut labelled {
                original.add(before);
                pruned.add(after);
            }
        };
        let compared = match &data.apart {
            Some(_) => side_by_side(&*original.session, session, inputs, work, take),
            None => original.beside(session, inputs, &all, work, take),
        };
        match compared {
            // What was cut and does not run has no drift.
            Err(GatherError::Run(_)) => return Ok(false),
            other => other?,
        }
        checks.outputs = drift.finish();
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
        checks.labelled =
            labelled.and_then(|(original, pruned)| Some((original.share()?, pruned.share()?)));
        Ok(true)
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
            held_out: 0,
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
        work.progress.begin(Phase::Verify, 0);
        if !selection.is_empty() {
            let inputs = (0..data.inputs.count().min(EXACT))
                .map(|run| data.inputs.fetch(run))
                .collect::<Result<Vec<_>, _>>()?;
            let outputs = inputs
                .iter()
                .enumerate()
                .map(|(run, inputs)| original.outputs(run, inputs))
                .collect::<Result<Vec<_>, _>>()?;
            checks.exactness = prepared.exactness(
                selection,
                bare,
                runtime,
                &outputs,
                &inputs,
                original.session.noise(),
            );
        }
        let Some(example) = data.inputs.example()? else {
            return Ok(checks);
        };
        let Ok(session) = self.prepare(pruned, &example) else {
            return Ok(checks);
        };
        if !self.measure(original, &*session, pruned, data, &mut checks, work)? {
            return Ok(checks);
        }
        work.progress.begin(Phase::Latency, 0);
        if let Ok(times) = latency(&[&*original.session, &*session], &example, ROUNDS, LATENCY) {
            checks.latency = Some(Latency {
                original: times[0],
                pruned: times[1],
            });
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
pub(super) fn fitted_runs(count: usize) -> Vec<usize> {
    (0..count)
        .filter(|run| count < SPARED || !held_out(*run, count))
        .collect()
}

/// The runs that a step of the search is judged by.
fn quick_runs(count: usize) -> Vec<usize> {
    (0..count)
        .filter(|run| count < SPARED || held_out(*run, count))
        .take(QUICK)
        .collect()
}

/// What to know of a drift where no output is a real number.
pub(super) fn of_ids(prepared: &Prepared) -> Option<String> {
    let (index, facts) = (prepared.working.index(), &prepared.analysis.facts);
    let outputs = &index.graph(Index::MAIN).outputs;
    let whole = !outputs.is_empty()
        && outputs.iter().all(|output| {
            facts
                .of(*output)
                .dtype
                .is_some_and(|dtype| !dtype.is_float())
        });
    whole.then(|| "all outputs are whole numbers (class ids), so the drift is the share of them that change".to_owned())
}

/// What a model costs as it is, at these input shapes. What it computes from constants is no operation of a run.
pub fn cost(model: &Model, pins: &Pins) -> Cost {
    let inlined = functions::inlined(model).ok().flatten();
    let flat = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    Cost {
        macs: macs(flat, pins),
        params: params(model),
        bytes: bytes(model),
        time: 0.0,
    }
}

/// Parameters of a model, those of its functions included.
pub(super) fn params(model: &Model) -> f64 {
    let count = |tensor: &TensorProto| {
        if is_weight(tensor) {
            tensor.dims.iter().product::<i64>() as f64
        } else {
            0.0
        }
    };
    let values = model
        .index()
        .values()
        .filter_map(|(value, _)| model.tensor_proto(value));
    let functions = model
        .proto
        .functions
        .iter()
        .flat_map(|function| &function.node);
    values.map(count).sum::<f64>()
        + functions
            .map(|node| in_constants(node, &count))
            .sum::<f64>()
}

/// What the constants of a node of a function count, those in its subgraphs included.
fn in_constants(node: &NodeProto, count: &dyn Fn(&TensorProto) -> f64) -> f64 {
    let constant = is_constant_node(node);
    let attribute = |attribute: &AttributeProto| {
        let own = attribute.t.as_ref().filter(|_| constant).map_or(0.0, count);
        let graphs = attribute.g.iter().chain(&attribute.graphs);
        own + graphs
            .map(|graph| {
                let nodes = graph.node.iter().map(|node| in_constants(node, count));
                graph
                    .initializer
                    .iter()
                    .map(count)
                    .chain(nodes)
                    .sum::<f64>()
            })
            .sum::<f64>()
    };
    node.attribute.iter().map(attribute).sum()
}

/// Bytes of a model's file.
pub(super) fn bytes(model: &Model) -> f64 {
    if model.source.total_bytes > 0 {
        model.source.total_bytes as f64
    } else {
        encoded_len(model) as f64
    }
}
