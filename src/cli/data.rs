//! Inputs to run models on, from files or made up.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::args::DataArgs;
use super::convert;
use super::watch::Watch;
use crate::analysis::Pins;
use crate::calibrate::{self, Apart, Dataset, MadeUp, cached, classes, doubts};
use crate::cost::cost;
use crate::inputs::{self, Batches, Fed, InputSpec, Inputs, Part, Preprocess, read_npy};
use crate::model::{Index, Model};
use crate::report;
use crate::run::{Runtime, misfit};

/// Runs on made-up inputs: to measure with, and to fit to or choose by.
const SYNTHETIC: usize = 4;

/// What the model wants, with the shapes that the user pinned; inputs without a declared rank have that of the pin, or of the arrays
/// in `data`. Errors: pins that do not fit.
pub(super) fn specs(
    model: &Model,
    pins: &Pins,
    data: Option<&Path>,
) -> anyhow::Result<Vec<InputSpec>> {
    let declared = calibrate::declared_inputs(model, pins, data);
    // Sequences, maps and inputs of unknown rank can be given by test sets only, which need no specification.
    for value in &model.index().graph(Index::MAIN).inputs {
        let name = &model.index().value(*value).name;
        if pins.contains_key(name) && !declared.iter().any(|spec| spec.name == *name) {
            bail!("input '{name}' is no tensor, so --input cannot pin it");
        }
    }
    Ok(calibrate::pinned_inputs(model, declared, pins)?)
}

/// The pins of the command line.
pub(super) fn pins(args: &[super::values::Pin]) -> Pins {
    args.iter()
        .map(|pin| (pin.name.clone(), pin.dims.clone()))
        .collect()
}

/// The input shapes at which operations are counted: the same in all commands, whatever inputs are at hand. What is not
/// pinned is as made-up inputs are: batch 1, sequences of 32 (or, where the model computes nothing of so few, 512 or 16000),
/// pictures of 224 × 224.
pub(super) fn counted(model: &Model, specs: &[InputSpec]) -> Pins {
    inputs::counting_shapes(specs, |shapes| cost(model, shapes).macs > 0.0)
}

/// What inputs are wanted for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use<'a> {
    /// Class ids of what is measured on.
    pub labels: Option<&'a Path>,
    /// Inputs of the user's to measure on.
    pub verify: Option<&'a Path>,
    /// Whether something is fitted to the others or chosen by them, so that some have to be kept apart.
    pub chooses: bool,
    /// Whether so much is fitted that what is made up should be as much as is worth its time.
    pub fits: bool,
}

/// Inputs, and what is to be said of them.
#[derive(Default)]
pub(super) struct GivenData {
    pub data: Dataset,
    pub fed: Option<report::FedReport>,
}

impl GivenData {
    /// Inputs that nothing is measured on here. Errors: they cannot be read.
    pub fn told(inputs: &Inputs) -> anyhow::Result<Self> {
        let fed = Fed::look(inputs, inputs)?;
        Ok(GivenData {
            data: Dataset::new(cached(inputs.clone())),
            fed: Some(convert::fed(&fed)),
        })
    }

    /// What the model is fed, in one line.
    pub fn line(&self) -> &str {
        self.fed.as_ref().map_or("none", |fed| fed.line.as_str())
    }

    /// Holds what a model knows of the inputs that it was made for against these, and warns.
    pub fn doubt(&mut self, model: &Model, runtime: &dyn Runtime, watch: &Watch) {
        let Some(fed) = &mut self.fed else { return };
        let inputs = if self.data.synthetic {
            self.data.apart.as_ref().map(|apart| &apart.inputs)
        } else {
            Some(&self.data.inputs)
        };
        if let Some(inputs) =
            inputs.filter(|_| !self.data.measured_on_made_up() && fed.doubts.is_empty())
        {
            fed.doubts.extend(doubts(model, &**inputs, runtime));
        }
        fed.doubts
            .iter()
            .for_each(|doubt| watch.warn(&format!("{doubt}; check --scale, --mean and --std")));
    }
}

/// Opens the inputs, or makes some up. Errors name the file, the array and what was expected.
pub(super) fn inputs(
    model: &Model,
    args: &DataArgs,
    wanted: Use,
    watch: &Watch,
) -> anyhow::Result<GivenData> {
    let specs = specs(model, &pins(&args.input), args.data.as_deref())?;
    let mut opened = OpenedData::open(model, &specs, args, wanted, watch)?;
    if let Some(path) = wanted.verify {
        let others = others(path, &specs, args, watch)?;
        let labels = wanted.labels_of(model, &others, &all(&others))?;
        return opened.beside(others, labels);
    }
    if !wanted.chooses {
        opened.kept.clear();
    }
    if opened.kept.is_empty() {
        if wanted.chooses && !opened.read.synthetic {
            watch.warn("a single input: what is measured is measured on the input that was fitted to; give more, or --verify-data");
        }
        let labels = wanted.labels_of(model, &opened.read, &all(&opened.read))?;
        return Ok(opened.whole(labels));
    }
    let labels = wanted.labels_of(model, &opened.read, &opened.kept)?;
    Ok(opened.divided(labels))
}

impl Use<'_> {
    /// The labels of some runs, where there are any.
    fn labels_of(
        &self,
        model: &Model,
        inputs: &Inputs,
        runs: &[usize],
    ) -> anyhow::Result<Option<Vec<i64>>> {
        self.labels
            .map(|file| labels_of(inputs, runs, file, classes(model)))
            .transpose()
    }
}

fn all(inputs: &Inputs) -> Vec<usize> {
    (0..inputs.len()).collect()
}

/// Opens the inputs to measure on, and warns where they are those of `--data`.
fn others(
    path: &Path,
    specs: &[InputSpec],
    args: &DataArgs,
    watch: &Watch,
) -> anyhow::Result<Inputs> {
    let every = DataArgs {
        samples: None,
        ..args.clone()
    };
    let others = read(path, specs, &every, watch)?;
    let whole = |path: &Path| path.canonicalize().ok();
    if args
        .data
        .as_ref()
        .is_some_and(|data| whole(data).is_some() && whole(data) == whole(path))
    {
        watch.warn("--verify-data is the file of --data: what is measured on inputs that were fitted to flatters");
    }
    Ok(others)
}

/// Inputs that were opened or made up, before it is settled what is measured on which.
struct OpenedData {
    read: Inputs,
    /// The same, those that take long to make kept.
    ready: Arc<dyn Batches>,
    fed: Fed,
    /// Runs to be kept apart where something is fitted to the others.
    kept: Vec<usize>,
    /// Names of inputs of which the file does not tell which numbers come together.
    guessed: Vec<String>,
}

impl OpenedData {
    fn open(
        model: &Model,
        specs: &[InputSpec],
        args: &DataArgs,
        wanted: Use,
        watch: &Watch,
    ) -> anyhow::Result<Self> {
        let (read, kept, guessed) = match &args.data {
            Some(path) => {
                let read = read(path, specs, args, watch)?;
                let kept = inputs::apart(read.len(), read.samples);
                (read, kept, Vec::new())
            }
            None => {
                let made = made_up(model, specs, args, wanted, watch)?;
                (made.inputs, made.apart, made.guessed)
            }
        };
        let ready = cached(read.clone());
        Ok(OpenedData {
            fed: Fed::look(&read, &*ready)?,
            read,
            ready,
            kept,
            guessed,
        })
    }

    /// Measures on inputs of their own, with these labels.
    fn beside(mut self, others: Inputs, labels: Option<Vec<i64>>) -> anyhow::Result<GivenData> {
        let others_ready = cached(others.clone());
        let measured = Fed::look(&others, &*others_ready)?;
        if self.fed.doubts.is_empty() {
            self.fed.doubts.clone_from(&measured.doubts);
        }
        let mut said = convert::fed(&self.fed);
        said.line += &format!("; measured on {}", measured.line());
        let apart = Apart {
            inputs: others_ready,
            synthetic: false,
            labels,
        };
        // What would be kept apart of made-up inputs is of kinds that nothing is to be fitted to.
        let fitted: Arc<dyn Batches> = if self.read.synthetic {
            Arc::new(Part::split(&self.ready, &self.kept).1)
        } else {
            self.ready.clone()
        };
        let data = Dataset {
            apart: Some(apart),
            ..self.dataset(fitted)
        };
        Ok(GivenData {
            data,
            fed: Some(said),
        })
    }

    /// Fits to all and measures on all, with these labels.
    fn whole(self, labels: Option<Vec<i64>>) -> GivenData {
        let fed = Some(convert::fed(&self.fed));
        let inputs = self.ready.clone();
        let data = Dataset {
            labels,
            ..self.dataset(inputs)
        };
        GivenData { data, fed }
    }

    /// Measures on the runs that are kept apart, with these labels.
    fn divided(self, labels: Option<Vec<i64>>) -> GivenData {
        let fed = Some(convert::fed(&self.fed));
        let (kept, rest) = Part::split(&self.ready, &self.kept);
        let apart = Apart {
            inputs: Arc::new(kept),
            synthetic: self.read.synthetic,
            labels,
        };
        let data = Dataset {
            apart: Some(apart),
            ..self.dataset(Arc::new(rest))
        };
        GivenData { data, fed }
    }

    fn dataset(self, inputs: Arc<dyn Batches>) -> Dataset {
        Dataset {
            inputs,
            synthetic: self.read.synthetic,
            preparation: self.fed.preparation(),
            guessed: self.guessed,
            ..Default::default()
        }
    }
}

/// Makes up inputs. Errors: one that cannot be made up.
fn made_up(
    model: &Model,
    specs: &[InputSpec],
    args: &DataArgs,
    wanted: Use,
    watch: &Watch,
) -> anyhow::Result<MadeUp> {
    unranked(model, specs)?;
    if misfit(model, &InputSpec::made_up(specs)).is_some() {
        return Ok(MadeUp::hollow(specs, watch.memory)?);
    }
    watch.warn("no --data: the model is run on made-up inputs, which say little about how it behaves on real ones");
    let (seed, memory) = (args.seed, watch.memory);
    let few = if wanted.chooses && wanted.verify.is_none() {
        2 * SYNTHETIC
    } else {
        SYNTHETIC
    };
    let made = match args.samples {
        Some(samples) => MadeUp::of(specs, samples, seed, memory),
        None if wanted.fits => {
            let macs = cost(model, &counted(model, specs)).macs;
            MadeUp::worth(specs, macs, seed, memory)
        }
        None => MadeUp::of(specs, few, seed, memory),
    };
    Ok(made?)
}

/// Errors: a tensor of unknown rank, for which nothing can be made up.
fn unranked(model: &Model, specs: &[InputSpec]) -> anyhow::Result<()> {
    match calibrate::unranked_input(model, specs) {
        Some(name) => bail!(
            "input '{name}' has no declared shape: give one with --input {name}=1x…, or inputs with --data"
        ),
        None => Ok(()),
    }
}

/// Opens the inputs that the user gives; batches are made when they are asked for.
pub(super) fn read(
    path: &Path,
    specs: &[InputSpec],
    args: &DataArgs,
    watch: &Watch,
) -> anyhow::Result<Inputs> {
    let list = |numbers: &Option<super::values::Numbers>| {
        numbers
            .as_ref()
            .map(|numbers| numbers.0.clone())
            .unwrap_or_default()
    };
    let preprocess = Preprocess {
        scale: args.scale,
        mean: list(&args.mean),
        std: list(&args.std),
    };
    let options = inputs::LoadOptions {
        samples: args.samples,
        batch: None,
        preprocess,
    };
    let read = inputs::load(path, specs, &options)?;
    read.notes
        .iter()
        .for_each(|note| watch.warn(&format!("{}: {note}", path.display())));
    Ok(read)
}

/// The labels of all samples of some runs, in order.
fn labels_of(
    inputs: &Inputs,
    runs: &[usize],
    file: &Path,
    classes: Option<i64>,
) -> anyhow::Result<Vec<i64>> {
    let array = read_npy(file)?;
    let Some(labels) = array.to_i64() else {
        bail!(
            "{}: labels are whole numbers, this array holds {}",
            file.display(),
            array.dtype
        );
    };
    let places = runs.iter().flat_map(|run| inputs.places(*run));
    let labelled: Option<Vec<i64>> = places.map(|place| labels.get(place).copied()).collect();
    if let Some(classes) = classes
        && let Some((place, label)) = labels
            .iter()
            .enumerate()
            .find(|(_, label)| !(0..classes).contains(*label))
    {
        let from_one = if !labels.contains(&0) && labels.iter().max() == Some(&classes) {
            "; are they counted from 1?"
        } else {
            ""
        };
        bail!(
            "{}: label {label} of sample {place} is none of the model's {classes} classes, 0 to {}{from_one}",
            file.display(),
            classes - 1
        );
    }
    match labelled {
        Some(labelled) => Ok(labelled),
        None => bail!(
            "{}: {} labels are fewer than the {} samples",
            file.display(),
            labels.len(),
            inputs.samples
        ),
    }
}
