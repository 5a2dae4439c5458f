//! What cannot be removed, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::classes::{Class, ClassId};
use super::freeze::{Cause, Holder};
use super::relate::port_value;
use super::roles::constants;
use super::spaces::{Correspondence, SpaceId};
use super::{Analysis, Group};
use crate::constants::{Family, Origins};
use crate::model::{Model, NodeId, ValueId};
use crate::proto::is_weight;
use crate::relation::{Layout, Port, PortLayout, Reason};

/// What is to be said of a weight none of whose axes is wide enough to lose anything.
const NARROW: Reason = Reason::operator("a single number, or a width of one");

/// What is to be said of an axis whose indices make one unit.
const TIED: Reason = Reason::operator("all of its indices could only go together");

/// Parameters out of reach for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// Why.
    pub reason: Reason,
    /// How many parameters.
    pub params: u64,
    /// The nodes that read them, without those whose copies could lose something.
    pub nodes: Vec<String>,
    /// The nodes that fixed the axes which could have gone, or the inputs and outputs of the model that have them; empty where
    /// that is not known.
    pub held_by: Vec<String>,
}

/// Sorts the parameters into those that belong to a unit of the given groups (their number is returned first) and those
/// that do not, with the reasons, most parameters first. Groups that are not among them are out of reach for what makes them
/// lossy, or for their kind.
///
/// What several readers hold copies of counts once, and belongs to a unit where all copies do: the file keeps what one of them
/// needs.
pub fn frozen<'a>(
    model: &Model,
    analysis: &Analysis,
    origins: &Origins,
    groups: impl IntoIterator<Item = &'a Group>,
) -> (u64, Vec<Frozen>) {
    frozen_beside(model, analysis, origins, groups, &|group| {
        group
            .lossy
            .clone()
            .unwrap_or(Reason::OtherKind(group.kind.name()))
    })
}

/// The same; `left_out` says why a group that is not among the given ones is not.
pub fn frozen_beside<'a>(
    model: &Model,
    analysis: &Analysis,
    origins: &Origins,
    groups: impl IntoIterator<Item = &'a Group>,
    left_out: &dyn Fn(&Group) -> Reason,
) -> (u64, Vec<Frozen>) {
    let causes = FrozenCauses::new(model, analysis, groups, left_out);
    let mut prunable = 0u64;
    let mut reasons: BTreeMap<Reason, Frozen> = BTreeMap::new();
    for Family { members, .. } in origins.families(model) {
        let tensor = members
            .first()
            .and_then(|first| model.tensor_proto(*first))
            .filter(|tensor| is_weight(tensor));
        let Some(tensor) =
            tensor.filter(|_| !members.iter().any(|value| origins.is_added(model, *value)))
        else {
            continue;
        };
        let params = tensor.dims.iter().product::<i64>().max(0) as u64;
        if params == 0 {
            continue;
        }
        let (held, (reason, held_by)) = match causes.of_all(&members) {
            Some(cause) => cause,
            None => {
                prunable += params;
                continue;
            }
        };
        let frozen = reasons.entry(reason.clone()).or_insert(Frozen {
            reason,
            params: 0,
            nodes: Vec::new(),
            held_by: Vec::new(),
        });
        frozen.params += params;
        let readers = held
            .iter()
            .flat_map(|value| &model.index().value(*value).readers);
        frozen
            .nodes
            .extend(readers.map(|(node, _)| model.node_label(*node).to_owned()));
        frozen
            .held_by
            .extend(held_by.map(|holder| holder.name(model).to_owned()));
    }
    let mut frozen: Vec<Frozen> = reasons.into_values().collect();
    in_order(&mut frozen);
    (prunable, frozen)
}

/// Sorts rows by what they hold, and the names in each.
fn in_order(frozen: &mut [Frozen]) {
    for row in &mut *frozen {
        for names in [&mut row.nodes, &mut row.held_by] {
            names.sort();
            names.dedup();
        }
    }
    frozen.sort_by(|a, b| (b.params, &a.reason).cmp(&(a.params, &b.reason)));
}

/// What is to be said of one weight.
enum FrozenVerdict {
    Prunable,
    Held(Reason, Option<Holder>),
}

/// What there is to say of the classes of a model.
struct FrozenCauses<'a> {
    model: &'a Model,
    analysis: &'a Analysis,
    reachable: Vec<bool>,
    /// Why classes that are free are out of reach.
    left_out: BTreeMap<ClassId, Cause>,
    /// By value: whether it is computed from constants alone.
    constants: Vec<bool>,
    /// Classes of axes that a product with a constant has in common with what it reads or gives: channels, neurons.
    channels: Vec<bool>,
}

/// How near to being removable something is, the nearest smallest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Nearness {
    /// Whether it is something that an operator cannot be without, such as the directions of a recurrence.
    structure: bool,
    /// Whether only the constant has it, and nothing that its readers read or give besides: rows that are looked up.
    alone: bool,
    not_a_channel: bool,
    /// The rank of its reason.
    rank: u8,
    /// Whether no output has its axis.
    not_given: bool,
}

impl<'a> FrozenCauses<'a> {
    fn new<'g>(
        model: &'a Model,
        analysis: &'a Analysis,
        groups: impl IntoIterator<Item = &'g Group>,
        why: &dyn Fn(&Group) -> Reason,
    ) -> Self {
        let mut reachable = vec![false; analysis.classes.classes.len()];
        groups
            .into_iter()
            .flat_map(|group| &group.classes)
            .for_each(|class| reachable[class.index()] = true);
        let mut left_out = picked(analysis);
        for group in &analysis.groups {
            for class in group
                .classes
                .iter()
                .filter(|class| !reachable[class.index()])
            {
                left_out.insert(*class, (why(group), None));
            }
        }
        let constants = constants(model);
        FrozenCauses {
            model,
            analysis,
            reachable,
            left_out,
            channels: channels(model, analysis, &constants),
            constants,
        }
    }

    /// Why those of the constants that stand for one of the file which cannot go cannot, and which these are; `None` where all
    /// can. What no node reads is no copy that anything needs.
    fn of_all(&self, members: &[ValueId]) -> Option<(Vec<ValueId>, Cause)> {
        let (mut held, mut why, mut goes): (_, Option<Cause>, _) = (Vec::new(), None, false);
        for member in members {
            match self.of(*member) {
                FrozenVerdict::Prunable => goes = true,
                FrozenVerdict::Held(Reason::Unused, _) => {}
                FrozenVerdict::Held(reason, holder) => {
                    held.push(*member);
                    why.get_or_insert((reason, holder));
                }
            }
        }
        let unused = || (!goes).then_some((Reason::Unused, None));
        Some((held, why.or_else(unused)?))
    }

    fn of(&self, value: ValueId) -> FrozenVerdict {
        let entry = self.model.index().value(value);
        if entry.readers.is_empty() && !entry.is_output {
            return FrozenVerdict::Held(Reason::Unused, None);
        }
        let mut best: Option<(Nearness, Cause)> = None;
        let spaces = &self.analysis.spaces;
        // What is packed into an axis may go with it.
        let axes = spaces.axes(value).enumerate();
        let all = axes.flat_map(|(axis, space)| {
            let packed = spaces
                .packed(space)
                .iter()
                .map(move |(label, _)| (axis, *label));
            std::iter::once((axis, space)).chain(packed)
        });
        let shared = self.shared(value);
        for (axis, space) in all {
            for factor in self.analysis.classes.factors(space) {
                let class = self.analysis.classes.get(factor.class);
                if class.free && self.reachable[factor.class.index()] {
                    return FrozenVerdict::Prunable;
                }
                let (rank, cause) = self.cause(factor.class, class);
                let nearness = Nearness {
                    structure: matches!(cause.0, Reason::Structure(_)),
                    alone: !shared.contains(&factor.class),
                    not_a_channel: !self.channels[factor.class.index()],
                    rank,
                    not_given: !self.gives(value, axis),
                };
                // Positions of a window are never units: then it is the channels that are too few.
                if nearness.structure && nearness.not_a_channel {
                    continue;
                }
                if best.as_ref().is_none_or(|(other, _)| nearness < *other) {
                    best = Some((nearness, cause));
                }
            }
        }
        let (reason, holder) = best.map_or((NARROW, None), |(_, cause)| cause);
        FrozenVerdict::Held(reason, holder)
    }

    /// Why a class is out of reach, and how near to it what is out of reach is: what could go if it were asked for comes first,
    /// what callers feed and read last.
    fn cause(&self, id: ClassId, class: &Class) -> (u8, Cause) {
        if class.free {
            let tied = || match class.extent {
                0 | 1 => (7, (NARROW, None)),
                _ => (4, (TIED, None)),
            };
            let cause = self.left_out.get(&id).cloned();
            return cause.map_or_else(tied, |cause| (0, cause));
        }
        let reason = class
            .frozen
            .clone()
            .or(class.lossy.clone())
            .unwrap_or(Reason::Dynamic);
        let rank = match &reason {
            Reason::NoRule(_) => 1,
            Reason::NotInferred(_) | Reason::NotDescribed(_) => 2,
            Reason::Demand(_) | Reason::NoCommonFactors => 3,
            Reason::Dynamic => 5,
            Reason::GraphOutput | Reason::GraphInput => 6,
            _ => 4,
        };
        (rank, (reason, class.held_by))
    }

    /// The classes of what the readers of a constant read or give besides constants.
    fn shared(&self, value: ValueId) -> BTreeSet<ClassId> {
        let Analysis {
            relations,
            spaces,
            classes,
            ..
        } = self.analysis;
        let mut shared = BTreeSet::new();
        for (node, _) in &self.model.index().value(value).readers {
            for (port, layout) in &relations[node.index()].ports {
                if port_value(self.model, *node, *port)
                    .is_none_or(|value| self.constants[value.index()])
                {
                    continue;
                }
                let labels = layout.axes.iter().flat_map(Layout::labels);
                let factors =
                    labels.flat_map(|label| classes.factors(spaces.label(*node, label)).iter());
                shared.extend(factors.map(|factor| factor.class));
            }
        }
        shared
    }

    /// Whether a reader of a constant has one of its axes in what it gives: a row of weights for each output.
    fn gives(&self, value: ValueId, axis: usize) -> bool {
        let gives = |(node, slot): &(NodeId, u32)| {
            let ports = &self.analysis.relations[node.index()].ports;
            let Some(layout) = ports
                .get(&Port::In(*slot))
                .and_then(|port| port.axes.get(axis))
            else {
                return false;
            };
            let outputs = ports
                .iter()
                .filter(|(port, _)| matches!(port, Port::Out(_)));
            layout
                .labels()
                .any(|label| outputs.clone().any(|(_, port)| holds(port, label)))
        };
        self.model.index().value(value).readers.iter().any(gives)
    }
}

fn holds(port: &PortLayout, label: crate::relation::LabelId) -> bool {
    port.axes
        .iter()
        .any(|axis| axis.labels().any(|other| other == label))
}

/// By class: whether an axis of it is one that a product shares between its constant and what it reads or gives.
fn channels(model: &Model, analysis: &Analysis, constants: &[bool]) -> Vec<bool> {
    let mut channels = vec![false; analysis.classes.classes.len()];
    for (node, _) in model.index().nodes() {
        let relation = &analysis.relations[node.index()];
        for term in &relation.terms {
            let Some(weight) = term.weight else { continue };
            for port in [weight, term.data] {
                let is_constant = |port| {
                    port_value(model, node, port).is_some_and(|value| constants[value.index()])
                };
                if !is_constant(port) {
                    continue;
                }
                let Some(own) = relation.ports.get(&port) else {
                    continue;
                };
                let elsewhere = |label| {
                    relation
                        .ports
                        .iter()
                        .any(|(other, layout)| !is_constant(*other) && holds(layout, label))
                };
                let labels = own
                    .axes
                    .iter()
                    .flat_map(|axis| axis.labels())
                    .filter(|label| elsewhere(*label));
                for label in labels {
                    let factors = analysis.classes.factors(analysis.spaces.label(node, label));
                    factors
                        .iter()
                        .for_each(|factor| channels[factor.class.index()] = true);
                }
            }
        }
    }
    channels
}

/// Why classes that are free make no unit: an operator picks their indices out of, or into, an axis that stays.
fn picked(analysis: &Analysis) -> BTreeMap<ClassId, Cause> {
    let classes = &analysis.classes;
    let carriers = |space: SpaceId| -> Vec<ClassId> {
        let pieces = 0..analysis.spaces.get(space).pieces.len();
        pieces
            .filter_map(|piece| classes.carrier(space, piece))
            .map(|factor| factor.class)
            .collect()
    };
    let mut causes = BTreeMap::new();
    for correspondence in &analysis.spaces.correspondences {
        let Correspondence::Pick { axis, label, .. } = correspondence else {
            continue;
        };
        for (one, other) in [(*axis, *label), (*label, *axis)] {
            if !carriers(other).is_empty() {
                continue;
            }
            let mut factors = classes.factors(other).iter();
            let cause = |class: &Class| Some((class.frozen.clone()?, class.held_by));
            let Some(cause) = factors.find_map(|factor| cause(classes.get(factor.class))) else {
                continue;
            };
            carriers(one).into_iter().for_each(|class| {
                causes.entry(class).or_insert_with(|| cause.clone());
            });
        }
    }
    causes
}
