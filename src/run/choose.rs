//! Which of several runtimes runs a model: chosen for the original, and then used for all that is compared with it.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::shapes::for_shapes;
use super::{
    Fallback, LibraryError, OrtRuntime, Runtime, Session, Tensors, TractRuntime, Unverifiable,
};
use crate::model::Model;

/// Finds libraries of ONNX Runtime. Errors: there are none, with one sentence on how to get one.
pub type Find = dyn Fn() -> Result<Vec<PathBuf>, LibraryError> + Send + Sync;

/// tract, and ONNX Runtime for what tract lacks; its library is looked for when it is first needed.
pub struct Engines {
    tract: TractRuntime,
    find: Box<Find>,
    ort: OnceLock<Result<OrtRuntime, LibraryError>>,
}

impl Engines {
    /// Of a tract that is asked first.
    pub fn new(tract: TractRuntime, find: Box<Find>) -> Self {
        Engines {
            tract,
            find,
            ort: OnceLock::new(),
        }
    }
}

impl Runtime for Engines {
    fn name(&self) -> &str {
        self.tract.name()
    }

    fn version(&self) -> &str {
        self.tract.version()
    }

    fn fallback(&self) -> Fallback<'_> {
        let load = || {
            (self.find)()
                .and_then(|libraries| OrtRuntime::load(&libraries))
                .map(|runtime| runtime.within(self.tract.memory()))
        };
        match self.ort.get_or_init(load) {
            Ok(runtime) => Fallback::Runtime(runtime),
            Err(missing) => Fallback::Missing(missing.to_string()),
        }
    }

    fn prepare(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.tract.prepare(model, example, taps)
    }

    fn prepare_variant(
        &self,
        model: &Model,
        example: &Tensors,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.tract.prepare_variant(model, example)
    }
}

/// The runtime that runs a model, and the model made ready in it.
pub struct Chosen<'a> {
    /// The first that runs it; where none does, the one that was asked first.
    pub runtime: &'a dyn Runtime,
    /// The model, or why none of them runs it.
    pub session: Result<Box<dyn Session>, Unverifiable>,
}

/// The same as [`choose`], for inputs of the shapes of any of the examples: what runs the first is made ready for all of them.
pub fn choose_for<'a>(runtime: &'a dyn Runtime, model: &Model, examples: &[Tensors]) -> Chosen<'a> {
    let Some(example) = examples.first() else {
        return Chosen {
            runtime,
            session: Err(Unverifiable::new("there are no inputs to run")),
        };
    };
    let Chosen { runtime, session } = choose(runtime, model, example);
    let mut first = Some(session);
    let session = for_shapes(model, examples, |model, example| {
        first
            .take()
            .unwrap_or_else(|| runtime.prepare_variant(model, example))
    });
    Chosen { runtime, session }
}

/// Asks a runtime, and where it does not run the model, the one that it falls back to.
pub fn choose<'a>(runtime: &'a dyn Runtime, model: &Model, example: &Tensors) -> Chosen<'a> {
    let first = match runtime.prepare(model, example, &[]) {
        Ok(session) => {
            return Chosen {
                runtime,
                session: Ok(session),
            };
        }
        Err(refused) => refused,
    };
    let session = match runtime.fallback() {
        Fallback::Nothing => Err(first),
        Fallback::Missing(missing) => Err(Unverifiable::new(format!("{first} ({missing})"))),
        Fallback::Runtime(other) => match other.prepare(model, example, &[]) {
            Ok(session) => {
                tracing::info!(
                    "{} {} runs the model, for {first}",
                    other.name(),
                    other.version()
                );
                return Chosen {
                    runtime: other,
                    session: Ok(session),
                };
            }
            Err(second) if second == first => Err(first),
            Err(second) => Err(Unverifiable::new(format!("{first}; {second}"))),
        },
    };
    Chosen { runtime, session }
}
