//! Inputs to run models on, from files or made up.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::args::DataArgs;
use super::convert;
use super::labels::labels_of;
use super::watch::Watch;
use crate::analysis::Pins;
use crate::calibrate::{self, Apart, Dataset, MadeUp, ModelInputs, cached, classes, doubts};
use crate::cost::cost;
use crate::inputs::{self, Batches, Fed, InputSpec, Inputs, Part, Preprocess};
use crate::model::{Index, Model};
use crate::report;
use crate::run::{Runtime, misfit};

/// Runs on made-up inputs: to measure with, and to fit to or choose by.
const SYNTHETIC: usize = 4;
/// Inputs named in a message, at most.
const NAMED: usize = 6;

/// What the model wants, with the shapes that the user pinned; inputs without a declared rank have that of the pin, or of the arrays
/// in `data`. Operations are counted at its shapes: the same in all commands, whatever inputs are at hand. Errors: pins that do
/// not fit.
pub(super) fn wanted(
    model: &Model,
    pins: &Pins,
    data: Option<&Path>,
) -> anyhow::Result<ModelInputs> {
    let declared = calibrate::declared_inputs(model, pins, data);
    // Sequences, maps and inputs of unknown rank can be given by test sets only, which need no specification.
    for value in &model.index().graph(Index::MAIN).inputs {
        let name = &model.index().value(*value).name;
        if pins.contains_key(name) && !declared.iter().any(|spec| spec.name == *name) {
            bail!("input '{name}' is no tensor, so --input cannot pin it");
        }
    }
    Ok(ModelInputs::new(model, declared, pins)?)
}

/// The pins of the command line.
pub(super) fn pins(args: &[super::values::Pin]) -> Pins {
    args.iter()
        .map(|pin| (pin.name.clone(), pin.dims.clone()))
        .collect()
}

/// What inputs are wanted for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use<'a> {
    /// Class ids of what is measured on.
    pub labels: Option<&'a Path>,
    /// Class ids of what is learnt from.
    pub learnt: Option<&'a Path>,
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
    /// The shapes that were fed, where some extents of them are guesses.
    pub guessed: Option<Pins>,
}

impl GivenData {
    /// Inputs that nothing is measured on here. Errors: they cannot be read.
    pub fn told(inputs: &Inputs) -> anyhow::Result<Self> {
        let fed = Fed::look(inputs, inputs)?;
        Ok(GivenData {
            data: Dataset::new(cached(inputs.clone())),
            fed: Some(convert::fed(&fed)),
            guessed: None,
        })
    }

    /// What to say where the model does not run on inputs of guessed shapes: what these are, and how to give others; else nothing.
    pub fn guess(&self) -> String {
        let Some(shapes) = &self.guessed else {
            return String::new();
        };
        let shape =
            |(name, dims): (&String, &Vec<i64>)| format!("{name} {}", inputs::dims_text(dims));
        let named: Vec<String> = shapes.iter().take(NAMED).map(shape).collect();
        let more = match shapes.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "; it was fed {}{more}, shapes that are guessed where the model leaves them open: give others with --input NAME=SHAPE, or inputs with --data",
            named.join(", ")
        )
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
    (model, ends): (&Model, &ModelInputs),
    args: &DataArgs,
    wanted: Use,
    watch: &Watch,
) -> anyhow::Result<GivenData> {
    let mut opened = OpenedData::open((model, ends), args, wanted, watch)?;
    if let Some(path) = wanted.verify {
        let others = others(path, &ends.specs, args, watch)?;
        let labels = wanted.labels_of(model, &others, &all(&others))?;
        opened.learnt = wanted.learnt_of(model, &opened.read, &all(&opened.read))?;
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
    let mut rest = all(&opened.read);
    rest.retain(|run| !opened.kept.contains(run));
    opened.learnt = wanted.learnt_of(model, &opened.read, &rest)?;
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

    /// The same of what is learnt from.
    fn learnt_of(
        &self,
        model: &Model,
        inputs: &Inputs,
        runs: &[usize],
    ) -> anyhow::Result<Option<Vec<i64>>> {
        self.learnt
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
    /// Class ids of what is learnt from.
    learnt: Option<Vec<i64>>,
    /// Runs to be kept apart where something is fitted to the others.
    kept: Vec<usize>,
    /// Names of inputs of which the file does not tell which numbers come together.
    guessed: Vec<String>,
    /// The shapes of what was made up, where some extents are guesses.
    guessed_shapes: Option<Pins>,
}

impl OpenedData {
    fn open(
        (model, ends): (&Model, &ModelInputs),
        args: &DataArgs,
        wanted: Use,
        watch: &Watch,
    ) -> anyhow::Result<Self> {
        let (read, kept, guessed) = match &args.data {
            Some(path) => {
                let read = read(path, &ends.specs, args, watch)?;
                let kept = inputs::apart(read.len(), read.samples);
                (read, kept, Vec::new())
            }
            None => {
                let made = made_up((model, ends), args, wanted, watch)?;
                (made.inputs, made.apart, made.guessed)
            }
        };
        let ready = cached(read.clone());
        Ok(OpenedData {
            fed: Fed::look(&read, &*ready)?,
            read,
            ready,
            learnt: None,
            kept,
            guessed,
            guessed_shapes: (args.data.is_none() && ends.guesses()).then(|| ends.shapes.clone()),
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
        let guessed = self.guessed_shapes.take();
        let data = Dataset {
            apart: Some(apart),
            ..self.dataset(fitted)
        };
        Ok(GivenData {
            data,
            fed: Some(said),
            guessed,
        })
    }

    /// Fits to all and measures on all, with these labels.
    fn whole(mut self, labels: Option<Vec<i64>>) -> GivenData {
        let fed = Some(convert::fed(&self.fed));
        let guessed = self.guessed_shapes.take();
        let inputs = self.ready.clone();
        let data = Dataset {
            labels,
            ..self.dataset(inputs)
        };
        GivenData { data, fed, guessed }
    }

    /// Measures on the runs that are kept apart, with these labels.
    fn divided(mut self, labels: Option<Vec<i64>>) -> GivenData {
        let fed = Some(convert::fed(&self.fed));
        let guessed = self.guessed_shapes.take();
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
        GivenData { data, fed, guessed }
    }

    fn dataset(self, inputs: Arc<dyn Batches>) -> Dataset {
        Dataset {
            inputs,
            labels: self.learnt,
            synthetic: self.read.synthetic,
            preparation: self.fed.preparation(),
            guessed: self.guessed,
            ..Default::default()
        }
    }
}

/// Makes up inputs. Errors: one that cannot be made up.
fn made_up(
    (model, ends): (&Model, &ModelInputs),
    args: &DataArgs,
    wanted: Use,
    watch: &Watch,
) -> anyhow::Result<MadeUp> {
    unranked(model, &ends.specs)?;
    if misfit(model, &ends.shapes).is_some() {
        return Ok(MadeUp::hollow(&ends.closed(), watch.memory)?);
    }
    let specs = &ends.closed();
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
            let macs = cost(model, &ends.shapes).macs;
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
