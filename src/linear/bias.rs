//! The bias of a product: an input of its operator, or a constant that the next node adds.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::operand::Operand;
use super::view::Linear;
use crate::model::edit::NodeExt;
use crate::model::{Index, LoadError, Model, Origin, TensorRef, ValueId};
use crate::ops::{Flow, WeightRows, flow, meaning};
use crate::proto::NodeProto;

/// Where the bias of a product stands.
#[derive(Clone, Debug)]
pub struct Bias {
    operand: Operand,
    /// For each output channel (group by group, row by row) its place in the constant.
    places: Vec<usize>,
    /// Whether it is added after the operator's own output.
    pub outside: bool,
    /// Where the constant is the mean that a following batch normalisation subtracts: what it was. The bias is what was
    /// taken from it since.
    mean: Option<Vec<f32>>,
}

impl Bias {
    /// The bias of a product, if it has a constant one with a number per output channel.
    pub fn find(model: &Model, view: &Linear) -> Option<Self> {
        let (axis, places) = view.channel_axis()?;
        let channels = places.len();
        let at = |value| {
            let operand = Operand::trace(model, value)?;
            let dims = operand.read(model)?.0;
            let along = dims.iter().product::<usize>() == channels
                && dims.iter().filter(|dim| **dim != 1).count() <= 1;
            along.then_some((operand, dims))
        };
        let entry = model.index().node(view.node);
        if let Some(slot) = bias_input(model.node(view.node)) {
            let (operand, mean) = match entry.input(slot) {
                Some(value) => (at(value)?.0, None),
                None => {
                    let (operand, _) = at(norm_mean(model, view)?)?;
                    let mean = operand.read(model)?.1;
                    (operand, Some(mean))
                }
            };
            return Some(Bias {
                operand,
                places,
                outside: false,
                mean,
            });
        }
        // The one reader adds it.
        let output = model.index().value(view.output?);
        let [(reader, slot)] = output.readers[..] else {
            return None;
        };
        if flow(model.node(reader)) != Flow::Add || output.is_output {
            return None;
        }
        let other = model.index().node(reader).input(1 - slot as usize)?;
        let (operand, dims) = at(other)?;
        // Aligned from the right, its long axis must be the channels'.
        let rank = view.output_rank();
        let long = dims
            .iter()
            .position(|dim| *dim != 1)
            .unwrap_or(dims.len().saturating_sub(1));
        (rank + long == dims.len() + axis).then_some(Bias {
            operand,
            places,
            outside: true,
            mean: None,
        })
    }

    /// The constant that holds it.
    pub fn constant(&self) -> ValueId {
        self.operand.constant
    }

    /// Whether it can be written without changing what others read.
    pub fn is_own(&self) -> bool {
        self.operand.is_own()
    }

    /// The bias, by output channel.
    pub fn read(&self, model: &Model) -> Option<Vec<f64>> {
        let (_, numbers) = self.operand.read(model)?;
        let number = |place: &usize| match &self.mean {
            Some(mean) => Some(f64::from(mean.get(*place)? - numbers.get(*place)?)),
            None => numbers.get(*place).map(|number| f64::from(*number)),
        };
        self.places.iter().map(number).collect()
    }

    /// Puts it back. `None`: the constant is shared.
    pub fn write(&self, model: &mut Model, bias: &[f64]) -> Option<()> {
        let (_, mut numbers) = self.operand.read(model)?;
        for (place, bias) in self.places.iter().zip(bias) {
            let before = self
                .mean
                .as_ref()
                .map_or(Some(None), |mean| mean.get(*place).map(Some))?;
            *numbers.get_mut(*place)? = before.map_or(*bias as f32, |mean| mean - *bias as f32);
        }
        self.operand.write(model, &numbers)
    }

    /// Gives products that could take a bias and have none one of zeros; says their names. The model is to be indexed anew.
    pub fn add_missing(model: &mut Model, views: &[Linear]) -> BTreeSet<String> {
        let mut added = BTreeSet::new();
        let taken: HashSet<String> = model
            .index()
            .main_values()
            .into_keys()
            .map(str::to_owned)
            .collect();
        for view in views {
            let (Some(output), Some((_, places))) = (view.output, view.channel_axis()) else {
                continue;
            };
            let Some(slot) = bias_input(model.node(view.node)) else {
                continue;
            };
            if Bias::find(model, view).is_some() {
                continue;
            }
            let missing = model.index().node(view.node).input(slot).is_none();
            let weight = model.index().value(view.weight.constant);
            // A bias in real numbers would keep a runtime from computing a quantized product in whole numbers.
            let real = model
                .tensor_proto(view.weight.constant)
                .is_some_and(|tensor| tensor.data_type() == crate::proto::Dtype::Float as i32);
            if !missing
                || !real
                || weight.graph != Index::MAIN
                || matches!(weight.origin, Origin::Input(_))
            {
                continue;
            }
            let name = format!("{}_bias", model.index().value(output).name);
            if taken.contains(&name) {
                continue;
            }
            let zeros = TensorRef::from_f32(vec![places.len()], &vec![0.0; places.len()]);
            model
                .graph_mut(Index::MAIN)
                .initializer
                .push(zeros.to_proto(&name));
            let inputs = &mut model.node_mut(view.node).input;
            inputs.resize(inputs.len().max(slot + 1), String::new());
            inputs[slot] = name.clone();
            added.insert(name);
        }
        added
    }

    /// Takes out biases that were added and not used. Errors: none on a model that was indexed.
    pub fn remove_idle(model: &mut Model, added: &BTreeSet<String>) -> Result<(), LoadError> {
        let mut idle = HashMap::new();
        let values = model.index().main_values();
        for name in added {
            let Some(value) = values.get(name.as_str()).copied() else {
                continue;
            };
            let zero = model
                .constant(value)
                .and_then(|tensor| tensor.to_f32())
                .is_some_and(|bias| bias.iter().all(|number| *number == 0.0));
            if zero {
                idle.insert(name.as_str(), model.index().value(value).readers.clone());
            }
        }
        for readers in idle.values() {
            readers
                .iter()
                .for_each(|(node, slot)| model.node_mut(*node).input.truncate(*slot as usize));
        }
        model
            .graph_mut(Index::MAIN)
            .initializer
            .retain(|tensor| !idle.contains_key(tensor.name()));
        model.reindex()
    }
}

/// The mean that a batch normalisation subtracts from the output of a convolution, if that is its only reader.
fn norm_mean(model: &Model, view: &Linear) -> Option<ValueId> {
    let output = model.index().value(view.output?);
    let [(reader, 0)] = output.readers[..] else {
        return None;
    };
    let statistics = meaning(model.node(reader)).statistics?;
    let mean = statistics.mean as usize;
    (!output.is_output).then(|| model.index().node(reader).input(mean))?
}

/// The input for a bias, of an operator whose output [`Linear`] views.
fn bias_input(node: &NodeProto) -> Option<usize> {
    let known = meaning(node);
    if let Some(packed) = known.packed {
        let slot = packed.bias as usize;
        return node.input(slot).map(|_| slot);
    }
    let product = known.product?;
    let bias = product
        .bias
        .filter(|_| product.rows != WeightRows::Grouped)?;
    Some(bias.input as usize)
}
