//! The masked original and the pruned model, made ready in one runtime and run side by side.

use std::borrow::Cow;

use rayon::prelude::*;

use super::compare::{distance, largest_error, median_distance, relative_error};
use super::taps::{Sights, Tap, tapped};
use crate::model::{Ends, Index, Model, TensorRef};
use crate::run::{Runtime, Session, Tensors, Unverifiable};

/// What went wrong before anything could be compared, with what the runtime says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Broken {
    Masked(String),
    Pruned(String),
    /// Both fail: it is not the cut.
    Both(String),
}

/// Two models of one graph, ready to run.
pub(super) struct Pair<'a> {
    masked: Box<dyn Session>,
    pruned: Box<dyn Session>,
    /// What is looked at behind the outputs.
    pub(super) taps: &'a [Tap],
    names: Vec<String>,
    ends: &'a Ends,
    sights: &'a Sights,
}

/// What one input, or several, showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Inputs on which both ran.
    pub(super) inputs: usize,
    /// The largest relative error of an output.
    pub(super) error: f64,
    /// How far the outputs as a whole are apart.
    pub(super) apart: f64,
    /// How far masking moved the outputs.
    pub(super) moved: f64,
    /// How far each tap is apart, and its scale.
    pub(super) taps: Vec<(f64, f64)>,
}

impl<'a> Pair<'a> {
    /// Makes both ready, with taps where that works. Errors: one of them, or both, is refused.
    pub(super) fn prepare(
        runtime: &dyn Runtime,
        (masked, pruned): (&Model, &'a Model),
        taps: &'a [Tap],
        sights: &'a Sights,
        example: &Tensors,
    ) -> Result<Self, Broken> {
        let made = Self::sessions(runtime, masked, pruned, taps, example);
        let (made, taps) = match made {
            Err(broken) if !taps.is_empty() => {
                tracing::debug!(?broken, "without taps");
                let none: &[Tap] = &[];
                (Self::sessions(runtime, masked, pruned, none, example), none)
            }
            made => (made, taps),
        };
        let (masked_session, pruned_session) = made?;
        Ok(Pair {
            masked: masked_session,
            pruned: pruned_session,
            taps,
            names: outputs(masked),
            ends: &pruned.ends,
            sights,
        })
    }

    #[allow(clippy::type_complexity)]
    fn sessions(
        runtime: &dyn Runtime,
        masked: &Model,
        pruned: &Model,
        taps: &[Tap],
        example: &Tensors,
    ) -> Result<(Box<dyn Session>, Box<dyn Session>), Broken> {
        let make = |model: &Model| session(runtime, model, taps, example);
        match rayon::join(|| make(masked), || make(pruned)) {
            (Ok(masked), Ok(pruned)) => Ok((masked, pruned)),
            (Err(refused), Ok(_)) => Err(Broken::Masked(refused.reason)),
            (Ok(_), Err(refused)) => Err(Broken::Pruned(refused.reason)),
            (Err(refused), Err(_)) => Err(Broken::Both(refused.reason)),
        }
    }

    /// Runs both on all inputs; `original` holds what the untouched original gives for each, where that is known.
    /// Inputs on which both fail count for nothing. Errors: one fails where the other runs, or both on all inputs.
    pub(super) fn run(
        &self,
        inputs: &[Tensors],
        original: &[Vec<TensorRef>],
    ) -> Result<Seen, Broken> {
        let runs: Vec<Result<Seen, Broken>> = inputs
            .par_iter()
            .enumerate()
            .map(|(at, inputs)| self.see(inputs, original.get(at).map_or(&[], Vec::as_slice)))
            .collect();
        let mut all = Seen {
            taps: vec![(0.0, 0.0); self.taps.len()],
            ..Default::default()
        };
        let mut neither = None;
        for run in runs {
            match run {
                Ok(seen) => all.add(&seen),
                Err(Broken::Both(reason)) => neither = Some(reason),
                Err(broken) => return Err(broken),
            }
        }
        match neither {
            Some(reason) if all.inputs == 0 => Err(Broken::Both(reason)),
            _ => Ok(all),
        }
    }

    fn see(&self, inputs: &Tensors, original: &[TensorRef]) -> Result<Seen, Broken> {
        let (masked, pruned) = match (self.masked.run(inputs), self.pruned.run(inputs)) {
            (Ok(masked), Ok(pruned)) => (masked, pruned),
            (Err(error), Ok(_)) => return Err(Broken::Masked(error.to_string())),
            (Ok(_), Err(error)) => return Err(Broken::Pruned(error.to_string())),
            (Err(error), Err(_)) => return Err(Broken::Both(error.to_string())),
        };
        let mut seen = Seen {
            inputs: 1,
            ..Default::default()
        };
        for (at, name) in self.names.iter().enumerate() {
            let (Some(masked), Some(pruned)) = (masked.get(at), pruned.get(at)) else {
                continue;
            };
            let masked = self.ends.of(name, masked);
            let mut error = relative_error(&masked, pruned, original.get(at));
            let mut apart = whole_distance(&masked, pruned);
            if self.sights.chosen.contains(name) && error > 0.0 {
                // What rounding chose differently says nothing of the cut; most rows must be the same all the same.
                let rows = median_distance(&masked, pruned).map(|(rows, _)| rows);
                let rows = rows.unwrap_or(if self.taps.is_empty() {
                    f64::INFINITY
                } else {
                    0.0
                });
                (error, apart) = (error.min(rows), apart.min(rows));
            }
            seen.error = seen.error.max(error);
            seen.apart = seen.apart.max(apart);
            if let Some(original) = original.get(at) {
                let untouched = self.ends.of(name, original);
                seen.moved = seen.moved.max(largest_error(
                    &[untouched.into_owned()],
                    &[masked.into_owned()],
                    &[],
                ));
                seen.moved = seen.moved.max(told_apart(self.ends, name, original));
            }
        }
        let behind = self.names.len();
        let pairs = masked.iter().skip(behind).zip(pruned.iter().skip(behind));
        seen.taps = self
            .taps
            .iter()
            .zip(pairs)
            .map(|(tap, (masked, pruned))| tap.compare(masked, pruned))
            .collect();
        Ok(seen)
    }
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.inputs += other.inputs;
        self.error = self.error.max(other.error);
        self.apart = self.apart.max(other.apart);
        self.moved = self.moved.max(other.moved);
        for (all, one) in self.taps.iter_mut().zip(&other.taps) {
            *all = (all.0.max(one.0), all.1.max(one.1));
        }
    }

    /// The tap that is furthest apart; those that are as good as zero beside the others are left to rounding.
    pub(super) fn worst(&self) -> Option<(usize, f64)> {
        const NOTHING: f64 = 1e-5;
        let scale = self
            .taps
            .iter()
            .map(|(_, scale)| *scale)
            .fold(0.0, f64::max);
        let counts = self
            .taps
            .iter()
            .enumerate()
            .filter(|(_, (_, own))| *own > scale * NOTHING);
        counts
            .map(|(at, (apart, _))| (at, *apart))
            .max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

impl Tap {
    /// What stays of the original's value.
    pub(super) fn of<'a>(&self, whole: &'a TensorRef) -> Cow<'a, TensorRef> {
        if self.kept.len() != whole.dims.len() || self.kept.iter().all(Option::is_none) {
            return Cow::Borrowed(whole);
        }
        let fits = |(kept, dim): (&Option<Vec<u32>>, &usize)| {
            kept.iter().flatten().all(|index| (*index as usize) < *dim)
        };
        if self.kept.iter().zip(&whole.dims).all(fits) {
            Cow::Owned(whole.select(&self.kept))
        } else {
            Cow::Borrowed(whole)
        }
    }

    fn compare(&self, masked: &TensorRef, pruned: &TensorRef) -> (f64, f64) {
        let masked = self.of(masked);
        let found = if self.chosen {
            median_distance(&masked, pruned)
        } else {
            distance(&masked, pruned)
        };
        found.unwrap_or_default()
    }
}

/// How far two outputs are apart as a whole. Of class ids and the like, the share that differs.
fn whole_distance(expected: &TensorRef, found: &TensorRef) -> f64 {
    match (expected.dtype.is_float(), expected.to_i64(), found.to_i64()) {
        (false, Some(expected), Some(found)) if expected.len() == found.len() => {
            let different = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
            different as f64 / expected.len().max(1) as f64
        }
        _ => distance(expected, found)
            .map_or_else(|| relative_error(expected, found, None), |(apart, _)| apart),
    }
}

/// One model, made ready with taps. Errors: what the runtime says.
pub(super) fn session(
    runtime: &dyn Runtime,
    model: &Model,
    taps: &[Tap],
    example: &Tensors,
) -> Result<Box<dyn Session>, Unverifiable> {
    let model = if taps.is_empty() {
        Cow::Borrowed(model)
    } else {
        Cow::Owned(tapped(model, taps).map_err(|error| Unverifiable::new(error.to_string()))?)
    };
    runtime.prepare_variant(&model, example)
}

/// The names of a model's outputs.
pub(super) fn outputs(model: &Model) -> Vec<String> {
    model
        .index()
        .graph(Index::MAIN)
        .outputs
        .iter()
        .map(|output| model.index().value(*output).name.clone())
        .collect()
}

/// By how much an output that lost slices would differ had others been lost.
fn told_apart(ends: &Ends, name: &str, tensor: &TensorRef) -> f64 {
    if !ends.changes(name) {
        return 0.0;
    }
    relative_error(&ends.of(name, tensor), &ends.shifted(name, tensor), None)
}
