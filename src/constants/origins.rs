//! What the constants of a model that was made ready for analysis are in the file that it came from.
//!
//! Readers of a shared constant get copies of their own, functions become nodes, and what is computed from constants is
//! stored. Plans, counts and reports speak of the file: of the constant that a copy is of, of `FUNCTION/NAME`, of the
//! computed value.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Index, Model, ValueId};
use crate::proto::TensorProto;

/// Which copies were made: name of the copy → name of the original.
pub type Copies = BTreeMap<String, String>;

/// Names of a working model's constants that the file has under another name, or has not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    /// Name of a copy → name of the constant that it is a copy of.
    pub copies: Copies,
    /// Name of what came out of a function → `FUNCTION/NAME`, of a subgraph there `FUNCTION/NODE/ATTRIBUTE/NAME`.
    pub named: BTreeMap<String, String>,
    /// Constants that the file computes from others.
    pub computed: BTreeSet<String>,
    /// Constants that the file does not have.
    pub added: BTreeSet<String>,
    /// Inputs that the file declares without a rank.
    pub ranked: Vec<String>,
}

/// A constant of the file, and the constants of the working model that stand for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name in the file, with the prefix of its subgraph or function.
    pub name: String,
    /// Whether the file computes it.
    pub computed: bool,
    /// The constants that stand for it: one, or copies for the readers.
    pub members: Vec<ValueId>,
}

impl Origins {
    /// Whether every constant stands in the file as it is.
    pub fn is_empty(&self) -> bool {
        *self == Origins::default()
    }

    /// The constant that a copy was first made of; the name itself if it is no copy.
    pub fn source<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        while let Some(source) = self.copies.get(name) {
            name = source;
        }
        name
    }

    /// The name of a value in the file.
    pub fn in_file(&self, model: &Model, value: ValueId) -> String {
        let entry = model.index().value(value);
        let source = if entry.graph == Index::MAIN {
            self.source(&entry.name)
        } else {
            &entry.name
        };
        self.named
            .get(source)
            .cloned()
            .unwrap_or_else(|| format!("{}{source}", model.index().prefix(model, entry.graph)))
    }

    /// Whether a value is none that the file has.
    pub fn is_added(&self, model: &Model, value: ValueId) -> bool {
        let entry = model.index().value(value);
        entry.graph == Index::MAIN && self.added.contains(&entry.name)
    }

    /// The file's constants and those that were added, in the order of the first that stands for each.
    pub fn families(&self, model: &Model) -> Vec<Family> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut families: Vec<Family> = Vec::new();
        for (value, entry) in model.index().values() {
            if model.tensor_proto(value).is_none() {
                continue;
            }
            let name = self.in_file(model, value);
            match places.get(&name) {
                Some(place) => families[*place].members.push(value),
                None => {
                    places.insert(name.clone(), families.len());
                    let computed = entry.graph == Index::MAIN
                        && self.computed.contains(self.source(&entry.name));
                    families.push(Family {
                        name,
                        computed,
                        members: vec![value],
                    });
                }
            }
        }
        families
    }
}

/// Whether two tensors hold the same, whatever they are called.
pub(super) fn same(one: &TensorProto, other: &TensorProto) -> bool {
    (&one.dims, one.data_type, &one.raw_data) == (&other.dims, other.data_type, &other.raw_data)
        && (
            &one.float_data,
            &one.int32_data,
            &one.int64_data,
            &one.double_data,
            &one.uint64_data,
        ) == (
            &other.float_data,
            &other.int32_data,
            &other.int64_data,
            &other.double_data,
            &other.uint64_data,
        )
}

impl Family {
    /// Its members sorted into those that hold the same numbers still.
    pub fn alike(&self, model: &Model) -> Vec<Vec<ValueId>> {
        let mut alike: Vec<Vec<ValueId>> = Vec::new();
        for value in &self.members {
            let Some(tensor) = model.tensor_proto(*value) else {
                continue;
            };
            let known = |values: &&mut Vec<ValueId>| {
                values
                    .first()
                    .and_then(|first| model.tensor_proto(*first))
                    .is_some_and(|first| same(first, tensor))
            };
            match alike.iter_mut().find(known) {
                Some(values) => values.push(*value),
                None => alike.push(vec![*value]),
            }
        }
        alike
    }
}
