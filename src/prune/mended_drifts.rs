//! What mending leaves of the drift that a cut has before, as far as it was seen.

/// What it leaves where there are many inputs to fit weights to,
const LEFT: f64 = 0.6;
/// and where there are few:
const LEFT_BY_FEW: f64 = 1.0;
/// fewer than these.
const FEW: usize = 600;
/// The drift that is left is taken for a power of the drift before. Of which one, before two were seen,
const POWER: f64 = 0.7;
/// and at least and at most.
const POWERS: (f64, f64) = (0.35, 1.2);
/// How far a guess may go beyond what was seen, as a factor.
const FARTHEST: f64 = 3.0;

/// Drifts before and after mending, of the cuts that were mended.
pub(super) struct MendedDrifts {
    first: f64,
    seen: Vec<(f64, f64)>,
}

impl MendedDrifts {
    /// None was seen yet. `inputs`: how many weights are fitted to.
    pub fn new(inputs: usize) -> Self {
        MendedDrifts {
            first: if inputs < FEW { LEFT_BY_FEW } else { LEFT },
            seen: Vec::new(),
        }
    }

    /// A cut moved the outputs so far before it was mended, and so far after.
    pub fn add(&mut self, before: f64, after: f64) {
        if before > 0.0 && after > 0.0 {
            self.seen.push((before, after));
        }
    }

    /// What was left of a drift last.
    pub fn left(&self) -> f64 {
        self.seen
            .last()
            .map_or(self.first, |(before, after)| after / before)
    }

    /// The drift before mending of a cut that moves the outputs so far after it.
    pub fn before(&self, wanted: f64) -> f64 {
        let away = |(_, after): &(f64, f64)| (after / wanted).ln().abs();
        let mut nearest = self.seen.clone();
        nearest.sort_by(|a, b| away(a).total_cmp(&away(b)));
        let Some((before, after)) = nearest.first() else {
            return wanted / self.first;
        };
        let power = nearest.get(1).map_or(POWER, |other| {
            let power = (after / other.1).ln() / (before / other.0).ln();
            if power.is_finite() {
                power.clamp(POWERS.0, POWERS.1)
            } else {
                POWER
            }
        });
        let factor = (wanted / after).powf(power.recip());
        before * factor.clamp(FARTHEST.recip(), FARTHEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_guess_follows_the_power_that_was_seen() {
        let mut drifts = MendedDrifts::new(1000);
        assert!((drifts.before(0.06) - 0.1).abs() < 1e-12);
        let mended = |before: f64| 0.2 * before.powf(0.44);
        drifts.add(0.1, mended(0.1));
        drifts.add(0.15, mended(0.15));
        let guess = drifts.before(0.09);
        assert!((mended(guess) - 0.09).abs() < 1e-9, "{guess}");
        assert!((drifts.left() - mended(0.15) / 0.15).abs() < 1e-12);
        // Never far beyond what was seen.
        assert!(drifts.before(10.0) < 0.46 && drifts.before(1e-6) > 0.03);
    }
}
