//! What can not be removed, and why.

use std::collections::BTreeMap;

use super::{Analysis, Group, SpaceId, is_weight};
use crate::model::{Family, Model, Origins};
use crate::relation::Reason;

/// Parameters out of reach for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// Why.
    pub reason: Reason,
    /// How many parameters.
    pub params: u64,
    /// The nodes that read them.
    pub nodes: Vec<String>,
}

/// Sorts the parameters into those that belong to a unit of the given groups (their number is returned first) and those
/// that do not, with the reasons, most parameters first.
///
/// What several readers hold copies of counts once, and belongs to a unit where one of the copies does.
pub fn frozen<'a>(
    model: &Model,
    analysis: &Analysis,
    origins: &Origins,
    groups: impl IntoIterator<Item = &'a Group>,
) -> (u64, Vec<Frozen>) {
    let mut reachable = vec![false; analysis.classes.classes.len()];
    groups.into_iter().flat_map(|group| &group.classes).for_each(|class| reachable[class.index()] = true);
    let mut prunable = 0u64;
    let mut reasons: BTreeMap<Reason, (u64, Vec<String>)> = BTreeMap::new();
    for Family { members, .. } in origins.families(model) {
        let tensor = members.first().and_then(|first| model.tensor_proto(*first)).filter(|tensor| is_weight(tensor));
        let Some(tensor) = tensor.filter(|_| !members.iter().any(|value| origins.is_added(model, *value))) else { continue };
        let params = tensor.dims.iter().product::<i64>().max(0) as u64;
        let mut reason: Option<&Reason> = None;
        let mut free = false;
        let axes: Vec<SpaceId> = members.iter().flat_map(|value| analysis.spaces.axes(*value)).collect();
        let packed = axes.iter().flat_map(|axis| analysis.spaces.packed(*axis)).map(|(label, _)| *label);
        for space in axes.iter().copied().chain(packed) {
            for factor in analysis.classes.pieces(space).iter().flatten() {
                let class = analysis.classes.get(factor.class);
                free |= class.free && reachable[factor.class.index()];
                let why = class.frozen.as_ref().or(class.lossy.as_ref());
                reason = why.into_iter().chain(reason).min_by_key(|reason| rank(reason));
            }
        }
        if free {
            prunable += params;
            continue;
        }
        let reason = reason.cloned().unwrap_or(Reason::operator("a single number, or a width of one"));
        let (sum, nodes) = reasons.entry(reason).or_default();
        *sum += params;
        let readers = members.iter().flat_map(|value| &model.index().value(*value).readers);
        nodes.extend(readers.map(|(node, _)| model.node_label(*node).to_owned()));
    }
    let mut frozen: Vec<Frozen> = reasons
        .into_iter()
        .map(|(reason, (params, mut nodes))| {
            nodes.sort();
            nodes.dedup();
            Frozen { reason, params, nodes }
        })
        .collect();
    frozen.sort_by(|a, b| b.params.cmp(&a.params).then_with(|| a.reason.cmp(&b.reason)));
    (prunable, frozen)
}

/// Which of several reasons tells the user most: what the tool lacks comes before what the model is.
fn rank(reason: &Reason) -> u8 {
    match reason {
        Reason::NoRule(_) => 0,
        Reason::NotInferred(_) | Reason::NotDescribed(_) => 1,
        Reason::Demand(_) | Reason::NoCommonFactors => 2,
        Reason::GraphOutput | Reason::GraphInput => 3,
        Reason::Dynamic => 4,
        Reason::Operator(_) => 5,
    }
}
