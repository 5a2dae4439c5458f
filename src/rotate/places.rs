//! Where classes of factors are carried: axes of values, labels of nodes, and how they correspond.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::{Analysis, ClassId, Correspondence, PieceAt, SpaceId};
use crate::model::{Model, NodeId, ValueId};
use crate::relation::LabelId;

/// Where a class is carried.
#[derive(Default)]
pub(super) struct PlacesOfClass {
    /// Axes of values.
    pub values: Vec<(ValueId, usize, usize)>,
    /// Labels of nodes.
    pub nodes: BTreeMap<NodeId, BTreeSet<LabelId>>,
    /// Pairs of places that correspond, axes first.
    pub pairs: Vec<(PieceAt, PieceAt)>,
    /// Whether a node picks some of it.
    pub picked: bool,
}

/// The same for all classes that carry something.
pub(super) struct ClassPlaces {
    pub of: BTreeMap<ClassId, PlacesOfClass>,
}

impl ClassPlaces {
    /// Collects them in one walk over the model.
    pub fn collect(model: &Model, analysis: &Analysis) -> Self {
        let mut of: BTreeMap<ClassId, PlacesOfClass> = BTreeMap::new();
        let (spaces, classes) = (&analysis.spaces, &analysis.classes);
        let carried = |space: SpaceId| {
            let pieces = 0..spaces.get(space).pieces.len();
            pieces.filter_map(move |piece| Some((piece, classes.carrier(space, piece)?.class)))
        };
        for (value, _) in model.index().values() {
            for (axis, space) in spaces.axes(value).enumerate() {
                for (piece, class) in carried(space) {
                    let values = &mut of.entry(class).or_default().values;
                    values.push((value, axis, piece));
                }
            }
        }
        for (node, _) in model.index().nodes() {
            for label in 0..analysis.relations[node.index()].labels.len() as u32 {
                for (_, class) in carried(spaces.label(node, LabelId(label))) {
                    let nodes = &mut of.entry(class).or_default().nodes;
                    nodes.entry(node).or_default().insert(LabelId(label));
                }
            }
        }
        for correspondence in &spaces.correspondences {
            if let Correspondence::Pick { axis, label, .. } = correspondence {
                for (_, class) in carried(*axis).chain(carried(*label)) {
                    of.entry(class).or_default().picked = true;
                }
            }
            for (one, two) in spaces.matches(correspondence) {
                let class = |(space, piece): PieceAt| Some(classes.carrier(space, piece)?.class);
                if let (Some(first), Some(second)) = (class(one), class(two))
                    && first == second
                {
                    of.entry(first).or_default().pairs.push((one, two));
                }
            }
        }
        ClassPlaces { of }
    }
}
