//! The layers that are to be mended, in both models, and which of them together.

use std::collections::BTreeMap;

use super::aim::Aim;
use super::request::Teacher;
use super::rows::Layer;
use crate::analysis::{Pins, infer, relate};
use crate::linear::{Bias, Linear, views};
use crate::model::{Model, ValueId};

/// Which layers are mended, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those whose inputs changed.
    Touched,
    /// The same; of two in a row with a function between that nothing else reads, the second holds the first.
    Joined,
    /// All of them.
    All,
}

/// The layers that are to be mended.
pub(super) fn layers(teacher: Teacher, pruned: &Model, which: Which) -> Vec<Layer> {
    let all = counterparts(teacher, pruned);
    match which {
        Which::Joined => join(pruned, all),
        Which::Touched => all.into_iter().filter(|layer| layer.touched).collect(),
        Which::All => all,
    }
}

/// Every layer that can be mended, in the order of the nodes.
fn counterparts(teacher: Teacher, pruned: &Model) -> Vec<Layer> {
    let Teacher {
        model,
        analysis,
        selection,
    } = teacher;
    let views_of_pruned = views(pruned, &relate(pruned, &infer(pruned, &Pins::new())));
    let mut touched = vec![false; model.index().values().len()];
    for (node, entry) in model.index().nodes() {
        let cut = analysis
            .kept_labels(node, selection)
            .iter()
            .any(Option::is_some);
        if cut
            || entry
                .inputs
                .iter()
                .flatten()
                .any(|input| touched[input.index()])
        {
            entry
                .outputs
                .iter()
                .flatten()
                .for_each(|output| touched[output.index()] = true);
        }
    }
    let name = |model: &Model, value: Option<ValueId>| {
        value.map(|value| model.index().value(value).name.clone())
    };
    let mut by_output: BTreeMap<String, Linear> = views_of_pruned
        .into_iter()
        .filter_map(|view| Some((name(pruned, view.output)?, view)))
        .collect();
    let mut layers = Vec::new();
    for original in views(model, &analysis.relations) {
        let Some(output) = original.output else {
            continue;
        };
        let touched = touched[original.data.index()];
        let Some(own) = name(model, Some(output)).and_then(|name| by_output.remove(&name)) else {
            continue;
        };
        let layer = layer(teacher, pruned, original, output, own);
        layers.extend(layer.map(|layer| Layer { touched, ..layer }));
    }
    layers
}

/// Gives each layer the one before it, if that one's output goes nowhere else; the last layers choose first, and none is in
/// two pairs.
fn join(pruned: &Model, all: Vec<Layer>) -> Vec<Layer> {
    let by_end: BTreeMap<ValueId, usize> = all
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.aim.added.is_none())
        .filter_map(|(at, layer)| Some((layer.aim.end?, at)))
        .collect();
    let mut before: Vec<Option<usize>> = vec![None; all.len()];
    let mut taken = vec![false; all.len()];
    for (at, layer) in all
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, layer)| layer.touched)
    {
        let data = pruned.index().value(layer.pruned.data);
        let alone = !data.is_output && data.readers.len() == 1;
        if let (false, true, Some(first)) = (taken[at], alone, by_end.get(&layer.pruned.data))
            && layer.fits_behind(&all[*first])
        {
            (before[at], taken[*first]) = (Some(*first), true);
        }
    }
    let mut slots: Vec<Option<Layer>> = all.into_iter().map(Some).collect();
    let mut layers = Vec::new();
    for at in (0..slots.len()).filter(|at| !taken[*at]) {
        let first = before[at].and_then(|first| slots[first].take());
        if let Some(layer) = slots[at].take().filter(|layer| layer.touched) {
            layers.push(Layer {
                before: first.map(Box::new),
                ..layer
            });
        }
    }
    layers
}

fn layer(
    teacher: Teacher,
    pruned: &Model,
    original: Linear,
    output: ValueId,
    own: Linear,
) -> Option<Layer> {
    let Teacher {
        model,
        analysis,
        selection,
    } = teacher;
    let (axis, places) = original.channel_axis()?;
    let (_, own_places) = own.channel_axis()?;
    let kept_axis: Option<Vec<u32>> = analysis.kept_axis(output, axis, selection);
    let mut channel_at = vec![None; places.iter().max().map_or(0, |last| last + 1)];
    places
        .iter()
        .enumerate()
        .for_each(|(channel, place)| channel_at[*place] = Some(channel));
    let kept: Vec<usize> = own_places
        .iter()
        .map(|place| {
            let place = kept_axis.as_ref().map_or(Some(*place), |kept| {
                kept.get(*place).map(|index| *index as usize)
            })?;
            channel_at.get(place).copied().flatten()
        })
        .collect::<Option<_>>()?;
    let outside = Bias::find(model, &original)
        .filter(|bias| bias.outside)
        .and_then(|bias| bias.read(model));
    let key = original.key(model);
    Some(Layer {
        bias: Bias::find(pruned, &own),
        aim: Aim::find(pruned, &own)?,
        original_aim: Aim::find(model, &original)?,
        original,
        pruned: own,
        outside,
        kept,
        key,
        touched: true,
        before: None,
    })
}
