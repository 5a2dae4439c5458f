//! Experts of mixtures: they go with what a router says of them, and as many stay as it chooses at a time.

use std::collections::BTreeSet;

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Group, Kind, Options};
use onnx_prune::model::{Model, TensorRef, text};
use onnx_prune::run::{Runtime, Tensors};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::{OriginalRuns, Workspace};

use super::{Structure, inputs};
use crate::engines;

const EXPERTS: usize = 6;

/// Six experts of 5 channels and 7 neurons, behind a router with a bias.
fn mixture(k: usize, bias: &str, attributes: &str) -> String {
    format!(
        "input x f32[9,5]\nconst r f32[5,6]\nconst rb f32[6]{bias}\nconst a f32[6,7,5]\nconst ab f32[6,7]\nconst b f32[6,5,7]\nconst bb f32[6,5]
        g = MatMul(x, r)\np = Add(g, rb)\ny = com.microsoft.MoE(x, p, a, ab, b, bb) {{k={k}{attributes}}}\noutput y"
    )
}

fn workspace(text: &str) -> (Model, Workspace) {
    let model = text::model(text).unwrap();
    let workspace = Workspace::new(&model, &Options::default()).unwrap();
    (model, workspace)
}

fn experts(workspace: &Workspace) -> Option<(usize, &Group)> {
    let mut groups = workspace.analysis.groups.iter().enumerate();
    groups.find(|(_, group)| group.kind == Kind::Experts)
}

/// The model without these experts.
fn without(workspace: &Workspace, gone: &[u32]) -> Model {
    let (at, _) = experts(workspace).unwrap();
    let mut removed = vec![Vec::new(); workspace.analysis.groups.len()];
    removed[at] = gone.to_vec();
    let cut = workspace.cut(&workspace.select(&removed), &[]);
    cut.unwrap_or_else(|error| panic!("{gone:?}: {error}"))
}

/// What ONNX Runtime makes of a model.
fn outputs(runtime: &dyn Runtime, model: &Model, inputs: &Tensors) -> Vec<f64> {
    let session = runtime.prepare(model, inputs, &[]).unwrap();
    session.run(inputs).unwrap()[0].to_f64().unwrap()
}

fn apart(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().zip(other);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn experts_of_mixtures_and_neurons_in_them() {
    let normal = ", normalize_routing_weights=1, activation_type=\"silu\"";
    for k in [1, 2, 4] {
        for attributes in [", activation_type=\"relu\"", normal] {
            Structure::new(&mixture(k, "", attributes), 90.0)
                .coarse(&[6, 7])
                .holds();
        }
    }
    // Sequences, whose tokens a router sees in one list, with the number of experts in a shape.
    let text = "input x f32[2,n,5]\nconst in f32[5,8]\nconst r f32[8,6]\nconst to i64[2] = -1,6\nconst a f32[6,14,8]\nconst ab f32[6,14]\nconst b f32[6,8,7]\nconst bb f32[6,8]\nconst o f32[8,4]
        h = MatMul(x, in)\ng = MatMul(h, r)\np = Reshape(g, to)\nm = com.microsoft.MoE(h, p, a, ab, b, bb) {k=2, activation_type=\"swiglu\", swiglu_fusion=1, normalize_routing_weights=1}\ns = Add(h, m)\ny = MatMul(s, o)\noutput y";
    Structure::new(text, 90.0).coarse(&[6, 7, 8]).holds();
}

#[test]
fn experts_with_weights_in_blocks_and_zero_points() {
    for (bits, zeros) in [(4, [1, 2]), (8, [2, 3])] {
        let text = format!(
            "input x f32[9,32]\nconst r f32[32,5]\nconst a u8[5,48,{}] = full\nconst as f32[5,48,2] = positive\nconst ab f32[5,48]\nconst b u8[5,32,{}] = full\nconst bs f32[5,32,3] = positive\nconst bb f32[5,32]\nconst az u8[5,48,{}] = full\nconst bz u8[5,32,{}] = full
            p = MatMul(x, r)\ny = com.microsoft.QMoE(x, p, a, as, ab, b, bs, bb, _, _, _, az, bz) {{k=2, expert_weight_bits={bits}, block_size=16, activation_type=\"relu\", normalize_routing_weights=1}}\noutput y",
            4 * bits,
            6 * bits,
            zeros[0],
            zeros[1]
        );
        Structure::new(&text, 90.0).coarse(&[3, 5]).holds();
    }
    // What is chosen by and what is weighed with are two lists.
    let text = "input x f32[9,32]\nconst r f32[32,5]\nconst rb f32[5]\nconst a u8[5,48,32] = full\nconst as f32[5,48] = positive\nconst b u8[5,32,48] = full\nconst bs f32[5,32] = positive
        g = MatMul(x, r)\nw = Sigmoid(g)\np = Add(w, rb)\ny = com.microsoft.QMoE(x, p, a, as, _, b, bs, _, _, _, _, _, _, _, w) {k=2, expert_weight_bits=8, activation_type=\"relu\"}\noutput y";
    Structure::new(text, 90.0).coarse(&[5, 48]).holds();
}

#[test]
fn experts_that_are_never_chosen_are_not_missed() {
    let Some(runtime) = engines::onnxruntime() else {
        return;
    };
    for attributes in ["", ", normalize_routing_weights=1"] {
        let text = mixture(2, " = 0, -10000, 0.1, -10000, 0, -0.1", attributes);
        let (model, workspace) = workspace(&text);
        let inputs = inputs(&model, 5);
        let whole = outputs(runtime, &model, &inputs);
        let pruned = without(&workspace, &[1, 3]);
        assert!(apart(&whole, &outputs(runtime, &pruned, &inputs)) < 1e-6);
        // Others are missed.
        let other = without(&workspace, &[0, 2]);
        assert!(apart(&whole, &outputs(runtime, &other, &inputs)) > 1e-3);
    }
}

#[test]
fn a_cut_of_other_experts_than_planned_is_found() {
    let Some(runtime) = engines::onnxruntime() else {
        return;
    };
    let text = mixture(2, "", ", activation_type=\"relu\"");
    let (model, workspace) = workspace(&text);
    let (at, _) = experts(&workspace).unwrap();
    let mut removed = vec![Vec::new(); workspace.analysis.groups.len()];
    removed[at] = vec![0, 2];
    let selection = workspace.select(&removed);
    // The masked original has all of them, and does not choose those that go.
    let masked = workspace.masked(&selection).unwrap();
    let held = masked.constant(masked.index().main_value("a").unwrap());
    assert_eq!(held.unwrap().dims, [EXPERTS, 7, 5]);
    let inputs = inputs(&model, 4);
    let right = without(&workspace, &[0, 2]);
    let apart = apart(
        &outputs(runtime, &masked, &inputs),
        &outputs(runtime, &right, &inputs),
    );
    assert!(apart < 1e-6, "{apart}");
    let session = runtime.prepare(&model, &inputs, &[]).unwrap();
    let original = [session.run(&inputs).unwrap()];
    let judged = |pruned: &Model| {
        let runs = OriginalRuns {
            inputs: std::slice::from_ref(&inputs),
            outputs: &original,
            noise: session.noise(),
        };
        let found = workspace.exactness(&selection, pruned, runtime, runs);
        found.verdict
    };
    assert_eq!(judged(&right), Verdict::Exact);
    assert_eq!(judged(&without(&workspace, &[0, 3])), Verdict::Inexact);
}

/// The mixture by its definition, of some experts alone: the shares of all of these by their logits, `k` of which count.
fn reference(model: &Model, x: &TensorRef, left: &[usize], k: usize, normal: bool) -> Vec<f64> {
    let constant = |name: &str| {
        let value = model.index().main_value(name).unwrap();
        model.constant(value).unwrap().to_f64().unwrap()
    };
    let [r, rb, a, ab, b, bb] = ["r", "rb", "a", "ab", "b", "bb"].map(constant);
    let mut all = Vec::new();
    for token in x.to_f64().unwrap().chunks(5) {
        let logit = |e: usize| rb[e] + (0..5).map(|c| token[c] * r[c * EXPERTS + e]).sum::<f64>();
        let all_shares: f64 = left.iter().map(|e| logit(*e).exp()).sum();
        let mut shares: Vec<(f64, usize)> = left
            .iter()
            .map(|e| (logit(*e).exp() / all_shares, *e))
            .collect();
        shares.sort_by(|one, other| other.0.total_cmp(&one.0));
        shares.truncate(k);
        let sum: f64 = shares.iter().map(|(share, _)| share).sum();
        let mut given = vec![0.0; 5];
        for (share, e) in shares {
            let neuron = |n: usize| {
                let row = (e * 7 + n) * 5;
                let sum: f64 = (0..5).map(|c| token[c] * a[row + c]).sum();
                (sum + ab[e * 7 + n]).max(0.0)
            };
            for (c, given) in given.iter_mut().enumerate() {
                let row = (e * 5 + c) * 7;
                let sum_of: f64 = (0..7).map(|n| neuron(n) * b[row + n]).sum();
                *given += (sum_of + bb[e * 5 + c]) * if normal { share / sum } else { share };
            }
        }
        all.extend(given);
    }
    all
}

#[test]
fn the_experts_that_are_left_share_the_tokens() {
    let Some(runtime) = engines::onnxruntime() else {
        return;
    };
    for (k, normal, gone) in [
        (1, false, vec![0, 5]),
        (2, true, vec![1, 2, 4]),
        (3, false, vec![0, 3]),
        (2, false, vec![0, 1, 2, 5]),
    ] {
        let attributes = format!(
            ", activation_type=\"relu\", normalize_routing_weights={}",
            u8::from(normal)
        );
        let (model, workspace) = workspace(&mixture(k, "", &attributes));
        let inputs = inputs(&model, 3);
        let left = (0..EXPERTS).filter(|expert| !gone.contains(&(*expert as u32)));
        let left: Vec<usize> = left.collect();
        let found = outputs(runtime, &without(&workspace, &gone), &inputs);
        let expected = reference(&model, &inputs["x"], &left, k, normal);
        assert!(
            apart(&expected, &found) < 1e-5,
            "{k} {normal} {gone:?}: {expected:?} {found:?}"
        );
    }
}

#[test]
fn as_many_experts_stay_as_a_router_chooses() {
    for k in [1, 2, 5] {
        let (_, workspace) = workspace(&mixture(k, "", ""));
        let (at, group) = experts(&workspace).unwrap();
        assert_eq!((group.units.len(), group.least), (EXPERTS, k));
        let held: BTreeSet<(&str, usize)> = group
            .weights
            .iter()
            .map(|(value, axis)| {
                let name = workspace.working.index().value(*value).name.as_str();
                (name, *axis)
            })
            .collect();
        let expected = [
            ("a", 0),
            ("ab", 0),
            ("b", 0),
            ("bb", 0),
            ("r", 1),
            ("rb", 0),
        ];
        assert_eq!(held, BTreeSet::from(expected));
        for align in [1, 4] {
            let saliency = [vec![0.0; EXPERTS]];
            let align = Align::Multiple(align);
            let ranking = Ranking::new(workspace.subject(), &[at], &saliency, &align);
            let left = EXPERTS - ranking.remove(ranking.len()).removed[at].len();
            assert!(left >= k, "{left} of {k}");
        }
        let mut removed = vec![Vec::new(); workspace.analysis.groups.len()];
        removed[at] = (0..(EXPERTS - k + 1) as u32).collect();
        if k > 1 {
            let cut = workspace.cut(&workspace.select(&removed), &[]);
            let said = cut.err().map(|error| error.to_string());
            assert!(
                said.as_ref()
                    .is_some_and(|said| said.contains("a router takes")),
                "{said:?}"
            );
        }
    }
    // Nor does one go where all are used, or where shares are computed before.
    let (_, all_used) = workspace(&mixture(EXPERTS, "", ""));
    assert!(experts(&all_used).is_none());
    let soft = mixture(2, "", "").replace("MoE(x, p,", "MoE(x, q,");
    let soft = soft.replace("\ny =", "\nq = Softmax(p)\ny =");
    assert!(experts(&workspace(&soft).1).is_none());
}
