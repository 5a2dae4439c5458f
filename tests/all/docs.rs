//! `docs/operators.md` is printed from the registry and from the cases that the rules are proved with.
//! `ONNX_PRUNE_UPDATE=1 cargo test --test all docs` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use onnx_prune::ops::lookup;
use onnx_prune::ops::registry::rules;
use onnx_prune::score::{Needs, SCORES};

fn sources(folder: &Path, texts: &mut Vec<String>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            // Strings that go on in the next line are one; an argument on a line of its own is found as one beside its bracket.
            let whole: String = text.split("\\\n").map(str::trim_start).collect();
            let parts: Vec<&str> = whole.split('(').map(str::trim_start).collect();
            texts.push(parts.join("("));
        }
    }
}

/// The first relation that a proved case of each operator states.
fn examples() -> BTreeMap<String, String> {
    let mut texts = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops"),
        &mut texts,
    );
    let mut found = BTreeMap::new();
    for text in texts {
        for case in text.split("Prove::op(\"").skip(1) {
            let name = case.split('"').next().unwrap().to_owned();
            let statement = case.split(';').next().unwrap();
            if let Some(relation) = statement
                .split(".relates(\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
            {
                found.entry(name).or_insert_with(|| relation.to_owned());
            }
        }
    }
    found
}

fn page() -> String {
    let examples = examples();
    let mut operators: Vec<(&str, &str)> =
        rules().map(|rule| (rule.domain, rule.op_type)).collect();
    operators.sort_unstable();
    operators.dedup();
    let mut page = String::from(
        "# Operators\n\nEvery operator that has a rule, with the relation of one example: inputs → outputs, each axis as a sum of products of\nlabels, then what is summed. Labels joined by `·` are factors of one axis, by `+` segments of it; `u{2..6}` are chosen\nindices of `u`. In some nothing may go, and the reason stands there; those without an example share the rule of a sibling.\nPrinted by the tests; do not edit.\n",
    );
    let mut last = None;
    for (domain, op_type) in operators {
        if last != Some(domain) {
            let title = if domain.is_empty() { "ai.onnx" } else { domain };
            write!(page, "\n## {title}\n\n| operator | example |\n|---|---|\n").unwrap();
            last = Some(domain);
        }
        let frozen = lookup(domain, op_type).and_then(|operator| operator.freezes());
        let example = match (frozen, examples.get(op_type)) {
            (Some(reason), _) => format!("all stays: {reason}"),
            (None, Some(relation)) => format!("`{relation}`"),
            (None, None) => "–".to_owned(),
        };
        writeln!(page, "| {op_type} | {example} |").unwrap();
    }
    page
}

#[test]
fn the_page_of_operators_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let page = page();
    if std::env::var_os("ONNX_PRUNE_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/operators.md is out of date; run ONNX_PRUNE_UPDATE=1 cargo test --test all docs"
    );
}

#[test]
fn the_readme_lists_every_score_as_the_table_has_it() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .skip_while(|line| !line.starts_with("| score |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    // The last row is that of files of scores.
    assert_eq!(rows.len(), SCORES.len() + 1);
    for (entry, row) in SCORES.iter().zip(&rows) {
        let needs = if entry.needs == Needs::Weights {
            ""
        } else {
            "`--data` or `--stats`"
        };
        assert!(
            row[1].starts_with(&format!("`{}`", entry.name)),
            "{} beside {row:?}",
            entry.name
        );
        assert_eq!((row[2], row[3]), (entry.doc, needs), "{}", entry.name);
    }
}
