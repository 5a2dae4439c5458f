//! Quality against labels, where the user has them.

use super::drift::largest;
use crate::model::TensorRef;

/// Share of rows of a model's first output, `[n, classes]` or `[n]` class ids, that are the labelled class, run after run.
#[derive(Clone, Debug)]
pub struct Top1<'a> {
    /// Labels of the rows to come; `None`: the output is not of that form, or the labels are used up.
    left: Option<&'a [i64]>,
    right: usize,
    rows: usize,
}

impl<'a> Top1<'a> {
    /// Before any run; the labels are those of all rows of all runs, in order.
    pub fn new(labels: &'a [i64]) -> Self {
        Top1 {
            left: Some(labels),
            right: 0,
            rows: 0,
        }
    }

    /// Adds the outputs of the next run.
    pub fn add(&mut self, outputs: &[TensorRef]) {
        self.left = self.left.and_then(|labels| {
            let classes = outputs.first().and_then(classes)?;
            let (here, left) = labels.split_at_checked(classes.len())?;
            self.right += here
                .iter()
                .zip(&classes)
                .filter(|(label, class)| label == class)
                .count();
            self.rows += classes.len();
            Some(left)
        });
    }

    /// The share; `None` where an output was of another form or there were fewer labels than rows.
    pub fn share(&self) -> Option<f64> {
        (self.left.is_some() && self.rows > 0).then(|| self.right as f64 / self.rows as f64)
    }
}

/// The class of each row of an output.
fn classes(output: &TensorRef) -> Option<Vec<i64>> {
    let numbers = output.to_f64()?;
    if !output.dtype.is_float() {
        return Some(numbers.into_iter().map(|id| id as i64).collect());
    }
    let [_, classes] = output.dims[..] else {
        return None;
    };
    (classes >= 2).then(|| {
        numbers
            .chunks_exact(classes)
            .map(|row| largest(row) as i64)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_held_against_the_labels_of_their_run() {
        let labels = [1, 0, 1];
        let scores = |rows: &[[f32; 2]]| [TensorRef::from_f32(vec![rows.len(), 2], &rows.concat())];
        let mut top1 = Top1::new(&labels);
        assert_eq!(top1.share(), None);
        top1.add(&scores(&[[0.0, 1.0], [0.0, 1.0]]));
        top1.add(&scores(&[[0.0, 1.0]]));
        assert_eq!(top1.share(), Some(2.0 / 3.0));
        top1.add(&scores(&[[0.0, 1.0]]));
        assert_eq!(top1.share(), None, "there is no label for the fourth row");
        let mut ids = Top1::new(&labels);
        ids.add(&[TensorRef::from_i64(vec![3], &[1, 1, 1])]);
        assert_eq!(ids.share(), Some(2.0 / 3.0));
        let mut maps = Top1::new(&labels);
        maps.add(&[TensorRef::from_f32(vec![1, 2, 1], &[0.0, 1.0])]);
        assert_eq!(maps.share(), None);
    }
}
