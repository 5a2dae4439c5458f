//! A request that takes tokens, in two: rows of the vocabulary are cut first, and what else is asked for is done to the model that
//! is left.

use super::{Outcome, Request, VocabularyCut};
use crate::analysis::{KeptTokens, Kind};
use crate::plan::Plan;
use crate::score::Scorer;
use crate::surgery;
use crate::verify::Verdict;

/// A request in two: the vocabulary, then the rest.
pub(super) struct VocabularyFirst {
    pub first: Request,
    pub rest: Option<Request>,
    pub tokens: KeptTokens,
}

impl VocabularyFirst {
    /// The parts of a request that takes tokens.
    pub fn of(request: &Request) -> Option<Self> {
        if let Some(plan) = &request.plan {
            let (first, rest) = plan.vocabulary_first()?;
            let tokens = first.kept_tokens()?;
            let rest = (!rest.groups.is_empty()).then(|| Request {
                plan: Some(rest),
                ..request.clone()
            });
            let first = alone(request, Some(first), None);
            return Some(VocabularyFirst {
                first,
                rest,
                tokens,
            });
        }
        let tokens = request.tokens.clone()?;
        let rest = request.asks_for_units().then(|| Request {
            tokens: None,
            ..request.clone()
        });
        Some(VocabularyFirst {
            first: alone(request, None, Some(tokens.clone())),
            rest,
            tokens,
        })
    }
}

/// The request for the vocabulary alone.
fn alone(request: &Request, plan: Option<Plan>, tokens: Option<KeptTokens>) -> Request {
    Request {
        score: Scorer::norm(),
        kinds: vec![Kind::Vocabulary],
        plan,
        tokens,
        keep_plan: request.keep_plan,
        pins: request.pins.clone(),
        verify: request.verify,
        ..Default::default()
    }
}

/// What both cuts made, told as one.
pub(super) fn joined(
    first: Outcome,
    second: Outcome,
    tokens: KeptTokens,
    request: &Request,
) -> Outcome {
    let cut = VocabularyCut::of(&first, tokens);
    let mut outcome = second;
    outcome.plan = outcome.plan.behind(first.plan);
    surgery::annotate(&mut outcome.model, &request.notes(&outcome.plan));
    outcome.changed_ends.splice(0..0, first.changed_ends);
    outcome.notes.splice(0..0, first.notes);
    if let (Some(one), Some(both)) = (first.checks, &mut outcome.checks) {
        let (one, both) = (one.exactness, &mut both.exactness);
        both.max_relative_error = both
            .max_relative_error
            .into_iter()
            .chain(one.max_relative_error)
            .reduce(f64::max);
        if both.verdict == Verdict::Exact {
            both.verdict = one.verdict;
            both.reason = both.reason.take().or(one.reason);
        }
    }
    outcome.vocabulary = Some(VocabularyCut {
        first: Some((first.workspace, first.choice)),
        ..cut
    });
    outcome
}
