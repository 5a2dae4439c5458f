//! What can not be removed, and why.

use std::collections::BTreeMap;

use super::{Analysis, Group, is_weight};
use crate::model::Model;
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
pub fn frozen<'a>(model: &Model, analysis: &Analysis, groups: impl IntoIterator<Item = &'a Group>) -> (u64, Vec<Frozen>) {
    let mut reachable = vec![false; analysis.classes.classes.len()];
    groups.into_iter().flat_map(|group| &group.classes).for_each(|class| reachable[class.index()] = true);
    let mut prunable = 0u64;
    let mut reasons: BTreeMap<Reason, (u64, Vec<String>)> = BTreeMap::new();
    for (value, entry) in model.index().values() {
        let Some(tensor) = model.tensor_proto(value).filter(|tensor| is_weight(tensor)) else { continue };
        let params = tensor.dims.iter().product::<i64>().max(0) as u64;
        let mut reason: Option<&Reason> = None;
        let mut free = false;
        for space in analysis.spaces.axes(value) {
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
        nodes.extend(entry.readers.iter().map(|(node, _)| model.node_label(*node).to_owned()));
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
