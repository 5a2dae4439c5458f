//! What a runtime offers, whichever it is.

use std::borrow::Cow;

use indexmap::IndexMap;
use rayon::prelude::*;

use crate::constants::InlineError;
use crate::model::{Ends, Model, TensorRef};

/// Tensors by the names of the values that they stand for.
pub type Tensors = IndexMap<String, TensorRef>;

/// Why a model cannot be run here and trusted: names the operator and the node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Unverifiable {
    /// One sentence without a full stop.
    pub reason: String,
}

impl Unverifiable {
    /// Wraps a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Unverifiable {
            reason: reason.into(),
        }
    }
}

impl From<InlineError> for Unverifiable {
    fn from(error: InlineError) -> Self {
        Unverifiable::new(error.to_string())
    }
}

/// A run that failed, though the model was accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// What runs a model that a runtime lacks something for.
pub enum Fallback<'a> {
    /// Nothing is meant to.
    Nothing,
    /// Another runtime would, but it is not at hand: one sentence on how to get it, without a full stop.
    Missing(String),
    /// This one.
    Runtime(&'a dyn Runtime),
}

/// Something that runs models.
pub trait Runtime: Sync {
    /// Its name for reports.
    fn name(&self) -> &str;

    /// Its version for reports.
    fn version(&self) -> &str;

    /// What runs a model that this one does not run.
    #[doc(hidden)]
    fn fallback(&self) -> Fallback<'_> {
        Fallback::Nothing
    }

    /// Makes a session for inputs of the same shapes as `example` (a model that was cut at its inputs takes the original's); `taps` are values of the main graph that it gives besides the outputs.
    ///
    /// Errors: an operator that the runtime lacks or gets wrong, a failed self-check, a tap or an input that is not there.
    fn prepare(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<Box<dyn Session>, Unverifiable>;

    /// The same for a variant of a model that was found trustworthy: what is checked once per model is not checked again.
    fn prepare_variant(
        &self,
        model: &Model,
        example: &Tensors,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.prepare(model, example, &[])
    }
}

/// A model made ready.
pub trait Session: Send + Sync {
    /// Runs once; gives the graph's outputs in order, then the taps. Half-precision values come back as floats.
    ///
    /// Errors: an input that is missing, has another shape than the example had, or, where its value decided the control flow, another value.
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError>;

    /// Milliseconds of one run.
    fn time(&self, inputs: &Tensors) -> Result<f64, RunError> {
        let start = std::time::Instant::now();
        self.run(inputs)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// How far two ways of computing the same outputs differed, relative to the outputs' largest; 0 when that was not looked at.
    fn noise(&self) -> f64;
}

/// What a model takes of inputs that are meant for the model that it was cut from.
pub(super) fn fitted<'a>(ends: &Ends, inputs: &'a Tensors) -> Cow<'a, Tensors> {
    if !inputs.keys().any(|name| ends.changes(name)) {
        return Cow::Borrowed(inputs);
    }
    Cow::Owned(
        inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), ends.of(name, tensor).into_owned()))
            .collect(),
    )
}

/// The largest difference relative to the largest element; `None` for what is no float.
pub(super) fn difference(first: &TensorRef, second: &TensorRef) -> Option<f64> {
    if !first.dtype.is_float() {
        return None;
    }
    let (first, second) = (first.to_f64()?, second.to_f64()?);
    let largest = first
        .iter()
        .filter(|x| x.is_finite())
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let apart = first.iter().zip(&second).map(|(x, y)| {
        let same = x == y || (x.is_nan() && y.is_nan());
        match (same, (x - y).abs()) {
            (true, _) => 0.0,
            (false, apart) if apart.is_finite() => apart,
            _ => f64::INFINITY,
        }
    });
    let apart = apart.fold(0.0, f64::max);
    Some(if apart == 0.0 {
        0.0
    } else {
        apart / largest.max(f64::MIN_POSITIVE)
    })
}

/// Runs every input, in parallel; results in the order of the inputs.
pub fn run_all(session: &dyn Session, inputs: &[Tensors]) -> Vec<Result<Vec<TensorRef>, RunError>> {
    inputs
        .par_iter()
        .map(|inputs| session.run(inputs))
        .collect()
}
