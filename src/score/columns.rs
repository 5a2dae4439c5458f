//! The columns of readers that the units of a group feed, and what goes through them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Calibrated;
use crate::analysis::{ClassId, Group};
use crate::calibrate::Moments;
use crate::linear::units_of_columns;

/// The products that read a group's units (places among the views), each with the columns of every unit.
pub(super) fn columns_by_unit(
    calibrated: &Calibrated,
    group: &Group,
) -> Vec<(usize, Vec<Vec<usize>>)> {
    let unit_of: BTreeMap<(ClassId, u32), usize> = group
        .units
        .iter()
        .enumerate()
        .flat_map(|(at, unit)| unit.iter().map(move |slice| (*slice, at)))
        .collect();
    let read = |at: usize| {
        let mut columns = vec![Vec::new(); group.units.len()];
        for (column, slice) in units_of_columns(calibrated.evidence.analysis, &calibrated.views[at])
            .into_iter()
            .enumerate()
        {
            if let Some(unit) = slice.and_then(|slice| unit_of.get(&slice)) {
                columns[*unit].push(column);
            }
        }
        columns
            .iter()
            .any(|columns| !columns.is_empty())
            .then_some((at, columns))
    };
    (0..calibrated.views.len())
        .into_par_iter()
        .filter_map(read)
        .collect()
}

/// For each unit of a group the energy that goes through its columns, `input(moments, group, column) · ‖W‖²`, as a share of
/// what the reader gets from all of its columns; shares of all readers are added. `None`: no reader with statistics.
pub(super) fn energies(
    calibrated: &Calibrated,
    group: &Group,
    input: impl Fn(&Moments, usize, usize) -> f64 + Sync,
) -> Option<Vec<f64>> {
    let model = calibrated.evidence.model;
    let statistics = calibrated.statistics?;
    let of_reader = |(at, columns): (usize, Vec<Vec<usize>>)| -> Option<Vec<f64>> {
        let view = &calibrated.views[at];
        let moments = statistics.of.get(&view.key(model))?;
        let matrix = view.matrix(model)?;
        let mut energy = vec![0.0; view.columns];
        for number in 0..view.groups {
            let matrix =
                &matrix[number * view.rows * view.columns..(number + 1) * view.rows * view.columns];
            for (column, energy) in energy.iter_mut().enumerate() {
                let weight: f64 = matrix
                    .iter()
                    .skip(column)
                    .step_by(view.columns.max(1))
                    .map(|weight| weight * weight)
                    .sum();
                *energy += input(moments, number, column).max(0.0) * weight;
            }
        }
        let total: f64 = energy.iter().sum();
        let share = |columns: &Vec<usize>| {
            columns.iter().map(|column| energy[*column]).sum::<f64>() / total
        };
        (total > 0.0 && total.is_finite()).then(|| columns.iter().map(share).collect())
    };
    let shares: Vec<Vec<f64>> = columns_by_unit(calibrated, group)
        .into_par_iter()
        .filter_map(of_reader)
        .collect();
    let add = |mut sum: Vec<f64>, share: Vec<f64>| {
        sum.iter_mut()
            .zip(share)
            .for_each(|(sum, share)| *sum += share);
        sum
    };
    shares.into_iter().reduce(add)
}
