//! New weights for what the rows are of, kept only where the held-out rows say so.

use super::aim::Clamp;
use super::joint::PointPair;
use super::patches::Patches;
use super::problem::Problem;
use super::request::{Fitting, Repair};
use super::rows::Layer;
use super::sample::Sample;
use super::solve::Method;
use super::support::Selector;
use super::system::System;
use crate::model::Model;

/// Matrices of one size each: how many, and their rows and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct MendShape {
    pub groups: usize,
    pub rows: usize,
    pub columns: usize,
}

/// Matrices that rows can be fitted by, and where they stand in the model.
pub(super) trait GramProduct {
    fn shape(&self) -> MendShape;
    /// Matrices, group by group, and the biases, if there are any.
    fn read(&self, model: &Model) -> Option<(Vec<f64>, Option<Vec<f64>>)>;
    /// Puts them in (no biases where there are none). `None`: its constants are shared, or hold no real numbers.
    fn write(&self, model: &mut Model, matrix: &[f64], bias: &[f64]) -> Option<()>;
    /// By channel: what a sum is multiplied by, and what is added then, before it is held against the aim.
    fn scale(&self) -> &[f64];
    fn offset(&self) -> &[f64];
    /// The function that follows.
    fn function(&self) -> Option<Clamp>;
    /// What reports call it.
    fn name(&self, model: &Model) -> String;
}

impl GramProduct for Layer {
    fn shape(&self) -> MendShape {
        MendShape {
            groups: self.pruned.groups,
            rows: self.pruned.rows,
            columns: self.pruned.columns,
        }
    }

    fn read(&self, model: &Model) -> Option<(Vec<f64>, Option<Vec<f64>>)> {
        Some((
            self.pruned.matrix(model)?,
            self.bias.as_ref().and_then(|bias| bias.read(model)),
        ))
    }

    fn write(&self, model: &mut Model, matrix: &[f64], bias: &[f64]) -> Option<()> {
        self.pruned.set_matrix(model, matrix)?;
        match &self.bias {
            Some(place) => place.write(model, bias),
            None => Some(()),
        }
    }

    fn scale(&self) -> &[f64] {
        &self.aim.scale
    }

    fn offset(&self) -> &[f64] {
        &self.aim.offset
    }

    fn function(&self) -> Option<Clamp> {
        Layer::function(self)
    }

    fn name(&self, model: &Model) -> String {
        self.pruned
            .output
            .map(|output| model.index().value(output).name.clone())
            .unwrap_or_default()
    }
}

/// Fits a product anew. `None`: its constants can not be read, or not be written.
pub(super) fn mend(
    pruned: &mut Model,
    product: &dyn GramProduct,
    fit: &Sample,
    held: &Sample,
    fitting: &Fitting,
) -> Option<Repair> {
    let MendShape {
        groups,
        rows: channels,
        columns,
    } = product.shape();
    let (matrix, stands) = product.read(pruned)?;
    let bias = stands
        .clone()
        .unwrap_or_else(|| vec![0.0; groups * channels]);
    let mut problems = problems(product, fit, held, stands.is_some())?;
    let name = product.name(pruned);
    let selected = fitting
        .selector
        .and_then(|selector| select(selector, &name, &mut problems, &matrix));
    let (matrix, mut systems) = selected.unwrap_or((matrix, Vec::new()));
    let error = |matrix: &[f64], bias: &[f64]| total_error(&problems, matrix, bias);
    // Where they can not be written nothing is to be tried.
    product.write(pruned, &matrix, &bias)?;
    let before = error(&matrix, &bias);
    let mut after = before;
    // Quantized weights are rounded and clipped by the scales that stand: what counts is what the model holds in the end. A
    // factor for each channel may fit where weights of any kind do not.
    let methods = if fitting.method == Method::LeastSquares {
        vec![Method::LeastSquares, Method::Statistics]
    } else {
        vec![fitting.method]
    };
    for method in methods {
        let (new, new_bias) = refit(&problems, &mut systems, (&matrix, &bias), method);
        product.write(pruned, &new, &new_bias)?;
        let (written, written_bias) = product.read(pruned)?;
        after = error(&written, &written_bias.unwrap_or_else(|| bias.clone()));
        if after < before {
            break;
        }
        product.write(pruned, &matrix, &bias)?;
        after = before;
    }
    tracing::debug!(layer = name, before, after, columns, "refitted");
    Some(Repair {
        layer: name,
        before,
        after,
    })
}

/// The error of matrices and biases, group by group, on the held-out rows.
fn total_error(problems: &[Problem], matrix: &[f64], bias: &[f64]) -> f64 {
    problems
        .iter()
        .enumerate()
        .map(|(group, problem)| {
            let (weight, bias) = of_group(problem, group, (matrix, bias));
            problem.error(weight, bias)
        })
        .sum()
}

/// New matrices and biases, group by group. Normal equations that are at hand are used up.
fn refit(
    problems: &[Problem],
    systems: &mut [Option<System>],
    stands: (&[f64], &[f64]),
    method: Method,
) -> (Vec<f64>, Vec<f64>) {
    let (mut new, mut new_bias) = (Vec::new(), Vec::new());
    for (group, problem) in problems.iter().enumerate() {
        let (weight, bias) = of_group(problem, group, stands);
        let found = match systems.get_mut(group).and_then(Option::take) {
            Some(system) => problem.solve_in(Some(system), weight, bias, method),
            None => problem.solve(weight, bias, method),
        };
        new.extend(found.weight);
        new_bias.extend(found.bias);
    }
    (new, new_bias)
}

/// The matrix and the biases of one group.
fn of_group<'a>(
    problem: &Problem,
    group: usize,
    (matrix, bias): (&'a [f64], &'a [f64]),
) -> (&'a [f64], &'a [f64]) {
    let (channels, size) = (problem.channels, problem.channels * problem.columns);
    (
        &matrix[group * size..][..size],
        &bias[group * channels..][..channels],
    )
}

/// What is to be solved for each group. `None`: rows of some group are missing.
fn problems<'a>(
    product: &'a dyn GramProduct,
    fit: &'a Sample,
    held: &'a Sample,
    biased: bool,
) -> Option<Vec<Problem<'a>>> {
    let MendShape {
        groups,
        rows: channels,
        columns,
    } = product.shape();
    let problem = |group: usize| {
        let of = group * channels..(group + 1) * channels;
        Some(Problem {
            fit: fit.0.get(group)?,
            held: held.0.get(group)?,
            columns,
            channels,
            scale: product.scale().get(of.clone())?,
            offset: product.offset().get(of)?,
            function: product.function(),
            biased,
            support: None,
        })
    };
    (0..groups).map(problem).collect()
}

/// Lets a selector choose which weights stay. Gives the matrices without the others, and the normal equations; `None`: all
/// stay.
fn select(
    selector: &dyn Selector,
    name: &str,
    problems: &mut [Problem],
    matrix: &[f64],
) -> Option<(Vec<f64>, Vec<Option<System>>)> {
    let size = matrix.len() / problems.len().max(1);
    let mut systems = Vec::new();
    let mut candidates = Vec::new();
    for (problem, weight) in problems.iter().zip(matrix.chunks(size.max(1))) {
        let system = problem.system()?;
        candidates.push(problem.candidate(&system, weight)?);
        systems.push(Some(system));
    }
    let stays = selector
        .select(name, &candidates)
        .filter(|stays| stays.len() == matrix.len())?;
    for (problem, stays) in problems.iter_mut().zip(stays.chunks(size.max(1))) {
        problem.support = Some(stays.to_vec());
    }
    let kept = matrix
        .iter()
        .zip(&stays)
        .map(|(weight, stays)| if *stays { *weight } else { 0.0 })
        .collect();
    Some((kept, systems))
}

/// Mends two layers one after the other, then both at once.
pub(super) fn mend_both(
    pruned: &mut Model,
    (first, second): (&Layer, &Layer),
    fit: &[Patches],
    held: &[Patches],
    fitting: &Fitting,
) -> Vec<Repair> {
    let mut repairs = Vec::new();
    if first.touched {
        let (fit, held) = (
            Patches::of_first(fit, first),
            Patches::of_first(held, first),
        );
        repairs.extend(mend(pruned, first, &fit, &held, fitting));
    }
    repairs.extend(mend_second(pruned, (first, second), fit, held, fitting));
    repairs
}

/// Mends the second of two layers, then both at once.
fn mend_second(
    pruned: &mut Model,
    (first, second): (&Layer, &Layer),
    fit: &[Patches],
    held: &[Patches],
    fitting: &Fitting,
) -> Option<Repair> {
    let pair = PointPair::new(first, second);
    let matrices = |pruned: &Model, layer: &Layer| -> Option<(Vec<f64>, Vec<f64>)> {
        let (matrix, bias) = layer.read(pruned)?;
        Some((matrix, bias.unwrap_or_else(|| vec![0.0; layer.units()])))
    };
    let parameters = |pruned: &Model| {
        let (first, second) = (matrices(pruned, first)?, matrices(pruned, second)?);
        Some(pair.parameters((&first.0, &first.1), (&second.0, &second.1)))
    };
    let (weight, bias) = matrices(pruned, first)?;
    let mut repair = mend(
        pruned,
        second,
        &pair.rows(fit, &weight, &bias),
        &pair.rows(held, &weight, &bias),
        fitting,
    )?;
    let start = parameters(pruned)?;
    let write = |pruned: &mut Model, all: &[f64]| {
        let [weight, bias, second_weight, second_bias] = pair.split(all);
        first.write(pruned, weight, bias)?;
        second.write(pruned, second_weight, second_bias)
    };
    // Where they can not be written nothing is to be tried.
    if write(pruned, &start).is_none() {
        return Some(repair);
    }
    let before = pair.error(held, &start);
    write(pruned, &pair.refine(fit, held, &start, fitting.warm))?;
    // Quantized weights were rounded.
    let after = pair.error(held, &parameters(pruned)?);
    if after < before {
        repair.after = after;
    } else {
        write(pruned, &start)?;
    }
    tracing::debug!(
        layer = repair.layer,
        before,
        after,
        "refitted with the layer before it"
    );
    Some(repair)
}
