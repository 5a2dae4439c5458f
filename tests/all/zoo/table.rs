//! `docs/zoo.md`.

use std::fmt::Write;
use std::path::Path;

use super::manifest::Zoo;
use super::row::{Kind, Row};
use super::torchvision;

const HEAD: &str = "# The zoo

Graphs of many architectures as exporters write them, with weights drawn at random. For each: the share of the parameters that
some removable unit holds, by default (channels and heads) and with `width`; the time of the analysis (a test
build, hardly optimised, with other work beside it); the largest reasons for what is frozen, in per cent of the parameters; and
what random plans gave: one to three seeds (8 plans at two sizes are of one, 16 of three), 20 and 60 per cent of the units,
coarse and fine units, at two sizes of the inputs where the graph takes several. A plan is *exact*
where the pruned model equals the masked original to 1e-4 of the outputs' scale (1e-2 in half precision; more where two ways
of running the original differ by more) and the mask moved the outputs by more than that; *weak* where it did not move them.
`cargo test --test all whole_zoo -- --ignored` writes this page.

";

/// Writes the page from all rows that were found.
pub fn write(zoo: &Zoo) {
    let rows: Vec<Row> = zoo
        .graphs
        .iter()
        .filter_map(|graph| Row::read(&graph.name))
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/zoo.md");
    std::fs::write(path, page(&rows, zoo.graphs.len())).unwrap();
}

fn page(rows: &[Row], total: usize) -> String {
    let mut page = HEAD.to_owned();
    let count = |kind: Kind| rows.iter().map(|row| row.count(kind)).sum::<usize>();
    let proved = rows.iter().filter(|row| row.count(Kind::Exact) > 0).count();
    let wrong = rows.iter().filter(|row| row.is_wrong()).count();
    let nothing = rows.iter().filter(|row| row.with_width == 0).count();
    let elsewhere = rows.iter().filter(|row| row.refused.is_some()).count();
    let slowest = rows.iter().map(|row| row.seconds).fold(0.0, f64::max);
    let all: u64 = rows.iter().map(|row| row.params).sum();
    let share = |part: fn(&Row) -> u64| {
        100.0 * rows.iter().map(part).sum::<u64>() as f64 / all.max(1) as f64
    };
    writeln!(
        page,
        "{} of {total} graphs: {proved} with exact plans, {nothing} with nothing to remove, {wrong} with an error; for {elsewhere} ONNX Runtime gives the verdict, since tract can not run the original.\n\
         Plans: {} exact, {} weak, {} without a verdict, {} wrong. Of all parameters {:.1} % are prunable, {:.1} % with `width`. The slowest analysis took {slowest:.2} s.\n",
        rows.len(),
        count(Kind::Exact),
        count(Kind::Weak),
        count(Kind::Open),
        count(Kind::Wrong),
        share(|row| row.prunable),
        share(|row| row.with_width),
    )
    .unwrap();
    page += "| graph | nodes | parameters | prunable | with width | seconds | frozen | plans | largest error |\n";
    page += "|---|---:|---:|---:|---:|---:|---|---|---:|\n";
    rows.iter().for_each(|row| line(&mut page, row));
    torchvision::section(&mut page, rows);
    page += "\n## Where tract can not run the original\n\n| graph | reason |\n|---|---|\n";
    for row in rows {
        if let Some(reason) = &row.refused {
            writeln!(page, "| {} | {} |", row.name, cell(reason)).unwrap();
        }
    }
    page
}

fn line(page: &mut String, row: &Row) {
    let frozen: Vec<String> = row
        .frozen
        .iter()
        .filter(|(_, params)| *params * 200 >= row.params.max(1))
        .take(3)
        .map(|(reason, params)| format!("{} {:.0}", cell(reason), row.share(*params)))
        .collect();
    let mut plans: Vec<String> = [Kind::Exact, Kind::Weak, Kind::Open, Kind::Wrong]
        .into_iter()
        .filter(|kind| row.count(*kind) > 0)
        .map(|kind| format!("{} {}", row.count(kind), format!("{kind:?}").to_lowercase()))
        .collect();
    plans.extend(row.failure.as_deref().map(cell));
    let notes = row
        .verdicts
        .iter()
        .filter(|found| matches!(found.verdict, Kind::Open | Kind::Wrong))
        .map(|found| found.note.as_str());
    plans.extend(notes.take(1).map(cell));
    let error = row
        .largest_error()
        .map_or_else(|| "–".to_owned(), |error| format!("{error:.0e}"));
    let by = if row.refused.is_some() { "*" } else { "" };
    writeln!(
        page,
        "| {}{by} | {} | {} | {:.1} | {:.1} | {:.2} | {} | {} | {error} |",
        row.name,
        row.nodes,
        row.params,
        row.share(row.prunable),
        row.share(row.with_width),
        row.seconds,
        frozen.join("; "),
        plans.join(", "),
    )
    .unwrap();
}

/// A text that does not break a table.
fn cell(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "\\|");
    let mut short: String = line.chars().take(140).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
