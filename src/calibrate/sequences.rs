//! Along which axis of each value the positions of a model's sequences lie, and which of them count.

use crate::analysis::{Pins, infer};
use crate::inputs::{Batches, SequenceInputs, examples};
use crate::linear::Linear;
use crate::model::{Model, ValueId};
use crate::run::Tensors;

/// The axis of each value whose extent is that of the inputs' sequences; none where all positions count.
#[derive(Clone, Debug, Default)]
pub struct SequenceAxes(Vec<Option<usize>>);

impl SequenceAxes {
    /// Those of a model that is run on these inputs: the axes that lose an entry where the inputs do.
    pub fn of(model: &Model, batches: &dyn Batches) -> Self {
        let found = batches.sequence_axes().and_then(|inputs| {
            let runs: Vec<usize> = (0..batches.count()).collect();
            let example = examples(batches, &runs).ok()?.into_iter().next()?;
            SequenceAxes::found(model, &example, inputs)
        });
        found.unwrap_or_default()
    }

    /// Those of a model whose inputs have the shapes of an example. `None`: its sequences are too short to tell.
    pub(super) fn found(model: &Model, example: &Tensors, inputs: &SequenceInputs) -> Option<Self> {
        let (name, axis) = inputs.iter().next()?;
        let width = *example.get(name)?.dims.get(*axis)? as i64;
        let shorter = (width > 1).then(|| width - 1)?;
        let facts = [width, shorter].map(|width| infer(model, &pins(example, inputs, width)));
        let axis = |value: ValueId| {
            let [whole, less] = facts.each_ref().map(|facts| facts.of(value).shape.as_ref());
            let pairs = whole?.iter().zip(less?).enumerate();
            let mut changed = pairs.filter(|(_, (whole, less))| whole != less);
            let (axis, (whole, less)) = changed.next()?;
            let is_own = whole.num() == Some(width) && less.num() == Some(shorter);
            (is_own && changed.next().is_none()).then_some(axis)
        };
        let values = model.index().values().map(|(value, _)| axis(value));
        Some(SequenceAxes(values.collect()))
    }

    /// The axis of a value.
    pub fn axis(&self, value: ValueId) -> Option<usize> {
        self.0.get(value.index()).copied().flatten()
    }
}

/// The shapes of an example with sequences of another width.
fn pins(example: &Tensors, inputs: &SequenceInputs, width: i64) -> Pins {
    let mut pins: Pins = example
        .iter()
        .map(|(name, tensor)| {
            let dims = tensor.dims.iter().map(|dim| *dim as i64);
            (name.clone(), dims.collect())
        })
        .collect();
    for (name, axis) in inputs {
        if let Some(dim) = pins.get_mut(name).and_then(|dims| dims.get_mut(*axis)) {
            *dim = width;
        }
    }
    pins
}

/// Which positions of a product's activation count in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting(Option<(usize, usize)>);

impl Counting {
    /// Those of a run of inputs, along an axis of the activation.
    pub fn of(batches: &dyn Batches, run: usize, axis: Option<usize>) -> Self {
        Counting(axis.zip(batches.sequence(run).map(|sequence| sequence.counts)))
    }

    /// How many entries of the first axis count, of so many.
    pub fn of_first_axis(&self, extent: usize) -> usize {
        match self.0 {
            Some((0, counts)) => counts.min(extent),
            _ => extent,
        }
    }

    /// Which positions of an activation of these dims count, drawn by `draw` of how many there are. `None`: the dims do not fit.
    pub fn drawn(
        &self,
        view: &Linear,
        dims: &[usize],
        draw: impl FnOnce(usize) -> Vec<usize>,
    ) -> Option<Vec<usize>> {
        match self
            .0
            .and_then(|before| view.positions_before(dims, before))
        {
            Some(counting) => {
                let drawn = draw(counting.len());
                Some(drawn.into_iter().map(|place| counting[place]).collect())
            }
            None => Some(draw(view.positions(dims)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TensorRef, text};

    #[test]
    fn the_axis_of_sequences_goes_through_the_model() {
        let net = "opset 17\ninput x f32[n,s,4]\nconst w f32[4,6]\nconst t i64[2] = -1,6\na = MatMul(x, w)\nb = Transpose(a) {perm=[0,2,1]}
            c = MatMul(a, b)\nd = Reshape(a, t)\ne = ReduceMean(a) {axes=[1],keepdims=0}\nf = Concat(a, a) {axis=1}
            output a\noutput b\noutput c\noutput d\noutput e\noutput f";
        let model = text::model(net).unwrap();
        let example = |width: usize| {
            let numbers = vec![0.0; 4 * width];
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![1, width, 4], &numbers),
            )])
        };
        let inputs = SequenceInputs::from([("x".to_owned(), 1)]);
        let axes = SequenceAxes::found(&model, &example(5), &inputs).unwrap();
        let axis = |name: &str| axes.axis(model.index().main_value(name).unwrap());
        // Of scores between positions, and of what holds each position twice, no axis alone is that of the sequence.
        assert_eq!(
            ["x", "a", "b", "c", "d", "e", "f"].map(axis),
            [Some(1), Some(1), Some(2), None, Some(0), None, None]
        );
        assert!(SequenceAxes::found(&model, &example(1), &inputs).is_none());
    }
}
