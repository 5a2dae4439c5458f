//! The stages of a run in one engine: prepare, find what may go, decide, cut, recover, check, tell.

use super::curves::{self, GroupErrorModel};
use super::decide::{self, Decision};
use super::rounds::Rounds;
use super::unrun::{self, Unrun, UnrunBranch};
use super::{Engine, Note, Outcome, PruneError, Request, fit, io, patterns};
use crate::allocate::Align;
use crate::analysis::{self, Selection};
use crate::calibrate::Dataset;
use crate::cost::{Cost, params};
use crate::evaluate::{ALLOWANCE, Baseline, Checks};
use crate::latency::{LatencyModel, NEAR};
use crate::model::{Index, Model};
use crate::plan::{AllowedAxes, Plan};
use crate::progress::{Phase, Work};
use crate::recover::Repair;
use crate::run::{Chosen, Runtime, Tensors, without_sequences};
use crate::score::Needs;
use crate::surgery;
use crate::workspace::Workspace;

/// What all stages share.
#[derive(Clone, Copy)]
struct Stages<'a> {
    model: &'a Model,
    request: &'a Request,
    data: &'a Dataset,
    /// What runs the models; `None` where nothing is to be run.
    runtime: Option<&'a dyn Runtime>,
    work: &'a Work<'a>,
    known: Known,
}

/// What there is to decide by.
#[derive(Clone, Copy)]
struct Known {
    /// Whether models are run on inputs.
    runs: bool,
    /// Whether inputs or statistics are the user's own.
    measured: bool,
    /// Whether statistics of activations are taken, or there are some.
    calibrated: bool,
}

/// The groups that may be cut, and what is to be said of others.
struct Candidates {
    groups: Vec<usize>,
    unrun: Vec<UnrunBranch>,
    unmatched: Vec<String>,
}

/// The model as it was cut, with weights as they were.
struct Cut {
    plan: Plan,
    notes: Vec<(&'static str, String)>,
    selection: Selection,
    /// Before shared constants were merged again.
    unshared: Model,
    bare: Model,
}

/// The model with its weights mended.
struct Recovered {
    model: Model,
    repairs: Vec<Repair>,
    /// Why the weights were left as they were.
    undone: Option<String>,
}

/// Prunes a model in one engine. `chosen` is `None` when nothing is to be run (no drift search, no checks).
pub(super) fn run(
    model: &Model,
    request: &Request,
    data: &Dataset,
    chosen: Option<Chosen>,
    work: &Work,
) -> Result<Outcome, PruneError> {
    work.progress.begin(Phase::Analyse, 0);
    let runtime = chosen.as_ref().map(|chosen| chosen.runtime);
    let example = match runtime {
        Some(_) => data.inputs.example()?,
        None => None,
    };
    let stages = Stages {
        model,
        request,
        data,
        runtime,
        work,
        known: Known::new(request, data, example.is_some())?,
    };
    let mut workspace = stages.prepare(example.as_ref())?;
    let candidates = stages.candidates(&workspace)?;
    let (latency, align) = stages.latency(&mut workspace, &candidates.groups)?;
    let request = Request {
        align,
        ..request.clone()
    };
    let stages = Stages {
        request: &request,
        ..stages
    };
    let sha256 = stages.digest();
    let baseline = stages.baseline(chosen)?;
    let mut decision = stages.decide(
        (&workspace, &candidates.groups),
        &sha256,
        &baseline,
        latency.as_ref(),
    )?;
    let cut = stages.cut(&workspace, &decision, sha256)?;
    let recovered = stages.recover(&workspace, &cut, decision.made.take(), &baseline)?;
    stages.finish(workspace, candidates, decision, cut, recovered, &baseline)
}

impl Known {
    /// Errors: a score of activations without inputs.
    fn new(request: &Request, data: &Dataset, runs: bool) -> Result<Self, PruneError> {
        let measured = runs && (!data.synthetic || data.statistics.is_some());
        let chooses = request.plan.is_none();
        let needs = request.score.needs();
        if needs == Needs::Activations && chooses && !measured {
            return Err(PruneError::NeedsData(request.score.to_string()));
        }
        let calibrated = chooses && (measured || (runs && needs == Needs::AnyActivations));
        Ok(Known {
            runs,
            measured,
            calibrated,
        })
    }
}

impl Stages<'_> {
    fn options(&self) -> analysis::Options {
        analysis::Options {
            memory: self.work.memory,
            ..self.request.options()
        }
    }

    /// Makes the model ready, with biases for recovery to use where weights are mended.
    fn prepare(&self, example: Option<&Tensors>) -> Result<Workspace, PruneError> {
        let options = self.options();
        let mends = self.known.runs && (self.request.recover.is_some() || self.known.calibrated);
        // A runtime that does not take a bias before a norm gets the model as it is.
        let mut workspace = None;
        if mends && let (Some(example), Some(runtime)) = (example, self.runtime) {
            let mendable = Workspace::with_recovery_biases(self.model, &options)?;
            workspace = curves::can_be_tapped(&mendable, example, runtime).then_some(mendable);
        }
        let workspace = match workspace {
            Some(workspace) => workspace,
            None => Workspace::new(self.model, &options)?,
        };
        let scorer = self.request.score.score();
        scorer.check(&workspace.analysis.groups)?;
        Ok(workspace)
    }

    /// Finds the groups that may be cut: what no input reaches is left whole.
    fn candidates(&self, workspace: &Workspace) -> Result<Candidates, PruneError> {
        let unmatched = patterns::unmatched(self.request, workspace)?;
        let groups = self.request.candidates(workspace);
        let unrun = match self.runtime.filter(|_| self.known.runs) {
            Some(runtime) => Unrun::find(&workspace.working, &*self.data.inputs, runtime)?,
            None => Unrun::default(),
        };
        Ok(Candidates {
            unrun: unrun.branches(workspace, &groups),
            groups: unrun.without(workspace, groups),
            unmatched,
        })
    }

    /// Measures operators where a latency is aimed at, or which widths are cheap. Errors: models are not run.
    fn latency(
        &self,
        workspace: &mut Workspace,
        groups: &[usize],
    ) -> Result<(Option<LatencyModel<'_>>, Align), PruneError> {
        let (aims, auto) = (
            self.request.aims_at_latency(),
            self.request.align == Align::Auto,
        );
        let mut align = self.request.align.clone();
        if self.request.plan.is_some() || !(aims || auto) {
            return Ok((None, align));
        }
        let Some(runtime) = self.runtime else {
            return Err(PruneError::Unverifiable(
                "a latency has to be measured, and models are not run".to_owned(),
            ));
        };
        let table = self.request.latency_table.as_deref();
        let mut latency = LatencyModel::new(self.model, &*self.data.inputs, table, runtime)?;
        let Workspace {
            working,
            analysis,
            cost,
            ..
        } = workspace;
        if auto {
            align = latency.align(working, analysis, groups, self.work)?;
        }
        if !aims {
            return Ok((None, align));
        }
        latency.fit(working, analysis, cost, self.work)?;
        Ok((Some(latency), align))
    }

    /// The model's SHA-256 where a plan is read or kept, else nothing.
    fn digest(&self) -> String {
        if self.request.needs_digest() {
            self.model.source.sha256()
        } else {
            String::new()
        }
    }

    fn baseline<'a>(&self, chosen: Option<Chosen<'a>>) -> Result<Baseline<'a>, PruneError> {
        Ok(match chosen {
            Some(chosen) => {
                let chooses = self.request.chooses(self.known.measured);
                Baseline::new(self.model, self.data, chosen, chooses, self.work)?
            }
            None => Baseline::none(),
        })
    }

    /// Decides which units go: by a plan, by error curves, or by weights alone.
    fn decide(
        &self,
        (workspace, groups): (&Workspace, &[usize]),
        sha256: &str,
        baseline: &Baseline,
        latency: Option<&LatencyModel>,
    ) -> Result<Decision, PruneError> {
        let request = self.request;
        if let Some(runtime) = self.by_curves(groups, baseline) {
            let rounds = Rounds {
                original: workspace,
                request,
                candidates: groups,
                data: self.data,
                bench: baseline,
                latency,
                runtime,
                work: self.work,
            };
            return rounds.run();
        }
        if let Some(plan) = &request.plan {
            return decide::planned(workspace, plan, sha256);
        }
        if request.layers() && !groups.is_empty() {
            return Err(PruneError::LayersNeedData);
        }
        let scored = decide::Scored {
            workspace,
            request,
            groups,
            data: self.data,
            baseline,
            work: self.work,
        };
        scored.decide(latency)
    }

    /// The runtime that error curves are measured in, if units go by such. What is ranked by weights alone can be pruned even
    /// where the model does not run, and is not measured group by group where nothing is to be mended.
    fn by_curves(&self, groups: &[usize], baseline: &Baseline) -> Option<&dyn Runtime> {
        let request = self.request;
        let needs_run = request.score.needs() != Needs::Weights || self.data.statistics.is_some();
        let measures = needs_run || (request.recover.is_some() && baseline.failure().is_none());
        self.runtime
            .filter(|_| self.known.calibrated && !groups.is_empty() && measures)
    }

    /// Cuts the model, weights as they were. Errors: the file changed meanwhile, surgery fails.
    fn cut(
        &self,
        workspace: &Workspace,
        decision: &Decision,
        sha256: String,
    ) -> Result<Cut, PruneError> {
        let selection = workspace.select(&decision.choice.removed);
        self.model.source.check()?;
        self.work.progress.begin(Phase::Cut, 0);
        let plan = Plan {
            allowed: AllowedAxes::list(&self.options().allowed),
            ..workspace.plan(&decision.choice, sha256)
        };
        let notes = self.request.notes(&plan);
        let unshared = workspace.cut_unshared(&selection, &notes)?;
        let bare = workspace.reshare(unshared.clone())?;
        Ok(Cut {
            plan,
            notes,
            selection,
            unshared,
            bare,
        })
    }

    /// Mends the weights that stay, unless the search has done so (`made`), and takes that back where together it does harm.
    fn recover(
        &self,
        workspace: &Workspace,
        cut: &Cut,
        made: Option<(Model, Vec<Repair>)>,
        baseline: &Baseline,
    ) -> Result<Recovered, PruneError> {
        let (model, repairs) = match made {
            Some((model, repairs)) => (workspace.reshare(model)?, repairs),
            None => self.mend(workspace, cut)?,
        };
        let mut recovered = Recovered {
            model,
            repairs,
            undone: None,
        };
        // Layers are mended one by one; what counts is what they do together.
        if !recovered.repairs.is_empty()
            && let (Ok(mended), Ok(bare)) = (
                baseline.drift_on_held_out(&recovered.model, self.data),
                baseline.drift_on_held_out(&cut.bare, self.data),
            )
            && mended.drift > bare.drift
        {
            recovered.undone = Some(format!(
                "recovery would have moved the outputs further ({:.3} against {:.3}), so the weights are as they were",
                mended.drift, bare.drift
            ));
            recovered.model = cut.bare.clone();
        }
        Ok(recovered)
    }

    fn mend(&self, workspace: &Workspace, cut: &Cut) -> Result<(Model, Vec<Repair>), PruneError> {
        let selection = &cut.selection;
        let runtime = self
            .runtime
            .filter(|_| self.known.runs && !selection.is_empty());
        let (Some(method), Some(runtime)) = (self.request.recover, runtime) else {
            return Ok((cut.bare.clone(), Vec::new()));
        };
        let (data, work) = (self.data, self.work);
        let (model, repairs) = if data.statistics_alone() {
            let statistics = data.statistics.as_ref();
            let quality = GroupErrorModel::new(workspace, statistics, data, runtime, work)?;
            (quality.cut_unshared(selection)?, Vec::new())
        } else {
            let unshared = cut.unshared.clone();
            curves::mend(workspace, selection, unshared, method, data, runtime, work)?
        };
        Ok((workspace.reshare(model)?, repairs))
    }

    /// Records what the weights were fitted to, checks the result and says what was found.
    fn finish(
        &self,
        workspace: Workspace,
        candidates: Candidates,
        decision: Decision,
        mut cut: Cut,
        mut recovered: Recovered,
        baseline: &Baseline,
    ) -> Result<Outcome, PruneError> {
        let fitted = !recovered.repairs.is_empty()
            || (self.known.runs && self.data.statistics_alone() && !cut.selection.is_empty());
        let method = self
            .request
            .recover
            .filter(|_| fitted && recovered.undone.is_none());
        cut.plan.fit = Some(fit::fit(self.data, method, self.request.needs_digest())?);
        surgery::annotate(&mut recovered.model, &cut.notes);
        self.model.source.check()?;
        workspace.check(&recovered.model, &cut.selection)?;
        let checks = self.check(&workspace, &cut, &recovered.model, baseline)?;
        let (before, after) = self.costs(&workspace, &cut.selection, &recovered.model);
        let mut outcome = Outcome {
            engine: self.runtime.filter(|_| self.known.runs).map(Engine::of),
            changed_ends: io::changed_ends(&workspace.working, &workspace.analysis, &cut.selection),
            model: recovered.model,
            plan: cut.plan,
            choice: decision.choice,
            workspace,
            candidates: candidates.groups,
            before,
            after,
            forecast: decision.forecast,
            checks,
            repairs: recovered.repairs,
            unrun: candidates.unrun,
            tradeoff: decision.tradeoff,
            reached: decision.reached,
            notes: decision.notes,
        };
        let said = recovered.undone.into_iter().chain(candidates.unmatched);
        outcome.notes.extend(said.map(Note::Other));
        self.judge(&mut outcome);
        Ok(outcome)
    }

    fn check(
        &self,
        workspace: &Workspace,
        cut: &Cut,
        pruned: &Model,
        baseline: &Baseline,
    ) -> Result<Option<Checks>, PruneError> {
        let Some(runtime) = self.runtime.filter(|_| self.request.verify) else {
            return Ok(None);
        };
        let exactness = |outputs: &_, inputs: &_, noise| {
            workspace.exactness(&cut.selection, &cut.bare, runtime, outputs, inputs, noise)
        };
        let exactness: Option<&crate::evaluate::Prove> =
            (!cut.selection.is_empty()).then_some(&exactness);
        Ok(Some(
            baseline.check(exactness, pruned, self.data, self.work)?,
        ))
    }

    fn costs(&self, workspace: &Workspace, selection: &Selection, pruned: &Model) -> (Cost, Cost) {
        let after = Cost {
            bytes: crate::model::encoded_len(pruned) as f64,
            params: params(pruned),
            ..workspace.cost.of(&workspace.analysis.classes, selection)
        };
        (workspace.cost.original(), after)
    }

    /// Holds what was measured against what was asked for, and says what the user should know of it.
    fn judge(&self, outcome: &mut Outcome) {
        let mut notes: Vec<Note> = Vec::new();
        notes.extend(self.of_the_way(outcome).map(Note::Other));
        let checks = outcome.checks.as_ref();
        // A choice that comes near enough by the table is refused where the clock says otherwise.
        if let (Some(forecast), Some(latency)) =
            (outcome.forecast, checks.and_then(|checks| checks.latency))
        {
            outcome.reached &= latency.pruned / latency.original <= forecast.target * (1.0 + NEAR);
        }
        let drift = checks.and_then(Checks::drift);
        if let (Some(allowed), Some(drift)) = (self.request.drift, drift) {
            // The search measures on other inputs; the promise is for those that it has not seen.
            if drift > allowed * ALLOWANCE {
                outcome.reached = false;
                notes.push(Note::Other(format!(
                    "the drift on inputs kept apart is {drift:.4}, more than the {allowed} asked for"
                )));
            }
        }
        notes.extend(drift.and_then(Note::of_drift));
        let measured = checks.is_some_and(|checks| !checks.outputs.is_empty());
        notes.extend(
            of_ids(&outcome.workspace)
                .filter(|_| measured)
                .map(Note::Other),
        );
        notes.extend(io::remark(&outcome.changed_ends).map(Note::Other));
        let (before, after) = (outcome.before, outcome.after);
        if after.params > before.params && after.bytes > before.bytes {
            outcome.reached = false;
            notes.push(Note::Other(format!(
                "the cut makes the model larger ({} parameters, {} before): what goes is less than the biases and copies that it needs",
                after.params, before.params
            )));
        }
        outcome.notes.extend(notes);
    }

    /// What is to be said of how the model was taken up.
    fn of_the_way(&self, outcome: &Outcome) -> impl Iterator<Item = String> {
        let planned = self.request.plan.as_ref();
        let differs = |planned: &Plan| outcome.plan.fit.as_ref()?.differs(planned.fit.as_ref()?);
        let calls =
            !self.model.proto.functions.is_empty() && outcome.model.proto.functions.is_empty();
        let calls = calls.then(|| {
            "calls of the model's own functions were replaced by the functions' nodes".to_owned()
        });
        let sequences = without_sequences(self.model).map(|_| {
            "sequences of known length were replaced by the tensors that they hold".to_owned()
        });
        [
            unrun::remark(&outcome.unrun, planned.is_none()),
            planned.and_then(differs),
            calls,
            sequences,
        ]
        .into_iter()
        .flatten()
    }
}

/// What to know of a drift where no output is a real number.
fn of_ids(workspace: &Workspace) -> Option<String> {
    let (index, facts) = (workspace.working.index(), &workspace.analysis.facts);
    let outputs = &index.graph(Index::MAIN).outputs;
    let whole = !outputs.is_empty()
        && outputs.iter().all(|output| {
            facts
                .of(*output)
                .dtype
                .is_some_and(|dtype| !dtype.is_float())
        });
    whole.then(|| "all outputs are whole numbers (class ids), so the drift is the share of them that change".to_owned())
}
