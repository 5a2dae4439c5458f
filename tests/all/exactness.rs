//! The property of the whole tool: for any plan, the pruned model equals the masked original.

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::model::{Index, Limits, TensorRef, load, save};
use onnx_prune::run::{Runtime, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::{OriginalRuns, Workspace};

use crate::engines;

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
    let options = Options {
        granularity,
        ..Default::default()
    };
    let prepared = Workspace::new(&case.model, &options).unwrap();
    let analysis = &prepared.analysis;
    let head = format!("{:<24} {granularity:?} {share} seed {seed}:", case.name);
    let groups: Vec<usize> = (0..analysis.groups.len()).collect();
    if groups.is_empty() {
        return (format!("{head} nothing to prune"), Outcome::Open);
    }
    let saliency = Random { seed }.score(
        Evidence {
            model: &prepared.working,
            analysis,
        },
        &analysis.groups,
    );
    let ranking = Ranking::new(prepared.subject(), &groups, &saliency, &Align::Multiple(1));
    let mut choice = ranking.remove((ranking.len() as f64 * share).ceil() as usize);
    if share == LIGHT {
        crate::branches::take(&prepared, &mut choice, seed);
    }
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
    let runtime = TractRuntime::new(true);
    let ran = match engines::original(&runtime, &case.model, &case.inputs) {
        Ok(ran) => ran,
        Err(error) => return (format!("{head} unverifiable: {error}"), Outcome::Open),
    };
    let (outcome, _) = engines::judge(
        &ran,
        &case.model,
        &prepared,
        &selection,
        &pruned,
        &case.inputs,
    );
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
            for (seed, share) in seeds
                .iter()
                .flat_map(|seed| [(*seed, LIGHT), (*seed, HEAVY)])
            {
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
    assert!(
        unproved.len() <= open,
        "no cut could be proved of {}",
        unproved.join(", ")
    );
}

#[test]
fn fixtures_are_exact() {
    check_all(&fixture_cases(), &[1, 2, 3], 0);
}

#[test]
fn real_models_are_exact() {
    let only = std::env::var("ONNX_PRUNE_ONLY").ok();
    let cases = corpus_cases(only.as_deref());
    // Two at a time, the larger ones spread over both.
    let (even, odd): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .enumerate()
        .partition(|(at, _)| at % 2 == 0);
    let [even, odd] =
        [even, odd].map(|half| half.into_iter().map(|(_, case)| case).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        let other = scope.spawn(|| check_all(&odd, &[1], 0));
        check_all(&even, &[1], 0);
        other.join().unwrap();
    });
}

/// Two layers share one large weight: the first may lose outputs, the second inputs, and together they could lose nothing.
#[test]
fn a_large_shared_weight_is_split_where_its_readers_need_two_versions() {
    let text = "opset 17\ninput x f32[n,80]\nconst w f32[80,80]\nh = MatMul(x, w)\nr = Relu(h)\ny = MatMul(r, w)\noutput y f32[n,80]\n";
    let model = onnx_prune::model::text::model(text).unwrap();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let units: Vec<usize> = prepared
        .analysis
        .groups
        .iter()
        .map(|group| group.units.len())
        .collect();
    assert_eq!(units, [80]);
    let rows: Vec<f32> = (0..160)
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    let inputs = onnx_prune::run::Tensors::from_iter([(
        "x".to_owned(),
        TensorRef::from_f32(vec![2, 80], &rows),
    )]);
    let case = Case {
        name: "shared".to_owned(),
        model,
        inputs,
    };
    let (line, outcome) = check(&case, Granularity::Coarse, HEAVY, 1);
    assert_eq!(outcome, Outcome::Exact, "{line}");
    let whole = prepared.cut(&prepared.select(&[Vec::new()]), &[]).unwrap();
    assert_eq!(
        whole.graph(Index::MAIN).initializer.len(),
        1,
        "what is not cut is one again"
    );
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
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let numbers: Vec<f32> = (0..40)
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    let inputs = onnx_prune::run::Tensors::from_iter([(
        "x".to_owned(),
        TensorRef::from_f32(vec![4, 10], &numbers),
    )]);
    let runtime = TractRuntime::new(true);
    let original = vec![
        runtime
            .prepare(&model, &inputs, &[])
            .unwrap()
            .run(&inputs)
            .unwrap(),
    ];
    let groups = prepared.analysis.groups.len();
    let mut exact = 0;
    for group in 0..groups {
        let mut removed = vec![Vec::new(); groups];
        removed[group] = vec![1, 4, 5];
        let selection = prepared.select(&removed);
        let pruned = prepared.cut(&selection, &[]).unwrap();
        let outcome = prepared.exactness(
            &selection,
            &pruned,
            &runtime,
            OriginalRuns {
                inputs: std::slice::from_ref(&inputs),
                outputs: &original,
                noise: 0.0,
            },
        );
        // What is sliced away moves nothing, and is exact all the same.
        assert_eq!(outcome.verdict, Verdict::Exact, "{outcome:?}");
        exact += usize::from(outcome.reason.is_none());
    }
    assert!(exact >= 2, "{exact} of {groups}");
}

/// Heads that a Reshape merges into the batch: an extent that is a number times a symbol, computed at run time and divided again.
#[test]
fn heads_merged_into_the_batch_are_counted_again() {
    let text = "
        input x f32[n,5,8]
        const w f32[8,24]
        const v f32[24,8]
        const zero i64[] = 0
        const first i64[1] = 0
        const six i64[] = 6
        const parted i64[3] = 5, 6, 4
        const rows i64[2] = 5, 4
        const back i64[3] = 6, 5, 4
        const joined i64[2] = 5, 24
        h = MatMul(x, w)
        shape = Shape(h)
        n = Gather(shape, zero)
        n1 = Unsqueeze(n, first)
        t1 = Concat(n1, parted) {axis=0}
        q = Reshape(h, t1)
        p = Transpose(q) {perm=[0,2,1,3]}
        m = Mul(n, six)
        m1 = Unsqueeze(m, first)
        t2 = Concat(m1, rows) {axis=0}
        merged = Reshape(p, t2)
        a = Softmax(merged) {axis=1}
        again = Shape(a)
        am = Gather(again, zero)
        an = Div(am, six)
        an1 = Unsqueeze(an, first)
        t3 = Concat(an1, back) {axis=0}
        u = Reshape(a, t3)
        o = Transpose(u) {perm=[0,2,1,3]}
        t4 = Concat(an1, joined) {axis=0}
        c = Reshape(o, t4)
        y = MatMul(c, v)
        output y f32[n,5,8]";
    let model = onnx_prune::model::text::model(text).unwrap();
    let prepared = Workspace::new(&model, &Options::default()).unwrap();
    let units: Vec<usize> = prepared
        .analysis
        .groups
        .iter()
        .map(|group| group.units.len())
        .collect();
    assert_eq!(units, [6]);
    let numbers: Vec<f32> = (0..120)
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    let inputs = onnx_prune::run::Tensors::from_iter([(
        "x".to_owned(),
        TensorRef::from_f32(vec![3, 5, 8], &numbers),
    )]);
    let case = Case {
        name: "merged".to_owned(),
        model,
        inputs,
    };
    let (line, outcome) = check(&case, Granularity::Coarse, HEAVY, 1);
    assert_eq!(outcome, Outcome::Exact, "{line}");
}
