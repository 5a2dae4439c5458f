//! Views of inputs: pictures flipped, moved and mixed, sentences spliced. The original says what each view is to give, so a
//! view may be far from any input; one that an input of its kind could not be (a mirrored digit) is left out.

use rand::Rng;

use crate::gradient::FloatArray;
use crate::model::TensorRef;
use crate::run::Tensors;

/// What is done with inputs before they are learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Half of the pictures are mirrored.
    pub flip: bool,
    /// Pictures are moved by up to an eighth of their sides, zeros behind.
    pub shift: bool,
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
pub(super) fn are_pictures(tensor: &TensorRef) -> bool {
    tensor.dtype.is_float()
        && matches!(tensor.dims[..], [_, 1..=4, height, width] if height > 1 && width > 1)
}

fn are_sequences(tensor: &TensorRef) -> bool {
    !tensor.dtype.is_float() && matches!(tensor.dims[..], [_, length] if length > 1)
}

impl Views {
    /// All that inputs of this kind could be seen in.
    pub fn possible(example: &Tensors) -> Self {
        let pictures = example.values().any(are_pictures);
        let is_large = |tensor: &TensorRef| {
            are_pictures(tensor) && tensor.dims[2..].iter().all(|side| *side >= SMALL)
        };
        let are_large = example.values().any(is_large);
        Views {
            flip: are_large,
            shift: are_large,
            mix: pictures,
            splice: !example.is_empty() && example.values().all(are_sequences),
        }
    }

    /// Another view of a batch.
    pub fn apply(&self, inputs: &Tensors, random: &mut impl Rng) -> Tensors {
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
            if self.shift {
                let far = |side: usize| (side / 8) as i64;
                let down = random.random_range(-far(height)..=far(height));
                let right = random.random_range(-far(width)..=far(width));
                picture
                    .chunks_mut(height * width)
                    .for_each(|plane| shift(plane, [height, width], [down, right]));
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

/// Moves a plane; zeros come in.
fn shift(plane: &mut [f32], [height, width]: [usize; 2], [down, right]: [i64; 2]) {
    let old = plane.to_vec();
    for row in 0..height {
        for column in 0..width {
            let from = (row as i64 - down, column as i64 - right);
            let inside =
                (0..height as i64).contains(&from.0) && (0..width as i64).contains(&from.1);
            plane[row * width + column] = match inside {
                true => old[from.0 as usize * width + from.1 as usize],
                false => 0.0,
            };
        }
    }
}

/// Each picture, and the next one over it (mixup, Zhang et al. 2018).
fn overlay(batch: &mut FloatArray, share: f32) {
    let size = batch.data.len() / batch.dims[0];
    let old = batch.data.clone();
    let next = old.iter().cycle().skip(size);
    for (to, other) in batch.data.iter_mut().zip(next) {
        *to = share * *to + (1.0 - share) * other;
    }
}

/// Each picture, with a rectangle of the next one (CutMix, Yun et al. 2019).
fn paste(batch: &mut FloatArray, random: &mut impl Rng) {
    let [count, channels, height, width] = batch.dims[..] else {
        return;
    };
    let side = (1.0 - random.random::<f64>()).sqrt();
    let part = |extent: usize| ((extent as f64 * side) as usize).min(extent);
    let (rows, columns) = (part(height), part(width));
    let top = random.random_range(0..=height - rows);
    let left = random.random_range(0..=width - columns);
    let old = batch.data.clone();
    for plane in 0..count * channels {
        let other = (plane + channels) % (count * channels);
        for row in top..top + rows {
            let at = |plane: usize| plane * height * width + row * width + left;
            batch.data[at(plane)..][..columns].copy_from_slice(&old[at(other)..][..columns]);
        }
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
    fn a_shift_brings_zeros_in() {
        let mut plane = vec![1.0, 2.0, 3.0, 4.0];
        shift(&mut plane, [2, 2], [1, -1]);
        assert_eq!(plane, [0.0, 0.0, 2.0, 0.0]);
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
