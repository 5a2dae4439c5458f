//! A model made ready for pruning: analysed, in a form in which nothing is tied by chance.
//!
//! Calls of functions become nodes, what is computed from constants is stored, accidents of merging are undone. All that
//! is noted, so that plans and costs speak of the file.

mod copies;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::allocate::Choice;
use crate::analysis::{Analysis, Options, Pins, Selection, analyse, known, ranked, unranked};
use crate::constants::{Copies, Origins, functions};
use crate::cost::{CostModel, Subject, bytes, params};
use crate::linear::{Bias, views};
use crate::model::{LoadError, Model, TensorRef};
use crate::plan::{ConstantRotation, Plan};
use crate::rotate;
use crate::run::{Runtime, Tensors, TractRuntime, without_sequences};
use crate::surgery::SurgeryError;
use crate::verify::Exactness;
use crate::{clean, surgery, verify};

/// Why a model cannot be made ready, or a cut cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The model does not hold together.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// A cut cannot be carried out.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// A model made ready for pruning.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The model, constants that are shared by chance given to each reader apart.
    pub working: Model,
    /// What is known of it.
    pub analysis: Analysis,
    /// What it costs, by what is kept.
    pub cost: CostModel,
    /// What its constants are in the file.
    pub origins: Origins,
    /// What its constants were before they were brought to another basis, if they were.
    pub basis: Option<ChangedBasis>,
}

/// A model before a change of basis, and what was changed.
#[derive(Clone, Debug)]
pub struct ChangedBasis {
    /// The model as it was.
    pub before: Model,
    /// The constants that are others now.
    pub rotations: Vec<ConstantRotation>,
}

/// Some runs of an original.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRuns<'a> {
    /// What it was fed.
    pub inputs: &'a [Tensors],
    /// What it gave, run by run.
    pub outputs: &'a [Vec<TensorRef>],
    /// What two ways of running it differ by.
    pub noise: f64,
}

impl Workspace {
    /// A model that was cut before: its constants have the same origins as before, and costs are its own.
    pub(crate) fn plain(
        working: Model,
        analysis: Analysis,
        origins: &Origins,
        pins: &Pins,
    ) -> Self {
        Workspace {
            cost: CostModel::new(&working, &analysis, origins, pins),
            working,
            analysis,
            origins: origins.clone(),
            basis: None,
        }
    }

    /// The model in the basis of the file.
    pub(crate) fn unrotated(&self) -> &Model {
        self.basis
            .as_ref()
            .map_or(&self.working, |basis| &basis.before)
    }

    /// What is known of the model and what it costs.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            analysis: &self.analysis,
            cost: &self.cost,
        }
    }

    /// Analyses a model. A matrix that several nodes read stays one, unless a cut that only copies for the readers allow
    /// saves more than the copies cost.
    pub fn new(model: &Model, options: &Options) -> Result<Self, WorkspaceError> {
        Workspace::of(Cow::Borrowed(model), options)
    }

    /// The same of a model that nobody else needs: large ones are then held once.
    pub fn owned(model: Model, options: &Options) -> Result<Self, WorkspaceError> {
        Workspace::of(Cow::Owned(model), options)
    }

    fn of(mut model: Cow<Model>, options: &Options) -> Result<Self, WorkspaceError> {
        let of_the_file = (params(&model), bytes(&model));
        let mut origins = Origins::default();
        // What is declared without a rank has that of what it is run with.
        if let Some((given, names)) = ranked(&model, &options.pins) {
            origins.ranked = names;
            model = Cow::Owned(given);
        }
        // A function is one body for calls of different shapes; each call gets its own.
        if let Some((inlined, named)) = functions::inlined(&model)? {
            origins.named = named;
            model = Cow::Owned(inlined);
        }
        // What goes through a sequence is the same tensor before and behind it.
        if let Some(listed) = without_sequences(&model) {
            model = Cow::Owned(listed);
        }
        // Statistics of constants are constants; computed in the model, they would tie the channels that they run over.
        let runtime = TractRuntime::new(true).within(options.memory);
        if let Some((folded, computed)) = clean::fold_statistics(&model, &runtime)? {
            origins.copies = computed_twice(&computed, &origins.named);
            origins.computed = computed;
            model = Cow::Owned(folded);
        }
        let mut workspace = copies::apart(model, &origins, options)?;
        workspace.cost.set_file(of_the_file.0, of_the_file.1);
        Ok(workspace)
    }

    /// The same, with a bias of zeros in every product that could have one and has none, for recovery to use: what stays
    /// can then make up for the mean of what goes. [`Workspace::reshare`] takes out those that stay zero.
    pub fn with_recovery_biases(model: &Model, options: &Options) -> Result<Self, WorkspaceError> {
        let mut workspace = Workspace::new(model, options)?;
        let found = views(&workspace.working, &workspace.analysis.relations);
        let added = Bias::add_missing(&mut workspace.working, &found);
        if added.is_empty() {
            return Ok(workspace);
        }
        let original = workspace.cost.original();
        workspace.origins.added = added;
        workspace.working.reindex()?;
        workspace.analysis = analysed(&workspace.working, options);
        workspace.cost = CostModel::new(
            &workspace.working,
            &workspace.analysis,
            &workspace.origins,
            &options.pins,
        );
        workspace.cost.set_file(original.params, original.bytes);
        Ok(workspace)
    }

    /// Applies a selection; `notes` go into the model's metadata.
    pub fn cut(
        &self,
        selection: &Selection,
        notes: &[(&str, String)],
    ) -> Result<Model, WorkspaceError> {
        self.reshare(self.cut_unshared(selection, notes)?)
    }

    /// Applies a selection, every reader of a shared constant keeping its own copy.
    pub fn cut_unshared(
        &self,
        selection: &Selection,
        notes: &[(&str, String)],
    ) -> Result<Model, WorkspaceError> {
        Ok(surgery::apply(
            &self.working,
            &self.analysis,
            selection,
            notes,
        )?)
    }

    /// The model with nothing cut and all that no output needs taken out, without loss; `notes` go into its metadata.
    pub fn cleaned(&self, notes: &[(&str, String)]) -> Result<Model, WorkspaceError> {
        let nothing = self.analysis.select([]);
        let whole = surgery::apply(self.unrotated(), &self.analysis, &nothing, notes)?;
        let mut model = self.reshare(whole)?;
        let contents = known(&model);
        let options = clean::CleanOptions {
            contents: Some(&contents),
            fold_norms: false,
        };
        clean::clean(&mut model, options)?;
        Ok(model)
    }

    /// Merges copies that are still equal, and takes out added biases that were not used.
    pub fn reshare(&self, mut pruned: Model) -> Result<Model, WorkspaceError> {
        Bias::remove_idle(&mut pruned, &self.origins.added)?;
        crate::constants::reshare(&mut pruned, &self.origins.copies)?;
        unranked(&mut pruned, &self.origins.ranked);
        Ok(pruned)
    }

    /// Checks that every extent of a finished model is what was kept. Errors: one that is not.
    pub fn check(&self, pruned: &Model, selection: &Selection) -> Result<(), WorkspaceError> {
        Ok(surgery::agrees(
            pruned,
            &self.working,
            &self.analysis,
            selection,
        )?)
    }

    /// The selection of units by group.
    pub fn select(&self, removed: &[Vec<u32>]) -> Selection {
        self.analysis.select(
            removed
                .iter()
                .enumerate()
                .map(|(group, units)| (group, units.as_slice())),
        )
    }

    /// The masked original of a selection.
    pub fn masked(&self, selection: &Selection) -> Result<Model, WorkspaceError> {
        Ok(verify::masked(&self.working, &self.analysis, selection)?)
    }

    /// Whether a model is what a selection makes of this one. `original`: what this one gives.
    pub fn exactness(
        &self,
        selection: &Selection,
        pruned: &Model,
        runtime: &dyn Runtime,
        original: OriginalRuns,
    ) -> Exactness {
        let cut = verify::CutModels {
            working: &self.working,
            analysis: &self.analysis,
            selection,
            pruned,
        };
        let OriginalRuns {
            inputs,
            outputs,
            noise,
        } = original;
        verify::exactness(runtime, &cut, outputs, inputs, noise)
    }

    /// The plan of a choice of units.
    pub fn plan(&self, choice: &Choice, sha256: String) -> Plan {
        let plan = Plan::new(
            &self.working,
            &self.analysis,
            &self.origins,
            &choice.removed,
            sha256,
        );
        let basis = self.basis.as_ref().filter(|_| !plan.groups.is_empty());
        Plan {
            rotations: basis.map_or_else(Vec::new, |basis| basis.rotations.clone()),
            ..plan
        }
    }
}

/// Analyses a model, with the groups of directions that there are where these are asked for.
fn analysed(model: &Model, options: &Options) -> Analysis {
    let mut analysis = analyse(model, options);
    if options.directions {
        rotate::mark(model, &mut analysis);
    }
    analysis
}

/// What functions called several times compute alike from their constants: each is one of the first.
fn computed_twice(computed: &BTreeSet<String>, named: &BTreeMap<String, String>) -> Copies {
    let mut first: BTreeMap<&String, &String> = BTreeMap::new();
    let mut copies = Copies::new();
    for name in computed {
        let Some(in_file) = named.get(name) else {
            continue;
        };
        let leader = first.entry(in_file).or_insert(name);
        if *leader != name {
            copies.insert(name.clone(), (*leader).clone());
        }
    }
    copies
}
