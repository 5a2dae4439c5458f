//! Sums over shared axes of two arrays, as Einstein's notation writes them.

use super::array::FloatArray;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::moves::permuted;
use super::product::MatMul;

/// Σ a · b over the axes that the result does not have. Axes are letters; each stands once in an operand, and each of an
/// operand stands in the other or in the result.
#[derive(Clone, Debug)]
pub struct AxisContraction {
    /// Axes of both operands.
    pub operands: [Vec<char>; 2],
    /// Axes of the result.
    pub result: Vec<char>,
}

/// The axes of a contraction by what they are for.
struct Roles {
    batch: Vec<char>,
    /// Of one operand alone: of the first, of the second.
    free: [Vec<char>; 2],
    summed: Vec<char>,
}

impl AxisContraction {
    /// `None` where an axis stands twice in an operand, or in one operand and nowhere else.
    pub fn new(operands: [Vec<char>; 2], result: Vec<char>) -> Option<Self> {
        let once = |list: &Vec<char>| {
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1])
        };
        let [a, b] = &operands;
        let stands = |one: &Vec<char>, other: &Vec<char>| {
            one.iter()
                .all(|axis| other.contains(axis) || result.contains(axis))
        };
        let fits = once(a) && once(b) && once(&result) && stands(a, b) && stands(b, a);
        let made = result
            .iter()
            .all(|axis| a.contains(axis) || b.contains(axis));
        (fits && made).then_some(AxisContraction { operands, result })
    }

    fn roles(&self) -> Roles {
        let [a, b] = &self.operands;
        let of = |list: &[char], in_other: bool, in_result: bool, other: &[char]| {
            let is = |axis: &&char| {
                other.contains(axis) == in_other && self.result.contains(axis) == in_result
            };
            list.iter().filter(is).copied().collect()
        };
        Roles {
            batch: of(a, true, true, b),
            free: [of(a, false, true, b), of(b, false, true, a)],
            summed: of(a, true, false, b),
        }
    }

    /// Both operands as stacks of matrices, and the extents of the result's axes in the order batch, first, second. Errors:
    /// extents that differ.
    fn matrices(&self, inputs: &Arguments) -> Result<([FloatArray; 2], Vec<usize>), Misfit> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let roles = self.roles();
        let extent = |axis: &char| {
            let of = |array: &FloatArray, axes: &[char]| {
                let at = axes.iter().position(|other| other == axis)?;
                array.dims.get(at).copied()
            };
            let (one, other) = (of(a, &self.operands[0]), of(b, &self.operands[1]));
            match (one, other) {
                (Some(one), Some(other)) if one != other => None,
                _ => one.or(other),
            }
        };
        let ranks =
            a.dims.len() == self.operands[0].len() && b.dims.len() == self.operands[1].len();
        let refusal = || Misfit(format!("{:?} and {:?} are not summed so", a.dims, b.dims));
        let extents = |axes: &[char]| axes.iter().map(extent).collect::<Option<Vec<usize>>>();
        let product = |axes: &[char]| Some(extents(axes)?.iter().product::<usize>());
        let found = || {
            let [batch, first, second, summed] =
                [&roles.batch, &roles.free[0], &roles.free[1], &roles.summed]
                    .map(|axes| product(axes));
            let (batch, summed) = (batch?, summed?);
            let left = turned(
                a,
                &self.operands[0],
                [&roles.batch, &roles.free[0], &roles.summed],
            );
            let right = turned(
                b,
                &self.operands[1],
                [&roles.batch, &roles.summed, &roles.free[1]],
            );
            let axes: Vec<char> = [&roles.batch, &roles.free[0], &roles.free[1]]
                .into_iter()
                .flatten()
                .copied()
                .collect();
            Some((
                [
                    left.reshaped(vec![batch, first?, summed]),
                    right.reshaped(vec![batch, summed, second?]),
                ],
                extents(&axes)?,
            ))
        };
        found().filter(|_| ranks).ok_or_else(refusal)
    }

    /// The axes of the stacked result.
    fn stacked(&self) -> Vec<char> {
        let roles = self.roles();
        let all = [roles.batch, roles.free[0].clone(), roles.free[1].clone()];
        all.into_iter().flatten().collect()
    }
}

/// An array with its axes in the order of these lists.
fn turned(array: &FloatArray, axes: &[char], lists: [&Vec<char>; 3]) -> FloatArray {
    let place = |axis: &char| axes.iter().position(|other| other == axis);
    let order: Vec<usize> = lists.into_iter().flatten().filter_map(place).collect();
    permuted(array, &order)
}

/// The order that brings axes of one list into that of another.
fn order(from: &[char], to: &[char]) -> Vec<usize> {
    let place = |axis: &char| from.iter().position(|other| other == axis);
    to.iter().filter_map(place).collect()
}

impl Function for AxisContraction {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let ([a, b], dims) = self.matrices(inputs)?;
        let product = MatMul.value(&[Some(&a), Some(&b)])?.reshaped(dims);
        Ok(permuted(&product, &order(&self.stacked(), &self.result)))
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let summed = self.matrices(inputs).map_or(1, |([a, _], _)| a.dims[2]);
        output.data.len() * summed
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let ([a, b], _) = self.matrices(point.inputs).ok()?;
            let stacked = permuted(point.gradient, &order(&self.result, &self.stacked()));
            let stacked = stacked.reshaped(vec![a.dims[0], a.dims[1], b.dims[2]]);
            let operands = [Some(&a), Some(&b)];
            let inner = Evaluated {
                inputs: &operands,
                output: &stacked,
                gradient: &stacked,
            };
            let pulled = MatMul.pull_back(&inner, &[wants(wanted, 0), wants(wanted, 1)]);
            let roles = self.roles();
            let lists = [
                [&roles.batch, &roles.free[0], &roles.summed],
                [&roles.batch, &roles.summed, &roles.free[1]],
            ];
            let each = pulled.into_iter().zip(lists).enumerate();
            let own = each.map(|(at, (pulled, lists))| {
                let axes: Vec<char> = lists.into_iter().flatten().copied().collect();
                let x = point.input(at)?;
                let dims = order(&self.operands[at], &axes);
                let dims = dims.iter().map(|axis| x.dims[*axis]).collect();
                Some(permuted(
                    &pulled?.reshaped(dims),
                    &order(&axes, &self.operands[at]),
                ))
            });
            Some(own.collect())
        };
        back().unwrap_or_default()
    }
}
