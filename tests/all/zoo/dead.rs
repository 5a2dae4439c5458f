//! Graphs of many architectures cleaned as they are, and with half of their units at zero.

use onnx_prune::analysis::{Granularity, Options};
use onnx_prune::cost::params;
use onnx_prune::dead::clean;
use onnx_prune::model::encoded_len;

use super::manifest::Zoo;
use super::{fill, inputs, wanted};
use crate::dead::{Zeroed, apart, check};

/// Graphs that are looked at, at most this many parameters each.
const GRAPHS: usize = 12;
const LARGEST: u64 = 500_000;

#[test]
fn a_sample_of_the_zoo_cleans_to_the_same_outputs() {
    let Some(zoo) = Zoo::find() else { return };
    let small = zoo
        .graphs
        .iter()
        .filter(|graph| graph.sample && graph.params < LARGEST);
    let (mut ran, mut went) = (0, 0);
    for graph in small.filter(|graph| wanted(graph)).take(GRAPHS) {
        let model = fill::load(&zoo, graph).unwrap();
        let inputs = inputs::inputs(graph, &graph.sizes()[0]);
        let mut cleaned = model.clone();
        let (_, dead) = clean(&mut cleaned, false, &Options::default()).unwrap();
        assert!(
            encoded_len(&cleaned) <= encoded_len(&model),
            "{}",
            graph.name
        );
        assert!(params(&cleaned) <= params(&model), "{}", graph.name);
        let far = apart(&model, &cleaned, &inputs);
        assert!(far.is_none_or(|far| far <= 1e-4), "{}: {far:?}", graph.name);
        ran += usize::from(far.is_some());
        let found = check(&model, &inputs, Granularity::Coarse, Zeroed::All);
        eprintln!(
            "{}: {dead} dead as it is, {found} of those at zero, {far:?} apart",
            graph.name
        );
        went += usize::from(!found.is_empty());
    }
    assert!(ran > 5 && went > 5, "{ran} ran, {went} came back narrower");
}
