//! The engines that the verdicts of these tests come from: tract, and ONNX Runtime for what tract does not run.

use std::sync::OnceLock;

use onnx_prune::analysis::Selection;
use onnx_prune::model::{Model, TensorRef};
use onnx_prune::run::{OrtRuntime, Runtime, Tensors, TractRuntime};
use onnx_prune::verify::{Exactness, Verdict};
use onnx_prune::workspace::{OriginalRuns, Workspace};

/// ONNX Runtime, where a library is at hand.
pub fn onnxruntime() -> Option<&'static OrtRuntime> {
    static LOADED: OnceLock<Option<OrtRuntime>> = OnceLock::new();
    let load = || {
        let found =
            onnx_prune::cli::onnxruntime().and_then(|libraries| OrtRuntime::load(&libraries));
        found
            .inspect_err(|missing| {
                eprintln!(
                    "ONNX Runtime is not at hand, so what tract does not run is SKIPPED: {missing}"
                )
            })
            .ok()
    };
    LOADED.get_or_init(load).as_ref()
}

/// An original that ran.
pub struct Ran<'a> {
    pub runtime: &'a dyn Runtime,
    pub outputs: Vec<TensorRef>,
    pub noise: f64,
    /// Why the first engine does not run it.
    pub refused: Option<String>,
}

/// Runs an original in tract, else in ONNX Runtime. Errors: what both say.
pub fn original<'a>(
    tract: &'a TractRuntime,
    model: &Model,
    inputs: &Tensors,
) -> Result<Ran<'a>, String> {
    let run = |runtime: &'a dyn Runtime| -> Result<Ran<'a>, String> {
        let session = runtime
            .prepare(model, inputs, &[])
            .map_err(|error| error.to_string())?;
        let outputs = session.run(inputs).map_err(|error| error.to_string())?;
        Ok(Ran {
            runtime,
            outputs,
            noise: session.noise(),
            refused: None,
        })
    };
    let refused = match run(tract) {
        Ok(ran) => return Ok(ran),
        Err(refused) => refused,
    };
    match onnxruntime() {
        Some(other) => match run(other) {
            Ok(ran) => Ok(Ran {
                refused: Some(refused),
                ..ran
            }),
            Err(second) => Err(format!("{refused}; {second}")),
        },
        None => Err(refused),
    }
}

/// Judges a cut in the engine that ran the original, and where that does not settle it, in ONNX Runtime. Gives the engine's name too.
pub fn judge(
    ran: &Ran,
    model: &Model,
    prepared: &Workspace,
    selection: &Selection,
    pruned: &Model,
    inputs: &Tensors,
) -> (Exactness, String) {
    let judged = |ran: &Ran| {
        let original = OriginalRuns {
            inputs: std::slice::from_ref(inputs),
            outputs: std::slice::from_ref(&ran.outputs),
            noise: ran.noise,
        };
        (
            prepared.exactness(selection, pruned, ran.runtime, original),
            ran.runtime.name().to_owned(),
        )
    };
    let first = judged(ran);
    if first.0.verdict == Verdict::Exact || ran.refused.is_some() {
        return first;
    }
    let Some(other) = onnxruntime() else {
        return first;
    };
    let Ok(session) = other.prepare(model, inputs, &[]) else {
        return first;
    };
    let Ok(outputs) = session.run(inputs) else {
        return first;
    };
    let second = judged(&Ran {
        runtime: other,
        outputs,
        noise: session.noise(),
        refused: None,
    });
    eprintln!(
        "{:?} in tract ({:?}), {:?} in ONNX Runtime",
        first.0.verdict, first.0.reason, second.0.verdict
    );
    second
}
