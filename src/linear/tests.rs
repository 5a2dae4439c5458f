//! A view's matrices multiply to what the model computes.

use super::{Bias, Linear, views};
use crate::analysis::{Pins, infer, relate};
use crate::model::{Model, TensorRef, text};
use crate::run::{Runtime, Tensors, TractRuntime};

fn views_of(model: &Model) -> Vec<Linear> {
    views(model, &relate(model, &infer(model, &Pins::new())))
}

fn tensor(dims: &[usize]) -> TensorRef {
    let numbers: Vec<f32> = (0..dims.iter().product::<usize>())
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    TensorRef::from_f32(dims.to_vec(), &numbers)
}

/// `X · Wᵀ + b` of the only product of a model is the value that it computes.
fn multiplies(graph: &str, dims: &[usize]) -> Linear {
    let model = text::model(graph).unwrap();
    let views = views_of(&model);
    assert_eq!(views.len(), 1, "{graph}");
    let view = views[0].clone();
    let inputs: Tensors = [("x".to_owned(), tensor(dims))].into_iter().collect();
    let name = |value| model.index().value(value).name.clone();
    let taps = [name(view.data), name(view.output.unwrap())];
    let outputs = TractRuntime::new(false)
        .prepare(&model, &inputs, &taps)
        .unwrap()
        .run(&inputs)
        .unwrap();
    let [.., data, output] = &outputs[..] else {
        panic!("taps")
    };
    let positions = view.positions(&data.dims).unwrap();
    // Not all, and not in order.
    let picks: Vec<usize> = (0..positions).rev().step_by(2).collect();
    let (x, y) = (
        view.activations(data, &picks).unwrap(),
        view.outputs(output, &picks).unwrap(),
    );
    let matrix = view.matrix(&model).unwrap();
    let bias = Bias::find(&model, &view)
        .filter(|bias| !bias.outside)
        .map(|bias| bias.read(&model).unwrap());
    for group in 0..view.groups {
        for at in 0..picks.len() {
            for row in 0..view.rows {
                let channel = group * view.rows + row;
                let products: Vec<f64> = (0..view.columns)
                    .map(|column| {
                        f64::from(x[(group * picks.len() + at) * view.columns + column])
                            * matrix[channel * view.columns + column]
                    })
                    .collect();
                let sum =
                    products.iter().sum::<f64>() + bias.as_ref().map_or(0.0, |bias| bias[channel]);
                let size: f64 = products.iter().map(|product| product.abs()).sum();
                let found = f64::from(y[(group * picks.len() + at) * view.rows + row]);
                assert!(
                    (sum - found).abs() < 1e-4 * (1.0 + size),
                    "{graph}: {sum} is {found} at {group}, {at}, {row}"
                );
            }
        }
    }
    view
}

#[test]
fn convolutions() {
    let conv = |weight: &str, attributes: &str| {
        format!(
            "input x f32[n,6,9,8]\nconst w f32[{weight}]\nconst b f32[6]\nz = Relu(x)\ny = Conv(z, w, b) {{{attributes}}}\noutput y"
        )
    };
    multiplies(&conv("6,6,3,3", "pads=[1,1,1,1]"), &[2, 6, 9, 8]);
    multiplies(
        &conv("6,6,3,2", "strides=[2,1], dilations=[1,2], pads=[0,1,2,0]"),
        &[2, 6, 9, 8],
    );
    assert_eq!(
        multiplies(&conv("6,3,3,3", "group=2, pads=[1,1,1,1]"), &[1, 6, 9, 8]).groups,
        2
    );
    assert_eq!(
        multiplies(&conv("6,1,3,3", "group=6"), &[1, 6, 9, 8]).columns,
        9
    );
}

#[test]
fn matrix_products() {
    multiplies(
        "input x f32[n,5,7]\nconst w f32[7,4]\nz = Relu(x)\ny = MatMul(z, w)\noutput y",
        &[2, 5, 7],
    );
    multiplies(
        "input x f32[n,7]\nconst w f32[4,7]\nconst b f32[4]\nz = Relu(x)\ny = Gemm(z, w, b) {transB=1}\noutput y",
        &[3, 7],
    );
    multiplies(
        "input x f32[n,7]\nconst w f32[4,7]\nz = Relu(x)\nt = Transpose(w) {perm=[1,0]}\ny = MatMul(z, t)\noutput y",
        &[3, 7],
    );
}

/// A product with a packed weight of 6 rows, its zero points and bias as given.
fn packed(bits: usize, sum: usize, block: usize, zeros: &str) -> String {
    let (blocks, bytes) = (sum.div_ceil(block), block * bits / 8);
    let zero = if zeros.is_empty() { "_" } else { "zero" };
    format!(
        "input x f32[n,{sum}]\nconst q u8[6,{blocks},{bytes}] = full\nconst s f32[{}] = positive\n{zeros}\nconst b f32[6]\nz = Relu(x)\n\
         y = com.microsoft.MatMulNBits(z, q, s, {zero}, _, b) {{K={sum}, N=6, bits={bits}, block_size={block}}}\noutput y",
        6 * blocks
    )
}

#[test]
fn packed_weights() {
    for (bits, sum, block, zeros) in [
        (4, 64, 32, ""),
        (4, 64, 32, "const zero u8[6] = full"),
        (4, 48, 16, "const zero u8[12] = full"),
        (8, 32, 16, "const zero u8[12] = full"),
        (2, 64, 32, ""),
        // A block that is not full.
        (4, 24, 32, ""),
    ] {
        let view = multiplies(&packed(bits, sum, block, zeros), &[3, sum]);
        assert_eq!((view.rows, view.columns), (6, sum));
    }
}

#[test]
fn packed_weights_are_put_back_bit_by_bit() {
    let model = text::model(&packed(4, 64, 32, "const zero u8[6] = full")).unwrap();
    let view = views_of(&model).remove(0);
    let before = view.matrix(&model).unwrap();
    let mut changed = model.clone();
    view.set_matrix(&mut changed, &before).unwrap();
    assert_eq!(changed.proto, model.proto);
    let wanted: Vec<f64> = (0..before.len())
        .map(|at| if at % 3 == 0 { 0.0 } else { before[at] })
        .collect();
    view.set_matrix(&mut changed, &wanted).unwrap();
    assert_eq!(view.matrix(&changed).unwrap(), wanted);
}

#[test]
fn what_is_packed_otherwise_is_no_product() {
    let plain = packed(4, 64, 32, "");
    for (from, to) in [
        // No number of four bits is this zero point.
        (
            "\n\nconst b",
            "\nconst zero f32[12] = 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5\nconst b",
        ),
        // Blocks by a table, an order of one device.
        (
            "\n\nconst b",
            "\nconst order i32[64] = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1\nconst b",
        ),
        ("bits=4", "bits=4, weight_prepacked=1"),
    ] {
        let mut graph = plain.replace(from, to);
        if to.contains("zero") {
            graph = graph.replace("s, _, _, b", "s, zero, _, b");
        }
        if to.contains("order") {
            graph = graph.replace("s, _, _, b", "s, _, order, b");
        }
        assert_ne!(graph, plain);
        assert_eq!(views_of(&text::model(&graph).unwrap()).len(), 0, "{graph}");
    }
}

#[test]
fn weights_of_four_bits_in_blocks_are_put_back() {
    for (axis, scales) in [(0, "2,6"), (1, "8,2")] {
        let graph = format!(
            "opset 21\ninput x f32[n,8]\nconst w i4[8,6] = full\nconst s f32[{scales}] = positive\nz = Relu(x)\n\
             q = DequantizeLinear(w, s) {{axis={axis}, block_size=4}}\ny = MatMul(z, q)\noutput y"
        );
        let view = multiplies(&graph, &[3, 8]);
        let model = text::model(&graph).unwrap();
        let steps = constant(&model, "s");
        halves_are_put_back(&model, &view, |row, column| match axis {
            0 => steps[column / 4 * 6 + row],
            _ => steps[column * 2 + row / 4],
        });
    }
}

fn constant(model: &Model, name: &str) -> Vec<f32> {
    let value = model.index().main_value(name).unwrap();
    model.constant(value).unwrap().to_f32().unwrap()
}

/// What was read is put back as it was; half of it on the scales that stand, within half a step of what was asked for.
fn halves_are_put_back(model: &Model, view: &Linear, step: impl Fn(usize, usize) -> f32) {
    let before = view.matrix(model).unwrap();
    let mut changed = model.clone();
    view.set_matrix(&mut changed, &before).unwrap();
    assert_eq!(
        changed.constant(view.weight.constant),
        model.constant(view.weight.constant)
    );
    let halves: Vec<f64> = before.iter().map(|number| number / 2.0).collect();
    view.set_matrix(&mut changed, &halves).unwrap();
    let found = view.matrix(&changed).unwrap();
    for (at, (found, wanted)) in found.iter().zip(&halves).enumerate() {
        let step = f64::from(step(at / view.columns, at % view.columns));
        assert!(
            (found - wanted).abs() <= step * 0.51,
            "{found} for {wanted}"
        );
    }
}

#[test]
fn weights_are_put_back_where_they_came_from() {
    let graph = "opset 13\ninput x f32[n,7]\nconst w i8[4,7]\nconst s f32[4] = positive\nz = Relu(x)\nq = DequantizeLinear(w, s) {axis=0}\n\
                 t = Transpose(q) {perm=[1,0]}\ny = MatMul(z, t)\noutput y";
    let model = text::model(graph).unwrap();
    let view = views_of(&model).remove(0);
    let steps = constant(&model, "s");
    halves_are_put_back(&model, &view, |row, _| steps[row]);
}

#[test]
fn a_shared_weight_is_not_written() {
    let graph = "input x f32[n,7]\nconst w f32[7,7]\nz = MatMul(x, w)\ny = MatMul(z, w)\noutput y";
    let mut model = text::model(graph).unwrap();
    let view = views_of(&model).remove(0);
    let matrix = view.matrix(&model).unwrap();
    assert!(view.set_matrix(&mut model, &matrix).is_none());
}

#[test]
fn a_missing_bias_is_added_and_taken_out_again() {
    let mut model =
        text::model("input x f32[n,3,5,5]\nconst w f32[4,3,3,3]\ny = Conv(x, w)\noutput y")
            .unwrap();
    let bare = model.proto.clone();
    let views = views_of(&model);
    let added = Bias::add_missing(&mut model, &views);
    model.reindex().unwrap();
    assert_eq!(added.len(), 1);
    let view = views_of(&model).remove(0);
    assert_eq!(
        Bias::find(&model, &view).unwrap().read(&model).unwrap(),
        [0.0; 4]
    );
    let mut used = model.clone();
    Bias::find(&used, &view)
        .unwrap()
        .write(&mut used, &[1.0, 0.0, 0.0, 0.0])
        .unwrap();
    Bias::remove_idle(&mut used, &added).unwrap();
    assert_eq!(used.node(view.node).input.len(), 3);
    Bias::remove_idle(&mut model, &added).unwrap();
    assert_eq!(model.proto, bare);
}

#[test]
fn a_norm_takes_the_bias_of_a_convolution_without_one() {
    let graph = "input x f32[n,3,5,5]\nconst w f32[4,3,3,3]\nconst g f32[4]\nconst b f32[4]\nconst m f32[4]\nconst v f32[4] = positive\n\
                 z = Conv(x, w)\ny = BatchNormalization(z, g, b, m, v)\noutput y";
    let mut model = text::model(graph).unwrap();
    let views = views_of(&model);
    assert!(Bias::add_missing(&mut model, &views).is_empty());
    let place = Bias::find(&model, &views[0]).unwrap();
    assert_eq!(place.read(&model).unwrap(), [0.0; 4]);
    let mean = |model: &Model| {
        model
            .constant(model.index().main_value("m").unwrap())
            .unwrap()
            .to_f32()
            .unwrap()
    };
    let before = mean(&model);
    place.write(&mut model, &[1.0, 0.0, 0.0, -2.0]).unwrap();
    assert!(
        (before[0] - mean(&model)[0] - 1.0).abs() < 1e-6
            && (before[3] - mean(&model)[3] + 2.0).abs() < 1e-6
    );
    assert!((place.read(&model).unwrap()[3] + 2.0).abs() < 1e-6);
    place.write(&mut model, &[0.0; 4]).unwrap();
    assert_eq!(mean(&model), before);
}

#[test]
fn positions_go_by_an_axis() {
    let view = |graph: &str| views_of(&text::model(graph).unwrap()).swap_remove(0);
    let product =
        view("opset 17\ninput x f32[n,s,4]\nconst w f32[4,6]\ny = MatMul(x, w)\noutput y");
    let before = |dims: &[usize], axis, count| product.positions_before(dims, (axis, count));
    assert_eq!(before(&[1, 5, 4], 1, 3), Some(vec![0, 1, 2]));
    assert_eq!(before(&[2, 3, 4], 1, 2), Some(vec![0, 1, 3, 4]));
    assert_eq!(before(&[2, 3, 4], 0, 1), Some(vec![0, 1, 2]));
    assert_eq!(before(&[1, 5, 4], 2, 3), None, "columns are no positions");
    let window = view("opset 17\ninput x f32[n,3,s]\nconst w f32[2,3,3]\ny = Conv(x, w)\noutput y");
    assert_eq!(window.positions_before(&[1, 3, 8], (2, 4)), None);
}
