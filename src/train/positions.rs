//! Positions of sequences that count: what is padding is not learnt from.

use crate::calibrate::SequenceAxes;
use crate::gradient::FloatArray;
use crate::inputs::Batches;
use crate::model::{Model, TensorRef};
use crate::run::Tensors;

/// The name under which marks go through views together with the inputs; no input can have it.
const MARKS: &str = "\0marks";

/// A one for each position that counts: rows × positions. `None`: all count.
pub(super) type Marks = Option<TensorRef>;

/// Marks the positions of some runs that count, beside the batch that they make, so that views change both alike.
pub(super) fn mark(inputs: &dyn Batches, runs: &[usize], batch: &mut Tensors) {
    if let Some(marks) = marks(inputs, runs, batch) {
        batch.insert(MARKS.to_owned(), marks);
    }
}

/// Takes the marks out of a batch again.
pub(super) fn take_marks(batch: &mut Tensors) -> Marks {
    batch.shift_remove(MARKS)
}

/// A one for each position of some runs that counts.
pub(super) fn marks(inputs: &dyn Batches, runs: &[usize], batch: &Tensors) -> Marks {
    let name = inputs.sequence_axes()?.keys().next()?;
    let rows = *batch.get(name)?.dims.first()?;
    let each = rows / runs.len().max(1);
    let mut ones = Vec::new();
    let mut width = 0;
    for run in runs {
        let sequence = inputs.sequence(*run)?;
        width = sequence.width;
        let row = (0..width).map(|position| i64::from(position < sequence.counts));
        let row: Vec<i64> = row.collect();
        (0..each).for_each(|_| ones.extend_from_slice(&row));
    }
    (ones.len() == rows * width).then(|| TensorRef::from_i64(vec![rows, width], &ones))
}

/// The axis of each of some values of a model, by name, that positions lie along.
pub(super) fn position_axes(
    model: &Model,
    inputs: &dyn Batches,
    names: &[String],
) -> Vec<Option<usize>> {
    let axes = SequenceAxes::of(model, inputs);
    let by_name = model.index().main_values();
    let axis = |name: &String| axes.axis(*by_name.get(name.as_str())?);
    names.iter().map(axis).collect()
}

/// Makes a target what was found where a position does not count: there is no error, and no derivative. Positions lie along
/// `axis` behind the first one, which holds the rows.
pub(super) fn spare(target: &mut FloatArray, found: &FloatArray, axis: usize, marks: &TensorRef) {
    let ([rows, width], Some(ones)) = (&marks.dims[..], marks.to_i64()) else {
        return;
    };
    let [before, extent, after] = target.around(axis);
    let fits = axis > 0 && extent == *width && target.dims[0] == *rows && found.dims == target.dims;
    if !fits || before == 0 {
        return;
    }
    let inner = before / rows;
    for outer in 0..before {
        for position in 0..extent {
            if ones[outer / inner * width + position] == 0 {
                let at = (outer * extent + position) * after;
                target.data[at..at + after].copy_from_slice(&found.data[at..at + after]);
            }
        }
    }
}

/// Those rows of a value of which the position counts; the value itself where positions do not lie along its second axis.
pub(super) fn counted(value: &FloatArray, axis: Option<usize>, marks: &Marks) -> FloatArray {
    let ones = marks.as_ref().and_then(TensorRef::to_i64);
    let (Some(1), Some(ones)) = (axis, ones) else {
        return value.clone();
    };
    let size = value.dims[2..].iter().product::<usize>().max(1);
    let rows = value.data.chunks(size).zip(&ones);
    let data: Vec<f32> = rows
        .filter(|(_, one)| **one != 0)
        .flat_map(|(row, _)| row)
        .copied()
        .collect();
    let dims = [&[data.len() / size], &value.dims[2..]].concat();
    FloatArray::new(dims, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{SequenceInputs, TrimmedBatches, Views};
    use crate::rng::rng;
    use std::sync::Arc;

    fn ids(first: i64) -> Tensors {
        let numbers: Vec<i64> = (first..first + 4).collect();
        Tensors::from_iter([("ids".to_owned(), TensorRef::from_i64(vec![1, 4], &numbers))])
    }

    #[test]
    fn what_does_not_count_is_no_error() {
        let all: Arc<dyn Batches> = Arc::new(vec![ids(0), ids(10)]);
        let axes = SequenceInputs::from([("ids".to_owned(), 1)]);
        let inputs = TrimmedBatches::new(all, axes, &[2, 3], &[3]);
        let both = TensorRef::from_i64(vec![2, 3], &[0, 1, 2, 10, 11, 12]);
        let mut batch = Tensors::from_iter([("ids".to_owned(), both)]);
        mark(&inputs, &[0, 1], &mut batch);
        // Spliced, both rows end as the other did, and so do the marks.
        let views = Views {
            splice: true,
            ..Views::default()
        };
        let mut seen = views.apply(&batch, &mut rng(3, "marks"));
        let marks = take_marks(&mut seen).unwrap().to_i64().unwrap();
        let ids = seen["ids"].to_i64().unwrap();
        for (id, mark) in ids.iter().zip(&marks) {
            assert_eq!(*mark, i64::from(*id != 2), "{ids:?} {marks:?}");
        }
        assert_eq!(seen.len(), 1);
        let marks = take_marks(&mut batch).unwrap();
        let value = FloatArray::new(vec![2, 3, 1], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let counts = counted(&value, Some(1), &Some(marks.clone()));
        assert_eq!(
            (counts.dims, counts.data),
            (vec![5, 1], vec![0.0, 1.0, 3.0, 4.0, 5.0])
        );
        let found = FloatArray::new(vec![2, 3, 2], (0..12).map(|x| x as f32).collect());
        let mut target = found.map(|x| x + 1.0);
        spare(&mut target, &found, 1, &marks);
        let off: Vec<f32> = target
            .data
            .iter()
            .zip(&found.data)
            .map(|(a, b)| a - b)
            .collect();
        assert_eq!(off, [1., 1., 1., 1., 0., 0., 1., 1., 1., 1., 1., 1.]);
    }
}
