//! What the model costs, as a function of what is kept.

use std::collections::BTreeMap;

use super::classes::{ClassId, Classes};
use super::groups::Selection;
use super::infer::{Facts, Pins, infer};
use super::relate::relate;
use super::spaces::{SpaceId, Spaces};
use super::timing::Timed;
use crate::facts::Dim;
use crate::model::{Model, ValueId};
use crate::proto::Dtype;
use crate::relation::{LabelId, Relation};

/// Multiply-accumulates, parameters and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiply-accumulate operations of one run at the accounted input shapes.
    pub macs: f64,
    /// Elements of weights: constants of a floating or quantized type that take part in the computation.
    pub params: f64,
    /// Bytes of the file.
    pub bytes: f64,
    /// Milliseconds of one run by a table of measured operators; 0 where none was made.
    pub time: f64,
}

/// How many indices of a space stay, as a linear function of how many elements of each class do.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    constant: f64,
    parts: Vec<(ClassId, f64)>,
}

/// A cost that is a number times a product of extents.
#[derive(Clone, Debug)]
struct Product {
    factor: f64,
    extents: Vec<Extent>,
}

impl Extent {
    /// The share of the space that stays when this share of each class does.
    pub fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        self.constant + self.parts.iter().map(|(class, part)| part * share(*class)).sum::<f64>()
    }
}

impl Product {
    fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        self.factor * self.extents.iter().map(|extent| extent.at(share)).product::<f64>()
    }
}

impl Timed {
    fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        let shares: Vec<f64> = self.widths.iter().map(|width| width.at(share)).collect();
        self.factor * self.grid.at(&shares)
    }
}

/// The cost model of one analysed network.
#[derive(Clone, Debug, Default)]
pub struct Account {
    macs: Vec<Product>,
    params: Vec<Product>,
    bytes: Vec<Product>,
    /// Milliseconds of what is not measured by itself.
    passes: Vec<Product>,
    /// Milliseconds of what is.
    times: Vec<Timed>,
    fixed_bytes: f64,
    fixed_time: f64,
}

/// Numbers of the tables of an account.
const MACS: u8 = 0;
const PARAMS: u8 = 1;
const BYTES: u8 = 2;
const PASSES: u8 = 3;
const TIMES: u8 = 4;

impl Account {
    /// Builds the cost model. `pins` give the input shapes at which operations are counted.
    pub fn build(model: &Model, spaces: &Spaces, classes: &Classes, facts: &Facts, relations: &[Relation], pins: &Pins) -> Self {
        let mut account = Account { fixed_bytes: crate::model::encoded_len(model) as f64, ..Default::default() };
        let concrete;
        let counted = if is_numeric(model, facts) {
            relations
        } else {
            let facts = infer(model, pins);
            concrete = relate(model, &facts);
            &concrete
        };
        for (node, entry) in model.index().nodes() {
            let (relation, counted) = (&relations[node.index()], &counted[node.index()]);
            let weight = once_if_branch(model, entry.graph);
            for (term, counted_term) in relation.terms.iter().zip(&counted.terms) {
                if !relation.multiplies(term) || relation.terms.len() != counted.terms.len() {
                    continue;
                }
                let full: f64 = counted_term.labels.iter().map(|label| number(&counted.label(*label).extent)).product();
                let extents = term.labels.iter().filter_map(|label: &LabelId| share(spaces, classes, spaces.label(node, *label)));
                account.macs.push(Product { factor: full * weight, extents: extents.collect() });
            }
        }
        for (value, _) in model.index().values() {
            account.constant(model, spaces, classes, value);
        }
        account
    }

    fn constant(&mut self, model: &Model, spaces: &Spaces, classes: &Classes, value: ValueId) {
        let Some(tensor) = model.tensor_proto(value) else { return };
        let elements = tensor.dims.iter().product::<i64>() as f64;
        let extents: Vec<Extent> = spaces.axes(value).filter_map(|space| share(spaces, classes, space)).collect();
        if is_weight(tensor) {
            self.params.push(Product { factor: elements, extents: extents.clone() });
        }
        let bits = Dtype::from_code(tensor.data_type()).map_or(0, Dtype::bits) as f64;
        if !extents.is_empty() {
            self.fixed_bytes -= elements * bits / 8.0;
            self.bytes.push(Product { factor: elements * bits / 8.0, extents });
        }
    }

    fn products(&self, table: u8) -> &[Product] {
        match table {
            MACS => &self.macs,
            PARAMS => &self.params,
            BYTES => &self.bytes,
            _ => &self.passes,
        }
    }

    /// The widths that each entry of a table depends on.
    fn widths(&self, table: u8) -> Vec<&[Extent]> {
        match table {
            TIMES => self.times.iter().map(|timed| timed.widths.as_slice()).collect(),
            _ => self.products(table).iter().map(|product| product.extents.as_slice()).collect(),
        }
    }

    fn entry(&self, table: u8, at: usize, share: &dyn Fn(ClassId) -> f64) -> f64 {
        match table {
            TIMES => self.times.get(at).map_or(0.0, |timed| timed.at(share)),
            _ => self.products(table).get(at).map_or(0.0, |product| product.at(share)),
        }
    }

    /// Takes up measured times: of nodes by their widths, and of everything else together, which is shared out by the
    /// elements that the remaining nodes write (each: how many, and the widths that these depend on).
    pub fn set_times(&mut self, times: Vec<Timed>, rest: Vec<(f64, Vec<Extent>)>, rest_per_element: f64, fixed: f64) {
        self.times = times;
        self.fixed_time = fixed;
        self.passes = rest.into_iter().map(|(elements, extents)| Product { factor: elements * rest_per_element, extents }).collect();
    }

    /// Leaves out bytes that stand in the analysed model only.
    pub fn discount_bytes(&mut self, bytes: f64) {
        self.fixed_bytes -= bytes;
    }

    /// The cost of the model after a selection.
    pub fn of(&self, classes: &Classes, selection: &Selection) -> Cost {
        let counts: BTreeMap<ClassId, f64> =
            selection.classes().map(|(class, kept)| (class, kept.len() as f64 / f64::from(classes.get(class).extent.max(1)))).collect();
        self.at(|class| counts.get(&class).copied().unwrap_or(1.0))
    }

    /// The cost when this share of each class stays.
    pub fn at(&self, share: impl Fn(ClassId) -> f64) -> Cost {
        let sum = |products: &[Product]| -> f64 { products.iter().map(|product| product.at(&share)).sum() };
        Cost {
            macs: sum(&self.macs),
            params: sum(&self.params),
            bytes: self.fixed_bytes + sum(&self.bytes),
            time: self.fixed_time + sum(&self.passes) + self.times.iter().map(|timed| timed.at(&share)).sum::<f64>(),
        }
    }
}

/// The cost of a model as its widths change one after the other: what a step would change is found without counting the
/// whole model again.
#[derive(Clone, Debug)]
pub struct Ledger<'a> {
    account: &'a Account,
    /// Share of each class that stays.
    shares: Vec<f64>,
    /// Tables and places of the products that a class occurs in.
    occurs: Vec<Vec<(u8, u32)>>,
    total: Cost,
}

impl<'a> Ledger<'a> {
    /// Everything stays.
    pub fn new(account: &'a Account, classes: usize) -> Self {
        let mut occurs = vec![Vec::new(); classes];
        for table in [MACS, PARAMS, BYTES, PASSES, TIMES] {
            for (at, widths) in account.widths(table).into_iter().enumerate() {
                for (class, _) in widths.iter().flat_map(|extent| &extent.parts) {
                    let places: &mut Vec<(u8, u32)> = &mut occurs[class.index()];
                    if places.last() != Some(&(table, at as u32)) {
                        places.push((table, at as u32));
                    }
                }
            }
        }
        Ledger { account, shares: vec![1.0; classes], occurs, total: account.at(|_| 1.0) }
    }

    /// The cost now.
    pub fn cost(&self) -> Cost {
        self.total
    }

    /// The cost if these classes keep these shares.
    pub fn with(&self, changes: &[(ClassId, f64)]) -> Cost {
        let mut places: Vec<(u8, u32)> = changes.iter().flat_map(|(class, _)| &self.occurs[class.index()]).copied().collect();
        places.sort_unstable();
        places.dedup();
        let mut total = self.total;
        let changed =
            |class: ClassId| changes.iter().find(|(other, _)| *other == class).map_or(self.shares[class.index()], |(_, share)| *share);
        for (table, at) in places {
            let entry = |share: &dyn Fn(ClassId) -> f64| self.account.entry(table, at as usize, share);
            let difference = entry(&changed) - entry(&|class| self.shares[class.index()]);
            match table {
                MACS => total.macs += difference,
                PARAMS => total.params += difference,
                BYTES => total.bytes += difference,
                _ => total.time += difference,
            }
        }
        total
    }

    /// These classes now keep these shares.
    pub fn set(&mut self, changes: &[(ClassId, f64)]) {
        self.total = self.with(changes);
        changes.iter().for_each(|(class, share)| self.shares[class.index()] = *share);
    }
}

/// Whether a constant counts as parameters: real numbers, or the bytes of quantized weights.
pub fn is_weight(tensor: &crate::proto::TensorProto) -> bool {
    use Dtype::*;
    let dtype = Dtype::from_code(tensor.data_type());
    dtype.is_some_and(|dtype| {
        dtype.is_float() || matches!(dtype, Int8 | Uint8 | Int4 | Uint4 | Int2 | Uint2) || dtype.name().starts_with("float")
    })
}

/// The share of a space that each class makes up; `None` when no class of it is free.
pub(super) fn share(spaces: &Spaces, classes: &Classes, space: SpaceId) -> Option<Extent> {
    let total = number(&spaces.get(space).extent).max(1.0);
    let mut extent = Extent::default();
    for (at, piece) in spaces.get(space).pieces.iter().enumerate() {
        let part = number(&piece.size()) / total;
        match classes.carrier(space, at) {
            Some(factor) => extent.parts.push((factor.class, part)),
            None => extent.constant += part,
        }
    }
    (!extent.parts.is_empty()).then_some(extent)
}

/// Extents that stay unknown even with pinned inputs depend on data; they count once.
fn number(dim: &Dim) -> f64 {
    dim.num().map_or(1.0, |number| number as f64)
}

fn is_numeric(model: &Model, facts: &Facts) -> bool {
    model.index().values().all(|(value, _)| facts.of(value).shape.as_ref().is_none_or(|shape| shape.iter().all(|dim| dim.num().is_some())))
}

/// Only one branch of an `If` runs; each counts by its share.
fn once_if_branch(model: &Model, graph: crate::model::GraphId) -> f64 {
    let entry = model.index().graph(graph);
    match entry.parent {
        None => 1.0,
        Some(node) => {
            let own = if model.node(node).op_type() == "If" { 0.5 } else { 1.0 };
            own * once_if_branch(model, model.index().node(node).graph)
        }
    }
}
