use rand::Rng;

use super::*;
use crate::rng::rng;

fn numbers(count: usize, name: &str) -> Vec<f64> {
    let mut random = rng(7, name);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

const RELU: Option<Clamp> = Some(Clamp {
    low: 0.0,
    high: f64::INFINITY,
});
const ONES: [f64; 4] = [1.0; 4];
const SCALES: [f64; 4] = [1.5, -0.5, 1.0, 2.0];
const OFFSETS: [f64; 4] = [0.1, 0.0, -0.2, 0.3];
const ZEROS: [f64; 4] = [0.0; 4];

/// Two groups of two units that read three numbers; one channel that reads all four units at two places, or two groups
/// that read two units each.
fn pair(groups: usize, function: Option<Clamp>) -> PointPair<'static> {
    let (scale, offset) = (&SCALES[..], &OFFSETS[..]);
    PointPair {
        first: Half {
            groups: 2,
            rows: 2,
            columns: 3,
            biased: true,
            scale,
            offset,
            function: RELU,
        },
        second: Half {
            groups,
            rows: 2,
            columns: 8 / groups,
            biased: true,
            scale: &ONES,
            offset: &ZEROS,
            function,
        },
    }
}

/// Rows that read two neighbouring positions, the last of which lies outside.
fn patches(pair: &PointPair, positions: usize, name: &str) -> Patches {
    let groups = pair.second.groups;
    let mut places = Vec::new();
    for group in 0..groups {
        for row in 0..positions {
            for place in [row, row + 1] {
                let units = (4 / groups * group)..(4 / groups * (group + 1));
                places.extend(units.map(|unit| {
                    if place < positions {
                        (place * 4 + unit) as u32
                    } else {
                        NOWHERE
                    }
                }));
            }
        }
    }
    let single = |count: usize, part: &str| {
        numbers(count, &format!("{name} {part}"))
            .iter()
            .map(|n| *n as f32)
            .collect::<Vec<f32>>()
    };
    let sums = groups * positions * 2;
    let (inputs, aims, added) = (
        single(2 * positions * 3, "inputs"),
        single(sums, "aims"),
        single(sums, "added"),
    );
    Patches {
        positions,
        rows: positions,
        inputs,
        places,
        aims,
        added,
        first: Rows::default(),
    }
}

fn parameters(pair: &PointPair, name: &str) -> Parameters {
    let count =
        pair.first.weights() + pair.first.units() + pair.second.weights() + pair.second.units();
    numbers(count, name)
}

#[test]
fn pulls_are_collected_where_parameters_push() {
    for (groups, function) in [(1, None), (2, None), (1, RELU), (2, RELU)] {
        let pair = pair(groups, function);
        let part = patches(&pair, 6, "part");
        let (now, direction) = (parameters(&pair, "now"), parameters(&pair, "direction"));
        let point = pair.point(&part, &now);
        let near = |step: f64| {
            let there: Vec<f64> = now
                .iter()
                .zip(&direction)
                .map(|(at, along)| at + step * along)
                .collect();
            pair.point(&part, &there).errors
        };
        const STEP: f64 = 1e-3;
        let (after, before) = (near(STEP), near(-STEP));
        let pushed: Vec<f64> = after
            .iter()
            .zip(&before)
            .map(|(a, b)| f64::from(a - b) / (2.0 * STEP))
            .collect();
        let pulls: Vec<f32> = point
            .follows
            .iter()
            .zip(numbers(pushed.len(), "pulls"))
            .map(|(follows, pull)| follows * pull as f32)
            .collect();
        // ⟨Jᵀp, d⟩ = ⟨p, Jd⟩, where kinks are not near.
        let collected = dot(&pair.collect(&part, &point, &pulls, &now), &direction);
        let expected: f64 = pulls
            .iter()
            .zip(&point.follows)
            .zip(&pushed)
            .map(|((pull, follows), pushed)| {
                if *follows == 0.0 {
                    0.0
                } else {
                    f64::from(pull / follows) * pushed
                }
            })
            .sum();
        assert!(
            (collected - expected).abs() < 1e-2 * expected.abs().max(1.0),
            "{groups} groups: {collected}, {expected}"
        );
        let curved = dot(&pair.curved(&part, &point, &direction, &now), &direction);
        let squares: f64 = pushed.iter().map(|pushed| pushed * pushed).sum();
        assert!(
            (curved - squares).abs() < 2e-2 * squares,
            "{groups} groups: {curved}, {squares}"
        );
    }
}

#[test]
fn what_a_second_layer_alone_can_not_give_two_together_do() {
    for groups in [1, 2] {
        let pair = pair(groups, None);
        let truth = parameters(&pair, "truth");
        let with_aims = |name: &str| {
            let mut part = patches(&pair, 300, name);
            let errors = pair.point(&part, &truth).errors;
            for row in 0..part.rows {
                for unit in 0..pair.second.units() {
                    let at = ((unit / 2) * part.rows + row) * 2 + unit % 2;
                    part.aims[at] += errors[row * pair.second.units() + unit];
                }
            }
            part
        };
        let (fit, held) = ([with_aims("fit"), with_aims("more")], [with_aims("held")]);
        assert!(pair.error(&held, &truth) < 1e-9);
        let start: Vec<f64> = truth
            .iter()
            .zip(parameters(&pair, "off"))
            .map(|(at, off)| at + 0.2 * off)
            .collect();
        let before = pair.error(&held, &start);
        let after = pair.error(&held, &pair.refine(&fit, &held, &start, false));
        assert!(
            after < 0.05 * before,
            "{groups} groups: {before} to {after}"
        );
    }
}
