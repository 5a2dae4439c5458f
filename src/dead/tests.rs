//! Units that go without loss, and those that do not, in small models.

use super::*;
use crate::model::{TensorRef, text};
use crate::run::{Runtime, Tensors, TractRuntime};

/// Puts a number everywhere at some indices of an axis of a constant.
fn fill(model: &mut Model, name: &str, axis: usize, indices: &[usize], number: f32) {
    let value = model.index().main_value(name).unwrap();
    let tensor = model.constant(value).unwrap();
    let block: usize = tensor.dims[axis + 1..].iter().product();
    let mut numbers = tensor.to_f32().unwrap();
    for (at, element) in numbers.iter_mut().enumerate() {
        if indices.contains(&(at / block % tensor.dims[axis])) {
            *element = number;
        }
    }
    let new = TensorRef::from_f32(tensor.dims, &numbers);
    *model.tensor_proto_mut(value).unwrap() = new.to_proto(name);
}

fn dims(model: &Model, name: &str) -> Vec<usize> {
    let value = model.index().main_value(name);
    value.and_then(|value| model.constant(value)).unwrap().dims
}

fn outputs(model: &Model, inputs: &Tensors) -> Vec<Vec<f64>> {
    let session = TractRuntime::new(true).prepare(model, inputs, &[]).unwrap();
    let outputs = session.run(inputs).unwrap();
    outputs
        .iter()
        .map(|output| output.to_f64().unwrap())
        .collect()
}

/// Numbers of both signs for an input.
fn input(name: &str, dims: &[usize]) -> (String, TensorRef) {
    let count = dims.iter().product::<usize>();
    let numbers: Vec<f32> = (0..count)
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0)
        .collect();
    (
        name.to_owned(),
        TensorRef::from_f32(dims.to_vec(), &numbers),
    )
}

/// Removes dead units; outputs must stay the same to rounding.
fn removed(model: &Model, inputs: &[(&str, &[usize])]) -> (Model, DeadUnits) {
    let inputs: Tensors = inputs
        .iter()
        .map(|(name, dims)| input(name, dims))
        .collect();
    let mut left = model.clone();
    let units = remove(&mut left, &Options::default()).unwrap();
    let (before, after) = (outputs(model, &inputs), outputs(&left, &inputs));
    let largest = before
        .iter()
        .flatten()
        .fold(0.0f64, |most, number| most.max(number.abs()));
    assert!(largest > 0.0, "outputs that are all zero show nothing");
    for (a, b) in before.iter().flatten().zip(after.iter().flatten()) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} became {b}");
    }
    assert!(encoded_len(&left) <= encoded_len(model));
    (left, units)
}

const CONVOLUTIONS: &str = "
    input x f32[1,3,8,8]
    const w f32[8,3,3,3]
    const b f32[8]
    const scale f32[8] = positive
    const shift f32[8]
    const mean f32[8]
    const var f32[8] = positive
    const v f32[5,8,3,3]
    c = Conv(x, w, b) {pads=[1,1,1,1]}
    n = BatchNormalization(c, scale, shift, mean, var)
    r = Relu(n)
    y = Conv(r, v) {pads=[1,1,1,1]}
    output y
";

#[test]
fn channels_that_nothing_reads_go() {
    let mut model = text::model(CONVOLUTIONS).unwrap();
    fill(&mut model, "v", 1, &[1, 6], 0.0);
    let (left, units) = removed(&model, &[("x", &[1, 3, 8, 8])]);
    assert_eq!(units.to_string(), "2 channels");
    assert_eq!(
        (dims(&left, "w"), dims(&left, "v")),
        (vec![6, 3, 3, 3], vec![5, 6, 3, 3])
    );
}

#[test]
fn channels_that_are_zero_go_and_constant_ones_before_a_border_stay() {
    let mut model = text::model(CONVOLUTIONS).unwrap();
    for name in ["w", "b", "shift", "mean"] {
        fill(&mut model, name, 0, &[0, 3], 0.0);
    }
    // A constant above zero counts beside the border's zeros; one below does not pass.
    fill(&mut model, "w", 0, &[5, 7], 0.0);
    for (name, number) in [("b", 0.0), ("mean", 0.0), ("shift", 0.5)] {
        fill(&mut model, name, 0, &[5], number);
    }
    for (name, number) in [("b", 0.0), ("mean", 0.0), ("shift", -0.5)] {
        fill(&mut model, name, 0, &[7], number);
    }
    let (left, units) = removed(&model, &[("x", &[1, 3, 8, 8])]);
    assert_eq!(units.to_string(), "3 channels");
    assert_eq!(dims(&left, "w"), [5, 3, 3, 3]);
}

#[test]
fn one_dead_channel_uncovers_another() {
    let mut model = text::model(
        "input x f32[2,6]\nconst a f32[6,8]\nconst b f32[8,8]\nconst c f32[8,4]\n\
         h = MatMul(x, a)\nr = Relu(h)\ni = MatMul(r, b)\ns = Tanh(i)\ny = MatMul(s, c)\noutput y",
    )
    .unwrap();
    // Channel 2 of the second layer is read by nobody, and is the only one that reads channels 1 and 4 of the first.
    fill(&mut model, "c", 0, &[2], 0.0);
    let before: Vec<usize> = (0..8).filter(|at| *at != 2).collect();
    let value = model.index().main_value("b").unwrap();
    let mut numbers = model.constant(value).unwrap().to_f32().unwrap();
    for column in before {
        for row in [1, 4] {
            numbers[row * 8 + column] = 0.0;
        }
    }
    *model.tensor_proto_mut(value).unwrap() =
        TensorRef::from_f32(vec![8, 8], &numbers).to_proto("b");
    let (left, units) = removed(&model, &[("x", &[2, 6])]);
    assert_eq!(units.to_string(), "3 channels");
    assert_eq!(dims(&left, "b"), [6, 7]);
}

#[test]
fn a_residual_channel_goes_only_where_all_that_it_sums_is_zero() {
    let mut model = text::model(
        "input x f32[2,6]\nconst a f32[6,8]\nconst b f32[8,5]\nconst c f32[5,8]\nconst d f32[8,4]\n\
         h = MatMul(x, a)\ni = MatMul(h, b)\nr = Relu(i)\nj = MatMul(r, c)\ns = Add(h, j)\ny = MatMul(s, d)\noutput y",
    )
    .unwrap();
    fill(&mut model, "a", 1, &[0, 1], 0.0);
    fill(&mut model, "c", 1, &[1, 2], 0.0);
    let (left, units) = removed(&model, &[("x", &[2, 6])]);
    assert_eq!(units.to_string(), "1 channels");
    assert_eq!(dims(&left, "d"), [7, 4]);
}

#[test]
fn nothing_dead_leaves_the_model_as_it_is() {
    let model = text::model(CONVOLUTIONS).unwrap();
    let (left, units) = removed(&model, &[("x", &[1, 3, 8, 8])]);
    assert!(units.is_empty() && left.proto == model.proto);
}

#[test]
fn channels_that_a_caller_sees_stay() {
    let mut model =
        text::model("input x f32[2,6]\nconst a f32[6,8]\nh = MatMul(x, a)\noutput h").unwrap();
    fill(&mut model, "a", 1, &[3], 0.0);
    assert!(removed(&model, &[("x", &[2, 6])]).1.is_empty());
}

#[test]
fn a_constant_channel_goes_into_the_bias_where_no_border_is_near() {
    let mut model = text::model(
        "input x f32[1,3,8,8]\nconst w f32[8,3,3,3]\nconst b f32[8]\nconst v f32[5,8,1,1]\nconst e f32[5]\n\
         c = Conv(x, w, b) {pads=[1,1,1,1]}\ns = Sigmoid(c)\ny = Conv(s, v, e)\noutput y",
    )
    .unwrap();
    fill(&mut model, "w", 0, &[2, 4], 0.0);
    let (left, units) = removed(&model, &[("x", &[1, 3, 8, 8])]);
    assert_eq!(units.to_string(), "2 channels");
    assert_eq!(dims(&left, "v"), [5, 6, 1, 1]);
}

#[test]
fn a_constant_channel_goes_into_a_bias_that_was_not_there() {
    let mut model = text::model(
        "input x f32[4,6]\nconst a f32[6,40]\nconst c f32[40]\nconst b f32[40,5]\n\
         h = Gemm(x, a, c)\ns = Sigmoid(h)\ny = Gemm(s, b)\noutput y",
    )
    .unwrap();
    fill(&mut model, "a", 1, &[7, 30], 0.0);
    let (left, units) = removed(&model, &[("x", &[4, 6])]);
    assert_eq!(units.to_string(), "2 channels");
    assert_eq!(dims(&left, "b"), [38, 5]);
}

#[test]
fn equal_channels_become_one() {
    let mut model = text::model(CONVOLUTIONS).unwrap();
    for name in ["w", "b", "scale", "shift", "mean", "var"] {
        let value = model.index().main_value(name).unwrap();
        let tensor = model.constant(value).unwrap();
        let mut kept: Vec<u32> = (0..8).collect();
        (kept[5], kept[6]) = (1, 1);
        let axes = [vec![Some(kept)], vec![None; tensor.dims.len() - 1]].concat();
        *model.tensor_proto_mut(value).unwrap() = tensor.select(&axes).to_proto(name);
    }
    let (left, units) = removed(&model, &[("x", &[1, 3, 8, 8])]);
    assert_eq!(units.to_string(), "2 channels");
    assert_eq!(dims(&left, "v"), [5, 6, 3, 3]);
}

#[test]
fn a_channel_that_never_fires_goes() {
    let mut model = text::model(
        "input x f32[4,6]\nconst a f32[6,8]\nconst b f32[8,8]\nconst c f32[8]\nconst d f32[8,5]\n\
         h = MatMul(x, a)\nr = Relu(h)\ni = Gemm(r, b, c)\ns = Relu(i)\ny = MatMul(s, d)\noutput y",
    )
    .unwrap();
    fill(&mut model, "b", 1, &[3], -0.5);
    fill(&mut model, "c", 0, &[3], -0.1);
    // The same weights above a bias that lets it fire at times.
    fill(&mut model, "b", 1, &[4], -0.5);
    fill(&mut model, "c", 0, &[4], 0.1);
    let (left, units) = removed(&model, &[("x", &[4, 6])]);
    assert_eq!(units.to_string(), "1 channels");
    assert_eq!(dims(&left, "d"), [7, 5]);
}

#[test]
fn a_head_whose_values_are_zero_goes() {
    let mut model = text::model(
        "input x f32[1,5,12]\nconst q f32[12,12]\nconst k f32[12,12]\nconst v f32[12,12]\nconst o f32[12,12]\n\
         const split i64[4] = 1, 5, 3, 4\nconst join i64[3] = 1, 5, 12\n\
         a = MatMul(x, q)\nb = Reshape(a, split)\nc = Transpose(b) {perm=[0,2,1,3]}\n\
         d = MatMul(x, k)\ne = Reshape(d, split)\nf = Transpose(e) {perm=[0,2,3,1]}\n\
         g = MatMul(x, v)\nh = Reshape(g, split)\ni = Transpose(h) {perm=[0,2,1,3]}\n\
         s = MatMul(c, f)\np = Softmax(s)\nm = MatMul(p, i)\n\
         t = Transpose(m) {perm=[0,2,1,3]}\nu = Reshape(t, join)\ny = MatMul(u, o)\noutput y",
    )
    .unwrap();
    fill(&mut model, "v", 1, &[4, 5, 6, 7], 0.0);
    let (left, units) = removed(&model, &[("x", &[1, 5, 12])]);
    assert_eq!(units.to_string(), "1 heads");
    assert_eq!(
        (dims(&left, "q"), dims(&left, "o")),
        (vec![12, 8], vec![8, 12])
    );
}

#[test]
fn nodes_that_hand_on_and_branches_times_zero_go() {
    let model = text::model(
        "input x f32[2,6]\nconst a f32[6,6]\nconst zero f32[] = 0\nconst one f32[] = 1\nconst same i64[2] = 2, 6\n\
         h = MatMul(x, a)\nr = Relu(h)\nq = Relu(r)\nb = MatMul(q, a)\nz = Mul(b, zero)\n\
         s = Add(q, z)\nt = Mul(s, one)\nu = Reshape(t, same)\ny = Tanh(u)\noutput y",
    )
    .unwrap();
    let (left, units) = removed(&model, &[("x", &[2, 6])]);
    assert!(units.is_empty());
    let nodes: Vec<&str> = left
        .index()
        .nodes()
        .map(|(id, _)| left.node(id).op_type())
        .collect();
    assert_eq!(nodes, ["MatMul", "Relu", "Tanh"]);
}

#[test]
fn a_cell_without_weights_stays_at_zero() {
    let mut model = text::model(
        "input x f32[4,1,3]\nconst w f32[1,16,3]\nconst r f32[1,16,4]\nconst b f32[1,32]\nconst v f32[4,2]\n\
         const axes i64[1] = 1\ny, h = LSTM(x, w, r, b) {hidden_size=4}\ns = Squeeze(y, axes)\n\
         z = MatMul(s, v)\noutput z",
    )
    .unwrap();
    let gates = [1, 5, 9, 13];
    let biases: Vec<usize> = (0..8).map(|gate| gate * 4 + 1).collect();
    for (name, rows) in [("w", &gates[..]), ("r", &gates), ("b", &biases)] {
        fill(&mut model, name, 1, rows, 0.0);
    }
    let (left, units) = removed(&model, &[("x", &[4, 1, 3])]);
    assert_eq!(units.to_string(), "1 channels");
    assert_eq!(dims(&left, "v"), [3, 2]);
}

#[test]
fn an_attention_in_one_node_hands_zero_values_on() {
    let mut model = text::model(
        "opset 23\ninput x f32[1,5,12]\nconst q f32[12,12]\nconst k f32[12,12]\nconst v f32[12,12]\nconst o f32[12,12]\n\
         a = MatMul(x, q)\nd = MatMul(x, k)\ng = MatMul(x, v)\n\
         m = Attention(a, d, g) {q_num_heads=3, kv_num_heads=3}\ny = MatMul(m, o)\noutput y",
    )
    .unwrap();
    fill(&mut model, "v", 1, &[0, 1, 2, 3], 0.0);
    let (left, units) = removed(&model, &[("x", &[1, 5, 12])]);
    assert_eq!(units.to_string(), "1 heads");
    assert_eq!(dims(&left, "o"), [8, 12]);
}
