//! Where a round begins, and where it ends.

use crate::model::{Index, Model, ValueId};
use crate::recover::Repair;
use crate::train::TrainingRecord;
use crate::workspace::Workspace;

/// Where a round begins.
pub(super) struct RoundState {
    /// The model so far; `None`: the original.
    pub prepared: Option<Workspace>,
    /// Units of the original that are gone, by group.
    pub gone: Vec<Vec<u32>>,
    pub repairs: Vec<Repair>,
    /// The number of the round whose weights are trained before the next; `None`: they are not.
    pub course: Option<usize>,
    /// How weights were trained between rounds.
    pub lessons: Vec<TrainingRecord>,
    /// Factor by which measured latencies have shown the table of operators to be wrong.
    pub correction: f64,
    /// The original with the numbers of a lighter cut that was mended, where there is one to start from.
    pub warm: Option<Model>,
    /// Whether inputs that no choice goes by judge the cut in the end: what was measured needs no care then.
    pub judged: bool,
}

impl RoundState {
    /// Nothing is gone yet.
    pub fn whole(original: &Workspace) -> Self {
        RoundState {
            prepared: None,
            gone: vec![Vec::new(); original.analysis.groups.len()],
            repairs: Vec::new(),
            course: None,
            lessons: Vec::new(),
            correction: 1.0,
            warm: None,
            judged: false,
        }
    }
}

/// A constant that is not of the same shape in both.
pub(super) fn differs(one: &Model, other: &Model) -> Option<String> {
    let dims =
        |model: &Model, value: ValueId| model.tensor_proto(value).map(|tensor| tensor.dims.clone());
    let values = other.index().main_values();
    let find = |name: &str| values.get(name).and_then(|value| dims(other, *value));
    let main = one
        .index()
        .values()
        .filter(|(_, entry)| entry.graph == Index::MAIN);
    main.filter_map(|(value, entry)| Some((dims(one, value)?, entry.name.clone())))
        .find(|(dims, name)| find(name).is_some_and(|found| found != *dims))
        .map(|(_, name)| name)
}
