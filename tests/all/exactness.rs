//! The property of the whole tool: for any plan, the pruned model equals the masked original.

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::job::Prepared;
use onnx_prune::model::{Index, Limits, TensorRef, load, save};
use onnx_prune::run::{Runtime, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::{Verdict, exactness};

use crate::corpus::{Case, corpus_cases, fixture_cases};

/// How much a plan removes.
const LIGHT: f64 = 0.1;
const HEAVY: f64 = 0.5;

/// What came of one cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Exact,
    /// No answer, with a true reason: nothing to cut, inputs too weak, a runtime that lacks an operator.
    Open,
    Wrong,
}

/// Cuts a random share of every group and checks the result; gives a line for the table.
fn check(case: &Case, granularity: Granularity, share: f64, seed: u64) -> (String, Outcome) {
    let options = Options { granularity, ..Default::default() };
    let prepared = Prepared::new(&case.model, &options).unwrap();
    let analysis = &prepared.analysis;
    let head = format!("{:<24} {granularity:?} {share} seed {seed}:", case.name);
    let groups: Vec<usize> = (0..analysis.groups.len()).collect();
    if groups.is_empty() {
        return (format!("{head} nothing to prune"), Outcome::Open);
    }
    let saliency = Random { seed }.score(Evidence { model: &prepared.working, analysis }, &analysis.groups);
    let ranking = Ranking::new(analysis, &groups, &saliency, Align::Multiple(1));
    let choice = ranking.remove((ranking.len() as f64 * share) as usize);
    let selection = ranking.selection(&choice);
    let pruned = match prepared.cut(&selection, &[]) {
        Ok(pruned) => pruned,
        Err(error) => return (format!("{head} SURGERY {error}"), Outcome::Wrong),
    };
    // What is written must be what was made.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pruned.onnx");
    save(&pruned, &path).unwrap();
    let pruned = load(&path, Limits::default()).unwrap();
    let masked = prepared.masked(&selection).unwrap();
    let runtime = TractRuntime::new(true);
    let inputs = std::slice::from_ref(&case.inputs);
    let session = match runtime.prepare(&case.model, &case.inputs, &[]) {
        Ok(session) => session,
        Err(error) => return (format!("{head} unverifiable: {error}"), Outcome::Open),
    };
    let original = vec![session.run(&case.inputs).unwrap()];
    let outcome = exactness(&runtime, &original, &masked, &pruned, inputs, session.noise());
    let cost = ranking.cost(&choice);
    let line = format!(
        "{head} {} groups, macs {:.2}, params {:.2}: {:?} {:.1e} (allowed {:.1e})",
        groups.len(),
        cost.macs / ranking.original().macs,
        cost.params / ranking.original().params,
        outcome.verdict,
        outcome.max_relative_error.unwrap_or(f64::NAN),
        outcome.tolerance,
    );
    let verdict = match &outcome.verdict {
        Verdict::Exact => Outcome::Exact,
        Verdict::Unverifiable(reason) if reason.contains("too weak") => Outcome::Open,
        _ => Outcome::Wrong,
    };
    (line, verdict)
}

/// No cut may be wrong, and at most `open` models may stay without a single proof.
fn check_all(cases: &[Case], seeds: &[u64], open: usize) {
    let (mut wrong, mut unproved) = (Vec::new(), Vec::new());
    for case in cases {
        let mut proved = false;
        for granularity in [Granularity::Coarse, Granularity::Fine] {
            for (seed, share) in seeds.iter().flat_map(|seed| [(*seed, LIGHT), (*seed, HEAVY)]) {
                let (line, outcome) = check(case, granularity, share, seed);
                eprintln!("{line}");
                proved |= outcome == Outcome::Exact;
                if outcome == Outcome::Wrong {
                    wrong.push(line);
                }
            }
        }
        if !proved {
            unproved.push(case.name.as_str());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unproved.len() <= open, "no cut could be proved of {}", unproved.join(", "));
}

#[test]
fn fixtures_are_exact() {
    check_all(&fixture_cases(), &[1, 2, 3], 0);
}

#[test]
fn real_models_are_exact() {
    let only = std::env::var("ONNX_PRUNE_ONLY").ok();
    check_all(&corpus_cases(only.as_deref()), &[1], 0);
}

/// Two layers share one large weight: the first may lose outputs, the second inputs, and together they could lose nothing.
#[test]
fn a_large_shared_weight_is_split_where_its_readers_need_two_versions() {
    let text = "opset 17\ninput x f32[n,80]\nconst w f32[80,80]\nh = MatMul(x, w)\nr = Relu(h)\ny = MatMul(r, w)\noutput y f32[n,80]\n";
    let model = onnx_prune::model::text::model(text).unwrap();
    let prepared = Prepared::new(&model, &Options::default()).unwrap();
    let units: Vec<usize> = prepared.analysis.groups.iter().map(|group| group.units.len()).collect();
    assert_eq!(units, [80]);
    let rows: Vec<f32> = (0..160).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let inputs = onnx_prune::run::Tensors::from_iter([("x".to_owned(), TensorRef::from_f32(vec![2, 80], &rows))]);
    let case = Case { name: "shared".to_owned(), model, inputs };
    let (line, outcome) = check(&case, Granularity::Coarse, HEAVY, 1);
    assert_eq!(outcome, Outcome::Exact, "{line}");
    let whole = prepared.cut(&prepared.select(&[Vec::new()]), &[]).unwrap();
    assert_eq!(whole.graph(Index::MAIN).initializer.len(), 1, "what is not cut is one again");
}

/// nn.Transformer folds the batch and the heads into one axis, whose extent is computed as `batch · 4`.
#[test]
fn heads_that_share_an_axis_with_the_batch_can_go() {
    let text = "opset 17
input x f32[s,b,24]
const w f32[24,24]
const v f32[24,24]
const zero i64[1] = 0
const one i64[1] = 1
const heads i64[1] = 4
const size i64[1] = 6
const flat i64[1] = 24
shape = Shape(x)
steps = Gather(shape, zero)
batch = Gather(shape, one)
folded = Mul(batch, heads)
to = Concat(steps, folded, size) {axis=0}
back = Concat(steps, batch, flat) {axis=0}
h = MatMul(x, w)
g = Reshape(h, to)
r = Relu(g)
f = Reshape(r, back)
y = MatMul(f, v)
output y f32[s,b,24]
";
    let model = onnx_prune::model::text::model(text).unwrap();
    let prepared = Prepared::new(&model, &Options::default()).unwrap();
    let units: Vec<usize> = prepared.analysis.groups.iter().map(|group| group.units.len()).collect();
    assert_eq!(units, [4]);
    let numbers: Vec<f32> = (0..5 * 3 * 24).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let inputs = onnx_prune::run::Tensors::from_iter([("x".to_owned(), TensorRef::from_f32(vec![5, 3, 24], &numbers))]);
    let case = Case { name: "folded heads".to_owned(), model, inputs };
    for granularity in [Granularity::Coarse, Granularity::Fine] {
        let (line, outcome) = check(&case, granularity, HEAVY, 1);
        assert_eq!(outcome, Outcome::Exact, "{line}");
    }
}

/// A packed weight is sliced at a bound computed from the width of something else, and only that width is cut.
#[test]
fn a_bound_computed_from_a_width_stays_where_it_is() {
    let text = "opset 17
input x f32[n,10]
const a f32[10,12]
const w f32[12,36]
const v f32[12,5]
const last i64[1] = -1
const far i64[1] = 9223372036854775807
const zero i64[1] = 0
const one i64[1] = 1
h = MatMul(x, a)
r = Relu(h)
shape = Shape(r)
width = Slice(shape, last, far)
end = Add(zero, width)
query = Slice(w, zero, end, one)
q = MatMul(r, query)
y = MatMul(q, v)
output y f32[n,5]
";
    let model = onnx_prune::model::text::model(text).unwrap();
    let prepared = Prepared::new(&model, &Options::default()).unwrap();
    let numbers: Vec<f32> = (0..40).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let inputs = onnx_prune::run::Tensors::from_iter([("x".to_owned(), TensorRef::from_f32(vec![4, 10], &numbers))]);
    let runtime = TractRuntime::new(true);
    let original = vec![runtime.prepare(&model, &inputs, &[]).unwrap().run(&inputs).unwrap()];
    assert_eq!(prepared.analysis.groups.len(), 2);
    for group in 0..2 {
        let mut removed = vec![Vec::new(); 2];
        removed[group] = vec![1, 4, 5];
        let selection = prepared.select(&removed);
        let (pruned, masked) = (prepared.cut(&selection, &[]).unwrap(), prepared.masked(&selection).unwrap());
        let outcome = exactness(&runtime, &original, &masked, &pruned, std::slice::from_ref(&inputs), 0.0);
        assert_eq!(outcome.verdict, Verdict::Exact, "{outcome:?}");
    }
}
