//! Functions of two arrays, element by element, either repeated along axes of extent 1 (NumPy's broadcasting).

use rayon::prelude::*;

use super::array::{CHUNK, FloatArray, rows, strides};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// A function of two numbers with its partial derivatives, each of `(a, b)`.
pub struct Binary<V, A, B> {
    /// f(a, b).
    pub value: V,
    /// ∂f/∂a.
    pub by_first: A,
    /// ∂f/∂b.
    pub by_second: B,
}

/// Extents of two arrays broadcast against each other.
pub(super) fn common(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Misfit> {
    let rank = a.len().max(b.len());
    let extent = |dims: &[usize], axis: usize| match (axis + dims.len()).checked_sub(rank) {
        Some(axis) => dims[axis],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(Misfit(format!("{a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

/// Steps of an array seen as one of other extents: 0 along an axis that it is repeated along.
fn seen_as(dims: &[usize], whole: &[usize]) -> Vec<usize> {
    let mut steps = vec![0; whole.len() - dims.len()];
    let own = strides(dims);
    steps.extend(
        dims.iter()
            .zip(own)
            .map(|(dim, step)| if *dim == 1 { 0 } else { step }),
    );
    steps
}

/// Axes merged where both arrays run on without a break, so that rows are long.
fn merged(dims: &[usize], steps: [Vec<usize>; 2]) -> (Vec<usize>, [Vec<usize>; 2]) {
    let mut merged: Vec<(usize, [usize; 2])> = Vec::new();
    for (axis, dim) in dims.iter().enumerate().rev() {
        let now = [steps[0][axis], steps[1][axis]];
        match merged.last_mut() {
            _ if *dim == 1 => {}
            Some((extent, inner)) if (0..2).all(|at| now[at] == inner[at] * *extent) => {
                *extent *= dim
            }
            _ => merged.push((*dim, now)),
        }
    }
    if merged.is_empty() {
        merged.push((1, [0, 0]));
    }
    merged.reverse();
    let one = |at: usize| merged.iter().map(|(_, steps)| steps[at]).collect();
    (
        merged.iter().map(|(dim, _)| *dim).collect(),
        [one(0), one(1)],
    )
}

/// f of two arrays, on one core for what is repeated, on all for what is not.
pub(super) fn zip(
    a: &FloatArray,
    b: &FloatArray,
    function: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<FloatArray, Misfit> {
    let dims = common(&a.dims, &b.dims)?;
    let mut out = FloatArray::zeros(&dims);
    if a.dims == b.dims {
        let pairs = a.data.par_chunks(CHUNK).zip(b.data.par_chunks(CHUNK));
        out.data
            .par_chunks_mut(CHUNK)
            .zip(pairs)
            .for_each(|(to, (a, b))| {
                for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
                    *to = function(*a, *b);
                }
            });
        return Ok(out);
    }
    let (dims, steps) = merged(&dims, [seen_as(&a.dims, &dims), seen_as(&b.dims, &dims)]);
    let len = dims.last().copied().unwrap_or(1);
    let [step_a, step_b] = [0, 1].map(|at| steps[at].last().copied().unwrap_or(0));
    let mut offsets = Vec::new();
    rows(&dims, &steps, |at| offsets.push(at));
    out.data
        .par_chunks_mut(len.max(1))
        .zip(offsets.par_iter())
        .with_min_len(CHUNK.div_ceil(len.max(1)))
        .for_each(|(to, [at_a, at_b])| match (step_a, step_b) {
            (0, _) => {
                let a = a.data[*at_a];
                for (at, to) in to.iter_mut().enumerate() {
                    *to = function(a, b.data[at_b + at * step_b]);
                }
            }
            (_, 0) => {
                let b = b.data[*at_b];
                for (to, a) in to.iter_mut().zip(&a.data[*at_a..]) {
                    *to = function(*a, b);
                }
            }
            _ => {
                for (to, (a, b)) in to
                    .iter_mut()
                    .zip(a.data[*at_a..].iter().zip(&b.data[*at_b..]))
                {
                    *to = function(*a, *b);
                }
            }
        });
    Ok(out)
}

/// An array repeated to larger extents.
pub(super) fn expand(array: &FloatArray, dims: &[usize]) -> Result<FloatArray, Misfit> {
    zip(array, &FloatArray::zeros(dims), |x, _| x)
}

/// A fold over what an array of these extents is repeated along.
pub(super) fn fold_to(
    array: &FloatArray,
    dims: &[usize],
    start: f32,
    fold: impl Fn(f32, f32) -> f32,
) -> FloatArray {
    let mut folded = FloatArray::full(dims, start);
    let steps = [strides(&array.dims), seen_as(dims, &array.dims)];
    let (merged, steps) = merged(&array.dims, steps);
    let len = merged.last().copied().unwrap_or(1);
    let step = steps[1].last().copied().unwrap_or(0);
    rows(&merged, &steps, |[from, to]| {
        for (at, x) in array.data[from..from + len].iter().enumerate() {
            let to = &mut folded.data[to + at * step];
            *to = fold(*to, *x);
        }
    });
    folded
}

/// The sum over what an array of these extents is repeated along: the transpose of [`expand`].
pub(super) fn sum_to(array: FloatArray, dims: &[usize]) -> FloatArray {
    if array.dims == dims {
        return array;
    }
    let mut sum = FloatArray::zeros(dims);
    let steps = [strides(&array.dims), seen_as(dims, &array.dims)];
    let (merged, steps) = merged(&array.dims, steps);
    let len = merged.last().copied().unwrap_or(1);
    let step = steps[1].last().copied().unwrap_or(0);
    rows(&merged, &steps, |[from, to]| {
        let row = &array.data[from..from + len];
        if step == 0 {
            sum.data[to] += row.iter().sum::<f32>();
        } else {
            for (to, from) in sum.data[to..].iter_mut().zip(row) {
                *to += from;
            }
        }
    });
    sum
}

impl<V, A, B> Function for Binary<V, A, B>
where
    V: Fn(f32, f32) -> f32 + Send + Sync,
    A: Fn(f32, f32) -> f32 + Send + Sync,
    B: Fn(f32, f32) -> f32 + Send + Sync,
{
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        zip(operand(inputs, 0)?, operand(inputs, 1)?, &self.value)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let (Some(a), Some(b)) = (point.input(0), point.input(1)) else {
            return Vec::new();
        };
        let by = |slope: &(dyn Fn(f32, f32) -> f32 + Sync), of: &FloatArray| {
            let slopes = zip(a, b, slope).ok()?;
            let product = zip(&slopes, point.gradient, |slope, gradient| slope * gradient).ok()?;
            Some(sum_to(product, &of.dims))
        };
        vec![
            wants(wanted, 0).then(|| by(&self.by_first, a)).flatten(),
            wants(wanted, 1).then(|| by(&self.by_second, b)).flatten(),
        ]
    }
}

/// a + b, whose derivatives are the gradient itself.
pub struct Addition {
    /// What the second operand counts: 1, or −1 for a difference.
    pub sign: f32,
}

impl Function for Addition {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let sign = self.sign;
        zip(operand(inputs, 0)?, operand(inputs, 1)?, |a, b| {
            a + sign * b
        })
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let by = |at: usize, sign: f32| {
            let dims = &point.input(at).filter(|_| wants(wanted, at))?.dims;
            let summed = sum_to(point.gradient.clone(), dims);
            Some(if sign == 1.0 {
                summed
            } else {
                summed.map(|x| sign * x)
            })
        };
        vec![by(0, 1.0), by(1, self.sign)]
    }
}

/// a · b.
pub struct Multiplication;

impl Function for Multiplication {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        zip(operand(inputs, 0)?, operand(inputs, 1)?, |a, b| a * b)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let by = |at: usize| {
            let (own, other) = (point.input(at)?, point.input(1 - at)?);
            let product = zip(point.gradient, other, |gradient, other| gradient * other).ok()?;
            Some(sum_to(product, &own.dims))
        };
        [0, 1]
            .map(|at| wants(wanted, at).then(|| by(at)).flatten())
            .into()
    }
}

/// Elements of the second operand where the first is not zero, else of the third.
pub struct Choose;

impl Function for Choose {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let [condition, yes, no] = [
            operand(inputs, 0)?,
            operand(inputs, 1)?,
            operand(inputs, 2)?,
        ];
        let first = zip(
            condition,
            yes,
            |condition, yes| if condition == 0.0 { 0.0 } else { yes },
        )?;
        let second = zip(
            condition,
            no,
            |condition, no| if condition == 0.0 { no } else { 0.0 },
        )?;
        zip(&first, &second, |first, second| first + second)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let by = |at: usize, taken: bool| {
            let (condition, own) = (point.input(0)?, point.input(at)?);
            let chosen = zip(point.gradient, condition, |gradient, condition| {
                if (condition != 0.0) == taken {
                    gradient
                } else {
                    0.0
                }
            });
            Some(sum_to(chosen.ok()?, &own.dims))
        };
        let part = |at, taken| wants(wanted, at).then(|| by(at, taken)).flatten();
        vec![None, part(1, true), part(2, false)]
    }
}
