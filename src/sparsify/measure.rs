//! How far a variant's outputs are from the original's.

use super::Error;
use crate::inputs::{Batches, GatherError, examples, in_order, size};
use crate::model::{Index, Model, TensorRef};
use crate::progress::Work;
use crate::run::{Runtime, Session, Tensors, for_shapes};
use crate::verify::{Drift, OutputDrift, Top1, worst};

/// The original and what it gives for some inputs.
pub(super) struct DenseOutputs<'a> {
    runtime: &'a dyn Runtime,
    session: Box<dyn Session>,
    names: Vec<String>,
    batches: &'a dyn Batches,
    /// The runs that variants are held against it on, and what it gives for them.
    runs: Vec<usize>,
    outputs: Vec<Vec<TensorRef>>,
}

/// What was measured on inputs kept apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuredLoss {
    /// How far each output moved; empty where the models do not run.
    pub outputs: Vec<OutputDrift>,
    /// Top-1 of the original and the sparse model, where there are labels.
    pub labelled: Option<(f64, f64)>,
    /// How many inputs these are of.
    pub inputs: usize,
}

fn run(session: &dyn Session, inputs: &Tensors) -> Result<Vec<TensorRef>, GatherError> {
    session
        .run(inputs)
        .map_err(|error| GatherError::Run(error.to_string()))
}

impl<'a> DenseOutputs<'a> {
    /// Runs the original. Errors: a run that fails, inputs that can not be read, a stop asked for.
    pub fn new(
        model: &Model,
        session: Box<dyn Session>,
        (batches, runs): (&'a dyn Batches, Vec<usize>),
        runtime: &'a dyn Runtime,
        work: &Work,
    ) -> Result<Self, Error> {
        let names = model
            .index()
            .graph(Index::MAIN)
            .outputs
            .iter()
            .map(|output| model.index().value(*output).name.clone())
            .collect();
        let mut outputs = Vec::new();
        in_order(
            batches,
            &runs,
            work,
            |_, inputs| run(&*session, &inputs),
            |outputs| size(outputs),
            |_, made| {
                outputs.extend(made);
                Ok(())
            },
        )?;
        Ok(DenseOutputs {
            runtime,
            session,
            names,
            batches,
            runs,
            outputs,
        })
    }

    /// The largest relative drift of any output of a variant. Errors: it does not run.
    pub fn drift(&self, variant: &Model) -> Result<f64, Error> {
        if self.runs.is_empty() {
            return Ok(0.0);
        }
        let session = self.prepare(variant, &examples(self.batches, &self.runs)?)?;
        let mut drift = Drift::new(&self.names, &variant.ends);
        let mut originals = self.outputs.iter();
        in_order(
            self.batches,
            &self.runs,
            &Work::new(&()),
            |_, inputs| run(&*session, &inputs),
            |outputs| size(outputs),
            |_, made| {
                for after in &made {
                    if let Some(before) = originals.next() {
                        drift.add(before, after);
                    }
                }
                Ok(())
            },
        )?;
        Ok(worst(&drift.finish()))
    }

    /// All that is to be told of a finished model, on other inputs.
    pub fn measure(
        &self,
        finished: &Model,
        (batches, labels): (&dyn Batches, Option<&[i64]>),
        work: &Work,
    ) -> Result<MeasuredLoss, Error> {
        let runs: Vec<usize> = (0..batches.count()).collect();
        if runs.is_empty() {
            return Ok(MeasuredLoss::default());
        }
        let session = self.prepare(finished, &examples(batches, &runs)?)?;
        let mut drift = Drift::new(&self.names, &finished.ends);
        let mut labelled = labels.map(|labels| (Top1::new(labels), Top1::new(labels)));
        let both =
            |_, inputs: Tensors| Ok((run(&*self.session, &inputs)?, run(&*session, &inputs)?));
        in_order(
            batches,
            &runs,
            work,
            both,
            |(before, after)| size(before) + size(after),
            |_, pairs| {
                for (before, after) in &pairs {
                    drift.add(before, after);
                    if let Some((original, sparse)) = &mut labelled {
                        original.add(before);
                        sparse.add(after);
                    }
                }
                Ok(())
            },
        )?;
        Ok(MeasuredLoss {
            outputs: drift.finish(),
            labelled: labelled
                .and_then(|(original, sparse)| Some((original.share()?, sparse.share()?))),
            inputs: runs.len(),
        })
    }

    fn prepare(&self, model: &Model, examples: &[Tensors]) -> Result<Box<dyn Session>, Error> {
        let ready = |model: &Model, example: &Tensors| self.runtime.prepare_variant(model, example);
        for_shapes(model, examples, ready).map_err(|error| Error::Broken(error.to_string()))
    }
}
