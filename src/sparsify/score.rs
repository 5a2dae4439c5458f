//! What a weight is worth.

use std::fmt;

use super::pattern::{MaskShape, SparsityPattern};
use super::{obs, sparsegpt};
use crate::recover::Candidate;

/// How weights are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SparseScore {
    /// By size in units of the layer's root mean square; layers are held against each other.
    #[default]
    Magnitude,
    /// By size, the same share of every layer.
    MagnitudeLayer,
    /// By size, layers held against each other as they are.
    MagnitudeGlobal,
    /// By size times the norm of the input, row by row (Sun et al. 2024).
    Wanda,
    /// Column by column, errors passed on (Frantar and Alistarh 2023).
    SparseGpt,
    /// One by one, the others making up for each (Frantar and Alistarh 2022); in layers too large for that, column by column.
    Obs,
}

/// All of them, by name.
const NAMES: [(&str, SparseScore); 6] = [
    ("magnitude", SparseScore::Magnitude),
    ("magnitude-layer", SparseScore::MagnitudeLayer),
    ("magnitude-global", SparseScore::MagnitudeGlobal),
    ("wanda", SparseScore::Wanda),
    ("sparsegpt", SparseScore::SparseGpt),
    ("obs", SparseScore::Obs),
];

impl fmt::Display for SparseScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, score)| score == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// The name of no score.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such score; available: {}", NAMES.map(|(name, _)| name).join(", "))]
pub struct NoSparseScore;

impl std::str::FromStr for SparseScore {
    type Err = NoSparseScore;

    fn from_str(text: &str) -> Result<Self, NoSparseScore> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, score)| *score).ok_or(NoSparseScore)
    }
}

impl SparseScore {
    /// Whether it looks at activations.
    pub fn needs_data(self) -> bool {
        matches!(
            self,
            SparseScore::Wanda | SparseScore::SparseGpt | SparseScore::Obs
        )
    }

    /// The weights of a product that stay: groups × rows × columns, `zeros` of them not (as near as whole blocks allow).
    pub(super) fn choose(
        self,
        pattern: SparsityPattern,
        shape: MaskShape,
        groups: &[Candidate],
        zeros: usize,
    ) -> Vec<bool> {
        let units = pattern.units(shape);
        let single = units.band == 1 && units.sets.iter().all(|set| set.len() == 1);
        let found = match self {
            SparseScore::Obs if obs::is_small(shape, &units) => {
                obs::choose(pattern, shape, groups, zeros)
            }
            SparseScore::Obs | SparseScore::SparseGpt if single => {
                sparsegpt::choose(pattern, shape, groups, zeros)
            }
            _ => None,
        };
        found.unwrap_or_else(|| {
            one_shot(
                pattern,
                shape,
                &self.saliency(pattern, shape, groups),
                zeros,
            )
        })
    }

    /// A number per weight, the least salient to go first.
    pub(super) fn saliency(
        self,
        pattern: SparsityPattern,
        shape: MaskShape,
        groups: &[Candidate],
    ) -> Vec<f64> {
        let of = |group: &Candidate| -> Vec<f64> {
            let columns = shape.columns;
            let plain = group.weight.iter().map(|weight| weight * weight);
            let moment = |column: usize| group.hessian[(column, column)];
            match self {
                SparseScore::Wanda => {
                    let sizes: Vec<f64> = plain
                        .enumerate()
                        .map(|(at, square)| square * moment(at % columns))
                        .collect();
                    match pattern {
                        SparsityPattern::Free => {
                            sizes.chunks(columns.max(1)).flat_map(ranks).collect()
                        }
                        _ => sizes,
                    }
                }
                SparseScore::SparseGpt | SparseScore::Obs => {
                    let inverse = obs::inverse(&group.hessian);
                    let worth = |column: usize| match &inverse {
                        Some(inverse) => 1.0 / inverse[(column, column)].max(f64::MIN_POSITIVE),
                        None => moment(column),
                    };
                    let worth: Vec<f64> = (0..columns).map(worth).collect();
                    let scale = |row: usize| group.scale.get(row).copied().unwrap_or(1.0);
                    let best = group.best.iter().enumerate();
                    best.map(|(at, weight)| {
                        (weight * scale(at / columns)).powi(2) * worth[at % columns]
                    })
                    .collect()
                }
                _ => plain.collect(),
            }
        };
        groups.iter().flat_map(of).collect()
    }
}

/// The places of some numbers in their order, as shares.
fn ranks(row: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*a].total_cmp(&row[*b]).then(a.cmp(b)));
    let mut ranks = vec![0.0; row.len()];
    for (rank, at) in order.into_iter().enumerate() {
        ranks[at] = (rank as f64 + 0.5) / row.len() as f64;
    }
    ranks
}

/// Sets of weights of one product with the mean saliency of each: its number, the weights in it.
pub(super) fn sets(
    pattern: SparsityPattern,
    shape: MaskShape,
    saliency: &[f64],
) -> Vec<(f64, Vec<usize>)> {
    let units = pattern.units(shape);
    let mut all = Vec::new();
    for group in 0..shape.groups {
        for first in (0..shape.rows).step_by(units.band) {
            for set in &units.sets {
                let members: Vec<usize> = (first..(first + units.band).min(shape.rows))
                    .flat_map(|row| {
                        let start = (group * shape.rows + row) * shape.columns;
                        set.iter().map(move |column| start + column)
                    })
                    .collect();
                let sum: f64 = members.iter().map(|at| saliency[*at]).sum();
                all.push((sum / members.len().max(1) as f64, members));
            }
        }
    }
    all
}

/// The weights that stay when the least salient go at once.
pub(super) fn one_shot(
    pattern: SparsityPattern,
    shape: MaskShape,
    saliency: &[f64],
    zeros: usize,
) -> Vec<bool> {
    let mut stays = vec![true; shape.elements()];
    if let Some((cells, keep)) = pattern.units(shape).cells {
        for (row, stays) in stays.chunks_mut(shape.columns.max(1)).enumerate() {
            for cell in &cells {
                let mut cell = cell.clone();
                let of = |column: &usize| saliency[row * shape.columns + column];
                cell.sort_by(|a, b| of(a).total_cmp(&of(b)).then(a.cmp(b)));
                cell[..cell.len().saturating_sub(keep)]
                    .iter()
                    .for_each(|column| stays[*column] = false);
            }
        }
        return stays;
    }
    let mut all = sets(pattern, shape, saliency);
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut gone = 0;
    for (_, members) in all {
        if gone >= zeros {
            break;
        }
        gone += members.len();
        members.into_iter().for_each(|at| stays[at] = false);
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::testing::{candidate, loss};

    const SHAPE: MaskShape = MaskShape {
        groups: 1,
        rows: 6,
        columns: 16,
        taps: 1,
    };

    #[test]
    fn every_score_obeys_every_pattern() {
        let group = candidate(SHAPE, 5);
        for pattern in ["none", "2:4", "1:8", "1x4", "4x1", "16x1", "3x5", "kernel"] {
            let pattern: SparsityPattern = pattern.parse().unwrap();
            for (name, score) in NAMES {
                let stays = score.choose(pattern, SHAPE, std::slice::from_ref(&group), 48);
                assert!(pattern.holds(SHAPE, &stays), "{name} {pattern}");
                let gone = stays.iter().filter(|stays| !**stays).count();
                let wanted = pattern.share().map_or(48, |share| (96.0 * share) as usize);
                let most = if let SparsityPattern::Blocks { rows, channels } = pattern {
                    rows * channels
                } else {
                    1
                };
                assert!(
                    (wanted..wanted + most).contains(&gone),
                    "{name} {pattern}: {gone}"
                );
            }
        }
    }

    #[test]
    fn refitting_lowers_what_any_mask_loses() {
        let group = candidate(SHAPE, 6);
        for (name, score) in NAMES {
            let stays = score.choose(
                SparsityPattern::Free,
                SHAPE,
                std::slice::from_ref(&group),
                60,
            );
            let (bare, refitted) = (
                loss(&group, &stays, 6, false),
                loss(&group, &stays, 6, true),
            );
            assert!(refitted < 0.9 * bare, "{name}: {refitted} of {bare}");
        }
    }
}
