//! Whether the surgery did what the plan says: the pruned model against the masked original, on the same inputs in the same
//! runtime. It says nothing of quality.

use super::compare::{kept, largest_error, relative_error};
use crate::model::{Ends, Index, Model, TensorRef};
use crate::proto::Dtype;
use crate::run::{Runtime, Tensors, run_all};

/// The outcome of the check.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Equal to rounding.
    Exact,
    /// Different: the surgery is wrong.
    Inexact,
    /// No answer, with the reason.
    Unverifiable(String),
}

/// The outcome with its measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Exactness {
    /// The outcome.
    pub verdict: Verdict,
    /// The largest relative error over all outputs and inputs; `None` where nothing was run.
    pub max_relative_error: Option<f64>,
    /// What was allowed.
    pub tolerance: f64,
    /// How many inputs were run.
    pub inputs: usize,
}

/// Relative error that rounding explains in single precision.
pub const TOLERANCE: f64 = 1e-4;
/// The same for models that compute in half precision.
pub const HALF_TOLERANCE: f64 = 1e-2;
/// The mask must move the outputs by this many times more than what counts as equal, else the inputs prove nothing.
const MOVES: f64 = 1.0;

/// Compares `pruned` with `masked`, and `masked` with the untouched `original` (where those agree, the inputs were too weak).
/// Outputs that lost slices are compared on those that stay.
/// `noise` is what two ways of running the original on these inputs differ by.
pub fn exactness(
    runtime: &dyn Runtime,
    original: &[Vec<TensorRef>],
    masked: &Model,
    pruned: &Model,
    inputs: &[Tensors],
    noise: f64,
) -> Exactness {
    let floor = if is_half(masked) { HALF_TOLERANCE } else { TOLERANCE };
    let tolerance = floor.max(10.0 * noise);
    let unverifiable =
        |reason: String| Exactness { verdict: Verdict::Unverifiable(reason), max_relative_error: None, tolerance, inputs: 0 };
    let Some(example) = inputs.first() else { return unverifiable("no inputs".to_owned()) };
    let run = |model: &Model| -> Result<Vec<Vec<TensorRef>>, String> {
        let session = runtime.prepare_variant(model, example).map_err(|error| error.to_string())?;
        run_all(&*session, inputs).into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())
    };
    let names = model_outputs(masked);
    let ends = &pruned.ends;
    let (masked, pruned) = match (run(masked), run(pruned)) {
        (Ok(masked), Ok(pruned)) => (masked, pruned),
        (Err(error), _) => return unverifiable(format!("the masked original does not run: {error}")),
        (_, Err(error)) => return unverifiable(format!("the pruned model does not run: {error}")),
    };
    let masked = kept(ends, &names, &masked);
    let error = masked
        .iter()
        .zip(&pruned)
        .zip(original)
        .map(|((masked, pruned), original)| largest_error(masked, pruned, original))
        .fold(0.0, f64::max);
    let untouched = kept(ends, &names, original);
    let moved = untouched.iter().zip(masked.iter()).map(|(original, masked)| largest_error(original, masked, &[])).fold(0.0, f64::max);
    let moved = original.iter().map(|outputs| told_apart(ends, &names, outputs)).fold(moved, f64::max);
    let verdict = match () {
        () if error > tolerance => Verdict::Inexact,
        () if moved <= MOVES * tolerance => {
            Verdict::Unverifiable(format!("the inputs are too weak: what was removed moves the outputs by {moved:.1e} only"))
        }
        () => Verdict::Exact,
    };
    Exactness { verdict, max_relative_error: Some(error), tolerance, inputs: inputs.len() }
}

/// By how much outputs that lost slices would differ had others been lost.
fn told_apart(ends: &Ends, names: &[String], outputs: &[TensorRef]) -> f64 {
    let cut = names.iter().zip(outputs).filter(|(name, _)| ends.changes(name));
    cut.map(|(name, tensor)| relative_error(&ends.of(name, tensor), &ends.beside(name, tensor), None)).fold(0.0, f64::max)
}

/// The names of a model's outputs.
fn model_outputs(model: &Model) -> Vec<String> {
    model.index().graph(Index::MAIN).outputs.iter().map(|output| model.index().value(*output).name.clone()).collect()
}

/// Whether the model computes in half precision.
fn is_half(model: &Model) -> bool {
    let half = |code: i32| matches!(Dtype::from_code(code), Some(Dtype::Float16 | Dtype::Bfloat16));
    model.index().values().any(|(value, _)| model.tensor_proto(value).is_some_and(|tensor| half(tensor.data_type())))
}
