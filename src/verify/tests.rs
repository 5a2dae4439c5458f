//! What a verdict rests on, on graphs of a few lines.

use super::{CutModels, Exactness, Verdict, exactness, masked};
use crate::analysis::{Analysis, Options, Selection, analyse};
use crate::model::{Model, TensorRef, text};
use crate::run::{Runtime, Tensors, TractRuntime};
use crate::surgery;

/// A cut of the first units of every group.
fn cut(model: &Model) -> (Analysis, Selection, Model) {
    let analysis = analyse(model, &Options::default());
    assert!(!analysis.groups.is_empty());
    let selection =
        analysis.select((0..analysis.groups.len()).map(|group| (group, [0u32, 2].as_slice())));
    let pruned = surgery::apply(model, &analysis, &selection, &[]).unwrap();
    (analysis, selection, pruned)
}

fn inputs(dims: &[usize]) -> Tensors {
    let numbers: Vec<f32> = (0..dims.iter().product())
        .map(|at: usize| ((at * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    Tensors::from_iter([("x".to_owned(), TensorRef::from_f32(dims.to_vec(), &numbers))])
}

fn judge(
    model: &Model,
    pruned: &Model,
    analysis: &Analysis,
    selection: &Selection,
    inputs: &Tensors,
) -> Exactness {
    let runtime = TractRuntime::new(false);
    let original = runtime
        .prepare(model, inputs, &[])
        .unwrap()
        .run(inputs)
        .unwrap();
    let cut = CutModels {
        working: model,
        analysis,
        selection,
        pruned,
    };
    exactness(
        &runtime,
        &cut,
        &[original],
        std::slice::from_ref(inputs),
        0.0,
    )
}

fn judged(text: &str, dims: &[usize]) -> Exactness {
    let model = text::model(text).unwrap();
    let (analysis, selection, pruned) = cut(&model);
    judge(&model, &pruned, &analysis, &selection, &inputs(dims))
}

const PLAIN: &str = "input x f32[n,6]\nconst w f32[6,8]\nconst b f32[8]\nconst v f32[8,5]\n\
    h = Gemm(x, w, b)\nr = Relu(h)\ny = MatMul(r, v)\noutput y f32[n,5]";

/// Units that are never on: nothing that the inputs at hand show.
const DEAD: &str = "input x f32[n,6]\nconst w f32[6,8]\nconst b f32[8] = -90, -90, -90, -90, -90, -90, -90, -90\nconst v f32[8,5]\n\
    h = Gemm(x, w, b)\nr = Relu(h)\ny = MatMul(r, v)\noutput y f32[n,5]";

/// A segmentation net whose only output is a map of classes, one of which wins everywhere.
const CLASSES: &str = "input x f32[1,2,6,6]\nconst w f32[8,2,3,3]\nconst v f32[3,8,1,1]\nconst b f32[3] = 900, 0, 0\n\
    h = Conv(x, w) {pads=[1,1,1,1]}\nr = Relu(h)\ns = Conv(r, v, b)\ny = ArgMax(s) {axis=1}\noutput y i64[1,1,6,6]";

#[test]
fn what_the_outputs_show_needs_no_other_reason() {
    let outcome = judged(PLAIN, &[4, 6]);
    assert_eq!(
        (outcome.verdict, outcome.reason, outcome.inputs),
        (Verdict::Exact, None, 1)
    );
}

#[test]
fn dead_units_are_judged_with_random_weights() {
    let outcome = judged(DEAD, &[4, 6]);
    assert_eq!(
        (&outcome.verdict, outcome.max_relative_error),
        (&Verdict::Exact, Some(0.0)),
        "{outcome:?}"
    );
    assert!(
        outcome
            .reason
            .is_some_and(|reason| reason.contains("silent") && !reason.contains("nothing either"))
    );
}

#[test]
fn a_class_map_is_judged_before_the_choice() {
    let outcome = judged(CLASSES, &[1, 2, 6, 6]);
    // What the last convolution reads moves it, though no class changes.
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Exact, None));
}

/// Token ids out of a loop, where the same one wins at every turn.
const TOKENS: &str = "input x f32[1,6]\nconst w f32[6,8]\nconst v f32[8,5]\nconst start f32[1,5] = 900, 0, 0, 0, 0\nconst three i64[] = 3\n\
    h = MatMul(x, w)\nr = Relu(h)\n\
    graph body\ninput i i64[]\ninput on bool[]\ninput s f32[1,5]\nm = MatMul(r, v)\nn = Add(m, s)\n\
    id = ArgMax(n) {axis=1, keepdims=0}\nmore = Identity(on)\noutput more\noutput n\noutput id\nend\n\
    last, ids = Loop(three, _, start) {body=@body}\noutput ids i64[3,1]";

#[test]
fn token_ids_out_of_a_loop_are_judged() {
    let outcome = judged(TOKENS, &[1, 6]);
    assert_eq!(
        (&outcome.verdict, outcome.max_relative_error),
        (&Verdict::Exact, Some(0.0)),
        "{outcome:?}"
    );
}

#[test]
fn a_wrong_cut_is_found_where_no_output_shows_it() {
    for (text, dims) in [(DEAD, [4, 6].as_slice()), (CLASSES, &[1, 2, 6, 6])] {
        let model = text::model(text).unwrap();
        let (analysis, selection, _) = cut(&model);
        // Other units than the plan's, as far as the weights go.
        let other = analysis.select([(0, [1u32, 3].as_slice())]);
        let pruned = surgery::apply(&model, &analysis, &other, &[]).unwrap();
        let outcome = judge(&model, &pruned, &analysis, &selection, &inputs(dims));
        assert_eq!(outcome.verdict, Verdict::Inexact, "{outcome:?}");
    }
}

#[test]
fn a_pruned_model_that_does_not_run_is_inexact() {
    let model = text::model(PLAIN).unwrap();
    let (analysis, selection, mut pruned) = cut(&model);
    // The last product keeps rows of which the first has lost its columns.
    let value = pruned.index().main_value("v").unwrap();
    *pruned.tensor_proto_mut(value).unwrap() = model
        .tensor_proto(model.index().main_value("v").unwrap())
        .unwrap()
        .clone();
    let outcome = judge(&model, &pruned, &analysis, &selection, &inputs(&[4, 6]));
    assert_eq!(
        (outcome.verdict, outcome.max_relative_error),
        (Verdict::Inexact, None)
    );
    assert!(
        outcome
            .reason
            .is_some_and(|reason| reason.contains("does not run, though the original does"))
    );
}

#[test]
fn rounding_behind_a_choice_is_no_fault() {
    // The two best of eight nearly equal numbers.
    let outcome = judged(
        "input x f32[1,6]\nconst w f32[6,8]\nconst v f32[8,5]\nconst two i64[1] = 2\n\
         h = MatMul(x, w)\nr = Relu(h)\ns = MatMul(r, v)\ntop, at = TopK(s, two)\noutput top\noutput at",
        &[1, 6],
    );
    assert_eq!(outcome.verdict, Verdict::Exact, "{outcome:?}");
}

#[test]
fn masks_reach_what_is_compared() {
    let model = text::model(PLAIN).unwrap();
    let (analysis, selection, _) = cut(&model);
    assert!(masked(&model, &analysis, &selection).is_ok());
}
