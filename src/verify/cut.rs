//! A cut to be judged, and how far apart the two models may be.

use crate::analysis::{Analysis, Selection};
use crate::model::{Model, TensorRef};
use crate::proto::Dtype;
use crate::run::{Runtime, Tensors};

/// A cut, to be judged.
#[derive(Clone, Copy)]
pub struct CutModels<'a> {
    /// The model that was analysed.
    pub working: &'a Model,
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What goes.
    pub selection: &'a Selection,
    /// What became of it.
    pub pruned: &'a Model,
}

/// Relative error that rounding explains in single precision.
pub const TOLERANCE: f64 = 1e-4;
/// The same for models that compute in half precision.
pub const HALF_TOLERANCE: f64 = 1e-2;
/// How far a value inside may be apart as a whole (root of the mean square), by what the model computes in.
const INSIDE: f64 = 1e-3;
const INSIDE_HALF: f64 = 2e-2;
/// Steps of a quantized model go either way where a number lies between two of them.
const INSIDE_QUANTIZED: f64 = 5e-2;
/// One check of a cut in a runtime.
pub(super) struct Trial<'a> {
    pub(super) runtime: &'a dyn Runtime,
    pub(super) cut: &'a CutModels<'a>,
    pub(super) original: &'a [Vec<TensorRef>],
    pub(super) inputs: &'a [Tensors],
    /// At the outputs, and inside.
    pub(super) tolerance: f64,
    pub(super) inside: f64,
}

impl<'a> Trial<'a> {
    /// `original` is what the untouched original gives for `inputs`, and `noise` what two ways of running it differ by.
    pub(super) fn new(
        runtime: &'a dyn Runtime,
        cut: &'a CutModels<'a>,
        original: &'a [Vec<TensorRef>],
        inputs: &'a [Tensors],
        noise: f64,
    ) -> Self {
        let (half, quantized) = precision(cut.working);
        let floor = if half { HALF_TOLERANCE } else { TOLERANCE };
        let inside = match (quantized, half) {
            (true, _) => INSIDE_QUANTIZED,
            (_, true) => INSIDE_HALF,
            _ => INSIDE,
        };
        Trial {
            runtime,
            cut,
            original,
            inputs,
            tolerance: floor.max(10.0 * noise),
            inside,
        }
    }
}

/// Whether a model computes in half precision, and in whole numbers that stand for steps.
fn precision(model: &Model) -> (bool, bool) {
    let half = |code: i32| {
        matches!(
            Dtype::from_code(code),
            Some(Dtype::Float16 | Dtype::Bfloat16)
        )
    };
    let half = model.index().values().any(|(value, _)| {
        model
            .tensor_proto(value)
            .is_some_and(|tensor| half(tensor.data_type()))
    });
    (
        half,
        model
            .index()
            .nodes()
            .any(|(node, _)| crate::ops::meaning(model.node(node)).counts_steps),
    )
}
