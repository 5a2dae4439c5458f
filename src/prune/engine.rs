//! Which engine a job is done in: one for all that is compared.

use super::tokens_first::{VocabularyFirst, joined};
use super::{Outcome, PruneError, Request, SweepPoint, VocabularyCut, stages, unchanged};
use crate::calibrate::{Dataset, trimmed, viewed};
use crate::evaluate::Checks;
use crate::model::{Ends, Model};
use crate::progress::Work;
use crate::run::{Chosen, Fallback, Runtime, Tensors, choose_for, for_shapes};
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
        match VocabularyFirst::of(request) {
            Some(parts) => self.run_in_two(parts),
            None => self.run_at_once(request),
        }
    }

    /// Cuts the vocabulary, then the rest of the model that is left, fed with the new ids. Errors: also inputs with ids that go.
    fn run_in_two(&self, parts: VocabularyFirst) -> Result<Outcome, PruneError> {
        let VocabularyFirst {
            first,
            rest,
            tokens,
        } = parts;
        let data = self.dataset.of_kept(&tokens)?;
        let mut first = Pruner {
            dataset: &data,
            ..*self
        }
        .run_at_once(&first)?;
        let is_wrong = |checks: &Checks| checks.exactness.verdict == Verdict::Inexact;
        let stops = first.checks.as_ref().is_some_and(is_wrong);
        let Some(mut rest) = rest.filter(|_| !stops) else {
            first.vocabulary = Some(VocabularyCut::of(&first, tokens));
            return Ok(first);
        };
        rest.before = Some(first.before);
        let plan = rest.plan.map(|plan| plan.without(&first.plan));
        rest.plan = plan.transpose()?;
        let mut model = first.model.clone();
        model.ends = Ends::default();
        let data = data.renumbered(&tokens)?;
        let second = Pruner {
            model: &model,
            dataset: &data,
            ..*self
        }
        .run_at_once(&rest)?;
        Ok(joined(first, second, tokens, &rest))
    }

    /// All of a request in one go.
    fn run_at_once(&self, request: &Request) -> Result<Outcome, PruneError> {
        let outcome = self.all(request, &[])?.pop();
        outcome.ok_or_else(|| PruneError::Unverifiable("nothing was made".to_owned()))
    }

    /// Prunes the model once for each point, from one calibration: statistics and error curves are taken once, and each model
    /// starts from the weights of the one before. Gives an outcome for each point, in their order, which should be that of the
    /// lightest cut first. The request's own targets hold for all of them; its rounds and its plan are not used.
    ///
    /// Errors: as [`Pruner::run`].
    ///
    /// ```
    /// use onnx_prune::{Dataset, Limits, Pruner, Request, SweepPoint, Target, Work, load};
    ///
    /// let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
    /// let points = [0.8, 0.5].map(|left| SweepPoint::Cost(Target::Macs(left)));
    /// let dataset = Dataset::default();
    /// let outcomes = Pruner::new(&model, &dataset, None, Work::new(&())).sweep(&Request::default(), &points)?;
    /// assert!(outcomes.len() == 2 && outcomes[1].after.macs < outcomes[0].after.macs);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sweep(
        &self,
        request: &Request,
        points: &[SweepPoint],
    ) -> Result<Vec<Outcome>, PruneError> {
        match points {
            [] => Ok(Vec::new()),
            _ => self.all(request, points),
        }
    }

    /// One outcome, or one for each point of a sweep.
    fn all(&self, request: &Request, points: &[SweepPoint]) -> Result<Vec<Outcome>, PruneError> {
        let asked = (request, points);
        let Some(runtime) = self.runtime else {
            return self.run_in(None, asked);
        };
        let first = points.first().map(|point| request.at(*point));
        if unchanged::is(
            self.model,
            first.as_ref().unwrap_or(request),
            self.dataset,
            &self.work,
        )? {
            let outcomes = self.run_in(None, asked)?;
            return Ok(outcomes.into_iter().map(unchanged::told).collect());
        }
        let found = self.prepared(runtime, request)?;
        let pruner = Pruner {
            dataset: found.as_ref().unwrap_or(self.dataset),
            ..*self
        };
        pruner.run_on(runtime, asked)
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
    fn run_on(
        &self,
        runtime: &'a dyn Runtime,
        asked: (&Request, &[SweepPoint]),
    ) -> Result<Vec<Outcome>, PruneError> {
        let chosen = choose_for(runtime, self.model, &self.dataset.examples()?);
        let (runtime, runs) = (chosen.runtime, chosen.session.is_ok());
        let first = self.run_in(Some(chosen), asked);
        if !runs || is_settled(&first) {
            return first;
        }
        self.run_again(first, runtime, asked)
    }

    /// Does all of it again in what a runtime falls back to.
    fn run_again(
        &self,
        first: Result<Vec<Outcome>, PruneError>,
        runtime: &'a dyn Runtime,
        asked: (&Request, &[SweepPoint]),
    ) -> Result<Vec<Outcome>, PruneError> {
        let other = match runtime.fallback() {
            Fallback::Runtime(other) => other,
            Fallback::Missing(missing) => {
                let hint = |outcome| hinted(outcome, &missing);
                return first.map(|outcomes| outcomes.into_iter().map(hint).collect());
            }
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
        let second = self.run_in(Some(chosen), asked);
        if is_settled(&second) || first.is_err() {
            second
        } else {
            first
        }
    }

    fn run_in(
        &self,
        chosen: Option<Chosen>,
        asked: (&Request, &[SweepPoint]),
    ) -> Result<Vec<Outcome>, PruneError> {
        stages::run(self.model, asked, self.dataset, chosen, &self.work)
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
fn is_settled(outcomes: &Result<Vec<Outcome>, PruneError>) -> bool {
    match outcomes {
        Err(
            PruneError::Unverifiable(_)
            | PruneError::SearchNeedsRun(_)
            | PruneError::CurvesNeedRun(_)
            | PruneError::Broken(_),
        ) => false,
        Err(_) => true,
        Ok(outcomes) => outcomes
            .iter()
            .all(|outcome| outcome.checks.as_ref().is_none_or(is_told)),
    }
}

fn is_told(checks: &Checks) -> bool {
    checks.exactness.verdict == Verdict::Exact && !checks.outputs.is_empty()
}
