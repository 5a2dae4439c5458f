//! Real models in another basis compute the same.

use std::collections::BTreeSet;

use onnx_prune::analysis::{Granularity, Kind, Options};
use onnx_prune::progress::Work;
use onnx_prune::rotate::rotate;
use onnx_prune::run::{Runtime, TractRuntime};
use onnx_prune::verify::largest_error;
use onnx_prune::workspace::Workspace;

use crate::corpus::{Case, corpus_cases, fixture_cases};

/// Rotates all groups of directions by the weights alone; gives how many there are.
fn rotated_is_the_same(case: &Case) -> usize {
    let options = Options {
        granularity: Granularity::Fine,
        directions: true,
        ..Default::default()
    };
    let workspace = Workspace::new(&case.model, &options).unwrap();
    let groups: BTreeSet<usize> = (0..workspace.analysis.groups.len())
        .filter(|group| workspace.analysis.groups[*group].kind == Kind::Directions)
        .collect();
    let work = Work::new(&());
    let (rotated, made) = rotate(
        &workspace.working,
        &workspace.analysis,
        &groups,
        None,
        &work,
    )
    .unwrap();
    let changed: BTreeSet<usize> = made.iter().map(|made| made.group).collect();
    assert_eq!(changed, groups, "{}", case.name);
    let runtime = TractRuntime::new(false);
    let run = |model| {
        let session = runtime.prepare(model, &case.inputs, &[]).unwrap();
        session.run(&case.inputs).unwrap()
    };
    let (before, after) = (run(&case.model), run(&rotated));
    let apart = largest_error(&before, &after, &before);
    assert!(apart < 1e-4, "{}: {apart}", case.name);
    groups.len()
}

#[test]
fn fixtures_in_another_basis_compute_the_same() {
    for case in fixture_cases() {
        let directions = rotated_is_the_same(&case);
        // Values, and queries with keys, where these are not one space.
        let expected = if case.name.contains("transformer") {
            3
        } else {
            0
        };
        assert_eq!(directions, expected, "{}", case.name);
    }
}

#[test]
fn heads_and_bottlenecks_of_the_corpus_in_another_basis_compute_the_same() {
    for case in corpus_cases(Some("minilm,efficientnet")) {
        let expected = if case.name.contains("minilm") { 12 } else { 7 };
        assert_eq!(rotated_is_the_same(&case), expected, "{}", case.name);
    }
}
