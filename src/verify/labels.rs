//! Quality against labels, where the user has them.

use super::drift::largest;
use crate::model::TensorRef;

/// Share of rows of an output [n, classes] whose largest element is the labelled class. `None` where the output is not
/// of that form or there are fewer labels than rows.
pub fn top1(outputs: &[Vec<TensorRef>], output: usize, labels: &[i64]) -> Option<f64> {
    let (mut right, mut rows) = (0usize, 0usize);
    for outputs in outputs {
        let tensor = outputs.get(output)?;
        let scores = tensor.to_f64()?;
        let ids = !tensor.dtype.is_float();
        let classes = if ids { 1 } else { *tensor.dims.last()? };
        if classes == 0 || !ids && (tensor.dims.len() != 2 || classes < 2) {
            return None;
        }
        for row in scores.chunks_exact(classes) {
            let found = if ids { row[0] as i64 } else { largest(row) as i64 };
            right += usize::from(*labels.get(rows)? == found);
            rows += 1;
        }
    }
    (rows > 0).then(|| right as f64 / rows as f64)
}
