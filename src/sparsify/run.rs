//! The order of the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use globset::Glob;

use super::local::{Local, Masks, zero};
use super::measure::{Baseline, Measured};
use super::parts::{LeftDense, Part, parts};
use super::pattern::Pattern;
use super::score::Score;
use super::shares::{Measuring, pooled, uniform};
use super::{Error, SparsePlan};
use crate::analysis::{Analysis, Options, Pins, Selection, analyse};
use crate::calibrate::{Batches, Statistics, digest, gather, held_out};
use crate::linear::{Linear, views};
use crate::model::Model;
use crate::plan::{Fit, FitInputs};
use crate::progress::{Phase, Work};
use crate::recover::{Candidate, Method, Repair, Selector, Teacher, fitted_layers, recover_on};
use crate::run::{Runtime, choose};

/// Columns of a product whose second moments are still kept.
const WIDEST: usize = 6144;
/// Runs that variants are held against the original on, at most.
const QUICK: usize = 64;
/// With fewer inputs than this none is spared for that.
const SPARED: usize = 48;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The share of the weights that becomes zero; what the pattern gives, if not given.
    pub sparsity: Option<f64>,
    /// How zeros lie.
    pub pattern: Pattern,
    /// How weights are ranked.
    pub score: Score,
    /// The same share of every layer.
    pub uniform: bool,
    /// No weights whose constant or node matches one of these.
    pub exclude: Vec<Glob>,
    /// How the weights that stay are fitted; `None`: they are not.
    pub recover: Option<Method>,
    /// A plan to apply instead of making one.
    pub plan: Option<SparsePlan>,
    /// Whether the plan is wanted as a file, with digests.
    pub keep_plan: bool,
    /// Shapes of inputs.
    pub pins: Pins,
}

/// Inputs, where there are any.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// What is fitted to and chosen by.
    pub inputs: &'a dyn Batches,
    /// Whether they were made up.
    pub synthetic: bool,
    /// What is measured on, with the class ids of all its rows.
    pub measured: (&'a dyn Batches, Option<&'a [i64]>),
    /// How inputs were prepared.
    pub preparation: &'a str,
}

/// One constant after the work.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SparseLayer {
    /// Its name.
    pub weight: String,
    /// Elements.
    pub elements: usize,
    /// Zeros among them.
    pub zeros: usize,
    /// Mean squared error of the layer's sum on inputs that it was not fitted to, with the weights that stay as they were; and
    /// fitted. `None` where it was not fitted to data.
    pub error: Option<(f64, f64)>,
}

/// What was made and found.
#[derive(Debug)]
pub struct Outcome {
    /// The sparse model.
    pub model: Model,
    /// Which weights are zero, as data.
    pub plan: SparsePlan,
    /// Constant by constant.
    pub layers: Vec<SparseLayer>,
    /// Weights that stay as they are.
    pub left: Vec<LeftDense>,
    /// What ran the models, and its version.
    pub engine: Option<(String, String)>,
    /// Drift on inputs kept apart; the reason where nothing ran.
    pub measured: Result<Measured, String>,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// Makes a model sparse. `runtime` is `None` when nothing is to be run. Errors: no weights that can go, a plan that does not
/// fit, a score without inputs, a model that does not run though it has to, a stop asked for.
pub fn sparsify(
    model: &Model,
    request: &Request,
    data: Data,
    runtime: Option<&dyn Runtime>,
    work: &Work,
) -> Result<Outcome, Error> {
    work.progress.begin(Phase::Analyse, 0);
    let options = Options {
        pins: request.pins.clone(),
        memory: work.memory,
        ..Default::default()
    };
    let analysis = analyse(model, &options);
    let views = views(model, &analysis.relations);
    let pattern = match &request.plan {
        Some(plan) => plan.pattern.parse().unwrap_or_default(),
        None => request.pattern,
    };
    let (parts, left) = parts(model, &views, pattern, &request.exclude);
    if parts.is_empty() {
        let reason = left.first().map_or_else(
            || "no product with constant weights is known in it".to_owned(),
            |left| format!("{}: {}", left.weight, left.reason),
        );
        return Err(Error::Nothing(reason));
    }
    let mut job = Job {
        model,
        analysis: &analysis,
        parts: &parts,
        pattern,
        request,
        data,
        engine: None,
        reason: "models are not run".to_owned(),
        work,
        remarks: Vec::new(),
    };
    job.start(runtime)?;
    job.finish(left)
}

/// What the steps have in common.
struct Job<'a> {
    model: &'a Model,
    analysis: &'a Analysis,
    parts: &'a [Part],
    pattern: Pattern,
    request: &'a Request,
    data: Data<'a>,
    /// What runs the models, and the original in it.
    engine: Option<(&'a dyn Runtime, Baseline<'a>)>,
    /// Why nothing runs.
    reason: String,
    work: &'a Work<'a>,
    remarks: Vec<String>,
}

impl<'a> Job<'a> {
    /// Makes the original ready, if it is to be run. Errors: it has to run and does not.
    fn start(&mut self, runtime: Option<&'a dyn Runtime>) -> Result<(), Error> {
        let needed = self.request.score.needs_data() && self.request.plan.is_none();
        let example = match runtime {
            Some(_) => self.data.inputs.example()?,
            None => None,
        };
        if let (Some(runtime), Some(example)) = (runtime, example) {
            let count = self.data.inputs.count();
            let mut runs: Vec<usize> = (0..count)
                .filter(|run| count < SPARED || held_out(*run, count))
                .collect();
            runs.truncate(QUICK);
            let chosen = choose(runtime, self.model, &example);
            self.work.progress.begin(Phase::Run, runs.len() as u64);
            let found = match chosen.session {
                Ok(session) => Baseline::new(
                    self.model,
                    session,
                    (self.data.inputs, runs),
                    chosen.runtime,
                    self.work,
                ),
                Err(error) => Err(Error::Unverifiable(error.to_string())),
            };
            match found {
                Ok(baseline) => self.engine = Some((chosen.runtime, baseline)),
                Err(Error::Unverifiable(reason)) if !needed => self.reason = reason,
                Err(error) => return Err(error),
            }
        }
        if needed && self.engine.is_none() {
            return Err(Error::NeedsData(self.request.score.to_string()));
        }
        Ok(())
    }

    fn teacher<'b>(&'b self, selection: &'b Selection) -> Teacher<'b> {
        Teacher {
            model: self.model,
            analysis: self.analysis,
            selection,
        }
    }

    /// From masks to the finished model.
    fn finish(mut self, left: Vec<LeftDense>) -> Result<Outcome, Error> {
        let sha256 = if self.request.plan.is_some() || self.request.keep_plan {
            self.model.source.sha256()
        } else {
            String::new()
        };
        let given = match &self.request.plan {
            Some(plan) => Some(plan.masks(self.model, self.parts, &sha256)?),
            None => None,
        };
        let method = self.request.recover.filter(|_| self.engine.is_some());
        let made = match method {
            Some(method) => self.fitted(given, method)?,
            None => self.bare(given)?,
        };
        let Made {
            mut model,
            masks,
            repairs,
        } = made;
        self.model.source.check()?;
        let fit = self.fit(method.filter(|_| !repairs.is_empty()))?;
        if let (Some(planned), Some(differs)) = (
            &self.request.plan,
            self.request
                .plan
                .as_ref()
                .and_then(|plan| fit.differs(plan.fit.as_ref()?)),
        ) {
            tracing::debug!(plan = planned.digest(), "other inputs");
            self.remarks.push(differs);
        }
        let plan = SparsePlan::new(
            self.model,
            self.parts,
            &masks,
            (self.pattern.to_string(), sha256),
            Some(fit),
        );
        crate::surgery::annotate(
            &mut model,
            &[
                ("onnx_prune.version", env!("CARGO_PKG_VERSION").to_owned()),
                ("onnx_prune.masks", plan.digest()),
            ],
        );
        self.work.progress.begin(Phase::Drift, 0);
        let measured = match &self.engine {
            Some((_, baseline)) => Ok(baseline.measure(&model, self.data.measured, self.work)?),
            None => Err(self.reason.clone()),
        };
        let layers = self.layers(&model, &repairs);
        Ok(Outcome {
            plan,
            layers,
            left,
            engine: self
                .engine
                .as_ref()
                .map(|(runtime, _)| (runtime.name().to_owned(), runtime.version().to_owned())),
            measured,
            remarks: self.remarks,
            model,
        })
    }

    fn layers(&self, model: &Model, repairs: &[Repair]) -> Vec<SparseLayer> {
        let layer = |part: &Part| {
            let matrix = part.view.matrix(model).unwrap_or_default();
            let repair = repairs.iter().find(|repair| repair.layer == part.layer);
            SparseLayer {
                weight: part.constant.clone(),
                elements: part.shape.elements(),
                zeros: matrix.iter().filter(|weight| **weight == 0.0).count(),
                error: repair.map(|repair| (repair.before, repair.after)),
            }
        };
        self.parts.iter().map(layer).collect()
    }

    fn fit(&self, method: Option<Method>) -> Result<Fit, Error> {
        let Some(method) = method else {
            return Ok(Fit::none());
        };
        let digest = if self.request.keep_plan || self.request.plan.is_some() {
            digest(self.data.inputs)?
        } else {
            String::new()
        };
        Ok(Fit {
            method: method.to_string(),
            inputs: Some(FitInputs {
                number: self.data.inputs.count(),
                digest,
                synthetic: self.data.synthetic,
                preprocessing: self.data.preparation.to_owned(),
            }),
        })
    }
}

/// A model with the masks that it has.
struct Made {
    model: Model,
    masks: Masks,
    repairs: Vec<Repair>,
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
        if self.request.uniform || score == Score::MagnitudeLayer || sizes.len() == 1 {
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
        Ok(gather(
            self.model,
            &views,
            self.data.inputs,
            &runs,
            false,
            runtime,
            self.work,
        )?)
    }

    /// Masks alone, all other weights as they were.
    fn bare(&self, given: Option<Masks>) -> Result<Made, Error> {
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
        part: &Part,
        zeros: usize,
        statistics: Option<&Statistics>,
    ) -> Option<Vec<bool>> {
        let local = Local::new(self.model, part, statistics)?;
        let known = statistics
            .is_some_and(|statistics| statistics.of.contains_key(&part.view.key(self.model)));
        // Without moments sizes are all there is to go by.
        let score = match self.request.score {
            score if known || !score.needs_data() => score,
            _ => Score::Magnitude,
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
    fn fitted(&mut self, given: Option<Masks>, method: Method) -> Result<Made, Error> {
        let Some((runtime, baseline)) = &self.engine else {
            return self.bare(given);
        };
        let mut statistics = None;
        let zeros = match given {
            Some(_) => Vec::new(),
            None => self.zeros(&mut statistics)?,
        };
        let whole = Selection::default();
        let reached = fitted_layers(self.teacher(&whole));
        let beyond: Vec<&Part> = self
            .parts
            .iter()
            .filter(|part| !reached.contains(&part.layer))
            .collect();
        if !beyond.is_empty() {
            statistics = Some(self.gather(beyond.iter().map(|part| &part.view), *runtime)?);
        }
        let rule = |at: usize, part: &Part| match &given {
            Some(masks) => masks.get(&part.constant).cloned().map(Rule::Given),
            None => zeros.get(at).copied().map(Rule::Zeros),
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
        let bare = self.masked(&masks);
        let (bare_drift, drift) = (baseline.drift(&bare)?, baseline.drift(&model)?);
        tracing::debug!(bare = bare_drift, fitted = drift, "drift");
        if bare_drift < drift {
            self.remarks.push(format!(
                "fitting would have moved the outputs further ({drift:.3} against {bare_drift:.3}), so the weights that stay are as they were"
            ));
            return Ok(Made {
                model: bare,
                masks,
                repairs: Vec::new(),
            });
        }
        Ok(Made {
            model,
            masks,
            repairs,
        })
    }

    /// Thins out a product by what is known of its inputs.
    fn thin(
        &self,
        model: &mut Model,
        part: &Part,
        chooser: &Chooser,
        statistics: Option<&Statistics>,
        method: Method,
    ) {
        let stays = match chooser.rules.get(&part.layer) {
            Some((_, Rule::Given(stays))) => Some(stays.clone()),
            Some((_, Rule::Zeros(zeros))) => self.alone(part, *zeros, statistics),
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

/// What becomes of one product.
enum Rule {
    /// So many weights go.
    Zeros(usize),
    /// These stay.
    Given(Vec<bool>),
}

/// Chooses masks when passes come to layers, and remembers them.
struct Chooser<'a> {
    rules: BTreeMap<String, (&'a Part, Rule)>,
    pattern: Pattern,
    score: Score,
    found: Mutex<Masks>,
}

impl<'a> Chooser<'a> {
    fn new(job: &Job<'a>, rule: impl Fn(usize, &Part) -> Option<Rule>) -> Self {
        let rules = job
            .parts
            .iter()
            .enumerate()
            .filter_map(|(at, part)| Some((part.layer.clone(), (part, rule(at, part)?))))
            .collect();
        Chooser {
            rules,
            pattern: job.pattern,
            score: job.request.score,
            found: Mutex::default(),
        }
    }

    fn note(&self, part: &Part, stays: Vec<bool>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(part.constant.clone(), stays);
    }

    fn knows(&self, part: &Part) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains_key(&part.constant)
    }

    fn masks(self) -> Masks {
        self.found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selector for Chooser<'_> {
    fn select(&self, layer: &str, groups: &[Candidate]) -> Option<Vec<bool>> {
        let (part, rule) = self.rules.get(layer)?;
        let stays = match rule {
            Rule::Given(stays) => stays.clone(),
            Rule::Zeros(zeros) => self.score.choose(self.pattern, part.shape, groups, *zeros),
        };
        self.note(part, stays.clone());
        Some(stays)
    }
}

/// Names of the constants that hold zeros, for storing them.
impl Outcome {
    /// Constants that were thinned out.
    pub fn constants(&self) -> BTreeSet<String> {
        self.layers
            .iter()
            .map(|layer| layer.weight.clone())
            .collect()
    }
}
