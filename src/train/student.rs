//! A network beside the runtime that computes what it is handed.

use std::collections::BTreeMap;

use super::TrainError;
use super::network::{Arrays, ForwardRun, Network, array};
use crate::analysis::constants;
use crate::gradient::FloatArray;
use crate::model::{Model, ValueId, extract_subgraph};
use crate::run::{InputDims, Runtime, Session, Tensors, dims};

/// Networks for batches of some shapes, and the weights that they share.
pub(super) struct Student {
    /// One at least.
    networks: Vec<ShapedNetwork>,
    pub weights: Vec<FloatArray>,
}

/// A network for batches of one shape, and how values that are handed in come from the inputs.
struct ShapedNetwork {
    /// Extents of the inputs.
    dims: InputDims,
    network: Network,
    /// Values that are inputs of the model.
    inputs: Vec<(ValueId, String)>,
    /// Values that a part of the model computes.
    computed: Vec<ValueId>,
    session: Option<Box<dyn Session>>,
}

/// What a network is handed for a batch.
pub(super) struct GivenArrays {
    pub arrays: Arrays,
    /// The number of the network.
    network: usize,
}

impl ShapedNetwork {
    fn new(
        model: &Model,
        example: &Tensors,
        wanted: &[String],
        runtime: &dyn Runtime,
    ) -> Result<Self, TrainError> {
        let mut network = Network::new(model, example, wanted)?;
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
        Ok(ShapedNetwork {
            dims: dims(example),
            network,
            inputs,
            computed: computed.into_iter().map(|(value, _)| value).collect(),
            session,
        })
    }

    fn given(&self, batch: &Tensors) -> Result<Arrays, TrainError> {
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
}

impl Student {
    /// Makes a model ready for batches of the shapes of the examples; `wanted` are the values that it is to give. Errors: no
    /// example, no weight has a part in one of the values, or not the same weights for all shapes; what cannot be
    /// differentiated does not run.
    pub fn new(
        model: &Model,
        examples: &[Tensors],
        wanted: &[String],
        runtime: &dyn Runtime,
    ) -> Result<Self, TrainError> {
        let networks: Vec<ShapedNetwork> = examples
            .iter()
            .map(|example| ShapedNetwork::new(model, example, wanted, runtime))
            .collect::<Result<_, _>>()?;
        let Some((ShapedNetwork { network, .. }, others)) = networks.split_first() else {
            return Err(TrainError::TooFewInputs(0));
        };
        let refusal = || TrainError::NothingTrainable(network.stops.clone());
        let same = |other: &ShapedNetwork| other.network.weights == network.weights;
        if !others.iter().all(same) {
            return Err(refusal());
        }
        let weights = network.weights_of(model).ok_or_else(refusal)?;
        Ok(Student { networks, weights })
    }

    /// The network for the first of the shapes: values and weights are the same in all of them.
    pub fn network(&self) -> &Network {
        &self.networks[0].network
    }

    /// What the network is handed for a batch. Errors: the part that computes it fails.
    pub fn given(&self, batch: &Tensors) -> Result<GivenArrays, TrainError> {
        let dims = dims(batch);
        let fits = |network: &ShapedNetwork| network.dims == dims;
        let network = self.networks.iter().position(fits).unwrap_or(0);
        let arrays = self.networks[network].given(batch)?;
        Ok(GivenArrays { arrays, network })
    }

    /// Runs the network on what it was handed.
    pub fn run(&self, given: &GivenArrays, keeps: bool) -> Result<ForwardRun, TrainError> {
        let network = &self.networks[given.network].network;
        network.run(&self.weights, &given.arrays, keeps)
    }

    /// Derivatives of a loss by the weights, from those by values of a run.
    pub fn gradients(
        &self,
        run: &ForwardRun,
        given: &GivenArrays,
        seeds: Vec<(ValueId, FloatArray)>,
    ) -> Vec<Option<FloatArray>> {
        let network = &self.networks[given.network].network;
        network.gradients(run, &self.weights, &given.arrays, seeds)
    }

    /// About how many multiplications a run on a batch took. Errors: the part that computes what it is handed fails.
    pub fn work(&self, run: &ForwardRun, batch: &Tensors) -> Result<f64, TrainError> {
        let given = self.given(batch)?;
        let network = &self.networks[given.network].network;
        Ok(network.work(run, &self.weights, &given.arrays))
    }

    /// What it was asked for on a batch, in order.
    pub fn outputs(&self, batch: &Tensors) -> Result<Vec<FloatArray>, TrainError> {
        let run = self.run(&self.given(batch)?, false)?;
        let outputs = self.network().outputs.iter();
        Ok(outputs
            .map(|output| run.value(*output).cloned().unwrap_or_default())
            .collect())
    }
}
