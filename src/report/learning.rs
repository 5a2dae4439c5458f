//! The learning curve, as lines to be drawn: errors over steps, on a logarithmic scale.

use serde::Serialize;

use crate::train::{Lesson, TrainingRecord};

/// The field that lines are drawn in, in pixels: where it begins, and how large it is.
const LEFT: f64 = 70.0;
const TOP: f64 = 10.0;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 200.0;
/// Errors below this share of the largest are drawn at it.
const LOWEST: f64 = 1e-6;

/// The curve of a training, those of rounds before in front of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LearningCurve {
    /// Lines, with what they are, their class, and their points as SVG takes them.
    lines: Vec<(&'static str, &'static str, String)>,
    /// Values that are marked, with their heights.
    marks: Vec<(String, f64)>,
    /// All steps.
    steps: usize,
}

/// One thing that a point of the curve tells.
type Told = fn(&Lesson) -> Option<f64>;

impl LearningCurve {
    /// `None` where fewer than two points are known.
    pub fn of(record: &TrainingRecord) -> Option<Self> {
        let mut points: Vec<(usize, Lesson)> = Vec::new();
        let mut before = 0;
        for record in record.earlier.iter().chain([record]) {
            points.extend(
                record
                    .curve
                    .iter()
                    .map(|lesson| (before + lesson.step, *lesson)),
            );
            before += record.steps;
        }
        let told: [(&str, &str, Told); 3] = [
            ("loss of the steps", "loss", |lesson| lesson.loss),
            ("error on inputs not learnt from", "held", |lesson| {
                Some(lesson.held_out)
            }),
            ("of the averaged weights", "mean", |lesson| lesson.averaged),
        ];
        let all = points
            .iter()
            .flat_map(|(_, lesson)| told.map(|(_, _, of)| of(lesson)));
        let known = || {
            all.clone()
                .flatten()
                .filter(|error| *error > 0.0 && error.is_finite())
        };
        let most = known().fold(f64::NEG_INFINITY, f64::max);
        let least = known().fold(f64::INFINITY, f64::min).max(most * LOWEST);
        if points.len() < 2 || !most.is_finite() {
            return None;
        }
        let span = (most / least).ln().max(1e-9);
        let height = |error: f64| TOP + HEIGHT * (most / error.clamp(least, most)).ln() / span;
        let across = |step: usize| LEFT + WIDTH * step as f64 / before.max(1) as f64;
        let line = |of: Told| {
            let found = points.iter().filter_map(|(step, lesson)| {
                let error = of(lesson).filter(|error| error.is_finite())?;
                Some(format!("{:.1},{:.1}", across(*step), height(error)))
            });
            found.collect::<Vec<_>>().join(" ")
        };
        Some(LearningCurve {
            lines: told.map(|(what, class, of)| (what, class, line(of))).into(),
            marks: [most, (most * least).sqrt(), least]
                .map(|error| (format!("{error:.2e}"), height(error)))
                .into(),
            steps: before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson(step: usize, held_out: f64, loss: Option<f64>) -> Lesson {
        Lesson {
            step,
            held_out,
            loss,
            ..Default::default()
        }
    }

    #[test]
    fn errors_lie_on_a_logarithmic_scale() {
        let record = TrainingRecord {
            steps: 10,
            curve: vec![
                lesson(0, 1.0, None),
                lesson(5, 0.1, Some(0.1)),
                lesson(10, 0.01, Some(0.01)),
            ],
            ..Default::default()
        };
        let curve = LearningCurve::of(&record).unwrap();
        assert_eq!(curve.lines[1].2, "70.0,10.0 450.0,110.0 830.0,210.0");
        assert_eq!(curve.lines[0].2, "450.0,110.0 830.0,210.0");
        assert_eq!(curve.lines[2].2, "");
        assert_eq!(curve.marks[1], ("1.00e-1".to_owned(), 110.0));
        let twice = TrainingRecord {
            earlier: vec![record.clone()],
            ..record
        };
        assert_eq!(LearningCurve::of(&twice).map(|curve| curve.steps), Some(20));
        assert_eq!(LearningCurve::of(&TrainingRecord::default()), None);
    }
}
