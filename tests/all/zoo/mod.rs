//! Graphs of many architectures as exporters really write them, without their weights, which are drawn anew here.
//!
//! A sample of them is checked with the other tests. `cargo test --test all whole_zoo -- --ignored --nocapture` checks every
//! one and writes `docs/zoo.md`; ONNX_PRUNE_ONLY (a comma-separated list of parts of names) narrows it, and what was found
//! before stays in the table; ONNX_PRUNE_RESUME leaves out what was found before; ONNX_PRUNE_SEEDS=1 makes it three times as
//! fast, and with 0 nothing is run: what can be pruned is found in a minute or two.
//! `cargo test --test all every_group_of_the_whole_zoo -- --ignored --nocapture` cuts every group of every graph alone.

mod alone;
mod check;
mod dead;
mod fill;
mod inputs;
mod manifest;
pub mod row;
mod sparse;
mod table;
mod torchvision;

use std::time::Instant;

use onnx_prune::analysis::Granularity::{Coarse, Fine};

use check::{Trial, check};
use manifest::{Graph, Zoo};
use row::Row;

/// Random plans of the whole check: seeds, and the share of the units that go.
const SEEDS: [u64; 3] = [1, 2, 3];
const SHARES: [f64; 2] = [0.2, 0.6];

/// All plans of one graph. The first seed's are run at all sizes of the inputs, the others' at one or the other.
fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let count = std::env::var("ONNX_PRUNE_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SEEDS.len());
    for seed in SEEDS.into_iter().take(count) {
        for share in SHARES {
            for granularity in [Coarse, Fine] {
                let size = (seed != SEEDS[0]).then_some(trials.len());
                trials.push(Trial {
                    granularity,
                    share,
                    seed,
                    size,
                });
            }
        }
    }
    trials
}

fn wanted(graph: &Graph) -> bool {
    let only = std::env::var("ONNX_PRUNE_ONLY").unwrap_or_default();
    only.is_empty() || only.split(',').any(|part| graph.name.contains(part))
}

/// Checks some graphs one after the other; every row is kept as soon as it is there.
fn run<'a>(
    zoo: &Zoo,
    graphs: impl Iterator<Item = &'a Graph>,
    trials: &[Trial],
    keep: bool,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for graph in graphs {
        let started = Instant::now();
        let row = check(zoo, graph, trials);
        eprintln!("{} ({:.1} s)", row.line(), started.elapsed().as_secs_f64());
        if keep {
            row.write();
        }
        rows.push(row);
    }
    rows
}

fn none_is_wrong(rows: &[Row]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| row.is_wrong())
        .map(Row::line)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_sample_of_the_zoo_is_exact() {
    let Some(zoo) = Zoo::find() else { return };
    // One light and one heavy plan of each kind, of the graphs that are quick to run.
    let trials = [
        Trial {
            granularity: Coarse,
            share: 0.6,
            seed: 1,
            size: Some(0),
        },
        Trial {
            granularity: Fine,
            share: 0.2,
            seed: 2,
            size: Some(1),
        },
    ];
    let small = |graph: &&Graph| graph.sample && graph.params < 3_000_000 && wanted(graph);
    none_is_wrong(&run(&zoo, zoo.graphs.iter().filter(small), &trials, false));
}

#[test]
#[ignore = "takes a quarter of an hour for one seed, an hour for three; run by name"]
fn whole_zoo() {
    let Some(zoo) = Zoo::find() else { return };
    let resume = std::env::var_os("ONNX_PRUNE_RESUME").is_some();
    let due = |graph: &&Graph| wanted(graph) && !(resume && Row::read(&graph.name).is_some());
    let rows = run(&zoo, zoo.graphs.iter().filter(due), &trials(), true);
    table::write(&zoo);
    none_is_wrong(&rows);
}

#[test]
#[ignore = "writes the page from rows found before"]
fn zoo_page() {
    if let Some(zoo) = Zoo::find() {
        table::write(&zoo);
    }
}
