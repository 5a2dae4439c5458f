//! A model made ready for pruning: analysed, in a form in which nothing is tied by chance.
//!
//! Calls of functions become nodes, what is computed from constants is stored, accidents of merging are undone. All that
//! is noted, so that plans and costs speak of the file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::allocate::{Choice, least_cuts};
use crate::analysis::{Analysis, Options, Pins, Selection, analyse, known, ranked, unranked};
use crate::cost::{CostModel, Subject, bytes, params};
use crate::linear::{Bias, views};
use crate::model::{
    Copies, LoadError, Model, Origins, Sharing, TensorRef, functions, shared, unshare,
};
use crate::ops::meaning;
use crate::plan::Plan;
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
        }
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
        let mut workspace = apart(model, &origins, options)?;
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
        workspace.analysis = analyse(&workspace.working, options);
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
        let mut model = self.cut(&self.analysis.select([]), notes)?;
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
        crate::model::reshare(&mut pruned, &self.origins.copies)?;
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
        Plan::new(
            &self.working,
            &self.analysis,
            &self.origins,
            &choice.removed,
            sha256,
        )
    }
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

/// Analyses a model with copies for the readers of shared constants where these are shared by chance, or where copies pay.
fn apart(
    model: Cow<Model>,
    origins: &Origins,
    options: &Options,
) -> Result<Workspace, WorkspaceError> {
    let sharing = shared(&model);
    let named = |wanted: &dyn Fn(Sharing) -> bool| -> BTreeSet<String> {
        sharing
            .iter()
            .filter(|(_, sharing)| wanted(**sharing))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let by_chance = named(&|sharing| sharing == Sharing::Accident);
    let matrices = named(&|sharing| sharing != Sharing::Accident);
    if matrices.is_empty() {
        return with_copies(model.into_owned(), origins, &by_chance, options);
    }
    let copied = |apart: &BTreeSet<String>| {
        let apart = by_chance.union(apart).cloned().collect();
        with_copies(model.as_ref().clone(), origins, &apart, options)
    };
    let tied = copied(&BTreeSet::new())?;
    let reached = reached(&tied);
    let stuck: BTreeSet<String> = matrices
        .iter()
        .filter(|name| !reached.contains(*name))
        .cloned()
        .collect();
    let small = named(&|sharing| sharing == Sharing::Small);
    let asked: BTreeSet<String> = stuck.union(&small).cloned().collect();
    if asked.is_empty() {
        return Ok(tied);
    }
    let all = copied(&asked)?;
    let paying = paying(&all, &asked, &stuck);
    if paying == asked {
        return Ok(all);
    }
    if paying.is_empty() {
        return Ok(tied);
    }
    copied(&paying)
}

/// Analyses a model in which each reader of these constants has its own.
fn with_copies(
    model: Model,
    origins: &Origins,
    apart: &BTreeSet<String>,
    options: &Options,
) -> Result<Workspace, WorkspaceError> {
    let (working, copies) = unshare(model, apart, &|node| meaning(node).reads_extents)?;
    let mut origins = origins.clone();
    origins.copies.extend(copies);
    let analysis = analyse(&working, options);
    Ok(Workspace::plain(working, analysis, &origins, &options.pins))
}

/// The constants that some group reaches, by the name that they had before they were copied.
fn reached(workspace: &Workspace) -> BTreeSet<String> {
    let weights = workspace
        .analysis
        .groups
        .iter()
        .flat_map(|group| &group.weights);
    weights
        .map(|(value, _)| workspace.source(*value).to_owned())
        .collect()
}

/// Those of some shared matrices for which copies pay: of one that cannot be cut otherwise, where some group's cut saves
/// more than it costs; of others, where every group's does that has lost half of its units.
fn paying(
    workspace: &Workspace,
    asked: &BTreeSet<String>,
    stuck: &BTreeSet<String>,
) -> BTreeSet<String> {
    let analysis = &workspace.analysis;
    let mut pays: BTreeMap<&str, (bool, bool)> = asked
        .iter()
        .map(|name| (name.as_str(), (false, true)))
        .collect();
    let holds = |group: &usize| {
        analysis.groups[*group]
            .weights
            .iter()
            .any(|(value, _)| asked.contains(workspace.source(*value)))
    };
    let holding: Vec<usize> = (0..analysis.groups.len()).filter(holds).collect();
    for (group, least) in holding
        .iter()
        .zip(least_cuts(workspace.subject(), &holding))
    {
        let group = &analysis.groups[*group];
        let once = least.is_some();
        let soon = least.is_some_and(|least| least * 2 <= group.units.len());
        for (value, _) in &group.weights {
            if let Some((some, every)) = pays.get_mut(workspace.source(*value)) {
                (*some, *every) = (*some || once, *every && soon);
            }
        }
    }
    let kept = pays
        .into_iter()
        .filter(|(name, (some, every))| if stuck.contains(*name) { *some } else { *every });
    kept.map(|(name, _)| name.to_owned()).collect()
}

impl Workspace {
    fn source(&self, value: crate::model::ValueId) -> &str {
        self.origins.source(&self.working.index().value(value).name)
    }
}
