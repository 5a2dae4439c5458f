//! A network beside the runtime that computes what it is handed.

use std::collections::BTreeMap;

use super::TrainError;
use super::network::{Arrays, ForwardRun, Network, array};
use crate::analysis::constants;
use crate::gradient::FloatArray;
use crate::model::{Model, ValueId, extract_subgraph};
use crate::run::{Runtime, Session, Tensors};

/// A network, its weights, and how values that are handed in come from the inputs.
pub(super) struct Student {
    pub network: Network,
    pub weights: Vec<FloatArray>,
    /// Values that are inputs of the model.
    inputs: Vec<(ValueId, String)>,
    /// Values that a part of the model computes.
    computed: Vec<ValueId>,
    session: Option<Box<dyn Session>>,
}

impl Student {
    /// Makes a model ready for batches like the example; `wanted` are the values that it is to give. Errors: no weight has a part
    /// in one of them, or what cannot be differentiated does not run.
    pub fn new(
        model: &Model,
        example: &Tensors,
        wanted: &[String],
        runtime: &dyn Runtime,
    ) -> Result<Self, TrainError> {
        let mut network = Network::new(model, example, wanted)?;
        let weights = network
            .weights_of(model)
            .ok_or_else(|| TrainError::NothingTrainable(network.stops.clone()))?;
        let fixed = constants(model);
        let (mut inputs, mut computed, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (value, name) in &network.given {
            match (example.contains_key(name), fixed[value.index()]) {
                (true, _) => inputs.push((*value, name.clone())),
                (_, true) => known.push((*value, name.clone())),
                _ => computed.push((*value, name.clone())),
            }
        }
        let part = |values: &[(ValueId, String)]| -> Result<Box<dyn Session>, TrainError> {
            let names: Vec<String> = values.iter().map(|(_, name)| name.clone()).collect();
            let part = extract_subgraph(model, &names, &BTreeMap::new())?;
            Ok(runtime.prepare(&part, example, &[])?)
        };
        if !known.is_empty() {
            let results = part(&known)?.run(example)?;
            for ((value, name), tensor) in known.iter().zip(&results) {
                let array = array(tensor)
                    .ok_or_else(|| TrainError::NothingTrainable(vec![name.clone()]))?;
                network.fix(*value, array);
            }
        }
        let session = if computed.is_empty() {
            None
        } else {
            Some(part(&computed)?)
        };
        Ok(Student {
            network,
            weights,
            inputs,
            computed: computed.into_iter().map(|(value, _)| value).collect(),
            session,
        })
    }

    /// What the network is handed for a batch. Errors: the part that computes it fails.
    pub fn given(&self, batch: &Tensors) -> Result<Arrays, TrainError> {
        let mut given = Arrays::new();
        let refusal = |name: &str| TrainError::NothingTrainable(vec![name.to_owned()]);
        for (value, name) in &self.inputs {
            let tensor = batch
                .get(name)
                .and_then(array)
                .ok_or_else(|| refusal(name))?;
            given.insert(*value, tensor);
        }
        if let Some(session) = &self.session {
            for (value, tensor) in self.computed.iter().zip(session.run(batch)?) {
                given.insert(*value, array(&tensor).ok_or_else(|| refusal("a value"))?);
            }
        }
        Ok(given)
    }

    /// Runs it on what it was handed.
    pub fn run(&self, given: &Arrays, keeps: bool) -> Result<ForwardRun, TrainError> {
        self.network.run(&self.weights, given, keeps)
    }

    /// About how many multiplications a run took. Errors: the part that computes what it is handed fails.
    pub fn work(&self, run: &ForwardRun, batch: &Tensors) -> Result<f64, TrainError> {
        Ok(self.network.work(run, &self.weights, &self.given(batch)?))
    }

    /// What it was asked for on a batch, in order.
    pub fn outputs(&self, batch: &Tensors) -> Result<Vec<FloatArray>, TrainError> {
        let run = self.run(&self.given(batch)?, false)?;
        let outputs = self.network.outputs.iter();
        Ok(outputs
            .map(|output| run.value(*output).cloned().unwrap_or_default())
            .collect())
    }
}
