//! Tokens that go: the model that is left gives for the new ids what the original gives for the old ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use onnx_prune::analysis::KeptTokens;
use onnx_prune::calibrate::{ModelInputs, declared_inputs};
use onnx_prune::model::{Ends, Model, TensorRef, text};
use onnx_prune::rng::rng;
use onnx_prune::run::{Runtime, Tensors, TractRuntime};
use onnx_prune::{
    Dataset, Outcome, Plan, PruneError, Pruner, Request, Scorer, Target, Verdict, Work, vocabulary,
};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::corpus::corpus;

/// How far outputs may be apart, as a share of the largest.
const ROUNDING: f64 = 1e-5;

fn tokens(model: &Model) -> KeptTokens {
    let pins = Default::default();
    let wanted = ModelInputs::new(model, declared_inputs(model, &pins, None), &pins).unwrap();
    vocabulary::find(model, &wanted).unwrap()
}

/// A random half of the tokens.
fn half(tokens: &KeptTokens) -> KeptTokens {
    let mut kept = tokens.kept.clone();
    kept.shuffle(&mut rng(3, "tokens"));
    kept.truncate(tokens.rows / 2);
    kept.sort_unstable();
    KeptTokens {
        kept,
        ..tokens.clone()
    }
}

/// Random ids among those that stay.
fn drawn(tokens: &KeptTokens, dims: &[usize], runs: usize) -> Vec<Tensors> {
    let mut rng = rng(4, "ids");
    let mut one = |_| {
        let count: usize = dims.iter().product();
        let mut ids = || -> Vec<i64> {
            let mut draw = |_| i64::from(tokens.kept[rng.random_range(0..tokens.kept.len())]);
            (0..count).map(&mut draw).collect()
        };
        let names = tokens.ends.inputs.iter();
        names
            .map(|name| (name.clone(), TensorRef::from_i64(dims.to_vec(), &ids())))
            .collect()
    };
    (0..runs).map(&mut one).collect()
}

fn pruned(model: &Model, request: &Request, data: &[Tensors]) -> Result<Outcome, PruneError> {
    let runtime = TractRuntime::new(true);
    let data = Dataset::new(Arc::new(data.to_vec()));
    Pruner::new(model, &data, Some(&runtime), Work::new(&())).run(request)
}

fn outputs(model: &Model, inputs: &Tensors) -> Vec<TensorRef> {
    let runtime = TractRuntime::new(true);
    let session = runtime.prepare(model, inputs, &[]).unwrap();
    session.run(inputs).unwrap()
}

/// Holds outputs for new ids against the original's for old ones; `logits` have an entry for each token.
fn agrees(model: &Model, outcome: &Outcome, data: &[Tensors], logits: &[bool]) {
    let tokens = &outcome.vocabulary.as_ref().unwrap().tokens;
    let new = |old: i64| tokens.kept.binary_search(&(old as u32)).unwrap() as i64;
    let mut alone = outcome.model.clone();
    alone.ends = Ends::default();
    for old in data {
        let mut renumbered = old.clone();
        for name in &tokens.ends.inputs {
            let held = &old[name];
            let ids: Vec<i64> = held.to_i64().unwrap().into_iter().map(new).collect();
            renumbered.insert(name.clone(), TensorRef::from_i64(held.dims.clone(), &ids));
        }
        let (before, after) = (outputs(model, old), outputs(&alone, &renumbered));
        assert_eq!(before.len(), logits.len());
        for ((before, after), logits) in before.iter().zip(&after).zip(logits) {
            let mut kept = vec![None; before.dims.len()];
            if *logits {
                *kept.last_mut().unwrap() = Some(tokens.kept.clone());
            }
            let before = before.select(&kept);
            assert_eq!(before.dims, after.dims);
            let (before, after) = (before.to_f64().unwrap(), after.to_f64().unwrap());
            let scale = before.iter().fold(1e-9f64, |scale, x| scale.max(x.abs()));
            let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f64::max) <= ROUNDING * scale);
        }
    }
}

/// Cuts a net to half of its tokens, checks it, and applies its plan again.
fn check(net: &str, dims: &[usize], logits: &[bool]) -> Outcome {
    let model = text::model(net).unwrap();
    let mut request = Request::default();
    let tokens = half(&tokens(&model));
    let data = drawn(&tokens, dims, 3);
    request.tokens = Some(tokens.clone());
    request.keep_plan = true;
    let outcome = pruned(&model, &request, &data).unwrap();
    let checks = outcome.checks.as_ref().unwrap();
    assert_eq!(
        checks.exactness.verdict,
        Verdict::Exact,
        "{:?}",
        checks.exactness
    );
    assert!(checks.drift().unwrap() <= ROUNDING);
    agrees(&model, &outcome, &data, logits);
    let planned = again(&model, &outcome, &data);
    assert_eq!(planned.model.proto, outcome.model.proto);
    assert_eq!(planned.plan, outcome.plan);
    outcome
}

/// Applies the plan of an outcome, as its file has it.
fn again(model: &Model, outcome: &Outcome, data: &[Tensors]) -> Outcome {
    let plan: Plan = serde_json::from_str(&outcome.plan.to_json()).unwrap();
    let mut request = Request::default();
    request.plan = Some(plan);
    pruned(model, &request, data).unwrap()
}

/// Extents of an initializer.
fn dims(outcome: &Outcome, name: &str) -> Vec<i64> {
    let graph = outcome.model.proto.graph.as_ref().unwrap();
    let stored = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name() == name);
    stored.unwrap().dims.clone()
}

const EMBEDDING: &str = "input ids i64[b,s]\nconst table f32[12,6]\nconst w f32[6,3]\n\
    e = Gather(table, ids)\ny = MatMul(e, w)\noutput y";

#[test]
fn rows_of_an_embedding_go() {
    let outcome = check(EMBEDDING, &[2, 5], &[false]);
    assert_eq!(
        (dims(&outcome, "table"), dims(&outcome, "w")),
        (vec![6, 6], vec![6, 3])
    );
    let removed = &outcome.plan.removed;
    assert_eq!(
        (removed.len(), removed[0].axis, removed[0].indices.len()),
        (1, 0, 6)
    );
    assert_eq!(outcome.plan.groups[0].kind, "vocabulary");
}

#[test]
fn a_tied_projection_goes_with_its_table() {
    let net = "input ids i64[b,s]\nconst table f32[12,6]\nconst bias f32[12]\ne = Gather(table, ids)\nh = Tanh(e)\n\
        turned = Transpose(table) {perm=[1,0]}\nm = MatMul(h, turned)\nlogits = Add(m, bias)\noutput logits";
    let outcome = check(net, &[2, 5], &[true]);
    assert_eq!(
        (dims(&outcome, "table"), dims(&outcome, "bias")),
        (vec![6, 6], vec![6])
    );
    assert_eq!(
        outcome.vocabulary.as_ref().unwrap().outputs(&outcome),
        ["logits"]
    );
    let gemm = "input ids i64[n]\nconst table f32[12,6]\nconst bias f32[12]\ne = Gather(table, ids)\n\
        logits = Gemm(e, table, bias) {transB=1}\noutput logits";
    let outcome = check(gemm, &[7], &[true]);
    assert_eq!(
        (dims(&outcome, "table"), dims(&outcome, "bias")),
        (vec![6, 6], vec![6])
    );
}

#[test]
fn an_untied_projection_goes_too_and_two_tables_share_ids() {
    let net = "input ids i64[n]\nconst one f32[12,6]\nconst two f32[12,6]\nconst head f32[6,12]\nconst bias f32[12]\n\
        a = Gather(one, ids)\nb = Gather(two, ids)\nh = Add(a, b)\nlogits = Gemm(h, head, bias)\noutput logits\noutput h";
    let outcome = check(net, &[7], &[true, false]);
    for (name, expected) in [
        ("one", vec![6, 6]),
        ("two", vec![6, 6]),
        ("head", vec![6, 6]),
        ("bias", vec![6]),
    ] {
        assert_eq!(dims(&outcome, name), expected, "{name}");
    }
}

#[test]
fn what_reads_all_tokens_together_is_refused_by_its_node() {
    let net = "input ids i64[b,s]\nconst table f32[12,6]\ne = Gather(table, ids)\nturned = Transpose(table) {perm=[1,0]}\n\
        m = MatMul(e, turned)\nchances = Softmax(m) {axis=-1}\noutput chances";
    let model = text::model(net).unwrap();
    let mut request = Request::default();
    request.tokens = Some(half(&tokens(&model)));
    let data = drawn(request.tokens.as_ref().unwrap(), &[2, 5], 2);
    let refused = pruned(&model, &request, &data).unwrap_err();
    assert!(
        matches!(&refused, PruneError::Vocabulary(said) if said.contains("'chances'")),
        "{refused}"
    );
    // Apart from its table, the projection may keep them.
    let untied = net.replace(
        "turned = Transpose(table) {perm=[1,0]}",
        "const turned f32[6,12]",
    );
    let outcome = check(&untied, &[2, 5], &[false]);
    assert!(
        outcome
            .notes
            .iter()
            .any(|note| note.to_string().contains("old ids"))
    );
}

#[test]
fn rows_that_are_read_otherwise_as_well_are_refused() {
    for (lines, said) in [
        // A sum over all tokens, and rows that are picked by constants.
        (
            "input weights f32[b,12]\nodd = MatMul(weights, table)\noutput odd",
            "weights",
        ),
        (
            "const some i64[2] = 0,5\npicked = Gather(table, some)\nodd = Neg(picked)\noutput odd",
            "table",
        ),
        (
            "const one i64[] = 3\nodd = Gather(table, one)\noutput odd",
            "odd",
        ),
    ] {
        let model = text::model(&format!("{EMBEDDING}\n{lines}")).unwrap();
        let mut request = Request::default();
        request.tokens = Some(half(&tokens(&model)));
        let refused = pruned(&model, &request, &[]).unwrap_err();
        assert!(
            matches!(&refused, PruneError::Vocabulary(text) if text.contains(said)),
            "{refused}"
        );
    }
    // A hidden layer that is given too, of as many units by chance.
    let hidden = "input ids i64[b,s]\nconst table f32[12,6]\nconst w f32[6,12]\nconst v f32[12,3]\n\
        e = Gather(table, ids)\nh = MatMul(e, w)\ny = MatMul(h, v)\noutput h\noutput y";
    check(hidden, &[2, 5], &[false, false]);
}

#[test]
fn inputs_with_tokens_that_go_are_refused_with_how_many_and_which() {
    let model = text::model(EMBEDDING).unwrap();
    let mut request = Request::default();
    request.tokens = Some(KeptTokens {
        kept: vec![0, 2, 3],
        ..tokens(&model)
    });
    let ids = TensorRef::from_i64(vec![1, 4], &[0, 7, 2, 11]);
    let refused = pruned(
        &model,
        &request,
        &[[("ids".to_owned(), ids)].into_iter().collect()],
    );
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("2 ids") && said.contains("7, 11"), "{said}");
}

#[test]
fn other_units_go_after_the_tokens_in_one_plan() {
    let net = "input ids i64[n,s]\nconst table f32[40,8]\nconst one f32[8,32]\nconst two f32[32,8]\ne = Gather(table, ids)\n\
        a = MatMul(e, one)\nr = Relu(a)\nc = MatMul(r, two)\nh = Add(e, c)\nturned = Transpose(table) {perm=[1,0]}\n\
        logits = MatMul(h, turned)\noutput logits";
    let model = text::model(net).unwrap();
    let mut request = Request::default();
    let tokens = half(&tokens(&model));
    let data = drawn(&tokens, &[2, 6], 8);
    request.tokens = Some(tokens);
    request.targets = vec![Target::Params(0.5)];
    request.score = Scorer::named("l2", 0).unwrap();
    request.keep_plan = true;
    let outcome = pruned(&model, &request, &data).unwrap();
    assert_eq!(
        outcome.checks.as_ref().unwrap().exactness.verdict,
        Verdict::Exact
    );
    assert!(outcome.reached);
    let (before, after) = (outcome.before.params, outcome.after.params);
    assert_eq!(before, 832.0, "fractions are of the model that was read");
    assert!(after <= 0.5 * before && after > 0.35 * before, "{after}");
    assert_eq!(dims(&outcome, "table")[0], 20);
    let kinds: Vec<&str> = outcome
        .plan
        .groups
        .iter()
        .map(|group| &*group.kind)
        .collect();
    assert!(
        kinds[0] == "vocabulary" && kinds[1..].contains(&"channels"),
        "{kinds:?}"
    );
    let planned = again(&model, &outcome, &data);
    assert_eq!(planned.model.proto, outcome.model.proto);
    let mut wrong = outcome.plan.clone();
    wrong.removed[0].indices.pop();
    let mut request = Request::default();
    request.plan = Some(wrong);
    assert!(matches!(
        pruned(&model, &request, &data),
        Err(PruneError::Plan(_))
    ));
}

#[test]
fn a_sentence_model_needs_the_words_of_its_sentences_alone() {
    let Some(root) = corpus() else { return };
    let data = root.join("data");
    let model = onnx_prune::load(
        &data.join("models/minilm_l6_sentence.onnx"),
        Default::default(),
    )
    .unwrap();
    let mut tokens = tokens(&model);
    assert_eq!((tokens.rows, tokens.ends.inputs.len()), (9013, 1));
    let sentences = Dataset::read(&model, &data.join("sets/stsb_calib.npz"), Some(24)).unwrap();
    let all: Vec<Tensors> = (0..sentences.inputs.count())
        .map(|at| sentences.inputs.fetch(at).unwrap())
        .collect();
    // Half of the vocabulary: the words of these sentences, and others.
    let mut words = BTreeSet::new();
    for inputs in &all {
        for name in &tokens.ends.inputs {
            let ids = inputs[name].to_i64().unwrap();
            words.extend(ids.into_iter().map(|id| id as u32));
        }
    }
    let words: Vec<u32> = words.into_iter().collect();
    let others = (0..9013).filter(|id| words.binary_search(id).is_err());
    tokens.kept = words
        .iter()
        .copied()
        .chain(others.step_by(2))
        .take(9013 / 2)
        .collect();
    tokens.kept.sort_unstable();
    let mut request = Request::default();
    request.tokens = Some(tokens);
    let few = &all[..1];
    let outcome = pruned(&model, &request, few).unwrap();
    assert_eq!(
        outcome.checks.as_ref().unwrap().exactness.verdict,
        Verdict::Exact
    );
    assert_eq!(
        outcome.before.params - outcome.after.params,
        (9013.0 - 4506.0) * 384.0
    );
    agrees(&model, &outcome, few, &[false]);
}
