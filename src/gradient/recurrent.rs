//! Recurrent layers, differentiated through time (Werbos 1990).
//!
//! Operands as ONNX has them: x (steps × batch × inputs), W (directions × gates·hidden × inputs), R (directions × gates·hidden ×
//! hidden), bias (directions × 2·gates·hidden), sequence lengths (left out), first hidden and cell state.

use faer::Accum;

use super::array::Array;
use super::function::{Function, Misfit, Operands, Point, operand, wants};
use super::map::sigmoid;
use super::product::{Matrix, multiply};

/// What a step does with its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
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
pub struct Recurrent {
    /// What a step does.
    pub cell: Cell,
    /// For each direction whether it starts at the last step.
    pub reversed: Vec<bool>,
    /// Whether the value is the last hidden state alone (directions × batch × hidden), instead of all (steps × directions × batch
    /// × hidden).
    pub gives_last: bool,
}

/// Extents: steps, batch, inputs, hidden units.
#[derive(Clone, Copy)]
struct Extents {
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
}

/// One direction's operands.
#[derive(Clone, Copy)]
struct Side<'a> {
    x: &'a [f32],
    w: &'a [f32],
    r: &'a [f32],
    bias: Option<&'a [f32]>,
    state: [Option<&'a [f32]>; 2],
}

/// What a pass over the steps left, step by step in the order of time within the direction.
struct Trace {
    /// Gates after their functions (batch × gates·hidden).
    gates: Vec<Vec<f32>>,
    /// Of a GRU: the hidden state's part of the last gate, before the reset gate.
    inner: Vec<Vec<f32>>,
    /// Hidden states, the first one before the first step.
    hidden: Vec<Vec<f32>>,
    /// Cell states, likewise.
    cell: Vec<Vec<f32>>,
}

/// Gradients of one direction.
struct Pulled {
    x: Vec<f32>,
    w: Vec<f32>,
    r: Vec<f32>,
    bias: Vec<f32>,
    state: [Vec<f32>; 2],
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
        }
    }
}

impl Recurrent {
    fn extents(&self, inputs: &Operands) -> Result<Extents, Misfit> {
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
        fits.then_some(Extents {
            steps: *steps,
            batch: *batch,
            inputs: *width,
            hidden: *hidden,
        })
        .ok_or_else(refusal)
    }

    fn side<'a>(&self, inputs: &Operands<'a>, direction: usize) -> Result<Side<'a>, Misfit> {
        let part = |at: usize| -> Option<&'a [f32]> {
            let array = inputs.get(at).copied().flatten()?;
            let size = array.data.len() / self.reversed.len();
            array.data.get(direction * size..(direction + 1) * size)
        };
        let missing = || Misfit("a weight of a recurrence is missing".to_owned());
        Ok(Side {
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

    fn trace(&self, e: Extents, side: Side, direction: usize) -> Trace {
        let (gates, size) = (self.cell.gates() * e.hidden, e.batch * e.hidden);
        let state = |at: usize| side.state[at].map_or_else(|| vec![0.0; size], <[f32]>::to_vec);
        let mut trace = Trace {
            gates: Vec::new(),
            inner: Vec::new(),
            hidden: vec![state(0)],
            cell: vec![state(1)],
        };
        let turned = |weight, columns| Matrix::new(weight, gates, columns).turned();
        for at in 0..e.steps {
            let x = &side.x[self.time(direction, at, e.steps) * e.batch * e.inputs..];
            let (mut by_x, mut by_h) = (vec![0.0; e.batch * gates], vec![0.0; e.batch * gates]);
            multiply(
                &mut by_x,
                Matrix::new(x, e.batch, e.inputs),
                turned(side.w, e.inputs),
                Accum::Replace,
            );
            let before = &trace.hidden[at];
            multiply(
                &mut by_h,
                Matrix::new(before, e.batch, e.hidden),
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
            self.advance(e, side, &mut trace, [by_x, by_h]);
        }
        trace
    }

    /// One step, from the parts of its gates that come from the input and from the hidden state.
    fn advance(
        &self,
        e: Extents,
        side: Side,
        trace: &mut Trace,
        [mut by_x, mut by_h]: [Vec<f32>; 2],
    ) {
        let (h, gates) = (e.hidden, self.cell.gates() * e.hidden);
        let (Some(before), Some(cell)) = (trace.hidden.last(), trace.cell.last()) else {
            return;
        };
        let (mut hidden, mut next_cell) = (before.clone(), cell.clone());
        if let Cell::Gru {
            resets_product: false,
        } = self.cell
        {
            // The product with the state that the reset gate has let through.
            let mut reset = vec![0.0; e.batch * h];
            for row in 0..e.batch {
                for unit in 0..h {
                    let at = row * gates + h + unit;
                    reset[row * h + unit] = sigmoid(by_x[at] + by_h[at]) * before[row * h + unit];
                }
            }
            let mut product = vec![0.0; e.batch * h];
            let weight = Matrix::new(&side.r[2 * h * h..], h, h).turned();
            multiply(
                &mut product,
                Matrix::new(&reset, e.batch, h),
                weight,
                Accum::Replace,
            );
            for row in 0..e.batch {
                for unit in 0..h {
                    let bias = side.bias.map_or(0.0, |bias| bias[gates + 2 * h + unit]);
                    by_h[row * gates + 2 * h + unit] = product[row * h + unit] + bias;
                }
            }
        }
        for row in 0..e.batch {
            for unit in 0..h {
                let (at, own) = (|gate: usize| row * gates + gate * h + unit, row * h + unit);
                match self.cell {
                    Cell::Lstm => {
                        let pre = |gate: usize| by_x[at(gate)] + by_h[at(gate)];
                        let [i, o, f] = [0, 1, 2].map(|gate| sigmoid(pre(gate)));
                        let g = pre(3).tanh();
                        next_cell[own] = f * cell[own] + i * g;
                        hidden[own] = o * next_cell[own].tanh();
                        (by_x[at(0)], by_x[at(1)], by_x[at(2)], by_x[at(3)]) = (i, o, f, g);
                    }
                    Cell::Gru { resets_product } => {
                        let [z, r] = [0, 1].map(|gate| sigmoid(by_x[at(gate)] + by_h[at(gate)]));
                        let inner = by_h[at(2)];
                        let n =
                            (by_x[at(2)] + if resets_product { r * inner } else { inner }).tanh();
                        hidden[own] = (1.0 - z) * n + z * before[own];
                        (by_x[at(0)], by_x[at(1)], by_x[at(2)]) = (z, r, n);
                    }
                }
            }
        }
        trace.gates.push(by_x);
        trace.inner.push(by_h);
        trace.hidden.push(hidden);
        trace.cell.push(next_cell);
    }

    /// The gradient by a hidden state of the direction: that of the value at this step.
    fn seed(&self, e: Extents, direction: usize, at: usize, gradient: &[f32], into: &mut [f32]) {
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

    fn pull(&self, e: Extents, side: Side, direction: usize, gradient: &[f32]) -> Pulled {
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
            let [by_x, by_h] = self.retreat(e, side, &trace, at, &mut pulled);
            let time = self.time(direction, at, e.steps) * e.batch * e.inputs;
            let rows = Matrix::new(&by_x, e.batch, gates);
            let x = Matrix::new(&side.x[time..], e.batch, e.inputs);
            multiply(&mut pulled.w, rows.turned(), x, Accum::Add);
            multiply(
                &mut pulled.x[time..],
                rows,
                Matrix::new(side.w, gates, e.inputs),
                Accum::Add,
            );
            let through = Matrix::new(&by_h, e.batch, gates);
            multiply(
                &mut pulled.state[0],
                through,
                Matrix::new(side.r, gates, h),
                Accum::Add,
            );
            let before = Matrix::new(&trace.hidden[at], e.batch, h);
            multiply(&mut pulled.r, through.turned(), before, Accum::Add);
            for row in 0..e.batch {
                for gate in 0..gates {
                    pulled.bias[gate] += by_x[row * gates + gate];
                    pulled.bias[gates + gate] += match self.cell {
                        Cell::Gru {
                            resets_product: false,
                        } => by_x[row * gates + gate],
                        _ => by_h[row * gates + gate],
                    };
                }
            }
        }
        pulled
    }

    /// Derivatives by the parts of a step's gates, before their functions, that come from the input and from the hidden state.
    /// What passes the gates by is left in the states' gradients.
    fn retreat(
        &self,
        e: Extents,
        side: Side,
        trace: &Trace,
        step: usize,
        pulled: &mut Pulled,
    ) -> [Vec<f32>; 2] {
        let (h, gates) = (e.hidden, self.cell.gates() * e.hidden);
        let (values, before) = (&trace.gates[step], &trace.hidden[step]);
        let (mut by_x, mut by_h) = (vec![0.0; e.batch * gates], vec![0.0; e.batch * gates]);
        let [by_hidden, by_cell] = &mut pulled.state;
        for row in 0..e.batch {
            for unit in 0..h {
                let (at, own) = (|gate: usize| row * gates + gate * h + unit, row * h + unit);
                let dh = by_hidden[own];
                match self.cell {
                    Cell::Lstm => {
                        let [i, o, f, g] = [0, 1, 2, 3].map(|gate| values[at(gate)]);
                        let tanh = trace.cell[step + 1][own].tanh();
                        let dc = by_cell[own] + dh * o * (1.0 - tanh * tanh);
                        by_x[at(0)] = dc * g * i * (1.0 - i);
                        by_x[at(1)] = dh * tanh * o * (1.0 - o);
                        by_x[at(2)] = dc * trace.cell[step][own] * f * (1.0 - f);
                        by_x[at(3)] = dc * i * (1.0 - g * g);
                        (by_cell[own], by_hidden[own]) = (dc * f, 0.0);
                    }
                    Cell::Gru { resets_product } => {
                        let [z, r, n] = [0, 1, 2].map(|gate| values[at(gate)]);
                        let dn = dh * (1.0 - z) * (1.0 - n * n);
                        by_x[at(0)] = dh * (before[own] - n) * z * (1.0 - z);
                        by_x[at(2)] = dn;
                        by_h[at(2)] = if resets_product { dn * r } else { dn };
                        by_x[at(1)] = dn * trace.inner[step][at(2)] * r * (1.0 - r);
                        by_hidden[own] = dh * z;
                    }
                }
            }
        }
        match self.cell {
            Cell::Lstm => by_h.copy_from_slice(&by_x),
            Cell::Gru { resets_product } => {
                if !resets_product {
                    self.reset(e, side, trace, step, [&mut by_x, &mut by_h], pulled);
                }
                for row in 0..e.batch {
                    let from = row * gates;
                    by_h[from..from + 2 * h].copy_from_slice(&by_x[from..from + 2 * h]);
                }
            }
        }
        [by_x, by_h]
    }

    /// Of a GRU that resets the state before its product: the way through that product.
    fn reset(
        &self,
        e: Extents,
        side: Side,
        trace: &Trace,
        step: usize,
        [by_x, by_h]: [&mut Vec<f32>; 2],
        pulled: &mut Pulled,
    ) {
        let (h, gates) = (e.hidden, self.cell.gates() * e.hidden);
        let (values, before) = (&trace.gates[step], &trace.hidden[step]);
        let (mut last, mut let_through) = (vec![0.0; e.batch * h], vec![0.0; e.batch * h]);
        for row in 0..e.batch {
            for unit in 0..h {
                last[row * h + unit] = by_x[row * gates + 2 * h + unit];
                let_through[row * h + unit] =
                    values[row * gates + h + unit] * before[row * h + unit];
            }
        }
        let mut by_state = vec![0.0; e.batch * h];
        let rows = Matrix::new(&last, e.batch, h);
        multiply(
            &mut by_state,
            rows,
            Matrix::new(&side.r[2 * h * h..], h, h),
            Accum::Replace,
        );
        multiply(
            &mut pulled.r[2 * h * h..],
            rows.turned(),
            Matrix::new(&let_through, e.batch, h),
            Accum::Add,
        );
        for row in 0..e.batch {
            for unit in 0..h {
                let (own, at) = (row * h + unit, row * gates + h + unit);
                let r = values[at];
                by_x[at] = by_state[own] * before[own] * r * (1.0 - r);
                pulled.state[0][own] += by_state[own] * r;
                by_h[row * gates + 2 * h + unit] = 0.0;
            }
        }
    }
}

impl Function for Recurrent {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let e = self.extents(inputs)?;
        let (count, size) = (self.reversed.len(), e.batch * e.hidden);
        let dims = match self.gives_last {
            true => vec![count, e.batch, e.hidden],
            false => vec![e.steps, count, e.batch, e.hidden],
        };
        let mut out = Array::zeros(&dims);
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

    fn work(&self, inputs: &Operands, output: &Array) -> usize {
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

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        let Ok(e) = self.extents(point.inputs) else {
            return Vec::new();
        };
        let mut sums: Vec<Option<Array>> = point
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                input
                    .filter(|_| wants(wanted, at))
                    .map(|input| Array::zeros(&input.dims))
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
