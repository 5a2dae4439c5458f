//! A model with statistics of what its products read: what its readers lose by a cut, and weights that make up for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::PruneError;
use super::statistics::{gathering, narrow_views};
use crate::analysis::{ClassId, Selection};
use crate::calibrate::{ChosenRuns, Dataset, Statistics, gather};
use crate::evaluate::{Baseline, RunSetup, fitted_runs};
use crate::linear::{Bias, Linear, units_of_columns};
use crate::model::{Model, ValueId};
use crate::recover::local;
use crate::surgery;
use crate::workspace::Workspace;

/// A model with statistics of what its products read.
pub(super) struct GroupErrorModel<'a> {
    pub(super) prepared: &'a Workspace,
    pub(super) views: Vec<Linear>,
    /// For each view the class and element of each column.
    columns: Vec<Vec<Option<(ClassId, u32)>>>,
    pub(super) statistics: Statistics,
    /// Weights that make up for columns that are gone, by view and which are.
    mended: Mutex<KnownErrors>,
}

/// Weight matrices of one view, and what is added to each channel's bias.
type Mended = (Vec<f64>, Vec<f64>);
/// By view and which of its columns are gone.
type KnownErrors = BTreeMap<(usize, Vec<bool>), Option<Arc<Mended>>>;

impl<'a> GroupErrorModel<'a> {
    /// Takes statistics that are known already, or runs the original on all inputs. Errors: it does not run.
    pub fn new(
        prepared: &'a Workspace,
        known: Option<&Statistics>,
        setup: RunSetup,
    ) -> Result<Self, PruneError> {
        let views = narrow_views(prepared);
        let columns: Vec<Vec<Option<(ClassId, u32)>>> = views
            .iter()
            .map(|view| units_of_columns(&prepared.analysis, view))
            .collect();
        if let Some(known) = known {
            let fitting = views.iter().filter_map(|view| {
                let (key, moments) = known.of.get_key_value(&view.key(&prepared.working))?;
                (moments.groups() == view.groups && moments.columns() == view.columns)
                    .then(|| (key.clone(), moments.clone()))
            });
            let statistics = Statistics {
                samples: known.samples,
                of: fitting.collect(),
            };
            return Ok(GroupErrorModel {
                prepared,
                views,
                columns,
                statistics,
                mended: Mutex::default(),
            });
        }
        let inputs = setup.data.rows();
        let runs = fitted_runs(inputs.count());
        let can_go = |columns: &Vec<Option<(ClassId, u32)>>| columns.iter().any(Option::is_some);
        let read: Vec<Linear> = views
            .iter()
            .zip(&columns)
            .filter(|(_, columns)| can_go(columns))
            .map(|(view, _)| view.clone())
            .collect();
        let on = ChosenRuns {
            batches: inputs,
            numbers: &runs,
            runtime: setup.runtime,
        };
        let statistics =
            gather(&prepared.working, &read, on, false, setup.work).map_err(gathering)?;
        Ok(GroupErrorModel {
            prepared,
            views,
            columns,
            statistics,
            mended: Mutex::default(),
        })
    }

    /// The model.
    pub fn prepared(&self) -> &'a Workspace {
        self.prepared
    }

    /// The drift of a selection, readers making up for it by the statistics of the original.
    pub fn drift(
        &self,
        selection: &Selection,
        data: &Dataset,
        bench: &Baseline,
    ) -> Result<f64, PruneError> {
        Ok(bench.quick_drift(&self.cut(selection)?, data)?)
    }

    /// The cut model, with readers making up for what they lost by the statistics of the original.
    pub fn cut(&self, selection: &Selection) -> Result<Model, PruneError> {
        Ok(self.prepared.reshare(self.cut_unshared(selection)?)?)
    }

    /// The same, every reader of a shared constant keeping its own copy.
    pub fn cut_unshared(&self, selection: &Selection) -> Result<Model, PruneError> {
        self.applied(
            &self.mended(&self.prepared.working, selection, |_| true),
            selection,
        )
    }

    fn applied(&self, model: &Model, selection: &Selection) -> Result<Model, PruneError> {
        Ok(surgery::apply(
            model,
            &self.prepared.analysis,
            selection,
            &[],
        )?)
    }

    /// The same with all weights as they were, or as in `warm` (the model with other numbers), but that the biases left of
    /// whole branches give the branches' means.
    pub fn bare_cut(
        &self,
        selection: &Selection,
        warm: Option<&Model>,
    ) -> Result<Model, PruneError> {
        let whole = |gone: &[bool]| gone.iter().all(|gone| *gone);
        let start = warm.unwrap_or(&self.prepared.working);
        self.applied(&self.mended(start, selection, whole), selection)
    }

    /// The model with the weights and biases that a cut one has, as far as it has them.
    pub fn warm(&self, selection: &Selection, cut: &Model) -> Model {
        let working = &self.prepared.working;
        let biases = self
            .views
            .iter()
            .filter_map(|view| Bias::find(working, view));
        let mut constants: Vec<ValueId> = biases.map(|bias| bias.constant()).collect();
        constants.extend(self.views.iter().map(|view| view.weight.constant));
        surgery::put_back(working, &self.prepared.analysis, selection, &constants, cut)
    }

    /// The weights of a view once columns are gone; `None` where none are, or nothing is known of its input.
    fn weights(&self, at: usize, gone: Vec<bool>) -> Option<Arc<Mended>> {
        if !gone.iter().any(|gone| *gone) || !self.views[at].weight.is_own() {
            return None;
        }
        let key = (at, gone);
        if let Some(known) = self
            .mended
            .lock()
            .ok()
            .and_then(|known| known.get(&key).cloned())
        {
            return known;
        }
        let (view, working) = (&self.views[at], &self.prepared.working);
        let moments = self.statistics.of.get(&view.key(working));
        let found = moments
            .and_then(|moments| local(&view.matrix(working)?, moments, &key.1))
            .map(Arc::new);
        if let Ok(mut known) = self.mended.lock() {
            known.insert(key, found.clone());
        }
        found
    }

    /// The whole model, with the numbers of `start`, in which the products whose lost columns are `meant` make up for them.
    fn mended(
        &self,
        start: &Model,
        selection: &Selection,
        meant: impl Fn(&[bool]) -> bool + Sync,
    ) -> Model {
        let working = &self.prepared.working;
        let mut mended = start.clone();
        let stays = |slice: &Option<(ClassId, u32)>| {
            slice.is_none_or(|(class, element)| {
                selection
                    .kept(class)
                    .is_none_or(|kept| kept.binary_search(&element).is_ok())
            })
        };
        let gone: Vec<Vec<bool>> = self
            .columns
            .iter()
            .map(|columns| {
                columns
                    .iter()
                    .map(|slice| !stays(slice))
                    .collect::<Vec<bool>>()
            })
            .collect();
        let found: Vec<Option<Arc<Mended>>> = gone
            .into_par_iter()
            .enumerate()
            .map(|(at, gone)| {
                if meant(&gone) {
                    self.weights(at, gone)
                } else {
                    None
                }
            })
            .collect();
        for (view, found) in self.views.iter().zip(found) {
            let Some(found) = found else { continue };
            let (new, shift) = &*found;
            if view.set_matrix(&mut mended, new).is_none() {
                continue;
            }
            if let Some(bias) = Bias::find(working, view)
                && let Some(mut numbers) = bias.read(start)
            {
                numbers
                    .iter_mut()
                    .zip(shift)
                    .for_each(|(number, shift)| *number += shift);
                let _ = bias.write(&mut mended, &numbers);
            }
        }
        mended
    }
}
