//! Outputs of two models held against each other, and classes against labels.

use crate::model::{Ends, TensorRef};
use crate::verify::{Drift, OutputDrift, Top1};

/// How far outputs moved, and the share of right classes before and after, as outputs come in.
pub struct Comparison<'a> {
    drift: Drift,
    labelled: Option<(Top1<'a>, Top1<'a>)>,
}

/// The drift of each output, and the share of right classes before and after, where there are labels.
pub type Compared = (Vec<OutputDrift>, Option<(f64, f64)>);

impl<'a> Comparison<'a> {
    /// Compares outputs of these names; `ends` are what is left of them. Labels are class ids of all rows to come, of the
    /// first output; where that lost classes they are not looked at, for classes that are gone have no number any more.
    pub fn new(names: &[String], ends: &Ends, labels: Option<&'a [i64]>) -> Self {
        let labels = labels.filter(|_| !names.first().is_some_and(|name| ends.changes(name)));
        Comparison {
            drift: Drift::new(names, ends),
            labelled: labels.map(|labels| (Top1::new(labels), Top1::new(labels))),
        }
    }

    /// Takes in what both gave for one input.
    pub fn add(&mut self, before: &[TensorRef], after: &[TensorRef]) {
        self.drift.add(before, after);
        if let Some((original, pruned)) = &mut self.labelled {
            original.add(before);
            pruned.add(after);
        }
    }

    /// What it came to.
    pub fn finish(self) -> Compared {
        let labelled = self
            .labelled
            .and_then(|(original, pruned)| Some((original.share()?, pruned.share()?)));
        (self.drift.finish(), labelled)
    }
}
