//! Matrix products.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::array::{FloatArray, rows, strides};
use super::broadcast::{common, sum_to};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};

/// Multiplications that are worth a task of their own.
const TASK: usize = 1 << 18;

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy)]
pub(super) struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    is_turned: bool,
}

impl<'a> MatrixView<'a> {
    /// A matrix of so many rows and columns.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        MatrixView {
            data: &data[..rows * columns],
            rows,
            columns,
            is_turned: false,
        }
    }

    /// Its transpose.
    pub(super) fn turned(self) -> Self {
        MatrixView {
            is_turned: !self.is_turned,
            ..self
        }
    }

    /// Itself, or its transpose.
    fn turned_if(self, condition: bool) -> Self {
        if condition { self.turned() } else { self }
    }

    fn view(self) -> MatRef<'a, f32> {
        let stored = MatRef::from_row_major_slice(self.data, self.rows, self.columns);
        if self.is_turned {
            stored.transpose()
        } else {
            stored
        }
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        match self.is_turned {
            true => (self.columns, self.rows),
            false => (self.rows, self.columns),
        }
    }
}

/// out = a · b, or out += a · b, on one core.
pub(super) fn multiply(out: &mut [f32], a: MatrixView, b: MatrixView, accum: Accum) {
    let (rows, columns) = (a.size().0, b.size().1);
    let out = MatMut::from_row_major_slice_mut(&mut out[..rows * columns], rows, columns);
    matmul(out, accum, a.view(), b.view(), 1.0, Par::Seq);
}

/// out = a · b on all cores: each task makes rows of its own, so that the result is the same on any number of them.
fn multiply_wide(out: &mut [f32], a: MatrixView, b: MatrixView) {
    let ((count, inner), columns) = (a.size(), b.size().1);
    if out.is_empty() {
        return;
    }
    if inner == 0 {
        return out.fill(0.0);
    }
    let piece = TASK.div_ceil((inner * columns).max(1)).clamp(16, 1024);
    let (a, b) = (a.view(), b.view());
    out.par_chunks_mut(piece * columns)
        .enumerate()
        .for_each(|(at, out)| {
            let rows = out.len() / columns;
            let part = a.submatrix(at * piece, 0, rows.min(count - at * piece), inner);
            let out = MatMut::from_row_major_slice_mut(out, rows, columns);
            matmul(out, Accum::Replace, part, b, 1.0, Par::Seq);
        });
}

/// A · B over the last two axes of both, all before them broadcast (NumPy's matmul).
pub struct MatMul;

/// How the matrices of a product lie.
struct BatchLayout {
    /// Extents of the result.
    dims: Vec<usize>,
    /// m × k times k × n.
    size: [usize; 3],
    /// Offset of the first and of the second matrix of each product.
    offsets: Vec<[usize; 2]>,
}

impl BatchLayout {
    fn new(a: &FloatArray, b: &FloatArray) -> Result<Self, Misfit> {
        let refusal = || Misfit(format!("no product of {:?} and {:?}", a.dims, b.dims));
        // A vector is one row before a matrix, and one column behind it.
        let left = if a.dims.len() == 1 {
            vec![1, a.dims[0]]
        } else {
            a.dims.clone()
        };
        let right = if b.dims.len() == 1 {
            vec![b.dims[0], 1]
        } else {
            b.dims.clone()
        };
        let (Some((batch_a, [m, k])), Some((batch_b, [inner, n]))) =
            (left.split_last_chunk::<2>(), right.split_last_chunk::<2>())
        else {
            return Err(refusal());
        };
        if k != inner {
            return Err(refusal());
        }
        let batch = common(batch_a, batch_b)?;
        let steps = [(batch_a, m * k), (batch_b, k * n)].map(|(own, size)| {
            let own_steps = strides(own);
            let mut steps = vec![0; batch.len() - own.len()];
            let steps_of = |(dim, step): (&usize, usize)| if *dim == 1 { 0 } else { step * size };
            steps.extend(own.iter().zip(own_steps).map(steps_of));
            steps
        });
        let mut offsets = Vec::new();
        // A last axis of extent 1, so that each row is one product.
        let padded = [batch.as_slice(), &[1]].concat();
        rows(
            &padded,
            &steps.map(|steps| [steps, vec![0]].concat()),
            |at| offsets.push(at),
        );
        let mut dims = batch;
        dims.extend((a.dims.len() > 1).then_some(*m));
        dims.extend((b.dims.len() > 1).then_some(*n));
        Ok(BatchLayout {
            dims,
            size: [*m, *k, *n],
            offsets,
        })
    }

    /// Whether all matrices of the second operand are one, so that those of the first are rows of one.
    fn is_linear(&self, b: &FloatArray) -> bool {
        b.dims.len() <= 2
    }

    /// As one product of many rows.
    fn flat(&self) -> [usize; 3] {
        let [m, k, n] = self.size;
        [m * self.offsets.len(), k, n]
    }
}

impl Function for MatMul {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let layout = BatchLayout::new(a, b)?;
        let mut out = FloatArray::zeros(&layout.dims);
        if layout.is_linear(b) {
            let [m, k, n] = layout.flat();
            multiply_wide(
                &mut out.data,
                MatrixView::new(&a.data, m, k),
                MatrixView::new(&b.data, k, n),
            );
            return Ok(out);
        }
        let [m, k, n] = layout.size;
        if m * n > 0 {
            out.data
                .par_chunks_mut(m * n)
                .zip(&layout.offsets)
                .for_each(|(out, [at_a, at_b])| {
                    let (a, b) = (&a.data[*at_a..], &b.data[*at_b..]);
                    multiply(
                        out,
                        MatrixView::new(a, m, k),
                        MatrixView::new(b, k, n),
                        Accum::Replace,
                    );
                });
        }
        Ok(out)
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let inner = inputs
            .first()
            .copied()
            .flatten()
            .and_then(|a| a.dims.last());
        output.data.len() * inner.copied().unwrap_or(1)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let (Some(a), Some(b)) = (point.input(0), point.input(1)) else {
            return Vec::new();
        };
        let Ok(layout) = BatchLayout::new(a, b) else {
            return Vec::new();
        };
        match layout.is_linear(b) {
            true => layout.pull_rows([a, b], point.gradient, wanted),
            false => layout.pull_each([a, b], point.gradient, wanted),
        }
    }
}

impl BatchLayout {
    /// Gradients by both factors where the second is one matrix.
    fn pull_rows(
        &self,
        [a, b]: [&FloatArray; 2],
        gradient: &FloatArray,
        wanted: &[bool],
    ) -> Vec<Option<FloatArray>> {
        let [m, k, n] = self.flat();
        let whole = MatrixView::new(&gradient.data, m, n);
        let by = |at: usize, dims: &[usize], left: MatrixView, right: MatrixView| {
            wants(wanted, at).then(|| {
                let mut out = FloatArray::zeros(dims);
                multiply_wide(&mut out.data, left, right);
                out
            })
        };
        let turned = |data, rows, columns| MatrixView::new(data, rows, columns).turned();
        vec![
            by(0, &a.dims, whole, turned(&b.data, k, n)),
            by(1, &b.dims, turned(&a.data, m, k), whole),
        ]
    }

    /// Gradients by both factors, product by product, summed where a matrix has part in several.
    fn pull_each(
        &self,
        [a, b]: [&FloatArray; 2],
        gradient: &FloatArray,
        wanted: &[bool],
    ) -> Vec<Option<FloatArray>> {
        let [m, k, n] = self.size;
        let matrices = usize::from(a.dims.len() > 1) + usize::from(b.dims.len() > 1);
        let batch = &self.dims[..self.dims.len() - matrices];
        let each =
            |size: [usize; 2], of: &FloatArray, make: &(dyn Fn(usize, &mut [f32]) + Sync)| {
                let mut out = FloatArray::zeros(&[batch, &size].concat());
                let pieces = out.data.par_chunks_mut((size[0] * size[1]).max(1));
                pieces.enumerate().for_each(|(at, out)| make(at, out));
                // A vector before a matrix is one row.
                let dims = match of.dims[..] {
                    [len] => vec![1, len],
                    _ => of.dims.clone(),
                };
                sum_to(out, &dims).reshaped(of.dims.clone())
            };
        let own = |at: usize| MatrixView::new(&gradient.data[at * m * n..], m, n);
        let by_first = |at: usize, out: &mut [f32]| {
            let b = MatrixView::new(&b.data[self.offsets[at][1]..], k, n).turned();
            multiply(out, own(at), b, Accum::Replace);
        };
        let by_second = |at: usize, out: &mut [f32]| {
            let a = MatrixView::new(&a.data[self.offsets[at][0]..], m, k).turned();
            multiply(out, a, own(at), Accum::Replace);
        };
        vec![
            wants(wanted, 0).then(|| each([m, k], a, &by_first)),
            wants(wanted, 1).then(|| each([k, n], b, &by_second)),
        ]
    }
}

/// α · A′ · B′ + β · C, either factor transposed or not. Operands: A, B, C.
pub struct Gemm {
    /// Whether A′ = Aᵀ, and B′ = Bᵀ.
    pub turned: [bool; 2],
    /// α.
    pub alpha: f32,
    /// β.
    pub beta: f32,
}

impl Gemm {
    fn factors<'a>(&self, inputs: &Arguments<'a>) -> Result<[MatrixView<'a>; 2], Misfit> {
        let one = |at: usize| {
            let array = operand(inputs, at)?;
            match array.dims[..] {
                [rows, columns] => {
                    Ok(MatrixView::new(&array.data, rows, columns).turned_if(self.turned[at]))
                }
                _ => Err(Misfit(format!("{:?} is no matrix", array.dims))),
            }
        };
        let [a, b] = [one(0)?, one(1)?];
        match a.size().1 == b.size().0 {
            true => Ok([a, b]),
            false => Err(Misfit(format!(
                "no product of {:?} and {:?}",
                a.size(),
                b.size()
            ))),
        }
    }

    /// The product of two matrices, times α.
    fn scaled(&self, left: MatrixView, right: MatrixView) -> FloatArray {
        let mut out = FloatArray::zeros(&[left.size().0, right.size().1]);
        multiply_wide(&mut out.data, left, right);
        if self.alpha != 1.0 {
            out = out.map(|x| x * self.alpha);
        }
        out
    }
}

impl Function for Gemm {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let [a, b] = self.factors(inputs)?;
        let out = self.scaled(a, b);
        match inputs.get(2).copied().flatten() {
            Some(c) => super::broadcast::zip(&out, c, |x, c| x + self.beta * c),
            None => Ok(out),
        }
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let inner = self.factors(inputs).map_or(1, |[a, _]| a.size().1);
        output.data.len() * inner
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let Ok([a, b]) = self.factors(point.inputs) else {
            return Vec::new();
        };
        let gradient = MatrixView::new(&point.gradient.data, a.size().0, b.size().1);
        // The gradient by a transposed factor is the transpose of that by the factor.
        let by = |at: usize, left: MatrixView, right: MatrixView| {
            wants(wanted, at).then(|| match self.turned[at] {
                true => self.scaled(right.turned(), left.turned()),
                false => self.scaled(left, right),
            })
        };
        let by_bias = point
            .input(2)
            .filter(|_| wants(wanted, 2))
            .map(|c| sum_to(point.gradient.clone(), &c.dims).map(|x| x * self.beta));
        vec![
            by(0, gradient, b.turned()),
            by(1, a.turned(), gradient),
            by_bias,
        ]
    }
}
