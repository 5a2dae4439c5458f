//! How much outputs differ from input to input.

use super::Baseline;
use super::baseline::quick_runs;
use crate::calibrate::Dataset;
use crate::model::TensorRef;

impl Baseline<'_> {
    /// How much the outputs differ from input to input, as a share of what they are: of the real-valued one that does least, over
    /// the runs that a search goes by. `None` where nothing runs, or all is of whole numbers or of varying extent.
    pub fn variation(&self, data: &Dataset) -> Option<f64> {
        let original = self.original.as_ref().ok()?;
        let mut spread: Vec<Option<OutputSpread>> =
            vec![Some(OutputSpread::default()); self.names.len()];
        for run in quick_runs(data.inputs.count()) {
            let outputs = original.outputs(run, &data.inputs.fetch(run).ok()?).ok()?;
            for (spread, output) in spread.iter_mut().zip(&outputs) {
                *spread = spread.take().and_then(|spread| spread.with(output));
            }
        }
        let found = spread
            .into_iter()
            .flatten()
            .filter_map(|spread| spread.share());
        found.min_by(f64::total_cmp)
    }
}

/// Sums of one output over some runs.
#[derive(Clone, Default)]
struct OutputSpread {
    runs: f64,
    sum: Vec<f64>,
    squares: f64,
}

impl OutputSpread {
    /// With one run more; `None` if it is not of real numbers, or not as many.
    fn with(mut self, output: &TensorRef) -> Option<Self> {
        let numbers = output.to_f64().filter(|_| output.dtype.is_float())?;
        if self.sum.is_empty() {
            self.sum = vec![0.0; numbers.len()];
        }
        if self.sum.len() != numbers.len() {
            return None;
        }
        let add = |(sum, number): (&mut f64, &f64)| *sum += number;
        self.sum.iter_mut().zip(&numbers).for_each(add);
        self.squares += numbers.iter().map(|number| number * number).sum::<f64>();
        self.runs += 1.0;
        Some(self)
    }

    /// Root of the sum of squares about the mean, as a share of that about nought; `None` where there are too few runs, or
    /// nothing but zeros.
    fn share(&self) -> Option<f64> {
        let mean: f64 = self.sum.iter().map(|sum| sum * sum).sum::<f64>() / self.runs;
        let known = self.runs > 1.0 && self.squares > 0.0 && self.squares.is_finite();
        known.then(|| (1.0 - mean / self.squares).max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_stay_alike_have_a_small_spread() {
        let share = |outputs: &[[f32; 2]]| {
            let add = |spread: OutputSpread, output: &[f32; 2]| {
                spread.with(&TensorRef::from_f32(vec![2], output)).unwrap()
            };
            outputs.iter().fold(OutputSpread::default(), add).share()
        };
        assert_eq!(share(&[[1.0, 2.0]]), None);
        assert_eq!(share(&[[0.0, 0.0]; 2]), None);
        assert!(share(&[[1.0, 2.0]; 3]).is_some_and(|share| share < 1e-6));
        assert!(share(&[[1.0, 0.0], [-1.0, 0.0]]).is_some_and(|share| share > 0.99));
        let ids = TensorRef::from_i64(vec![1], &[4]);
        assert!(OutputSpread::default().with(&ids).is_none());
    }
}
