//! What analysis calls removable can be removed, each group alone: one unit of it goes, the surgery succeeds, and what is
//! inferred from the model that it leaves has the extents that were kept. Needs no weights.

use std::panic::{AssertUnwindSafe, catch_unwind};

use onnx_prune::analysis::{Granularity, Options, frozen};
use onnx_prune::workspace::Workspace;
use rayon::prelude::*;

use super::manifest::{Graph, Zoo};
use super::{fill, wanted};

/// How many groups a graph has, coarse and fine, how much of it they hold (percent, coarse), and what went wrong with which.
fn cut_alone(zoo: &Zoo, graph: &Graph) -> (usize, f64, Vec<String>) {
    let (mut count, mut reach) = (0, 0.0);
    let mut wrong = Vec::new();
    let mut all = || -> Result<(), String> {
        let model = fill::load_bare(zoo, graph)?;
        for granularity in [Granularity::Coarse, Granularity::Fine] {
            let options = Options {
                granularity,
                ..Default::default()
            };
            let prepared = Workspace::new(&model, &options).map_err(|error| error.to_string())?;
            let groups = &prepared.analysis.groups;
            count += groups.len();
            if granularity == Granularity::Coarse {
                let (reached, rest) = frozen(
                    &prepared.working,
                    &prepared.analysis,
                    &prepared.origins,
                    groups,
                );
                let total = reached + rest.iter().map(|frozen| frozen.params).sum::<u64>();
                reach = 100.0 * reached as f64 / total.max(1) as f64;
            }
            let one = |at: usize| {
                let selection = prepared.analysis.select([(at, [0u32].as_slice())]);
                let cut = prepared
                    .cut(&selection, &[])
                    .and_then(|pruned| prepared.check(&pruned, &selection));
                cut.err().map(|error| {
                    format!("{} {granularity:?} {}: {error}", graph.name, groups[at].id)
                })
            };
            wrong.extend(
                (0..groups.len())
                    .into_par_iter()
                    .filter_map(one)
                    .collect::<Vec<_>>(),
            );
        }
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(&mut all)) {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => wrong.push(format!("{}: {problem}", graph.name)),
        Err(_) => wrong.push(format!("{}: a panic", graph.name)),
    }
    (count, reach, wrong)
}

fn none_fails<'a>(zoo: &Zoo, graphs: impl Iterator<Item = &'a Graph>) {
    let (mut groups, mut wrong) = (0, Vec::new());
    for graph in graphs {
        let (count, reach, failed) = cut_alone(zoo, graph);
        eprintln!(
            "{}: {reach:.1} % in {count} groups, {} fail",
            graph.name,
            failed.len()
        );
        groups += count;
        wrong.extend(failed);
    }
    eprintln!("{groups} groups, {} fail", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_group_of_a_sample_of_the_zoo_goes_alone() {
    if let Some(zoo) = Zoo::find() {
        none_fails(
            &zoo,
            zoo.graphs
                .iter()
                .filter(|graph| graph.sample && graph.nodes < 1000 && wanted(graph)),
        );
    }
}

#[test]
#[ignore = "cuts some twenty thousand groups; run by name"]
fn every_group_of_the_whole_zoo_goes_alone() {
    if let Some(zoo) = Zoo::find() {
        none_fails(&zoo, zoo.graphs.iter().filter(|graph| wanted(graph)));
    }
}
