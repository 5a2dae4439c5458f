//! From shares to masks, and from masks to a model.

use super::Error;
use super::chooser::{ChoiceRule, Chooser};
use super::job::Job;
use super::local::{Local, Masks, zero};
use super::parts::SparsePart;
use super::score::SparseScore;
use super::shares::{Measuring, pooled, uniform};
use crate::analysis::Selection;
use crate::calibrate::{ChosenRuns, Statistics, gather, held_out};
use crate::linear::Linear;
use crate::model::Model;
use crate::recover::{Method, Repair, fitted_layers, recover_on};
use crate::run::Runtime;

/// Columns of a product whose second moments are still kept.
const WIDEST: usize = 6144;
/// With fewer inputs than this none is spared for judging.
pub(super) const SPARED: usize = 48;

/// A model with the masks that it has.
pub(super) struct Made {
    pub model: Model,
    pub masks: Masks,
    pub repairs: Vec<Repair>,
}

impl Job<'_> {
    /// How many weights of each product go. Errors: no share is asked for.
    fn zeros(&self, statistics: &mut Option<Statistics>) -> Result<Vec<usize>, Error> {
        let sizes: Vec<usize> = self
            .parts
            .iter()
            .map(|part| part.shape.elements())
            .collect();
        if let Some(share) = self.pattern.share() {
            return Ok(sizes
                .iter()
                .map(|size| (*size as f64 * share) as usize)
                .collect());
        }
        let share = self.request.sparsity.ok_or(Error::NoTarget)?;
        let all: usize = sizes.iter().sum();
        let zeros = (all as f64 * share).round() as usize;
        let score = self.request.score;
        if self.request.uniform || score == SparseScore::MagnitudeLayer || sizes.len() == 1 {
            return Ok(uniform(&sizes, zeros));
        }
        match (&self.engine, score.needs_data()) {
            (Some((runtime, baseline)), true) => {
                let views = self.parts.iter().map(|part| &part.view);
                let statistics = statistics.insert(self.gather(views, *runtime)?);
                let measuring = Measuring {
                    model: self.model,
                    parts: self.parts,
                    pattern: self.pattern,
                    statistics,
                    baseline,
                };
                measuring.zeros(zeros, self.work)
            }
            _ => Ok(pooled(self.model, self.parts, (score, self.pattern), zeros)),
        }
    }

    fn gather<'b>(
        &self,
        views: impl Iterator<Item = &'b Linear>,
        runtime: &dyn Runtime,
    ) -> Result<Statistics, Error> {
        let count = self.data.inputs.count();
        let runs: Vec<usize> = (0..count)
            .filter(|run| count < SPARED || !held_out(*run, count))
            .collect();
        let views: Vec<Linear> = views
            .filter(|view| view.columns <= WIDEST)
            .cloned()
            .collect();
        let on = ChosenRuns {
            batches: self.data.inputs,
            numbers: &runs,
            runtime,
        };
        Ok(gather(self.model, &views, on, false, self.work)?)
    }

    /// Masks alone, all other weights as they were.
    pub fn bare(&self, given: Option<Masks>) -> Result<Made, Error> {
        let mut statistics = None;
        let masks = match given {
            Some(masks) => masks,
            None => {
                let zeros = self.zeros(&mut statistics)?;
                if let (Some((runtime, _)), None, true) =
                    (&self.engine, &statistics, self.request.score.needs_data())
                {
                    let views = self.parts.iter().map(|part| &part.view);
                    statistics = Some(self.gather(views, *runtime)?);
                }
                let all = self.parts.iter().zip(zeros);
                all.filter_map(|(part, zeros)| {
                    let stays = self.alone(part, zeros, statistics.as_ref())?;
                    Some((part.constant.clone(), stays))
                })
                .collect()
            }
        };
        Ok(Made {
            model: self.masked(&masks),
            masks,
            repairs: Vec::new(),
        })
    }

    /// The mask of a product by itself.
    fn alone(
        &self,
        part: &SparsePart,
        zeros: usize,
        statistics: Option<&Statistics>,
    ) -> Option<Vec<bool>> {
        let local = Local::new(self.model, part, statistics)?;
        let known = statistics
            .is_some_and(|statistics| statistics.of.contains_key(&part.view.key(self.model)));
        // Without moments sizes are all there is to go by.
        let score = match self.request.score {
            score if known || !score.needs_data() => score,
            _ => SparseScore::Magnitude,
        };
        Some(score.choose(self.pattern, part.shape, &local.groups, zeros))
    }

    fn masked(&self, masks: &Masks) -> Model {
        let mut model = self.model.clone();
        for part in self.parts {
            if let Some(stays) = masks.get(&part.constant) {
                zero(&mut model, part, stays);
            }
        }
        model
    }

    /// Masks layer by layer, the weights that stay fitted on each before the next is chosen.
    pub fn fitted(&mut self, given: Option<Masks>, method: Method) -> Result<Made, Error> {
        let Some((runtime, _)) = &self.engine else {
            return self.bare(given);
        };
        let mut statistics = None;
        let zeros = match given {
            Some(_) => Vec::new(),
            None => self.zeros(&mut statistics)?,
        };
        let whole = Selection::default();
        let reached = fitted_layers(self.teacher(&whole), self.model);
        let beyond: Vec<&SparsePart> = self
            .parts
            .iter()
            .filter(|part| !reached.contains(&part.layer))
            .collect();
        if !beyond.is_empty() {
            statistics = Some(self.gather(beyond.iter().map(|part| &part.view), *runtime)?);
        }
        let rule = |at: usize, part: &SparsePart| match &given {
            Some(masks) => masks.get(&part.constant).cloned().map(ChoiceRule::Given),
            None => zeros.get(at).copied().map(ChoiceRule::Zeros),
        };
        let chooser = Chooser::new(self, rule);
        let mut copy = self.model.clone();
        for part in beyond {
            self.thin(&mut copy, part, &chooser, statistics.as_ref(), method);
        }
        let count = self.data.inputs.count();
        let runs: Vec<usize> = (0..count).collect();
        let (mut model, repairs) = recover_on(
            self.teacher(&whole),
            copy,
            (self.data.inputs, &runs),
            *runtime,
            (method, &chooser),
            self.work,
        )?;
        // What no pass came to after all.
        for part in self.parts {
            if !chooser.knows(part) {
                self.thin(&mut model, part, &chooser, None, method);
            }
        }
        let masks = chooser.masks();
        self.enforce(&mut model, &masks);
        let made = Made {
            model,
            masks,
            repairs,
        };
        self.better(made)
    }

    /// Zeroes what a mask says and a pass could not write.
    fn enforce(&self, model: &mut Model, masks: &Masks) {
        for part in self.parts {
            let (Some(stays), Some(matrix)) = (masks.get(&part.constant), part.view.matrix(model))
            else {
                continue;
            };
            let missed = matrix
                .iter()
                .zip(stays)
                .any(|(weight, stays)| !stays && *weight != 0.0);
            if missed {
                zero(model, part, stays);
            }
        }
    }

    /// The fitted model, or that with the weights that stay as they were, where its outputs are nearer.
    fn better(&mut self, made: Made) -> Result<Made, Error> {
        let Some((_, baseline)) = &self.engine else {
            return Ok(made);
        };
        let bare = self.masked(&made.masks);
        let (bare_drift, drift) = (baseline.drift(&bare)?, baseline.drift(&made.model)?);
        tracing::debug!(bare = bare_drift, fitted = drift, "drift");
        if drift <= bare_drift {
            return Ok(made);
        }
        self.remarks.push(format!(
            "fitting would have moved the outputs further ({drift:.3} against {bare_drift:.3}), so the weights that stay are as they were"
        ));
        Ok(Made {
            model: bare,
            repairs: Vec::new(),
            ..made
        })
    }

    /// Thins out a product by what is known of its inputs.
    fn thin(
        &self,
        model: &mut Model,
        part: &SparsePart,
        chooser: &Chooser,
        statistics: Option<&Statistics>,
        method: Method,
    ) {
        let stays = match chooser.rules.get(&part.layer) {
            Some((_, ChoiceRule::Given(stays))) => Some(stays.clone()),
            Some((_, ChoiceRule::Zeros(zeros))) => self.alone(part, *zeros, statistics),
            None => None,
        };
        let Some(stays) = stays else { return };
        let mut refitted = || {
            let local = Local::new(self.model, part, Some(statistics?))?;
            let found = local.refit(&stays)?;
            local.write(model, part, &found)
        };
        let done = if method == Method::LeastSquares {
            refitted()
        } else {
            None
        };
        if done.is_none() {
            zero(model, part, &stays);
        }
        chooser.note(part, stays);
    }
}
