//! What a model wants as inputs, from what it declares and from what its operators read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::shapes::shapes;
use crate::analysis::{Pins, bounds, declared, infer};
use crate::facts::{Dim, Fact};
use crate::inputs::{self, Batches, CachedBatches, DataError, InputKind, InputSpec, Inputs, KEPT};
use crate::model::{Index, Model};

/// The inputs of the model that are tensors of known rank. One whose rank is not declared has that of its pin, or the
/// shape of the arrays in `data`, any number of samples.
pub fn declared_inputs(model: &Model, pins: &Pins, data: Option<&Path>) -> Vec<InputSpec> {
    let facts: BTreeMap<&str, Fact> = model
        .graph(Index::MAIN)
        .input
        .iter()
        .map(|info| (info.name(), declared(info)))
        .collect();
    let unknown = facts
        .values()
        .any(|fact| fact.dtype.is_some() && fact.shape.is_none());
    let given = data
        .filter(|_| unknown)
        .map(inputs::shapes)
        .unwrap_or_default();
    let spec = |name: &String| {
        let fact = facts.get(name.as_str()).cloned().unwrap_or_default();
        let dtype = fact.dtype?;
        let open = |axis: usize| Dim::symbol(&format!("?{name}.{axis}"));
        let pinned = || Some((0..pins.get(name)?.len()).map(open).collect());
        // Samples lie along the first axis of arrays.
        let as_given = || -> Option<Vec<Dim>> {
            let dims = given.get(name).or(given.get(""))?;
            let inner = dims.iter().skip(1).map(|dim| Dim::from(*dim));
            Some(
                dims.first()
                    .map(|_| open(0))
                    .into_iter()
                    .chain(inner)
                    .collect(),
            )
        };
        let shape = fact.shape.or_else(pinned).or_else(as_given)?;
        Some(InputSpec::new(name, dtype, shape))
    };
    let values = &model.index().graph(Index::MAIN).inputs;
    values
        .iter()
        .filter_map(|value| spec(&model.index().value(*value).name))
        .collect()
}

/// The inputs of a model: what it takes, and one shape of each.
#[derive(Clone, Debug, Default)]
pub struct ModelInputs {
    /// What it takes: symbols stand for extents that are free.
    pub specs: Vec<InputSpec>,
    /// Shapes without symbols, by name: those at which operations are counted, and that made-up inputs have.
    pub shapes: Pins,
}

impl ModelInputs {
    /// Shapes pinned, and whole numbers that pick entries of tables given the range of these. Errors: pins that do not fit.
    pub fn new(model: &Model, mut specs: Vec<InputSpec>, pins: &Pins) -> Result<Self, DataError> {
        InputSpec::pin(&mut specs, pins)?;
        let shapes = shapes(model, &specs);
        let bounds = bounds(model, &shapes);
        for spec in &mut specs {
            spec.range = bounds.get(&spec.name).copied();
            if spec.kind == InputKind::TokenTypes && spec.range.is_some_and(|(_, last)| last < 1) {
                spec.kind = InputKind::Indices;
            }
        }
        Ok(ModelInputs { specs, shapes })
    }

    /// What is made up: inputs of these shapes.
    pub fn closed(&self) -> Vec<InputSpec> {
        let mut closed = self.specs.clone();
        for spec in &mut closed {
            if let Some(dims) = self.shapes.get(&spec.name) {
                spec.shape = dims.iter().map(|dim| Dim::Num(*dim)).collect();
            }
        }
        closed
    }

    /// Whether an extent of the shapes is a guess.
    pub fn guesses(&self) -> bool {
        self.specs.iter().any(|spec| spec.fixed().is_none())
    }
}

/// A tensor of unknown rank, for which nothing can be made up.
pub fn unranked_input<'a>(model: &'a Model, specs: &[InputSpec]) -> Option<&'a str> {
    let graph = model.graph(Index::MAIN);
    let stored = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
    graph
        .input
        .iter()
        .filter(|info| !stored(info.name()))
        .map(|info| (info.name(), declared(info)))
        .find(|(name, fact)| fact.dtype.is_some() && !specs.iter().any(|spec| spec.name == *name))
        .map(|(name, _)| name)
}

/// How many classes the first output tells apart, if it is a score for each.
pub fn classes(model: &Model) -> Option<i64> {
    let output = *model.index().graph(Index::MAIN).outputs.first()?;
    let facts = infer(model, &Pins::new());
    let fact = facts.of(output);
    let [_, classes] = fact.shape.as_deref()? else {
        return None;
    };
    classes
        .num()
        .filter(|classes| *classes > 1 && fact.dtype.is_some_and(|dtype| dtype.is_float()))
}

/// Inputs, kept within a budget where they take long to make: recovery goes over them once for every layer.
pub fn cached(inputs: Inputs) -> Arc<dyn Batches> {
    if inputs.slow() {
        Arc::new(CachedBatches::new(inputs, KEPT))
    } else {
        Arc::new(inputs)
    }
}
