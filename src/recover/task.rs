//! What is mended in one go: a layer, two in a row, or the cell of a recurrent layer.

use std::collections::BTreeSet;

use super::cell::{Cell, cells};
use super::layers::{Which, layers};
use super::mend::{GramProduct, mend, mend_both};
use super::patches::{Parts, Patches};
use super::request::{Fitting, Repair, Teacher};
use super::rows::{Layer, Rows, Taps};
use super::sample::Sample;
use crate::calibrate::Counting;
use crate::model::{Model, NodeId, ValueId};
use crate::run::Tensors;

/// One of them.
pub(super) enum Task {
    Layer(Box<Layer>),
    Cell(Box<Cell>),
}

/// All that is to be mended: layers, and cells that were touched.
/// Weights that others read too stay as they are, and so do those that are `held`, by name.
pub(super) fn tasks(
    teacher: Teacher,
    pruned: &Model,
    which: Which,
    held: &BTreeSet<String>,
) -> Vec<Task> {
    let is_held = |layer: &Layer| {
        let weight = pruned.index().value(layer.pruned.weight.constant);
        held.contains(&weight.name)
    };
    let is_free = |layer: &Layer| layer.pruned.weight.is_own() && !is_held(layer);
    let writable = layers(teacher, pruned, which)
        .into_iter()
        .filter(&is_free)
        .map(|layer| Layer {
            before: layer.before.filter(|first| is_free(first)),
            ..layer
        });
    let layers = writable.map(|layer| Task::Layer(Box::new(layer)));
    layers
        .chain(
            cells(teacher, pruned)
                .into_iter()
                .map(|cell| Task::Cell(Box::new(cell))),
        )
        .collect()
}

impl Task {
    /// The nodes that begin it, in the original and the pruned model.
    pub fn nodes(&self) -> (NodeId, NodeId) {
        match self {
            Task::Layer(layer) => {
                let first = layer.before.as_deref().unwrap_or(layer);
                (first.original.node, first.pruned.node)
            }
            Task::Cell(cell) => cell.nodes(),
        }
    }

    /// What is mended, if it is one.
    fn product(&self) -> &dyn GramProduct {
        match self {
            Task::Layer(layer) => &**layer,
            Task::Cell(cell) => &**cell,
        }
    }

    /// Two layers, the first one first.
    fn pair(&self) -> Option<(&Layer, &Layer)> {
        match self {
            Task::Layer(layer) => Some((layer.before.as_deref()?, layer)),
            Task::Cell(_) => None,
        }
    }

    /// What it reads in the pruned model, the second of two layers.
    pub fn data(&self) -> ValueId {
        match self {
            Task::Layer(layer) => layer.pruned.data,
            Task::Cell(cell) => cell.data(),
        }
    }

    /// What it gives in the pruned model.
    pub fn output(&self) -> Option<ValueId> {
        match self {
            Task::Layer(layer) => layer.pruned.output,
            Task::Cell(cell) => Some(cell.output()),
        }
    }
}

/// What a pass needs of both models for a task, by name.
pub(super) struct NamedLayer {
    own: Taps,
    /// Of the layer that is mended with it.
    first: Option<Taps>,
}

impl NamedLayer {
    /// `None`: the model does not name it.
    pub fn new(task: &Task, model: &Model, pruned: &Model) -> Option<Self> {
        let name = |model: &Model, value: ValueId| model.index().value(value).name.clone();
        let taps = |layer: &Layer| {
            Some(Taps {
                output: name(model, layer.original.output?),
                original_added: layer.original_aim.added.map(|added| name(model, added)),
                original_data: None,
                data: name(pruned, layer.pruned.data),
                added: layer.aim.added.map(|added| name(pruned, added)),
            })
        };
        match task {
            Task::Layer(layer) => match layer.before.as_deref() {
                Some(first) => Some(NamedLayer {
                    own: taps(layer)?,
                    first: Some(taps(first)?),
                }),
                None => Some(NamedLayer {
                    own: taps(layer)?,
                    first: None,
                }),
            },
            Task::Cell(cell) => Some(NamedLayer {
                own: cell.taps(model, pruned),
                first: None,
            }),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Taps> {
        self.first.iter().chain([&self.own])
    }

    pub fn of_original(&self) -> Vec<Option<&String>> {
        self.all()
            .flat_map(|taps| {
                [
                    Some(&taps.output),
                    taps.original_added.as_ref(),
                    taps.original_data.as_ref(),
                ]
            })
            .collect()
    }

    /// The second of two layers has its input from the first, as it is mended.
    pub fn of_pruned(&self) -> Vec<Option<&String>> {
        let added = self.all().map(|taps| taps.added.as_ref());
        added
            .chain([Some(&self.first.as_ref().unwrap_or(&self.own).data)])
            .collect()
    }

    /// The rows of one run (its number, and which positions of it count): of a task alone, or of two layers.
    pub fn rows(
        &self,
        task: &Task,
        (number, counting): (usize, Counting),
        original: &Tensors,
        pruned: &Tensors,
        runs: usize,
    ) -> (Option<Rows>, Option<Patches>) {
        let layer = match task {
            Task::Layer(layer) => layer,
            Task::Cell(cell) => {
                let rows = cell.rows(&self.own, (number, counting), original, pruned, runs);
                return (rows, None);
            }
        };
        match layer.before.as_deref().zip(self.first.as_ref()) {
            Some((first, taps)) => (
                None,
                layer.patches(
                    first,
                    (&self.own, taps),
                    (number, runs, counting),
                    original,
                    pruned,
                ),
            ),
            None => (
                layer.rows(
                    &self.own,
                    (number, counting),
                    original,
                    pruned,
                    layer.limit(runs),
                ),
                None,
            ),
        }
    }
}

/// What was found for a task: fitted and held out.
pub(super) struct Found {
    rows: [Sample<'static>; 2],
    patches: [Parts; 2],
}

impl Found {
    /// Nothing yet.
    pub fn new(task: &Task) -> Self {
        let rows = Sample::new(task.product().shape().groups);
        Found {
            rows: [rows.clone(), rows],
            patches: Default::default(),
        }
    }

    /// Adds what a run gave, held out or not.
    pub fn add(
        &mut self,
        task: &Task,
        held: bool,
        (rows, patches): (Option<Rows>, Option<Patches>),
    ) {
        if let Some(rows) = rows {
            self.rows[usize::from(held)].add(&rows);
        }
        if let (Some(patches), Some(pair)) = (patches, task.pair()) {
            self.patches[usize::from(held)].add(patches, pair);
        }
    }

    /// Mends what the rows are of.
    pub fn mend(self, pruned: &mut Model, task: &Task, fitting: &Fitting) -> Vec<Repair> {
        if let Some(pair) = task.pair() {
            let [fit, held] = self.patches.map(|parts| parts.finish(pair));
            if !fit.is_empty() && !held.is_empty() {
                return mend_both(pruned, pair, &fit, &held, fitting);
            }
        } else {
            let [fit, held] = &self.rows;
            if !fit.is_empty() && !held.is_empty() {
                return mend(pruned, task.product(), fit, held, fitting)
                    .into_iter()
                    .collect();
            }
        }
        let layer = task.output().map_or_else(String::new, |output| {
            pruned.index().value(output).name.clone()
        });
        tracing::debug!(layer, "no rows to fit or to judge by");
        Vec::new()
    }
}
