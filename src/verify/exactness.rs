//! Whether the surgery did what the plan says: the pruned model against the masked original, on the same inputs in the same
//! runtime. It says nothing of quality.
//!
//! Being exact is a property of graph and plan. So the two are compared at the outputs and wherever a node sums over removed
//! slices, and where what goes is silent on the inputs at hand, also with other weights under which it is not.

use std::collections::BTreeMap;

use rand::Rng;

use super::alive::alive;
use super::mask::masked;
use super::taps::{Sights, Tap, sights};
use super::trial::{Broken, Pair, Seen, outputs, session};
use crate::analysis::{Analysis, Selection};
use crate::model::{Model, TensorRef, extract_subgraph};
use crate::proto::{Dtype, TensorProto};
use crate::rng::rng;
use crate::run::{Runtime, Tensors};
use crate::surgery;

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

/// A cut, to be judged.
#[derive(Clone, Copy)]
pub struct CutModels<'a> {
    /// The model that was analysed.
    pub working: &'a Model,
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What goes.
    pub selection: &'a Selection,
    /// What became of it.
    pub pruned: &'a Model,
}

/// Relative error that rounding explains in single precision.
pub const TOLERANCE: f64 = 1e-4;
/// The same for models that compute in half precision.
pub const HALF_TOLERANCE: f64 = 1e-2;
/// How far a value inside may be apart as a whole (root of the mean square), by what the model computes in.
const INSIDE: f64 = 1e-3;
const INSIDE_HALF: f64 = 2e-2;
/// Steps of a quantized model go either way where a number lies between two of them.
const INSIDE_QUANTIZED: f64 = 5e-2;
/// What masking must move a value inside by, to count as something that was seen.
const ALIVE: f64 = 1e-4;
/// Bytes of values inside that are looked at in one run.
const BUDGET: usize = 64 << 20;
/// Inputs for the copy with other weights.
const COPIED: usize = 2;

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
    let (half, quantized) = precision(cut.working);
    let floor = if half { HALF_TOLERANCE } else { TOLERANCE };
    let inside = match (quantized, half) {
        (true, _) => INSIDE_QUANTIZED,
        (_, true) => INSIDE_HALF,
        _ => INSIDE,
    };
    let trial = Trial {
        runtime,
        cut,
        original,
        inputs,
        tolerance: floor.max(10.0 * noise),
        inside,
    };
    trial.judge()
}

struct Trial<'a> {
    runtime: &'a dyn Runtime,
    cut: &'a CutModels<'a>,
    original: &'a [Vec<TensorRef>],
    inputs: &'a [Tensors],
    /// At the outputs, and inside.
    tolerance: f64,
    inside: f64,
}

/// What the copy with other weights says.
enum Copied {
    Same { moved: bool },
    Differs(String),
    Nothing(String),
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
            Err(Broken::Pruned(reason)) => {
                return self.verdict(
                    Verdict::Inexact,
                    None,
                    Some(format!(
                        "the pruned model does not run, though the original does: {reason}"
                    )),
                );
            }
            Err(Broken::Masked(reason)) => {
                return self.unverifiable(format!("the masked original does not run: {reason}"));
            }
            Err(Broken::Both(reason)) => match self.before(&masked, &sights) {
                Some(seen) => seen,
                None => {
                    return self.by_copy(
                        &sights,
                        None,
                        &format!("neither the masked nor the pruned model runs on these inputs ({reason})"),
                    );
                }
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
        if seen.moved > self.tolerance || self.all_alive(&masked, &sights) {
            return self.verdict(Verdict::Exact, Some(&seen), None);
        }
        self.by_copy(
            &sights,
            Some(&seen),
            "what goes is silent on the inputs at hand",
        )
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

    /// Makes the same cut in a copy with random weights, and compares there.
    fn copied(&self, sights: &Sights) -> Copied {
        let CutModels {
            working,
            analysis,
            selection,
            pruned,
        } = *self.cut;
        if let Some(name) = surgery::apply(working, analysis, selection, &[])
            .ok()
            .and_then(|again| unlike(&again, pruned))
        {
            return Copied::Differs(format!(
                "'{name}' holds other numbers than the plan leaves of it"
            ));
        }
        let working = alive(working, &analysis.relations);
        let made = masked(&working, analysis, selection).map_err(|error| error.to_string());
        let cut =
            surgery::apply(&working, analysis, selection, &[]).map_err(|error| error.to_string());
        let (masked, pruned) = match (made, cut) {
            (Ok(masked), Ok(pruned)) => (masked, pruned),
            (Err(error), _) | (_, Err(error)) => return Copied::Nothing(error),
        };
        let inputs: Vec<Tensors> = self.inputs.iter().take(COPIED).map(enlivened).collect();
        let Some(example) = inputs.first() else {
            return Copied::Nothing("no inputs".to_owned());
        };
        let taps = batches(&sights.taps).into_iter().next().unwrap_or_default();
        let original = session(self.runtime, &working, taps, example)
            .and_then(|session| session.run(example).map_err(|error| error.to_string()));
        let pair = match Pair::prepare(self.runtime, (&masked, &pruned), taps, sights, example) {
            Ok(pair) => pair,
            Err(Broken::Pruned(reason)) => {
                return Copied::Differs(format!("the pruned model does not run: {reason}"));
            }
            Err(Broken::Masked(reason) | Broken::Both(reason)) => return Copied::Nothing(reason),
        };
        let untouched: Vec<TensorRef> = original.clone().unwrap_or_default();
        let count = outputs(&working).len().min(untouched.len());
        let seen = match pair.run(&inputs, &[untouched[..count].to_vec()]) {
            Ok(seen) => seen,
            Err(Broken::Pruned(reason)) => {
                return Copied::Differs(format!("the pruned model does not run: {reason}"));
            }
            Err(Broken::Masked(reason) | Broken::Both(reason)) => return Copied::Nothing(reason),
        };
        // Where numbers grow beyond all bounds, rounding decides which of them end.
        if !seen.apart.is_finite() || seen.taps.iter().any(|(apart, _)| !apart.is_finite()) {
            return Copied::Nothing("numbers there are not finite".to_owned());
        }
        if let Some((at, apart)) = seen.worst().filter(|(_, apart)| *apart > self.inside) {
            return Copied::Differs(format!(
                "'{}' differs by {apart:.1e}",
                taps.get(at).map_or("", |tap| &tap.name)
            ));
        }
        // Of a choice the share that differs is looked at, of which rounding explains little.
        if seen.apart > self.inside.max(0.1)
            || (sights.chosen.is_empty() && seen.apart > self.inside)
        {
            return Copied::Differs(format!("the outputs differ by {:.1e}", seen.apart));
        }
        Copied::Same {
            moved: seen.moved > self.tolerance
                || self.any_moves(taps, &untouched, &masked, example, count),
        }
    }

    fn any_moves(
        &self,
        taps: &[Tap],
        original: &[TensorRef],
        masked: &Model,
        example: &Tensors,
        outputs: usize,
    ) -> bool {
        let masked = session(self.runtime, masked, taps, example)
            .ok()
            .and_then(|session| session.run(example).ok());
        masked.is_some_and(|masked| {
            moves(taps, original, &masked, outputs)
                .iter()
                .any(|moves| *moves)
        })
    }
}

/// The first initializer that two models have and that is not the same in both.
fn unlike(one: &Model, other: &Model) -> Option<String> {
    let tensors = |model: &Model| {
        model
            .proto
            .graph
            .iter()
            .flat_map(|graph| graph.initializer.clone())
            .collect::<Vec<_>>()
    };
    let others: BTreeMap<String, TensorRef> = tensors(other)
        .iter()
        .filter_map(|tensor| {
            Some((
                tensor.name().to_owned(),
                TensorRef::from_proto(tensor).ok()?,
            ))
        })
        .collect();
    let differs = |tensor: &&TensorProto| {
        let Some(other) = others.get(tensor.name()) else {
            return false;
        };
        TensorRef::from_proto(tensor).is_ok_and(|tensor| tensor != *other)
    };
    tensors(one)
        .iter()
        .find(differs)
        .map(|tensor| tensor.name().to_owned())
}

/// Whether masking moves each of some values.
fn moves(taps: &[Tap], original: &[TensorRef], masked: &[TensorRef], outputs: usize) -> Vec<bool> {
    let pairs = original
        .iter()
        .skip(outputs)
        .zip(masked.iter().skip(outputs));
    let moves = |(tap, (original, masked)): (&Tap, (&TensorRef, &TensorRef))| {
        super::compare::distance(&tap.of(original), &tap.of(masked))
            .is_some_and(|(apart, _)| apart > ALIVE)
    };
    taps.iter().zip(pairs).map(moves).collect()
}

/// Taps as many at a time as fit; one empty batch where there are none.
fn batches(taps: &[Tap]) -> Vec<&[Tap]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, tap) in taps.iter().enumerate() {
        if at > start && bytes + tap.bytes > BUDGET {
            batches.push(&taps[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += tap.bytes;
    }
    batches.push(&taps[start..]);
    batches
}

/// Inputs in which real numbers are not all the same.
fn enlivened(inputs: &Tensors) -> Tensors {
    let one = |(name, tensor): (&String, &TensorRef)| {
        let numbers = tensor
            .to_f32()
            .filter(|_| tensor.dtype == Dtype::Float)
            .unwrap_or_default();
        let flat =
            numbers.len() > 1 && numbers.iter().all(|number| Some(number) == numbers.first());
        let mut rng = rng(0, name);
        let drawn = |_: &f32| rng.random_range(-1.7f32..1.7);
        let tensor = if flat {
            TensorRef::from_f32(
                tensor.dims.clone(),
                &numbers.iter().map(drawn).collect::<Vec<_>>(),
            )
        } else {
            tensor.clone()
        };
        (name.clone(), tensor)
    };
    inputs.iter().map(one).collect()
}

/// Whether a model computes in half precision, and in whole numbers that stand for steps.
fn precision(model: &Model) -> (bool, bool) {
    let half = |code: i32| {
        matches!(
            Dtype::from_code(code),
            Some(Dtype::Float16 | Dtype::Bfloat16)
        )
    };
    let half = model.index().values().any(|(value, _)| {
        model
            .tensor_proto(value)
            .is_some_and(|tensor| half(tensor.data_type()))
    });
    (
        half,
        model
            .index()
            .nodes()
            .any(|(node, _)| crate::ops::meaning(model.node(node)).counts_steps),
    )
}
