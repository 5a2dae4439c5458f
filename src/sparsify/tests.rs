//! The whole way on models of a few nodes.

use rand::Rng;

use super::*;
use crate::inputs::Batches;
use crate::model::{Model, TensorRef, text};
use crate::progress::Work;
use crate::recover::Method;
use crate::rng::rng;
use crate::run::{Runtime, Tensors, TractRuntime};

const NET: &str = "opset 13\ninput x f32[n,4,6,6]\nconst w f32[8,4,3,3]\nconst b f32[8]\nconst q i8[12,8]\nconst s f32[12]\n\
     const z i8[12]\nconst v f32[12,16]\nc = Conv(x, w, b) {pads=[1,1,1,1]}\nr = Relu(c)\np = GlobalAveragePool(r)\n\
     f = Flatten(p)\nd = DequantizeLinear(q, s, z) {axis=0}\nt = Transpose(d) {perm=[1,0]}\nm = MatMul(f, t)\ng = Relu(m)\n\
     y = MatMul(g, v)\noutput y\n";

/// The net, its scales and zero points as they are in practice.
fn net() -> Model {
    let mut model = text::model(NET).unwrap();
    for (name, numbers) in [
        ("s", TensorRef::from_f32(vec![12], &[0.01; 12])),
        (
            "z",
            TensorRef {
                dtype: crate::proto::Dtype::Int8,
                dims: vec![12],
                bytes: vec![3, 0, 5, 253, 0, 1, 2, 3, 4, 5, 6, 7].into(),
            },
        ),
    ] {
        let value = model.index().main_value(name).unwrap();
        *model.tensor_proto_mut(value).unwrap() = numbers.to_proto(name);
    }
    model
}

fn inputs(count: usize) -> Vec<Tensors> {
    let mut random = rng(3, "inputs");
    (0..count)
        .map(|_| {
            let numbers: Vec<f32> = (0..8 * 144)
                .map(|_| random.random_range(-1.0..1.0))
                .collect();
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![8, 4, 6, 6], &numbers),
            )])
        })
        .collect()
}

fn data(inputs: &dyn Batches) -> Data<'_> {
    Data {
        inputs,
        whole: inputs,
        labels: None,
        synthetic: false,
        measured: (inputs, None),
        preparation: "",
        original: None,
    }
}

fn request(pattern: &str, score: SparseScore) -> SparsifyRequest {
    SparsifyRequest {
        sparsity: Some(0.6),
        pattern: pattern.parse().unwrap(),
        score,
        recover: Some(Method::LeastSquares),
        keep_plan: true,
        ..Default::default()
    }
}

fn made(model: &Model, request: &SparsifyRequest) -> SparsifyOutcome {
    let inputs = inputs(24);
    let runtime = TractRuntime::new(true);
    sparsify(
        model,
        request,
        data(&inputs),
        Some(&runtime),
        &Work::new(&()),
    )
    .unwrap()
}

fn encoded(model: &Model) -> Vec<u8> {
    use prost::Message;
    model.proto.encode_to_vec()
}

#[test]
fn weights_of_all_kinds_are_thinned_out_and_fitted() {
    let model = net();
    for (pattern, score) in [
        ("none", SparseScore::Obs),
        ("2:4", SparseScore::SparseGpt),
        ("1x4", SparseScore::Wanda),
        ("kernel", SparseScore::Magnitude),
    ] {
        let outcome = made(&model, &request(pattern, score));
        assert_eq!(outcome.layers.len(), 3, "{pattern}");
        for layer in &outcome.layers {
            let (before, after) = layer.error.unwrap();
            assert!(after <= before && layer.zeros > 0, "{pattern}: {layer:?}");
        }
        let (gone, all) = outcome.plan.masks.iter().fold((0, 0), |sum, mask| {
            (sum.0 + mask.zeros, sum.1 + mask.elements)
        });
        let wanted = if pattern == "2:4" { 0.5 } else { 0.6 };
        assert!(
            (gone as f64 / all as f64 - wanted).abs() < 0.02,
            "{pattern}: {gone} of {all}"
        );
        assert!(
            outcome
                .layers
                .iter()
                .any(|layer| layer.error.unwrap().1 < 0.8 * layer.error.unwrap().0)
        );
    }
}

/// The net with its product in numbers of four bits.
fn packed_net() -> Model {
    let graph = "opset 13\ninput x f32[n,4,6,6]\nconst w f32[32,4,3,3]\nconst b f32[32]\nconst q u8[24,2,8] = full\nconst s f32[48] = positive\n\
                 const z u8[24] = full\nconst v f32[24,16]\nc = Conv(x, w, b) {pads=[1,1,1,1]}\nr = Relu(c)\np = GlobalAveragePool(r)\n\
                 f = Flatten(p)\nm = com.microsoft.MatMulNBits(f, q, s, z) {K=32, N=24, bits=4, block_size=16}\ng = Relu(m)\n\
                 y = MatMul(g, v)\noutput y\n";
    text::model(graph).unwrap()
}

#[test]
fn numbers_that_share_bytes_are_thinned_out() {
    let model = packed_net();
    for (pattern, score, wanted) in [
        ("none", SparseScore::Obs, 0.6),
        ("2:4", SparseScore::SparseGpt, 0.5),
        ("none", SparseScore::Magnitude, 0.6),
    ] {
        let outcome = made(&model, &request(pattern, score));
        let packed = outcome.layers.iter().find(|layer| layer.weight == "q");
        let packed = packed.unwrap();
        assert_eq!(packed.elements, 24 * 32, "{pattern}");
        let mask = outcome.plan.masks.iter().find(|mask| mask.value == "q");
        let mask = mask.unwrap();
        assert!(
            packed.zeros >= mask.zeros && mask.zeros > 0,
            "{pattern}: {packed:?}"
        );
        let (gone, all) = outcome.plan.masks.iter().fold((0, 0), |sum, mask| {
            (sum.0 + mask.zeros, sum.1 + mask.elements)
        });
        assert!(
            (gone as f64 / all as f64 - wanted).abs() < 0.02,
            "{pattern}"
        );
        let again = SparsifyRequest {
            plan: serde_json::from_str(&outcome.plan.to_json()).ok(),
            sparsity: None,
            ..request(pattern, score)
        };
        let second = made(&model, &again);
        assert_eq!(outcome.plan, second.plan);
        assert!(encoded(&outcome.model) == encoded(&second.model));
    }
}

#[test]
fn a_plan_gives_the_same_model_again() {
    let model = net();
    let first = made(&model, &request("none", SparseScore::Obs));
    let again = SparsifyRequest {
        plan: serde_json::from_str(&first.plan.to_json()).ok(),
        sparsity: None,
        ..request("none", SparseScore::Magnitude)
    };
    let second = made(&model, &again);
    assert_eq!(first.plan, second.plan);
    assert!(encoded(&first.model) == encoded(&second.model));
    let mut wrong = first.plan.clone();
    wrong.masks[0].digest.replace_range(..4, "0000");
    let refused = |plan: SparsePlan| {
        let request = SparsifyRequest {
            plan: Some(plan),
            ..Default::default()
        };
        let none = Vec::<Tensors>::new();
        sparsify(&model, &request, data(&none), None, &Work::new(&()))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(wrong.clone()).contains("digest"));
    wrong.model_sha256 = "another".to_owned();
    assert!(refused(wrong).contains("another model"));
    let strict = SparsePlan {
        pattern: "1x4".to_owned(),
        ..first.plan
    };
    assert!(refused(strict).contains("pattern"));
}

#[test]
fn without_inputs_sizes_decide_and_nothing_else_changes() {
    let model = net();
    let none = Vec::<Tensors>::new();
    let request = SparsifyRequest {
        sparsity: Some(0.5),
        exclude: vec![globset::Glob::new("v").unwrap()],
        ..Default::default()
    };
    let outcome = sparsify(&model, &request, data(&none), None, &Work::new(&())).unwrap();
    assert_eq!(
        (outcome.layers.len(), outcome.left[0].weight.as_str()),
        (2, "v")
    );
    let gone: usize = outcome.plan.masks.iter().map(|mask| mask.zeros).sum();
    assert_eq!(gone, (288 + 96) / 2);
    let value = model.index().main_value("w").unwrap();
    let numbers = |model: &Model| model.constant(value).unwrap().to_f32().unwrap();
    for (before, after) in numbers(&model).iter().zip(numbers(&outcome.model)) {
        assert!(after == *before || after == 0.0);
    }
    let needy = SparsifyRequest {
        score: SparseScore::Obs,
        ..request
    };
    assert!(sparsify(&model, &needy, data(&none), None, &Work::new(&())).is_err());
}

#[test]
fn sparse_storage_holds_the_same_numbers() {
    let model = net();
    let none = Vec::<Tensors>::new();
    let request = SparsifyRequest {
        sparsity: Some(0.9),
        ..Default::default()
    };
    let outcome = sparsify(&model, &request, data(&none), None, &Work::new(&())).unwrap();
    let mut stored = outcome.model.clone();
    stored.proto.ir_version = Some(8);
    assert_eq!(
        store_sparse(&mut stored, &outcome.constants()).unwrap(),
        2,
        "quantized ones stay"
    );
    assert!(encoded(&stored).len() < encoded(&outcome.model).len());
    assert!(deflated(&outcome.model).unwrap() < deflated(&model).unwrap());
    let (runtime, inputs) = (TractRuntime::new(true), inputs(1));
    let run = |model: &Model| {
        let session = runtime.prepare(model, &inputs[0], &[]).unwrap();
        session.run(&inputs[0]).unwrap()
    };
    assert_eq!(run(&stored), run(&outcome.model));
}
