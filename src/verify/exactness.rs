//! Whether the surgery did what the plan says: the pruned model against the masked original, on the same inputs in the same
//! runtime. It says nothing of quality.
//!
//! Being exact is a property of graph and plan. So the two are compared at the outputs and wherever a node sums over removed
//! slices, and where what goes is silent on the inputs at hand, also with other weights under which it is not.

use super::copy::Copied;
use super::cut::{CutModels, Trial};
use super::mask::masked;
use super::taps::{BUDGET, Sights, Tap, batches, moves, sights};
use super::trial::{Broken, Pair, Seen, outputs, session};
use crate::model::{Model, TensorRef, extract_subgraph};
use crate::run::{Runtime, Tensors};

/// The outcome of the check.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Equal to rounding.
    Exact,
    /// Different, or the pruned model does not run: the surgery is wrong.
    Inexact,
    /// No answer, with the reason.
    Unverifiable(String),
}

/// The outcome with its measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Exactness {
    /// The outcome.
    pub verdict: Verdict,
    /// The largest relative error over all outputs and inputs; `None` where nothing was compared.
    pub max_relative_error: Option<f64>,
    /// What was allowed.
    pub tolerance: f64,
    /// How many inputs were run.
    pub inputs: usize,
    /// What is wrong, or what the verdict rests on where it is not the outputs on the inputs at hand.
    pub reason: Option<String>,
}

/// Compares the pruned model with the masked original, and that with what the untouched `original` gives for `inputs`.
/// Outputs that lost slices are compared on those that stay.
/// `noise` is what two ways of running the original on these inputs differ by.
pub fn exactness(
    runtime: &dyn Runtime,
    cut: &CutModels,
    original: &[Vec<TensorRef>],
    inputs: &[Tensors],
    noise: f64,
) -> Exactness {
    Trial::new(runtime, cut, original, inputs, noise).judge()
}

impl Trial<'_> {
    fn verdict(&self, verdict: Verdict, seen: Option<&Seen>, reason: Option<String>) -> Exactness {
        let (error, inputs) = seen.map_or((None, 0), |seen| (Some(seen.error), seen.inputs));
        Exactness {
            verdict,
            max_relative_error: error,
            tolerance: self.tolerance,
            inputs,
            reason,
        }
    }

    fn unverifiable(&self, reason: String) -> Exactness {
        self.verdict(Verdict::Unverifiable(reason), None, None)
    }

    fn judge(&self) -> Exactness {
        let Some(example) = self.inputs.first() else {
            return self.unverifiable("no inputs".to_owned());
        };
        let CutModels {
            working,
            analysis,
            selection,
            pruned,
        } = *self.cut;
        let masked = match masked(working, analysis, selection) {
            Ok(masked) => masked,
            Err(error) => {
                return self.unverifiable(format!("the original cannot be masked: {error}"));
            }
        };
        let sights = sights(working, analysis, selection, pruned, example);
        let seen = match self.compare(&masked, pruned, &sights) {
            Ok(seen) => seen,
            Err(broken) => match self.broken(broken, &masked, &sights) {
                Ok(seen) => seen,
                Err(verdict) => return verdict,
            },
        };
        if seen.error > self.tolerance {
            return self.verdict(Verdict::Inexact, Some(&seen), None);
        }
        if let Some((at, apart)) = seen.worst().filter(|(_, apart)| *apart > self.inside) {
            let name = sights.taps.get(at).map_or("", |tap| &tap.name);
            return self.by_copy(
                &sights,
                Some(&seen),
                &format!("'{name}' differs by {apart:.1e}"),
            );
        }
        // Of tokens that go no row is read, so there is nothing to mask: what is compared are rows in new places.
        let by_rows = sights.taps.is_empty() && pruned.ends.renumbers();
        if seen.moved > self.tolerance || by_rows || self.all_alive(&masked, &sights) {
            return self.verdict(Verdict::Exact, Some(&seen), None);
        }
        self.by_copy(
            &sights,
            Some(&seen),
            "what goes is silent on the inputs at hand",
        )
    }

    /// What there is to be seen all the same where the two do not run. Errors: nothing, with the verdict then.
    fn broken(&self, broken: Broken, masked: &Model, sights: &Sights) -> Result<Seen, Exactness> {
        match broken {
            Broken::Pruned(reason) => Err(self.verdict(
                Verdict::Inexact,
                None,
                Some(format!(
                    "the pruned model does not run, though the original does: {reason}"
                )),
            )),
            Broken::Masked(reason) => {
                Err(self.unverifiable(format!("the masked original does not run: {reason}")))
            }
            Broken::Both(reason) => self.before(masked, sights).ok_or_else(|| {
                let why = format!(
                    "neither the masked nor the pruned model runs on these inputs ({reason})"
                );
                self.by_copy(sights, None, &why)
            }),
        }
    }

    /// Runs both on all inputs with as many taps as fit, and on one with the others.
    fn compare(&self, masked: &Model, pruned: &Model, sights: &Sights) -> Result<Seen, Broken> {
        let Some(example) = self.inputs.first() else {
            return Err(Broken::Both("no inputs".to_owned()));
        };
        let mut all: Option<Seen> = None;
        for taps in batches(&sights.taps) {
            let pair = Pair::prepare(self.runtime, (masked, pruned), taps, sights, example)?;
            match &mut all {
                None => {
                    let mut seen = pair.run(self.inputs, self.original)?;
                    seen.taps.resize(taps.len(), (0.0, 0.0));
                    all = Some(seen);
                }
                Some(all) => {
                    let mut seen =
                        pair.run(self.inputs.get(..1).unwrap_or_default(), self.original)?;
                    seen.taps.resize(taps.len(), (0.0, 0.0));
                    all.taps.extend(seen.taps);
                }
            }
        }
        Ok(all.unwrap_or_default())
    }

    /// What both work out before the node on which they fail alike: the values inside that they get to.
    fn before(&self, masked: &Model, sights: &Sights) -> Option<Seen> {
        let firm: Vec<&Tap> = sights.taps.iter().filter(|tap| !tap.chosen).collect();
        let names: Vec<String> = firm.iter().map(|tap| tap.name.clone()).collect();
        let (masked, pruned) = (
            extract_subgraph(masked, &names, &Default::default()).ok()?,
            extract_subgraph(self.cut.pruned, &names, &Default::default()).ok()?,
        );
        let example = self.inputs.first()?;
        let run = |model: &Model| {
            session(self.runtime, model, &[], example)
                .ok()?
                .run(example)
                .ok()
        };
        let (masked, pruned) = (run(&masked)?, run(&pruned)?);
        let mut seen = Seen {
            inputs: 1,
            ..Default::default()
        };
        for (tap, (masked, pruned)) in firm.iter().zip(masked.iter().zip(&pruned)) {
            let (apart, scale) = super::compare::distance(&tap.of(masked), pruned)?;
            seen.taps.push((apart, scale));
        }
        seen.error = seen.worst().map_or(0.0, |(_, apart)| {
            if apart > self.inside {
                apart
            } else {
                apart.min(self.tolerance)
            }
        });
        seen.taps.clear();
        (!firm.is_empty()).then_some(seen)
    }

    /// Whether masking moves every value that sums over what goes.
    fn all_alive(&self, masked: &Model, sights: &Sights) -> bool {
        let Some(example) = self.inputs.first() else {
            return false;
        };
        if sights.taps.is_empty() || sights.taps.iter().map(|tap| tap.bytes).sum::<usize>() > BUDGET
        {
            return false;
        }
        let run = |model: &Model| {
            session(self.runtime, model, &sights.taps, example)
                .ok()?
                .run(example)
                .ok()
        };
        let (Some(original), Some(masked)) = (run(self.cut.working), run(masked)) else {
            return false;
        };
        moves(
            &sights.taps,
            &original,
            &masked,
            outputs(self.cut.working).len(),
        )
        .iter()
        .all(|moves| *moves)
    }

    /// The verdict where the inputs at hand do not settle it, by a copy with other weights.
    fn by_copy(&self, sights: &Sights, seen: Option<&Seen>, why: &str) -> Exactness {
        let compared = seen.is_some();
        match self.copied(sights) {
            Copied::Differs(what) => self.verdict(
                Verdict::Inexact,
                seen,
                Some(format!("{why}; with random weights, {what}")),
            ),
            Copied::Same { moved } => {
                let but = if moved {
                    ""
                } else {
                    ", where it moves nothing either"
                };
                self.verdict(
                    Verdict::Exact,
                    seen,
                    Some(format!(
                        "{why}; the same cut is exact with random weights{but}"
                    )),
                )
            }
            // What was compared is equal.
            Copied::Nothing(reason)
                if compared
                    && seen
                        .and_then(Seen::worst)
                        .is_none_or(|(_, apart)| apart <= self.inside) =>
            {
                self.verdict(
                    Verdict::Exact,
                    seen,
                    Some(format!(
                        "{why}; with random weights the model does not run ({reason})"
                    )),
                )
            }
            Copied::Nothing(_) if compared => {
                self.verdict(Verdict::Inexact, seen, Some(why.to_owned()))
            }
            Copied::Nothing(_) => self.unverifiable(why.to_owned()),
        }
    }
}
