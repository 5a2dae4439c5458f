//! Graphs of many architectures cleaned as they are, and with half of their units at zero.

use std::panic::AssertUnwindSafe;

use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::dead::clean;
use onnx_prune::model::encoded_len;

use super::manifest::{Graph, Zoo};
use super::{fill, inputs, wanted};
use crate::dead::{ROUNDING, Zeroed, apart, check};

/// Graphs of the sample that are looked at, at most this many parameters each.
const GRAPHS: usize = 12;
const LARGEST: u64 = 500_000;

/// What came of a graph.
struct Row {
    /// Whether it ran before and after.
    ran: bool,
    /// Whether it came back narrower with half of its units at zero.
    went: bool,
}

/// Cleans a graph as it is, and with half of its units at zero. Panics where outputs differ or a file becomes larger.
fn cleaned(zoo: &Zoo, graph: &Graph) -> Row {
    let model = fill::load(zoo, graph).unwrap();
    let inputs = inputs::inputs(graph, &graph.sizes()[0]);
    let mut cleaned = model.clone();
    let (_, dead) = clean(&mut cleaned, false, &Options::default()).unwrap();
    assert!(encoded_len(&cleaned) <= encoded_len(&model));
    let far = apart(&model, &cleaned, &inputs);
    assert!(far.is_none_or(|far| far <= ROUNDING), "{far:?}");
    let found = check(&model, &inputs, Granularity::Coarse, Zeroed::All);
    eprintln!(
        "{}: '{dead}' dead as it is, '{found}' of those at zero, {far:?} apart",
        graph.name
    );
    Row {
        ran: far.is_some(),
        went: !found.is_empty(),
    }
}

#[test]
fn a_sample_of_the_zoo_cleans_to_the_same_outputs() {
    let Some(zoo) = Zoo::find() else { return };
    let small = |graph: &&Graph| graph.sample && graph.params < LARGEST && wanted(graph);
    let rows: Vec<Row> = zoo
        .graphs
        .iter()
        .filter(small)
        .take(GRAPHS)
        .map(|graph| cleaned(&zoo, graph))
        .collect();
    let count = |what: fn(&Row) -> bool| rows.iter().filter(|row| what(row)).count();
    assert!(count(|row| row.ran) > 5 && count(|row| row.went) > 5);
}

#[test]
#[ignore = "takes half an hour; run by name"]
fn the_whole_zoo_cleans_to_the_same_outputs() {
    let Some(zoo) = Zoo::find() else { return };
    let mut wrong = Vec::new();
    for graph in zoo.graphs.iter().filter(|graph| wanted(graph)) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| cleaned(&zoo, graph))).is_err() {
            wrong.push(graph.name.as_str());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(", "));
}
