//! The order of the steps.

use super::job::Job;
use super::make::{Made, SPARED};
use super::measure::DenseOutputs;
use super::parts::{LeftDense, SparsePart, parts};
use super::request::{Data, SparseLayer, SparsifyOutcome, SparsifyRequest};
use super::{Error, SparsePlan};
use crate::analysis::{Options, Selection, analyse};
use crate::calibrate::held_out;
use crate::inputs::{Augment, digest, examples_of_both};
use crate::linear::views;
use crate::model::Model;
use crate::plan::{Fit, FitInputs, labels_digest};
use crate::progress::{Phase, Work};
use crate::recover::{Method, Repair};
use crate::run::{Runtime, choose_for};
use crate::train::{TRAINED, TrainingData, TrainingRecord, distill};

/// Runs that variants are held against the original on, at most.
const QUICK: usize = 64;

/// Makes a model sparse. `runtime` is `None` when nothing is to be run. Errors: no weights that can go, a plan that does not
/// fit, a score without inputs, a model that does not run though it has to, a stop asked for.
pub fn sparsify(
    model: &Model,
    request: &SparsifyRequest,
    data: Data,
    runtime: Option<&dyn Runtime>,
    work: &Work,
) -> Result<SparsifyOutcome, Error> {
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

/// Name and version of what runs the models.
fn named((runtime, _): &(&dyn Runtime, DenseOutputs)) -> (String, String) {
    (runtime.name().to_owned(), runtime.version().to_owned())
}

impl<'a> Job<'a> {
    /// Makes the original ready, if it is to be run. Errors: it has to run and does not.
    fn start(&mut self, runtime: Option<&'a dyn Runtime>) -> Result<(), Error> {
        let needed = self.request.score.needs_data() && self.request.plan.is_none();
        let Data {
            inputs, measured, ..
        } = self.data;
        let examples = match runtime {
            Some(_) => examples_of_both(inputs, Some(measured.0))?,
            None => Vec::new(),
        };
        if let Some(runtime) = runtime.filter(|_| !examples.is_empty()) {
            let count = self.data.inputs.count();
            let mut runs: Vec<usize> = (0..count)
                .filter(|run| count < SPARED || held_out(*run, count))
                .collect();
            runs.truncate(QUICK);
            let original = self
                .data
                .original
                .map_or(self.model, |teacher| teacher.model);
            let chosen = choose_for(runtime, original, &examples);
            self.work.progress.begin(Phase::Run, runs.len() as u64);
            let found = match chosen.session {
                Ok(session) => DenseOutputs::new(
                    original,
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

    /// The model's SHA-256 where a plan is read or kept, else nothing.
    fn digest(&self) -> String {
        match self.request.plan.is_some() || self.request.keep_plan {
            true => self.model.source.sha256(),
            false => String::new(),
        }
    }

    /// From masks to the finished model.
    fn finish(mut self, left: Vec<LeftDense>) -> Result<SparsifyOutcome, Error> {
        let sha256 = self.digest();
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
        let training = self.train(&mut model)?;
        self.model.source.check()?;
        let fitted = method.filter(|_| !repairs.is_empty());
        let fit = self.fit(fitted, training.as_ref())?;
        let planned = self
            .request
            .plan
            .as_ref()
            .and_then(|plan| plan.fit.as_ref());
        self.remarks
            .extend(planned.and_then(|planned| fit.differs(planned)));
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
        Ok(SparsifyOutcome {
            plan,
            layers,
            training,
            left,
            engine: self.engine.as_ref().map(named),
            measured,
            remarks: self.remarks,
            model,
        })
    }

    fn layers(&self, model: &Model, repairs: &[Repair]) -> Vec<SparseLayer> {
        let layer = |part: &SparsePart| {
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

    /// Trains the weights that are not zero, if that is asked for.
    fn train(&mut self, model: &mut Model) -> Result<Option<TrainingRecord>, Error> {
        let (Some(training), Some((runtime, _))) = (&self.request.training, &self.engine) else {
            return Ok(None);
        };
        let selection = Selection::default();
        let start = model.clone();
        let trained = distill(
            self.teacher(&selection),
            start,
            TrainingData {
                inputs: self.data.inputs,
                labels: self.data.labels,
            },
            *runtime,
            training,
            self.work,
        )?;
        *model = trained.model;
        self.remarks.push(trained.record.to_string());
        Ok(Some(trained.record))
    }

    fn fit(&self, fitted: Option<Method>, training: Option<&TrainingRecord>) -> Result<Fit, Error> {
        let method = match (training, fitted) {
            (Some(_), _) => TRAINED.to_owned(),
            (None, Some(method)) => method.to_string(),
            (None, None) => return Ok(Fit::none()),
        };
        let asked = self
            .request
            .training
            .as_ref()
            .filter(|_| training.is_some());
        let labels = self.data.labels;
        let learnt = labels.filter(|_| asked.is_some_and(|training| training.labelled));
        let digest = if self.request.keep_plan || self.request.plan.is_some() {
            digest(self.data.whole)?
        } else {
            String::new()
        };
        Ok(Fit {
            method,
            steps: training.map(|record| record.steps),
            loss: asked
                .and_then(|training| training.loss)
                .map(|loss| loss.to_string()),
            augment: asked
                .map(|training| training.augment)
                .filter(|augment| *augment != Augment::Auto)
                .map(|augment| augment.to_string()),
            inputs: Some(FitInputs {
                number: self.data.inputs.count(),
                digest,
                synthetic: self.data.synthetic,
                preprocessing: self.data.preparation.to_owned(),
                labels: learnt.map(labels_digest),
                views: String::new(),
            }),
        })
    }
}
