//! Groups of directions, brought to the basis in which few of them carry what is read.

use std::collections::BTreeSet;

use super::PruneError;
use super::stages::Stages;
use super::statistics::gathering;
use crate::analysis::{Kind, analyse};
use crate::calibrate::ChosenRuns;
use crate::evaluate::fitted_runs;
use crate::model::Model;
use crate::plan::ConstantRotation;
use crate::rotate::{linear_spaces, rotate};
use crate::run::{Runtime, Tensors};
use crate::verify::{TOLERANCE, largest_error};
use crate::workspace::{ChangedBasis, Workspace};

impl Stages<'_> {
    /// Changes the basis of the groups of directions that may be cut. Where that cannot be done, or the model then computes
    /// something else, all stays as it is and no group is one of directions. Says what the user should know of it.
    ///
    /// Errors: inputs that cannot be read, a stop asked for.
    pub(super) fn rotate(
        &self,
        workspace: &mut Workspace,
        example: Option<&Tensors>,
    ) -> Result<Vec<String>, PruneError> {
        if !self.request.directions() {
            return Ok(Vec::new());
        }
        let mut said: Vec<String> = of_heads(workspace).into_iter().collect();
        let groups = self.rotated_groups(workspace);
        if groups.is_empty() {
            return Ok(said);
        }
        match self.changed(workspace, &groups, example)? {
            Ok(basis) => workspace.basis = Some(basis),
            Err(reason) => {
                let options = crate::analysis::Options {
                    directions: false,
                    ..self.options()
                };
                workspace.analysis = analyse(&workspace.working, &options);
                said.push(format!("no units are directions: {reason}"));
            }
        }
        Ok(said)
    }

    /// The groups to be brought to another basis: those that may be cut, or those that a plan says.
    fn rotated_groups(&self, workspace: &Workspace) -> BTreeSet<usize> {
        let groups = &workspace.analysis.groups;
        let directions = |group: &usize| groups[*group].kind == Kind::Directions;
        let Some(plan) = &self.request.plan else {
            let candidates = self.request.candidates(workspace).into_iter();
            return candidates.filter(directions).collect();
        };
        let named = |group: &usize| {
            groups[*group].weights.iter().any(|(value, axis)| {
                let name = workspace.origins.in_file(&workspace.working, *value);
                let mut rotations = plan.rotations.iter();
                rotations.any(|rotation| rotation.axis == *axis && rotation.value == name)
            })
        };
        (0..groups.len()).filter(directions).filter(named).collect()
    }

    /// The model before and what was changed, where `workspace` now holds the model in the new basis; else why it does not.
    fn changed(
        &self,
        workspace: &mut Workspace,
        groups: &BTreeSet<usize>,
        example: Option<&Tensors>,
    ) -> Result<Result<ChangedBasis, &'static str>, PruneError> {
        if self.data.statistics.is_some() {
            return Ok(Err("statistics were taken in the basis of the file"));
        }
        let runtime = self.runtime.filter(|_| self.known.runs);
        let runs = fitted_runs(self.data.inputs.count());
        let on = runtime.map(|runtime| ChosenRuns {
            batches: &*self.data.inputs,
            numbers: &runs,
            runtime,
        });
        let before = &workspace.working;
        let (rotated, made) =
            rotate(before, &workspace.analysis, groups, on, self.work).map_err(gathering)?;
        if let (Some(runtime), Some(example)) = (runtime, example)
            && !same(before, &rotated, runtime, example)
        {
            return Ok(Err("the model computes something else in another basis"));
        }
        let (working, origins) = (&workspace.working, &workspace.origins);
        let mut rotations: Vec<ConstantRotation> = made
            .into_iter()
            .filter(|made| !origins.is_added(working, made.value))
            .map(|made| ConstantRotation {
                value: origins.in_file(working, made.value),
                axis: made.axis,
                digest: made.digest,
            })
            .collect();
        rotations.sort();
        rotations.dedup();
        let before = std::mem::replace(&mut workspace.working, rotated);
        Ok(Ok(ChangedBasis { before, rotations }))
    }
}

/// Whether two models compute the same but for rounding, as far as they run.
fn same(one: &Model, other: &Model, runtime: &dyn Runtime, example: &Tensors) -> bool {
    let run = |model: &Model| {
        let session = runtime.prepare_variant(model, example).ok()?;
        Some((session.run(example).ok()?, session.noise()))
    };
    match (run(one), run(other)) {
        (Some((expected, noise)), Some((found, _))) => {
            largest_error(&expected, &found, &expected) <= TOLERANCE.max(10.0 * noise)
        }
        (one, _) => one.is_none(),
    }
}

/// What is to be said of the heads whose basis is fixed.
fn of_heads(workspace: &Workspace) -> Option<String> {
    let (_, refused) = linear_spaces(&workspace.working, &workspace.analysis);
    let groups = &workspace.analysis.groups;
    let mut heads = refused
        .iter()
        .filter(|refused| groups[refused.group].kind == Kind::HeadDims);
    let first = heads.next()?;
    let more = match heads.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let id = &groups[first.group].id;
    Some(format!("{id}{more} has no directions: {}", first.reason))
}
