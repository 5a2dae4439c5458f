//! The runtime and its sessions.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{NoSelectedOutputs, RunOptions};
use ort::value::DynTensor;

use super::error::{LibraryError, OrtFailure};
use super::library::load;
use super::pool::{ModelSource, SessionPool};
use super::refuse::{is_loop, refuse};
use super::value::{from_ort, to_ort};
use crate::model::{Ends, Index, Model, TensorRef};
use crate::progress::Memory;
use crate::proto::ValueInfoProto;
use crate::run::quiet::quiet;
use crate::run::session::{difference, fitted};
use crate::run::shared::{InUse, RunShare};
use crate::run::{RunError, Runtime, Session, Tensors, Unverifiable, budget};

/// How long one run of a model with a loop may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What two ways of running the same graph may differ by and still be called rounding: steps of a quantized one.
const LOUD: f64 = 2e-3;

/// ONNX Runtime.
pub struct OrtRuntime {
    environment: Environment,
    version: String,
    memory: Memory,
    in_use: Arc<InUse>,
}

impl OrtRuntime {
    /// The same for models that take no more than so much memory; larger ones are not run, and runs that together would take
    /// more wait for each other.
    pub(crate) fn within(self, memory: Memory) -> Self {
        OrtRuntime { memory, ..self }
    }

    /// Loads the first of some libraries that can be used. A process has one: where one is loaded already, that is the one.
    ///
    /// Errors: none can be used (too old, broken, for another machine), with the reason of each.
    pub fn load(candidates: &[PathBuf]) -> Result<Self, LibraryError> {
        let loaded = load(candidates)?;
        Ok(OrtRuntime {
            environment: loaded.environment,
            version: loaded.version,
            memory: Memory::default(),
            in_use: Arc::default(),
        })
    }
}

impl Runtime for OrtRuntime {
    fn name(&self) -> &str {
        "ONNX Runtime"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn prepare(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<Box<dyn Session>, Unverifiable> {
        let mut session = self.session(model, example, taps)?;
        if taps.is_empty() {
            session.noise = session.check(example)?;
        }
        Ok(Box::new(session))
    }

    fn prepare_variant(
        &self,
        model: &Model,
        example: &Tensors,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        Ok(Box::new(self.session(model, example, &[])?))
    }
}

impl OrtRuntime {
    fn session(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<OrtSession, Unverifiable> {
        let run = budget::within(model, &fitted(&model.ends, example), self.memory)?;
        refuse(model)?;
        let main = model.index().graph(Index::MAIN);
        let name = |value: &crate::model::ValueId| model.index().value(*value).name.clone();
        let given: Vec<String> = main.inputs.iter().map(name).collect();
        let mut results: Vec<String> = main.outputs.iter().map(name).collect();
        let declared = results.len();
        results.extend(taps.iter().cloned());
        // What stands in the model's list of outputs once; inputs that are asked for are handed back.
        let mut wanted: Vec<String> = Vec::new();
        for (at, result) in results.iter().enumerate() {
            let is_input = at >= declared && given.contains(result);
            if !is_input && !wanted.contains(result) {
                wanted.push(result.clone());
            }
        }
        let mut tapped = model.clone();
        let graph = tapped.proto.graph.get_or_insert_default();
        let extra = wanted.iter().skip(declared);
        graph
            .output
            .extend(extra.map(|name| ValueInfoProto::named(name)));
        let refused = |error: OrtFailure| {
            Unverifiable::new(format!("ONNX Runtime refuses the model: {error}"))
        };
        let source = ModelSource::new(&tapped).map_err(refused)?;
        let pool = SessionPool::new(self.environment.clone(), source, plain).map_err(refused)?;
        let has_default = |name: &String| {
            let value = model.index().main_value(name);
            value.is_some_and(|value| model.tensor_proto(value).is_some())
        };
        let inputs = given
            .into_iter()
            .map(|name| (has_default(&name), name))
            .collect();
        let loops = model.index().nodes().any(|(node, _)| is_loop(model, node));
        Ok(OrtSession {
            pool,
            fast: Mutex::new(None),
            inputs,
            results,
            loops,
            noise: 0.0,
            ends: model.ends.clone(),
            share: RunShare::new(self.in_use.clone(), run, self.memory),
        })
    }
}

/// Only what keeps every operator's meaning: no fusion, no other layout.
fn plain() -> GraphOptimizationLevel {
    GraphOptimizationLevel::Level1
}

struct OrtSession {
    pool: SessionPool,
    /// The same model as a user would run it, for latencies.
    fast: Mutex<Option<ort::session::Session>>,
    /// Names, and whether the model has a value for them.
    inputs: Vec<(bool, String)>,
    results: Vec<String>,
    loops: bool,
    noise: f64,
    /// What of the inputs it takes.
    ends: Ends,
    share: RunShare,
}

impl OrtSession {
    fn convert(&self, inputs: &Tensors) -> Result<Vec<(String, DynTensor)>, RunError> {
        let mut values = Vec::new();
        for (has_default, name) in &self.inputs {
            match inputs.get(name) {
                Some(tensor) => {
                    let made = quiet(|| to_ort(tensor)).map_err(OrtFailure::from).flatten();
                    values.push((
                        name.clone(),
                        made.map_err(|error| RunError(format!("input '{name}': {error}")))?,
                    ));
                }
                None if *has_default => {}
                None => return Err(RunError(format!("input '{name}' is missing"))),
            }
        }
        Ok(values)
    }

    fn compute(
        &self,
        session: &mut ort::session::Session,
        inputs: &Tensors,
    ) -> Result<Vec<TensorRef>, RunError> {
        let _taken = self.share.take();
        let values = self.convert(inputs)?;
        let ran = quiet(|| -> Result<Tensors, OrtFailure> {
            let mut found = Tensors::new();
            let mut take = |outputs: ort::session::SessionOutputs| {
                for (name, value) in outputs {
                    let tensor = from_ort(value).map_err(|problem| OrtFailure::Output {
                        name: name.to_owned(),
                        problem: Box::new(problem),
                    })?;
                    found.insert(name.to_owned(), tensor);
                }
                Ok::<(), OrtFailure>(())
            };
            if self.loops {
                let options = Arc::new(RunOptions::new()?);
                let _clock = Clock::start(options.clone());
                take(session.run_with_options(values, &options)?)?;
            } else {
                take(session.run(values)?)?;
            }
            Ok(found)
        });
        let found = ran
            .map_err(OrtFailure::from)
            .flatten()
            .map_err(|error| RunError(format!("ONNX Runtime: {}", error.in_short())))?;
        let result = |name: &String| found.get(name).or_else(|| inputs.get(name)).cloned();
        self.results
            .iter()
            .map(|name| result(name).ok_or_else(|| RunError(format!("'{name}' is not given"))))
            .collect()
    }

    /// Runs the example as it stands and with all rewrites, and gives how far the two are apart. Errors: it does not run.
    fn check(&self, example: &Tensors) -> Result<f64, Unverifiable> {
        let example = fitted(&self.ends, example);
        let fail = |error: RunError| {
            Unverifiable::new(format!("ONNX Runtime fails on the example: {error}"))
        };
        let first = self
            .pool
            .lend(|session| self.compute(session, &example))
            .map_err(|error| Unverifiable::new(error.to_string()))?
            .map_err(fail)?;
        let Ok(mut other) = self.pool.other(GraphOptimizationLevel::All) else {
            return Ok(0.0);
        };
        let Ok(second) = self.compute(&mut other, &example) else {
            return Ok(0.0);
        };
        let noise = first
            .iter()
            .zip(&second)
            .filter_map(|(first, second)| difference(first, second))
            .fold(0.0, f64::max);
        Ok(noise.min(LOUD))
    }
}

impl Session for OrtSession {
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        let inputs = fitted(&self.ends, inputs);
        self.pool
            .lend(|session| self.compute(session, &inputs))
            .map_err(|error| RunError(error.to_string()))?
    }

    fn time(&self, inputs: &Tensors) -> Result<f64, RunError> {
        let inputs = fitted(&self.ends, inputs);
        let mut fast = self.fast.lock().unwrap_or_else(PoisonError::into_inner);
        if fast.is_none() {
            let mut made = self
                .pool
                .other(GraphOptimizationLevel::All)
                .map_err(|error| RunError(error.to_string()))?;
            self.compute(&mut made, &inputs)?;
            *fast = Some(made);
        }
        let Some(session) = fast.as_mut() else {
            return Err(RunError("the session is gone".to_owned()));
        };
        let start = Instant::now();
        self.compute(session, &inputs)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn noise(&self) -> f64 {
        self.noise
    }
}

/// Ends a run that takes too long.
struct Clock {
    _running: Sender<()>,
}

impl Clock {
    fn start(options: Arc<RunOptions<NoSelectedOutputs>>) -> Self {
        let (sender, receiver) = channel::<()>();
        std::thread::spawn(move || {
            if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = options.terminate();
            }
        });
        Clock { _running: sender }
    }
}
