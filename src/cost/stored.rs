//! What constants cost as they are cut: one that several readers hold copies of is stored once for each way of cutting it.

use std::collections::HashSet;

use super::share::{KeptShare, ShareKey, packed, share};
use crate::analysis::{ClassId, Classes, Spaces};
use crate::constants::Origins;
use crate::model::{Model, ValueId};
use crate::proto::{Dtype, TensorProto, is_weight};

/// A cost of a constant of the file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// What it costs uncut.
    factor: f64,
    /// What every tensor costs beside, however much of it stays.
    each: f64,
    /// The ways in which its readers have it cut, each once; one that is never cut has no extents.
    members: Vec<Vec<KeptShare>>,
}

impl Stored {
    /// The cost when this share of each class stays. Members that lose nothing are one tensor still.
    pub fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        if let [only] = &self.members[..] {
            return self.cut(only, share);
        }
        let mut uncut = 0.0;
        let mut total = 0.0;
        for member in 0..self.members.len() {
            match self.member_at(member, share) {
                Some(cost) => total += cost,
                None => uncut = self.whole(),
            }
        }
        total + uncut
    }

    /// What one of several members costs; `None`: it loses nothing.
    pub fn member_at(&self, member: usize, share: &dyn Fn(ClassId) -> f64) -> Option<f64> {
        let extents = &self.members[member];
        let mut classes = extents.iter().flat_map(KeptShare::classes);
        classes
            .any(|class| share(class) != 1.0)
            .then(|| self.cut(extents, share))
    }

    fn cut(&self, extents: &[KeptShare], share: &dyn Fn(ClassId) -> f64) -> f64 {
        let kept = extents.iter().map(|extent| extent.at(share));
        self.each + self.factor * kept.product::<f64>()
    }

    /// The cost of a tensor that loses nothing.
    pub fn whole(&self) -> f64 {
        self.each + self.factor
    }

    /// The ways in which its readers have it cut.
    pub fn members(&self) -> &[Vec<KeptShare>] {
        &self.members
    }

    /// The classes that it depends on.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.members.iter().flatten().flat_map(KeptShare::classes)
    }

    /// Whether cutting one of its readers alone makes two tensors of one.
    pub fn is_shared(&self) -> bool {
        self.members.len() > 1
    }
}

/// Parameters and bytes of a model's constants.
#[derive(Clone, Debug, Default)]
pub(super) struct Constants {
    pub params: Vec<Stored>,
    pub bytes: Vec<Stored>,
    /// Bytes of the model without them.
    pub rest: f64,
}

impl Constants {
    /// Counts the constants of a model, copies as one constant where they hold the same.
    pub fn count(model: &Model, spaces: &Spaces, classes: &Classes, origins: &Origins) -> Self {
        let mut counted = Constants {
            rest: crate::model::encoded_len(model) as f64,
            ..Default::default()
        };
        if origins.is_empty() {
            model
                .index()
                .values()
                .for_each(|(value, _)| counted.add(model, spaces, classes, &[value]));
            return counted;
        }
        for family in origins.families(model) {
            for alike in family.alike(model) {
                counted.add(model, spaces, classes, &alike);
            }
        }
        counted
    }

    fn add(&mut self, model: &Model, spaces: &Spaces, classes: &Classes, alike: &[ValueId]) {
        let Some(tensor) = alike.first().and_then(|first| model.tensor_proto(*first)) else {
            return;
        };
        let mut ways: Vec<Vec<Option<KeptShare>>> = Vec::new();
        // Thousands of constants may be alike.
        let mut seen: HashSet<Vec<Option<ShareKey>>> = HashSet::new();
        for value in alike {
            let inside = spaces
                .axes(*value)
                .flat_map(|axis| packed(spaces, classes, axis))
                .map(Some);
            let way: Vec<Option<KeptShare>> = spaces
                .axes(*value)
                .map(|space| share(spaces, classes, space))
                .chain(inside)
                .collect();
            let key = |share: &Option<KeptShare>| share.as_ref().map(KeptShare::key);
            if seen.insert(way.iter().map(key).collect()) {
                ways.push(way);
            }
        }
        let members: Vec<Vec<KeptShare>> = ways
            .into_iter()
            .map(|way| way.into_iter().flatten().collect())
            .collect();
        let elements = tensor.dims.iter().product::<i64>() as f64;
        if is_weight(tensor) {
            self.params.push(Stored {
                factor: elements,
                each: 0.0,
                members: members.clone(),
            });
        }
        let data =
            elements * Dtype::from_code(tensor.data_type()).map_or(0, Dtype::bits) as f64 / 8.0;
        if alike.len() > 1 || members.iter().any(|extents| !extents.is_empty()) {
            let each = if alike.len() > 1 { around(tensor) } else { 0.0 };
            self.rest -= alike.len() as f64 * (data + each);
            self.bytes.push(Stored {
                factor: data,
                each,
                members,
            });
        }
    }
}

/// Bytes that a tensor takes beside its elements: name, dims, type and lengths.
fn around(tensor: &TensorProto) -> f64 {
    (tensor.name().len() + 2 * tensor.dims.len() + 16) as f64
}
