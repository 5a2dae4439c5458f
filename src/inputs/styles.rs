//! Kinds of made-up numbers. Where nobody says what a model reads, weights are fitted to several kinds at once, and what was
//! fitted is judged on others: what holds on numbers of a kind that nothing was fitted to is the likelier to hold on real ones.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::dead_leaves::LeafLayout;

/// A kind of made-up numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Pictures of leaves, other numbers from N(0, 1), any whole numbers of the range.
    Plain,
    /// Independent numbers everywhere.
    Noise,
    /// Strokes on an empty ground; single spikes; whole numbers that are small more often than not, as in a vocabulary that is
    /// sorted by how often words come.
    Strokes,
    /// Waves of all lengths, the longer the stronger; few whole numbers, again and again.
    Waves,
    /// Rectangles of numbers between 0 and 1 on zeros; small whole numbers, and short sequences.
    Blocks,
}

impl Style {
    /// What weights are fitted to.
    pub const FITTED: [Style; 4] = [Style::Plain, Style::Strokes, Style::Plain, Style::Noise];
    /// What they are judged on.
    pub const UNSEEN: [Style; 2] = [Style::Waves, Style::Blocks];

    /// Real numbers of a tensor, in its order. `normal` draws from N(0, 1).
    pub(super) fn numbers(
        self,
        dims: &[usize],
        random: &mut ChaCha8Rng,
        normal: &impl Fn(&mut ChaCha8Rng) -> f64,
    ) -> Vec<f64> {
        let layout = LeafLayout::of(dims);
        match (self, layout) {
            (Style::Plain, Some(layout)) => layout.pictures(random, normal),
            (Style::Plain | Style::Noise, _) => {
                (0..dims.iter().product()).map(|_| normal(random)).collect()
            }
            (_, layout) => self.drawn(
                layout.unwrap_or_else(|| LeafLayout::line(dims)),
                random,
                normal,
            ),
        }
    }

    /// Numbers that depend on their place.
    fn drawn(
        self,
        layout: LeafLayout,
        random: &mut ChaCha8Rng,
        normal: &impl Fn(&mut ChaCha8Rng) -> f64,
    ) -> Vec<f64> {
        /// Channels of natural images say nearly the same.
        const GREY: f64 = 0.9;
        layout.fill(|channels, height, width| {
            let plane = match self {
                Style::Waves => waves(height, width, random, normal),
                Style::Blocks => blocks(height, width, random),
                _ => strokes(height, width, random),
            };
            // How inputs are scaled is not known, so samples differ in it.
            let (gain, shift) = match self {
                Style::Waves => ((0.3 * normal(random)).exp(), 0.5 * normal(random)),
                _ => (1.0, 0.0),
            };
            let tints: Vec<f64> = (0..channels)
                .map(|_| 1.0 + (1.0 - GREY) * normal(random))
                .collect();
            let coloured = |tint: &f64| -> Vec<f64> {
                let tint = if channels == 1 { 1.0 } else { *tint };
                plane.iter().map(|x| x * gain * tint + shift).collect()
            };
            tints.iter().map(coloured).collect()
        })
    }

    /// Whole numbers from 0 to below `count`, so many in rows of so many.
    pub(super) fn picks(
        self,
        count: i64,
        numbers: usize,
        row: usize,
        random: &mut ChaCha8Rng,
    ) -> Vec<i64> {
        let any = |random: &mut ChaCha8Rng| random.random_range(0..count.max(1));
        let small = |random: &mut ChaCha8Rng| {
            let share: f64 = random.random();
            ((count as f64 * share.powi(3)) as i64).clamp(0, (count - 1).max(0))
        };
        let mut all = Vec::with_capacity(numbers);
        while all.len() < numbers {
            let left = row.clamp(1, numbers - all.len());
            match self {
                Style::Plain | Style::Noise => all.extend((0..left).map(|_| any(random))),
                Style::Strokes | Style::Blocks => all.extend((0..left).map(|_| small(random))),
                Style::Waves => {
                    let few: Vec<i64> = (0..(left / 3).max(2))
                        .map(|at| {
                            if at % 2 == 0 {
                                any(random)
                            } else {
                                small(random)
                            }
                        })
                        .collect();
                    all.extend((0..left).map(|_| few[random.random_range(0..few.len())]));
                }
            }
        }
        all
    }

    /// One part in so many of a sequence may be switched off at its end, and up to how many such parts are.
    pub(super) fn padding(self) -> (usize, usize) {
        match self {
            Style::Strokes | Style::Blocks => (3, 4),
            _ => (1, 4),
        }
    }
}

/// Waves of all lengths, amplitudes falling with frequency; variance about 1.
fn waves(
    height: usize,
    width: usize,
    random: &mut ChaCha8Rng,
    normal: &impl Fn(&mut ChaCha8Rng) -> f64,
) -> Vec<f64> {
    const WAVES: usize = 24;
    let mut plane = vec![0.0; height * width];
    let (mut power, longest) = (0.0, height.max(width) as f64);
    for _ in 0..WAVES {
        // Frequencies evenly over the octaves, in waves per extent.
        let frequency = (longest / 2.0).powf(random.random());
        let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
        let (down, across) = if height == 1 { (0.0, 1.0) } else { (sin, cos) };
        let (phase, step) = (
            std::f64::consts::TAU * random.random::<f64>(),
            std::f64::consts::TAU * frequency / longest,
        );
        let amplitude = normal(random) / frequency.sqrt();
        power += amplitude * amplitude / 2.0;
        for (at, number) in plane.iter_mut().enumerate() {
            let (y, x) = ((at / width) as f64, (at % width) as f64);
            *number += amplitude * (step * (y * down + x * across) + phase).cos();
        }
    }
    let scale = power.sqrt().max(1e-9).recip();
    plane.iter_mut().for_each(|number| *number *= scale);
    plane
}

/// Rectangles of numbers between 0 and 1 on zeros.
fn blocks(height: usize, width: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut plane = vec![0.0; height * width];
    for _ in 0..random.random_range(3..12) {
        let mut side = |extent: usize| {
            let from = random.random_range(0..extent);
            from..(from + 1 + random.random_range(0..extent.div_ceil(2))).min(extent)
        };
        let (rows, columns) = (side(height), side(width));
        let number: f64 = random.random();
        for y in rows {
            plane[y * width + columns.start..y * width + columns.end].fill(number);
        }
    }
    plane
}

/// A few strokes on an empty ground; on a line, spikes.
fn strokes(height: usize, width: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    const GROUND: f64 = -0.5;
    const INK: f64 = 2.0;
    if height == 1 {
        let spike = |random: &mut ChaCha8Rng| match random.random_range(0..5) {
            0 => INK * random.random::<f64>(),
            _ => 0.0,
        };
        return (0..width).map(|_| spike(random)).collect();
    }
    let mut plane = vec![GROUND; height * width];
    for _ in 0..random.random_range(2..6) {
        let mut place = |extent: usize| random.random::<f64>() * extent as f64;
        let (from, to) = ((place(height), place(width)), (place(height), place(width)));
        let thick = 0.5 + random.random::<f64>() * height.max(width) as f64 / 12.0;
        let (down, across) = (to.0 - from.0, to.1 - from.1);
        let length = (down * down + across * across).max(1e-9);
        for (at, number) in plane.iter_mut().enumerate() {
            let (y, x) = ((at / width) as f64 - from.0, (at % width) as f64 - from.1);
            let along = ((y * down + x * across) / length).clamp(0.0, 1.0);
            if (y - along * down).hypot(x - along * across) < thick {
                *number = INK;
            }
        }
    }
    plane
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::rng;

    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
    }

    #[test]
    fn styles_differ_and_fill_any_tensor() {
        let all = [
            Style::Plain,
            Style::Noise,
            Style::Strokes,
            Style::Waves,
            Style::Blocks,
        ];
        for dims in [
            &[2usize, 3, 16, 16][..],
            &[2, 12, 12, 1],
            &[3, 40],
            &[7],
            &[],
        ] {
            let count: usize = dims.iter().product();
            let made = all.map(|style| style.numbers(dims, &mut rng(3, "style"), &normal));
            assert!(
                made.iter().all(|numbers| numbers.len() == count),
                "{dims:?}"
            );
            assert!(made.iter().flatten().all(|number| number.abs() < 20.0));
            if count >= 20 {
                assert!((2..5).all(|at| made[at] != made[at - 1]), "{dims:?}");
            }
        }
        assert!(
            Style::UNSEEN
                .iter()
                .all(|style| !Style::FITTED.contains(style))
        );
    }

    #[test]
    fn waves_are_smooth_and_blocks_lie_between_nought_and_one() {
        let steps = |style: Style| {
            let numbers = style.numbers(&[1, 1, 32, 32], &mut rng(5, "waves"), &normal);
            let moved: f64 = numbers
                .windows(2)
                .map(|pair| (pair[0] - pair[1]).powi(2))
                .sum();
            moved / numbers.iter().map(|number| number * number).sum::<f64>()
        };
        assert!(steps(Style::Waves) < 0.7 && steps(Style::Noise) > 1.5);
        let blocks = Style::Blocks.numbers(&[4, 1, 16, 16], &mut rng(5, "blocks"), &normal);
        assert!(blocks.iter().all(|number| (0.0..=1.0).contains(number)));
    }

    #[test]
    fn whole_numbers_stay_in_range_and_repeat_where_meant() {
        let distinct = |style: Style| {
            let mut picks = style.picks(5000, 48, 48, &mut rng(1, "ids"));
            assert!(picks.len() == 48 && picks.iter().all(|pick| (0..5000).contains(pick)));
            picks.sort_unstable();
            picks.dedup();
            picks.len()
        };
        assert!(distinct(Style::Waves) <= 16 && distinct(Style::Plain) > 40);
        assert_eq!(Style::Blocks.picks(1, 3, 0, &mut rng(1, "one")), [0, 0, 0]);
    }
}
