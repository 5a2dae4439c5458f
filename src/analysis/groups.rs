//! Units and groups: the elements of free classes, joined where an operator picks them out of order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::classes::{ClassId, Classes};
use super::names;
use super::roles::{Role, roles};
use super::spaces::{SpaceId, Spaces};
use super::ties::Ties;
use crate::facts::Dim;
use crate::model::{Model, ValueId};
use crate::ops::meaning;
use crate::relation::{Reason, Relation};

/// What the units of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Channels of convolutions, neurons of dense layers, hidden units of recurrent ones.
    Channels,
    /// Attention heads (or groups of heads that share keys and values).
    Heads,
    /// One dimension of every head.
    HeadDims,
    /// Channels that a normalisation reads whole.
    Width,
    /// Whole branches beside a residual stream: a group of another kind that loses all of its units.
    Layers,
    /// Directions of a linear space: channels or dimensions of heads after a change of basis.
    Directions,
    /// Tokens: rows that ids pick, and entries of outputs for each.
    Vocabulary,
    /// Experts of a mixture: networks of which a router chooses a few for each token.
    Experts,
}

impl Kind {
    /// Its name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Channels => "channels",
            Kind::Heads => "heads",
            Kind::HeadDims => "head-dims",
            Kind::Width => "width",
            Kind::Layers => "layers",
            Kind::Directions => "directions",
            Kind::Vocabulary => "vocabulary",
            Kind::Experts => "experts",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Units that span the same axes.
#[derive(Clone, Debug)]
pub struct Group {
    /// Stable name: that of the first weight that holds it and its axis, `conv1.weight:0`; where an exporter numbered the weight,
    /// that of the node that reads it.
    pub id: String,
    /// What its units are.
    pub kind: Kind,
    /// Its units; each a list of (class, element).
    #[doc(hidden)]
    pub units: Vec<Vec<(ClassId, u32)>>,
    /// The classes that it consists of.
    #[doc(hidden)]
    pub classes: Vec<ClassId>,
    /// The constants that hold its slices, with the axes.
    #[doc(hidden)]
    pub weights: Vec<(ValueId, usize)>,
    /// Why cutting it changes what an operator computes for the rest.
    #[doc(hidden)]
    pub lossy: Option<Reason>,
    /// Whether a depthwise convolution reads it, which runtimes want in multiples.
    pub depthwise: bool,
    /// How many of its units stay at least, whatever is asked for: as many as a router chooses at a time, else one.
    #[doc(hidden)]
    pub least: usize,
}

/// Which elements of each class stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    kept: BTreeMap<ClassId, Arc<[u32]>>,
}

impl Selection {
    /// Removes units: by group, the numbers of the units that go.
    pub fn new<'a>(
        groups: &[Group],
        classes: &Classes,
        removed: impl IntoIterator<Item = (usize, &'a [u32])>,
    ) -> Self {
        let mut gone: BTreeMap<ClassId, Vec<bool>> = BTreeMap::new();
        for (group, units) in removed {
            for (class, element) in units
                .iter()
                .flat_map(|unit| &groups[group].units[*unit as usize])
            {
                gone.entry(*class)
                    .or_insert_with(|| vec![false; classes.get(*class).extent as usize])
                    [*element as usize] = true;
            }
        }
        let kept = gone.into_iter().map(|(class, gone)| {
            let kept: Arc<[u32]> = gone
                .iter()
                .enumerate()
                .filter(|(_, gone)| !**gone)
                .map(|(element, _)| element as u32)
                .collect();
            (class, kept)
        });
        Selection {
            kept: kept.collect(),
        }
    }

    /// The elements of a class that stay; `None` when all do.
    pub fn kept(&self, class: ClassId) -> Option<&[u32]> {
        self.kept.get(&class).map(|kept| &**kept)
    }

    /// Classes that lose something, with what stays.
    pub fn classes(&self) -> impl Iterator<Item = (ClassId, &[u32])> {
        self.kept.iter().map(|(class, kept)| (*class, &**kept))
    }

    /// The same with the first unit left of every group that loses all, and which groups these are.
    pub fn sparing(&self, groups: &[Group]) -> (Selection, Vec<usize>) {
        let emptied = |class: &ClassId| self.kept(*class).is_some_and(<[u32]>::is_empty);
        let gone: Vec<usize> = (0..groups.len())
            .filter(|group| groups[*group].classes.iter().any(emptied))
            .collect();
        let mut spared = self.clone();
        for (class, element) in gone
            .iter()
            .filter_map(|group| groups[*group].units.first())
            .flatten()
        {
            let kept = spared.kept.entry(*class).or_default();
            let all: std::collections::BTreeSet<u32> =
                kept.iter().copied().chain([*element]).collect();
            *kept = all.into_iter().collect();
        }
        (spared, gone)
    }

    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The extent that is left of a space, a symbol's multiple where it was one; `None` when all of it stays.
    pub fn extent(&self, spaces: &Spaces, classes: &Classes, space: SpaceId) -> Option<Dim> {
        let mut touched = false;
        let mut total = Dim::Num(0);
        for (at, piece) in spaces.get(space).pieces.iter().enumerate() {
            let cut = classes.carrier(space, at).and_then(|factor| {
                Some((classes.get(factor.class).extent, self.kept(factor.class)?))
            });
            let left = match cut {
                None => piece.size(),
                Some((before, kept)) => {
                    touched = true;
                    let rest = piece.size().exact_div(&Dim::from(before as usize));
                    // What cannot be told equals nothing that a node's inference finds.
                    rest.map_or_else(
                        || Dim::symbol("?left"),
                        |rest| &rest * &Dim::from(kept.len()),
                    )
                }
            };
            total = &total + &left;
        }
        touched.then_some(total)
    }

    /// The indices of a space that stay, ascending; `None` when all do, and meaningless where their number is a symbol's multiple.
    pub fn indices(&self, spaces: &Spaces, classes: &Classes, space: SpaceId) -> Option<Vec<u32>> {
        let pieces = &spaces.get(space).pieces;
        let cut = |piece: usize| {
            classes
                .carrier(space, piece)
                .and_then(|factor| Some((factor, self.kept(factor.class)?)))
        };
        if (0..pieces.len()).all(|piece| cut(piece).is_none()) {
            return None;
        }
        let mut indices = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let size = piece.size().count().unwrap_or(0) as u64;
            match cut(at) {
                None => indices.extend((0..size).map(|place| piece.index(place) as u32)),
                Some((factor, kept)) => {
                    let extent = u64::from(classes.get(factor.class).extent);
                    for outer in (0..size).step_by((factor.stride * extent).max(1) as usize) {
                        for element in kept {
                            let first = outer + u64::from(*element) * factor.stride;
                            indices.extend(
                                (first..first + factor.stride)
                                    .map(|place| piece.index(place) as u32),
                            );
                        }
                    }
                }
            }
        }
        indices.sort_unstable();
        Some(indices)
    }
}

/// Builds the groups of all free classes that hold parameters; with `weightless`, also of those that hold none.
pub fn build(
    model: &Model,
    spaces: &Spaces,
    classes: &Classes,
    relations: &[Arc<Relation>],
    weightless: bool,
) -> Vec<Group> {
    let mut ties = Ties::new(spaces, classes);
    let weights = weights_by_class(model, spaces, classes);
    let roles = roles(model, spaces, classes, relations);
    let mut found = Vec::new();
    for members in ties.members(classes) {
        let mut held: Vec<(ValueId, usize)> = members
            .iter()
            .flat_map(|class| weights.get(class).cloned().unwrap_or_default())
            .collect();
        held.sort();
        held.dedup();
        if held.is_empty() && !weightless {
            continue;
        }
        let units = ties.units(classes, &members);
        if units.len() < 2 {
            continue;
        }
        let role = members
            .iter()
            .map(|class| roles[class.index()])
            .fold(Role::default(), Role::join);
        let least = least(classes, &members, &units);
        if least >= units.len() {
            continue;
        }
        let lossy = members
            .iter()
            .find_map(|class| classes.get(*class).lossy.clone());
        let routed = |class: &ClassId| classes.get(*class).routed.is_some();
        let kind = match () {
            () if members.iter().any(routed) => Kind::Experts,
            () if lossy.is_some() => Kind::Width,
            () if role.contracted_between_data => Kind::HeadDims,
            () if role.batch_of_data => Kind::Heads,
            () => Kind::Channels,
        };
        found.push(Group {
            id: id(model, &members, &held),
            kind,
            units,
            classes: members,
            weights: held,
            lossy,
            depthwise: role.depthwise,
            least,
        });
    }
    number(&mut found);
    found
}

/// Numbers groups that begin in the same weight's axis (an axis of several pieces).
fn number(groups: &mut [Group]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for group in groups {
        let count = seen.entry(group.id.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            group.id = format!("{}#{count}", group.id);
        }
    }
}

/// How many of these units must stay for every class to keep as many elements as it must.
fn least(classes: &Classes, members: &[ClassId], units: &[Vec<(ClassId, u32)>]) -> usize {
    let of_class = |class: &ClassId| {
        let of_unit = |unit: &Vec<(ClassId, u32)>| {
            let slices = unit.iter();
            slices.filter(|(other, _)| other == class).count()
        };
        let class = classes.get(*class);
        let held = units.iter().map(of_unit).max().unwrap_or(1).max(1);
        let spare = class.extent.saturating_sub(class.least()) as usize;
        match class.routed {
            Some(_) => units.len().saturating_sub(spare / held),
            None => 1,
        }
    };
    members.iter().map(of_class).max().unwrap_or(1).max(1)
}

/// A name for a group by one of the weights that it cuts: a matrix that gives the units, if there is one, says more to people than
/// a bias or a zero point.
fn id(model: &Model, members: &[ClassId], held: &[(ValueId, usize)]) -> String {
    let rank = |value: &ValueId| {
        model
            .tensor_proto(*value)
            .map_or(0, |tensor| tensor.dims.len())
    };
    let named = held
        .iter()
        .find(|(value, axis)| rank(value) > 1 && *axis == 0)
        .or_else(|| held.iter().find(|(value, _)| rank(value) > 1));
    match named.or(held.first()) {
        Some((first, axis)) => {
            let prefix = model
                .index()
                .prefix(model, model.index().value(*first).graph);
            format!("{prefix}{}:{axis}", names::of_weight(model, *first))
        }
        None => format!("class {}", members.first().map_or(0, |class| class.index())),
    }
}

fn weights_by_class(
    model: &Model,
    spaces: &Spaces,
    classes: &Classes,
) -> BTreeMap<ClassId, Vec<(ValueId, usize)>> {
    let mut weights: BTreeMap<ClassId, Vec<(ValueId, usize)>> = BTreeMap::new();
    for (value, entry) in model.index().values() {
        // A constant that nothing reads makes no units, nor does one of which only the shape is asked for.
        let is_read = entry
            .readers
            .iter()
            .any(|(node, _)| !meaning(model.node(*node)).reads_extents);
        if model.tensor_proto(value).is_none() || !(is_read || entry.is_output) {
            continue;
        }
        for (axis, space) in spaces.axes(value).enumerate() {
            for piece in 0..spaces.get(space).pieces.len() {
                if let Some(factor) = classes.carrier(space, piece) {
                    weights.entry(factor.class).or_default().push((value, axis));
                }
            }
        }
    }
    weights
}
