//! A model as a chain of functions whose weights can be trained.
//!
//! Nodes that cannot be differentiated, and all that they read, stay as they are: what they give is computed by a runtime and
//! handed in with each batch. Invariant: every value that depends on a trained weight is given by a step.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::TrainError;
use super::trainable::Trainable;
use crate::analysis::{Facts, Pins, infer, view};
use crate::gradient::{Arguments, Evaluated, FloatArray, Function};
use crate::model::{Index, Model, TensorRef, ValueId};
use crate::ops::gradient::function;
use crate::run::Tensors;

/// Arrays by the values that they stand for.
pub(super) type Arrays = HashMap<ValueId, FloatArray>;

/// One function, and where its operands come from.
struct NetworkStep {
    function: Box<dyn Function>,
    inputs: Vec<Option<ValueId>>,
    output: ValueId,
    /// For messages.
    label: String,
}

/// A model made ready to be trained.
pub(super) struct Network {
    steps: Vec<NetworkStep>,
    /// Constants that steps read, those that are not trained.
    constants: Arrays,
    /// Weights that are trained, in the order of the model.
    pub weights: Vec<ValueId>,
    /// Values that are handed in with each batch, with their names.
    pub given: BTreeMap<ValueId, String>,
    /// What is asked for, in the order of the names.
    pub outputs: Vec<ValueId>,
    /// Nodes that cannot be differentiated, with their operators, where that stopped something.
    pub stops: Vec<String>,
    /// After which step a value is read for the last time.
    last_read: HashMap<ValueId, usize>,
}

/// What a run of a network left for its derivatives.
pub(super) struct ForwardRun {
    values: Arrays,
}

impl ForwardRun {
    /// A value of the run.
    pub fn value(&self, of: ValueId) -> Option<&FloatArray> {
        self.values.get(&of)
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.values
            .values()
            .map(|value| value.data.len() * size_of::<f32>())
            .sum()
    }
}

/// An array of numbers of any type; `None` for text and the like.
pub(super) fn array(tensor: &TensorRef) -> Option<FloatArray> {
    Some(FloatArray::new(tensor.dims.clone(), tensor.to_f32()?))
}

impl Network {
    /// The part of a model that leads from weights to these values of its main graph, for inputs of these shapes. Errors: no
    /// weight has a part in them, or one that does not.
    pub fn new(model: &Model, example: &Tensors, wanted: &[String]) -> Result<Self, TrainError> {
        let dims = |tensor: &TensorRef| tensor.dims.iter().map(|dim| *dim as i64).collect();
        let pins: Pins = example
            .iter()
            .map(|(name, tensor)| (name.clone(), dims(tensor)))
            .collect();
        let facts = infer(model, &pins);
        let trainable = Trainable::find(model, &facts);
        let by_name = model.index().main_values();
        let outputs: Vec<ValueId> = wanted
            .iter()
            .map(|name| {
                by_name
                    .get(name.as_str())
                    .copied()
                    .filter(|value| trainable.depends(*value))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| TrainError::NothingTrainable(trainable.stops.clone()))?;
        let mut network = Network {
            steps: Vec::new(),
            constants: Arrays::new(),
            weights: Vec::new(),
            given: BTreeMap::new(),
            outputs,
            stops: trainable.stops.clone(),
            last_read: HashMap::new(),
        };
        network.add_steps(model, &facts, &trainable)?;
        Ok(network)
    }

    fn add_steps(
        &mut self,
        model: &Model,
        facts: &Facts,
        trainable: &Trainable,
    ) -> Result<(), TrainError> {
        let index = model.index();
        let mut needed: BTreeSet<ValueId> = self.outputs.iter().copied().collect();
        let mut weights = BTreeSet::new();
        for node in index.graph(Index::MAIN).nodes.iter().rev() {
            let entry = index.node(*node);
            for (at, output) in entry.outputs.iter().enumerate() {
                let Some(output) =
                    output.filter(|output| needed.contains(output) && trainable.depends(*output))
                else {
                    continue;
                };
                let function = function(&view(model, facts, *node, true), at).ok_or_else(|| {
                    TrainError::NothingTrainable(vec![model.node_label(*node).to_owned()])
                })?;
                for input in entry.inputs.iter().flatten() {
                    match trainable.weights.contains(input) {
                        true => drop(weights.insert(*input)),
                        false if trainable.depends(*input) => drop(needed.insert(*input)),
                        false => self.add_constant(model, facts, *input),
                    }
                }
                self.steps.push(NetworkStep {
                    function,
                    inputs: entry.inputs.clone(),
                    output,
                    label: model.node_label(*node).to_owned(),
                });
            }
        }
        self.steps.reverse();
        self.weights = weights.into_iter().collect();
        for (at, step) in self.steps.iter().enumerate() {
            for input in step.inputs.iter().flatten() {
                self.last_read.insert(*input, at);
            }
        }
        Ok(())
    }

    /// An operand that does not depend on weights: stored in the file, known from the shapes, or handed in.
    fn add_constant(&mut self, model: &Model, facts: &Facts, value: ValueId) {
        if self.constants.contains_key(&value) {
            return;
        }
        let stored = || array(&model.constant(value)?);
        let known = || {
            let fact = facts.of(value);
            let numbers = fact.contents.as_ref()?.numbers()?;
            let dims: Option<Vec<usize>> =
                fact.shape.as_ref()?.iter().map(|dim| dim.count()).collect();
            let dims = dims.filter(|dims| dims.iter().product::<usize>() == numbers.len())?;
            Some(FloatArray::new(
                dims,
                numbers.iter().map(|number| *number as f32).collect(),
            ))
        };
        match stored().or_else(known) {
            Some(array) => drop(self.constants.insert(value, array)),
            None => drop(
                self.given
                    .insert(value, model.index().value(value).name.clone()),
            ),
        }
    }

    /// Takes values that are the same for all inputs as constants, instead of having them handed in.
    pub fn fix(&mut self, value: ValueId, array: FloatArray) {
        self.given.remove(&value);
        self.constants.insert(value, array);
    }

    /// The weights as the model has them.
    pub fn weights_of(&self, model: &Model) -> Option<Vec<FloatArray>> {
        self.weights
            .iter()
            .map(|weight| array(&model.constant(*weight)?))
            .collect()
    }

    /// Runs the network. With `keeps`, all values stay for [`Network::gradients`]; else only what is asked for.
    pub fn run(
        &self,
        weights: &[FloatArray],
        given: &Arrays,
        keeps: bool,
    ) -> Result<ForwardRun, TrainError> {
        let by_weight: HashMap<ValueId, &FloatArray> =
            self.weights.iter().copied().zip(weights).collect();
        let mut values = Arrays::new();
        for (at, step) in self.steps.iter().enumerate() {
            let value = {
                let operands = self.operands(step, &by_weight, given, &values);
                step.function
                    .value(&operands)
                    .map_err(|misfit| TrainError::Misfit {
                        node: step.label.clone(),
                        problem: misfit.0,
                    })?
            };
            values.insert(step.output, value);
            if keeps {
                continue;
            }
            for input in step.inputs.iter().flatten() {
                if self.last_read.get(input) == Some(&at) && !self.outputs.contains(input) {
                    values.remove(input);
                }
            }
        }
        Ok(ForwardRun { values })
    }

    fn operands<'a>(
        &'a self,
        step: &NetworkStep,
        weights: &HashMap<ValueId, &'a FloatArray>,
        given: &'a Arrays,
        values: &'a Arrays,
    ) -> Vec<Option<&'a FloatArray>> {
        let find = |value: &ValueId| {
            let known = values.get(value).or_else(|| self.constants.get(value));
            known
                .or_else(|| weights.get(value).copied())
                .or_else(|| given.get(value))
        };
        step.inputs
            .iter()
            .map(|input| input.as_ref().and_then(find))
            .collect()
    }

    /// About how many multiplications a run took.
    pub fn work(&self, run: &ForwardRun, weights: &[FloatArray], given: &Arrays) -> f64 {
        let by_weight: HashMap<ValueId, &FloatArray> =
            self.weights.iter().copied().zip(weights).collect();
        let one = |step: &NetworkStep| {
            let operands = self.operands(step, &by_weight, given, &run.values);
            let output = run.value(step.output);
            output.map_or(0, |output| step.function.work(&operands, output)) as f64
        };
        self.steps.iter().map(one).sum()
    }

    /// Derivatives of a loss by the weights, from those by values of the run.
    pub fn gradients(
        &self,
        run: &ForwardRun,
        weights: &[FloatArray],
        given: &Arrays,
        seeds: Vec<(ValueId, FloatArray)>,
    ) -> Vec<Option<FloatArray>> {
        let by_weight: HashMap<ValueId, &FloatArray> =
            self.weights.iter().copied().zip(weights).collect();
        let mut gradients = Arrays::new();
        for (value, seed) in seeds {
            add_to(&mut gradients, value, seed);
        }
        for step in self.steps.iter().rev() {
            let Some(gradient) = gradients.remove(&step.output) else {
                continue;
            };
            let Some(output) = run.value(step.output) else {
                continue;
            };
            let operands = self.operands(step, &by_weight, given, &run.values);
            let wants = |input: &Option<ValueId>| {
                input.is_some_and(|input| {
                    run.values.contains_key(&input) || by_weight.contains_key(&input)
                })
            };
            let wanted: Vec<bool> = step.inputs.iter().map(wants).collect();
            let operands: &Arguments = &operands;
            let point = Evaluated {
                inputs: operands,
                output,
                gradient: &gradient,
            };
            let pulled = step.function.pull_back(&point, &wanted);
            for (input, pulled) in step.inputs.iter().zip(pulled) {
                if let (Some(input), Some(pulled)) = (input, pulled) {
                    add_to(&mut gradients, *input, pulled);
                }
            }
        }
        self.weights
            .iter()
            .map(|weight| gradients.remove(weight))
            .collect()
    }

    /// Writes weights into the model. Errors: the model does not hold one of them.
    pub fn store(&self, model: &mut Model, weights: &[FloatArray]) -> Result<(), TrainError> {
        for (value, array) in self.weights.iter().zip(weights) {
            let name = model.index().value(*value).name.clone();
            let tensor = TensorRef::from_f32(array.dims.clone(), &array.data).to_proto(&name);
            match model.tensor_proto_mut(*value) {
                // A tensor within a node may have a name of its own.
                Some(stored) => {
                    let own = stored.name.take();
                    *stored = tensor;
                    stored.name = own;
                }
                None => return Err(TrainError::NothingTrainable(vec![name])),
            }
        }
        Ok(())
    }
}

fn add_to(gradients: &mut Arrays, value: ValueId, gradient: FloatArray) {
    match gradients.get_mut(&value) {
        Some(sum) => sum.add(&gradient),
        None => drop(gradients.insert(value, gradient)),
    }
}
