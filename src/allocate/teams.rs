//! Groups that keep as many units each, for runtimes that have one number for all layers of a kind.

use crate::analysis::{Analysis, Group};
use crate::score::Curve;

/// So many teams of one group each, as places in a list of groups.
pub(super) fn alone(groups: usize) -> Vec<Vec<usize>> {
    (0..groups).map(|place| vec![place]).collect()
}

/// The groups (numbers into the analysis) of one kind and size, as places in their list. Those for which `width` is `None`, or
/// says something else than for others, and those that have a class in common, are not in one team.
pub(super) fn teams<T: PartialEq>(
    analysis: &Analysis,
    groups: &[usize],
    width: &dyn Fn(usize) -> Option<T>,
) -> Vec<Vec<usize>> {
    let mut teams: Vec<Vec<usize>> = Vec::new();
    let group = |place: usize| -> &Group { &analysis.groups[groups[place]] };
    for place in 0..groups.len() {
        let own = group(place);
        let own_width = width(place).filter(|_| own.units.len() > 1);
        let fits = |other: &usize| {
            let another = group(*other);
            width(*other) == own_width
                && another.kind == own.kind
                && another.units.len() == own.units.len()
                && !another
                    .classes
                    .iter()
                    .any(|class| own.classes.contains(class))
        };
        let team = teams
            .iter_mut()
            .find(|team| own_width.is_some() && team.iter().all(fits));
        match team {
            Some(team) => team.push(place),
            None => teams.push(vec![place]),
        }
    }
    teams
}

/// The slopes of the curves of some groups, added up.
pub(super) fn slopes(curves: &[Curve], team: &[usize]) -> Vec<f64> {
    let mut all = team.iter().map(|place| curves[*place].slopes());
    let first = all.next().unwrap_or_default();
    all.fold(first, |sum, other| {
        sum.iter().zip(&other).map(|(a, b)| a + b).collect()
    })
}
