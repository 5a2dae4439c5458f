//! Which weights may be zeroed apart from each other.
//!
//! Columns of a product's matrix go by input channel, then by place within the window. Patterns run along the input
//! channels at one place, as the sparse kernels for 2:4 and for blocks want them.

use std::fmt;

/// How zeros may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SparsityPattern {
    /// Anywhere.
    #[default]
    Free,
    /// At most `keep` of every `of` neighbouring input channels of a row are not zero.
    Within {
        /// Weights that may stay.
        keep: usize,
        /// Of so many.
        of: usize,
    },
    /// Blocks of so many rows and input channels are zero as a whole, or not at all.
    Blocks {
        /// Rows (output channels).
        rows: usize,
        /// Input channels.
        channels: usize,
    },
    /// The whole window of an input and an output channel is zero, or nothing of it.
    Kernels,
}

impl fmt::Display for SparsityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SparsityPattern::Free => f.write_str("none"),
            SparsityPattern::Within { keep, of } => write!(f, "{keep}:{of}"),
            SparsityPattern::Blocks { rows, channels } => write!(f, "{rows}x{channels}"),
            SparsityPattern::Kernels => f.write_str("kernel"),
        }
    }
}

/// The name of no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a pattern; there are none, N:M (2:4), blocks of rows × inputs (1x4, 4x1, 16x1) and kernel"
)]
pub struct NoSuchPattern(String);

impl std::str::FromStr for SparsityPattern {
    type Err = NoSuchPattern;

    fn from_str(text: &str) -> Result<Self, NoSuchPattern> {
        let wrong = || NoSuchPattern(text.to_owned());
        let pair = |sign: char| -> Option<(usize, usize)> {
            let (a, b) = text.split_once(sign)?;
            Some((a.parse().ok()?, b.parse().ok()?))
        };
        match text {
            "none" => return Ok(SparsityPattern::Free),
            "kernel" => return Ok(SparsityPattern::Kernels),
            _ => {}
        }
        if let Some((keep, of)) = pair(':') {
            let fits = 0 < keep && keep < of && of <= 64;
            return fits
                .then_some(SparsityPattern::Within { keep, of })
                .ok_or_else(wrong);
        }
        match pair('x') {
            Some((1, 1)) => Ok(SparsityPattern::Free),
            Some((rows, channels)) if (1..=64).contains(&rows) && (1..=64).contains(&channels) => {
                Ok(SparsityPattern::Blocks { rows, channels })
            }
            _ => Err(wrong()),
        }
    }
}

/// The matrices of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskShape {
    /// Matrices.
    pub groups: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each: channels × taps.
    pub columns: usize,
    /// Places within the window.
    pub taps: usize,
}

impl MaskShape {
    /// All weights.
    pub fn elements(&self) -> usize {
        self.groups * self.rows * self.columns
    }

    /// Input channels of a group.
    pub fn channels(&self) -> usize {
        self.columns / self.taps.max(1)
    }
}

/// What goes together in one group's matrix: rows in bands, of each of which every set of columns goes or stays.
#[derive(Clone, Debug)]
pub struct Units {
    /// Rows of a band; the last may have fewer.
    pub band: usize,
    /// Sets of columns.
    pub sets: Vec<Vec<usize>>,
    /// Sets of sets of which at most so many may stay.
    pub cells: Option<(Vec<Vec<usize>>, usize)>,
}

impl SparsityPattern {
    /// The share of zeros that the pattern itself gives; `None`: any.
    pub fn share(&self) -> Option<f64> {
        match self {
            SparsityPattern::Within { keep, of } => Some(1.0 - *keep as f64 / *of as f64),
            _ => None,
        }
    }

    /// Why a product can not have this pattern.
    pub fn misfit(&self, shape: MaskShape) -> Option<String> {
        match self {
            SparsityPattern::Within { of, .. } if !shape.channels().is_multiple_of(*of) => {
                Some(format!(
                    "its {} input channels are no multiple of {of}",
                    shape.channels()
                ))
            }
            _ => None,
        }
    }

    /// What goes together.
    pub fn units(&self, shape: MaskShape) -> Units {
        let (taps, channels) = (shape.taps.max(1), shape.channels());
        let single = || (0..shape.columns).map(|column| vec![column]).collect();
        let runs = |length: usize| -> Vec<Vec<usize>> {
            let at = |tap: usize, first: usize| {
                (first..(first + length).min(channels))
                    .map(|channel| channel * taps + tap)
                    .collect()
            };
            (0..taps)
                .flat_map(|tap| (0..channels).step_by(length).map(move |first| (tap, first)))
                .map(|(tap, first)| at(tap, first))
                .collect()
        };
        match self {
            SparsityPattern::Free => Units {
                band: 1,
                sets: single(),
                cells: None,
            },
            SparsityPattern::Within { keep, of } => Units {
                band: 1,
                sets: single(),
                cells: Some((runs(*of), *keep)),
            },
            SparsityPattern::Blocks { rows, channels } => Units {
                band: *rows,
                sets: runs(*channels),
                cells: None,
            },
            SparsityPattern::Kernels => Units {
                band: 1,
                sets: (0..channels)
                    .map(|channel| (channel * taps..(channel + 1) * taps).collect())
                    .collect(),
                cells: None,
            },
        }
    }

    /// Whether the weights that stay (groups × rows × columns) obey the pattern.
    pub fn holds(&self, shape: MaskShape, stays: &[bool]) -> bool {
        let units = self.units(shape);
        let row_holds = |row: &[bool]| match &units.cells {
            Some((cells, keep)) => cells
                .iter()
                .all(|cell| cell.iter().filter(|column| row[**column]).count() <= *keep),
            None => true,
        };
        let band_holds = |band: &[bool]| {
            units.sets.iter().all(|set| {
                let mut all = band
                    .chunks(shape.columns)
                    .flat_map(|row| set.iter().map(|column| row[*column]));
                let first = all.next();
                all.all(|stays| Some(stays) == first)
            })
        };
        stays.len() == shape.elements()
            && stays.chunks(shape.columns.max(1)).all(row_holds)
            && stays
                .chunks((shape.rows * shape.columns).max(1))
                .all(|group| {
                    group
                        .chunks((units.band * shape.columns).max(1))
                        .all(band_holds)
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for text in ["none", "2:4", "1:16", "1x4", "16x1", "4x4", "kernel"] {
            assert_eq!(text.parse::<SparsityPattern>().unwrap().to_string(), text);
        }
        for text in ["4:2", "2:2", "0:4", "x4", "1x0", "2:", "half"] {
            assert!(text.parse::<SparsityPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn cells_run_along_the_input_channels() {
        let shape = MaskShape {
            groups: 1,
            rows: 1,
            columns: 12,
            taps: 3,
        };
        let pattern = SparsityPattern::Within { keep: 2, of: 4 };
        let units = pattern.units(shape);
        assert_eq!(units.cells.unwrap().0[1], [1, 4, 7, 10]);
        let mut stays = vec![false; 12];
        [0, 1, 2, 3, 4, 5].iter().for_each(|at| stays[*at] = true);
        assert!(pattern.holds(shape, &stays));
        stays[6] = true;
        assert!(!pattern.holds(shape, &stays));
        assert!(
            pattern
                .misfit(MaskShape {
                    columns: 9,
                    ..shape
                })
                .is_some()
        );
    }
}
