//! Index spaces (axes of values, labels of nodes) and where their readers divide them.
//!
//! A space is a sum of pieces (what Concat, Split and Slice see), each a product of factors (what Reshape and grouped
//! convolutions see). A piece may repeat: halves of heads, say, are two pieces that take turns. The marks travel along layouts until nothing changes, so that every space knows all divisions
//! that any reader of its indices makes; only then can one factor be cut without breaking another's reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::infer::Facts;
use super::pieces::Pieces;
use super::relate::port_value;
use crate::facts::Dim;
use crate::model::{Model, NodeId, ValueId};
use crate::relation::{LabelId, Port, Reason, Relation, Segment};

/// Indices that a space may have: an axis that is longer holds no weights that fit in memory, and stays whole.
const MOST_INDICES: i64 = 1 << 26;

/// Number of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// For indexing a `Vec` by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One index space.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// How many indices it has.
    pub extent: Dim,
    /// Its pieces in order.
    pub pieces: Pieces,
    /// Why its divisions could not be worked out; its indices then all stay.
    pub broken: Option<Box<Reason>>,
}

/// Two spaces, or stretches of them, whose indices correspond.
#[derive(Clone, Debug)]
pub enum Correspondence {
    /// `a[a_start + i]` is `b[b_start + i]`.
    Same {
        a: SpaceId,
        a_start: u64,
        b: SpaceId,
        b_start: u64,
        length: Dim,
    },
    /// `axis[start + i·inner + j]` is the combination of `outer[i]` and `inner[j]`.
    Product {
        axis: SpaceId,
        start: u64,
        outer: SpaceId,
        inner: SpaceId,
    },
    /// `axis[start + i]` is `label[indices[i]]`, in no simple order.
    Pick {
        axis: SpaceId,
        start: u64,
        label: SpaceId,
        indices: std::sync::Arc<[u32]>,
    },
}

/// All spaces of a model and how they correspond.
#[derive(Clone, Debug, Default)]
pub struct Spaces {
    pub(super) spaces: Vec<Space>,
    /// First axis of each value; `None` where its rank is unknown.
    axes: Vec<Option<u32>>,
    ranks: Vec<u32>,
    /// First label of each node.
    labels: Vec<u32>,
    /// How they correspond.
    pub correspondences: Vec<Correspondence>,
    /// An undivided space of each extent, which others of that extent share until they are divided.
    whole: HashMap<Dim, Pieces>,
    /// Axes that hold bytes, with the labels whose numbers are packed in them, and the share of the numbers that run over each.
    packed: BTreeMap<SpaceId, Vec<(SpaceId, f64)>>,
}

impl Spaces {
    /// Collects the spaces of a model and carries all divisions to a fixpoint.
    pub fn build(model: &Model, facts: &Facts, relations: &[Arc<Relation>]) -> Self {
        let mut spaces = Spaces::default();
        let ranks = model
            .index()
            .values()
            .map(|(value, _)| facts.of(value).rank());
        let labels = relations.iter().map(|relation| relation.labels.len());
        let count = ranks.flatten().sum::<usize>() + labels.sum::<usize>();
        spaces.spaces.reserve_exact(count);
        for (value, _) in model.index().values() {
            let first = facts.of(value).shape.as_ref().map(|shape| {
                let first = spaces.spaces.len() as u32;
                shape.iter().for_each(|dim| spaces.add(dim));
                first
            });
            spaces.axes.push(first);
            spaces
                .ranks
                .push(facts.of(value).rank().unwrap_or(0) as u32);
        }
        for relation in relations {
            spaces.labels.push(spaces.spaces.len() as u32);
            relation
                .labels
                .iter()
                .for_each(|label| spaces.add(&label.extent));
        }
        for (node, _) in model.index().nodes() {
            for (port, layout) in &relations[node.index()].ports {
                let Some(value) = port_value(model, node, *port) else {
                    continue;
                };
                for (axis, layout) in layout.axes.iter().enumerate() {
                    if let Some(axis) = spaces.axis(value, axis) {
                        spaces.connect(axis, node, &layout.0, &relations[node.index()]);
                    }
                }
                spaces.note_packed(value, node, &relations[node.index()], *port);
            }
        }
        spaces.correspondences.shrink_to_fit();
        spaces.propagate_to_fixpoint();
        spaces
    }

    /// The space of an axis; `None` where the value's rank is unknown, or less than a file declares.
    pub fn axis(&self, value: ValueId, axis: usize) -> Option<SpaceId> {
        let first =
            self.axes[value.index()].filter(|_| axis < self.ranks[value.index()] as usize)?;
        Some(SpaceId(first + axis as u32))
    }

    /// The axes of a value; none where its rank is unknown.
    pub fn axes(&self, value: ValueId) -> impl Iterator<Item = SpaceId> + use<> {
        let first = self.axes[value.index()].unwrap_or(0);
        (first..first + self.ranks[value.index()]).map(SpaceId)
    }

    /// The space of a label.
    pub fn label(&self, node: NodeId, label: LabelId) -> SpaceId {
        SpaceId(self.labels[node.index()] + label.0)
    }

    /// One space.
    pub fn get(&self, id: SpaceId) -> &Space {
        &self.spaces[id.index()]
    }

    /// All spaces.
    pub fn iter(&self) -> impl Iterator<Item = (SpaceId, &Space)> {
        self.spaces
            .iter()
            .enumerate()
            .map(|(id, space)| (SpaceId(id as u32), space))
    }

    /// The labels whose numbers the bytes of an axis hold; each with the share of the numbers that run over it.
    pub fn packed(&self, axis: SpaceId) -> &[(SpaceId, f64)] {
        self.packed.get(&axis).map_or(&[], Vec::as_slice)
    }

    fn note_packed(&mut self, value: ValueId, node: NodeId, relation: &Relation, port: Port) {
        let Some(packed) = relation.packed(port) else {
            return;
        };
        let Some(axis) = self.axes(value).last() else {
            return;
        };
        let number = |extent: Dim| extent.num().unwrap_or(1).max(1) as f64;
        let all = number(packed.of.extent(&relation.labels));
        let mut labels = Vec::new();
        for segment in &packed.of.0 {
            let share = number(segment.extent(&relation.labels)) / all;
            labels.extend(
                segment
                    .labels()
                    .iter()
                    .map(|label| (self.label(node, *label), share)),
            );
        }
        self.packed.entry(axis).or_insert(labels);
    }

    fn add(&mut self, extent: &Dim) {
        let whole = self.whole.entry(extent.clone());
        let pieces = whole.or_insert_with(|| Pieces::new(extent)).clone();
        let listed = extent
            .num()
            .is_none_or(|number| (0..=MOST_INDICES).contains(&number));
        let reason = || Box::new(Reason::operator("more indices than can be told apart"));
        self.spaces.push(Space {
            extent: extent.clone(),
            pieces,
            broken: (!listed).then(reason),
        });
    }

    fn connect(&mut self, axis: SpaceId, node: NodeId, segments: &[Segment], relation: &Relation) {
        let symbolic = |segment: &Segment| segment.extent(&relation.labels).num().is_none();
        if segments.len() > 1
            && (segments.iter().any(symbolic) || self.get(axis).extent.num().is_none())
        {
            // Where a segment of unknown length begins or ends nothing can be said of the others' indices.
            self.spaces[axis.index()].broken = Some(Box::new(Reason::Dynamic));
            for label in segments.iter().flat_map(Segment::labels) {
                let label = self.label(node, *label);
                self.spaces[label.index()].broken = Some(Box::new(Reason::Dynamic));
                self.correspondences.push(Correspondence::Same {
                    a: axis,
                    a_start: 0,
                    b: label,
                    b_start: 0,
                    length: Dim::Num(0),
                });
            }
            return;
        }
        let mut start = 0u64;
        for segment in segments {
            let length = segment.extent(&relation.labels);
            match segment {
                Segment::Product(labels) => {
                    let mut labels: Vec<SpaceId> = labels
                        .iter()
                        .map(|label| self.label(node, *label))
                        .collect();
                    // A factor of one says nothing, but a segment of one is a boundary.
                    if labels.len() > 1 || segments.len() == 1 {
                        labels.retain(|label| !self.get(*label).extent.is_one());
                    }
                    self.connect_product(axis, start, &labels, &length);
                }
                Segment::Pick(label, indices) => {
                    let label = self.label(node, *label);
                    let run = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
                    self.correspondences.push(match indices.first() {
                        Some(first) if run => Correspondence::Same {
                            a: axis,
                            a_start: start,
                            b: label,
                            b_start: u64::from(*first),
                            length: length.clone(),
                        },
                        _ => Correspondence::Pick {
                            axis,
                            start,
                            label,
                            indices: indices.clone(),
                        },
                    });
                }
            }
            start += length.count().unwrap_or(0) as u64;
        }
    }

    fn connect_product(&mut self, axis: SpaceId, start: u64, labels: &[SpaceId], length: &Dim) {
        match labels {
            [] => {}
            [label] => self.correspondences.push(Correspondence::Same {
                a: axis,
                a_start: start,
                b: *label,
                b_start: 0,
                length: length.clone(),
            }),
            [outer, rest @ ..] => {
                let inner = match rest {
                    [inner] => *inner,
                    _ => {
                        // A space of its own for the product of the rest, so that products are of two.
                        let extent = Dim::product(
                            rest.iter().map(|label| &self.spaces[label.index()].extent),
                        );
                        let id = SpaceId(self.spaces.len() as u32);
                        self.add(&extent);
                        self.connect_product(id, 0, rest, &extent);
                        id
                    }
                };
                self.correspondences.push(Correspondence::Product {
                    axis,
                    start,
                    outer: *outer,
                    inner,
                });
            }
        }
    }
}

impl Correspondence {
    /// The spaces that take part.
    pub fn spaces(&self) -> impl Iterator<Item = SpaceId> {
        let (first, second, third) = match self {
            Correspondence::Same { a, b, .. } => (*a, *b, None),
            Correspondence::Product {
                axis, outer, inner, ..
            } => (*axis, *outer, Some(*inner)),
            Correspondence::Pick { axis, label, .. } => (*axis, *label, None),
        };
        [Some(first), Some(second), third].into_iter().flatten()
    }
}
