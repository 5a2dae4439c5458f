//! What goes where nobody said how much may: less where little is known of the inputs, and nothing rather than too much.

use super::decide::{Decision, allowed};
use super::rounds::Rounds;
use super::stages::{PreparedModel, Stages};
use super::{Note, Outcome, PruneError, Request, Tradeoff};
use crate::allocate::Choice;
use crate::calibrate::{Dataset, doubts};
use crate::evaluate::{ALLOWANCE, Baseline, Checks};
use crate::model::Model;
use crate::run::Runtime;
use crate::train::Training;

/// Outputs that vary by less than this share of themselves say too little of a change: an error is then small beside what all
/// outputs have in common, and need not be small beside what tells them apart.
const VARIES: f64 = 0.25;
/// What is left of the drift allowed where inputs are unlike those of training. Where it is whole numbers that pick rows nothing
/// is: sentences move a text model two to three times as far as made-up rows of tokens, and a classifier of bytes anywhere.
const DOUBTED: f64 = 0.5;

/// Where a cut moved inputs kept apart further than allowed, another is made for this share of what should then do: the square of
/// how far it was beyond, for what few inputs do not show shrinks less than what they do.
const LESS: f64 = 0.9;

/// A drift below this is rounding.
const LOSSLESS: f64 = 1e-4;
/// A cut that nobody asked for by size is not worth any drift where it saves less than this share of all costs.
const WORTH: f64 = 0.01;

impl Stages<'_> {
    /// As much as keeps within the drift on inputs kept apart; nothing where the second try does not.
    pub(super) fn cautiously(
        &self,
        prepared: PreparedModel,
        sha256: &str,
        baseline: &Baseline,
    ) -> Result<Outcome, PruneError> {
        let (request, mut said) = self.careful_request(baseline);
        let guessed = self.is_guessed();
        let usual = allowed(self.request, self.data);
        if request.drift == Some(0.0) && !prepared.candidates.groups.is_empty() {
            let nothing = (Tradeoff::default(), usual);
            return self.whole(prepared, nothing, &said, (sha256, baseline));
        }
        let allowed = allowed(&request, self.data);
        let rounds = self.rounds(&prepared, baseline, None);
        let mut curves = rounds.as_ref().map(Rounds::family).transpose()?;
        let promised = request.drift;
        let mut found = None;
        let mut within = |request: &Request, said: &[String]| -> Result<_, PruneError> {
            let stages = Stages { request, ..*self };
            let rounds = stages.rounds(&prepared, baseline, None);
            let mut decided = match (&mut curves, rounds) {
                (Some(curves), Some(rounds)) => {
                    curves.judged = found.is_some();
                    rounds.point(curves)?
                }
                _ => stages.decide(&prepared, sha256, baseline, None)?,
            };
            decided.notes.extend(said.iter().cloned().map(Note::Other));
            found = decided.found;
            let judged = Request {
                drift: promised,
                ..request.clone()
            };
            let request = &judged;
            let stages = Stages { request, ..*self };
            let outcome = stages.pruned(prepared.clone(), decided, sha256, baseline)?;
            Ok((outcome, found))
        };
        let (first, found) = within(&request, &said)?;
        let Some(moved) = moved_too_far(&first, allowed) else {
            if !guessed || is_worth_it(&first) {
                return Ok(first);
            }
            said.push("what could go would save less than a hundredth".to_owned());
            return self.whole(prepared, (first.tradeoff, usual), &said, (sha256, baseline));
        };
        tracing::debug!(moved, "a lighter cut is made");
        let less = LESS * (allowed / moved).powi(2);
        let request = lighter(request, less * found.unwrap_or(allowed));
        drop(first);
        let (second, _) = within(&request, &said)?;
        if moved_too_far(&second, allowed).is_none() && (!guessed || is_worth_it(&second)) {
            return Ok(second);
        }
        let tried = (second.tradeoff, usual);
        self.whole(prepared, tried, &said, (sha256, baseline))
    }

    /// Whether inputs are made up.
    fn is_guessed(&self) -> bool {
        self.data.synthetic && self.data.statistics.is_none()
    }

    /// The request with the drift that the evidence allows, and what is to be said of that.
    fn careful_request(&self, baseline: &Baseline) -> (Request, Vec<String>) {
        let mut request = self.request.clone();
        let mut said = Vec::new();
        let runs = self.runtime.filter(|_| baseline.failure().is_none());
        if let Some(runtime) = runs.filter(|_| self.is_guessed()) {
            let caution = Caution::of(self.model, self.data, baseline, runtime);
            let allowed = allowed(self.request, self.data) * caution.share;
            request.drift = Some(allowed);
            said.extend(caution.remark(allowed));
        }
        (request, said)
    }

    /// The model with nothing cut, after what was tried.
    fn whole(
        &self,
        prepared: PreparedModel,
        (tradeoff, allowed): (Tradeoff, f64),
        said: &[String],
        (sha256, baseline): (&str, &Baseline),
    ) -> Result<Outcome, PruneError> {
        let nothing = Choice {
            removed: vec![Vec::new(); prepared.workspace.analysis.groups.len()],
        };
        let said = said.iter().cloned().map(Note::Other);
        let decided = Decision {
            choice: nothing,
            tradeoff,
            notes: said.chain([Note::NoCutWithin { allowed }]).collect(),
            ..Default::default()
        };
        self.pruned(prepared, decided, sha256, baseline)
    }
}

/// The request for a second cut, within this drift.
fn lighter(request: Request, drift: f64) -> Request {
    let again = |training: Training| Training {
        checkpoint: training
            .checkpoint
            .map(|checkpoint| checkpoint.of_course(1)),
        ..training
    };
    Request {
        drift: Some(drift),
        cautious: false,
        training: request.training.map(again),
        ..request
    }
}

/// The drift on inputs kept apart, where something was cut and it is more than allowed.
fn moved_too_far(outcome: &Outcome, allowed: f64) -> Option<f64> {
    let drift = outcome.checks.as_ref().and_then(Checks::drift)?;
    let cut = outcome.choice.removed.iter().any(|units| !units.is_empty());
    (cut && drift > allowed * ALLOWANCE).then_some(drift)
}

/// Whether something is saved for the drift that there is.
fn is_worth_it(outcome: &Outcome) -> bool {
    let (before, after) = (&outcome.before, &outcome.after);
    let saves = |before: f64, after: f64| after <= before * (1.0 - WORTH);
    let drift = outcome.checks.as_ref().and_then(Checks::drift);
    drift.is_none_or(|drift| drift < LOSSLESS)
        || saves(before.macs, after.macs)
        || saves(before.params, after.params)
        || saves(before.bytes, after.bytes)
}

/// How much of a drift is allowed, and why not all of it.
#[derive(Debug, PartialEq)]
pub(super) struct Caution {
    pub share: f64,
    pub why: Vec<String>,
}

impl Caution {
    /// For a model that is measured on made-up inputs.
    pub fn of(model: &Model, data: &Dataset, baseline: &Baseline, runtime: &dyn Runtime) -> Self {
        let unlike = doubts(model, &*data.inputs, runtime);
        Caution::weighed(baseline.variation(data), &data.guessed, unlike.first())
    }

    fn weighed(variation: Option<f64>, guessed: &[String], unlike: Option<&String>) -> Self {
        let mut caution = Caution {
            share: 1.0,
            why: Vec::new(),
        };
        if let Some(variation) = variation.filter(|variation| *variation < VARIES) {
            let why = format!(
                "the outputs vary by {:.0} % over made-up inputs",
                variation * 100.0
            );
            caution.doubt(variation / VARIES, why);
        }
        if let Some(name) = guessed.first() {
            let why = format!("the file does not tell which numbers come together in '{name}'");
            caution.doubt(0.0, why);
        }
        if let Some(unlike) = unlike {
            caution.doubt(
                DOUBTED,
                format!("made-up inputs are unlike those of training: {unlike}"),
            );
        }
        caution
    }

    fn doubt(&mut self, share: f64, why: String) {
        self.share *= share;
        self.why.push(why);
    }

    /// One sentence, where less is allowed.
    pub fn remark(&self, allowed: f64) -> Option<String> {
        let little = match self.share {
            0.0 => "nothing was cut".to_owned(),
            _ => format!("less was cut, within a drift of {allowed:.3}"),
        };
        (!self.why.is_empty()).then(|| format!("{little}, for {}", self.why.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_evidence_allows_less_and_says_why() {
        let whole = Caution::weighed(Some(0.9), &[], None);
        assert_eq!((whole.share, whole.remark(0.05)), (1.0, None));
        let still = Caution::weighed(Some(0.05), &[], None);
        assert!((still.share - 0.2).abs() < 1e-12);
        let said = still.remark(0.01).unwrap_or_default();
        assert!(
            said.contains("within a drift of 0.010") && said.contains("vary by 5 %"),
            "{said}"
        );
        let doubts = ["codes".to_owned(), "others".to_owned()];
        let both = Caution::weighed(
            None,
            &doubts,
            Some(&"'bn' was trained on others".to_owned()),
        );
        assert_eq!((both.share, both.why.len()), (0.0, 2));
        let said = both.remark(0.0).unwrap_or_default();
        assert!(said.starts_with("nothing was cut, for"), "{said}");
    }
}
