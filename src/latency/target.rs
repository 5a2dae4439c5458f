//! The search for a target of latency: the table of operators proposes, a measurement of the whole corrects it.

use super::LatencyModel;
use crate::allocate::{Choice, Target, Unreachable};
use crate::inputs::GatherError;
use crate::model::Model;

/// Relative tolerance for meeting a latency target.
pub const NEAR: f64 = 0.05;
/// Tolerance at which the search for one ends, for measurements differ.
const AIM: f64 = 0.03;
/// Corrections of the table, at most.
const TRIALS: usize = 5;
/// Bounds of a correction.
const CORRECTION: (f64, f64) = (0.2, 5.0);

/// What the table foresaw of the result, against what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LatencyForecast {
    /// The fraction asked for.
    pub target: f64,
    /// Milliseconds of the original.
    pub original: f64,
    /// Milliseconds of the pruned model by the table, as corrected before it was run.
    pub predicted: f64,
    /// Milliseconds of the pruned model as cut.
    pub measured: f64,
    /// How often the table was corrected.
    pub corrections: usize,
}

/// How choices are made, priced and cut while a target is searched for.
pub struct Settling<'a, E> {
    /// Targets, of which one may be a latency.
    pub targets: &'a [Target],
    /// Fraction of the original's time that is left by the table where the choice begins.
    pub now: f64,
    /// Factor by which measurements have shown the table to be wrong so far.
    pub correction: f64,
    /// Chooses under targets.
    pub choose: &'a dyn Fn(&[Target]) -> Result<Choice, Unreachable>,
    /// The fraction of time that a choice leaves by the table.
    pub predict: &'a dyn Fn(&Choice) -> f64,
    /// The model that a choice leaves.
    pub cut: &'a dyn Fn(&Choice) -> Result<Model, E>,
}

/// What a search came to.
pub struct Settled {
    /// The choice, or why the targets cannot be met.
    pub choice: Result<Choice, Unreachable>,
    /// What was foreseen of it; `None` where no latency is among the targets.
    pub forecast: Option<LatencyForecast>,
    /// Factor by which the table is wrong.
    pub correction: f64,
}

impl<E: From<GatherError>> Settling<'_, E> {
    /// Chooses, measures what was chosen, corrects the table by what it was wrong and chooses again, a few times.
    /// Errors: a choice that cannot be cut or does not run.
    pub fn settle(mut self, latency: &LatencyModel) -> Result<Settled, E> {
        let fraction = |target: &Target| match target {
            Target::Latency(fraction) => Some(*fraction),
            _ => None,
        };
        let Some(wanted) = self.targets.iter().find_map(fraction) else {
            return Ok(self.settled((self.choose)(self.targets), None));
        };
        let mut best: Option<(f64, Choice, LatencyForecast)> = None;
        let mut last = None;
        for corrections in 0..TRIALS {
            let asked = (wanted / self.correction).min(1.0);
            let (choice, unreachable) = match (self.choose)(&self.corrected(asked)) {
                Ok(choice) => (choice, None),
                Err(unreachable) => (unreachable.closest.clone(), Some(unreachable)),
            };
            if last.as_ref() == Some(&choice) {
                break;
            }
            let table = (self.predict)(&choice) * self.now;
            let forecast = self.measure(latency, &choice, (wanted, table), corrections)?;
            let measured = forecast.measured / forecast.original;
            let off = measured / forecast.target - 1.0;
            if best.as_ref().is_none_or(|(least, ..)| off.abs() < *least) {
                best = Some((off.abs(), choice.clone(), forecast));
            }
            // Where another target asks for more, or nothing more can go, the latency is what it is.
            let binds = table >= (asked * self.now) * (1.0 - NEAR);
            if off.abs() <= AIM || (off < 0.0 && !binds) || (off > 0.0 && unreachable.is_some()) {
                if let (Some(unreachable), true) = (unreachable, off > NEAR) {
                    return Ok(self.settled(Err(unreachable), Some(forecast)));
                }
                break;
            }
            if table > 0.0 && measured.is_finite() {
                self.correction = (measured / table).clamp(CORRECTION.0, CORRECTION.1);
            }
            last = Some(choice);
        }
        Ok(match best {
            Some((_, choice, forecast)) => self.settled(Ok(choice), Some(forecast)),
            None => self.settled((self.choose)(self.targets), None),
        })
    }

    fn settled(
        &self,
        choice: Result<Choice, Unreachable>,
        forecast: Option<LatencyForecast>,
    ) -> Settled {
        Settled {
            choice,
            forecast,
            correction: self.correction,
        }
    }

    /// The targets, with this fraction for the latency.
    fn corrected(&self, asked: f64) -> Vec<Target> {
        let one = |target: &Target| match target {
            Target::Latency(_) => target.with_fraction(asked),
            _ => *target,
        };
        self.targets.iter().map(one).collect()
    }

    /// Times a choice, which leaves the fraction `table` by the table where `wanted` of what is left now was asked for.
    fn measure(
        &self,
        latency: &LatencyModel,
        choice: &Choice,
        (wanted, table): (f64, f64),
        corrections: usize,
    ) -> Result<LatencyForecast, E> {
        let (original, pruned) = latency.time_pair(&(self.cut)(choice)?)?;
        let forecast = LatencyForecast {
            target: wanted * self.now,
            original: original.median,
            predicted: table * self.correction * original.median,
            measured: pruned.median,
            corrections,
        };
        tracing::info!(
            target = forecast.target,
            predicted = table * self.correction,
            measured = pruned.median / original.median,
            "latency of the choice, as fractions of the original"
        );
        Ok(forecast)
    }
}
