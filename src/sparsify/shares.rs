//! How many weights of each product go: one share for all, by a score across layers, or along measured error curves.

use super::Error;
use super::local::{Local, zero};
use super::measure::DenseOutputs;
use super::parts::SparsePart;
use super::pattern::SparsityPattern;
use super::score::{SparseScore, one_shot, sets};
use crate::calibrate::Statistics;
use crate::model::Model;
use crate::progress::{Phase, Work};

/// The largest share of a layer that goes: what is empty says nothing.
const MOST: f64 = 0.98;
/// Shares at which the error of a layer is worked out.
const LEVELS: [f64; 9] = [0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 0.98];
/// Steps into which a layer's weights are divided.
const STEPS: usize = 200;
/// Between one share for all and what the curves say: the mixtures that are tried.
const MIXTURES: [f64; 4] = [0.0, 0.5, 0.75, 1.0];
/// Shares at which a layer's effect on the outputs is measured lie between these.
const MEASURED: (f64, f64) = (0.3, 0.9);

/// The same share of each, `zeros` in all.
pub(super) fn uniform(sizes: &[usize], zeros: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let (mut before, mut given) = (0, 0);
    sizes
        .iter()
        .map(|size| {
            before += size;
            let until = (zeros as u128 * before as u128 / all.max(1) as u128) as usize;
            let own = until - given;
            given = until;
            own
        })
        .collect()
}

/// What goes when all weights are held against each other by a score of their own.
pub(super) fn pooled(
    model: &Model,
    parts: &[SparsePart],
    (score, pattern): (SparseScore, SparsityPattern),
    zeros: usize,
) -> Vec<usize> {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let Some(local) = Local::new(model, part, None) else {
            continue;
        };
        let mut saliency = score.saliency(pattern, part.shape, &local.groups);
        if score == SparseScore::Magnitude {
            let mean = saliency.iter().sum::<f64>() / saliency.len().max(1) as f64;
            saliency
                .iter_mut()
                .for_each(|number| *number /= mean.max(f64::MIN_POSITIVE));
        }
        let sets = sets(pattern, part.shape, &saliency);
        all.extend(
            sets.into_iter()
                .map(|(mean, members)| (mean, at, members.len())),
        );
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut counts = vec![0; parts.len()];
    let mut left = zeros;
    for (_, at, size) in all {
        let most = (parts[at].shape.elements() as f64 * MOST) as usize;
        if left > 0 && counts[at] + size <= most.max(1) {
            counts[at] += size;
            left = left.saturating_sub(size);
        }
    }
    counts
}

/// What measured curves need.
pub(super) struct Measuring<'a> {
    pub model: &'a Model,
    pub parts: &'a [SparsePart],
    pub pattern: SparsityPattern,
    pub statistics: &'a Statistics,
    pub baseline: &'a DenseOutputs<'a>,
}

/// The error of one product by the share of its weights that goes, convex.
struct LossCurve(Vec<f64>);

impl Measuring<'_> {
    /// Numbers of zeros with the least drift to be expected, `zeros` in all: each product's error after a refit, scaled to the
    /// outputs' drift when it alone is thinned out; how far to follow these curves is measured.
    pub fn zeros(&self, zeros: usize, work: &Work) -> Result<Vec<usize>, Error> {
        let sizes: Vec<usize> = self
            .parts
            .iter()
            .map(|part| part.shape.elements())
            .collect();
        let all: usize = sizes.iter().sum();
        let share = zeros as f64 / all.max(1) as f64;
        work.progress
            .begin(Phase::Sensitivity, self.parts.len() as u64);
        let mut curves = Vec::new();
        for part in self.parts {
            if work.progress.stop() {
                return Err(Error::Cancelled);
            }
            curves.push(self.curve(part, share)?);
            work.progress.advance(1);
        }
        let flat = uniform(&sizes, zeros);
        let Some(curved) = follow(&curves, &sizes, zeros) else {
            return Ok(flat);
        };
        work.progress.begin(Phase::Search, MIXTURES.len() as u64);
        let mut best: Option<(f64, Vec<usize>)> = None;
        for mixture in MIXTURES {
            let wanted: Vec<f64> = flat
                .iter()
                .zip(&curved)
                .map(|(flat, curved)| *flat as f64 * (1.0 - mixture) + *curved as f64 * mixture)
                .collect();
            let counts = rounded(&wanted, &sizes, zeros);
            let drift = self.baseline.drift(&self.thinned(&counts))?;
            tracing::debug!(mixture, drift, "shares of layers");
            if best.as_ref().is_none_or(|(least, _)| drift < *least) {
                best = Some((drift, counts));
            }
            work.progress.advance(1);
        }
        Ok(best.map_or(flat, |(_, counts)| counts))
    }

    fn local(&self, part: &SparsePart) -> Option<(Local, Vec<f64>)> {
        let local = Local::new(self.model, part, Some(self.statistics))?;
        let saliency = SparseScore::Obs.saliency(self.pattern, part.shape, &local.groups);
        Some((local, saliency))
    }

    fn curve(&self, part: &SparsePart, share: f64) -> Result<LossCurve, Error> {
        let flat = LossCurve(vec![0.0; STEPS + 1]);
        let Some((local, saliency)) = self.local(part) else {
            return Ok(flat);
        };
        let elements = part.shape.elements() as f64;
        let refitted = |share: f64| {
            let zeros = (elements * share).round() as usize;
            local.refit(&one_shot(self.pattern, part.shape, &saliency, zeros))
        };
        let mut points = vec![(0.0, 0.0)];
        for level in LEVELS {
            let Some(found) = refitted(level) else {
                return Ok(flat);
            };
            points.push((level, found.error));
        }
        points.push((1.0, 1.0));
        let level = share.clamp(MEASURED.0, MEASURED.1);
        let Some(found) = refitted(level) else {
            return Ok(flat);
        };
        let mut variant = self.model.clone();
        if local.write(&mut variant, part, &found).is_none() {
            return Ok(flat);
        }
        let drift = self.baseline.drift(&variant)?;
        let factor = drift * drift / found.error.max(1e-12);
        tracing::debug!(
            layer = part.layer,
            error = found.error,
            drift,
            "thinned out alone"
        );
        Ok(LossCurve::new(&points, factor))
    }

    /// The model with all products thinned out and refitted on their own.
    fn thinned(&self, counts: &[usize]) -> Model {
        let mut thinned = self.model.clone();
        for (part, zeros) in self.parts.iter().zip(counts) {
            let Some((local, saliency)) = self.local(part) else {
                continue;
            };
            let stays = one_shot(self.pattern, part.shape, &saliency, *zeros);
            let written = local
                .refit(&stays)
                .and_then(|found| local.write(&mut thinned, part, &found));
            if written.is_none() {
                zero(&mut thinned, part, &stays);
            }
        }
        thinned
    }
}

impl LossCurve {
    /// Through some points (share, error); cube roots of errors are nearly straight in between.
    fn new(points: &[(f64, f64)], factor: f64) -> Self {
        let at = |step: usize| {
            let share = step as f64 / STEPS as f64;
            let next = points
                .iter()
                .position(|(there, _)| *there >= share)
                .unwrap_or(points.len() - 1)
                .max(1);
            let ((from, low), (to, high)) = (points[next - 1], points[next]);
            let part = (share - from) / (to - from);
            let root = low.cbrt() + (high.cbrt() - low.cbrt()) * part;
            factor * root.powi(3)
        };
        let mut errors: Vec<f64> = (0..=STEPS).map(at).collect();
        for step in 1..=STEPS {
            errors[step] = errors[step].max(errors[step - 1]);
        }
        LossCurve(errors)
    }

    /// What each step of the lower convex hull costs for every weight of it, ascending.
    fn slopes(&self) -> Vec<f64> {
        let mut hull: Vec<usize> = Vec::new();
        let slope = |a: usize, b: usize| (self.0[b] - self.0[a]) / (b - a) as f64;
        for step in 0..=STEPS {
            while let [.., before, last] = hull[..]
                && slope(before, last) >= slope(last, step)
            {
                hull.pop();
            }
            hull.push(step);
        }
        hull.windows(2)
            .flat_map(|pair| vec![slope(pair[0], pair[1]); pair[1] - pair[0]])
            .collect()
    }
}

/// The numbers of zeros at which no product would rather have others zeroed; `None` where curves say nothing.
fn follow(curves: &[LossCurve], sizes: &[usize], zeros: usize) -> Option<Vec<usize>> {
    let most = (STEPS as f64 * MOST) as usize;
    let mut steps: Vec<(f64, usize)> = Vec::new();
    for (at, (curve, size)) in curves.iter().zip(sizes).enumerate() {
        let each = *size as f64 / STEPS as f64;
        let slopes = curve.slopes();
        steps.extend(
            slopes
                .into_iter()
                .take(most)
                .map(|slope| (slope / each, at)),
        );
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    if steps.iter().all(|(slope, _)| *slope == 0.0) {
        return None;
    }
    let mut wanted = vec![0.0; sizes.len()];
    let mut left = zeros as f64;
    for (_, at) in steps {
        if left <= 0.0 {
            break;
        }
        let own = (sizes[at] as f64 / STEPS as f64).min(left);
        wanted[at] += own;
        left -= own;
    }
    Some(rounded(&wanted, sizes, zeros))
}

/// Whole numbers near some, `zeros` in all where sizes allow it.
fn rounded(wanted: &[f64], sizes: &[usize], zeros: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = wanted
        .iter()
        .zip(sizes)
        .map(|(wanted, size)| (wanted.floor() as usize).min(*size))
        .collect();
    let mut left = zeros.saturating_sub(counts.iter().sum());
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(sizes[*at] - counts[*at]));
    for at in order {
        let more = left
            .min(sizes[at] - counts[at])
            .min(left.div_ceil(sizes.len().max(1)).max(1));
        counts[at] += more;
        left -= more;
    }
    for at in 0..sizes.len() {
        let more = left.min(sizes[at] - counts[at]);
        counts[at] += more;
        left -= more;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(uniform(&[10, 30, 7], 33), [7, 21, 5]);
        assert_eq!(rounded(&[2.5, 3.9], &[4, 4], 7).iter().sum::<usize>(), 7);
        assert_eq!(rounded(&[9.0, 1.0], &[4, 4], 8), [4, 4]);
    }

    #[test]
    fn what_costs_least_goes_first() {
        let curve = |factor: f64| LossCurve::new(&[(0.0, 0.0), (0.5, 0.1), (1.0, 1.0)], factor);
        let found = follow(&[curve(1.0), curve(100.0)], &[1000, 1000], 1000).unwrap();
        assert_eq!(found.iter().sum::<usize>(), 1000);
        assert!(found[0] > 700 && found[1] < 300, "{found:?}");
        // The same error spread over more weights costs each of them less.
        let found = follow(&[curve(1.0), curve(1.0)], &[1000, 3000], 2000).unwrap();
        assert!(
            found[1] as f64 / 3000.0 > found[0] as f64 / 1000.0,
            "{found:?}"
        );
        assert!(follow(&[curve(0.0)], &[10], 5).is_none());
    }

    #[test]
    fn slopes_of_a_curve_ascend() {
        let curve = LossCurve::new(&[(0.0, 0.0), (0.3, 0.2), (0.6, 0.21), (1.0, 1.0)], 2.0);
        let slopes = curve.slopes();
        assert!(slopes.len() == STEPS && slopes.is_sorted());
        assert!((slopes.iter().sum::<f64>() - 2.0).abs() < 1e-9);
    }
}
