//! Normalisations as exporters write them.

use onnx_prune::analysis::Options;
use onnx_prune::model::{encoded_len, text};
use onnx_prune::workspace::Workspace;

use super::Structure;

#[test]
fn group_norm_as_reshape_instance_norm_reshape() {
    let text = "input x f32[n,3,4,4]\nconst a f32[12,3,3,3]\nconst one f32[4] = 1\nconst nil f32[4] = 0\nconst g f32[12,1,1]\nconst o f32[12,1,1]\nconst b f32[5,12,1,1]\nconst apart i64[3] = 0,4,-1
        f = Conv(x, a) {pads=[1,1,1,1]}\nf1 = Reshape(f, apart)\nf2 = InstanceNormalization(f1, one, nil)\ns = Shape(f)\nf3 = Reshape(f2, s)\nf4 = Mul(f3, g)\nf5 = Add(f4, o)\nf6 = Relu(f5)\ny = Conv(f6, b)\noutput y";
    Structure::new(text, 99.0).coarse(&[4]).holds();
}

#[test]
fn residual_width_through_layer_norm_at_a_loss() {
    let text = "input t i64[n,3]\nconst e f32[9,8]\nconst g f32[8]\nconst b f32[8]\nconst u f32[8,12]\nconst d f32[12,8]\nconst h f32[8,5]
        x = Gather(e, t)\nf = LayerNormalization(x, g, b)\nf1 = MatMul(f, u)\nf2 = Relu(f1)\nf3 = MatMul(f2, d)\nx1 = Add(x, f3)\nf4 = LayerNormalization(x1, g, b)\ny = MatMul(f4, h)\noutput y";
    Structure::new(text, 99.0).coarse(&[8, 12]).holds();
}

#[test]
fn residual_width_through_a_fused_root_mean_square() {
    let text = "opset 23\nir 11\ninput t i64[n,3]\nconst e f32[9,8]\nconst g f32[8]\nconst u f32[8,12]\nconst d f32[12,8]\nconst h f32[8,5]
        x = Gather(e, t)\nf = RMSNormalization(x, g) {axis=-1}\nf1 = MatMul(f, u)\nf2 = Relu(f1)\nf3 = MatMul(f2, d)\nx1 = Add(x, f3)\nf4 = RMSNormalization(x1, g) {axis=-1}\ny = MatMul(f4, h)\noutput y";
    Structure::new(text, 99.0)
        .coarse(&[8, 12])
        .lossless()
        .holds();
}

#[test]
fn residual_width_through_a_written_out_root_mean_square() {
    let text = "opset 18\ninput t i64[n,3]\nconst e f32[9,8]\nconst g f32[8]\nconst u f32[8,12]\nconst d f32[12,8]\nconst h f32[8,5]\nconst two f32[] = 2\nconst eps f32[] = 0.01\nconst one f32[] = 1\nconst last i64[1] = -1
        x = Gather(e, t)\na = Pow(x, two)\na1 = ReduceMean(a, last)\na2 = Add(a1, eps)\na3 = Sqrt(a2)\na4 = Div(one, a3)\na5 = Mul(x, a4)\nf = Mul(a5, g)
        f1 = MatMul(f, u)\nf2 = Relu(f1)\nf3 = MatMul(f2, d)\nx1 = Add(x, f3)
        b = Mul(x1, x1)\nb1 = ReduceMean(b, last)\nb2 = Add(b1, eps)\nb3 = Sqrt(b2)\nb5 = Div(x1, b3)\nf4 = Mul(g, b5)\ny = MatMul(f4, h)\noutput y";
    Structure::new(text, 98.0)
        .coarse(&[8, 12])
        .lossless()
        .holds();
}

#[test]
fn hidden_channels_through_a_global_response_normalisation() {
    let text = "opset 18\ninput x f32[n,3,6,6]\nconst w f32[8,3,3,3]\nconst wb f32[8]\nconst g f32[8,1,1]\nconst b f32[8,1,1]\nconst v f32[5,8,1,1]\nconst eps f32[] = 0.001\nconst area i64[2] = 2, 3\nconst channels i64[1] = 1
        h0 = Conv(x, w, wb)\nh = Sigmoid(h0)\nr = ReduceL2(h, area)\nm = ReduceMean(r, channels)\nm1 = Add(m, eps)\nq = Div(r, m1)\nn1 = Mul(h, q)\nn2 = Mul(g, n1)\nn3 = Add(b, n2)\nz = Add(h, n3)\ny = Conv(z, v)\noutput y";
    Structure::new(text, 98.0).coarse(&[8]).lossless().holds();
}

#[test]
fn tied_embeddings_used_transposed() {
    let text = "input t i64[n,3]\nconst e f32[9,8]\nconst g f32[8]\nconst u f32[8,12]\nconst d f32[12,8]
        x = Gather(e, t)\nf1 = MatMul(x, u)\nf2 = Relu(f1)\nf3 = MatMul(f2, d)\nx1 = Add(x, f3)\nw = Transpose(e) {perm=[1,0]}\ny = MatMul(x1, w)\noutput y";
    Structure::new(text, 90.0).coarse(&[8, 12]).holds();
}

#[test]
fn weights_standardised_in_the_model() {
    // The statistics run over the input channels, which the convolution before gives.
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,3,3]\nconst b f32[6,8,3,3]\nconst c f32[5,6,1,1]\nconst g f32[6]\nconst n6 f32[6] = 0\nconst o8 f32[8] = 1\nconst n8 f32[8] = 0\nconst p6 i64[3] = 1,6,-1\nconst p8 i64[3] = 1,8,-1\nconst q i64[4] = 8,3,3,3\nconst r i64[4] = 6,8,3,3\nconst eps f32[] = 0.001
        a1 = Reshape(a, p8)\na2 = BatchNormalization(a1, o8, n8, n8, o8) {training_mode=1}\na3 = Reshape(a2, q)
        b1 = Reshape(b, p6)\nm = ReduceMean(b1) {axes=[2],keepdims=1}\nd = Sub(b1, m)\nd1 = Mul(d, d)\nv = ReduceMean(d1) {axes=[0,2],keepdims=0}\nm1 = ReduceMean(b1) {axes=[0,2],keepdims=0}\nb2 = BatchNormalization(b1, g, n6, m1, v)\nb3 = Reshape(b2, r)
        c1 = ReduceL2(c) {axes=[1,2,3],keepdims=1}\nc2 = Add(c1, eps)\nc3 = Div(c, c2)
        f = Conv(x, a3) {pads=[1,1,1,1]}\nf1 = Relu(f)\nf2 = Conv(f1, b3) {pads=[1,1,1,1]}\nf3 = Relu(f2)\ny = Conv(f3, c3)\noutput y";
    Structure::new(text, 99.0).coarse(&[6, 8]).holds();
    let stored = Workspace::new(&text::model(text).unwrap(), &Options::default())
        .unwrap()
        .working;
    assert!(encoded_len(&stored) < encoded_len(&text::model(text).unwrap()));
    assert_eq!(
        stored.index().nodes().len(),
        5,
        "three convolutions and two activations"
    );
}

#[test]
fn statistics_of_weights_that_are_read_raw_as_well_stay_computed() {
    let text = "input x f32[n,3,6,6]\nconst a f32[8,3,1,1]\nconst eps f32[] = 0.001
        a1 = ReduceL2(a) {axes=[1,2,3],keepdims=1}\na2 = Add(a1, eps)\na3 = Div(a, a2)\nf = Conv(x, a3)\nf1 = Conv(x, a)\ny = Add(f, f1)\noutput y";
    let prepared = Workspace::new(&text::model(text).unwrap(), &Options::default()).unwrap();
    assert_eq!(prepared.working.index().nodes().len(), 6);
}
