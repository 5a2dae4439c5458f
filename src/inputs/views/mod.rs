//! Views of inputs: pictures flipped, moved and mixed, sentences spliced. The original says what each view is to give, so a
//! view may be far from any input; one that an input of its kind could not be (a mirrored digit) is left out.

mod batches;
mod choice;
mod pictures;

use rand::Rng;

use super::Tensors;
use crate::gradient::FloatArray;
use crate::model::TensorRef;

pub use batches::ViewedBatches;
pub use choice::{Augment, AugmentError};
use pictures::{LARGE, colour, crop, overlay, paste, shift};

/// What is done with inputs before they are learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Half of the pictures are mirrored.
    pub flip: bool,
    /// Pictures are moved by up to an eighth of their sides, zeros behind; of pictures of more than 64 elements a side a part is
    /// seen, a fifth of its area at least, enlarged.
    pub shift: bool,
    /// Brightness, contrast and the balance of the channels are others.
    pub colour: bool,
    /// Two pictures are laid over each other, or one has a part of another.
    pub mix: bool,
    /// Sequences of whole numbers end as another one does.
    pub splice: bool,
}

impl std::fmt::Display for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (self.flip, "flip"),
            (self.shift, "crop"),
            (self.colour, "colour"),
            (self.mix, "mix"),
            (self.splice, "splice"),
        ];
        let names: Vec<&str> = names
            .iter()
            .filter(|(is_used, _)| *is_used)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        })
    }
}

/// Pictures of fewer elements a side are left as they are but for mixtures.
const SMALL: usize = 16;
/// The share of batches that are mixed.
const MIXED: f64 = 0.7;

/// Whether a tensor holds pictures: float, batch × at most four channels × two sides.
fn are_pictures(tensor: &TensorRef) -> bool {
    tensor.dtype.is_float()
        && matches!(tensor.dims[..], [_, 1..=4, height, width] if height > 1 && width > 1)
}

fn are_sequences(tensor: &TensorRef) -> bool {
    !tensor.dtype.is_float() && matches!(tensor.dims[..], [_, length] if length > 1)
}

impl Views {
    /// All that inputs of this kind could be seen in, but other colours.
    pub(crate) fn possible(example: &Tensors) -> Self {
        let pictures = example.values().any(are_pictures);
        let is_large = |tensor: &TensorRef| {
            are_pictures(tensor) && tensor.dims[2..].iter().all(|side| *side >= SMALL)
        };
        let are_large = example.values().any(is_large);
        Views {
            flip: are_large,
            shift: are_large,
            colour: false,
            mix: pictures,
            splice: !example.is_empty() && example.values().all(are_sequences),
        }
    }

    /// Those of these views that both ask for.
    pub(crate) fn and(self, other: Self) -> Self {
        Views {
            flip: self.flip && other.flip,
            shift: self.shift && other.shift,
            colour: self.colour && other.colour,
            mix: self.mix && other.mix,
            splice: self.splice && other.splice,
        }
    }

    /// Without those that the original does not see as it saw the inputs: `keeps` says of a kind whether it does. Mixtures are
    /// like no input, and kept. Errors: those of `keeps`.
    pub(crate) fn kept<E>(
        mut self,
        mut keeps: impl FnMut(Views) -> Result<bool, E>,
    ) -> Result<Self, E> {
        let none = Views::default();
        self.flip = self.flip && keeps(Views { flip: true, ..none })?;
        self.shift = self.shift
            && keeps(Views {
                shift: true,
                ..none
            })?;
        self.colour = self.colour
            && keeps(Views {
                colour: true,
                ..none
            })?;
        Ok(self)
    }

    /// Another view of a batch.
    pub(crate) fn apply(&self, inputs: &Tensors, random: &mut impl Rng) -> Tensors {
        let mut seen = Tensors::new();
        let cut = random.random::<f64>();
        for (name, tensor) in inputs {
            let tensor = match tensor.to_f32().filter(|_| are_pictures(tensor)) {
                Some(data) => self.pictures(FloatArray::new(tensor.dims.clone(), data), random),
                None if self.splice && are_sequences(tensor) => spliced(tensor, cut),
                None => tensor.clone(),
            };
            seen.insert(name.clone(), tensor);
        }
        seen
    }

    fn pictures(&self, mut batch: FloatArray, random: &mut impl Rng) -> TensorRef {
        let [count, _, height, width] = batch.dims[..] else {
            return TensorRef::from_f32(batch.dims, &batch.data);
        };
        let size = batch.data.len() / count.max(1);
        for picture in batch.data.chunks_mut(size.max(1)) {
            if self.flip && random.random() {
                picture.chunks_mut(width).for_each(<[f32]>::reverse);
            }
            let is_large = height.min(width) > LARGE;
            if self.shift && is_large {
                crop(picture, [height, width], random);
            } else if self.shift {
                let far = |side: usize| (side / 8) as i64;
                let down = random.random_range(-far(height)..=far(height));
                let right = random.random_range(-far(width)..=far(width));
                picture
                    .chunks_mut(height * width)
                    .for_each(|plane| shift(plane, [height, width], [down, right]));
            }
            if self.colour {
                colour(picture, height * width, random);
            }
        }
        if self.mix && count > 1 && random.random_bool(MIXED) {
            match random.random() {
                true => overlay(&mut batch, random.random()),
                false => paste(&mut batch, random),
            }
        }
        TensorRef::from_f32(batch.dims, &batch.data)
    }
}

/// Each sequence, from a place on as the next one.
fn spliced(tensor: &TensorRef, cut: f64) -> TensorRef {
    let [count, length] = tensor.dims[..] else {
        return tensor.clone();
    };
    let row = tensor.bytes.len() / count.max(1);
    let from = ((length as f64 * cut) as usize) * (row / length);
    let mut bytes = Vec::with_capacity(tensor.bytes.len());
    for at in 0..count {
        let next = (at + 1) % count;
        bytes.extend_from_slice(&tensor.bytes[at * row..at * row + from]);
        bytes.extend_from_slice(&tensor.bytes[next * row + from..(next + 1) * row]);
    }
    TensorRef {
        bytes: bytes.into(),
        ..tensor.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::rng;

    fn floats(dims: &[usize]) -> TensorRef {
        let count: usize = dims.iter().product();
        let data: Vec<f32> = (0..count).map(|at| at as f32 + 1.0).collect();
        TensorRef::from_f32(dims.to_vec(), &data)
    }

    fn one(tensor: TensorRef) -> Tensors {
        Tensors::from_iter([("x".to_owned(), tensor)])
    }

    #[test]
    fn views_are_those_of_their_kind() {
        let of = |tensor: TensorRef| Views::possible(&one(tensor)).to_string();
        assert_eq!(of(floats(&[1, 3, 32, 32])), "flip, crop, mix");
        assert_eq!(of(floats(&[1, 1, 8, 8])), "mix");
        assert_eq!(of(floats(&[1, 10])), "none");
        assert_eq!(of(TensorRef::from_i64(vec![1, 3], &[1, 2, 3])), "splice");
    }

    #[test]
    fn views_keep_shapes_and_come_from_the_seed() {
        let batch = one(floats(&[4, 2, 16, 24]));
        let views = Views::possible(&batch);
        for seed in 0..20 {
            let seen = views.apply(&batch, &mut rng(seed, "view"));
            assert_eq!(seen["x"].dims, batch["x"].dims);
            assert_eq!(seen, views.apply(&batch, &mut rng(seed, "view")));
        }
        assert_eq!(Views::default().apply(&batch, &mut rng(0, "view")), batch);
    }

    #[test]
    fn a_sequence_ends_as_the_next() {
        let rows = TensorRef::from_i64(vec![2, 4], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            spliced(&rows, 0.5).to_i64().unwrap(),
            [1, 2, 7, 8, 5, 6, 3, 4]
        );
    }
}
