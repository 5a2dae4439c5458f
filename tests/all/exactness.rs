//! The property of the whole tool: for any plan, the pruned model equals the masked original.

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::job::Prepared;
use onnx_prune::model::{Limits, load, save};
use onnx_prune::run::{Runtime, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::{Verdict, exactness};

use crate::corpus::{Case, corpus_cases, fixture_cases};

/// How much a plan removes.
const LIGHT: f64 = 0.1;
const HEAVY: f64 = 0.5;

/// Cuts a random share of every group and checks the result; gives a line for the table and whether it is right.
fn check(case: &Case, granularity: Granularity, share: f64, seed: u64) -> (String, bool) {
    let options = Options { granularity, ..Default::default() };
    let prepared = Prepared::new(&case.model, &options).unwrap();
    let analysis = &prepared.analysis;
    let head = format!("{:<24} {granularity:?} {share} seed {seed}:", case.name);
    let groups: Vec<usize> = (0..analysis.groups.len()).collect();
    if groups.is_empty() {
        return (format!("{head} nothing to prune"), true);
    }
    let saliency = Random { seed }.score(Evidence { model: &prepared.working, analysis }, &analysis.groups);
    let ranking = Ranking::new(analysis, &groups, &saliency, Align::Multiple(1));
    let choice = ranking.remove((ranking.len() as f64 * share) as usize);
    let selection = ranking.selection(&choice);
    let pruned = match prepared.cut(&selection, &[]) {
        Ok(pruned) => pruned,
        Err(error) => return (format!("{head} SURGERY {error}"), false),
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
        Err(error) => return (format!("{head} unverifiable: {error}"), true),
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
    let weak = matches!(&outcome.verdict, Verdict::Unverifiable(reason) if reason.contains("too weak"));
    (line, outcome.verdict == Verdict::Exact || weak)
}

fn check_all(cases: &[Case], seeds: &[u64]) {
    let mut wrong = Vec::new();
    for case in cases {
        for granularity in [Granularity::Coarse, Granularity::Fine] {
            for (seed, share) in seeds.iter().flat_map(|seed| [(*seed, LIGHT), (*seed, HEAVY)]) {
                let (line, right) = check(case, granularity, share, seed);
                eprintln!("{line}");
                if !right {
                    wrong.push(line);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fixtures_are_exact() {
    check_all(&fixture_cases(), &[1, 2, 3]);
}

#[test]
fn real_models_are_exact() {
    let only = std::env::var("ONNX_PRUNE_ONLY").ok();
    check_all(&corpus_cases(only.as_deref()), &[1]);
}
