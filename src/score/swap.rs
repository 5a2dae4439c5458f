//! Swaps: a unit that went comes back for one that stayed, where the readers then lose less.
//!
//! The greedy order never takes a removal back. From the set that it leaves, a unit that went and one that stays change
//! places as long as that lessens the joint error, as in the local search of OSSCAR (Meng et al., 2024).

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::obs::Reader;

/// Floating-point operations spent on one group, about.
const WORK: f64 = 2e10;
/// Swaps at most, and of units that come back the most promising tried for each.
const SWAPS: usize = 16;
const TRIED: usize = 3;
/// By what share a swap must lessen the error to be one.
const LEAST: f64 = 1e-3;

/// Another set of as many units to remove, with a smaller error for all readers together; `None` where none was found.
/// `gone` are the units that go, of so many.
pub fn improve(readers: &[Reader], gone: &[u32], units: usize) -> Option<Vec<u32>> {
    let mut gone = gone.to_vec();
    let once: f64 = readers
        .iter()
        .map(|reader| reader.work(columns(reader, &gone).len()))
        .sum();
    let mut left = if once > 0.0 {
        ((WORK / once) as usize).min(SWAPS * TRIED)
    } else {
        0
    };
    let mut swapped = false;
    'swaps: for _ in 0..SWAPS {
        if left == 0 {
            break;
        }
        let (error, gains) = gains(readers, &gone)?;
        let mut order: Vec<usize> = (0..gone.len()).collect();
        order.sort_by(|a, b| gains[*b].total_cmp(&gains[*a]));
        for back in order.into_iter().take(TRIED) {
            if left == 0 {
                break 'swaps;
            }
            left -= 1;
            if let Some(better) = swapped_with(readers, &gone, back, units, error) {
                gone = better;
                swapped = true;
                continue 'swaps;
            }
        }
        break;
    }
    gone.sort_unstable();
    swapped.then_some(gone)
}

/// The columns of some units.
fn columns(reader: &Reader, units: &[u32]) -> Vec<usize> {
    units
        .iter()
        .flat_map(|unit| reader.columns[*unit as usize].iter().copied())
        .collect()
}

/// The set in which the unit at a place comes back and the best of those that stayed goes; `None` where that does not lessen
/// the error enough.
fn swapped_with(
    readers: &[Reader],
    gone: &[u32],
    back: usize,
    units: usize,
    error: f64,
) -> Option<Vec<u32>> {
    let mut others = gone.to_vec();
    let back = others.remove(back);
    let without: Vec<Reader> = readers
        .par_iter()
        .map(|reader| {
            let mut reader = reader.clone();
            reader.remove(&columns(&reader, &others));
            reader
        })
        .collect();
    let cost = |unit: u32| -> f64 {
        without
            .iter()
            .map(|reader| reader.cost(&reader.columns[unit as usize]))
            .sum()
    };
    let stays: Vec<u32> = (0..units as u32)
        .filter(|unit| !gone.contains(unit))
        .collect();
    let costs: Vec<f64> = stays.par_iter().map(|unit| cost(*unit)).collect();
    let (at, best) = costs.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
    if *best < cost(back) - LEAST * error {
        others.push(stays[at]);
        Some(others)
    } else {
        None
    }
}

/// The error of a set of units gone, and by how much it falls as each of them comes back: the multipliers of what holds
/// its columns at nothing tell. `None`: a covariance is singular.
fn gains(readers: &[Reader], gone: &[u32]) -> Option<(f64, Vec<f64>)> {
    let found: Vec<(f64, Vec<f64>)> = readers
        .par_iter()
        .map(|reader| gains_of(reader, gone))
        .collect::<Option<_>>()?;
    let mut sum = (0.0, vec![0.0; gone.len()]);
    for (error, gains) in found {
        sum.0 += error;
        sum.1
            .iter_mut()
            .zip(gains)
            .for_each(|(sum, gain)| *sum += gain);
    }
    Some(sum)
}

/// The same of one reader.
fn gains_of(reader: &Reader, gone: &[u32]) -> Option<(f64, Vec<f64>)> {
    let all = columns(reader, gone);
    if all.is_empty() {
        return Some((0.0, vec![0.0; gone.len()]));
    }
    match reader.parts(&all) {
        Ok((part, block)) => joint_gains(reader, gone, &part, &block),
        Err(costs) => {
            let mut costs = costs.iter();
            let of_unit = |unit: &u32| {
                costs
                    .by_ref()
                    .take(reader.columns[*unit as usize].len())
                    .sum::<f64>()
            };
            let gains: Vec<f64> = gone.iter().map(of_unit).collect();
            Some((gains.iter().sum(), gains))
        }
    }
}

/// The same where columns go together, from the weights of those that are gone and their block of the inverse covariance.
fn joint_gains(
    reader: &Reader,
    gone: &[u32],
    part: &Mat<f64>,
    block: &Mat<f64>,
) -> Option<(f64, Vec<f64>)> {
    let all = block.nrows();
    let inverse = block
        .llt(Side::Lower)
        .ok()?
        .solve(Mat::<f64>::identity(all, all));
    let multipliers = part * &inverse;
    let error: f64 = (0..part.nrows())
        .map(|row| {
            (0..all)
                .map(|at| multipliers[(row, at)] * part[(row, at)])
                .sum::<f64>()
        })
        .sum();
    let mut start = 0;
    let mut gains = Vec::with_capacity(gone.len());
    for unit in gone {
        let width = reader.columns[*unit as usize].len();
        let own = Mat::from_fn(width, width, |a, b| inverse[(start + a, start + b)]);
        let of_unit = Mat::from_fn(part.nrows(), width, |row, at| {
            multipliers[(row, start + at)]
        });
        let energy = of_unit.transpose() * &of_unit;
        let gain = match width {
            0 => 0.0,
            _ => own
                .llt(Side::Lower)
                .ok()?
                .solve(&energy)
                .diagonal()
                .column_vector()
                .iter()
                .sum(),
        };
        gains.push(0.5 * gain / reader.variance());
        start += width;
    }
    Some((0.5 * error / reader.variance(), gains))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        let width = 8;
        let mix = Mat::from_fn(width, width, |a, b| {
            (((a * 5 + b * 3) % 7) as f64 - 3.0) / 3.0 + if a == b { 0.7 } else { 0.0 }
        });
        let covariance = &mix * mix.transpose();
        let weight: Vec<f64> = (0..4 * width)
            .map(|at| ((at * 11) % 9) as f64 / 4.0 - 1.0)
            .collect();
        Reader::new(
            0,
            &weight,
            crate::calibrate::Covariance::Full(covariance),
            (0..4).map(|unit| vec![2 * unit, 2 * unit + 1]).collect(),
        )
        .unwrap()
    }

    fn error(reader: &Reader, gone: &[u32]) -> f64 {
        reader.cost(
            &gone
                .iter()
                .flat_map(|unit| reader.columns[*unit as usize].clone())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_gain_of_a_unit_is_what_the_error_falls_by() {
        let reader = reader();
        let (whole, gains) = gains(std::slice::from_ref(&reader), &[0, 2, 3]).unwrap();
        assert!((whole - error(&reader, &[0, 2, 3])).abs() < 1e-9);
        for (gain, left) in gains.iter().zip([[2, 3], [0, 3], [0, 2]]) {
            assert!((gain - (whole - error(&reader, &left))).abs() < 1e-9 * whole.max(1.0));
        }
    }

    #[test]
    fn from_the_worst_pair_swaps_lead_to_one_that_no_swap_betters() {
        let reader = reader();
        let pairs: Vec<[u32; 2]> = (0..4)
            .flat_map(|a| (a + 1..4).map(move |b| [a, b]))
            .collect();
        let worst = pairs
            .iter()
            .max_by(|a, b| error(&reader, *a).total_cmp(&error(&reader, *b)))
            .unwrap();
        let found = improve(std::slice::from_ref(&reader), worst, 4).unwrap();
        assert!(error(&reader, &found) < error(&reader, worst));
        let neighbours = pairs
            .iter()
            .filter(|pair| pair.iter().filter(|unit| found.contains(unit)).count() == 1);
        neighbours.for_each(|pair| {
            assert!(error(&reader, pair) >= error(&reader, &found) * (1.0 - 2.0 * LEAST))
        });
        assert_eq!(improve(std::slice::from_ref(&reader), &found, 4), None);
    }
}
