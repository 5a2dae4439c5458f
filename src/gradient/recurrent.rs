//! Recurrent layers, differentiated through time (Werbos 1990).
//!
//! Operands as ONNX has them: x (steps × batch × inputs), W (directions × gates·hidden × inputs), R (directions × gates·hidden ×
//! hidden), bias (directions × 2·gates·hidden), sequence lengths (left out), first hidden and cell state.

use faer::Accum;

use super::array::FloatArray;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::product::{MatrixView, multiply};

/// What a step does with its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Hochreiter and Schmidhuber 1997, gates in the order input, output, forget, cell.
    Lstm,
    /// Cho et al. 2014, gates in the order update, reset, hidden.
    Gru {
        /// Whether the reset gate comes behind the product with the hidden state.
        resets_product: bool,
    },
}

/// A recurrent layer.
#[derive(Clone, Debug)]
pub struct RecurrentLayer {
    /// What a step does.
    pub cell: CellKind,
    /// For each direction whether it starts at the last step.
    pub reversed: Vec<bool>,
    /// Whether the value is the last hidden state alone (directions × batch × hidden), instead of all (steps × directions × batch
    /// × hidden).
    pub gives_last: bool,
}

/// Extents: steps, batch, inputs, hidden units.
#[derive(Clone, Copy)]
pub(super) struct StepExtents {
    pub steps: usize,
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
}

/// One direction's operands.
#[derive(Clone, Copy)]
pub(super) struct DirectionArrays<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub r: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub state: [Option<&'a [f32]>; 2],
}

/// What a pass over the steps left, step by step in the order of time within the direction.
pub(super) struct Trace {
    /// Gates after their functions (batch × gates·hidden).
    pub gates: Vec<Vec<f32>>,
    /// Of a GRU: the hidden state's part of the last gate, before the reset gate.
    pub inner: Vec<Vec<f32>>,
    /// Hidden states, the first one before the first step.
    pub hidden: Vec<Vec<f32>>,
    /// Cell states, likewise.
    pub cell: Vec<Vec<f32>>,
}

/// Gradients of one direction.
pub(super) struct Pulled {
    pub x: Vec<f32>,
    pub w: Vec<f32>,
    pub r: Vec<f32>,
    pub bias: Vec<f32>,
    pub state: [Vec<f32>; 2],
}

impl CellKind {
    pub(super) fn gates(self) -> usize {
        match self {
            CellKind::Lstm => 4,
            CellKind::Gru { .. } => 3,
        }
    }
}

impl RecurrentLayer {
    fn extents(&self, inputs: &Arguments) -> Result<StepExtents, Misfit> {
        let (x, w, r) = (
            operand(inputs, 0)?,
            operand(inputs, 1)?,
            operand(inputs, 2)?,
        );
        let refusal = || {
            Misfit(format!(
                "no recurrence of {:?} by {:?} and {:?}",
                x.dims, w.dims, r.dims
            ))
        };
        let ([steps, batch, width], [d, rows, columns], [d_r, rows_r, hidden]) =
            (&x.dims[..], &w.dims[..], &r.dims[..])
        else {
            return Err(refusal());
        };
        let count = self.reversed.len();
        let fits = [*d, *d_r] == [count, count]
            && columns == width
            && rows == rows_r
            && *rows == self.cell.gates() * hidden;
        fits.then_some(StepExtents {
            steps: *steps,
            batch: *batch,
            inputs: *width,
            hidden: *hidden,
        })
        .ok_or_else(refusal)
    }

    fn side<'a>(
        &self,
        inputs: &Arguments<'a>,
        direction: usize,
    ) -> Result<DirectionArrays<'a>, Misfit> {
        let part = |at: usize| -> Option<&'a [f32]> {
            let array = inputs.get(at).copied().flatten()?;
            let size = array.data.len() / self.reversed.len();
            array.data.get(direction * size..(direction + 1) * size)
        };
        let missing = || Misfit("a weight of a recurrence is missing".to_owned());
        Ok(DirectionArrays {
            x: &operand(inputs, 0)?.data,
            w: part(1).ok_or_else(missing)?,
            r: part(2).ok_or_else(missing)?,
            bias: part(3),
            state: [part(5), part(6)],
        })
    }

    /// The step of the sequence that is computed as number `at`.
    fn time(&self, direction: usize, at: usize, steps: usize) -> usize {
        if self.reversed[direction] {
            steps - 1 - at
        } else {
            at
        }
    }

    fn trace(&self, e: StepExtents, side: DirectionArrays, direction: usize) -> Trace {
        let (gates, size) = (self.cell.gates() * e.hidden, e.batch * e.hidden);
        let state = |at: usize| side.state[at].map_or_else(|| vec![0.0; size], <[f32]>::to_vec);
        let mut trace = Trace {
            gates: Vec::new(),
            inner: Vec::new(),
            hidden: vec![state(0)],
            cell: vec![state(1)],
        };
        let turned = |weight, columns| MatrixView::new(weight, gates, columns).turned();
        for at in 0..e.steps {
            let x = &side.x[self.time(direction, at, e.steps) * e.batch * e.inputs..];
            let (mut by_x, mut by_h) = (vec![0.0; e.batch * gates], vec![0.0; e.batch * gates]);
            multiply(
                &mut by_x,
                MatrixView::new(x, e.batch, e.inputs),
                turned(side.w, e.inputs),
                Accum::Replace,
            );
            let before = &trace.hidden[at];
            multiply(
                &mut by_h,
                MatrixView::new(before, e.batch, e.hidden),
                turned(side.r, e.hidden),
                Accum::Replace,
            );
            if let Some(bias) = side.bias {
                for row in 0..e.batch {
                    for gate in 0..gates {
                        by_x[row * gates + gate] += bias[gate];
                        by_h[row * gates + gate] += bias[gates + gate];
                    }
                }
            }
            self.cell.advance(e, side, &mut trace, [by_x, by_h]);
        }
        trace
    }

    /// The gradient by a hidden state of the direction: that of the value at this step.
    fn seed(
        &self,
        e: StepExtents,
        direction: usize,
        at: usize,
        gradient: &[f32],
        into: &mut [f32],
    ) {
        let size = e.batch * e.hidden;
        let from = match self.gives_last {
            true if at + 1 < e.steps => return,
            true => direction * size,
            false => (self.time(direction, at, e.steps) * self.reversed.len() + direction) * size,
        };
        into.iter_mut()
            .zip(&gradient[from..from + size])
            .for_each(|(to, from)| *to += from);
    }

    fn pull(
        &self,
        e: StepExtents,
        side: DirectionArrays,
        direction: usize,
        gradient: &[f32],
    ) -> Pulled {
        let trace = self.trace(e, side, direction);
        let (h, gates, size) = (e.hidden, self.cell.gates() * e.hidden, e.batch * e.hidden);
        let mut pulled = Pulled {
            x: vec![0.0; side.x.len()],
            w: vec![0.0; side.w.len()],
            r: vec![0.0; side.r.len()],
            bias: vec![0.0; 2 * gates],
            state: [vec![0.0; size], vec![0.0; size]],
        };
        for at in (0..e.steps).rev() {
            self.seed(e, direction, at, gradient, &mut pulled.state[0]);
            let [by_x, by_h] = self.cell.retreat(e, side, &trace, at, &mut pulled);
            let time = self.time(direction, at, e.steps) * e.batch * e.inputs;
            let rows = MatrixView::new(&by_x, e.batch, gates);
            let x = MatrixView::new(&side.x[time..], e.batch, e.inputs);
            multiply(&mut pulled.w, rows.turned(), x, Accum::Add);
            multiply(
                &mut pulled.x[time..],
                rows,
                MatrixView::new(side.w, gates, e.inputs),
                Accum::Add,
            );
            let through = MatrixView::new(&by_h, e.batch, gates);
            multiply(
                &mut pulled.state[0],
                through,
                MatrixView::new(side.r, gates, h),
                Accum::Add,
            );
            let before = MatrixView::new(&trace.hidden[at], e.batch, h);
            multiply(&mut pulled.r, through.turned(), before, Accum::Add);
            for row in 0..e.batch {
                for gate in 0..gates {
                    pulled.bias[gate] += by_x[row * gates + gate];
                    pulled.bias[gates + gate] += match self.cell {
                        CellKind::Gru {
                            resets_product: false,
                        } => by_x[row * gates + gate],
                        _ => by_h[row * gates + gate],
                    };
                }
            }
        }
        pulled
    }
}

impl Function for RecurrentLayer {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let e = self.extents(inputs)?;
        let (count, size) = (self.reversed.len(), e.batch * e.hidden);
        let dims = match self.gives_last {
            true => vec![count, e.batch, e.hidden],
            false => vec![e.steps, count, e.batch, e.hidden],
        };
        let mut out = FloatArray::zeros(&dims);
        for direction in 0..count {
            let trace = self.trace(e, self.side(inputs, direction)?, direction);
            for (at, hidden) in trace.hidden.iter().enumerate().skip(1) {
                let to = match self.gives_last {
                    true if at < e.steps => continue,
                    true => direction * size,
                    false => (self.time(direction, at - 1, e.steps) * count + direction) * size,
                };
                out.data[to..to + size].copy_from_slice(hidden);
            }
        }
        Ok(out)
    }

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let weights = [1, 2].map(|at| {
            inputs
                .get(at)
                .copied()
                .flatten()
                .map_or(0, |weight| weight.data.len())
        });
        let steps = inputs
            .first()
            .copied()
            .flatten()
            .and_then(|x| x.dims.first())
            .copied()
            .unwrap_or(1);
        weights.iter().sum::<usize>()
            * steps
            * output.dims.iter().rev().nth(1).copied().unwrap_or(1)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let Ok(e) = self.extents(point.inputs) else {
            return Vec::new();
        };
        let mut sums: Vec<Option<FloatArray>> = point
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                input
                    .filter(|_| wants(wanted, at))
                    .map(|input| FloatArray::zeros(&input.dims))
            })
            .collect();
        for direction in 0..self.reversed.len() {
            let Ok(side) = self.side(point.inputs, direction) else {
                return Vec::new();
            };
            let pulled = self.pull(e, side, direction, &point.gradient.data);
            let parts = [
                (0, &pulled.x),
                (1, &pulled.w),
                (2, &pulled.r),
                (3, &pulled.bias),
                (5, &pulled.state[0]),
                (6, &pulled.state[1]),
            ];
            for (at, part) in parts {
                let Some(Some(sum)) = sums.get_mut(at) else {
                    continue;
                };
                // Data are read by all directions; all else has a part for each.
                let from = if at == 0 { 0 } else { direction * part.len() };
                sum.data[from..]
                    .iter_mut()
                    .zip(part)
                    .for_each(|(to, from)| *to += from);
            }
        }
        sums
    }
}
