//! What the main job does where the user does not say.

use std::path::Path;

use anyhow::Context;

use super::args::Prune;
use super::values::{Kinds, Recovery, Scoring};
use super::{planned, training};
use crate::analysis::Kind;
use crate::plan::Plan;
use crate::prune::{DEFAULT_DRIFT, MADE_UP_DRIFT, PruneError, Request};
use crate::recover::Method;
use crate::score::{Given, Needs, Scorer};
use crate::train::Training;

/// Whether inputs or statistics are the user's own.
pub(super) fn measured(args: &Prune) -> bool {
    args.data.data.is_some() || !args.stats.is_empty()
}

/// How units are ranked: by what activations say where there are any, made-up ones if need be, else by norms. Errors: a file
/// of scores that cannot be read.
pub(super) fn score(args: &Prune) -> anyhow::Result<Scorer> {
    let named = |name: &str| Scorer::named(name, args.data.seed);
    let score = match &args.score {
        Some(Scoring::Name(entry)) => named(entry.name),
        Some(Scoring::File(path)) => Some(Scorer::given(Given::read(path).context("--score")?)),
        None if measured(args) || !args.no_verify => named("obs"),
        None => None,
    };
    Ok(score.unwrap_or_else(Scorer::norm))
}

/// How the weights that stay are mended: as the plan says that they were, where there are inputs for it (what was made up can
/// be made up again); else by least squares where units are ranked by what that would leave.
pub(super) fn recovery(args: &Prune, plan: Option<&Plan>, score: &Scorer) -> Option<Method> {
    match args.recover {
        Some(Recovery::Nothing) => return None,
        Some(Recovery::With(method)) => return Some(method),
        Some(Recovery::Distill) => return Some(Method::LeastSquares),
        None => {}
    }
    let Some(fit) = plan.and_then(|plan| plan.fit.as_ref()) else {
        return (score.to_string() == "obs").then(Method::default);
    };
    planned::method(fit, measured(args))
}

/// How the mended weights are trained: where that is asked for, or where the plan says that they were and there are inputs.
pub(super) fn training(
    args: &Prune,
    plan: Option<&Plan>,
    target: Option<&Path>,
) -> Option<Training> {
    let fit = plan.and_then(|plan| plan.fit.as_ref());
    let asked = training::training(&args.train, &args.judged, args.data.seed, target);
    planned::training(asked, args.recover, &args.views, (fit, measured(args)))
}

/// The kinds of units that may go: those named, or all that can be weighed against each other. Whole layers are chosen by what
/// inputs tell; dimensions of heads go where heads do not.
pub(super) fn kinds(units: &Kinds, measured: bool) -> Vec<Kind> {
    match units {
        Kinds::Named(kinds) => kinds.clone(),
        Kinds::Auto if measured => vec![Kind::Channels, Kind::Heads, Kind::Layers],
        Kinds::Auto => vec![Kind::Channels, Kind::Heads],
    }
}

/// The drift allowed.
pub(super) fn drift(args: &Prune) -> f64 {
    if args.data.data.is_some() {
        DEFAULT_DRIFT
    } else {
        MADE_UP_DRIFT
    }
}

/// The request by weights alone, if that is what is left to do for a model that does not run, of which the user said neither
/// how units are ranked nor what to measure them with.
pub(super) fn by_weights(args: &Prune, request: &Request, error: &PruneError) -> Option<Request> {
    let does_not_run = matches!(
        error,
        PruneError::Unverifiable(_) | PruneError::SearchNeedsRun(_) | PruneError::CurvesNeedRun(_)
    );
    let chosen = args.score.is_some() || args.recover.is_some() || measured(args);
    let sized = !request.targets.is_empty() || args.family.is_of_costs();
    let wanted = sized && request.score.needs() != Needs::Weights;
    (does_not_run && !chosen && wanted).then(|| Request {
        score: Scorer::norm(),
        recover: None,
        training: None,
        ..request.clone()
    })
}
