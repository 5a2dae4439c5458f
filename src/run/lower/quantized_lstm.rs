//! com.microsoft DynamicQuantizeLSTM: the gates' products of the input at once, then a Scan over the steps.

use super::builder::GraphBuilder;
use super::rule::{Change, Rule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::ValueInfoProto;
use crate::proto::{AttributeProto, Dtype, GraphProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Rule] = &[Rule::code("com.microsoft", "DynamicQuantizeLSTM", unfold)];

/// Inputs: X, W, R, B, lengths, h, c, peepholes, and scale and zero point of W and of R.
fn unfold(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let fail = |what: &str| Unverifiable::new(format!("{}: {what}", node.label()));
    if node.input(4).is_some() || node.input(7).is_some() {
        return Err(fail("has sequence lengths or peepholes"));
    }
    let plain = |name: &str| {
        node.attribute(name)
            .is_none_or(|attribute| attribute.f() == 0.0 && attribute.i() == 0)
    };
    let usual = node
        .strings("activations")
        .chunks(3)
        .all(|triple| triple == ["Sigmoid", "Tanh", "Tanh"]);
    if !usual || !plain("clip") || !plain("input_forget") {
        return Err(fail("has activations other than the usual"));
    }
    let (Some(x), Some(dims)) = (node.input(0), site.shape(node.input(0))) else {
        return Ok(Change::NeedsFacts);
    };
    let batch = dims
        .get(1)
        .and_then(|dim| usize::try_from(*dim).ok())
        .ok_or_else(|| fail("its input has no batch axis"))?;
    let hidden = usize::try_from(node.int_or("hidden_size", 0)).unwrap_or(0);
    let constant = |at: usize| {
        site.tensor(node.input(at))
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
    let bias = match node.input(3) {
        Some(_) => constant(3)?.to_f32(),
        None => Some(vec![0.0; directions * 8 * hidden]),
    };
    let bias = bias
        .filter(|bias| bias.len() == directions * 8 * hidden && hidden > 0)
        .ok_or_else(|| fail("its bias has a wrong size"))?;
    let direction = node.string("direction").unwrap_or_default();
    let builder = &mut site.builder;
    let (xq, x_scale, x_zero) = builder.dynamic_quantize(x);
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
            builder.constant(&part(w)?),
            builder.constant(&part(w_scale)?),
            builder.constant(&part(w_zero)?),
        );
        let from_x = product(builder, [&xq, &w, &x_zero, &w_zero], &x_scale, &w_scale);
        let summed = builder.constant(&TensorRef::from_f32(vec![4 * hidden], &summed));
        let from_x = builder.op("Add", &[&from_x, &summed], Vec::new());
        let step = step(builder, hidden, &[part(r)?, part(r_scale)?, part(r_zero)?]);
        let mut start = |at_input: usize| match node.input(at_input) {
            Some(given) => {
                let row = builder.slice(given, 0, (at as i64, at as i64 + 1, 1));
                builder.squeeze(&row, &[0])
            }
            None => builder.constant(&TensorRef::from_f32(
                vec![batch, hidden],
                &vec![0.0; batch * hidden],
            )),
        };
        let (h, c) = (start(5), start(6));
        let back = i64::from(at == 1 || direction.eq_ignore_ascii_case("reverse"));
        let names: Vec<String> = ["h", "c", "y"]
            .iter()
            .map(|hint| builder.names.fresh(hint))
            .collect();
        let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes = vec![
            AttributeProto::graph("body", step),
            AttributeProto::int("num_scan_inputs", 1),
            AttributeProto::ints("scan_input_directions", &[back]),
            AttributeProto::ints("scan_output_directions", &[back]),
        ];
        builder.node("Scan", &[&h, &c, &from_x], &outputs, attributes);
        for ((slot, axis), name) in [(1, 0), (2, 0), (0, 1)].into_iter().zip(&names) {
            ends[slot].push(builder.unsqueeze(name, &[axis]));
        }
    }
    for (slot, (values, axis)) in ends.iter().zip([1, 0, 0]).enumerate() {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let joined = builder.concat(&values, axis);
        builder.bind_output(&joined, node, slot);
    }
    Ok(Change::Replaced)
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
fn product(
    builder: &mut GraphBuilder,
    operands: [&str; 4],
    a_scale: &str,
    b_scale: &str,
) -> String {
    let sum = builder.op("MatMulInteger", &operands, Vec::new());
    let sum = builder.cast(&sum, Dtype::Float);
    let scale = builder.op("Mul", &[a_scale, b_scale], Vec::new());
    builder.op("Mul", &[&sum, &scale], Vec::new())
}

/// The body of the Scan: h, c and the input's share of the gates to h, c and h once more.
fn step(outer: &mut GraphBuilder, hidden: usize, recurrent: &[TensorRef; 3]) -> GraphProto {
    let opset = outer.opset;
    let mut builder = GraphBuilder::new(outer.names, opset);
    let formals: Vec<String> = ["h", "c", "gates"]
        .iter()
        .map(|hint| builder.names.fresh(hint))
        .collect();
    let [h, c, from_x] = [0, 1, 2].map(|at| formals.get(at).cloned().unwrap_or_default());
    let [r, scale, zero] = recurrent;
    let (r, scale, zero) = (
        builder.constant(r),
        builder.constant(scale),
        builder.constant(zero),
    );
    let (hq, h_scale, h_zero) = builder.dynamic_quantize(&h);
    let from_h = product(&mut builder, [&hq, &r, &h_zero, &zero], &h_scale, &scale);
    let gates = builder.op("Add", &[&from_x, &from_h], Vec::new());
    let size = hidden as i64;
    let parts = builder.split(&gates, 1, &[size; 4]);
    let mut gate = |at: usize, op: &str| {
        builder.op(op, &[parts.get(at).map_or("", String::as_str)], Vec::new())
    };
    let (i, o, f, g) = (
        gate(0, "Sigmoid"),
        gate(1, "Sigmoid"),
        gate(2, "Sigmoid"),
        gate(3, "Tanh"),
    );
    let (kept, new) = (
        builder.op("Mul", &[&f, &c], Vec::new()),
        builder.op("Mul", &[&i, &g], Vec::new()),
    );
    let c = builder.op("Add", &[&kept, &new], Vec::new());
    let open = builder.op("Tanh", &[&c], Vec::new());
    let h = builder.op("Mul", &[&o, &open], Vec::new());
    let y = builder.op("Identity", &[&h], Vec::new());
    let GraphBuilder {
        nodes, constants, ..
    } = builder;
    GraphProto {
        name: Some("step".into()),
        node: nodes,
        initializer: constants,
        input: formals
            .iter()
            .map(|name| ValueInfoProto::floats(name))
            .collect(),
        output: [h, c, y]
            .iter()
            .map(|name| ValueInfoProto::floats(name))
            .collect(),
        ..Default::default()
    }
}
