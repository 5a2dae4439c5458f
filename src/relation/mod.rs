//! How the indices of one node's tensors correspond, as data.
//!
//! A [`Relation`] names the index spaces of a node ([`Label`]s), says how each axis of each tensor is
//! built from them (a [`Layout`]: a sum of products of labels), and which sums the operator computes
//! ([`Term`]s). Everything else that pruning needs follows from it.
//!
//! Invariant: an algebra; nothing here knows ONNX, protobuf or a graph.

mod build;
mod reason;
mod show;

pub use build::Builder;
pub use reason::Reason;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::facts::Dim;

/// Number of a label within its relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

impl LabelId {
    /// For indexing a `Vec` by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What may happen to the indices of a label.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// They may be removed one by one, and the operator does the same to the rest.
    Free,
    /// They may be removed, but the operator then computes something else for the rest (a mean over fewer entries).
    Lossy(Reason),
    /// The operator chooses among them when it runs (experts). They may be removed, but it then chooses others.
    Routed(Routing),
    /// They all stay.
    Fixed(Reason),
}

/// How an operator chooses among indices when it runs: it takes those with the largest numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// The numbers that it goes by. An index whose number is −∞ is as good as absent: it is not chosen, and weighs nothing in a
    /// share of the others.
    pub by: Port,
    /// How many it takes at a time; so many stay.
    pub least: u32,
    /// What it chooses, in a few words.
    pub reason: Reason,
}

impl Fate {
    /// Why removing some changes what the operator computes for the rest, if it does.
    pub fn loss(&self) -> Option<&Reason> {
        match self {
            Fate::Lossy(reason) => Some(reason),
            Fate::Routed(routing) => Some(&routing.reason),
            Fate::Free | Fate::Fixed(_) => None,
        }
    }
}

/// An index space of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Short name, for people; empty for indices that come from nowhere (padding, broadcasting).
    pub name: Cow<'static, str>,
    /// How many indices it has.
    pub extent: Dim,
    /// What may happen to them.
    pub fate: Fate,
    /// The smaller numbers that these bytes hold, if they hold any.
    pub packs: Option<Packed>,
}

/// Numbers of a few bits in bytes, one after the other, the first in the lowest bits; a last byte may be filled in part. Bytes
/// do not go by themselves: they are packed anew where numbers go.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// How a row of numbers is built.
    pub of: Layout,
    /// Bits of each, 1 to 8.
    pub bits: u32,
}

/// A tensor that a node touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Input by position.
    In(u32),
    /// Output by position.
    Out(u32),
    /// Subgraph by position, and its formal input.
    Formal(u32, u32),
    /// Subgraph by position, and its output.
    Result(u32, u32),
}

/// A stretch of an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// Every combination of these labels' indices, the first label outermost.
    Product(SmallVec<[LabelId; 2]>),
    /// Chosen indices of one label, in this order.
    Pick(LabelId, Arc<[u32]>),
}

/// How one axis is built: segments one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout(pub SmallVec<[Segment; 1]>);

/// The geometry of a sliding window, outermost spatial axis first.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Window {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    /// All the begins, then all the ends; empty where the places that a window covers are not known before the model runs.
    pub pads: Vec<i64>,
}

/// One sum that the operator computes: over `summed`, of `data` times `weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// The first factor.
    pub data: Port,
    /// The second factor; `None` for a plain sum over `data`.
    pub weight: Option<Port>,
    /// The input that says which number of `weight` means zero (quantized weights); `None` is 0.
    pub zero: Option<Port>,
    /// All index spaces that one multiplication is done for each combination of, `summed` included.
    pub labels: Vec<LabelId>,
    /// Those that are summed over.
    pub summed: Vec<LabelId>,
    /// The window, for convolutions.
    pub window: Option<Window>,
}

/// The axes of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct PortLayout {
    /// What the operator's documentation calls it.
    pub name: Cow<'static, str>,
    /// One layout per axis.
    pub axes: Vec<Layout>,
}

/// How the indices of one node's tensors correspond. Prints as `x[b, g·i, s] w[g·o, i, k] → y[b, g·o, t]  Σ i,k`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relation {
    /// The index spaces.
    pub labels: Vec<Label>,
    /// The tensors whose shape is known.
    pub ports: BTreeMap<Port, PortLayout>,
    /// The sums.
    pub terms: Vec<Term>,
}

impl Relation {
    /// One label.
    pub fn label(&self, id: LabelId) -> &Label {
        &self.labels[id.index()]
    }

    /// Whether a term is a sum of products: it has a second factor, or (one that is no tensor of numbers, packed bytes or
    /// probabilities inside the operator) runs over index spaces that its data does not have.
    pub fn multiplies(&self, term: &Term) -> bool {
        let Some(data) = self.ports.get(&term.data) else {
            return term.weight.is_some();
        };
        term.weight.is_some()
            || term.labels.iter().any(|label| {
                !data
                    .axes
                    .iter()
                    .any(|axis| axis.labels().any(|other| other == *label))
            })
    }

    /// What the last label of a port's last axis packs: each row of bytes, innermost.
    pub fn packed(&self, port: Port) -> Option<&Packed> {
        let last = self.ports.get(&port)?.axes.last()?.labels().last()?;
        self.label(last).packs.as_ref()
    }

    /// The label of this name.
    pub fn named(&self, name: &str) -> Option<LabelId> {
        self.labels
            .iter()
            .position(|label| label.name == name)
            .map(|at| LabelId(at as u32))
    }
}

impl Segment {
    /// The labels it is built from.
    pub fn labels(&self) -> &[LabelId] {
        match self {
            Segment::Product(labels) => labels,
            Segment::Pick(label, _) => std::slice::from_ref(label),
        }
    }

    /// Its length, given the extents of the labels.
    pub fn extent(&self, labels: &[Label]) -> Dim {
        match self {
            Segment::Product(product) => {
                Dim::product(product.iter().map(|label| &labels[label.index()].extent))
            }
            Segment::Pick(_, indices) => Dim::from(indices.len()),
        }
    }
}

impl Layout {
    /// Every combination of these labels, the first outermost.
    pub fn product(labels: &[LabelId]) -> Self {
        Layout(smallvec::smallvec![Segment::Product(labels.into())])
    }

    /// One label after the other.
    pub fn sum(labels: &[LabelId]) -> Self {
        Layout(
            labels
                .iter()
                .map(|label| Segment::Product(smallvec::smallvec![*label]))
                .collect(),
        )
    }

    /// Chosen indices of one label.
    pub fn pick(label: LabelId, indices: impl IntoIterator<Item = u32>) -> Self {
        Layout(smallvec::smallvec![Segment::Pick(
            label,
            indices.into_iter().collect()
        )])
    }

    /// All labels that occur.
    pub fn labels(&self) -> impl Iterator<Item = LabelId> + '_ {
        self.0
            .iter()
            .flat_map(|segment| segment.labels().iter().copied())
    }

    /// Where in the axis what stays lies, ascending, given for each label the indices that stay (`None`: all do); `None` where an
    /// extent is not known.
    pub fn kept(&self, labels: &[Label], kept: &[Option<Arc<[u32]>>]) -> Option<Vec<u32>> {
        let mut places = Vec::new();
        let mut start = 0u32;
        for segment in &self.0 {
            match segment {
                Segment::Product(product) => {
                    let mut inside = vec![0u32];
                    for label in product {
                        let extent =
                            u32::try_from(labels.get(label.index())?.extent.count()?).ok()?;
                        let stays: Vec<u32> = match kept.get(label.index())? {
                            Some(kept) => kept.to_vec(),
                            None => (0..extent).collect(),
                        };
                        inside = inside
                            .iter()
                            .flat_map(|outer| stays.iter().map(move |index| outer * extent + index))
                            .collect();
                    }
                    places.extend(inside.into_iter().map(|place| start + place));
                }
                Segment::Pick(label, indices) => {
                    let stays = |index: &u32| {
                        kept[label.index()]
                            .as_ref()
                            .is_none_or(|kept| kept.binary_search(index).is_ok())
                    };
                    places.extend(
                        (start..)
                            .zip(indices.iter())
                            .filter(|(_, index)| stays(index))
                            .map(|(place, _)| place),
                    );
                }
            }
            start += u32::try_from(segment.extent(labels).count()?).ok()?;
        }
        Some(places)
    }

    /// Its length, given the extents of the labels.
    pub fn extent(&self, labels: &[Label]) -> Dim {
        self.0
            .iter()
            .fold(Dim::Num(0), |sum, segment| &sum + &segment.extent(labels))
    }
}

impl From<LabelId> for Layout {
    fn from(label: LabelId) -> Self {
        Layout::product(&[label])
    }
}
