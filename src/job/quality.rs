//! What calibration inputs tell of each group: error curves, scaled to what the group does to the model's outputs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::engine::in_either;
use super::measure::{Bench, fitted_runs};
use super::request::{Data, Request, ScoreName};
use super::trunk::{Stage, Trunk};
use super::{Error, Prepared};
use crate::allocate::{Choice, Width};
use crate::analysis::{Analysis, ClassId, Granularity, Group, Selection, analyse};
use crate::calibrate::{Batches, GatherError, Statistics, gather};
use crate::linear::{Bias, Linear, units_of_columns, views};
use crate::model::{Model, extract_subgraph};
use crate::progress::{Phase, Work};
use crate::recover::{Method, Options, Repair, Teacher, local, recover};
use crate::run::{Runtime, Tensors};
use crate::score::{
    Calibrated, Curve, Evidence, obs_curve, readers, swap_units, variance_curve, wanda_curve,
};
use crate::surgery;

/// Columns of a window beyond which its places are not told apart.
const COLUMNS: usize = 2304;
/// Shares of a group's units that go when its effect is measured.
const LEVELS: [f64; 2] = [0.25, 0.5];

/// A model with statistics of what its products read.
pub(super) struct Quality<'a> {
    prepared: &'a Prepared,
    views: Vec<Linear>,
    /// For each view the class and element of each column.
    columns: Vec<Vec<Option<(ClassId, u32)>>>,
    statistics: Statistics,
    /// Weights that make up for columns that are gone, by view and which are.
    mended: Mutex<Known>,
}

/// Weight matrices of one view, and what is added to each channel's bias.
type Mended = (Vec<f64>, Vec<f64>);
/// By view and which of its columns are gone.
type Known = BTreeMap<(usize, Vec<bool>), Option<Arc<Mended>>>;

impl<'a> Quality<'a> {
    /// Takes statistics that are known already, or runs the original on all inputs. Errors: it does not run.
    pub fn new(
        prepared: &'a Prepared,
        known: Option<&Statistics>,
        data: &Data,
        runtime: &dyn Runtime,
        work: &Work,
    ) -> Result<Self, Error> {
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
            return Ok(Quality {
                prepared,
                views,
                columns,
                statistics,
                mended: Mutex::default(),
            });
        }
        let runs = fitted_runs(data.inputs.count());
        let can_go = |columns: &Vec<Option<(ClassId, u32)>>| columns.iter().any(Option::is_some);
        let read: Vec<Linear> = views
            .iter()
            .zip(&columns)
            .filter(|(_, columns)| can_go(columns))
            .map(|(view, _)| view.clone())
            .collect();
        let statistics = gather(
            &prepared.working,
            &read,
            &*data.inputs,
            &runs,
            false,
            runtime,
            work,
        )
        .map_err(gathering)?;
        Ok(Quality {
            prepared,
            views,
            columns,
            statistics,
            mended: Mutex::default(),
        })
    }

    /// The model.
    pub fn prepared(&self) -> &'a Prepared {
        self.prepared
    }

    /// One curve for each candidate group, by the score asked for, and what the user should know of them.
    pub fn curves(
        &self,
        candidates: &[usize],
        request: &Request,
        work: &Work,
    ) -> (Vec<Curve>, Option<String>) {
        work.progress.begin(Phase::Score, candidates.len() as u64);
        let evidence = Evidence {
            model: &self.prepared.working,
            analysis: &self.prepared.analysis,
        };
        let calibrated = Calibrated {
            evidence,
            views: &self.views,
            statistics: Some(&self.statistics),
        };
        let groups: Vec<Group> = candidates
            .iter()
            .map(|group| self.prepared.analysis.groups[*group].clone())
            .collect();
        let by_readers = |group: &Group| match request.score {
            ScoreName::Obs => Some(obs_curve(readers(&calibrated, group), group.units.len())),
            ScoreName::Variance => Some(variance_curve(&calibrated, group)),
            ScoreName::Wanda => Some(wanda_curve(&calibrated, group)),
            _ => None,
        };
        let scorer = request.scorer();
        let mut curves = scorer.curves(evidence, &groups);
        let mut silent = scorer.silent(evidence, &groups);
        for (at, (group, curve)) in groups.iter().zip(&mut curves).enumerate() {
            match by_readers(group) {
                Some(Some(found)) => *curve = found,
                Some(None) => silent.push(at),
                None => {}
            }
            work.progress.advance(1);
        }
        let silent: Vec<&str> = silent
            .into_iter()
            .filter_map(|at| Some(groups.get(at)?.id.as_str()))
            .collect();
        (curves, request.remark(&silent))
    }

    /// Scales curves to the square of the output's drift when the group alone is cut, the readers making up for it.
    pub fn scale(
        &self,
        candidates: &[usize],
        curves: &mut [Curve],
        widths: &[Width],
        (data, bench, runtime): (&Data, &Bench, &dyn Runtime),
        work: &Work,
    ) -> Result<(), Error> {
        work.progress
            .begin(Phase::Sensitivity, candidates.len() as u64);
        // What the model has lost already counts for no group.
        let before = bench.quick_drift(&self.prepared.working, data)?;
        let trunk = Trunk::new(self.prepared);
        let whole = Selection::default();
        let forks: Vec<usize> = candidates
            .iter()
            .map(|group| trunk.fork(&whole, &self.alone(*group, &[0])))
            .collect();
        let mut stage = Stage::default();
        for (place, members) in trunk.stages(&forks) {
            stage.advance(place, &trunk, &self.prepared.working, data, runtime, work)?;
            // A model is made ready on one core: two at a time keep all busy.
            let found: Vec<Sensitivity> = members
                .par_iter()
                .map(|at| {
                    let drift = |order: &[u32]| -> Result<f64, Error> {
                        let drift = stage.drift(&self.cut(&self.alone(candidates[*at], order))?, data, bench)?;
                        Ok((drift * drift - before * before).max(0.0))
                    };
                    if work.progress.stop() {
                        return Err(Error::Cancelled);
                    }
                    let found = Sensitivity::measure(&curves[*at], &widths[*at], drift)?;
                    tracing::debug!(gone = ?found.whole, factor = ?found.factor, group = self.prepared.analysis.groups[candidates[*at]].id, "measured");
                    work.progress.advance(1);
                    Ok(found)
                })
                .collect::<Result<_, _>>()?;
            members
                .into_iter()
                .zip(found)
                .for_each(|(at, found)| found.apply(&mut curves[at]));
        }
        Ok(())
    }

    /// The selection of some units of one group.
    fn alone(&self, group: usize, units: &[u32]) -> Selection {
        let mut removed = vec![Vec::new(); self.prepared.analysis.groups.len()];
        removed[group] = units.to_vec();
        removed[group].sort_unstable();
        self.prepared.select(&removed)
    }

    /// The same choice with units swapped where the readers then lose less, if that moves the outputs less on inputs that
    /// nothing was fitted to.
    pub fn swapped(
        &self,
        choice: Choice,
        request: &Request,
        data: &Data,
        bench: &Bench,
    ) -> Result<Choice, Error> {
        if request.score != ScoreName::Obs {
            return Ok(choice);
        }
        let evidence = Evidence {
            model: &self.prepared.working,
            analysis: &self.prepared.analysis,
        };
        let calibrated = Calibrated {
            evidence,
            views: &self.views,
            statistics: Some(&self.statistics),
        };
        let mut other = choice.clone();
        for (group, removed) in self.prepared.analysis.groups.iter().zip(&mut other.removed) {
            // Units of several classes may not cost the same.
            let alike = group.units.iter().all(|unit| unit.len() == 1) && group.classes.len() == 1;
            if !alike || removed.is_empty() || removed.len() == group.units.len() {
                continue;
            }
            if let Some(better) =
                swap_units(&readers(&calibrated, group), removed, group.units.len())
            {
                *removed = better;
            }
        }
        if other == choice {
            return Ok(choice);
        }
        let drift =
            |choice: &Choice| self.drift(&self.prepared.select(&choice.removed), data, bench);
        let (before, after) = (drift(&choice)?, drift(&other)?);
        tracing::debug!(before, after, "units swapped");
        Ok(if after < before { other } else { choice })
    }

    /// The drift of a selection, readers making up for it by the statistics of the original.
    pub fn drift(&self, selection: &Selection, data: &Data, bench: &Bench) -> Result<f64, Error> {
        bench.quick_drift(&self.cut(selection)?, data)
    }

    /// The cut model, with readers making up for what they lost by the statistics of the original.
    pub fn cut(&self, selection: &Selection) -> Result<Model, Error> {
        self.prepared.finish(self.raw_cut(selection)?)
    }

    /// The same, every reader of a shared constant keeping its own copy.
    pub fn raw_cut(&self, selection: &Selection) -> Result<Model, Error> {
        Ok(surgery::apply(
            &self.mended(selection, |_| true),
            &self.prepared.analysis,
            selection,
            &[],
        )?)
    }

    /// The same with all weights as they were, but that the biases left of whole branches give the branches' means.
    pub fn bare_cut(&self, selection: &Selection) -> Result<Model, Error> {
        let whole = |gone: &[bool]| gone.iter().all(|gone| *gone);
        Ok(surgery::apply(
            &self.mended(selection, whole),
            &self.prepared.analysis,
            selection,
            &[],
        )?)
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

    /// The whole model, in which the products whose lost columns are `meant` make up for them.
    fn mended(&self, selection: &Selection, meant: impl Fn(&[bool]) -> bool + Sync) -> Model {
        let working = &self.prepared.working;
        let mut mended = working.clone();
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
                && let Some(mut numbers) = bias.read(working)
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

/// What a group does to the outputs, against what its curve foresees.
struct Sensitivity {
    /// What the curve's errors are to be multiplied by.
    factor: Option<f64>,
    /// The square of the drift with all units gone, where that may be.
    whole: Option<f64>,
}

impl Sensitivity {
    /// `drift` gives the square of the drift with some units gone.
    fn measure(
        curve: &Curve,
        width: &Width,
        drift: impl Fn(&[u32]) -> Result<f64, Error>,
    ) -> Result<Self, Error> {
        let (align, units) = (width.align.max(1) as usize, curve.order.len());
        let (mut measured, mut foreseen) = (0.0, 0.0);
        for level in LEVELS {
            let kept = (((units as f64 * (1.0 - level)).round() as usize).max(1))
                .next_multiple_of(align)
                .min(units);
            if kept == units {
                continue;
            }
            measured += drift(&curve.order[..units - kept])?;
            foreseen += curve.error[units - kept];
        }
        let factor = (foreseen > 0.0 && measured.is_finite()).then(|| measured / foreseen);
        // What a whole branch does is not to be told from what parts of it do.
        let whole = if width.whole {
            Some(drift(&curve.order)?)
        } else {
            None
        };
        Ok(Sensitivity { factor, whole })
    }

    fn apply(&self, curve: &mut Curve) {
        if let Some(factor) = self.factor {
            curve.error.iter_mut().for_each(|error| *error *= factor);
        }
        if let Some((gone, last)) = self
            .whole
            .filter(|gone| gone.is_finite())
            .zip(curve.error.last_mut())
        {
            *last = gone;
            curve
                .error
                .iter_mut()
                .for_each(|error| *error = error.min(gone));
        }
    }
}

/// The products of a model, those with too many columns by channel.
fn narrow_views(prepared: &Prepared) -> Vec<Linear> {
    let narrow = |view: Linear| {
        if view.columns > COLUMNS {
            view.by_channel()
        } else {
            view
        }
    };
    views(&prepared.working, &prepared.analysis.relations)
        .into_iter()
        .map(narrow)
        .collect()
}

/// Statistics of what the products of a model read that may lose columns, whatever the kinds of units and the granularity,
/// over some runs.
/// Those of parts of the runs add up to those of the whole.
///
/// Errors: the model does not run, inputs that can not be read, a stop asked for.
pub fn calibrate(
    model: &Model,
    options: &crate::analysis::Options,
    batches: &dyn Batches,
    runs: &[usize],
    runtime: &dyn Runtime,
    work: &Work,
) -> Result<Statistics, Error> {
    work.progress.begin(Phase::Analyse, 0);
    let options = |granularity| crate::analysis::Options {
        granularity,
        ..options.clone()
    };
    let prepared = Prepared::mendable(model, &options(Granularity::Coarse))?;
    let fine = analyse(&prepared.working, &options(Granularity::Fine));
    let mut views = narrow_views(&prepared);
    let loses = |analysis: &Analysis, view: &Linear| {
        units_of_columns(analysis, view).iter().any(Option::is_some)
    };
    views.retain(|view| loses(&prepared.analysis, view) || loses(&fine, view));
    in_either(runtime, |runtime| {
        gather(
            &prepared.working,
            &views,
            batches,
            runs,
            true,
            runtime,
            work,
        )
        .map_err(gathering)
    })
}

/// Whether the runtime gives what the products of a model read and compute.
pub(super) fn can_be_tapped(prepared: &Prepared, example: &Tensors, runtime: &dyn Runtime) -> bool {
    let model = &prepared.working;
    let views = views(model, &prepared.analysis.relations);
    let values = views
        .iter()
        .flat_map(|view| [Some(view.data), view.output])
        .flatten();
    let mut names: Vec<String> = values
        .map(|value| model.index().value(value).name.clone())
        .collect();
    names.sort();
    names.dedup();
    names.retain(|name| !example.contains_key(name));
    extract_subgraph(model, &names, &BTreeMap::new())
        .is_ok_and(|part| runtime.prepare_variant(&part, example).is_ok())
}

/// Mends a cut model on all inputs.
pub(super) fn mend(
    prepared: &Prepared,
    selection: &Selection,
    cut: Model,
    method: Method,
    data: &Data,
    runtime: &dyn Runtime,
    work: &Work,
) -> Result<(Model, Vec<Repair>), Error> {
    let teacher = Teacher {
        model: &prepared.working,
        analysis: &prepared.analysis,
        selection,
    };
    let runs: Vec<usize> = (0..data.inputs.count()).collect();
    recover(
        teacher,
        cut,
        &*data.inputs,
        &runs,
        runtime,
        &Options { method },
        work,
    )
    .map_err(gathering)
}

pub(super) fn gathering(error: GatherError) -> Error {
    match error {
        GatherError::Run(reason) => Error::Unverifiable(format!(
            "calibration needs to run the model, and cannot: {reason}"
        )),
        other => other.into(),
    }
}
