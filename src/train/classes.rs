//! True classes: cross-entropy beside what the original says, where inputs are labelled.

use super::TrainError;
use super::measure::{ClassRows, OutputKind, softmax};
use crate::gradient::FloatArray;
use crate::inputs::Batches;

/// What true classes count, beside all outputs: half of them, for the original's answers say more than one class each.
const COUNT: f64 = 0.5;
/// The least probability that a logarithm is taken of.
const RAREST: f64 = 1e-12;

/// The class of every row of the inputs, and the output that tells classes.
#[derive(Clone, Debug)]
pub(super) struct TrueClasses {
    ids: Vec<i64>,
    /// Where the rows of each run begin, and where the last ends.
    starts: Vec<usize>,
    /// The output's place among those that are trained.
    pub output: usize,
    are_probabilities: bool,
}

/// Where the rows of each run begin. Errors: an input that cannot be read, or another number of rows than of classes.
fn starts(inputs: &dyn Batches, ids: usize) -> Result<Vec<usize>, TrainError> {
    let rows = |run: usize| -> Result<usize, TrainError> {
        let tensors = inputs.fetch(run)?;
        let rows = tensors.values().filter_map(|tensor| tensor.dims.first());
        Ok(rows.copied().max().unwrap_or(1).max(1))
    };
    let (count, first) = (inputs.count(), rows(0)?);
    let (mut starts, mut end) = (vec![0], 0);
    for run in 0..count {
        end += match first * count == ids {
            true => first,
            false => rows(run)?,
        };
        starts.push(end);
    }
    match end == ids {
        true => Ok(starts),
        false => Err(TrainError::Labels(format!(
            "there are {ids} for {end} rows of inputs"
        ))),
    }
}

impl TrueClasses {
    /// Of the first output that has a score for each class of each row. `seen` is what the original gave for outputs, all
    /// classes kept or not. Errors: there is no such output, classes that it does not have, too few or too many.
    pub fn new(ids: &[i64], inputs: &dyn Batches, seen: &[FloatArray]) -> Result<Self, TrainError> {
        let kinds: Vec<OutputKind> = seen.iter().map(OutputKind::of).collect();
        let tells = |at: &usize| {
            matches!(seen[*at].dims[..], [_, width] if width > 1)
                && kinds[*at] != OutputKind::Directions
        };
        let wrong = |problem: String| TrainError::Labels(problem);
        let output = (0..seen.len())
            .find(tells)
            .ok_or_else(|| wrong("no output has a score for each class of an input".to_owned()))?;
        let width = seen[output].dims[1] as i64;
        match ids.iter().find(|id| !(0..width).contains(*id)) {
            Some(id) => Err(wrong(format!("{id} is none of {width} classes"))),
            None => Ok(TrueClasses {
                ids: ids.to_vec(),
                starts: starts(inputs, ids.len())?,
                output,
                are_probabilities: kinds[output] == OutputKind::Probabilities,
            }),
        }
    }

    /// How many rows are labelled.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// All ids.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The classes of some runs, one behind the other.
    pub fn of(&self, runs: &[usize]) -> Vec<i64> {
        let rows = |run: &usize| self.ids[self.starts[*run]..self.starts[*run + 1]].iter();
        runs.iter().flat_map(rows).copied().collect()
    }

    /// Cross-entropy relative to that of a guess, and its derivative by the output. Errors: other rows than classes.
    pub fn error(
        &self,
        value: &FloatArray,
        classes: &[i64],
    ) -> Result<(f64, FloatArray), TrainError> {
        let rows = ClassRows::of(value);
        let width = value.dims.last().copied().unwrap_or(1);
        if rows.count() != classes.len() || classes.iter().any(|class| *class >= width as i64) {
            return Err(TrainError::Labels(format!(
                "{} are given for an output of {:?}",
                classes.len(),
                value.dims
            )));
        }
        let scale = COUNT / (classes.len().max(1) as f64 * (width.max(2) as f64).ln());
        let mut gradient = FloatArray::zeros(&value.dims);
        let mut sum = 0.0;
        for (row, class) in classes.iter().enumerate() {
            let (numbers, class) = (rows.read(value, row), *class as usize);
            let (error, slope) = match self.are_probabilities {
                true => of_shares(&numbers, class),
                false => of_scores(&numbers, class),
            };
            sum += error;
            rows.write(&mut gradient, row, slope.iter().map(|slope| scale * slope));
        }
        Ok((scale * sum, gradient))
    }
}

/// −log softmax(y) at the class, and its derivative: softmax(y), less one at the class.
fn of_scores(y: &[f64], class: usize) -> (f64, Vec<f64>) {
    let mut shares = softmax(y);
    let error = -shares[class].max(RAREST).ln();
    shares[class] -= 1.0;
    (error, shares)
}

/// −log q at the class, and its derivative.
fn of_shares(q: &[f64], class: usize) -> (f64, Vec<f64>) {
    let share = q[class].max(RAREST);
    let mut slope = vec![0.0; q.len()];
    slope[class] = -1.0 / share;
    (-share.ln(), slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorRef;
    use crate::run::Tensors;

    fn inputs(rows: &[usize]) -> Vec<Tensors> {
        let one = |rows: &usize| {
            let tensor = TensorRef::from_f32(vec![*rows, 1], &vec![0.0; *rows]);
            Tensors::from_iter([("x".to_owned(), tensor)])
        };
        rows.iter().map(one).collect()
    }

    fn scores() -> FloatArray {
        FloatArray::new(vec![2, 3], vec![0.2, -1.0, 2.0, 0.5, 0.4, -0.3])
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for is_shares in [false, true] {
            let mut value = scores();
            if is_shares {
                value = value.map(f32::exp);
                let sums: Vec<f32> = value.data.chunks(3).map(|row| row.iter().sum()).collect();
                for (row, sum) in value.data.chunks_mut(3).zip(sums) {
                    row.iter_mut().for_each(|x| *x /= sum);
                }
            }
            let seen = std::slice::from_ref(&value);
            let classes = TrueClasses::new(&[2, 0], &inputs(&[1, 1]), seen).unwrap();
            assert_eq!(classes.are_probabilities, is_shares);
            let (_, gradient) = classes.error(&value, &[2, 0]).unwrap();
            for at in 0..6 {
                let moved = |by: f32| {
                    let mut value = value.clone();
                    value.data[at] += by;
                    classes.error(&value, &[2, 0]).unwrap().0
                };
                let found = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                let exact = f64::from(gradient.data[at]);
                assert!(
                    (found - exact).abs() < 1e-3,
                    "{at}: {found} against {exact}"
                );
            }
        }
    }

    #[test]
    fn classes_are_of_rows_of_runs() {
        let classes = TrueClasses::new(&[0, 1, 2, 1, 0], &inputs(&[2, 2, 1]), &[scores()]).unwrap();
        assert_eq!(classes.of(&[2, 0]), [0, 0, 1]);
        let refused = |ids: &[i64], rows: &[usize], seen: FloatArray| {
            let error = TrueClasses::new(ids, &inputs(rows), &[seen]).unwrap_err();
            error.to_string()
        };
        assert!(refused(&[0, 3], &[1, 1], scores()).contains("3 is none of 3 classes"));
        assert!(refused(&[0], &[1, 1], scores()).contains("1 for 2 rows"));
        assert!(refused(&[0], &[1], FloatArray::zeros(&[1, 2, 2])).contains("no output"));
        assert!(classes.error(&scores(), &[0]).is_err());
    }
}
