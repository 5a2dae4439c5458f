//! A room imports only from the rooms above it, and only two rooms know operators by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use onnx_prune::ops::registry::rules;

/// The rooms from the top down; a room may use those before it.
const ROOMS: &[&str] = &[
    "files",
    "proto",
    "model",
    "facts",
    "relation",
    "gradient",
    "ops",
    "constants",
    "analysis",
    "cost",
    "linear",
    "run",
    "inputs",
    "calibrate",
    "rotate",
    "score",
    "allocate",
    "plan",
    "surgery",
    "recover",
    "train",
    "verify",
    "clean",
    "sparsify",
    "workspace",
    "dead",
    "latency",
    "evaluate",
    "vocabulary",
    "prune",
    "report",
    "cli",
];
/// Open to all.
const OPEN: &[&str] = &["error", "hash", "progress", "rng"];
/// A pair of rooms that describe one thing together: contents of constants are facts read from tensors.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn visit(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_room_imports_only_from_rooms_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    visit(&source, &mut files);
    let mut wrong = Vec::new();
    for path in files {
        let room = path
            .strip_prefix(&source)
            .unwrap()
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        let Some(own) = ROOMS.iter().position(|other| *other == room) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let is_test = code.contains("#[test]")
            || path.ends_with("case.rs")
            || path.ends_with("laws.rs")
            || path.ends_with("corpus.rs")
            || path.to_string_lossy().contains("tests");
        for used in code.split("crate::").skip(1).filter(|_| !is_test) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let Some(other) = ROOMS.iter().position(|room| *room == used) else {
                continue;
            };
            if other > own
                && !OPEN.contains(&used.as_str())
                && !EXCEPTIONS.contains(&(&room, &used))
            {
                wrong.push(format!(
                    "{} uses {used}",
                    path.strip_prefix(&source).unwrap().display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rooms that know operators by name: what they mean, and how runtimes compute them.
const NAMING: &[&str] = &["ops", "run"];

/// Whether a file, or what follows its test module, is compiled into tests alone.
fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "tests" || name == "tests.rs"
    })
}

/// The string literals of a piece of Rust, comments left out.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let before = rest[..at].chars().next_back();
        rest = &rest[at..];
        let in_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
        let (literal, length) = if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if let Some(rest) = rest.strip_prefix('"') {
            let text = string(rest);
            (Some(text), text.len() + 2)
        } else if rest.starts_with("r#\"") && !in_word {
            let text = rest[3..].split("\"#").next().unwrap();
            (Some(text), text.len() + 5)
        } else if let Some(rest) = rest.strip_prefix("'\\") {
            (None, 2 + rest.find('\'').map_or(1, |end| end + 1))
        } else if rest.starts_with("'\"'") {
            (None, 3)
        } else {
            (None, 1)
        };
        found.extend(literal.map(str::to_owned));
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

/// What stands before the quote that ends a string.
fn string(text: &str) -> &str {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return &text[..at],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text
}

#[test]
fn literals_are_told_from_comments() {
    let code = "// \"Conv\"\nlet a = \"Relu\"; let b = '\"'; let c = \"a \\\" b\"; // \"Add\"\nlet d = r#\"Mul\"#; let e = '\\'';";
    assert_eq!(literals(code), ["Relu", "a \\\" b", "Mul"]);
}

/// What an operator means is data of its rule; a room that asks for a name would miss the next operator of the kind.
#[test]
fn operators_are_named_only_where_their_meaning_stands() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    visit(&source, &mut files);
    let names: BTreeSet<&str> = rules().map(|rule| rule.op_type).collect();
    let (mut found, mut seen) = (BTreeMap::<String, Vec<String>>::new(), 0);
    for path in files {
        let inside = path.strip_prefix(&source).unwrap();
        let room = inside.components().next().unwrap().as_os_str();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let named: Vec<String> = literals(code)
            .into_iter()
            .filter(|literal| names.contains(literal.as_str()))
            .collect();
        if NAMING.iter().any(|naming| room == *naming) {
            seen += named.len();
        } else if !named.is_empty() && !is_test_file(inside) {
            found.insert(inside.to_string_lossy().into_owned(), named);
        }
        let asks = ["starts_with", "ends_with", "contains"]
            .iter()
            .any(|how| code.contains(&format!("op_type().{how}(")));
        assert!(
            !asks || NAMING.iter().any(|naming| room == *naming),
            "{} asks for a part of an operator's name",
            inside.display()
        );
    }
    assert!(seen > 500, "only {seen} names in the rooms that have them");
    assert!(found.is_empty(), "{found:?}");
}
