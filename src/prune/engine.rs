//! Which engine a job is done in: one for all that is compared.

use super::{Outcome, PruneError, Request, stages, unchanged};
use crate::calibrate::{Dataset, trimmed, viewed};
use crate::evaluate::Checks;
use crate::model::Model;
use crate::progress::Work;
use crate::run::{Chosen, Fallback, Runtime, Tensors, Unverifiable, choose, for_shapes};
use crate::verify::Verdict;

/// A model to prune, what it is measured with and what runs it.
///
/// ```
/// use onnx_prune::{Dataset, Limits, Pruner, Request, TractRuntime, Verdict, Work, load};
///
/// let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
/// let dataset = Dataset::made_up(&model, 4, 0)?;
/// let runtime = TractRuntime::new(true);
/// let mut request = Request::default();
/// request.drift = Some(0.1);
/// let outcome = Pruner::new(&model, &dataset, Some(&runtime), Work::new(&())).run(&request)?;
/// assert_eq!(outcome.checks.map(|checks| checks.exactness.verdict), Some(Verdict::Exact));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Pruner<'a> {
    model: &'a Model,
    dataset: &'a Dataset,
    runtime: Option<&'a dyn Runtime>,
    work: Work<'a>,
}

impl<'a> Pruner<'a> {
    /// Without a runtime nothing is run: no search for a drift, no checks.
    pub fn new(
        model: &'a Model,
        dataset: &'a Dataset,
        runtime: Option<&'a dyn Runtime>,
        work: Work<'a>,
    ) -> Self {
        Pruner {
            model,
            dataset,
            runtime,
            work,
        }
    }

    /// Prunes the model. One engine runs all that is compared: the runtime where it runs the original, else what it falls back
    /// to. Where the runtime runs the original and then fails on what is made of it, the other does all of it again.
    ///
    /// Errors: inputs that cannot be read, a plan or scores that do not fit, a model that does not run where it has to, a stop
    /// asked for. Targets out of reach are no error: see [`Outcome::reached`].
    pub fn run(&self, request: &Request) -> Result<Outcome, PruneError> {
        let Some(runtime) = self.runtime else {
            return self.run_in(None, request);
        };
        if unchanged::is(self.model, request, self.dataset, &self.work)? {
            return Ok(unchanged::told(self.run_in(None, request)?));
        }
        let found = self.prepared(runtime, request)?;
        let pruner = Pruner {
            dataset: found.as_ref().unwrap_or(self.dataset),
            ..*self
        };
        pruner.run_on(runtime, request)
    }

    /// The inputs without padding, and in views where they are few; `None` where they are taken as they are.
    fn prepared(
        &self,
        runtime: &dyn Runtime,
        request: &Request,
    ) -> Result<Option<Dataset>, PruneError> {
        let found = trimmed(self.model, self.dataset, runtime)?;
        let data = found.as_ref().unwrap_or(self.dataset);
        let fits = request.recover.is_some() && !data.statistics_alone();
        let augment = (request.augment, request.seed);
        let views = match fits {
            true => viewed(self.model, data, runtime, augment)?,
            false => None,
        };
        Ok(match views {
            Some(_) => Some(Dataset {
                views,
                ..data.clone()
            }),
            None => found,
        })
    }

    /// Prunes with the inputs as they are.
    fn run_on(&self, runtime: &'a dyn Runtime, request: &Request) -> Result<Outcome, PruneError> {
        let chosen = match &self.dataset.examples()?[..] {
            [example, others @ ..] => {
                let chosen = choose(runtime, self.model, example);
                self.ready(chosen, example, others)
            }
            [] => Chosen {
                runtime,
                session: Err(Unverifiable::new("there are no inputs to run")),
            },
        };
        let (runtime, runs) = (chosen.runtime, chosen.session.is_ok());
        let first = self.run_in(Some(chosen), request);
        if !runs || is_settled(&first) {
            return first;
        }
        self.run_again(first, runtime, request)
    }

    /// What was chosen for an example, made ready for inputs of other shapes as well.
    fn ready<'b>(&self, chosen: Chosen<'b>, example: &Tensors, others: &[Tensors]) -> Chosen<'b> {
        let (runtime, mut first) = (chosen.runtime, Some(chosen.session));
        let examples = [std::slice::from_ref(example), others].concat();
        let session = for_shapes(self.model, &examples, |model, example| {
            first
                .take()
                .unwrap_or_else(|| runtime.prepare_variant(model, example))
        });
        Chosen { runtime, session }
    }

    /// Does all of it again in what a runtime falls back to.
    fn run_again(
        &self,
        first: Result<Outcome, PruneError>,
        runtime: &'a dyn Runtime,
        request: &Request,
    ) -> Result<Outcome, PruneError> {
        let other = match runtime.fallback() {
            Fallback::Runtime(other) => other,
            Fallback::Missing(missing) => return first.map(|outcome| hinted(outcome, &missing)),
            Fallback::Nothing => return first,
        };
        let examples = self.dataset.examples()?;
        if examples.is_empty() {
            return first;
        }
        let prepare = |model: &Model, example: &Tensors| other.prepare(model, example, &[]);
        let Ok(session) = for_shapes(self.model, &examples, prepare) else {
            return first;
        };
        tracing::warn!(
            "{} fails on what was made of the model, so {} does all of it again",
            runtime.name(),
            other.name()
        );
        let chosen = Chosen {
            runtime: other,
            session: Ok(session),
        };
        let second = self.run_in(Some(chosen), request);
        if is_settled(&second) || first.is_err() {
            second
        } else {
            first
        }
    }

    fn run_in(&self, chosen: Option<Chosen>, request: &Request) -> Result<Outcome, PruneError> {
        stages::run(self.model, request, self.dataset, chosen, &self.work)
    }
}

/// Says of a verdict that another engine might have given another one.
fn hinted(mut outcome: Outcome, missing: &str) -> Outcome {
    if let Some(checks) = &mut outcome.checks {
        match &mut checks.exactness.verdict {
            Verdict::Unverifiable(reason) => *reason = format!("{reason} ({missing})"),
            Verdict::Inexact => {
                let reason = checks.exactness.reason.take().unwrap_or_default();
                checks.exactness.reason =
                    Some(format!("{reason} ({missing})").trim_start().to_owned());
            }
            Verdict::Exact => {}
        }
    }
    outcome
}

/// Whether there is nothing that another engine could tell.
fn is_settled(outcome: &Result<Outcome, PruneError>) -> bool {
    match outcome {
        Err(
            PruneError::Unverifiable(_)
            | PruneError::SearchNeedsRun(_)
            | PruneError::CurvesNeedRun(_)
            | PruneError::Broken(_),
        ) => false,
        Err(_) => true,
        Ok(outcome) => outcome.checks.as_ref().is_none_or(is_told),
    }
}

fn is_told(checks: &Checks) -> bool {
    checks.exactness.verdict == Verdict::Exact && !checks.outputs.is_empty()
}
