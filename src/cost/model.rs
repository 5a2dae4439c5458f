//! What the model costs, as a function of what is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::Uncounted;
use super::count::{CountedTerm, counts, is_numeric, uncounted};
use super::grid::Timed;
use super::share::{KeptShare, share};
use super::stored::{Constants, Stored};
use crate::analysis::{Analysis, ClassId, Classes, Pins, Selection, infer, relate};
use crate::constants::Origins;
use crate::model::Model;

/// Multiply-accumulates, parameters and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
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

/// A cost that is a number times a product of extents.
#[derive(Clone, Debug)]
pub(super) struct CostTerm {
    pub factor: f64,
    pub extents: Vec<KeptShare>,
}

impl CostTerm {
    pub fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        self.factor
            * self
                .extents
                .iter()
                .map(|extent| extent.at(share))
                .product::<f64>()
    }
}

impl Timed {
    pub(super) fn at(&self, share: &dyn Fn(ClassId) -> f64) -> f64 {
        let shares: Vec<f64> = self.widths.iter().map(|width| width.at(share)).collect();
        self.factor * self.grid.at(&shares)
    }
}

/// The cost model of one analysed network.
#[derive(Clone, Debug, Default)]
pub struct CostModel {
    pub(super) macs: Vec<CostTerm>,
    pub(super) constants: Constants,
    /// Milliseconds of what is not measured by itself.
    pub(super) passes: Vec<CostTerm>,
    /// Milliseconds of what is.
    pub(super) times: Vec<Timed>,
    fixed_time: f64,
    /// What the operations leave out.
    uncounted: Vec<Uncounted>,
    /// Parameters and bytes of the file, where the model was made ready for analysis.
    file: Option<(f64, f64)>,
    /// What fractions are of, where the model was cut before.
    before: Option<Cost>,
}

/// Bytes that the notes of a cut take in the file: who made it, and by which plan.
pub const NOTES: f64 = 96.0;

impl CostModel {
    /// Builds the cost model of a model whose constants have these origins. `pins` give the input shapes at which operations are counted.
    pub fn new(model: &Model, analysis: &Analysis, origins: &Origins, pins: &Pins) -> Self {
        let Analysis {
            facts,
            relations,
            spaces,
            classes,
            ..
        } = analysis;
        let constants = Constants::count(model, spaces, classes, origins);
        let mut cost = CostModel {
            constants,
            ..Default::default()
        };
        let (at_shapes, related);
        let (facts, known) = if is_numeric(model, facts) {
            (facts, &relations[..])
        } else {
            at_shapes = infer(model, pins);
            related = relate(model, &at_shapes);
            (&at_shapes, &related[..])
        };
        let counted = counts(model, facts, known);
        let uncounted = uncounted(model, facts, known).into_iter();
        cost.uncounted = uncounted.map(|node| Uncounted::of(model, node)).collect();
        let widths = |count: &CountedTerm| -> Vec<KeptShare> {
            // A sum that is known at these shapes alone cannot be cut.
            let terms = &relations[count.node.index()].terms;
            let term = terms.get(count.term).filter(|_| terms.len() == count.of);
            let labels = term.into_iter().flat_map(|term| &term.labels);
            labels
                .filter_map(|label| share(spaces, classes, spaces.label(count.node, *label)))
                .collect()
        };
        let terms = counted.iter().map(|count| CostTerm {
            factor: count.macs,
            extents: widths(count),
        });
        cost.macs = terms.collect();
        cost
    }

    /// The nodes that the operations leave out, for nobody knows how many they take.
    pub fn uncounted(&self) -> &[Uncounted] {
        &self.uncounted
    }

    /// Classes whose cut may make several tensors of one that several nodes read.
    pub fn parting(&self) -> BTreeSet<ClassId> {
        self.constants
            .bytes
            .iter()
            .filter(|stored| stored.is_shared())
            .flat_map(Stored::classes)
            .collect()
    }

    /// Says what the file costs, of which the analysed model is a form. The notes of a cut count from then on.
    pub fn set_file(&mut self, params: f64, bytes: f64) {
        self.file = Some((params, bytes));
    }

    /// Says what the model cost before it was cut to what is analysed here: fractions are of that.
    pub fn set_before(&mut self, before: Cost) {
        self.before = Some(before);
    }

    /// The cost of the file: what fractions are of.
    pub fn original(&self) -> Cost {
        let whole = self.at(|_| 1.0);
        if let Some(before) = self.before {
            return Cost {
                time: whole.time,
                ..before
            };
        }
        let (params, bytes) = self.file.unwrap_or((whole.params, whole.bytes));
        Cost {
            params,
            bytes,
            ..whole
        }
    }

    /// Takes up measured times: of nodes by their widths, and of everything else together, which is shared out by the
    /// elements that the remaining nodes write (each: how many, and the widths that these depend on).
    pub fn set_times(
        &mut self,
        times: Vec<Timed>,
        rest: Vec<(f64, Vec<KeptShare>)>,
        rest_per_element: f64,
        fixed: f64,
    ) {
        self.times = times;
        self.fixed_time = fixed;
        self.passes = rest
            .into_iter()
            .map(|(elements, extents)| CostTerm {
                factor: elements * rest_per_element,
                extents,
            })
            .collect();
    }

    /// The cost of the model after a selection.
    pub fn of(&self, classes: &Classes, selection: &Selection) -> Cost {
        let counts: BTreeMap<ClassId, f64> = selection
            .classes()
            .map(|(class, kept)| {
                (
                    class,
                    kept.len() as f64 / f64::from(classes.get(class).extent.max(1)),
                )
            })
            .collect();
        self.at(|class| counts.get(&class).copied().unwrap_or(1.0))
    }

    /// The cost when this share of each class stays.
    pub fn at(&self, share: impl Fn(ClassId) -> f64) -> Cost {
        let sum = |products: &[CostTerm]| -> f64 {
            products.iter().map(|product| product.at(&share)).sum()
        };
        let kept = |constants: &[Stored]| -> f64 {
            constants.iter().map(|constant| constant.at(&share)).sum()
        };
        Cost {
            macs: sum(&self.macs),
            params: kept(&self.constants.params),
            bytes: self.constants.rest
                + kept(&self.constants.bytes)
                + if self.file.is_some() { NOTES } else { 0.0 },
            time: self.fixed_time
                + sum(&self.passes)
                + self.times.iter().map(|timed| timed.at(&share)).sum::<f64>(),
        }
    }
}
