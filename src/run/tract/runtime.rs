//! The runtime and its sessions.

use tract_onnx::prelude::{IntoTValue, TValue, TVec};

use super::facts;
use super::plan::{Plan, Trust, plain, run, trusted, typed};
use super::tensor::{from_tract, to_tract};
use super::weights::Weights;
use crate::model::{Ends, Model, TensorRef};
use crate::proto::GraphProto;
use crate::run::prepare::{Infer, prepare};
use crate::run::session::fitted;
use crate::run::{RunError, Runtime, Session, Tensors, Unverifiable};

/// tract.
pub struct TractRuntime {
    /// Whether a session is made only after tract's optimized plan was compared with its plain one on the example: once for an
    /// original model is enough, its masked and pruned forms being made of the same operators.
    pub self_check: bool,
    infer: Box<Infer>,
    weights: Weights,
}

impl TractRuntime {
    /// A runtime that prepares models by what tract's own inference knows of them.
    pub fn new(self_check: bool) -> Self {
        Self::with_infer(self_check, Box::new(facts::infer))
    }

    /// A runtime that prepares models by another inference.
    pub fn with_infer(self_check: bool, infer: Box<Infer>) -> Self {
        TractRuntime { self_check, infer, weights: Weights::default() }
    }
}

impl Runtime for TractRuntime {
    fn name(&self) -> &str {
        "tract"
    }

    fn version(&self) -> &str {
        // All crates of tract are pinned to one version in Cargo.toml.
        "0.23.9"
    }

    fn prepare(&self, model: &Model, example: &Tensors, taps: &[String]) -> Result<Box<dyn Session>, Unverifiable> {
        self.session(model, example, taps, self.self_check)
    }

    fn prepare_variant(&self, model: &Model, example: &Tensors) -> Result<Box<dyn Session>, Unverifiable> {
        self.session(model, example, &[], false)
    }
}

impl TractRuntime {
    fn session(&self, model: &Model, example: &Tensors, taps: &[String], self_check: bool) -> Result<Box<dyn Session>, Unverifiable> {
        self.weights.tidy();
        let example = &*fitted(&model.ends, example);
        let prepared = prepare(model, example, taps, &self.infer)?;
        let graph = prepared.proto.graph.clone().unwrap_or_default();
        let inputs: Vec<Formal> = graph
            .input
            .iter()
            .map(|input| {
                let value = example.get(input.name());
                Formal { name: input.name().to_owned(), dims: value.map_or_else(Vec::new, |value| value.dims.clone()) }
            })
            .collect();
        let outputs = graph.output.iter().map(|output| output.name().to_owned());
        let mut wanted: Vec<String> = Vec::new();
        let mut results = Vec::new();
        for name in outputs.chain(taps.iter().cloned()) {
            if example.contains_key(&name) && !graph.node.iter().any(|node| node.output.contains(&name)) {
                results.push(Given::Input(name));
                continue;
            }
            let at = wanted.iter().position(|other| *other == name).unwrap_or(wanted.len());
            if at == wanted.len() {
                wanted.push(name);
            }
            results.push(Given::Computed(at));
        }
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let typed = typed(&prepared.proto, &self.weights, &names, &wanted)?;
        let (plan, trust) = trusted(&typed, &graph)?;
        let mut session = TractSession { plan, inputs, pinned: prepared.pinned, results, noise: 0.0, ends: model.ends.clone() };
        if self_check {
            session.noise = check(&session, trust, typed, example, graph.output.len(), allowed(&graph))?;
        }
        Ok(Box::new(session))
    }
}

/// The largest relative difference of two right ways of computing a model: quantized nets round to different steps.
fn allowed(graph: &GraphProto) -> f64 {
    let rounds = |op: &str| op.starts_with("QLinear") || matches!(op, "QuantizeLinear" | "DynamicQuantizeLinear");
    if graph.node.iter().any(|node| rounds(node.op_type())) { 5e-2 } else { 1e-3 }
}

/// Runs the example both ways. Errors: they disagree, or one fails.
fn check(
    session: &TractSession,
    trust: Trust,
    typed: tract_onnx::prelude::TypedModel,
    example: &Tensors,
    outputs: usize,
    allowed: f64,
) -> Result<f64, Unverifiable> {
    let fail = |error: RunError| Unverifiable::new(format!("the runtime tract fails on the example: {error}"));
    let first = session.run(example).map_err(fail)?;
    if trust == Trust::Plain {
        return Ok(0.0);
    }
    let other = TractSession { plan: plain(typed)?, ..session.clone() };
    let second = other.run(example).map_err(fail)?;
    let pairs = first.iter().zip(&second).take(outputs);
    let noise = pairs.filter_map(|(first, second)| difference(first, second)).fold(0.0, f64::max);
    if noise > allowed {
        return Err(Unverifiable::new(format!(
            "the runtime tract contradicts itself: optimized and plain differ by {noise:.1e} of the output"
        )));
    }
    Ok(noise)
}

/// The largest difference relative to the largest element; `None` for what is no float.
fn difference(first: &TensorRef, second: &TensorRef) -> Option<f64> {
    if !first.dtype.is_float() {
        return None;
    }
    let (first, second) = (first.to_f64()?, second.to_f64()?);
    let largest = first.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let apart = first.iter().zip(&second).map(|(x, y)| {
        let same = x == y || (x.is_nan() && y.is_nan());
        match (same, (x - y).abs()) {
            (true, _) => 0.0,
            (false, apart) if apart.is_finite() => apart,
            _ => f64::INFINITY,
        }
    });
    let apart = apart.fold(0.0, f64::max);
    Some(if apart == 0.0 { 0.0 } else { apart / largest.max(f64::MIN_POSITIVE) })
}

#[derive(Clone, Debug)]
struct Formal {
    name: String,
    dims: Vec<usize>,
}

/// Where a result comes from.
#[derive(Clone, Debug)]
enum Given {
    Input(String),
    Computed(usize),
}

#[derive(Clone)]
struct TractSession {
    plan: Plan,
    inputs: Vec<Formal>,
    pinned: Vec<(String, TensorRef)>,
    results: Vec<Given>,
    noise: f64,
    /// What of the inputs it takes.
    ends: Ends,
}

impl TractSession {
    fn convert(&self, inputs: &Tensors) -> Result<TVec<TValue>, RunError> {
        for (name, value) in &self.pinned {
            if inputs.get(name).is_some_and(|given| given != value) {
                return Err(RunError(format!("input '{name}' decides the control flow and differs from the example's")));
            }
        }
        let mut values = TVec::new();
        for Formal { name, dims } in &self.inputs {
            let value = inputs.get(name).ok_or_else(|| RunError(format!("input '{name}' is missing")))?;
            if value.dims != *dims {
                return Err(RunError(format!("input '{name}' has shape {:?}, prepared was {dims:?}", value.dims)));
            }
            values.push(to_tract(value).map_err(|error| RunError(format!("input '{name}': {error}")))?.into_tvalue());
        }
        Ok(values)
    }

    fn run_fitted(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        let computed = run(&self.plan, self.convert(inputs)?).map_err(RunError)?;
        self.results
            .iter()
            .map(|result| match result {
                Given::Input(name) => inputs.get(name).cloned().ok_or_else(|| RunError(format!("input '{name}' is missing"))),
                Given::Computed(at) => {
                    let value = computed.get(*at).ok_or_else(|| RunError("an output is missing".into()))?;
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
