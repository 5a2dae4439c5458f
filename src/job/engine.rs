//! Which engine a job is done in: one for all that is compared.

use super::{Checks, Data, Error, Outcome, Request, prune_in};
use crate::model::Model;
use crate::progress::Work;
use crate::run::{Chosen, Fallback, Runtime, Unverifiable, choose};
use crate::verify::Verdict;

/// What ran the models.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Engine {
    pub name: String,
    pub version: String,
}

impl Engine {
    pub(super) fn of(runtime: &dyn Runtime) -> Self {
        Engine {
            name: runtime.name().to_owned(),
            version: runtime.version().to_owned(),
        }
    }
}

/// Prunes a model. `runtime` is `None` when nothing is to be run (no drift search, no checks). The engine is chosen for the
/// original: the runtime, or what it falls back to. Where the runtime runs the original and then fails on what is made of it,
/// the other does the whole job again.
///
/// Errors: targets out of reach, a plan that does not fit, surgery that fails, a stop asked for.
pub fn prune(
    model: &Model,
    request: &Request,
    data: &Data,
    runtime: Option<&dyn Runtime>,
    work: &Work,
) -> Result<Outcome, Error> {
    let Some(runtime) = runtime else {
        return prune_in(model, request, data, None, work);
    };
    let chosen = match data.inputs.example()? {
        Some(example) => choose(runtime, model, &example),
        None => Chosen {
            runtime,
            session: Err(Unverifiable::new("there are no inputs to run")),
        },
    };
    let (runtime, runs) = (chosen.runtime, chosen.session.is_ok());
    let first = prune_in(model, request, data, Some(chosen), work);
    if !runs || is_settled(&first) {
        return first;
    }
    let other = match runtime.fallback() {
        Fallback::Runtime(other) => other,
        Fallback::Missing(missing) => return first.map(|outcome| hinted(outcome, &missing)),
        Fallback::Nothing => return first,
    };
    let Some(example) = data.inputs.example()? else {
        return first;
    };
    let Ok(session) = other.prepare(model, &example, &[]) else {
        return first;
    };
    tracing::warn!(
        "{} fails on what was made of the model, so {} does all of it again",
        runtime.name(),
        other.name()
    );
    let second = prune_in(
        model,
        request,
        data,
        Some(Chosen {
            runtime: other,
            session: Ok(session),
        }),
        work,
    );
    if is_settled(&second) || first.is_err() {
        second
    } else {
        first
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
fn is_settled(outcome: &Result<Outcome, Error>) -> bool {
    match outcome {
        Err(Error::Unverifiable(_) | Error::Broken(_)) => false,
        Err(_) => true,
        Ok(outcome) => outcome.checks.as_ref().is_none_or(is_told),
    }
}

fn is_told(checks: &Checks) -> bool {
    checks.exactness.verdict == Verdict::Exact && !checks.outputs.is_empty()
}

/// Does something in a runtime, and again in what it falls back to where the model does not run. Errors: those of the last try;
/// where that engine is not at hand, the reason says so.
pub(super) fn in_either<T>(
    runtime: &dyn Runtime,
    work: impl Fn(&dyn Runtime) -> Result<T, Error>,
) -> Result<T, Error> {
    let reason = match work(runtime) {
        Err(Error::Unverifiable(reason)) => reason,
        done => return done,
    };
    match runtime.fallback() {
        Fallback::Nothing => Err(Error::Unverifiable(reason)),
        Fallback::Missing(missing) => Err(Error::Unverifiable(format!("{reason} ({missing})"))),
        Fallback::Runtime(other) => work(other),
    }
}
