//! What error curves tell of models other than the one that is made. Nothing is run for it.

use super::paths::Curves;
use super::{Pattern, Point, SensitiveGroup, Tradeoff};
use crate::allocate::{Path, Target, Width};
use crate::cost::Cost;
use crate::score::Curve;
use crate::workspace::Workspace;

/// Points that are foreseen on the way down.
const POINTS: usize = 8;
/// Groups named as those that the outputs depend on most.
const NAMED: usize = 5;
/// Costs nearer to each other than this share of the whole are the same.
const SAME: f64 = 1e-9;

/// The way down that the curves lead to.
#[derive(Debug)]
pub(super) struct Outlook {
    /// Cost and foreseen square of the drift of the whole model, and after each step.
    way: Vec<(Cost, f64)>,
    /// What is left after each step in the measure of the targets, of multiply-accumulates where there are none.
    left: Vec<f64>,
    targets: Vec<Target>,
    /// The cost of what was chosen.
    pub chosen: Cost,
    /// Whether it was chosen by measured drifts: then its point tells what the search went by.
    searched: bool,
}

impl Outlook {
    /// What a path leads to on the way to some targets.
    pub(super) fn of(path: &Path, targets: &[Target]) -> Self {
        Outlook::new(path.way().collect(), targets)
    }

    fn new(way: Vec<(Cost, f64)>, targets: &[Target]) -> Self {
        let whole = way.first().map(|(cost, _)| *cost).unwrap_or_default();
        let searched = targets.is_empty();
        let targets = match targets {
            [] => vec![Target::Macs(0.0)],
            targets => targets.to_vec(),
        };
        let mut outlook = Outlook {
            way,
            left: Vec::new(),
            targets,
            chosen: whole,
            searched,
        };
        let costs = outlook.way.iter();
        outlook.left = costs.map(|(cost, _)| outlook.measure(cost)).collect();
        outlook
    }

    /// What is left of the whole, from 1 down: the mean over the targets.
    fn measure(&self, cost: &Cost) -> f64 {
        let Some((whole, _)) = self.way.first() else {
            return 1.0;
        };
        let of = |target: &Target| target.of(cost, whole);
        self.targets.iter().map(of).sum::<f64>() / self.targets.len() as f64
    }

    /// The square of the drift that is foreseen where so much is left: between two steps, in proportion.
    fn foreseen(&self, left: f64) -> Option<f64> {
        let at = self.left.iter().position(|there| *there <= left + SAME)?;
        let (there, error) = (self.left[at], self.way[at].1);
        let Some(before) = at.checked_sub(1) else {
            return Some(error);
        };
        let step = self.left[before] - there;
        let share = ((left - there) / step).clamp(0.0, 1.0);
        Some(error + (self.way[before].1 - error) * share)
    }

    /// What foreseen drifts are to be multiplied by, so that they meet the measured point that is nearest to the choice; 1 where
    /// one of both is zero.
    fn factor(&self, measured: &[Point]) -> f64 {
        let chosen = self.measure(&self.chosen);
        let off = |point: &&Point| (self.measure(&point.cost) - chosen).abs();
        let nearest = measured.iter().min_by(|a, b| off(a).total_cmp(&off(b)));
        let factor = nearest.and_then(|point| {
            let foreseen = self.foreseen(self.measure(&point.cost))?;
            Some(point.drift / foreseen.sqrt())
        });
        factor
            .filter(|factor| factor.is_finite() && *factor > 0.0)
            .unwrap_or(1.0)
    }

    /// Steps at about equal distances of what is left, each another one: all that lead further down where they are few.
    fn spread(&self) -> Vec<usize> {
        let mut least = self.left.first().copied().unwrap_or_default();
        let mut lower = Vec::new();
        for (step, left) in self.left.iter().enumerate() {
            if *left < least - SAME {
                least = *left;
                lower.push(step);
            }
        }
        let whole = self.left.first().copied().unwrap_or_default();
        let mut chosen = Vec::new();
        let mut next = 0;
        for number in 1..=POINTS.min(lower.len()) {
            let wanted = whole + (least - whole) * number as f64 / POINTS as f64;
            // As many steps have to remain as points.
            let last = lower.len() - (POINTS.min(lower.len()) - number) - 1;
            let reaches = |at: &usize| self.left[lower[*at]] <= wanted + SAME;
            let at = (next..last).find(reaches).unwrap_or(last);
            chosen.push(lower[at]);
            next = at + 1;
        }
        chosen
    }
}

impl Point {
    /// A point whose model was made and run.
    pub(super) fn measured(cost: Cost, drift: f64) -> Self {
        Point {
            cost,
            drift,
            estimated: false,
        }
    }
}

impl Tradeoff {
    /// Puts the widest point first.
    pub(super) fn sort(&mut self) {
        let points = &mut self.points;
        points.sort_by(|a, b| b.cost.macs.total_cmp(&a.cost.macs));
    }

    /// Adds points that the curves lead to, and the least that they can. `result`: what the chosen model costs, and how far it
    /// moved inputs kept apart, where that was measured.
    pub(super) fn foresee(&mut self, outlook: &Outlook, result: (Cost, Option<f64>)) {
        if outlook.way.len() < 2 {
            return;
        }
        self.settle(outlook, result);
        let factor = outlook.factor(&self.points);
        for step in outlook.spread() {
            let (cost, error) = outlook.way[step];
            let drift = factor * error.max(0.0).sqrt();
            let near = |point: &Point| {
                let off = outlook.measure(&point.cost) - outlook.left[step];
                off.abs() <= SAME
            };
            if drift.is_finite() && !self.points.iter().any(near) {
                self.points.push(Point {
                    cost,
                    drift,
                    estimated: true,
                });
            }
        }
        self.least = outlook.way.last().map(|(cost, _)| *cost);
        self.sort();
    }

    /// Gives the chosen point what was found of the model in the end: it may have been trained, or have lost dead units. A point
    /// that a search went by stays.
    fn settle(&mut self, outlook: &Outlook, (cost, drift): (Cost, Option<f64>)) {
        let whole = outlook.way[0].0;
        let goes = cost.macs < whole.macs || cost.params < whole.params;
        let Some(drift) = drift.filter(|_| goes) else {
            return;
        };
        let tried = self.points.iter();
        let chosen = tried
            .clone()
            .rposition(|point| point.cost == outlook.chosen);
        match chosen {
            Some(_) if outlook.searched => {}
            Some(at) => self.points[at] = Point::measured(cost, drift),
            None => self.points.push(Point::measured(cost, drift)),
        }
    }
}

impl Curves {
    /// The groups that the outputs depend on most, by the drift with half of their units gone and all else whole.
    pub(super) fn sensitive(&self, prepared: &Workspace) -> Vec<SensitiveGroup> {
        let group = |place: usize| {
            let id = prepared
                .analysis
                .groups
                .get(self.matched[place].1)?
                .id
                .clone();
            let (curve, width) = (&self.curves[place], &self.widths[place]);
            let removed = half(curve, width)?;
            let drift = curve.error.get(removed)?.max(0.0).sqrt();
            Some(SensitiveGroup {
                pattern: Pattern::of_name(&id)?,
                id,
                units: curve.order.len(),
                removed,
                drift,
            })
        };
        let mut groups: Vec<SensitiveGroup> = (0..self.matched.len()).filter_map(group).collect();
        groups.retain(|group| group.drift.is_finite() && group.drift > 0.0);
        groups.sort_by(|a, b| b.drift.total_cmp(&a.drift));
        groups.truncate(NAMED);
        groups
    }
}

/// How many units are half of a group's, where such a width is allowed; else all of them, where they may go.
fn half(curve: &Curve, width: &Width) -> Option<usize> {
    let units = curve.order.len();
    let removed = units / 2;
    match width.align as usize >= units {
        true => width.whole.then_some(units),
        false => Some(removed).filter(|removed| *removed > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(macs: f64) -> Cost {
        Cost {
            macs,
            params: macs / 2.0,
            bytes: macs * 4.0,
            time: 0.0,
        }
    }

    /// A way of so many equal steps down to a fifth of the cost, whose drift grows with what is gone.
    fn outlook(steps: usize) -> Outlook {
        let step = |number: usize| {
            let gone = number as f64 / steps as f64;
            (cost(1000.0 * (1.0 - 0.8 * gone)), (0.5 * gone).powi(2))
        };
        Outlook::new((0..=steps).map(step).collect(), &[Target::Macs(0.5)])
    }

    #[test]
    fn estimates_go_down_to_the_least_in_even_steps() {
        for steps in [8, 9, 40, 1000] {
            let mut tradeoff = Tradeoff::default();
            tradeoff.foresee(&outlook(steps), (cost(1000.0), None));
            let points = &tradeoff.points;
            assert_eq!(points.len(), POINTS);
            assert!(points.iter().all(|point| point.estimated));
            let falls = |pair: &[Point]| {
                pair[0].cost.macs > pair[1].cost.macs && pair[0].drift < pair[1].drift
            };
            assert!(points.windows(2).all(falls), "{points:?}");
            assert_eq!(tradeoff.least, Some(points[POINTS - 1].cost));
            assert!((points[POINTS - 1].cost.macs - 200.0).abs() < 1e-9);
            assert!(points[0].cost.macs >= 780.0, "{points:?}");
        }
    }

    #[test]
    fn uneven_ways_give_as_many_points_as_they_have_steps() {
        let mut tradeoff = Tradeoff::default();
        tradeoff.foresee(&outlook(3), (cost(1000.0), None));
        assert_eq!(tradeoff.points.len(), 3);
        // One step takes most; some save nothing.
        let macs = [
            1000.0, 300.0, 300.0, 290.0, 280.0, 270.0, 260.0, 250.0, 240.0, 230.0, 220.0, 220.0,
        ];
        let way = macs.iter().enumerate();
        let way = way.map(|(at, macs)| (cost(*macs), at as f64)).collect();
        let mut tradeoff = Tradeoff::default();
        tradeoff.foresee(&Outlook::new(way, &[]), (cost(1000.0), None));
        let found: Vec<f64> = tradeoff.points.iter().map(|at| at.cost.macs).collect();
        assert_eq!(found.len(), POINTS);
        assert_eq!((found[0], found[7]), (300.0, 220.0));
        // Nothing can go.
        let mut tradeoff = Tradeoff::default();
        tradeoff.foresee(&outlook(0), (cost(1000.0), None));
        assert_eq!(tradeoff, Tradeoff::default());
    }

    #[test]
    fn estimates_meet_what_was_measured_of_the_choice() {
        let mut found = Tradeoff::default();
        let mut outlook = outlook(100);
        outlook.chosen = cost(600.0);
        // The search measured two points; the result is told of the chosen one.
        found.points = vec![
            Point::measured(cost(900.0), 0.3),
            Point::measured(cost(600.0), 0.4),
        ];
        found.foresee(&outlook, (cost(592.0), Some(0.51)));
        let measured: Vec<&Point> = found.points.iter().filter(|at| !at.estimated).collect();
        assert_eq!((measured.len(), measured[1].drift), (2, 0.51));
        assert_eq!(measured[1].cost, cost(592.0));
        assert_eq!(found.points.len(), 2 + POINTS);
        // What a search went by stays.
        let mut searched = Tradeoff {
            points: vec![Point::measured(cost(600.0), 0.4)],
            ..Tradeoff::default()
        };
        let searching = Outlook {
            chosen: cost(600.0),
            searched: true,
            ..self::outlook(100)
        };
        searched.foresee(&searching, (cost(600.0), Some(0.51)));
        assert!(
            searched
                .points
                .iter()
                .any(|at| !at.estimated && at.drift == 0.4)
        );
        // The curves foresee 0.255 there, half of what it is.
        let last = found.points.last().unwrap();
        assert!((last.drift - 1.0).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn a_choice_between_two_steps_is_foreseen_between_their_errors() {
        let way = vec![(cost(100.0), 0.0), (cost(80.0), 1.0), (cost(40.0), 5.0)];
        let outlook = Outlook::new(way, &[Target::Macs(0.7), Target::Bytes(0.5)]);
        let found = [1.0, 0.9, 0.8, 0.5, 0.4, 0.1].map(|left| outlook.foreseen(left));
        let near = |(found, wanted): (&Option<f64>, &f64)| {
            found.is_some_and(|found| (found - wanted).abs() < 1e-9)
        };
        assert!(
            found.iter().zip(&[0.0, 0.5, 1.0, 4.0, 5.0]).all(near),
            "{found:?}"
        );
        assert_eq!(found[5], None);
    }

    #[test]
    fn estimates_without_a_measure_are_what_the_curves_say() {
        for measured in [vec![], vec![Point::measured(cost(600.0), 0.0)]] {
            let mut found = Tradeoff {
                points: measured,
                ..Default::default()
            };
            let mut outlook = outlook(100);
            outlook.chosen = cost(600.0);
            found.foresee(&outlook, (cost(600.0), None));
            let last = found.points.last().unwrap();
            assert!((last.drift - 0.5).abs() < 1e-9, "{last:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_no_point() {
        let mut outlook = outlook(40);
        outlook.way[40].1 = f64::INFINITY;
        outlook.way[39].1 = f64::NAN;
        let mut found = Tradeoff::default();
        found.foresee(&outlook, (cost(1000.0), None));
        assert_eq!(found.points.len(), POINTS - 1);
        assert!(found.points.iter().all(|point| point.drift.is_finite()));
    }

    #[test]
    fn half_of_a_group_goes_unless_it_goes_as_a_whole() {
        let curve = Curve::from_losses(&[1.0; 9]);
        let width = |align, whole| Width {
            align,
            least: 1,
            whole,
            first: 1,
        };
        assert_eq!(half(&curve, &width(2, false)), Some(4));
        assert_eq!(half(&curve, &width(9, true)), Some(9));
        assert_eq!(half(&curve, &width(9, false)), None);
        let single = Curve::from_losses(&[1.0]);
        assert_eq!(half(&single, &width(1, false)), None);
    }
}
