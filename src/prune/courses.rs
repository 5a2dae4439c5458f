//! What rounds take gradients for: derivatives that a score needs, and training between rounds: prune a step, train, and on from
//! there. Targets then follow a cubic schedule (Zhu and Gupta, *To prune, or not to prune*, 2018): most goes while many steps are
//! still to come.

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::round_state::RoundState;
use super::rounds::Rounds;
use crate::allocate::Target;
use crate::analysis::Selection;
use crate::calibrate::MaskDerivatives;
use crate::constants::{Copies, reshare};
use crate::model::{Index, Model};
use crate::progress::Phase;
use crate::recover::Teacher;
use crate::score::Needs;
use crate::train::{Training, TrainingData, TrainingRecord, distill, mask_derivatives};

/// What remains after a share of the rounds, of which a fraction is to remain after all.
fn cubic(fraction: f64, share: f64) -> f64 {
    1.0 - (1.0 - fraction) * (1.0 - (1.0 - share).powi(3))
}

/// The training of one of several rounds, numbered from 1: its share of the steps, and batches of its own.
fn course(training: &Training, number: usize, of: usize) -> Training {
    Training {
        courses: of,
        seed: training.seed.wrapping_add((number as u64) << 32),
        checkpoint: training
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.of_course(number)),
        ..training.clone()
    }
}

impl Rounds<'_> {
    /// Derivatives of the model so far by masks on its units, if the score needs them. Errors: there are none, a stop asked for.
    pub(super) fn derivatives(
        &self,
        quality: &GroupErrorModel,
    ) -> Result<Option<MaskDerivatives>, PruneError> {
        if self.request.score.needs() != Needs::Derivatives {
            return Ok(None);
        }
        let inputs = self.data.whole();
        self.work
            .progress
            .begin(Phase::Score, inputs.count() as u64);
        let model = &quality.prepared().working;
        let on = (self.runtime, self.request.score.seed());
        let found = mask_derivatives(model, &quality.views, inputs, on, self.work)?;
        Ok(Some(found))
    }

    /// The request's targets at a share of the way, as fractions of what is left.
    pub(super) fn targets(&self, state: &RoundState, share: f64) -> Vec<Target> {
        let now = self.cost(&state.gone);
        let whole = self.original.cost.original();
        let one = |target: &Target| {
            let after = match self.trains() {
                true => cubic(target.fraction(), share),
                false => target.fraction().powf(share),
            };
            let left = after / target.of(&now, &whole);
            target.with_fraction(left.min(1.0))
        };
        self.request.targets.iter().map(one).collect()
    }

    /// Whether weights are trained between rounds.
    pub(super) fn trains(&self) -> bool {
        let several = self.request.rounds > 1 && !self.request.targets.is_empty();
        several && self.request.training.is_some() && !self.data.statistics_alone()
    }

    /// A round's model with its weights trained towards what the original gives; `whole` is all that is gone so far. Readers of
    /// one constant that are equal stay so. Errors: as of training.
    pub(super) fn train(
        &self,
        mut model: Model,
        whole: &Selection,
        number: usize,
    ) -> Result<(Model, Option<TrainingRecord>), PruneError> {
        let Some(training) = &self.request.training else {
            return Ok((model, None));
        };
        let teacher = Teacher {
            model: &self.original.working,
            analysis: &self.original.analysis,
            selection: whole,
        };
        let data = TrainingData {
            inputs: &*self.data.inputs,
            labels: self.data.labels.as_deref(),
        };
        let training = course(training, number, self.request.rounds);
        let mut shared = model.clone();
        reshare(&mut shared, &self.original.origins.copies)?;
        let trained = distill(teacher, shared, data, self.runtime, &training, self.work)?;
        hand_back(&trained.model, &mut model, &self.original.origins.copies)?;
        Ok((model, Some(trained.record)))
    }
}

/// Puts the weights of a model whose equal copies were merged into the one with copies.
fn hand_back(shared: &Model, model: &mut Model, copies: &Copies) -> Result<(), PruneError> {
    // Merging renames what nodes read, and nothing else: nodes stand in the same places.
    let nodes = &shared.graph(Index::MAIN).node;
    let read: Vec<(String, String)> = model
        .graph(Index::MAIN)
        .node
        .iter()
        .zip(nodes)
        .flat_map(|(own, other)| own.input.iter().cloned().zip(other.input.iter().cloned()))
        .filter(|(own, _)| copies.contains_key(own))
        .collect();
    let by_name = shared.index().main_values();
    let trained = |name: &str| {
        let from = read.iter().find(|(own, _)| own == name);
        let value = by_name
            .get(from.map_or(name, |(_, other)| other))
            .copied()?;
        shared.tensor_proto(value).cloned()
    };
    let values = model.index().main_values();
    let found: Vec<_> = values
        .iter()
        .filter(|(_, value)| model.tensor_proto(**value).is_some())
        .filter_map(|(name, value)| Some((*value, trained(name)?)))
        .collect();
    for (value, tensor) in found {
        if let Some(stored) = model.tensor_proto_mut(value) {
            let own = stored.name.take();
            *stored = tensor;
            stored.name = own;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_goes_in_the_first_rounds() {
        let left: Vec<f64> = (0..=3)
            .map(|round| cubic(0.5, f64::from(round) / 3.0))
            .collect();
        assert_eq!((left[0], left[3]), (1.0, 0.5));
        assert!(left[0] - left[1] > left[1] - left[2] && left[1] - left[2] > left[2] - left[3]);
    }

    #[test]
    fn courses_have_batches_and_files_of_their_own() {
        let kept = crate::train::Checkpoint::new("a.checkpoint".into(), true);
        let training = Training {
            checkpoint: Some(kept),
            ..Default::default()
        };
        let [one, two] = [1, 2].map(|number| course(&training, number, 3));
        let path = |training: &Training| training.checkpoint.as_ref().map(|at| at.path.clone());
        assert!(one.seed != two.seed && one.seed != training.seed && one.courses == 3);
        assert_eq!(path(&two), Some("a.checkpoint.2".into()));
    }
}
