//! Structural pruning of trained ONNX models, compared with the original by running both.
//!
//! A network computes much that its outputs hardly need: channels of convolutions, heads of attention, neurons of dense
//! layers. This crate removes such *units* from a model's file, so that what is left is a smaller ordinary model: no masks, no
//! sparse kernels, no training. It is the library of the program of the same name.
//!
//! # How it works
//!
//! 1. **Analyse.** Every operator says how the indices of its inputs and outputs correspond. From that follows which slices of
//!    which weights have to go together: a *unit*, and the *groups* of units that can stand in for each other. What cannot be
//!    cut is frozen, with a reason; a strange model is no error.
//! 2. **Score.** A [`Score`] says what would be lost with each unit. Some look at weights alone; the best of them looks at what
//!    the layers read on some inputs, a [`Dataset`] ([`SCORES`] lists them).
//! 3. **Choose.** The cheapest units go until the [`Target`]s hold: operations, parameters, bytes, measured latency; or as many
//!    as a drift of the outputs allows.
//! 4. **Cut and recover.** The weights that stay are fitted anew to what the original computes ([`Method`]).
//! 5. **Check.** The cut model must give what the original gives with the same units set to zero. [`Checks`] says whether it
//!    does, and how far the outputs moved from the untouched original's.
//!
//! A [`Pruner`] does all of it:
//!
//! ```
#![doc = include_str!("../examples/prune.rs")]
//! ```
//!
//! # Without running anything
//!
//! A model can be pruned by its weights alone. Nothing is checked then but the shapes:
//!
//! ```
//! use onnx_prune::{Dataset, Limits, Pruner, Request, Target, Work, load};
//!
//! let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
//! let mut request = Request::default();
//! request.targets = vec![Target::Params(0.5)];
//! let outcome = Pruner::new(&model, &Dataset::default(), None, Work::new(&())).run(&request)?;
//! assert!(outcome.reached && outcome.checks.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A score of one's own
//!
//! ```
#![doc = include_str!("../examples/custom_score.rs")]
//! ```
//!
//! # What to rely on
//!
//! The same model, request and inputs give the same bytes, with any number of threads, on the same machine and runtime; only
//! measured latencies differ. Files are read without trust, and written whole or not at all. What is not listed on this page
//! is public for the crate's own tests and changes without notice.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod allocate;
#[doc(hidden)]
pub mod analysis;
#[doc(hidden)]
pub mod calibrate;
#[doc(hidden)]
pub mod clean;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod constants;
#[doc(hidden)]
pub mod cost;
#[doc(hidden)]
pub mod dead;
#[doc(hidden)]
pub mod evaluate;
#[doc(hidden)]
pub mod facts;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod gradient;
#[doc(hidden)]
pub mod hash;
#[doc(hidden)]
pub mod inputs;
#[doc(hidden)]
pub mod latency;
#[doc(hidden)]
pub mod linear;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod proto;
#[doc(hidden)]
pub mod prune;
#[doc(hidden)]
pub mod recover;
#[doc(hidden)]
pub mod relation;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod rng;
#[doc(hidden)]
pub mod rotate;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod score;
#[doc(hidden)]
pub mod sparsify;
#[doc(hidden)]
pub mod surgery;
#[doc(hidden)]
pub mod train;
#[doc(hidden)]
pub mod verify;
#[doc(hidden)]
pub mod vocabulary;
#[doc(hidden)]
pub mod workspace;

// The door: a request, and what comes of it.
#[doc(inline)]
pub use prune::{
    Engine, Note, Outcome, Pattern, PatternError, Point, PruneError, Pruner, Request,
    SensitiveGroup, SweepPoint, Tradeoff,
};
// What is asked for and what is decided.
#[doc(inline)]
pub use allocate::{Align, Target};
#[doc(inline)]
pub use analysis::{Group, Kind};
#[doc(inline)]
pub use cost::Cost;
#[doc(inline)]
pub use plan::{GroupCut, Plan, PlanError, SliceCut};
#[doc(inline)]
pub use recover::Method;
#[doc(inline)]
pub use score::{Curve, Evidence, Given, GivenError, Needs, SCORES, Score, ScoreEntry, Scorer};
#[doc(inline)]
pub use train::{Checkpoint, Lesson, OutputLoss, TrainError, Training, TrainingRecord};
// Models and tensors.
#[doc(inline)]
pub use files::FileError;
#[doc(inline)]
pub use model::{Limits, LoadError, Model, TensorRef, load, save};
#[doc(inline)]
pub use proto::Dtype;
#[doc(inline)]
pub use surgery::SurgeryError;
// Inputs.
#[doc(inline)]
pub use calibrate::{Apart, Dataset, Statistics};
#[doc(inline)]
pub use inputs::{Augment, AugmentError, Batches, DataError, Views};
// What runs models, and what was measured.
#[doc(inline)]
pub use evaluate::{Checks, Latency};
#[doc(inline)]
pub use latency::LatencyForecast;
#[doc(inline)]
pub use run::{
    LibraryError, OrtRuntime, RunError, Runtime, Session, Tensors, TractRuntime, Unverifiable,
};
#[doc(inline)]
pub use verify::{Exactness, OutputDrift, Verdict};
// Long work.
#[doc(inline)]
pub use progress::{Memory, Phase, Progress, Work};
