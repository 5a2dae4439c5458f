//! The stages of a run in one engine: prepare, find what may go, decide, cut, recover, check, tell.

use super::decide::{self, Decision};
use super::rounds::Rounds;
use super::unrun::{Unrun, UnrunBranch};
use super::{Outcome, PruneError, Request, SweepPoint, statistics, unmatched, vocabulary};
use crate::allocate::Align;
use crate::analysis::{self, Selection};
use crate::calibrate::Dataset;
use crate::dead;
use crate::evaluate::Baseline;
use crate::latency::LatencyModel;
use crate::model::Model;
use crate::plan::{AllowedAxes, Plan, VocabularyPlan};
use crate::progress::{Phase, Work};
use crate::recover::Repair;
use crate::run::{Chosen, Runtime, Tensors};
use crate::score::Needs;
use crate::train::TrainingRecord;
use crate::workspace::Workspace;

/// What all stages share.
#[derive(Clone, Copy)]
pub(super) struct Stages<'a> {
    pub model: &'a Model,
    pub request: &'a Request,
    pub data: &'a Dataset,
    /// What runs the models; `None` where nothing is to be run.
    pub runtime: Option<&'a dyn Runtime>,
    pub work: &'a Work<'a>,
    pub known: Known,
}

/// What there is to decide by.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// Whether models are run on inputs.
    pub runs: bool,
    /// Whether inputs or statistics are the user's own.
    pub measured: bool,
    /// Whether statistics of activations are taken, or there are some.
    pub calibrated: bool,
}

/// The groups that may be cut, and what is to be said of others.
#[derive(Clone)]
pub(super) struct Candidates {
    pub groups: Vec<usize>,
    /// Units that no output can tell of, by group of the analysis; none where a plan says what goes.
    pub dead: Vec<Vec<u32>>,
    /// Groups that would be among them if an input reached them.
    pub never_ran: Vec<usize>,
    pub unrun: Vec<UnrunBranch>,
    pub unmatched: Vec<String>,
}

/// A model made ready, and what may be cut of it.
#[derive(Clone)]
pub(super) struct PreparedModel {
    pub workspace: Workspace,
    pub candidates: Candidates,
}

/// The model as it was cut, with weights as they were.
pub(super) struct FinishedCut {
    pub plan: Plan,
    pub notes: Vec<(&'static str, String)>,
    pub selection: Selection,
    /// Before shared constants were merged again.
    pub unshared: Model,
    pub bare: Model,
}

/// The model with its weights mended.
pub(super) struct Recovered {
    pub model: Model,
    pub repairs: Vec<Repair>,
    /// How they were trained, if they were.
    pub training: Option<TrainingRecord>,
    /// Why the weights were left as they were.
    pub undone: Option<String>,
}

/// Prunes a model in one engine, as asked for, or once for each point of a sweep. `chosen` is `None` when nothing is to be run
/// (no drift search, no checks).
pub(super) fn run(
    model: &Model,
    (asked, points): (&Request, &[SweepPoint]),
    data: &Dataset,
    chosen: Option<Chosen>,
    work: &Work,
) -> Result<Vec<Outcome>, PruneError> {
    let first = points.first().map(|point| asked.at(*point));
    let request = first.as_ref().unwrap_or(asked);
    work.progress.begin(Phase::Analyse, 0);
    let runtime = chosen.as_ref().map(|chosen| chosen.runtime);
    let example = match runtime {
        Some(_) => data.whole().example()?,
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
    let (mut workspace, said) = stages.prepare(example.as_ref())?;
    let mut candidates = stages.candidates(&workspace)?;
    candidates.unmatched.extend(said);
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
    let prepared = PreparedModel {
        workspace,
        candidates,
    };
    if !points.is_empty() {
        let each = points.iter().map(|point| Request {
            align: request.align.clone(),
            ..asked.at(*point)
        });
        let each: Vec<Request> = each.collect();
        return stages.sweep(&prepared, &each, (&sha256, &baseline), latency.as_ref());
    }
    let outcome = if request.cautious {
        stages.cautiously(prepared, &sha256, &baseline)
    } else {
        let decided = stages.decide(&prepared, &sha256, &baseline, latency.as_ref())?;
        stages.pruned(prepared, decided, &sha256, &baseline)
    };
    Ok(vec![outcome?])
}

impl Known {
    /// Errors: a score of activations without inputs.
    fn new(request: &Request, data: &Dataset, runs: bool) -> Result<Self, PruneError> {
        let measured = runs && (!data.synthetic || data.statistics.is_some());
        let chooses = !request.is_decided();
        let needs = request.score.needs();
        let lacks = match needs {
            Needs::Activations => !measured,
            Needs::Derivatives => !runs || data.synthetic,
            _ => false,
        };
        if lacks && chooses {
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
    pub(super) fn options(&self) -> analysis::Options {
        analysis::Options {
            memory: self.work.memory,
            ..self.request.options()
        }
    }

    /// Makes the model ready, with biases for recovery to use where weights are mended, and in another basis where that is asked
    /// for. Says what the user should know of that.
    fn prepare(&self, example: Option<&Tensors>) -> Result<(Workspace, Vec<String>), PruneError> {
        let options = self.options();
        let mends = self.known.runs && (self.request.recover.is_some() || self.known.calibrated);
        // A runtime that does not take a bias before a norm gets the model as it is.
        let mut workspace = None;
        if mends && let (Some(example), Some(runtime)) = (example, self.runtime) {
            let mendable = Workspace::with_recovery_biases(self.model, &options)?;
            workspace = statistics::can_be_tapped(&mendable, example, runtime).then_some(mendable);
        }
        let mut workspace = match workspace {
            Some(workspace) => workspace,
            None => Workspace::new(self.model, &options)?,
        };
        let said = self.rotate(&mut workspace, example)?;
        if let Some(before) = self.request.before {
            workspace.cost.set_before(before);
        }
        let scorer = self.request.score.score();
        scorer.check(&workspace.analysis.groups)?;
        Ok((workspace, said))
    }

    /// Finds the groups that may be cut: what no input reaches is left whole.
    fn candidates(&self, workspace: &Workspace) -> Result<Candidates, PruneError> {
        let unmatched = unmatched::unmatched(self.request, workspace)?;
        let groups = self.request.candidates(workspace);
        let unrun = match self.runtime.filter(|_| self.known.runs) {
            Some(runtime) => Unrun::find(&workspace.working, self.data.whole(), runtime)?,
            None => Unrun::default(),
        };
        let branches = unrun.branches(workspace, &groups);
        let (groups, never_ran): (Vec<usize>, Vec<usize>) = groups
            .into_iter()
            .partition(|group| unrun.reaches(workspace, *group));
        let dead = match self.request.is_decided() || groups.is_empty() {
            true => vec![Vec::new(); workspace.analysis.groups.len()],
            false => dead::removable(workspace),
        };
        Ok(Candidates {
            groups,
            dead,
            never_ran,
            unrun: branches,
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
        if self.request.is_decided() || !(aims || auto) {
            return Ok((None, align));
        }
        let Some(runtime) = self.runtime else {
            return Err(PruneError::Unverifiable(
                "a latency has to be measured, and models are not run".to_owned(),
            ));
        };
        let table = self.request.latency_table.as_deref();
        let mut latency = LatencyModel::new(self.model, self.data.whole(), table, runtime)?;
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
    pub(super) fn decide(
        &self,
        prepared: &PreparedModel,
        sha256: &str,
        baseline: &Baseline,
        latency: Option<&LatencyModel>,
    ) -> Result<Decision, PruneError> {
        let request = self.request;
        let (workspace, groups) = (&prepared.workspace, &*prepared.candidates.groups);
        if let Some(tokens) = &request.tokens {
            return vocabulary::decide(workspace, tokens);
        }
        let dead = &*prepared.candidates.dead;
        if let Some(rounds) = self.rounds(prepared, baseline, latency) {
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
            dead,
            data: self.data,
            baseline,
            work: self.work,
        };
        scored.decide(latency)
    }

    /// The way by error curves, if units go by such.
    pub(super) fn rounds<'b>(
        &'b self,
        prepared: &'b PreparedModel,
        baseline: &'b Baseline<'b>,
        latency: Option<&'b LatencyModel<'b>>,
    ) -> Option<Rounds<'b>> {
        let groups = &*prepared.candidates.groups;
        Some(Rounds {
            original: &prepared.workspace,
            request: self.request,
            candidates: groups,
            dead: &prepared.candidates.dead,
            data: self.data,
            bench: baseline,
            latency,
            runtime: self.by_curves(groups, baseline)?,
            work: self.work,
        })
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

    /// What was decided, done: cut, mended, checked and told of.
    pub(super) fn pruned(
        &self,
        prepared: PreparedModel,
        mut decision: Decision,
        sha256: &str,
        baseline: &Baseline,
    ) -> Result<Outcome, PruneError> {
        let workspace = &prepared.workspace;
        self.add_dead(workspace, &prepared.candidates, &mut decision);
        let cut = self.cut(workspace, &decision, sha256.to_owned())?;
        let mut recovered = self.recover(workspace, &cut, decision.made.take(), baseline)?;
        self.train(workspace, &cut, &mut recovered, &mut decision.lessons)?;
        self.finish(prepared, decision, cut, recovered, baseline)
    }

    /// Cuts the model, weights as they were. Errors: the file changed meanwhile, surgery fails.
    fn cut(
        &self,
        workspace: &Workspace,
        decision: &Decision,
        sha256: String,
    ) -> Result<FinishedCut, PruneError> {
        let selection = workspace.select(&decision.choice.removed);
        self.model.source.check()?;
        self.work.progress.begin(Phase::Cut, 0);
        let options = self.options();
        let vocabulary = !options.tokens.inputs.is_empty();
        let plan = Plan {
            allowed: AllowedAxes::list(&options.allowed),
            vocabulary: vocabulary.then(|| VocabularyPlan::of(&options.tokens)),
            ..workspace.plan(&decision.choice, sha256)
        };
        let notes = self.request.notes(&plan);
        let unshared = workspace.cut_unshared(&selection, &notes)?;
        // Of a model of which nothing goes at least what no output needs does.
        let bare = if selection.is_empty() && !self.request.is_decided() {
            workspace.cleaned(&notes)?
        } else {
            workspace.reshare(unshared.clone())?
        };
        Ok(FinishedCut {
            plan,
            notes,
            selection,
            unshared,
            bare,
        })
    }
}
