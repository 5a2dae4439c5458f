//! Outputs of two models held against each other, and classes against labels.

use crate::model::{Ends, TensorRef};
use crate::verify::{Drift, Embeddings, OutputDrift, Top1};

/// How far outputs moved, and the share of right classes before and after, as outputs come in.
pub struct Comparison<'a> {
    drift: Drift,
    /// Each output with its rows, as long as they are embeddings.
    embedded: Vec<(String, Embeddings)>,
    ends: Ends,
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
            embedded: names
                .iter()
                .map(|name| (name.clone(), Embeddings::default()))
                .collect(),
            ends: ends.clone(),
            labelled: labels.map(|labels| (Top1::new(labels), Top1::new(labels))),
        }
    }

    /// Takes in what both gave for one input.
    pub fn add(&mut self, before: &[TensorRef], after: &[TensorRef]) {
        self.drift.add(before, after);
        for ((name, rows), (before, after)) in
            self.embedded.iter_mut().zip(before.iter().zip(after))
        {
            if rows.hold() {
                add_rows(rows, &self.ends.of(name, before), after);
            }
        }
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
        let mut outputs = self.drift.finish();
        for (output, (_, rows)) in outputs.iter_mut().zip(&self.embedded) {
            if rows.count() > 0 {
                // Their entries are no classes.
                (output.top1_agreement, output.kl) = (None, None);
                output.rank_correlation = rows.correlation();
            }
        }
        (outputs, labelled)
    }
}

/// Adds the rows of an output where it has one for each sample.
fn add_rows(rows: &mut Embeddings, before: &TensorRef, after: &TensorRef) {
    let width = before.dims.last().copied().unwrap_or(1);
    if !before.dtype.is_float() || before.dims.len() != 2 || width < 2 {
        rows.refuse();
        return;
    }
    match (before.to_f64(), after.to_f64()) {
        (Some(before), Some(after)) => {
            let pairs = before.chunks_exact(width).zip(after.chunks_exact(width));
            pairs.for_each(|(before, after)| rows.add(before, after));
        }
        _ => rows.refuse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_held_against_each_other_and_classes_counted() {
        let mut comparison =
            Comparison::new(&["e".to_owned(), "s".to_owned()], &Ends::default(), None);
        for angle in [0.1f32, 0.7, 1.5, 4.0] {
            // All turned alike: no largest entry says anything, and all similarities stay.
            let turned = |by: f32| {
                let (sine, cosine) = (angle + by).sin_cos();
                let row = [cosine, sine, -1e-6];
                TensorRef::from_f32(vec![1, 3], &row)
            };
            let scores = TensorRef::from_f32(vec![1, 2], &[angle, 1.0]);
            comparison.add(&[turned(0.0), scores.clone()], &[turned(1.5), scores]);
        }
        let (outputs, _) = comparison.finish();
        let [embedding, classes] = &outputs[..] else {
            panic!("two outputs")
        };
        assert_eq!((embedding.top1_agreement, embedding.kl), (None, None));
        let found = embedding.agreement().unwrap();
        assert!(found > 0.999 && embedding.rank_correlation == Some(found));
        assert_eq!(classes.agreement(), Some(1.0));
        assert_eq!(
            (classes.top1_agreement, classes.rank_correlation),
            (Some(1.0), None)
        );
    }
}
