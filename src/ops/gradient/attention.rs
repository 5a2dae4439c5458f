//! Attention in one node: with the projections of queries, keys and values inside, or without.

use super::{FunctionTable, MICROSOFT, first, given};
use crate::gradient::{Arguments, Evaluated, FloatArray, Function, HeadAttention, MatMul, Misfit};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    (MICROSOFT, "Attention", |node, at| fused(node, at, true)),
    (MICROSOFT, "MultiHeadAttention", |node, at| {
        fused(node, at, false)
    }),
];

/// Attention with a bias for queries, keys and values, one behind the other.
struct FusedAttention {
    heads: HeadAttention,
    /// Whether the first two operands are the data and the weights of all three; else the first three are what is attended with.
    projects: bool,
}

/// Where operands stand.
struct OperandPlaces {
    bias: usize,
    seen: usize,
    added: usize,
}

/// The rows of a matrix in parts next to each other, and back.
fn columns(x: &FloatArray, start: usize, width: usize) -> FloatArray {
    let row = x.dims.last().copied().unwrap_or(1).max(1);
    let rows = x.data.chunks(row);
    let data = rows.flat_map(|row| row[start..start + width].iter().copied());
    let mut dims = x.dims.clone();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    FloatArray::new(dims, data.collect())
}

fn beside(parts: &[FloatArray; 3]) -> FloatArray {
    let width = |part: &FloatArray| part.dims.last().copied().unwrap_or(1).max(1);
    let count = parts[0].data.len() / width(&parts[0]);
    let row = |at: usize| {
        let one = move |part: &FloatArray| part.data[at * width(part)..][..width(part)].to_vec();
        parts.iter().flat_map(one)
    };
    let mut dims = parts[0].dims.clone();
    if let Some(last) = dims.last_mut() {
        *last = parts.iter().map(width).sum();
    }
    FloatArray::new(dims, (0..count).flat_map(row).collect())
}

/// Σ over all rows.
fn row_sums(x: &FloatArray) -> Vec<f32> {
    let width = x.dims.last().copied().unwrap_or(1).max(1);
    let mut sums = vec![0.0; width];
    for row in x.data.chunks(width) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

impl FusedAttention {
    fn places(&self) -> OperandPlaces {
        match self.projects {
            true => OperandPlaces {
                bias: 2,
                seen: 3,
                added: 5,
            },
            false => OperandPlaces {
                bias: 3,
                seen: 4,
                added: 5,
            },
        }
    }

    /// Queries, keys and values. Errors: operands that do not fit.
    fn attended(&self, inputs: &Arguments) -> Result<[FloatArray; 3], Misfit> {
        let missing = || Misfit("attention without an operand".to_owned());
        let mut parts = if self.projects {
            let product = MatMul.value(&[given(inputs, 0), given(inputs, 1)])?;
            let width = product.dims.last().copied().unwrap_or(0) / 3;
            [0, 1, 2].map(|at| columns(&product, at * width, width))
        } else {
            let one = |at: usize| given(inputs, at).cloned().ok_or_else(missing);
            [one(0)?, one(1)?, one(2)?]
        };
        let Some(bias) = given(inputs, self.places().bias) else {
            return Ok(parts);
        };
        let mut rest = &bias.data[..];
        for part in &mut parts {
            let width = part.dims.last().copied().unwrap_or(0);
            let (own, others) = rest.split_at_checked(width).ok_or_else(missing)?;
            rest = others;
            for row in part.data.chunks_mut(width.max(1)) {
                row.iter_mut().zip(own).for_each(|(x, bias)| *x += bias);
            }
        }
        Ok(parts)
    }
}

impl Function for FusedAttention {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let ([q, k, v], places) = (self.attended(inputs)?, self.places());
        let [added, seen] = [places.added, places.seen].map(|at| given(inputs, at));
        self.heads
            .value(&[Some(&q), Some(&k), Some(&v), added, seen])
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let weights = given(inputs, 1).filter(|_| self.projects);
        let rows = given(inputs, 0).and_then(|x| x.dims.get(..2));
        let rows: usize = rows.map_or(1, |rows| rows.iter().product());
        let projected = weights.map_or(0, |weights| weights.data.len() * rows);
        let keys = given(inputs, if self.projects { 0 } else { 1 });
        projected + self.heads.work(&[None, keys], output)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let wants = |at: usize| wanted.get(at).copied().unwrap_or(false);
        let back = || {
            let ([q, k, v], places) = (self.attended(point.inputs).ok()?, self.places());
            let [added, seen] = [places.added, places.seen].map(|at| point.input(at));
            let operands = [Some(&q), Some(&k), Some(&v), added, seen];
            let inner = Evaluated {
                inputs: &operands,
                ..*point
            };
            let pulled = self
                .heads
                .pull_back(&inner, &[true, true, true, wants(places.added)]);
            let mut pulled = pulled.into_iter();
            let parts = [pulled.next()??, pulled.next()??, pulled.next()??];
            let mut all: Vec<Option<FloatArray>> = vec![None; point.inputs.len()];
            let mut put = |at: usize, array: Option<FloatArray>| {
                if let Some(place) = all.get_mut(at) {
                    *place = array;
                }
            };
            put(places.added, pulled.next().flatten());
            if let Some(bias) = point.input(places.bias).filter(|_| wants(places.bias)) {
                let sums = parts.iter().flat_map(row_sums).collect();
                put(places.bias, Some(FloatArray::new(bias.dims.clone(), sums)));
            }
            if self.projects {
                let gradient = beside(&parts);
                let operands = [point.input(0), point.input(1)];
                let inner = Evaluated {
                    inputs: &operands,
                    output: &gradient,
                    gradient: &gradient,
                };
                let pulled = MatMul.pull_back(&inner, &[wants(0), wants(1)]);
                let each = pulled.into_iter().enumerate();
                each.for_each(|(at, array)| put(at, array));
            } else {
                let each = parts.into_iter().enumerate();
                each.for_each(|(at, array)| put(at, Some(array).filter(|_| wants(at))));
            }
            Some(all)
        };
        back().unwrap_or_default()
    }
}

/// Without past keys, with as many query heads as key heads, seen positions as batch × positions.
fn fused(node: &NodeView, output: usize, projects: bool) -> Option<Box<dyn Function>> {
    let is_set = |name: &str| node.int(name).unwrap_or(0) != 0;
    let is_plain = !is_set("unidirectional")
        && !is_set("do_rotary")
        && node.ints("qkv_hidden_sizes").is_none();
    let past: &[usize] = if projects { &[4, 6] } else { &[6, 7] };
    let matrices: &[usize] = if projects { &[0] } else { &[0, 1, 2] };
    let seen = if projects { 3 } else { 4 };
    let rank = |at: usize| node.shape(at).map(<[_]>::len);
    let fits = is_plain
        && !past.iter().any(|at| node.has_input(*at))
        && matrices.iter().all(|at| rank(*at) == Some(3))
        && (!node.has_input(seen) || rank(seen) == Some(2));
    if !fits {
        return None;
    }
    let heads = HeadAttention {
        heads: usize::try_from(node.int("num_heads")?).ok()?,
        scale: node.float("scale").filter(|scale| *scale != 0.0),
        unseen: node.float("mask_filter_value").unwrap_or(-10000.0),
    };
    first(output, FusedAttention { heads, projects })
}
