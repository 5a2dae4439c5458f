//! How weights are mended and trained where a plan says how they were.

use super::values::Recovery;
use super::views::ViewArgs;
use crate::plan::Fit;
use crate::recover::Method;
use crate::train::{OutputLoss, TRAINED, Training};

/// How weights are mended: as they were, where there are inputs for it (`measured`: the user's own); what was made up can be made
/// up again. What is trained is fitted by least squares before.
pub(super) fn method(fit: &Fit, measured: bool) -> Option<Method> {
    if fit.method == TRAINED {
        return measured.then_some(Method::LeastSquares);
    }
    let made_up = fit.inputs.as_ref().is_some_and(|inputs| inputs.synthetic);
    [Method::LeastSquares, Method::Statistics]
        .into_iter()
        .find(|method| method.to_string() == fit.method)
        .filter(|_| measured || made_up)
}

/// How weights are trained, by options that say how: where that is asked for, or where they were and there are inputs.
pub(super) fn training(
    asked: Training,
    recover: Option<Recovery>,
    views: &ViewArgs,
    (fit, measured): (Option<&Fit>, bool),
) -> Option<Training> {
    let was = fit.filter(|fit| fit.method == TRAINED && recover.is_none() && measured);
    if recover != Some(Recovery::Distill) && was.is_none() {
        return None;
    }
    let named = |fit: &Fit| OutputLoss::named(fit.loss.as_deref()?);
    Some(Training {
        steps: asked.steps.or(was.and_then(|fit| fit.steps)),
        loss: asked.loss.or(was.and_then(named)),
        augment: views.augment(fit),
        ..asked
    })
}
