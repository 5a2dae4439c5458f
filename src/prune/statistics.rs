//! Statistics of what products read, and weights fitted by all inputs.

use std::collections::BTreeMap;

use super::PruneError;
use crate::analysis::{Analysis, Granularity, Selection, analyse};
use crate::calibrate::{ChosenRuns, Statistics, gather};
use crate::evaluate::RunSetup;
use crate::inputs::{Batches, GatherError};
use crate::linear::{Linear, units_of_columns, views};
use crate::model::{Model, extract_subgraph};
use crate::progress::{Phase, Work};
use crate::recover::{Repair, RepairOptions, Teacher, recover};
use crate::run::{Fallback, Runtime, Tensors};
use crate::workspace::Workspace;

/// Columns of a window beyond which its places are not told apart.
const COLUMNS: usize = 2304;

/// The products of a model, those with too many columns by channel.
pub(super) fn narrow_views(prepared: &Workspace) -> Vec<Linear> {
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
) -> Result<Statistics, PruneError> {
    work.progress.begin(Phase::Analyse, 0);
    let options = |granularity| crate::analysis::Options {
        granularity,
        ..options.clone()
    };
    let prepared = Workspace::with_recovery_biases(model, &options(Granularity::Coarse))?;
    let fine = analyse(&prepared.working, &options(Granularity::Fine));
    let mut views = narrow_views(&prepared);
    let loses = |analysis: &Analysis, view: &Linear| {
        units_of_columns(analysis, view).iter().any(Option::is_some)
    };
    views.retain(|view| loses(&prepared.analysis, view) || loses(&fine, view));
    in_either(runtime, |runtime| {
        let on = ChosenRuns {
            batches,
            numbers: runs,
            runtime,
        };
        gather(&prepared.working, &views, on, true, work).map_err(gathering)
    })
}

/// Whether the runtime gives what the products of a model read and compute.
pub(super) fn can_be_tapped(
    prepared: &Workspace,
    example: &Tensors,
    runtime: &dyn Runtime,
) -> bool {
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

/// With fewer inputs than this a model that was mended before is mended on all of them once more.
const MANY: usize = 768;
/// Inputs that are taken in a row; one such row in so many is. Those that weights are judged by are the same share of each.
const IN_TURN: (usize, usize) = (6, 4);

/// Mends a cut model on all inputs; from weights that were mended before, on a quarter of many.
pub(super) fn mend(
    prepared: &Workspace,
    selection: &Selection,
    cut: Model,
    options: &RepairOptions,
    setup: RunSetup,
) -> Result<(Model, Vec<Repair>), PruneError> {
    let teacher = Teacher {
        model: &prepared.working,
        analysis: &prepared.analysis,
        selection,
    };
    let inputs = setup.data.rows();
    let all = !options.warm || inputs.count() < MANY;
    let runs: Vec<usize> = (0..inputs.count())
        .filter(|run| all || (run / IN_TURN.0).is_multiple_of(IN_TURN.1))
        .collect();
    let on = ChosenRuns {
        batches: inputs,
        numbers: &runs,
        runtime: setup.runtime,
    };
    recover(teacher, cut, on, options, setup.work).map_err(gathering)
}

pub(super) fn gathering(error: GatherError) -> PruneError {
    match error {
        GatherError::Run(reason) => PruneError::Unverifiable(format!(
            "calibration needs to run the model, and cannot: {reason}"
        )),
        other => other.into(),
    }
}

/// Does something in a runtime, and again in what it falls back to where the model does not run. Errors: those of the last try;
/// where that engine is not at hand, the reason says so.
fn in_either<T>(
    runtime: &dyn Runtime,
    work: impl Fn(&dyn Runtime) -> Result<T, PruneError>,
) -> Result<T, PruneError> {
    let reason = match work(runtime) {
        Err(PruneError::Unverifiable(reason)) => reason,
        done => return done,
    };
    match runtime.fallback() {
        Fallback::Nothing => Err(PruneError::Unverifiable(reason)),
        Fallback::Missing(missing) => {
            Err(PruneError::Unverifiable(format!("{reason} ({missing})")))
        }
        Fallback::Runtime(other) => work(other),
    }
}
