//! Fitting two layers at once: what the function between them hides moves with the first one's weights.
//!
//! Gauss–Newton on ‖f₂(W₂·f₁(W₁x + b₁) + b₂) − aim‖² over both layers, each step solved by conjugate gradients (Hestenes and
//! Stiefel 1952) and made easy by the two layers' own second moments, as in Martens and Grosse 2015. How much of a step is taken
//! the held-out rows say.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

use super::aim::Clamp;
use super::patches::{NOWHERE, Patches};
use super::rows::{Layer, Rows};

/// Steps at most.
const STEPS: usize = 3;
/// Products with the second derivatives in each.
const PRODUCTS: usize = 8;
/// Parts of a step that are tried.
const LENGTHS: [f64; 4] = [1.0, 0.5, 0.25, 0.1];
/// How much of the second moments is added to the second derivatives, and of the mean diagonal to the second moments.
const DAMPING: f64 = 1e-2;
const RIDGE: f64 = 1e-4;

/// Weights and biases of both layers, one after the other.
pub(super) type Parameters = Vec<f64>;

/// Matrices of one layer.
struct Half<'a> {
    groups: usize,
    rows: usize,
    columns: usize,
    biased: bool,
    scale: &'a [f64],
    offset: &'a [f64],
    function: Option<Clamp>,
}

/// Two layers.
pub(super) struct Pair<'a> {
    first: Half<'a>,
    second: Half<'a>,
}

/// What a part of the rows gives at some parameters.
struct Point {
    /// positions × units of the first layer: its output after the function, and how that follows its weights.
    hidden: Vec<f32>,
    slopes: Vec<f32>,
    /// The second layer's inputs: groups × rows × columns.
    inputs: Vec<f32>,
    /// rows × channels: how far off the sum is where that matters, and how it follows the second layer's weights.
    errors: Vec<f32>,
    follows: Vec<f32>,
}

impl<'a> Half<'a> {
    fn new(layer: &'a Layer, function: Option<Clamp>) -> Self {
        let view = &layer.pruned;
        Half {
            groups: view.groups,
            rows: view.rows,
            columns: view.columns,
            biased: layer.bias.is_some(),
            scale: &layer.aim.scale,
            offset: &layer.aim.offset,
            function,
        }
    }

    fn units(&self) -> usize {
        self.groups * self.rows
    }

    fn weights(&self) -> usize {
        self.units() * self.columns
    }

    fn input<'m>(&self, inputs: &'m [f32], count: usize, group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(&inputs[group * count * self.columns..][..count * self.columns], count, self.columns)
    }

    fn weight<'m>(&self, weight: &'m [f32], group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(&weight[group * self.rows * self.columns..][..self.rows * self.columns], self.rows, self.columns)
    }

    fn output<'m>(&self, output: &'m [f32], count: usize, group: usize) -> MatRef<'m, f32> {
        MatRef::from_row_major_slice(output, count, self.units()).submatrix(0, group * self.rows, count, self.rows)
    }

    /// Adds the products of inputs and weights: count × units.
    fn multiply(&self, output: &mut [f32], inputs: &[f32], count: usize, weight: &[f32]) {
        for group in 0..self.groups {
            let into = MatMut::from_row_major_slice_mut(&mut *output, count, self.units());
            let into = into.submatrix_mut(0, group * self.rows, count, self.rows);
            let (inputs, weight) = (self.input(inputs, count, group), self.weight(weight, group));
            matmul(into, Accum::Add, inputs, weight.transpose(), 1.0, Par::Seq);
        }
    }

    /// What the weights and the bias get of `pulls` on the outputs (count × units).
    fn gather(&self, pulls: &[f32], inputs: &[f32], count: usize, weight: &mut [f64], bias: &mut [f64]) {
        for group in 0..self.groups {
            let mut part = Mat::<f32>::zeros(self.rows, self.columns);
            let pulls = self.output(pulls, count, group);
            matmul(part.as_mut(), Accum::Replace, pulls.transpose(), self.input(inputs, count, group), 1.0, Par::Seq);
            for row in 0..self.rows {
                let into = &mut weight[(group * self.rows + row) * self.columns..][..self.columns];
                into.iter_mut().enumerate().for_each(|(column, sum)| *sum += f64::from(part[(row, column)]));
            }
        }
        if self.biased {
            for row in pulls.chunks_exact(self.units()) {
                bias.iter_mut().zip(row).for_each(|(sum, pull)| *sum += f64::from(*pull));
            }
        }
    }

    /// What the inputs get of pulls on the outputs: groups × count × columns.
    fn back(&self, pulls: &[f32], count: usize, weight: &[f32]) -> Vec<f32> {
        let mut inputs = vec![0.0f32; self.groups * count * self.columns];
        for group in 0..self.groups {
            let into = &mut inputs[group * count * self.columns..][..count * self.columns];
            let into = MatMut::from_row_major_slice_mut(into, count, self.columns);
            matmul(into, Accum::Replace, self.output(pulls, count, group), self.weight(weight, group), 1.0, Par::Seq);
        }
        inputs
    }
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|number| *number as f32).collect()
}

fn read(places: &[u32], hidden: &[f32]) -> Vec<f32> {
    places.iter().map(|place| if *place == NOWHERE { 0.0 } else { hidden[*place as usize] }).collect()
}

impl<'a> Pair<'a> {
    pub fn new(first: &'a Layer, second: &'a Layer) -> Self {
        Pair { first: Half::new(first, first.aim.function), second: Half::new(second, second.function()) }
    }

    /// Parameters from weights and biases.
    pub fn parameters(&self, first: (&[f64], &[f64]), second: (&[f64], &[f64])) -> Parameters {
        [first.0, first.1, second.0, second.1].concat()
    }

    /// Weights and biases of the first layer, then of the second.
    pub fn split<'p>(&self, all: &'p [f64]) -> [&'p [f64]; 4] {
        let (first, rest) = all.split_at(self.first.weights());
        let (first_bias, rest) = rest.split_at(self.first.units());
        let (second, second_bias) = rest.split_at(self.second.weights());
        [first, first_bias, second, second_bias]
    }

    fn split_mut<'p>(&self, all: &'p mut [f64]) -> [&'p mut [f64]; 4] {
        let (first, rest) = all.split_at_mut(self.first.weights());
        let (first_bias, rest) = rest.split_at_mut(self.first.units());
        let (second, second_bias) = rest.split_at_mut(self.second.weights());
        [first, first_bias, second, second_bias]
    }

    /// positions × units: what the first layer gives after its function, and its slopes.
    fn hidden(&self, part: &Patches, weight: &[f64], bias: &[f64]) -> (Vec<f32>, Vec<f32>) {
        let first = &self.first;
        let mut hidden = vec![0.0f32; part.positions * first.units()];
        first.multiply(&mut hidden, &part.inputs, part.positions, &single(weight));
        let mut slopes = vec![0.0f32; hidden.len()];
        let bounds = first.function.unwrap_or(Clamp { low: f64::NEG_INFINITY, high: f64::INFINITY });
        for (row, slopes) in hidden.chunks_exact_mut(first.units()).zip(slopes.chunks_exact_mut(first.units())) {
            for (unit, (number, slope)) in row.iter_mut().zip(slopes).enumerate() {
                let sum = (f64::from(*number) + bias[unit]) * first.scale[unit] + first.offset[unit];
                *slope = if sum > bounds.low && sum < bounds.high { first.scale[unit] as f32 } else { 0.0 };
                *number = sum.clamp(bounds.low, bounds.high) as f32;
            }
        }
        (hidden, slopes)
    }

    /// The second layer's rows at the first one's weights, for fitting it alone.
    pub fn rows(&self, parts: &[Patches], weight: &[f64], bias: &[f64]) -> Rows {
        let row = |part: &Patches| Rows {
            inputs: read(&part.places, &self.hidden(part, weight, bias).0),
            aims: part.aims.clone(),
            added: part.added.clone(),
        };
        Rows::stack(parts.par_iter().map(row).collect(), self.second.groups)
    }

    fn point(&self, part: &Patches, all: &[f64]) -> Point {
        let [first, first_bias, weight, bias] = self.split(all);
        let (hidden, slopes) = self.hidden(part, first, first_bias);
        let second = &self.second;
        let inputs = read(&part.places, &hidden);
        let mut errors = vec![0.0f32; part.rows * second.units()];
        second.multiply(&mut errors, &inputs, part.rows, &single(weight));
        let mut follows = vec![0.0f32; errors.len()];
        for row in 0..part.rows {
            for unit in 0..second.units() {
                let (at, (group, channel)) = (row * second.units() + unit, (unit / second.rows, unit % second.rows));
                let from = (group * part.rows + row) * second.rows + channel;
                let (aim, added) = (f64::from(part.aims[from]), f64::from(part.added[from]));
                let sum = (f64::from(errors[at]) + bias[unit]) * second.scale[unit] + second.offset[unit] + added;
                // Where the original is cut off, anything beyond does as well.
                let error = match second.function {
                    Some(function) if aim <= function.low => (sum - function.low).max(0.0),
                    Some(function) if aim >= function.high => (sum - function.high).min(0.0),
                    _ => sum - aim,
                };
                errors[at] = error as f32;
                follows[at] = if error == 0.0 { 0.0 } else { second.scale[unit] as f32 };
            }
        }
        Point { hidden, slopes, inputs, errors, follows }
    }

    /// Mean squared error after the second layer's function.
    pub fn error(&self, parts: &[Patches], all: &[f64]) -> f64 {
        let [first, first_bias, weight, bias] = self.split(all);
        let second = &self.second;
        let clamp = |sum: f64| second.function.map_or(sum, |function| sum.clamp(function.low, function.high));
        let one = |part: &Patches| -> f64 {
            let inputs = read(&part.places, &self.hidden(part, first, first_bias).0);
            let mut outputs = vec![0.0f32; part.rows * second.units()];
            second.multiply(&mut outputs, &inputs, part.rows, &single(weight));
            let mut sum = 0.0;
            for (at, output) in outputs.iter().enumerate() {
                let (row, unit) = (at / second.units(), at % second.units());
                let from = ((unit / second.rows) * part.rows + row) * second.rows + unit % second.rows;
                let found = (f64::from(*output) + bias[unit]) * second.scale[unit] + second.offset[unit] + f64::from(part.added[from]);
                sum += (clamp(found) - clamp(f64::from(part.aims[from]))).powi(2);
            }
            sum
        };
        let count: usize = parts.iter().map(|part| part.rows * second.units()).sum();
        let sums: Vec<f64> = parts.par_iter().map(one).collect();
        sums.iter().sum::<f64>() / count.max(1) as f64
    }

    /// Better parameters: steps that lower the error of the fitted rows, each as long as serves the held-out rows best.
    pub fn refine(&self, fit: &[Patches], held: &[Patches], start: &[f64]) -> Parameters {
        let (mut now, mut least) = (start.to_vec(), self.error(held, start));
        for _ in 0..STEPS {
            let points: Vec<Point> = fit.par_iter().map(|part| self.point(part, &now)).collect();
            let Some(step) = self.step(fit, &points, &now) else { break };
            drop(points);
            let tried = LENGTHS.map(|length| {
                let there: Parameters = now.iter().zip(&step).map(|(at, step)| at + length * step).collect();
                (self.error(held, &there), there)
            });
            match tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
                Some((error, there)) if error < least => (least, now) = (error, there),
                _ => break,
            }
        }
        now
    }

    /// A Gauss–Newton step; `None` where second moments are singular.
    fn step(&self, fit: &[Patches], points: &[Point], now: &[f64]) -> Option<Parameters> {
        let easier = Moments::new(self, fit, points, now)?;
        let pulls = |part: &Patches, point: &Point| -> Vec<f64> {
            let pulls: Vec<f32> = point.errors.iter().zip(&point.follows).map(|(error, follows)| -error * follows).collect();
            self.collect(part, point, &pulls, now)
        };
        let mut rest = sum(fit.par_iter().zip(points).map(|(part, point)| pulls(part, point)).collect())?;
        let mut step = vec![0.0; rest.len()];
        let mut ahead = easier.solve(self, &rest);
        let mut direction = ahead.clone();
        let mut power = dot(&rest, &ahead);
        let first = power;
        for _ in 0..PRODUCTS {
            if power <= 1e-8 * first || !power.is_finite() {
                break;
            }
            let product = |part: &Patches, point: &Point| self.curved(part, point, &direction, now);
            let mut bent = sum(fit.par_iter().zip(points).map(|(part, point)| product(part, point)).collect())?;
            bent.iter_mut().zip(easier.multiply(self, &direction)).for_each(|(bent, moments)| *bent += DAMPING * moments);
            let length = power / dot(&direction, &bent);
            step.iter_mut().zip(&direction).for_each(|(step, along)| *step += length * along);
            rest.iter_mut().zip(&bent).for_each(|(rest, bent)| *rest -= length * bent);
            ahead = easier.solve(self, &rest);
            let next = dot(&rest, &ahead);
            let keep = next / power;
            power = next;
            direction.iter_mut().zip(&ahead).for_each(|(along, ahead)| *along = ahead + keep * *along);
        }
        step.iter().all(|number| number.is_finite()).then_some(step)
    }

    /// What all parameters get of pulls on the sums (rows × channels).
    fn collect(&self, part: &Patches, point: &Point, pulls: &[f32], now: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; now.len()];
        let second_weight = single(self.split(now)[2]);
        let [first, first_bias, second, second_bias] = self.split_mut(&mut all);
        self.second.gather(pulls, &point.inputs, part.rows, second, second_bias);
        let mut hidden = vec![0.0f32; point.hidden.len()];
        for (place, pull) in part.places.iter().zip(self.second.back(pulls, part.rows, &second_weight)) {
            if *place != NOWHERE {
                hidden[*place as usize] += pull;
            }
        }
        hidden.iter_mut().zip(&point.slopes).for_each(|(pull, slope)| *pull *= slope);
        self.first.gather(&hidden, &part.inputs, part.positions, first, first_bias);
        all
    }

    /// The second derivatives (JᵀJ) times a direction.
    fn curved(&self, part: &Patches, point: &Point, direction: &[f64], now: &[f64]) -> Vec<f64> {
        let [first, first_bias, second, second_bias] = self.split(direction);
        let mut hidden = vec![0.0f32; point.hidden.len()];
        self.first.multiply(&mut hidden, &part.inputs, part.positions, &single(first));
        for (row, slopes) in hidden.chunks_exact_mut(self.first.units()).zip(point.slopes.chunks_exact(self.first.units())) {
            for ((number, bias), slope) in row.iter_mut().zip(first_bias).zip(slopes) {
                *number = (*number + *bias as f32) * slope;
            }
        }
        let mut sums = vec![0.0f32; point.errors.len()];
        self.second.multiply(&mut sums, &read(&part.places, &hidden), part.rows, &single(self.split(now)[2]));
        self.second.multiply(&mut sums, &point.inputs, part.rows, &single(second));
        for (row, follows) in sums.chunks_exact_mut(self.second.units()).zip(point.follows.chunks_exact(self.second.units())) {
            for ((number, bias), follows) in row.iter_mut().zip(second_bias).zip(follows) {
                *number = (*number + *bias as f32) * follows * follows;
            }
        }
        self.collect(part, point, &sums, now)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// In the order of the parts, so that any number of threads gives the same.
fn sum(parts: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    parts.into_iter().reduce(|mut all, part| {
        all.iter_mut().zip(part).for_each(|(sum, number)| *sum += number);
        all
    })
}

/// The second derivatives with all that couples units left out: for each group the second moments of its inputs (and of the
/// constant that a bias is multiplied by), times a factor for each unit.
struct Moments {
    first: Vec<(Mat<f64>, Llt<f64>)>,
    second: Vec<(Mat<f64>, Llt<f64>)>,
    first_factors: Vec<f64>,
    second_factors: Vec<f64>,
}

impl Moments {
    fn new(pair: &Pair, fit: &[Patches], points: &[Point], now: &[f64]) -> Option<Self> {
        let (first, second) = (&pair.first, &pair.second);
        let inputs: Vec<(&[f32], usize)> = fit.iter().map(|part| (&part.inputs[..], part.positions)).collect();
        let inner: Vec<(&[f32], usize)> = fit.iter().zip(points).map(|(part, point)| (&point.inputs[..], part.rows)).collect();
        let (positions, rows) = (fit.iter().map(|part| part.positions).sum::<usize>(), fit.iter().map(|part| part.rows).sum::<usize>());
        let mut second_factors = vec![0.0; second.units()];
        for row in points.iter().flat_map(|point| point.follows.chunks_exact(second.units())) {
            second_factors.iter_mut().zip(row).for_each(|(sum, follows)| *sum += f64::from(*follows).powi(2));
        }
        second_factors.iter_mut().for_each(|factor| *factor /= rows.max(1) as f64);
        // How much a unit of the first layer moves the sums, over all columns of the second that read it.
        let weight = pair.split(now)[2];
        let reach: Vec<f64> = (0..second.groups * second.columns)
            .map(|at| {
                let (group, column) = (at / second.columns, at % second.columns);
                let unit = |row: usize| group * second.rows + row;
                (0..second.rows).map(|row| weight[unit(row) * second.columns + column].powi(2) * second_factors[unit(row)]).sum()
            })
            .collect();
        let mut first_factors = vec![0.0; first.units()];
        for (part, point) in fit.iter().zip(points) {
            for (at, place) in part.places.iter().enumerate().filter(|(_, place)| **place != NOWHERE) {
                let (group, column) = (at / (part.rows * second.columns), at % second.columns);
                let slope = f64::from(point.slopes[*place as usize]);
                first_factors[*place as usize % first.units()] += slope * slope * reach[group * second.columns + column];
            }
        }
        first_factors.iter_mut().for_each(|factor| *factor /= positions.max(1) as f64);
        for factors in [&mut first_factors, &mut second_factors] {
            let most = factors.iter().copied().fold(0.0, f64::max);
            factors.iter_mut().for_each(|factor| *factor = factor.max(1e-6 * most).max(f64::MIN_POSITIVE));
        }
        Some(Moments { first: factored(first, &inputs)?, second: factored(second, &inner)?, first_factors, second_factors })
    }

    /// Applies `to` to the rows of each unit, with its factor.
    fn each(
        &self,
        pair: &Pair,
        all: &[f64],
        to: impl Fn(&(Mat<f64>, Llt<f64>), &Mat<f64>) -> Mat<f64>,
        factor: impl Fn(f64) -> f64,
    ) -> Vec<f64> {
        let mut result = vec![0.0; all.len()];
        let [first, first_bias, second, second_bias] = pair.split(all);
        let [to_first, to_first_bias, to_second, to_second_bias] = pair.split_mut(&mut result);
        let sides = [
            (&pair.first, &self.first, &self.first_factors, (first, first_bias), (to_first, to_first_bias)),
            (&pair.second, &self.second, &self.second_factors, (second, second_bias), (to_second, to_second_bias)),
        ];
        for (side, moments, factors, (weight, bias), (into, into_bias)) in sides {
            for (group, moments) in moments.iter().enumerate() {
                let unit = |row: usize| group * side.rows + row;
                let rows = Mat::from_fn(side.columns + usize::from(side.biased), side.rows, |column, row| {
                    if column < side.columns { weight[unit(row) * side.columns + column] } else { bias[unit(row)] }
                });
                let applied = to(moments, &rows);
                for row in 0..side.rows {
                    let factor = factor(factors[unit(row)]);
                    for column in 0..side.columns {
                        into[unit(row) * side.columns + column] = applied[(column, row)] * factor;
                    }
                    if side.biased {
                        into_bias[unit(row)] = applied[(side.columns, row)] * factor;
                    }
                }
            }
        }
        result
    }

    fn multiply(&self, pair: &Pair, all: &[f64]) -> Vec<f64> {
        self.each(pair, all, |(moments, _), rows| moments * rows, |factor| factor)
    }

    fn solve(&self, pair: &Pair, all: &[f64]) -> Vec<f64> {
        self.each(pair, all, |(_, factors), rows| factors.solve(rows), |factor| 1.0 / factor)
    }
}

/// Second moments of a layer's inputs, with a one beside them where there is a bias, group by group.
fn factored(side: &Half, inputs: &[(&[f32], usize)]) -> Option<Vec<(Mat<f64>, Llt<f64>)>> {
    let size = side.columns + usize::from(side.biased);
    let one = |group: usize| -> Option<(Mat<f64>, Llt<f64>)> {
        let part = |(inputs, count): &(&[f32], usize)| -> Mat<f32> {
            let inputs = side.input(inputs, *count, group);
            let mut part = Mat::<f32>::zeros(size, size);
            let square = part.as_mut().submatrix_mut(0, 0, side.columns, side.columns);
            matmul(square, Accum::Replace, inputs.transpose(), inputs, 1.0, Par::Seq);
            if side.biased {
                for column in 0..side.columns {
                    let total: f32 = (0..*count).map(|row| inputs[(row, column)]).sum();
                    part[(side.columns, column)] = total;
                    part[(column, side.columns)] = total;
                }
                part[(side.columns, side.columns)] = *count as f32;
            }
            part
        };
        let parts: Vec<Mat<f32>> = inputs.par_iter().map(part).collect();
        let mut moments = Mat::<f64>::zeros(size, size);
        for part in parts {
            for column in 0..size {
                for row in 0..size {
                    moments[(row, column)] += f64::from(part[(row, column)]);
                }
            }
        }
        let ridge = RIDGE * (0..size).map(|at| moments[(at, at)]).sum::<f64>() / size.max(1) as f64;
        (0..size).for_each(|at| moments[(at, at)] += ridge);
        let factors = moments.llt(Side::Lower).ok()?;
        Some((moments, factors))
    };
    (0..side.groups).map(one).collect()
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::rng::rng;

    fn numbers(count: usize, name: &str) -> Vec<f64> {
        let mut random = rng(7, name);
        (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    const RELU: Option<Clamp> = Some(Clamp { low: 0.0, high: f64::INFINITY });
    const ONES: [f64; 4] = [1.0; 4];
    const SCALES: [f64; 4] = [1.5, -0.5, 1.0, 2.0];
    const OFFSETS: [f64; 4] = [0.1, 0.0, -0.2, 0.3];
    const ZEROS: [f64; 4] = [0.0; 4];

    /// Two groups of two units that read three numbers; one channel that reads all four units at two places, or two groups
    /// that read two units each.
    fn pair(groups: usize, function: Option<Clamp>) -> Pair<'static> {
        let (scale, offset) = (&SCALES[..], &OFFSETS[..]);
        Pair {
            first: Half { groups: 2, rows: 2, columns: 3, biased: true, scale, offset, function: RELU },
            second: Half { groups, rows: 2, columns: 8 / groups, biased: true, scale: &ONES, offset: &ZEROS, function },
        }
    }

    /// Rows that read two neighbouring positions, the last of which lies outside.
    fn patches(pair: &Pair, positions: usize, name: &str) -> Patches {
        let groups = pair.second.groups;
        let mut places = Vec::new();
        for group in 0..groups {
            for row in 0..positions {
                for place in [row, row + 1] {
                    let units = (4 / groups * group)..(4 / groups * (group + 1));
                    places.extend(units.map(|unit| if place < positions { (place * 4 + unit) as u32 } else { NOWHERE }));
                }
            }
        }
        let single = |count: usize, part: &str| numbers(count, &format!("{name} {part}")).iter().map(|n| *n as f32).collect::<Vec<f32>>();
        let sums = groups * positions * 2;
        let (inputs, aims, added) = (single(2 * positions * 3, "inputs"), single(sums, "aims"), single(sums, "added"));
        Patches { positions, rows: positions, inputs, places, aims, added }
    }

    fn parameters(pair: &Pair, name: &str) -> Parameters {
        let count = pair.first.weights() + pair.first.units() + pair.second.weights() + pair.second.units();
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
                let there: Vec<f64> = now.iter().zip(&direction).map(|(at, along)| at + step * along).collect();
                pair.point(&part, &there).errors
            };
            const STEP: f64 = 1e-3;
            let (after, before) = (near(STEP), near(-STEP));
            let pushed: Vec<f64> = after.iter().zip(&before).map(|(a, b)| f64::from(a - b) / (2.0 * STEP)).collect();
            let pulls: Vec<f32> =
                point.follows.iter().zip(numbers(pushed.len(), "pulls")).map(|(follows, pull)| follows * pull as f32).collect();
            // ⟨Jᵀp, d⟩ = ⟨p, Jd⟩, where kinks are not near.
            let collected = dot(&pair.collect(&part, &point, &pulls, &now), &direction);
            let expected: f64 = pulls
                .iter()
                .zip(&point.follows)
                .zip(&pushed)
                .map(|((pull, follows), pushed)| if *follows == 0.0 { 0.0 } else { f64::from(pull / follows) * pushed })
                .sum();
            assert!((collected - expected).abs() < 1e-2 * expected.abs().max(1.0), "{groups} groups: {collected}, {expected}");
            let curved = dot(&pair.curved(&part, &point, &direction, &now), &direction);
            let squares: f64 = pushed.iter().map(|pushed| pushed * pushed).sum();
            assert!((curved - squares).abs() < 2e-2 * squares, "{groups} groups: {curved}, {squares}");
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
            let start: Vec<f64> = truth.iter().zip(parameters(&pair, "off")).map(|(at, off)| at + 0.2 * off).collect();
            let before = pair.error(&held, &start);
            let after = pair.error(&held, &pair.refine(&fit, &held, &start));
            assert!(after < 0.05 * before, "{groups} groups: {before} to {after}");
        }
    }
}
