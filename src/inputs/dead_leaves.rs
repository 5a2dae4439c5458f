//! Made-up pictures: leaves that fall on each other, the simplest model whose statistics are those of natural images
//! (Lee, Mumford and Huang, 2001): flat regions, sharp edges, and the same at every scale. What a network computes on them
//! is much nearer to what it computes on photographs than on white noise.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How pictures lie in a tensor of four axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafLayout {
    pictures: usize,
    channels: usize,
    height: usize,
    width: usize,
    /// Channels after the rows and columns.
    last: bool,
}

/// Narrower than this, and it may be anything.
const LEAST: usize = 6;
/// Leaves are discs of radii down to this, in pixels.
const SMALLEST: f64 = 1.0;
/// Leaves on a picture: all of it is covered many times over.
const LEAVES: usize = 400;

impl LeafLayout {
    /// Tensors of one or three channels (four axes) hold pictures.
    pub fn of(dims: &[usize]) -> Option<Self> {
        let [pictures, a, b, c] = *dims else {
            return None;
        };
        let colours = |channels: usize| channels == 1 || channels == 3;
        match () {
            () if colours(a) && b.min(c) >= LEAST => Some(LeafLayout {
                pictures,
                channels: a,
                height: b,
                width: c,
                last: false,
            }),
            () if colours(c) && a.min(b) >= LEAST => Some(LeafLayout {
                pictures,
                channels: c,
                height: a,
                width: b,
                last: true,
            }),
            () => None,
        }
    }

    /// Any tensor as lines along its last axis.
    pub fn line(dims: &[usize]) -> Self {
        let width = dims.last().copied().unwrap_or(1).max(1);
        LeafLayout {
            pictures: dims.iter().product::<usize>() / width,
            channels: 1,
            height: 1,
            width,
            last: false,
        }
    }

    /// Puts planes, made picture by picture from the number of channels, the height and the width, into the tensor's order.
    pub fn fill(&self, mut make: impl FnMut(usize, usize, usize) -> Vec<Vec<f64>>) -> Vec<f64> {
        let size = self.height * self.width;
        let mut numbers = Vec::with_capacity(self.pictures * self.channels * size);
        for _ in 0..self.pictures {
            let planes = make(self.channels, self.height, self.width);
            if self.last {
                numbers.extend((0..size).flat_map(|at| planes.iter().map(move |plane| plane[at])));
            } else {
                numbers.extend(planes.into_iter().flatten());
            }
        }
        numbers
    }

    /// Pictures of mean 0 and variance about 1, in the tensor's order. `normal` draws from N(0, 1).
    pub fn pictures(
        &self,
        random: &mut ChaCha8Rng,
        normal: impl Fn(&mut ChaCha8Rng) -> f64,
    ) -> Vec<f64> {
        let size = self.height * self.width;
        let mut numbers = vec![0.0; self.pictures * self.channels * size];
        for picture in numbers.chunks_exact_mut((self.channels * size).max(1)) {
            for _ in 0..LEAVES {
                self.drop_leaf(picture, random, &normal);
            }
        }
        numbers
    }

    fn drop_leaf(
        &self,
        picture: &mut [f64],
        random: &mut ChaCha8Rng,
        normal: &impl Fn(&mut ChaCha8Rng) -> f64,
    ) {
        /// Channels of natural images say nearly the same.
        const GREY: f64 = 0.9;
        let largest = self.height.max(self.width) as f64 / 2.0;
        // Radii by r⁻³, which looks the same at every scale.
        let share: f64 = random.random();
        let radius =
            (SMALLEST.powi(-2) + share * (largest.powi(-2) - SMALLEST.powi(-2))).powf(-0.5);
        // Large ones first would be covered: half of the leaves are drawn evenly instead.
        let radius = if random.random() {
            radius
        } else {
            SMALLEST + share * (largest - SMALLEST)
        };
        let mut place =
            |extent: usize| random.random::<f64>() * (extent as f64 + 2.0 * radius) - radius;
        let (row, column) = (place(self.height), place(self.width));
        let grey = GREY.sqrt() * normal(random);
        let colour: Vec<f64> = (0..self.channels)
            .map(|_| grey + (1.0 - GREY).sqrt() * normal(random))
            .collect();
        let rows = (row - radius).max(0.0) as usize
            ..((row + radius).max(0.0).ceil() as usize).min(self.height);
        for y in rows {
            let half = (radius * radius - (y as f64 - row).powi(2)).max(0.0).sqrt();
            for x in (column - half).max(0.0) as usize
                ..((column + half).max(0.0).ceil() as usize).min(self.width)
            {
                for (channel, number) in colour.iter().enumerate() {
                    let pixel = y * self.width + x;
                    let at = if self.last {
                        pixel * self.channels + channel
                    } else {
                        channel * self.height * self.width + pixel
                    };
                    if let Some(into) = picture.get_mut(at) {
                        *into = *number;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_alike_and_the_whole_is_standard() {
        for dims in [[4, 3, 32, 32], [4, 32, 32, 3]] {
            let layout = LeafLayout::of(&dims).unwrap();
            let mut random = crate::rng::rng(1, "leaves");
            let numbers = layout.pictures(&mut random, |random| {
                (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
            });
            assert_eq!(numbers.len(), 4 * 3 * 32 * 32);
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            let variance = numbers
                .iter()
                .map(|number| (number - mean).powi(2))
                .sum::<f64>()
                / numbers.len() as f64;
            assert!(
                mean.abs() < 0.4 && (0.5..2.0).contains(&variance),
                "{mean} {variance}"
            );
            let next = if layout.last { 3 } else { 1 };
            let steps: f64 = numbers
                .iter()
                .zip(&numbers[next..])
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>()
                / numbers.len() as f64;
            // Of white noise it would be twice the variance.
            assert!(steps < variance, "{steps} of {variance}");
        }
    }

    #[test]
    fn what_is_no_picture_is_left_alone() {
        assert_eq!(LeafLayout::of(&[1, 8, 32, 32]), None);
        assert_eq!(LeafLayout::of(&[1, 3, 5, 5]), None);
        assert_eq!(LeafLayout::of(&[3, 64, 64]), None);
    }
}
