//! What is done with pictures: numbers of channels × height × width, by planes.

use rand::Rng;

use crate::gradient::FloatArray;

/// Pictures of more elements a side are seen in parts; smaller ones are moved.
pub(super) const LARGE: usize = 64;
/// The least share of a picture's area that is seen.
const AREA: f64 = 0.2;
/// The widest of the parts that are seen, width by height; the narrowest is as much higher than wide.
const ASPECT: f64 = 4.0 / 3.0;
/// By how much contrast, brightness (in standard deviations) and single channels differ.
const CONTRAST: f32 = 0.3;
const BRIGHTNESS: f32 = 0.3;
const BALANCE: f32 = 0.1;

/// A part of a picture, enlarged to the whole (as for the training of *Inception*, Szegedy et al. 2015).
pub(super) fn crop(picture: &mut [f32], [height, width]: [usize; 2], random: &mut impl Rng) {
    let area = random.random_range(AREA..=1.0);
    let aspect = random.random_range(-ASPECT.ln()..=ASPECT.ln()).exp();
    let part = |extent: usize, share: f64| extent as f64 * share.sqrt().min(1.0);
    let (rows, columns) = (part(height, area / aspect), part(width, area * aspect));
    let top = random.random_range(0.0..=height as f64 - rows);
    let left = random.random_range(0.0..=width as f64 - columns);
    let down = places(top, rows, height);
    let right = places(left, columns, width);
    for plane in picture.chunks_mut(height * width) {
        let old = plane.to_vec();
        for (row, (above, below, low)) in down.iter().enumerate() {
            for (column, (before, behind, far)) in right.iter().enumerate() {
                let at = |row: usize| {
                    let (one, other) = (old[row * width + before], old[row * width + behind]);
                    one + (other - one) * far
                };
                let (one, other) = (at(*above), at(*below));
                plane[row * width + column] = one + (other - one) * low;
            }
        }
    }
}

/// For each of `extent` places, evenly over a part of an axis of this extent: the elements on both sides, and how far it is
/// from the first of them.
fn places(start: f64, length: f64, extent: usize) -> Vec<(usize, usize, f32)> {
    let last = extent - 1;
    let place = |at: usize| {
        let exact = start + (at as f64 + 0.5) * length / extent as f64 - 0.5;
        let exact = exact.clamp(0.0, last as f64);
        let before = (exact as usize).min(last);
        (
            before,
            (before + 1).min(last),
            (exact - before as f64) as f32,
        )
    };
    (0..extent).map(place).collect()
}

/// Other contrast and brightness, and other channels a little brighter than others.
pub(super) fn colour(picture: &mut [f32], plane: usize, random: &mut impl Rng) {
    let count = picture.len().max(1) as f32;
    let mean = picture.iter().sum::<f32>() / count;
    let square = picture.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    let deviation = (square / count).sqrt();
    let contrast = 1.0 + random.random_range(-CONTRAST..=CONTRAST);
    let brighter = random.random_range(-BRIGHTNESS..=BRIGHTNESS);
    for channel in picture.chunks_mut(plane.max(1)) {
        let more = brighter + random.random_range(-BALANCE..=BALANCE);
        for number in channel {
            *number = mean + (*number - mean) * contrast + more * deviation;
        }
    }
}

/// Moves a plane; zeros come in.
pub(super) fn shift(plane: &mut [f32], [height, width]: [usize; 2], [down, right]: [i64; 2]) {
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
pub(super) fn overlay(batch: &mut FloatArray, share: f32) {
    let size = batch.data.len() / batch.dims[0];
    let old = batch.data.clone();
    let next = old.iter().cycle().skip(size);
    for (to, other) in batch.data.iter_mut().zip(next) {
        *to = share * *to + (1.0 - share) * other;
    }
}

/// Each picture, with a rectangle of the next one (CutMix, Yun et al. 2019).
pub(super) fn paste(batch: &mut FloatArray, random: &mut impl Rng) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::rng;

    #[test]
    fn a_shift_brings_zeros_in() {
        let mut plane = vec![1.0, 2.0, 3.0, 4.0];
        shift(&mut plane, [2, 2], [1, -1]);
        assert_eq!(plane, [0.0, 0.0, 2.0, 0.0]);
    }

    #[test]
    fn a_part_is_a_smooth_picture_of_the_same_numbers() {
        assert_eq!(places(0.0, 3.0, 3), [(0, 1, 0.0), (1, 2, 0.0), (2, 2, 0.0)]);
        let picture: Vec<f32> = (0..80 * 70).map(|at| (at / 70) as f32).collect();
        for seed in 0..20 {
            let mut seen = picture.clone();
            crop(&mut seen, [80, 70], &mut rng(seed, "crop"));
            assert!(seen.iter().all(|number| (0.0..80.0).contains(number)));
            let (first, last) = (seen[0], seen[79 * 70]);
            assert!(
                last - first > 25.0 && last - first <= 79.0,
                "{first} {last}"
            );
            assert!(
                seen.chunks(70)
                    .all(|row| row.iter().all(|number| *number == row[0]))
            );
        }
    }

    #[test]
    fn colours_keep_what_is_seen() {
        let picture: Vec<f32> = (0..48).map(|at| (at % 16) as f32).collect();
        let mut seen = picture.clone();
        colour(&mut seen, 16, &mut rng(1, "colour"));
        assert_ne!(seen, picture);
        assert!(seen.chunks(16).all(|plane| plane.is_sorted()));
    }
}
