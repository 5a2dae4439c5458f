//! Single weights of graphs of many architectures, thinned out by size.

use onnx_prune::inputs::Batches;
use onnx_prune::progress::Work;
use onnx_prune::run::Tensors;
use onnx_prune::sparsify::{Data, Error, SparsifyRequest, sparsify};

use super::fill;
use super::manifest::Zoo;

/// The share of zeros that a pattern may miss by, for its blocks are not divided.
const OFF: f64 = 1e-3;

/// Graphs that are looked at.
const GRAPHS: usize = 8;

#[test]
fn masks_of_a_sample_of_the_zoo_obey_their_patterns() {
    let Some(zoo) = Zoo::find() else { return };
    let none = Vec::<Tensors>::new();
    let none: &dyn Batches = &none;
    let data = Data {
        inputs: none,
        whole: none,
        labels: None,
        synthetic: false,
        measured: (none, None),
        preparation: "",
        original: None,
    };
    let (mut graphs, mut masks) = (0, 0);
    let small = zoo
        .graphs
        .iter()
        .filter(|graph| graph.sample && graph.params < 400_000);
    for graph in small.filter(|graph| super::wanted(graph)).take(GRAPHS) {
        let model = fill::load(&zoo, graph).unwrap();
        for pattern in ["none", "2:4", "1x4", "kernel"] {
            let request = SparsifyRequest {
                sparsity: Some(0.7),
                pattern: pattern.parse().unwrap(),
                keep_plan: true,
                ..Default::default()
            };
            let made = match sparsify(&model, &request, data, None, &Work::new(&())) {
                Ok(made) => made,
                Err(Error::Nothing(_)) => continue,
                Err(error) => panic!("{} {pattern}: {error}", graph.name),
            };
            let (gone, all) = made.plan.masks.iter().fold((0, 0), |sum, mask| {
                (sum.0 + mask.zeros, sum.1 + mask.elements)
            });
            let wanted = if pattern == "2:4" { 0.5 } else { 0.7 };
            let off = gone as f64 / all as f64 - wanted;
            // A block more than asked for is the least that there is.
            let block = 64.0 / all as f64;
            assert!(
                off.abs() <= OFF + block,
                "{} {pattern}: {gone} of {all}",
                graph.name
            );
            let zeros: usize = made.layers.iter().map(|layer| layer.zeros).sum();
            assert!(zeros >= gone, "{} {pattern}: {zeros} of {gone}", graph.name);
            // Applying the plan checks every mask against the pattern.
            let again = SparsifyRequest {
                plan: Some(made.plan.clone()),
                ..Default::default()
            };
            let second = sparsify(&model, &again, data, None, &Work::new(&())).unwrap();
            assert!(
                second.model.proto == made.model.proto,
                "{} {pattern}",
                graph.name
            );
            masks += made.plan.masks.len();
        }
        graphs += 1;
    }
    eprintln!("{graphs} graphs, {masks} masks");
    assert!(graphs > 3 && masks > 20, "{graphs} graphs, {masks} masks");
}
