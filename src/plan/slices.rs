//! What a selection takes from the constants and from the inputs and outputs of the file.

use std::collections::BTreeMap;

use super::SliceCut;
use crate::analysis::{Analysis, Selection};
use crate::constants::{Family, Origins};
use crate::model::{Index, Model, ValueId};

/// What goes from one constant of the analysed model: its readers, and indices by axis.
type Member = (Vec<(String, u32)>, BTreeMap<usize, Vec<u32>>);

/// What goes from one constant of the file, and who reads it.
pub(super) struct Held {
    pub name: String,
    computed: bool,
    /// The constants of the analysed model that stand for it.
    members: Vec<Member>,
}

impl Held {
    /// What goes: of all readers together where they are cut alike along an axis, else of each apart.
    pub fn cuts(&self) -> Vec<SliceCut> {
        let axes: std::collections::BTreeSet<usize> = self
            .members
            .iter()
            .flat_map(|(_, gone)| gone.keys().copied())
            .collect();
        let mut cuts = Vec::new();
        for axis in axes {
            let gone = |member: &Member| member.1.get(&axis).cloned().unwrap_or_default();
            let first = self.members.first().map(gone).unwrap_or_default();
            if self.members.iter().all(|member| gone(member) == first) {
                cuts.push(self.cut(axis, first, None));
                continue;
            }
            for member in self
                .members
                .iter()
                .filter(|(_, gone)| gone.contains_key(&axis))
            {
                cuts.extend(
                    member
                        .0
                        .iter()
                        .map(|reader| self.cut(axis, gone(member), Some(reader.clone()))),
                );
            }
        }
        cuts
    }

    fn cut(&self, axis: usize, indices: Vec<u32>, reader: Option<(String, u32)>) -> SliceCut {
        SliceCut {
            value: self.name.clone(),
            axis,
            indices,
            reader,
            computed: self.computed,
        }
    }

    /// Whether a plan may say that these slices go: the readers that it speaks of lose them.
    pub fn covers(&self, cut: &SliceCut) -> bool {
        let loses = |gone: &BTreeMap<usize, Vec<u32>>| {
            gone.get(&cut.axis).is_some_and(|gone| {
                cut.indices
                    .iter()
                    .all(|index| gone.binary_search(index).is_ok())
            })
        };
        match &cut.reader {
            None => self.members.iter().all(|(_, gone)| loses(gone)),
            Some(reader) => self
                .members
                .iter()
                .any(|(readers, gone)| readers.contains(reader) && loses(gone)),
        }
    }
}

/// What a selection takes from the constants of the file, by name; in the order of the file.
pub(super) fn held(
    model: &Model,
    analysis: &Analysis,
    origins: &Origins,
    selection: &Selection,
) -> Vec<Held> {
    let families = origins.families(model).into_iter().filter(|family| {
        !family
            .members
            .iter()
            .any(|value| origins.is_added(model, *value))
    });
    families
        .filter_map(|family| of_family(model, analysis, selection, family))
        .collect()
}

fn of_family(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
    family: Family,
) -> Option<Held> {
    let member = |value: &ValueId| {
        let tensor = model.tensor_proto(*value)?;
        let dims: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
        Some((*value, gone(analysis, selection, *value, &dims)))
    };
    let members: Vec<(ValueId, BTreeMap<usize, Vec<u32>>)> =
        family.members.iter().filter_map(member).collect();
    if members.iter().all(|(_, gone)| gone.is_empty()) {
        return None;
    }
    let readers = |value: ValueId| {
        let readers = &model.index().value(value).readers;
        readers
            .iter()
            .map(|(node, slot)| (model.node_in_plan(*node), *slot))
            .collect()
    };
    let members = members
        .into_iter()
        .map(|(value, gone)| (readers(value), gone))
        .collect();
    Some(Held {
        name: family.name,
        computed: family.computed,
        members,
    })
}

/// The slices that a selection takes from graph inputs and outputs.
pub(super) fn of_ends(model: &Model, analysis: &Analysis, selection: &Selection) -> Vec<SliceCut> {
    let main = model.index().graph(Index::MAIN);
    let mut slices: Vec<SliceCut> = Vec::new();
    for value in main
        .inputs
        .iter()
        .chain(&main.outputs)
        .filter(|value| model.tensor_proto(**value).is_none())
    {
        let name = &model.index().value(*value).name;
        // An axis of unknown extent never loses slices.
        let dims: Vec<usize> = analysis
            .facts
            .of(*value)
            .shape
            .iter()
            .flatten()
            .map(|dim| dim.count().unwrap_or(0))
            .collect();
        if !slices.iter().any(|slice| slice.value == *name) {
            let gone = gone(analysis, selection, *value, &dims).into_iter();
            slices.extend(gone.map(|(axis, indices)| SliceCut {
                value: name.clone(),
                axis,
                indices,
                reader: None,
                computed: false,
            }));
        }
    }
    slices
}

/// By axis the indices that go.
fn gone(
    analysis: &Analysis,
    selection: &Selection,
    value: ValueId,
    dims: &[usize],
) -> BTreeMap<usize, Vec<u32>> {
    let one = |(axis, dim): (usize, &usize)| {
        let kept = analysis.kept_axis(value, axis, selection)?;
        let mut gone = vec![true; *dim];
        for index in kept {
            if let Some(gone) = gone.get_mut(index as usize) {
                *gone = false;
            }
        }
        let indices: Vec<u32> = gone
            .iter()
            .enumerate()
            .filter(|(_, gone)| **gone)
            .map(|(index, _)| index as u32)
            .collect();
        (!indices.is_empty()).then_some((axis, indices))
    };
    dims.iter().enumerate().filter_map(one).collect()
}
