//! How much of an axis stays, by what is kept of each class.

use super::count::number;
use crate::analysis::{Analysis, ClassId, Classes, SpaceId, Spaces};

/// How many indices of a space stay, as a linear function of how many elements of each class do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptShare {
    constant: f64,
    parts: Vec<(ClassId, f64)>,
}

/// What tells shares apart.
pub(super) type ShareKey = (u64, Vec<(ClassId, u64)>);

impl KeptShare {
    /// Equal for equal shares.
    pub(super) fn key(&self) -> ShareKey {
        let parts = self.parts.iter();
        let parts = parts.map(|(class, part)| (*class, part.to_bits()));
        (self.constant.to_bits(), parts.collect())
    }

    /// The share of the space that stays when this share of each class does.
    pub fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        self.constant
            + self
                .parts
                .iter()
                .map(|(class, part)| part * share(*class))
                .sum::<f64>()
    }

    /// The classes that it depends on.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.parts.iter().map(|(class, _)| *class)
    }
}

/// The shares of the numbers that the bytes of an axis hold packed, each by the label that they run over.
pub(super) fn packed<'a>(
    spaces: &'a Spaces,
    classes: &'a Classes,
    axis: SpaceId,
) -> impl Iterator<Item = KeptShare> + 'a {
    spaces.packed(axis).iter().filter_map(move |(label, part)| {
        let share = share(spaces, classes, *label)?;
        Some(KeptShare {
            constant: share.constant * part + 1.0 - part,
            parts: share
                .parts
                .into_iter()
                .map(|(class, of)| (class, of * part))
                .collect(),
        })
    })
}

/// How much of a space stays, as a function of what stays of each class; `None` when nothing of it can go.
pub fn width(analysis: &Analysis, space: SpaceId) -> Option<KeptShare> {
    share(&analysis.spaces, &analysis.classes, space)
}

/// The share of a space that each class makes up; `None` when no class of it is free.
pub(super) fn share(spaces: &Spaces, classes: &Classes, space: SpaceId) -> Option<KeptShare> {
    let total = number(&spaces.get(space).extent).max(1.0);
    let mut extent = KeptShare::default();
    for (at, piece) in spaces.get(space).pieces.iter().enumerate() {
        let part = number(&piece.size()) / total;
        match classes.carrier(space, at) {
            Some(factor) => extent.parts.push((factor.class, part)),
            None => extent.constant += part,
        }
    }
    (!extent.parts.is_empty()).then_some(extent)
}
