//! The same cut in a copy with random weights, for inputs on which what goes is silent.

use std::collections::BTreeMap;

use rand::Rng;

use super::alive::alive;
use super::cut::{CutModels, Trial};
use super::mask::masked;
use super::taps::{Sights, Tap, batches, moves};
use super::trial::{Broken, Pair, Seen, outputs, session};
use crate::model::{Model, TensorRef};
use crate::proto::{Dtype, TensorProto};
use crate::rng::rng;
use crate::run::Tensors;
use crate::surgery;

/// Inputs for the copy with other weights.
const COPIED: usize = 2;

/// What the copy with other weights says.
pub(super) enum Copied {
    Same { moved: bool },
    Differs(String),
    Nothing(String),
}

impl Trial<'_> {
    /// Makes the same cut in a copy with random weights, and compares there.
    pub(super) fn copied(&self, sights: &Sights) -> Copied {
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
        let untouched = session(self.runtime, &working, taps, example)
            .ok()
            .and_then(|session| session.run(example).ok())
            .unwrap_or_default();
        let count = outputs(&working).len().min(untouched.len());
        let seen = Pair::prepare(self.runtime, (&masked, &pruned), taps, sights, example)
            .and_then(|pair| pair.run(&inputs, &[untouched[..count].to_vec()]));
        let seen = match seen {
            Ok(seen) => seen,
            Err(Broken::Pruned(reason)) => {
                return Copied::Differs(format!("the pruned model does not run: {reason}"));
            }
            Err(Broken::Masked(reason) | Broken::Both(reason)) => return Copied::Nothing(reason),
        };
        self.apart(&seen, taps, sights)
            .unwrap_or_else(|| Copied::Same {
                moved: seen.moved > self.tolerance
                    || self.any_moves(taps, &untouched, &masked, example, count),
            })
    }

    /// What is said of two that are apart; `None` where they are the same to rounding.
    fn apart(&self, seen: &Seen, taps: &[Tap], sights: &Sights) -> Option<Copied> {
        // Where numbers grow beyond all bounds, rounding decides which of them end.
        if !seen.apart.is_finite() || seen.taps.iter().any(|(apart, _)| !apart.is_finite()) {
            return Some(Copied::Nothing("numbers there are not finite".to_owned()));
        }
        if let Some((at, apart)) = seen.worst().filter(|(_, apart)| *apart > self.inside) {
            return Some(Copied::Differs(format!(
                "'{}' differs by {apart:.1e}",
                taps.get(at).map_or("", |tap| &tap.name)
            )));
        }
        // Of a choice the share that differs is looked at, of which rounding explains little.
        let differs = seen.apart > self.inside.max(0.1)
            || (sights.chosen.is_empty() && seen.apart > self.inside);
        differs.then(|| Copied::Differs(format!("the outputs differ by {:.1e}", seen.apart)))
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
