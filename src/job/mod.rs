//! The main job: from a model and a request to a pruned model, its plan, and the proof.
//!
//! The only room that knows the order of the steps; each step is a function of another room over plain data.

mod decide;
mod error;
mod measure;
mod request;

pub use error::Error;
pub use measure::{Checks, Latency};
pub use request::{Data, Request, ScoreName};

use crate::allocate::Choice;
use crate::analysis::{Analysis, Cost, Options, Selection, analyse};
use crate::model::{Copies, Model, reshare, unshare};
use crate::plan::Plan;
use crate::progress::{Phase, Work};
use crate::run::Runtime;
use crate::{surgery, verify};

/// One point that the search tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What the model costs there.
    pub cost: Cost,
    /// The largest relative L2 drift of any output there.
    pub drift: f64,
}

/// What the job made and found.
#[derive(Debug)]
pub struct Outcome {
    /// The pruned model.
    pub model: Model,
    /// What was removed, as data.
    pub plan: Plan,
    /// Units by group of the analysis that went.
    pub choice: Choice,
    /// What is known of the model, small shared constants given to each reader apart.
    pub analysis: Analysis,
    /// That model.
    pub working: Model,
    /// The groups that could be cut under the request, as numbers into the analysis.
    pub candidates: Vec<usize>,
    /// Costs of the original.
    pub before: Cost,
    /// Costs of the pruned model.
    pub after: Cost,
    /// Exactness, drift and latency; `None` when they were not asked for.
    pub checks: Option<Checks>,
    /// The points that the search tried, widest first.
    pub tradeoff: Vec<Point>,
    /// Whether all targets were met.
    pub reached: bool,
    /// What the user should know of the targets, one sentence each.
    pub remarks: Vec<String>,
}

/// A model made ready for pruning: analysed, with small shared constants apart.
#[derive(Debug)]
pub struct Prepared {
    /// The model with its small shared constants given to each reader apart.
    pub working: Model,
    /// What is known of it.
    pub analysis: Analysis,
    copies: Copies,
}

impl Prepared {
    /// Analyses a model.
    pub fn new(model: &Model, options: &Options) -> Result<Self, Error> {
        let (working, copies) = unshare(model.clone())?;
        let mut analysis = analyse(&working, options);
        let copied = crate::model::encoded_len(&working) as f64 - crate::model::encoded_len(model) as f64;
        analysis.account.discount_bytes(copied);
        Ok(Prepared { working, analysis, copies })
    }

    /// Applies a selection; `notes` go into the model's metadata.
    pub fn cut(&self, selection: &Selection, notes: &[(&str, String)]) -> Result<Model, Error> {
        let mut pruned = surgery::apply(&self.working, &self.analysis, selection, notes)?;
        reshare(&mut pruned, &self.copies)?;
        Ok(pruned)
    }

    /// The selection of units by group.
    pub fn select(&self, removed: &[Vec<u32>]) -> Selection {
        self.analysis.select(removed.iter().enumerate().map(|(group, units)| (group, units.as_slice())))
    }

    /// The masked original of a selection.
    pub fn masked(&self, selection: &Selection) -> Result<Model, Error> {
        Ok(verify::masked(&self.working, &self.analysis, selection)?)
    }

    /// The plan of a choice of units.
    pub fn plan(&self, choice: &Choice, sha256: String) -> Plan {
        Plan::new(&self.working, &self.analysis, &choice.removed, sha256, &self.copies)
    }
}

/// Prunes a model. `runtime` is `None` when nothing is to be run (no drift search, no checks).
///
/// Errors: targets out of reach, a plan that does not fit, surgery that fails, a stop asked for.
pub fn prune(model: &Model, request: &Request, data: &Data, runtime: Option<&dyn Runtime>, work: &Work) -> Result<Outcome, Error> {
    work.progress.begin(Phase::Analyse, 0);
    let options = Options { granularity: request.granularity(), pins: request.pins.clone(), ..Default::default() };
    let prepared = Prepared::new(model, &options)?;
    let candidates = request.candidates(&prepared);
    let sha256 = if request.needs_digest() { model.source.sha256() } else { String::new() };
    let bench = match runtime {
        Some(runtime) => measure::Bench::new(model, data, runtime, work),
        None => measure::Bench::none(),
    };
    let decided = decide::decide(&prepared, request, &candidates, data, &bench, &sha256, work)?;
    let selection = prepared.select(&decided.choice.removed);
    work.progress.begin(Phase::Cut, 0);
    let plan = prepared.plan(&decided.choice, sha256);
    let pruned = prepared.cut(&selection, &request.notes(&plan))?;
    let checks = match (request.verify, runtime) {
        (true, Some(runtime)) => Some(bench.check(&prepared, &selection, &pruned, data, runtime, work)?),
        _ => None,
    };
    let mut reached = decided.reached;
    let mut remarks = decided.remarks;
    if let (Some(allowed), Some(drift)) = (request.drift, checks.as_ref().and_then(Checks::drift)) {
        // The search measures on some of the inputs; the promise is for all of them.
        if drift > allowed * 1.1 {
            reached = false;
            remarks.push(format!("the drift on all inputs is {drift:.4}, more than the {allowed} asked for"));
        }
    }
    let Prepared { working, analysis, .. } = prepared;
    let before = Cost { bytes: model.source.total_bytes as f64, params: measure::params(model), ..analysis.account.at(|_| 1.0) };
    let after = Cost {
        bytes: crate::model::encoded_len(&pruned) as f64,
        params: measure::params(&pruned),
        ..analysis.account.of(&analysis.classes, &selection)
    };
    Ok(Outcome {
        model: pruned,
        plan,
        choice: decided.choice,
        analysis,
        working,
        candidates,
        before,
        after,
        checks,
        tradeoff: decided.tradeoff,
        reached,
        remarks,
    })
}
