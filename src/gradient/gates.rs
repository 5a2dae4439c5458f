//! What a step of a recurrent layer does with its gates, and the way back.

use faer::Accum;

use super::map::sigmoid;
use super::product::{MatrixView, multiply};
use super::recurrent::{CellKind, DirectionArrays, Pulled, StepExtents, Trace};

impl CellKind {
    /// Whether the reset gate lets the hidden state through before its product.
    fn resets_state(self) -> bool {
        self == CellKind::Gru {
            resets_product: false,
        }
    }

    /// One step, from the parts of its gates that come from the input and from the hidden state.
    pub(super) fn advance(
        self,
        e: StepExtents,
        side: DirectionArrays,
        trace: &mut Trace,
        [mut by_x, mut by_h]: [Vec<f32>; 2],
    ) {
        let (h, gates) = (e.hidden, self.gates() * e.hidden);
        let (Some(before), Some(cell)) = (trace.hidden.last(), trace.cell.last()) else {
            return;
        };
        let (mut hidden, mut next_cell) = (before.clone(), cell.clone());
        if self.resets_state() {
            by_h = reset_product(e, side, before, &by_x, by_h);
        }
        for row in 0..e.batch {
            for unit in 0..h {
                let (at, own) = (|gate: usize| row * gates + gate * h + unit, row * h + unit);
                match self {
                    CellKind::Lstm => {
                        let pre = |gate: usize| by_x[at(gate)] + by_h[at(gate)];
                        let [i, o, f] = [0, 1, 2].map(|gate| sigmoid(pre(gate)));
                        let g = pre(3).tanh();
                        next_cell[own] = f * cell[own] + i * g;
                        hidden[own] = o * next_cell[own].tanh();
                        (by_x[at(0)], by_x[at(1)], by_x[at(2)], by_x[at(3)]) = (i, o, f, g);
                    }
                    CellKind::Gru { resets_product } => {
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

    /// Derivatives by the parts of a step's gates, before their functions, that come from the input and from the hidden state.
    /// What passes the gates by is left in the states' gradients.
    pub(super) fn retreat(
        self,
        e: StepExtents,
        side: DirectionArrays,
        trace: &Trace,
        step: usize,
        pulled: &mut Pulled,
    ) -> [Vec<f32>; 2] {
        let (h, gates) = (e.hidden, self.gates() * e.hidden);
        let (values, before) = (&trace.gates[step], &trace.hidden[step]);
        let (mut by_x, mut by_h) = (vec![0.0; e.batch * gates], vec![0.0; e.batch * gates]);
        let [by_hidden, by_cell] = &mut pulled.state;
        for row in 0..e.batch {
            for unit in 0..h {
                let (at, own) = (|gate: usize| row * gates + gate * h + unit, row * h + unit);
                let dh = by_hidden[own];
                match self {
                    CellKind::Lstm => {
                        let [i, o, f, g] = [0, 1, 2, 3].map(|gate| values[at(gate)]);
                        let tanh = trace.cell[step + 1][own].tanh();
                        let dc = by_cell[own] + dh * o * (1.0 - tanh * tanh);
                        by_x[at(0)] = dc * g * i * (1.0 - i);
                        by_x[at(1)] = dh * tanh * o * (1.0 - o);
                        by_x[at(2)] = dc * trace.cell[step][own] * f * (1.0 - f);
                        by_x[at(3)] = dc * i * (1.0 - g * g);
                        (by_cell[own], by_hidden[own]) = (dc * f, 0.0);
                    }
                    CellKind::Gru { resets_product } => {
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
        match self {
            CellKind::Lstm => by_h.copy_from_slice(&by_x),
            CellKind::Gru { resets_product } => {
                if !resets_product {
                    self.reset(e, side, [values, before], [&mut by_x, &mut by_h], pulled);
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
        self,
        e: StepExtents,
        side: DirectionArrays,
        [values, before]: [&[f32]; 2],
        [by_x, by_h]: [&mut Vec<f32>; 2],
        pulled: &mut Pulled,
    ) {
        let (h, gates) = (e.hidden, self.gates() * e.hidden);
        let (mut last, mut let_through) = (vec![0.0; e.batch * h], vec![0.0; e.batch * h]);
        for row in 0..e.batch {
            for unit in 0..h {
                last[row * h + unit] = by_x[row * gates + 2 * h + unit];
                let_through[row * h + unit] =
                    values[row * gates + h + unit] * before[row * h + unit];
            }
        }
        let mut by_state = vec![0.0; e.batch * h];
        let rows = MatrixView::new(&last, e.batch, h);
        multiply(
            &mut by_state,
            rows,
            MatrixView::new(&side.r[2 * h * h..], h, h),
            Accum::Replace,
        );
        multiply(
            &mut pulled.r[2 * h * h..],
            rows.turned(),
            MatrixView::new(&let_through, e.batch, h),
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

/// A GRU's part of the last gate from the hidden state, where the reset gate lets that through before the product.
fn reset_product(
    e: StepExtents,
    side: DirectionArrays,
    before: &[f32],
    by_x: &[f32],
    mut by_h: Vec<f32>,
) -> Vec<f32> {
    let (h, gates) = (e.hidden, 3 * e.hidden);
    let mut reset = vec![0.0; e.batch * h];
    for row in 0..e.batch {
        for unit in 0..h {
            let at = row * gates + h + unit;
            reset[row * h + unit] = sigmoid(by_x[at] + by_h[at]) * before[row * h + unit];
        }
    }
    let mut product = vec![0.0; e.batch * h];
    let weight = MatrixView::new(&side.r[2 * h * h..], h, h).turned();
    multiply(
        &mut product,
        MatrixView::new(&reset, e.batch, h),
        weight,
        Accum::Replace,
    );
    for row in 0..e.batch {
        for unit in 0..h {
            let bias = side.bias.map_or(0.0, |bias| bias[gates + 2 * h + unit]);
            by_h[row * gates + 2 * h + unit] = product[row * h + unit] + bias;
        }
    }
    by_h
}
