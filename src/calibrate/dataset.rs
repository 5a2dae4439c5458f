//! What a model is measured with: inputs, those kept apart, statistics taken before.

use std::path::Path;
use std::sync::Arc;

use super::changed::{SequencePadding, Viewed};
use super::{MadeUp, ModelInputs, Statistics, cached, declared_inputs};
use crate::analysis::Pins;
use crate::inputs::{
    Batches, DataError, Inputs, LoadOptions, Part, Tensors, apart, examples_of_both, load,
};
use crate::model::Model;
use crate::progress::Memory;

/// Inputs to measure with.
///
/// ```
/// use onnx_prune::{Dataset, Limits, load};
///
/// let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
/// let dataset = Dataset::read(&model, "fixtures/digits_calibration.npz".as_ref(), Some(64))?;
/// // An eighth is kept apart to measure on.
/// let apart = dataset.apart.map_or(0, |apart| apart.inputs.count());
/// assert_eq!((dataset.inputs.count(), apart), (56, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dataset {
    /// What is fitted to and chosen by: one batch a run, made whenever it is asked for.
    pub inputs: Arc<dyn Batches>,
    /// Whether they were made up from the declared shapes.
    pub synthetic: bool,
    /// Class ids of all rows of all these inputs, in order; training may learn from them.
    pub labels: Option<Vec<i64>>,
    /// What drift, agreement and accuracy are measured on instead. Nothing is fitted to them or chosen by them.
    pub apart: Option<Apart>,
    /// Statistics of the original's activations, taken before.
    pub statistics: Option<Statistics>,
    /// How the inputs were prepared, for the plan to tell.
    pub preparation: String,
    /// Inputs of which the file does not tell which numbers come together: what was made up for them is a guess.
    pub guessed: Vec<String>,
    /// What was found of padding, where `inputs` end where their sequences do.
    #[doc(hidden)]
    pub padding: Option<SequencePadding>,
    /// What weights are fitted to instead of `inputs`, where these are seen in several views.
    #[doc(hidden)]
    pub views: Option<Viewed>,
}

/// Inputs that were kept apart to measure on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Apart {
    /// One batch a run.
    pub inputs: Arc<dyn Batches>,
    /// Whether they were made up.
    pub synthetic: bool,
    /// Class ids of all their rows, in order.
    pub labels: Option<Vec<i64>>,
}

impl Default for Dataset {
    fn default() -> Self {
        Dataset {
            inputs: Arc::new(Vec::<Tensors>::new()),
            synthetic: false,
            labels: None,
            apart: None,
            statistics: None,
            preparation: String::new(),
            guessed: Vec::new(),
            padding: None,
            views: None,
        }
    }
}

impl Dataset {
    /// Everything is fitted to, chosen by and measured on the same inputs.
    pub fn new(inputs: Arc<dyn Batches>) -> Self {
        Dataset {
            inputs,
            ..Default::default()
        }
    }

    /// Reads inputs of a model: an `.npz` or `.npy` file, a folder of pictures or of ONNX test sets, at most so many samples.
    /// An eighth of them is kept apart to measure on. Errors: files that cannot be read, or that do not fit the model's inputs.
    pub fn read(model: &Model, path: &Path, samples: Option<usize>) -> Result<Self, DataError> {
        let pins = Pins::new();
        let wanted = ModelInputs::new(model, declared_inputs(model, &pins, Some(path)), &pins)?;
        let options = LoadOptions {
            samples,
            ..Default::default()
        };
        Ok(Dataset::split(load(path, &wanted.specs, &options)?))
    }

    /// Makes up inputs from what a model declares; the same seed makes the same. They say little of how the model behaves on
    /// real ones. Errors: an input whose type cannot be made up.
    pub fn made_up(model: &Model, samples: usize, seed: u64) -> Result<Self, DataError> {
        let pins = Pins::new();
        let wanted = ModelInputs::new(model, declared_inputs(model, &pins, None), &pins)?;
        let made = MadeUp::of(&wanted.closed(), samples, seed, Memory::default())?;
        Ok(made.dataset())
    }

    /// Keeps some runs apart to measure on, if there is more than one.
    fn split(inputs: Inputs) -> Self {
        let kept = apart(inputs.len(), inputs.samples);
        Dataset::keeping(inputs, &kept)
    }

    /// Keeps these runs apart to measure on.
    fn keeping(inputs: Inputs, kept: &[usize]) -> Self {
        let synthetic = inputs.synthetic;
        let batches = cached(inputs);
        let mut dataset = Dataset {
            synthetic,
            ..Dataset::new(batches.clone())
        };
        if !kept.is_empty() {
            let (kept, rest) = Part::split(&batches, kept);
            dataset.inputs = Arc::new(rest);
            dataset.apart = Some(Apart {
                inputs: Arc::new(kept),
                synthetic,
                labels: None,
            });
        }
        dataset
    }

    /// What drift is measured on: what was kept apart, or all there is, and its class ids.
    #[doc(hidden)]
    pub(crate) fn measured(&self) -> (&dyn Batches, Option<&[i64]>) {
        match &self.apart {
            Some(apart) => (&*apart.inputs, apart.labels.as_deref()),
            None => (&*self.inputs, self.labels.as_deref()),
        }
    }

    /// What statistics are taken of and weights are fitted to: the inputs, in several views where there are few.
    #[doc(hidden)]
    pub(crate) fn rows(&self) -> &dyn Batches {
        match &self.views {
            Some(viewed) => &*viewed.rows,
            None => &*self.inputs,
        }
    }

    /// What is fitted to and chosen by, with the padding that it came with.
    #[doc(hidden)]
    pub(crate) fn whole(&self) -> &dyn Batches {
        match &self.padding {
            Some(padding) => &*padding.whole,
            None => &*self.inputs,
        }
    }

    /// One of all inputs of each width of sequences, the widest first. Errors: one that cannot be read.
    #[doc(hidden)]
    pub(crate) fn examples(&self) -> Result<Vec<Tensors>, DataError> {
        let apart = self.apart.as_ref().map(|apart| &*apart.inputs);
        examples_of_both(&*self.inputs, apart)
    }

    /// Whether what drift is measured on was made up.
    pub(crate) fn measured_on_made_up(&self) -> bool {
        self.apart
            .as_ref()
            .map_or(self.synthetic, |apart| apart.synthetic)
    }

    /// Whether statistics are all that is known of how the model is used.
    #[doc(hidden)]
    pub(crate) fn statistics_alone(&self) -> bool {
        self.statistics.is_some() && (self.synthetic || self.inputs.count() == 0)
    }
}

impl MadeUp {
    /// What a model is measured with.
    pub fn dataset(self) -> Dataset {
        Dataset {
            guessed: self.guessed,
            ..Dataset::keeping(self.inputs, &self.apart)
        }
    }
}
