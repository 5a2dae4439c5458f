//! Inputs to run models on, from files or made up.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::args::DataArgs;
use super::watch::Watch;
use crate::analysis::{self, Pins, declared};
use crate::calibrate::{self, Batches, InputKind, InputSpec, Inputs, Preprocess, Ready, read_npy};
use crate::job::{Data, cost};
use crate::model::{Index, Model};

/// Runs on made-up inputs.
const SYNTHETIC: usize = 4;
/// Bytes of inputs that are kept where making them takes long.
const READY: usize = 512 << 20;

/// What the model wants, with the shapes that the user pinned. Errors: pins that do not fit.
pub(super) fn specs(model: &Model, pins: &Pins) -> anyhow::Result<Vec<InputSpec>> {
    let infos: BTreeMap<&str, _> = model.graph(Index::MAIN).input.iter().map(|info| (info.name(), info)).collect();
    let mut specs = Vec::new();
    for value in &model.index().graph(Index::MAIN).inputs {
        let name = &model.index().value(*value).name;
        let fact = infos.get(name.as_str()).map(|info| declared(info)).unwrap_or_default();
        let (Some(dtype), Some(shape)) = (fact.dtype, fact.shape) else {
            // Sequences, maps and inputs of unknown rank can be given by test sets only, which need no specification.
            if pins.contains_key(name) {
                bail!("input '{name}' is no tensor of known rank, so --input can not pin it");
            }
            continue;
        };
        specs.push(InputSpec::new(name, dtype, shape));
    }
    InputSpec::pin(&mut specs, pins)?;
    // Numbers that pick entries stay within the axes that made-up inputs have.
    let bounds = analysis::bounds(model, &InputSpec::made_up(&specs));
    for spec in &mut specs {
        spec.range = bounds.get(&spec.name).copied();
        if spec.kind == InputKind::TokenTypes && spec.range.is_some_and(|(_, last)| last < 1) {
            spec.kind = InputKind::Indices;
        }
    }
    Ok(specs)
}

/// The pins of the command line.
pub(super) fn pins(args: &[super::values::Pin]) -> Pins {
    args.iter().map(|pin| (pin.name.clone(), pin.dims.clone())).collect()
}

/// The input shapes at which operations are counted: the same in all commands, whatever inputs are at hand. What is not
/// pinned is as made-up inputs are: batch 1, sequences of 32 (or, where the model computes nothing of so few, 512 or 16000),
/// pictures of 224 × 224.
pub(super) fn counted(model: &Model, specs: &[InputSpec]) -> Pins {
    calibrate::counting_shapes(specs, |shapes| cost(model, shapes).macs > 0.0)
}

/// Opens the inputs, or makes some up. Errors name the file, the array and what was expected.
pub(super) fn inputs(model: &Model, args: &DataArgs, labels: Option<&Path>, watch: &Watch) -> anyhow::Result<Data> {
    let specs = specs(model, &pins(&args.input))?;
    let Some(path) = &args.data else {
        watch.warn("no --data: the model is run on made-up inputs, which say little about how it behaves on real ones");
        let made = calibrate::synthetic(&specs, args.samples.unwrap_or(SYNTHETIC), args.seed)?;
        return Ok(Data { inputs: batches(made), synthetic: true, ..Default::default() });
    };
    let read = read(path, &specs, args, watch)?;
    let labels = labels.map(|file| labels_of(&read, file)).transpose()?;
    Ok(Data { inputs: batches(read), labels, ..Default::default() })
}

/// Inputs, kept within a budget where they take long to make: recovery goes over them once for every layer.
fn batches(inputs: Inputs) -> Arc<dyn Batches> {
    if inputs.slow() { Arc::new(Ready::new(inputs, READY)) } else { Arc::new(inputs) }
}

/// Opens the inputs that the user gives; batches are made when they are asked for.
pub(super) fn read(path: &Path, specs: &[InputSpec], args: &DataArgs, watch: &Watch) -> anyhow::Result<Inputs> {
    let list = |numbers: &Option<super::values::Numbers>| numbers.as_ref().map(|numbers| numbers.0.clone()).unwrap_or_default();
    let preprocess = Preprocess { scale: args.scale, mean: list(&args.mean), std: list(&args.std) };
    let options = calibrate::Options { samples: args.samples, batch: None, preprocess };
    let read = calibrate::load(path, specs, &options)?;
    read.notes.iter().for_each(|note| watch.warn(&format!("{}: {note}", path.display())));
    Ok(read)
}

/// The labels of all samples that are run, in order.
fn labels_of(inputs: &Inputs, file: &Path) -> anyhow::Result<Vec<i64>> {
    let array = read_npy(file)?;
    let Some(labels) = array.to_i64() else {
        bail!("{}: labels are whole numbers, this array holds {}", file.display(), array.dtype);
    };
    let places = (0..inputs.len()).flat_map(|batch| inputs.places(batch));
    let labelled: Option<Vec<i64>> = places.map(|place| labels.get(place).copied()).collect();
    match labelled {
        Some(labelled) => Ok(labelled),
        None => bail!("{}: {} labels are fewer than the {} samples", file.display(), labels.len(), inputs.samples),
    }
}
