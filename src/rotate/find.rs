//! Where a basis may be changed: classes all of whose readers and writers are linear.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::linear_node::{LabelledNode, SpaceSum, has};
use super::places::{ClassPlaces, PlacesOfClass};
use super::sides::BasisSides;
use crate::analysis::{Analysis, ClassId, PieceAt, port_value};
use crate::model::{Index, Model, NodeId, Origin, ValueId};
use crate::ops::meaning;
use crate::proto::Dtype;
use crate::relation::{LabelId, Port};

/// A group whose basis may be changed.
#[derive(Clone, Debug)]
pub struct LinearSpace {
    /// Its number in the analysis.
    pub group: usize,
    /// Its only class.
    pub(super) class: ClassId,
    /// Classes for each combination of whose elements the basis may be another: heads.
    pub(super) blocks: Vec<ClassId>,
    /// Whether the matrix must be its own inverse, transposed.
    pub(super) orthogonal: bool,
    /// Constants that run over it.
    pub(super) constants: Vec<SpaceHolder>,
    /// Constants that a product adds up into it.
    pub(super) writers: Vec<SpaceHolder>,
    /// What is multiplied and summed over it, pair by pair.
    pub(super) pairs: Vec<[SpaceHolder; 2]>,
}

impl LinearSpace {
    /// Puts activations that constants are multiplied with on the first side.
    fn orient(&mut self, model: &Model) {
        let constant = |holder: &SpaceHolder| model.tensor_proto(holder.value).is_some();
        let mixed = self
            .pairs
            .iter()
            .flat_map(|pair| match pair.each_ref().map(constant) {
                [true, false] => Some(pair[1]),
                [false, true] => Some(pair[0]),
                _ => None,
            });
        if !mixed.into_iter().next().is_some_and(|flows| flows.dual) {
            return;
        }
        let pairs = self.pairs.iter_mut().flatten();
        let holders = self.constants.iter_mut().chain(&mut self.writers);
        pairs
            .chain(holders)
            .for_each(|holder| holder.dual = !holder.dual);
    }
}

/// A tensor that runs over the space, and on which side it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SpaceHolder {
    pub value: ValueId,
    pub axis: usize,
    pub piece: usize,
    /// Whether it takes the inverse, transposed.
    pub dual: bool,
}

/// Why the basis of a group may not be changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotLinear {
    /// The group's number in the analysis.
    pub group: usize,
    /// The node or value at fault, and what it does.
    pub reason: String,
}

/// What does not go with another basis.
#[derive(Debug, thiserror::Error)]
enum NoBasis {
    #[error("nothing runs over it")]
    Unread,
    #[error("a node picks some of it")]
    Picked,
    #[error("'{0}' is an input or output, or in a subgraph")]
    End(String),
    #[error("'{0}' holds no numbers of single precision")]
    OtherType(String),
    #[error("{node} {what}")]
    Node { node: String, what: &'static str },
    #[error("its parts are not connected")]
    Apart,
}

/// All groups whose basis may be changed, and why that of others may not.
pub fn linear_spaces(model: &Model, analysis: &Analysis) -> (Vec<LinearSpace>, Vec<NotLinear>) {
    let places = ClassPlaces::collect(model, analysis);
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (group, entry) in analysis.groups.iter().enumerate() {
        let [class] = entry.classes[..] else {
            continue;
        };
        let whole = entry.lossy.is_none() && !entry.depthwise;
        if !whole || entry.units.len() != analysis.classes.get(class).extent as usize {
            continue;
        }
        let search = SpaceSearch {
            model,
            analysis,
            class,
            group,
            places: places.of.get(&class),
        };
        match search.run() {
            Ok(space) => found.push(space),
            Err(reason) => refused.push(NotLinear {
                group,
                reason: reason.to_string(),
            }),
        }
    }
    (found, refused)
}

/// The search for what one class consists of.
struct SpaceSearch<'a> {
    model: &'a Model,
    analysis: &'a Analysis,
    class: ClassId,
    group: usize,
    places: Option<&'a PlacesOfClass>,
}

/// Values that may run over the space, and which sides they are on.
struct SidedPlaces {
    numbers: HashMap<PieceAt, usize>,
    sides: BasisSides,
    orthogonal: bool,
}

impl SpaceSearch<'_> {
    fn run(&self) -> Result<LinearSpace, NoBasis> {
        let places = self.places.ok_or(NoBasis::Unread)?;
        if places.picked {
            return Err(NoBasis::Picked);
        }
        for (value, ..) in &places.values {
            self.admit(*value)?;
        }
        let mut contractions = Vec::new();
        for (node, labels) in &places.nodes {
            let labels: Vec<LabelId> = labels.iter().copied().collect();
            let found = self.labelled(*node, &labels).contractions();
            let name = |what| NoBasis::Node {
                node: self.model.node_label(*node).to_owned(),
                what,
            };
            let found = found.map_err(name)?;
            contractions.extend(found.into_iter().map(|found| (*node, found)));
        }
        let sided = self.sides(places, &contractions)?;
        let holder = |value: ValueId, axis: usize, piece: usize| -> Option<SpaceHolder> {
            let space = self.analysis.spaces.axis(value, axis)?;
            let number = sided.numbers.get(&(space, piece))?;
            let dual = sided.sides.find(*number).1;
            Some(SpaceHolder {
                value,
                axis,
                piece,
                dual,
            })
        };
        let held: Vec<SpaceHolder> = places
            .values
            .iter()
            .filter_map(|(value, axis, piece)| holder(*value, *axis, *piece))
            .collect();
        let constants = held
            .iter()
            .copied()
            .filter(|holder| self.model.tensor_proto(holder.value).is_some())
            .collect::<Vec<_>>();
        let mut space = LinearSpace {
            group: self.group,
            class: self.class,
            blocks: self.blocks(places),
            orthogonal: sided.orthogonal,
            writers: self.writers(places, &constants),
            pairs: self.pairs(&contractions, &held),
            constants,
        };
        // The best basis of a stream is that of what flows there (measured), whatever its readers make of it.
        space.orthogonal |= space.blocks.is_empty();
        space.orient(self.model);
        Ok(space)
    }

    fn labelled<'b>(&'b self, node: NodeId, labels: &'b [LabelId]) -> LabelledNode<'b> {
        LabelledNode {
            model: self.model,
            analysis: self.analysis,
            node,
            labels,
        }
    }

    /// Errors: a value that cannot be in another basis.
    fn admit(&self, value: ValueId) -> Result<(), NoBasis> {
        let entry = self.model.index().value(value);
        if entry.graph != Index::MAIN || matches!(entry.origin, Origin::Input(_)) || entry.is_output
        {
            return Err(NoBasis::End(entry.name.clone()));
        }
        let constant = self.model.tensor_proto(value).is_some();
        match self.analysis.facts.of(value).dtype {
            Some(Dtype::Float) => Ok(()),
            Some(dtype) if dtype.is_float() && !constant => Ok(()),
            _ => Err(NoBasis::OtherType(entry.name.clone())),
        }
    }

    /// The side of each place. Errors: places that nothing connects.
    fn sides(
        &self,
        places: &PlacesOfClass,
        contractions: &[(NodeId, SpaceSum)],
    ) -> Result<SidedPlaces, NoBasis> {
        let (spaces, index) = (&self.analysis.spaces, self.model);
        let (mut same, mut opposite) = (HashSet::new(), HashSet::new());
        for (node, found) in contractions {
            let label = spaces.label(*node, found.label);
            for (port, into) in [(found.data, &mut same), (found.weight, &mut opposite)] {
                let axes = port_value(index, *node, port).map(|value| spaces.axes(value));
                into.extend(axes.into_iter().flatten().map(|axis| (axis, label)));
            }
        }
        let mut sided = SidedPlaces {
            numbers: HashMap::new(),
            sides: BasisSides::default(),
            orthogonal: false,
        };
        for (one, two) in &places.pairs {
            let [first, second] = [one, two].map(|place| {
                let sides = &mut sided.sides;
                *sided.numbers.entry(*place).or_insert_with(|| sides.add())
            });
            let link = (one.0, two.0);
            let flips = opposite.contains(&link);
            // A tensor that is multiplied by itself is on both sides.
            sided.orthogonal |= flips && same.contains(&link);
            sided.orthogonal |= !sided.sides.unite(first, second, flips);
        }
        let mut sets = sided
            .numbers
            .values()
            .map(|number| sided.sides.find(*number).0);
        let known = |(value, axis, piece): &(ValueId, usize, usize)| {
            let space = spaces.axis(*value, *axis);
            space.is_some_and(|space| sided.numbers.contains_key(&(space, *piece)))
        };
        match sets.all(|set| set == 0) && places.values.iter().all(known) {
            true => Ok(sided),
            false => Err(NoBasis::Apart),
        }
    }

    /// What is multiplied and summed over it.
    fn pairs(
        &self,
        contractions: &[(NodeId, SpaceSum)],
        held: &[SpaceHolder],
    ) -> Vec<[SpaceHolder; 2]> {
        let of = |node: NodeId, port: Port| {
            let value = port_value(self.model, node, port)?;
            held.iter()
                .copied()
                .find(|holder| holder.value == value && self.is_summed(node, port, holder))
        };
        contractions
            .iter()
            .filter_map(|(node, found)| Some([of(*node, found.data)?, of(*node, found.weight)?]))
            .collect()
    }

    /// Whether a product sums over the axis of a holder.
    fn is_summed(&self, node: NodeId, port: Port, holder: &SpaceHolder) -> bool {
        let relation = &self.analysis.relations[node.index()];
        let summed = |label: LabelId| {
            relation
                .terms
                .iter()
                .any(|term| term.summed.contains(&label))
        };
        let axis = relation
            .ports
            .get(&port)
            .and_then(|port| port.axes.get(holder.axis));
        axis.is_some_and(|axis| axis.labels().any(summed))
    }

    /// The constants that a product adds up into it.
    fn writers(&self, places: &PlacesOfClass, constants: &[SpaceHolder]) -> Vec<SpaceHolder> {
        let writes = |holder: &&SpaceHolder| {
            let readers = &self.model.index().value(holder.value).readers;
            readers.iter().any(|(node, input)| {
                let relation = &self.analysis.relations[node.index()];
                let port = Port::In(*input);
                let factor = |port| {
                    relation
                        .terms
                        .iter()
                        .any(|term| term.data == port || term.weight == Some(port))
                };
                places.nodes.contains_key(node)
                    && meaning(self.model.node(*node)).product.is_some()
                    && factor(port)
                    && !self.is_summed(*node, port, holder)
            })
        };
        constants.iter().filter(writes).copied().collect()
    }

    /// Classes that everything that runs over this one runs over too, index by index alike.
    fn blocks(&self, places: &PlacesOfClass) -> Vec<ClassId> {
        let mut common: Option<BTreeSet<ClassId>> = None;
        for (value, axis, piece) in &places.values {
            let beside = self.beside(*value, *axis, *piece);
            common = Some(match common {
                None => beside,
                Some(common) => common.intersection(&beside).copied().collect(),
            });
        }
        let aligned = |class: &ClassId| {
            places.nodes.iter().all(|(node, labels)| {
                let labels: Vec<LabelId> = labels.iter().copied().collect();
                self.is_aligned(&self.labelled(*node, &labels), *class)
            })
        };
        common.into_iter().flatten().filter(aligned).collect()
    }

    /// The classes of fixed extent that a tensor runs over once beside this one.
    fn beside(&self, value: ValueId, axis: usize, piece: usize) -> BTreeSet<ClassId> {
        let (spaces, classes) = (&self.analysis.spaces, &self.analysis.classes);
        let mut count: BTreeMap<ClassId, usize> = BTreeMap::new();
        for (at, space) in spaces.axes(value).enumerate() {
            let pieces = spaces.get(space).pieces.len();
            let factors: Vec<_> = match (at == axis, pieces) {
                (true, _) => classes.of_piece(space, piece).to_vec(),
                (false, 1) => classes.of_piece(space, 0).to_vec(),
                // Of several pieces each would have to be of the same class.
                _ => continue,
            };
            for factor in factors {
                *count.entry(factor.class).or_default() += 1;
            }
        }
        count
            .into_iter()
            .filter(|(class, count)| {
                *count == 1 && *class != self.class && classes.get(*class).extent > 1
            })
            .map(|(class, _)| class)
            .collect()
    }

    /// Whether the same label of a node runs over a class in all that runs over this one.
    fn is_aligned(&self, node: &LabelledNode, class: ClassId) -> bool {
        let (spaces, classes) = (&self.analysis.spaces, &self.analysis.classes);
        let relation = &self.analysis.relations[node.node.index()];
        if meaning(self.model.node(node.node)).reads_extents {
            return true;
        }
        let labels: Vec<LabelId> = (0..relation.labels.len() as u32)
            .map(LabelId)
            .filter(|label| {
                let factors = classes.factors(spaces.label(node.node, *label));
                factors.iter().any(|factor| factor.class == class)
            })
            .collect();
        let on = |port: Port| -> Vec<LabelId> {
            let layout = relation.ports.get(&port);
            let has = |label: &&LabelId| layout.is_some_and(|layout| has(layout, **label));
            labels.iter().filter(has).copied().collect()
        };
        let mut ports = node.carrying().map(on);
        let first = ports.next();
        first.is_none_or(|first| first.len() == 1 && ports.all(|other| other == first))
    }
}
