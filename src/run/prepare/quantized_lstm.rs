//! com.microsoft DynamicQuantizeLSTM: the gates' products of the input at once, then a Scan over the steps.

use super::contrib::{concat, dynamic_quantize};
use super::node::{attribute, input, int_or, label, text, with_graph, with_int, with_ints};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::model::TensorRef;
use crate::proto::{Dtype, GraphProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[("com.microsoft", "DynamicQuantizeLSTM", unfold)];

/// Inputs: X, W, R, B, lengths, h, c, peepholes, and scale and zero point of W and of R.
fn unfold(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let fail = |what: &str| Unverifiable::new(format!("{}: {what}", label(node)));
    if input(node, 4).is_some() || input(node, 7).is_some() {
        return Err(fail("has sequence lengths or peepholes"));
    }
    let plain = |name: &str| {
        attribute(node, name).is_none_or(|attribute| attribute.f() == 0.0 && attribute.i() == 0)
    };
    let usual = super::texts(node, "activations")
        .chunks(3)
        .all(|triple| triple == ["Sigmoid", "Tanh", "Tanh"]);
    if !usual || !plain("clip") || !plain("input_forget") {
        return Err(fail("has activations other than the usual"));
    }
    let (Some(x), Some(dims)) = (input(node, 0), site.shape(input(node, 0))) else {
        return Ok(Outcome::NeedsFacts);
    };
    let batch = dims
        .get(1)
        .and_then(|dim| usize::try_from(*dim).ok())
        .ok_or_else(|| fail("its input has no batch axis"))?;
    let hidden = usize::try_from(int_or(node, "hidden_size", 0)).unwrap_or(0);
    let constant = |at: usize| {
        site.tensor(input(node, at))
            .ok_or_else(|| fail("its weights are computed"))
    };
    let (w, r) = (constant(1)?, constant(2)?);
    // Sizes below follow from the weights' own, so that no attribute can ask for memory.
    if r.dims.get(1) != Some(&hidden) || hidden.checked_mul(4).as_ref() != r.dims.get(2) {
        return Err(fail("its hidden size is not its weights'"));
    }
    let quantized = [
        (w, constant(8)?, constant(9)?),
        (r, constant(10)?, constant(11)?),
    ];
    let directions = quantized[0].0.dims.first().copied().unwrap_or(0);
    let bias = match input(node, 3) {
        Some(_) => constant(3)?.to_f32(),
        None => Some(vec![0.0; directions * 8 * hidden]),
    };
    let bias = bias
        .filter(|bias| bias.len() == directions * 8 * hidden && hidden > 0)
        .ok_or_else(|| fail("its bias has a wrong size"))?;
    let direction = text(node, "direction").unwrap_or_default();
    let wire = &mut site.wire;
    let (xq, x_scale, x_zero) = dynamic_quantize(wire, x);
    let mut ends: [Vec<String>; 3] = Default::default();
    for at in 0..directions {
        let part = |tensor: &TensorRef| {
            slab(tensor, at, directions)
                .ok_or_else(|| fail("its weights do not divide into directions"))
        };
        let gates = bias
            .get(at * 8 * hidden..(at + 1) * 8 * hidden)
            .unwrap_or(&[]);
        let summed: Vec<f32> = gates
            .iter()
            .zip(gates.iter().skip(4 * hidden))
            .map(|(w, r)| w + r)
            .collect();
        let [(w, w_scale, w_zero), (r, r_scale, r_zero)] = &quantized;
        let (w, w_scale, w_zero) = (
            wire.constant(&part(w)?),
            wire.constant(&part(w_scale)?),
            wire.constant(&part(w_zero)?),
        );
        let from_x = product(wire, [&xq, &w, &x_zero, &w_zero], &x_scale, &w_scale);
        let summed = wire.constant(&TensorRef::from_f32(vec![4 * hidden], &summed));
        let from_x = wire.op("Add", &[&from_x, &summed], Vec::new());
        let step = step(wire, hidden, &[part(r)?, part(r_scale)?, part(r_zero)?]);
        let mut start = |at_input: usize| match input(node, at_input) {
            Some(given) => {
                let row = wire.slice(given, 0, (at as i64, at as i64 + 1, 1));
                wire.squeeze(&row, &[0])
            }
            None => wire.constant(&TensorRef::from_f32(
                vec![batch, hidden],
                &vec![0.0; batch * hidden],
            )),
        };
        let (h, c) = (start(5), start(6));
        let back = i64::from(at == 1 || direction.eq_ignore_ascii_case("reverse"));
        let names: Vec<String> = ["h", "c", "y"]
            .iter()
            .map(|hint| wire.names.fresh(hint))
            .collect();
        let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes = vec![
            with_graph("body", step),
            with_int("num_scan_inputs", 1),
            with_ints("scan_input_directions", &[back]),
            with_ints("scan_output_directions", &[back]),
        ];
        wire.node("Scan", &[&h, &c, &from_x], &outputs, attributes);
        for ((slot, axis), name) in [(1, 0), (2, 0), (0, 1)].into_iter().zip(&names) {
            ends[slot].push(wire.unsqueeze(name, &[axis]));
        }
    }
    for (slot, (values, axis)) in ends.iter().zip([1, 0, 0]).enumerate() {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let joined = concat(wire, &values, axis);
        wire.give(&joined, node, slot);
    }
    Ok(Outcome::Done)
}

/// One direction's share of a constant whose first axis is the direction; a scale for each direction becomes a scalar.
fn slab(tensor: &TensorRef, at: usize, directions: usize) -> Option<TensorRef> {
    let size = tensor.bytes.len().checked_div(directions)?;
    if tensor.dims.first() != Some(&directions) {
        return None;
    }
    Some(TensorRef {
        dtype: tensor.dtype,
        dims: tensor.dims.get(1..)?.to_vec(),
        bytes: tensor.bytes.slice(at * size..(at + 1) * size),
    })
}

/// Whole numbers multiplied, then scaled: a, b and their zero points.
fn product(wire: &mut Wire, operands: [&str; 4], a_scale: &str, b_scale: &str) -> String {
    let sum = wire.op("MatMulInteger", &operands, Vec::new());
    let sum = wire.cast(&sum, Dtype::Float);
    let scale = wire.op("Mul", &[a_scale, b_scale], Vec::new());
    wire.op("Mul", &[&sum, &scale], Vec::new())
}

/// The body of the Scan: h, c and the input's share of the gates to h, c and h once more.
fn step(outer: &mut Wire, hidden: usize, recurrent: &[TensorRef; 3]) -> GraphProto {
    let opset = outer.opset;
    let mut wire = Wire::new(outer.names, opset);
    let formals: Vec<String> = ["h", "c", "gates"]
        .iter()
        .map(|hint| wire.names.fresh(hint))
        .collect();
    let [h, c, from_x] = [0, 1, 2].map(|at| formals.get(at).cloned().unwrap_or_default());
    let [r, scale, zero] = recurrent;
    let (r, scale, zero) = (wire.constant(r), wire.constant(scale), wire.constant(zero));
    let (hq, h_scale, h_zero) = dynamic_quantize(&mut wire, &h);
    let from_h = product(&mut wire, [&hq, &r, &h_zero, &zero], &h_scale, &scale);
    let gates = wire.op("Add", &[&from_x, &from_h], Vec::new());
    let size = hidden as i64;
    let parts = wire.split(&gates, 1, &[size; 4]);
    let mut gate =
        |at: usize, op: &str| wire.op(op, &[parts.get(at).map_or("", String::as_str)], Vec::new());
    let (i, o, f, g) = (
        gate(0, "Sigmoid"),
        gate(1, "Sigmoid"),
        gate(2, "Sigmoid"),
        gate(3, "Tanh"),
    );
    let (kept, new) = (
        wire.op("Mul", &[&f, &c], Vec::new()),
        wire.op("Mul", &[&i, &g], Vec::new()),
    );
    let c = wire.op("Add", &[&kept, &new], Vec::new());
    let open = wire.op("Tanh", &[&c], Vec::new());
    let h = wire.op("Mul", &[&o, &open], Vec::new());
    let y = wire.op("Identity", &[&h], Vec::new());
    let Wire {
        nodes, constants, ..
    } = wire;
    GraphProto {
        name: Some("step".into()),
        node: nodes,
        initializer: constants,
        input: formals.iter().map(|name| floating(name)).collect(),
        output: [h, c, y].iter().map(|name| floating(name)).collect(),
        ..Default::default()
    }
}

fn floating(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(Dtype::Float.code()),
        shape: None,
    };
    let kind = TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(kind),
        ..Default::default()
    }
}
