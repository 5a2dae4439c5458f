//! The original's outputs, kept as far as they fit; what is more is computed again compare_with what it is compared with.

use std::collections::BTreeMap;

use crate::inputs::{Batches, GatherError, in_order, size};
use crate::model::TensorRef;
use crate::progress::Work;
use crate::run::{Session, Tensors};

/// Bytes of outputs that are kept.
pub(super) const BUDGET: usize = 256 << 20;

/// The original, made ready, and what it gave.
pub(super) struct OutputCache {
    pub session: Box<dyn Session>,
    held: BTreeMap<usize, Vec<TensorRef>>,
    /// The axis of each output along which the positions of sequences lie; none where all count.
    axes: Vec<Option<usize>>,
}

impl OutputCache {
    /// Runs as many of some inputs as `budget` bytes hold outputs of, in the order of `runs`. Errors: a run that fails,
    /// inputs that can not be read, a stop asked for.
    pub fn new(
        session: Box<dyn Session>,
        inputs: &dyn Batches,
        mut runs: Vec<usize>,
        budget: usize,
        work: &Work,
    ) -> Result<Self, GatherError> {
        let mut original = OutputCache {
            session,
            held: BTreeMap::new(),
            axes: Vec::new(),
        };
        let Some(first) = runs.first() else {
            return Ok(original);
        };
        // Outputs of all inputs are about as large.
        let outputs = original.outputs(*first, &inputs.fetch(*first)?)?;
        runs.truncate(budget / size(&outputs).max(1));
        let mut held = BTreeMap::new();
        let run = |number, inputs: Tensors| original.outputs(number, &inputs);
        in_order(
            inputs,
            &runs,
            work,
            run,
            |outputs| size(outputs),
            |numbers, outputs| {
                held.extend(numbers.iter().copied().zip(outputs));
                Ok(())
            },
        )?;
        original.held = held;
        Ok(original)
    }

    /// Compares only those positions of outputs that count, along these axes.
    pub fn with_axes(self, axes: Vec<Option<usize>>) -> Self {
        OutputCache { axes, ..self }
    }

    /// Of outputs for one of some inputs the positions that count.
    fn counting(
        &self,
        inputs: &dyn Batches,
        number: usize,
        mut outputs: Vec<TensorRef>,
    ) -> Vec<TensorRef> {
        if let Some(sequence) = inputs.sequence(number) {
            for (output, axis) in outputs.iter_mut().zip(&self.axes) {
                if let Some(axis) = axis {
                    *output = output.first_along(*axis, sequence.counts);
                }
            }
        }
        outputs
    }

    /// What it gives for one of the inputs. Errors: the run fails.
    pub fn outputs(&self, number: usize, inputs: &Tensors) -> Result<Vec<TensorRef>, GatherError> {
        match self.held.get(&number) {
            Some(held) => Ok(held.clone()),
            None => run(&*self.session, inputs),
        }
    }

    /// Runs another model on some inputs and hands on what both give, run after run.
    /// Errors: a run that fails, inputs that can not be read, a stop asked for.
    pub fn compare_with(
        &self,
        other: &dyn Session,
        inputs: &dyn Batches,
        runs: &[usize],
        work: &Work,
        mut take: impl FnMut(&[TensorRef], &[TensorRef]),
    ) -> Result<(), GatherError> {
        let both = |number, tensors: Tensors| {
            let (own, others) = (self.outputs(number, &tensors)?, run(other, &tensors)?);
            let counting = |outputs| self.counting(inputs, number, outputs);
            Ok((counting(own), counting(others)))
        };
        in_order(
            inputs,
            runs,
            work,
            both,
            |(one, other)| size(one) + size(other),
            |_, pairs| {
                pairs.iter().for_each(|(one, other)| take(one, other));
                Ok(())
            },
        )
    }
}

/// Runs the original and another model on all of some inputs, which are others than the cached, and hands on what both give, run after run. Errors: as [`OutputCache::compare_with`].
pub fn side_by_side(
    original: &OutputCache,
    other: &dyn Session,
    inputs: &dyn Batches,
    work: &Work,
    mut take: impl FnMut(&[TensorRef], &[TensorRef]),
) -> Result<(), GatherError> {
    let runs: Vec<usize> = (0..inputs.count()).collect();
    in_order(
        inputs,
        &runs,
        work,
        |number, tensors: Tensors| {
            let own = run(&*original.session, &tensors)?;
            let others = run(other, &tensors)?;
            let counting = |outputs| original.counting(inputs, number, outputs);
            Ok((counting(own), counting(others)))
        },
        |(one, other)| size(one) + size(other),
        |_, pairs| {
            pairs.iter().for_each(|(one, other)| take(one, other));
            Ok(())
        },
    )
}

fn run(session: &dyn Session, inputs: &Tensors) -> Result<Vec<TensorRef>, GatherError> {
    session
        .run(inputs)
        .map_err(|error| GatherError::Run(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::run::RunError;

    /// Gives back its input and notes which one it was.
    struct Echo(std::sync::Arc<Mutex<Vec<f32>>>);

    impl Session for Echo {
        fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
            self.0
                .lock()
                .unwrap()
                .push(inputs["x"].to_f32().unwrap()[0]);
            Ok(inputs.values().cloned().collect())
        }

        fn noise(&self) -> f64 {
            0.0
        }
    }

    #[test]
    fn what_does_not_fit_is_computed_again() {
        let input = |number: usize| {
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![2], &[number as f32, 7.0]),
            )])
        };
        let inputs: Vec<Tensors> = (0..5).map(input).collect();
        let (ran, work) = (std::sync::Arc::new(Mutex::new(Vec::new())), Work::new(&()));
        let original = OutputCache::new(
            Box::new(Echo(ran.clone())),
            &inputs,
            vec![3, 1, 0, 2, 4],
            20,
            &work,
        )
        .unwrap();
        ran.lock().unwrap().clear();
        let mut seen = Vec::new();
        let other = Echo(Default::default());
        original
            .compare_with(&other, &inputs, &[0, 1, 2, 3, 4], &work, |one, other| {
                assert_eq!(one, other);
                seen.push(one[0].to_f32().unwrap()[0]);
            })
            .unwrap();
        assert_eq!(seen, [0.0, 1.0, 2.0, 3.0, 4.0]);
        ran.lock().unwrap().sort_by(f32::total_cmp);
        assert_eq!(
            *ran.lock().unwrap(),
            [0.0, 2.0, 4.0],
            "two are kept: those that come first"
        );
    }
}
