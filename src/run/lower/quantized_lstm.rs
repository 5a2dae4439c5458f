//! com.microsoft DynamicQuantizeLSTM: the gates' products of the input at once, then a Scan over the steps.

use super::builder::GraphBuilder;
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::ValueInfoProto;
use crate::proto::{AttributeProto, Dtype, GraphProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code(
    "com.microsoft",
    "DynamicQuantizeLSTM",
    unfold,
)];

/// Inputs: X, W, R, B, lengths, h, c, peepholes, and scale and zero point of W and of R.
fn unfold(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    check(node)?;
    let (Some(x), Some(dims)) = (node.input(0), site.shape(node.input(0))) else {
        return Ok(Change::NeedsFacts);
    };
    let batch = dims
        .get(1)
        .and_then(|dim| usize::try_from(*dim).ok())
        .ok_or_else(|| refusal(node, "its input has no batch axis"))?;
    let weights = LstmWeights::of(node, site)?;
    let builder = &mut site.builder;
    let (xq, x_scale, x_zero) = builder.dynamic_quantize(x);
    let mut ends: [Vec<String>; 3] = Default::default();
    for at in 0..weights.directions {
        let of = weights
            .direction(at)
            .ok_or_else(|| refusal(node, "its weights do not divide into directions"))?;
        let names = of.unfold(builder, (node, at), [&xq, &x_scale, &x_zero], batch);
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

/// Errors: a form of the operator that is not written out here.
fn check(node: &NodeProto) -> Result<(), Unverifiable> {
    if node.input(4).is_some() || node.input(7).is_some() {
        return Err(refusal(node, "has sequence lengths or peepholes"));
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
        return Err(refusal(node, "has activations other than the usual"));
    }
    Ok(())
}

/// A matrix for each direction, its scale and its zero point.
type QuantizedTensor = [TensorRef; 3];

/// The weights of all directions.
struct LstmWeights {
    directions: usize,
    hidden: usize,
    from_x: QuantizedTensor,
    from_h: QuantizedTensor,
    /// Eight lists for each direction: those of the input's products, then those of the state's.
    bias: Vec<f32>,
}

impl LstmWeights {
    /// Errors: weights that are computed, or whose sizes do not fit.
    fn of(node: &NodeProto, site: &Site) -> Result<Self, Unverifiable> {
        let hidden = usize::try_from(node.int_or("hidden_size", 0)).unwrap_or(0);
        let constant = |at: usize| {
            site.tensor(node.input(at))
                .ok_or_else(|| refusal(node, "its weights are computed"))
        };
        let (w, r) = (constant(1)?, constant(2)?);
        // Sizes below follow from the weights' own, so that no attribute can ask for memory.
        if r.dims.get(1) != Some(&hidden) || hidden.checked_mul(4).as_ref() != r.dims.get(2) {
            return Err(refusal(node, "its hidden size is not its weights'"));
        }
        let directions = w.dims.first().copied().unwrap_or(0);
        let bias = match node.input(3) {
            Some(_) => constant(3)?.to_f32(),
            None => Some(vec![0.0; directions * 8 * hidden]),
        };
        let bias = bias
            .filter(|bias| bias.len() == directions * 8 * hidden && hidden > 0)
            .ok_or_else(|| refusal(node, "its bias has a wrong size"))?;
        Ok(LstmWeights {
            directions,
            hidden,
            from_x: [w, constant(8)?, constant(9)?],
            from_h: [r, constant(10)?, constant(11)?],
            bias,
        })
    }

    /// Those of one direction; `None` where they do not divide into directions.
    fn direction(&self, at: usize) -> Option<Direction> {
        let part = |of: &QuantizedTensor| -> Option<QuantizedTensor> {
            let [weight, scale, zero] = of;
            let part = |tensor| slab(tensor, at, self.directions);
            Some([part(weight)?, part(scale)?, part(zero)?])
        };
        let gates = 4 * self.hidden;
        let bias = self.bias.get(at * 2 * gates..(at + 1) * 2 * gates)?;
        let (from_x, from_h) = bias.split_at(gates);
        Some(Direction {
            hidden: self.hidden,
            from_x: part(&self.from_x)?,
            from_h: part(&self.from_h)?,
            bias: from_x.iter().zip(from_h).map(|(w, r)| w + r).collect(),
        })
    }
}

/// The weights of one direction, its two biases added up.
struct Direction {
    hidden: usize,
    from_x: QuantizedTensor,
    from_h: QuantizedTensor,
    bias: Vec<f32>,
}

impl Direction {
    /// Writes out the direction of a node with this number; `x` is its input, quantized, with scale and zero point. Returns the
    /// names of the last h, the last c, and all h.
    fn unfold(
        &self,
        builder: &mut GraphBuilder,
        (node, at): (&NodeProto, usize),
        [xq, x_scale, x_zero]: [&str; 3],
        batch: usize,
    ) -> Vec<String> {
        let [w, w_scale, w_zero] = &self.from_x;
        let (w, w_scale, w_zero) = (
            builder.constant(w),
            builder.constant(w_scale),
            builder.constant(w_zero),
        );
        let from_x = product(builder, [xq, &w, x_zero, &w_zero], x_scale, &w_scale);
        let bias = builder.constant(&TensorRef::from_f32(vec![self.bias.len()], &self.bias));
        let from_x = builder.op("Add", &[&from_x, &bias], Vec::new());
        let step = step(builder, self.hidden, &self.from_h);
        let mut start = |input: usize| match node.input(input) {
            Some(given) => {
                let row = builder.slice(given, 0, (at as i64, at as i64 + 1, 1));
                builder.squeeze(&row, &[0])
            }
            None => builder.constant(&TensorRef::from_f32(
                vec![batch, self.hidden],
                &vec![0.0; batch * self.hidden],
            )),
        };
        let (h, c) = (start(5), start(6));
        let direction = node.string("direction").unwrap_or_default();
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
        names
    }
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
