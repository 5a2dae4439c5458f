//! A room imports only from the rooms above it.

use std::path::Path;

/// The rooms from the top down; a room may use those before it.
const ROOMS: &[&str] = &[
    "files",
    "proto",
    "model",
    "facts",
    "relation",
    "ops",
    "analysis",
    "cost",
    "linear",
    "run",
    "inputs",
    "calibrate",
    "score",
    "allocate",
    "plan",
    "surgery",
    "recover",
    "verify",
    "clean",
    "sparsify",
    "workspace",
    "latency",
    "evaluate",
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
            || path.ends_with("prove.rs")
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
