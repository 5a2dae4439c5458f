//! The cost of a model as its widths change one after the other.

use std::collections::BTreeMap;

use super::model::{Cost, CostModel, CostTerm};
use super::share::KeptShare;
use super::stored::Stored;
use crate::analysis::ClassId;

/// The tables of a cost model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CostTable {
    Macs,
    Params,
    Bytes,
    Passes,
    Times,
}

/// What depends on a class: an entry of a table, or one member of it where several readers hold copies of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dependent {
    table: CostTable,
    entry: usize,
    member: Option<usize>,
}

/// The cost of a model as its widths change one after the other: what a step would change is found without counting the
/// whole model again.
#[derive(Clone, Debug)]
pub struct IncrementalCost<'a> {
    cost: &'a CostModel,
    /// Share of each class that stays.
    shares: Vec<f64>,
    /// By class the places that depend on it.
    occurs: Vec<Vec<Dependent>>,
    /// Of constants that several readers hold copies of, how many of these are whole: together they are one tensor.
    whole: BTreeMap<(CostTable, usize), usize>,
    total: Cost,
}

/// A change of the total, and how many copies are whole after it.
type ChangedCost = (Cost, BTreeMap<(CostTable, usize), usize>);

impl<'a> IncrementalCost<'a> {
    /// Everything stays.
    pub fn new(cost: &'a CostModel, classes: usize) -> Self {
        let mut ledger = IncrementalCost {
            cost,
            shares: vec![1.0; classes],
            occurs: vec![Vec::new(); classes],
            whole: BTreeMap::new(),
            total: cost.at(|_| 1.0),
        };
        ledger.add_terms(CostTable::Macs, &cost.macs);
        ledger.add_constants(CostTable::Params, &cost.constants.params);
        ledger.add_constants(CostTable::Bytes, &cost.constants.bytes);
        ledger.add_terms(CostTable::Passes, &cost.passes);
        for (entry, timed) in cost.times.iter().enumerate() {
            ledger.add(CostTable::Times, entry, None, &timed.widths);
        }
        ledger
    }

    fn add_terms(&mut self, table: CostTable, terms: &[CostTerm]) {
        for (entry, term) in terms.iter().enumerate() {
            self.add(table, entry, None, &term.extents);
        }
    }

    fn add_constants(&mut self, table: CostTable, constants: &[Stored]) {
        for (entry, stored) in constants.iter().enumerate() {
            let members = stored.members();
            if let [only] = members {
                self.add(table, entry, None, only);
                continue;
            }
            self.whole.insert((table, entry), members.len());
            for (member, extents) in members.iter().enumerate() {
                self.add(table, entry, Some(member), extents);
            }
        }
    }

    fn add(
        &mut self,
        table: CostTable,
        entry: usize,
        member: Option<usize>,
        extents: &[KeptShare],
    ) {
        let place = Dependent {
            table,
            entry,
            member,
        };
        for class in extents.iter().flat_map(KeptShare::classes) {
            let places = &mut self.occurs[class.index()];
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }

    /// The cost now.
    pub fn cost(&self) -> Cost {
        self.total
    }

    /// The cost if these classes keep these shares.
    pub fn with(&self, changes: &[(ClassId, f64)]) -> Cost {
        self.changed(changes).0
    }

    /// These classes now keep these shares.
    pub fn set(&mut self, changes: &[(ClassId, f64)]) {
        let (total, whole) = self.changed(changes);
        self.total = total;
        self.whole.extend(whole);
        changes
            .iter()
            .for_each(|(class, share)| self.shares[class.index()] = *share);
    }

    fn changed(&self, changes: &[(ClassId, f64)]) -> ChangedCost {
        let places = changes
            .iter()
            .flat_map(|(class, _)| &self.occurs[class.index()]);
        let mut places: Vec<Dependent> = places.copied().collect();
        places.sort_unstable();
        places.dedup();
        let before = |class: ClassId| self.shares[class.index()];
        let after = |class: ClassId| {
            let changed = changes.iter().find(|(other, _)| *other == class);
            changed.map_or(before(class), |(_, share)| *share)
        };
        let mut total = self.total;
        let mut whole: BTreeMap<(CostTable, usize), usize> = BTreeMap::new();
        for place in places {
            let (then, now) = (self.at(place, &before), self.at(place, &after));
            total.add(place.table, now.unwrap_or(0.0) - then.unwrap_or(0.0));
            if then.is_none() != now.is_none() {
                let key = (place.table, place.entry);
                let left = whole.entry(key).or_insert(self.whole[&key]);
                *left = if now.is_none() { *left + 1 } else { *left - 1 };
            }
        }
        for (key, left) in &whole {
            let kept = |left: usize| f64::from(u8::from(left > 0));
            let difference = kept(*left) - kept(self.whole[key]);
            total.add(key.0, difference * self.stored(key.0, key.1).whole());
        }
        (total, whole)
    }

    /// What a place costs; `None`: it is a copy that is whole, which costs nothing by itself.
    fn at(&self, place: Dependent, share: &dyn Fn(ClassId) -> f64) -> Option<f64> {
        let entry = place.entry;
        match (place.table, place.member) {
            (CostTable::Macs, _) => Some(self.cost.macs[entry].at(share)),
            (CostTable::Passes, _) => Some(self.cost.passes[entry].at(share)),
            (CostTable::Times, _) => Some(self.cost.times[entry].at(share)),
            (table, None) => Some(self.stored(table, entry).at(share)),
            (table, Some(member)) => self.stored(table, entry).member_at(member, share),
        }
    }

    fn stored(&self, table: CostTable, entry: usize) -> &'a Stored {
        match table {
            CostTable::Params => &self.cost.constants.params[entry],
            _ => &self.cost.constants.bytes[entry],
        }
    }
}

impl Cost {
    fn add(&mut self, table: CostTable, difference: f64) {
        let part = match table {
            CostTable::Macs => &mut self.macs,
            CostTable::Params => &mut self.params,
            CostTable::Bytes => &mut self.bytes,
            CostTable::Passes | CostTable::Times => &mut self.time,
        };
        *part += difference;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Options;
    use crate::model::text;
    use crate::workspace::Workspace;

    #[test]
    fn copies_that_are_cut_apart_are_counted_as_by_the_whole_model() {
        let net = "opset 13\ninput x f32[1,4]\nconst w f32[4,12]\nconst v f32[12,4]\nconst t f32[12,3]\n\
                   a = MatMul(x, w)\nb = Relu(a)\ny = MatMul(b, v)\nc = MatMul(x, w)\nd = Tanh(c)\nz = MatMul(d, t)\n\
                   u = MatMul(x, w)\noutput y\noutput z\noutput u";
        let model = text::model(net).unwrap();
        let workspace = Workspace::new(&model, &Options::default()).unwrap();
        let (analysis, cost) = (&workspace.analysis, &workspace.cost);
        assert!(
            !cost.parting().is_empty(),
            "one weight with several readers"
        );
        let classes = analysis.classes.classes.len();
        let mut ledger = IncrementalCost::new(cost, classes);
        let mut shares = vec![1.0; classes];
        for (step, group) in analysis.groups.iter().cycle().take(12).enumerate() {
            let left = [0.5, 0.75, 1.0][step % 3];
            let changes: Vec<_> = group.classes.iter().map(|class| (*class, left)).collect();
            let foreseen = ledger.with(&changes);
            ledger.set(&changes);
            changes
                .iter()
                .for_each(|(class, left)| shares[class.index()] = *left);
            let counted = cost.at(|class| shares[class.index()]);
            for (one, other) in [(foreseen, counted), (ledger.cost(), counted)] {
                assert!(
                    (one.params - other.params).abs() < 1e-6,
                    "{one:?} {other:?}"
                );
                assert!((one.bytes - other.bytes).abs() < 1e-6, "{one:?} {other:?}");
                assert!((one.macs - other.macs).abs() < 1e-6, "{one:?} {other:?}");
            }
        }
    }
}
