//! Models of which nothing goes and which take long to run: there is nothing that a run could tell.

use super::{Note, Outcome, PruneError, Request};
use crate::analysis::Options;
use crate::calibrate::Dataset;
use crate::evaluate::Checks;
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::run::work_of_a_run;
use crate::workspace::Workspace;

/// Multiplications and elements of a run beyond which it is spared where it could show nothing: about a second of one core.
const LONG: f64 = (1u64 << 28) as f64;

/// Whether the model is written as it was read, a run takes long, and there are only made-up inputs for it.
///
/// Errors: inputs that cannot be made up, a model that does not hold together.
pub(super) fn is(
    model: &Model,
    request: &Request,
    dataset: &Dataset,
    work: &Work,
) -> Result<bool, PruneError> {
    let asked = request.plan.is_some() || request.aims_at_latency() || !dataset.synthetic;
    if asked || dataset.apart.is_some() || dataset.statistics.is_some() {
        return Ok(false);
    }
    let Some(example) = dataset.inputs.example()? else {
        return Ok(false);
    };
    if work_of_a_run(model, &example) < LONG {
        return Ok(false);
    }
    work.progress.begin(Phase::Analyse, 0);
    let options = Options {
        memory: work.memory,
        ..request.options()
    };
    let workspace = Workspace::new(model, &options)?;
    if !request.candidates(&workspace).is_empty() {
        return Ok(false);
    }
    let nothing = vec![Vec::new(); workspace.analysis.groups.len()];
    let mut written = workspace.cut(&workspace.select(&nothing), &[])?.proto;
    written
        .metadata_props
        .clone_from(&model.proto.metadata_props);
    Ok(written == model.proto)
}

/// The outcome of a run in which no model ran: what is written computes what was read.
pub(super) fn told(mut outcome: Outcome) -> Outcome {
    outcome.checks = Some(Checks::default());
    outcome.notes.push(Note::Other(
        "the model is written as it was read, so it was not run: a run takes long and could show nothing"
            .to_owned(),
    ));
    outcome
}
