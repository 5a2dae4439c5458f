//! Recurrent layers. A hidden unit is one index in every gate of `W`, `R` and `B`, in the states and in the peepholes; `R` holds
//! it twice, for the unit is computed (its rows) and read by all units of the next step (its columns).

use super::fit::{expect, frozen_misfit, unless_ranked};
use super::frozen::outputs;
use super::meaning::Recurrence;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// LSTM, GRU, RNN. Exact for each: unit j of the last step enters the next one only through column j of `R` (GRU: scaled by its
/// reset gate, before the product or after it), and its own cell state and peepholes only itself.
struct Recurrent {
    /// How many blocks of `hidden_size` rows `W` and `R` hold.
    gates: i64,
}

/// The extents of a recurrent layer.
struct RecurrentExtents {
    /// Directions.
    d: Dim,
    /// Time steps.
    t: Dim,
    /// Batch.
    b: Dim,
    /// Input features.
    i: Dim,
    /// Hidden units.
    h: Dim,
    /// Whether the batch comes first in the data (`layout = 1`).
    batch_first: bool,
}

const STEPS: Reason = Reason::operator("time steps of a recurrence");
const DIRECTIONS: Reason = Reason::structure("directions of a recurrence");
const GATES: Reason = Reason::structure("gates of a recurrence");

/// Reads the extents; `None` when the rank of the data or of the weights is unknown. With `transposed`, the weights' gates
/// come last.
fn extents(
    node: &NodeView,
    gates: i64,
    transposed: bool,
) -> Result<Option<RecurrentExtents>, InferError> {
    let (Some(x), Some(w), Some(r)) = (node.shape(0), node.shape(1), node.shape(2)) else {
        return Ok(None);
    };
    let ([first, second, i], [w_d, w_1, w_2], [r_d, r_1, r_2]) = (x, w, r) else {
        return Err(InferError(format!(
            "X, W, R have {}, {}, {} axes, 3 each are expected",
            x.len(),
            w.len(),
            r.len()
        )));
    };
    let both = node.string("direction") == Some("bidirectional");
    let d = Dim::Num(if both { 2 } else { 1 });
    let (w_rows, w_columns, r_rows, r_columns) = if transposed {
        (w_2, w_1, r_2, r_1)
    } else {
        (w_1, w_2, r_1, r_2)
    };
    let h = node
        .int("hidden_size")
        .map_or_else(|| r_columns.clone(), Dim::Num);
    let rows = &h * &Dim::Num(gates);
    let pairs = [
        (w_d, &d, "directions of W"),
        (r_d, &d, "directions of R"),
        (w_rows, &rows, "rows of W"),
        (w_columns, i, "columns of W"),
        (r_rows, &rows, "rows of R"),
        (r_columns, &h, "columns of R"),
    ];
    if let Some((found, wanted, what)) = pairs
        .into_iter()
        .find(|(found, wanted, _)| found.differs(wanted))
    {
        return Err(InferError(format!(
            "{what}: {found}, {wanted} are expected"
        )));
    }
    let batch_first = node.int("layout").unwrap_or(0) != 0;
    let (t, b) = if batch_first {
        (second, first)
    } else {
        (first, second)
    };
    let extents = RecurrentExtents {
        t: t.clone(),
        b: b.clone(),
        i: i.clone(),
        d,
        h,
        batch_first,
    };
    extents.check(node, &rows)?;
    Ok(Some(extents))
}

impl RecurrentExtents {
    /// Holds the optional inputs against the extents; `rows` is how many rows the weights of a direction have.
    fn check(&self, node: &NodeView, rows: &Dim) -> Result<(), InferError> {
        let RecurrentExtents { d, b, h, .. } = self;
        expect(node, 3, &[d, &(rows + rows)])?;
        expect(node, 4, &[b])?;
        let state = if self.batch_first {
            [b, d, h]
        } else {
            [d, b, h]
        };
        expect(node, 5, &state)?;
        expect(node, 6, &state)?;
        expect(node, 7, &[d, &(h * &Dim::Num(3))])
    }
}

fn facts(node: &NodeView, extents: Option<RecurrentExtents>) -> Vec<Fact> {
    let dtype = node.dtype(0);
    let Some(RecurrentExtents {
        d,
        t,
        b,
        h,
        batch_first,
        ..
    }) = extents
    else {
        return outputs(
            node,
            (0..3).map(|_| Fact {
                dtype,
                ..Fact::default()
            }),
        );
    };
    let (y, last) = match batch_first {
        true => (vec![b.clone(), t, d.clone(), h.clone()], vec![b, d, h]),
        false => (vec![t, d.clone(), b.clone(), h.clone()], vec![d, b, h]),
    };
    outputs(
        node,
        [
            Fact::new(dtype, y),
            Fact::new(dtype, last.clone()),
            Fact::new(dtype, last),
        ],
    )
}

/// The two products of a recurrent layer: over input features `i`, and over hidden units `h`.
fn sums(builder: &mut Builder, node: &NodeView, products: &[LabelId], [i, h]: [LabelId; 2]) {
    let term = |data, weight, summed: LabelId| Term {
        data,
        weight: Some(weight),
        zero: None,
        labels: products.iter().copied().chain([summed]).collect(),
        summed: vec![summed],
        window: None,
    };
    builder.term(term(Port::In(0), Port::In(1), i));
    // The hidden state inside: the output that holds it stands for it.
    let hidden = (0..3)
        .find(|output| node.output(*output).is_some())
        .unwrap_or(0);
    builder.term(term(Port::Out(hidden as u32), Port::In(2), h));
}

impl Operator for Recurrent {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(facts(node, extents(node, self.gates, false)?))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(extents)) = extents(node, self.gates, false) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let d = builder.fixed("D", extents.d, DIRECTIONS);
        let t = builder.fixed("t", extents.t, STEPS);
        let b = builder.free("b", extents.b);
        let i = builder.free("i", extents.i);
        let h = builder.free("h", extents.h);
        let gates = (self.gates > 1).then(|| builder.fixed("", self.gates, GATES));
        let rows = gates.map_or_else(|| Layout::from(h), |gates| Layout::product(&[gates, h]));
        let biases = builder.fixed("", 2 * self.gates, GATES);
        let peepholes = builder.fixed("", 3i64, GATES);
        let (x, state, y) = match extents.batch_first {
            true => ([b, t, i], [b, d, h], [b, t, d, h]),
            false => ([t, b, i], [d, b, h], [t, d, b, h]),
        };
        builder.port(Port::In(0), "x", x);
        builder.port(Port::In(1), "w", [d.into(), rows.clone(), i.into()]);
        builder.port(Port::In(2), "r", [d.into(), rows, h.into()]);
        builder.port(
            Port::In(3),
            "bias",
            [d.into(), Layout::product(&[biases, h])],
        );
        builder.port(Port::In(4), "lengths", [b]);
        builder.port(Port::In(5), "h0", state);
        builder.port(Port::In(6), "c0", state);
        builder.port(
            Port::In(7),
            "p",
            [d.into(), Layout::product(&[peepholes, h])],
        );
        builder.port(Port::Out(0), "y", y);
        builder.port(Port::Out(1), "yh", state);
        builder.port(Port::Out(2), "yc", state);
        let products: Vec<LabelId> = [d, t, b].into_iter().chain(gates).chain([h]).collect();
        sums(&mut builder, node, &products, [i, h]);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        set_hidden_size(node, cut, edit)
    }
}

/// com.microsoft's LSTM with weights of a byte, gates last. Data and hidden state are quantized by their ranges: a hidden
/// unit takes part in the range of all, so it stays; an input feature that is zero does not (a range always holds zero), so
/// features go, silenced in the data and not only in the weight.
struct QuantizedLstm;

/// Describes what a [`QuantizedLstm`] has beside its weights: bias, peepholes, and the scales and zero points of the weights, one
/// for each direction or for each of its columns.
fn beside(builder: &mut Builder, node: &NodeView, d: LabelId, gates: LabelId, h: LabelId) {
    for (input, name, rows) in [(3, "bias", 8i64), (7, "p", 3)] {
        let rows = builder.fixed("", rows, GATES);
        let axes = [d.into(), Layout::product(&[rows, h])];
        builder.port(Port::In(input), name, axes);
    }
    let axes = [d.into(), Layout::product(&[gates, h])];
    let weights = [node.shape(1), node.shape(1), node.shape(2), node.shape(2)];
    for ((input, name), weight) in (8..).zip(["ws", "wz", "rs", "rz"]).zip(weights) {
        let (Some([directions, _, columns]), Some(shape)) = (weight, node.shape(input)) else {
            continue;
        };
        let fits = match shape {
            [one] => !one.differs(directions),
            [one, each] => !one.differs(directions) && !each.differs(columns),
            _ => false,
        };
        if fits {
            let axes = axes.iter().take(shape.len()).cloned();
            builder.port(Port::In(input as u32), name, axes);
        }
    }
}

impl Operator for QuantizedLstm {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(facts(node, extents(node, 4, true)?))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(extents)) = extents(node, 4, true) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let d = builder.fixed("D", extents.d, DIRECTIONS);
        let t = builder.fixed("t", extents.t, STEPS);
        let b = builder.free("b", extents.b);
        let i = builder.free("i", extents.i);
        let h = builder.fixed(
            "h",
            extents.h,
            Reason::operator("quantizes the hidden state by the range of all units"),
        );
        let gates = builder.fixed("", 4i64, GATES);
        let columns = Layout::product(&[gates, h]);
        builder.port(Port::In(0), "x", [t, b, i]);
        builder.port(Port::In(1), "w", [d.into(), i.into(), columns.clone()]);
        builder.port(Port::In(2), "r", [d.into(), h.into(), columns]);
        beside(&mut builder, node, d, gates, h);
        for state in [5, 6] {
            builder.port(Port::In(state), format!("state{state}"), [d, b, h]);
        }
        builder.port(Port::Out(0), "y", [t, d, b, h]);
        builder.port(Port::Out(1), "yh", [d, b, h]);
        builder.port(Port::Out(2), "yc", [d, b, h]);
        let term = |weight, zero, labels: &[LabelId], summed| Term {
            data: Port::In(0),
            weight,
            zero,
            labels: labels.to_vec(),
            summed: vec![summed],
            window: None,
        };
        builder.term(term(
            Some(Port::In(1)),
            Some(Port::In(9)),
            &[d, t, b, gates, h, i],
            i,
        ));
        builder.term(term(None, None, &[t, b, i], i));
        builder.term(Term {
            data: Port::Out(0),
            ..term(
                Some(Port::In(2)),
                Some(Port::In(11)),
                &[d, t, b, gates, h, h],
                h,
            )
        });
        builder.finish()
    }
}

fn set_hidden_size(node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
    if node.int("hidden_size").is_none() {
        return Ok(());
    }
    let hidden = cut.extent_of("h").and_then(|extent| extent.num());
    edit.set_int(
        "hidden_size",
        hidden.ok_or_else(|| RewriteError("hidden_size has no known number".into()))?,
    );
    Ok(())
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("LSTM", &Recurrent { gates: 4 }).recurrence(Recurrence {
        gates: 4,
        is_linear: true,
    }),
    Rule::onnx("GRU", &Recurrent { gates: 3 }).recurrence(Recurrence {
        gates: 3,
        is_linear: false,
    }),
    Rule::onnx("RNN", &Recurrent { gates: 1 }).recurrence(Recurrence {
        gates: 1,
        is_linear: true,
    }),
    Rule::microsoft("DynamicQuantizeLSTM", &QuantizedLstm).counts_steps(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::OpCase;

    fn lstm() -> OpCase {
        OpCase::op("LSTM").at(14).outputs(3)
    }

    #[test]
    fn lstm_ties_rows_and_columns() {
        lstm()
            .int("hidden_size", 5)
            .input("7x2x3")
            .weight("1x20x3")
            .weight("1x20x5")
            .weight("1x40")
            .none()
            .input("1x2x5")
            .input("1x2x5")
            .weight("1x15")
            .expect_shapes("7x1x2x5 1x2x5 1x2x5")
            .expect_relation(
                "x[t, b, i] w[D, 4·h, i] r[D, 4·h, h] bias[D, 8·h] h0[D, b, h] c0[D, b, h] p[D, 3·h] \
                 → y[t, D, b, h] yh[D, b, h] yc[D, b, h]  Σ i; Σ h",
            );
    }

    #[test]
    fn two_ways_batch_first() {
        lstm()
            .int("hidden_size", 5)
            .int("layout", 1)
            .text("direction", "bidirectional")
            .input("bxtx3")
            .weight("2x20x3")
            .weight("2x20x5")
            .expect_shapes("bxtx2x5 bx2x5 bx2x5")
            .expect_relation("x[b, t, i] w[D, 4·h, i] r[D, 4·h, h] → y[b, t, D, h] yh[b, D, h] yc[b, D, h]  Σ i; Σ h");
    }

    #[test]
    fn gru_and_rnn() {
        OpCase::op("GRU")
            .at(7)
            .outputs(2)
            .int("linear_before_reset", 1)
            .input("7x2x3")
            .weight("1x15x3")
            .weight("1x15x5")
            .weight("1x30")
            .expect_shapes("7x1x2x5 1x2x5")
            .expect_relation("x[t, b, i] w[D, 3·h, i] r[D, 3·h, h] bias[D, 6·h] → y[t, D, b, h] yh[D, b, h]  Σ i; Σ h");
        OpCase::op("RNN")
            .outputs(1)
            .input("7x2x3")
            .weight("1x5x3")
            .weight("1x5x5")
            .weight("1x10")
            .input("i32:2")
            .expect_shapes("7x1x2x5")
            .expect_relation("x[t, b, i] w[D, h, i] r[D, h, h] bias[D, 2·h] lengths[b] → y[t, D, b, h]  Σ i; Σ h");
    }

    #[test]
    fn hidden_size_follows() {
        let proof = lstm()
            .int("hidden_size", 3)
            .input("7x2x3")
            .weight("1x12x3")
            .weight("1x12x3");
        proof.view(|view| {
            let operator = Recurrent { gates: 4 };
            let relation = operator.relate(view);
            let h = relation.named("h").unwrap();
            let mut kept = vec![None; relation.labels.len()];
            kept[h.index()] = Some(vec![0u32, 2].into());
            let cut = Cut {
                relation: &relation,
                kept,
            };
            assert_eq!(
                cut.dims(Port::In(2)),
                Some(vec![Dim::Num(1), Dim::Num(8), Dim::Num(2)])
            );
            let mut edit = NodeEdit::default();
            operator.rewrite(view, &cut, &mut edit).unwrap();
            assert_eq!(
                edit.settings,
                [("hidden_size", crate::ops::Setting::Int(2))]
            );
        });
    }

    #[test]
    fn misfits_are_errors() {
        let node = lstm()
            .input("7x2x3")
            .weight("1x12x4")
            .weight("1x12x3")
            .named();
        let error = |w: [i64; 3], r: [i64; 3]| {
            let facts = [vec![7, 2, 3], w.to_vec(), r.to_vec()]
                .map(|dims| Fact::new(None, dims.into_iter().map(Dim::Num).collect()));
            let view = NodeView {
                node: &node,
                opset: 14,
                inputs: facts.iter().map(Some).collect(),
                outputs: vec![],
                branches: vec![],
                magnitudes: false,
            };
            Recurrent { gates: 4 }
                .infer(&view)
                .err()
                .map(|error| error.0)
        };
        let says = |w, r, part: &str| {
            let said = error(w, r).unwrap_or_default();
            assert!(said.starts_with(part), "{said}");
        };
        assert_eq!(error([1, 12, 3], [1, 12, 3]), None);
        says([1, 12, 4], [1, 12, 3], "columns of W");
        says([2, 12, 3], [1, 12, 3], "directions of W");
        says([1, 12, 3], [2, 12, 3], "directions of R");
    }

    #[test]
    fn quantized_by_range_keeps_its_units() {
        OpCase::op("DynamicQuantizeLSTM")
            .domain("com.microsoft")
            .outputs(3)
            .int("hidden_size", 5)
            .input("7x2x3")
            .weight("i8:1x3x20")
            .weight("i8:1x5x20")
            .expect_shapes("7x1x2x5 1x2x5 1x2x5")
            .expect_relation("x[t, b, i] w[D, i, 4·h] r[D, h, 4·h] → y[t, D, b, h] yh[D, b, h] yc[D, b, h]  Σ i; Σ i; Σ h");
        OpCase::op("DynamicQuantizeLSTM")
            .domain("com.microsoft")
            .int("hidden_size", 5)
            .input("7x2x3")
            .weight("i8:1x3x20")
            .weight("i8:1x5x20")
            .weight("1x40")
            .none()
            .none()
            .none()
            .weight("1x15")
            .weight("1")
            .weight("i8:1")
            .weight("1x20")
            .weight("i8:1x20")
            .expect_relation("x[t, b, i] w[D, i, 4·h] r[D, h, 4·h] bias[D, 8·h] p[D, 3·h] ws[D] wz[D] rs[D, 4·h] rz[D, 4·h] → y[t, D, b, h]  Σ i; Σ i; Σ h");
    }
}
