//! What a page tells of a table in the code agrees with it.

use std::path::Path;

use onnx_prune::score::{Needs, SCORES};

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
        let needs = match entry.needs {
            Needs::Weights => "",
            Needs::Activations => "`--data` or `--stats`",
            Needs::Derivatives => "`--data`",
            // Made-up inputs do, too.
            _ => "inputs; made-up ones without `--data` or `--stats`",
        };
        assert!(
            row[1].starts_with(&format!("`{}`", entry.name)),
            "{} beside {row:?}",
            entry.name
        );
        assert_eq!((row[2], row[3]), (entry.doc, needs), "{}", entry.name);
    }
}
