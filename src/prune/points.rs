//! What the models of a sweep are to reach, and which of them are worth having.

use super::Request;
use crate::allocate::Target;

/// What one model of a sweep is to reach.
///
/// ```
/// use onnx_prune::{SweepPoint, Target};
///
/// assert_eq!(SweepPoint::Cost(Target::Macs(0.5)).to_string(), "macs=0.5");
/// assert_eq!(SweepPoint::Drift(0.02).to_string(), "drift=0.02");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SweepPoint {
    /// A fraction of the original that may remain.
    Cost(Target),
    /// The relative output error allowed.
    Drift(f64),
    /// The least share of inputs kept apart that keep their class.
    Agreement(f64),
}

impl std::fmt::Display for SweepPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SweepPoint::Cost(target) => target.fmt(f),
            SweepPoint::Drift(allowed) => write!(f, "drift={allowed}"),
            SweepPoint::Agreement(least) => write!(f, "agreement={least}"),
        }
    }
}

impl Request {
    /// The request for one model of a sweep.
    pub(crate) fn at(&self, point: SweepPoint) -> Request {
        let mut request = self.clone();
        match point {
            SweepPoint::Cost(target) => request.targets.push(target),
            SweepPoint::Drift(allowed) => request.drift = Some(allowed),
            SweepPoint::Agreement(least) => request.agreement = Some(least),
        }
        request
    }
}

/// Which of some models are worth having: none of the others costs as little and is as far from the original, or as little and
/// as far, and better in one. `models`: costs and how bad each is, both better where smaller; a number that is not one is never
/// on the front.
///
/// ```
/// let front = onnx_prune::prune::pareto_front(&[(0.9, 0.1), (0.5, 0.3), (0.6, 0.4), (0.4, f64::NAN)]);
/// assert_eq!(front, [true, true, false, false]);
/// ```
pub fn pareto_front(models: &[(f64, f64)]) -> Vec<bool> {
    let is_number = |(cost, bad): &(f64, f64)| !cost.is_nan() && !bad.is_nan();
    let beats = |one: &(f64, f64), other: &(f64, f64)| {
        one.0 <= other.0 && one.1 <= other.1 && (one.0 < other.0 || one.1 < other.1)
    };
    models
        .iter()
        .map(|model| is_number(model) && !models.iter().any(|other| beats(other, model)))
        .collect()
}
