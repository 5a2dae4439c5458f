//! What is deliberately absent from a room: the sentences of ARCHITECTURE.md, each with the words that would break it.
//!
//! Words are looked for in code: comments, literals, and test modules are blanked first.

use std::path::Path;

/// A sentence of ARCHITECTURE.md about some places of `src`, and the words that it forbids there.
struct Absence {
    places: &'static [&'static str],
    says: &'static str,
    words: &'static [&'static str],
}

/// What does not occur in these places.
const ABSENT: &[Absence] = &[
    Absence {
        places: &["proto"],
        says: "No other room: it stands alone.",
        words: &["crate::"],
    },
    // What is open to all, such as `hash`, is no room.
    Absence {
        places: &["files"],
        says: "No other room: it stands alone.",
        words: &[
            "crate::proto",
            "crate::model",
            "crate::facts",
            "crate::relation",
            "crate::ops",
            "crate::analysis",
            "crate::run",
            "crate::inputs",
            "crate::plan",
            "crate::prune",
            "crate::report",
            "crate::cli",
        ],
    },
    Absence {
        places: &["model"],
        says: "No shapes inferred, no linear algebra, no runtime.",
        words: &["Fact", "faer", "rayon", "Runtime", "Session"],
    },
    Absence {
        places: &["facts"],
        says: "No graph: neither a model nor a node is in sight.",
        words: &["Model", "NodeProto", "GraphProto", "NodeId", "ValueId"],
    },
    Absence {
        places: &["relation"],
        says: "No ONNX: no protobuf, no model, no tensor, no file.",
        words: &[
            "crate::proto",
            "crate::model",
            "NodeProto",
            "TensorRef",
            "std::fs",
        ],
    },
    Absence {
        places: &["ops"],
        says: "No graph: a rule sees the view of one node, never a model or another node's identity.",
        words: &["Model", "NodeId", "ValueId", "faer", "rayon", "std::fs"],
    },
    Absence {
        places: &["vocabulary"],
        says: "No runtime and no weights: it says which rows stay, and moves none.",
        words: &[
            "Runtime",
            "Session",
            "TensorRef",
            "crate::run",
            "crate::linear",
        ],
    },
    Absence {
        places: &["linear"],
        says: "No statistics, no factorisation, no runtime: it reads a layer as a matrix, and no more.",
        words: &[
            "faer",
            "rayon",
            "Runtime",
            "Session",
            "std::fs",
            "crate::run",
            "crate::calibrate",
        ],
    },
    Absence {
        places: &["rotate"],
        says: "No choice of what goes: the graph and its widths stay.",
        words: &[
            "Selection",
            "Choice",
            "Plan",
            "crate::allocate",
            "crate::surgery",
            "std::fs",
        ],
    },
    Absence {
        places: &["constants"],
        says: "No floats and no shapes inferred: constants are moved and renamed, never computed.",
        words: &["f32", "f64", "Fact", "faer", "rayon", "Runtime", "std::fs"],
    },
    Absence {
        places: &["analysis"],
        says: "No scores, no runtime, no files, and no threads.",
        words: &[
            "Runtime",
            "Session",
            "faer",
            "rayon",
            "std::fs",
            "crate::run",
            "crate::score",
        ],
    },
    Absence {
        places: &["cost"],
        says: "No clock and no runtime: measured times come in as data.",
        words: &["std::time", "Runtime", "Session", "TensorRef", "crate::run"],
    },
    Absence {
        places: &["inputs"],
        says: "No graph: a model's inputs are known by their specification alone.",
        words: &[
            "Model",
            "Index",
            "NodeId",
            "ValueId",
            "Linear",
            "NodeProto",
            "GraphProto",
        ],
    },
    Absence {
        places: &["calibrate"],
        says: "No pictures, no archives, no scores: batches come in, sums go out.",
        words: &["image::", "npyz", "zip::", "crate::score"],
    },
    Absence {
        places: &["score"],
        says: "No protobuf, no runtime, no budget.",
        words: &[
            "NodeProto",
            "GraphProto",
            "ModelProto",
            "Runtime",
            "Session",
            "crate::run",
            "crate::allocate",
        ],
    },
    Absence {
        places: &["allocate"],
        says: "No model, no weights, no runtime, no random numbers.",
        words: &[
            "Model",
            "TensorRef",
            "Runtime",
            "Session",
            "rand",
            "std::fs",
            "crate::model",
            "crate::run",
        ],
    },
    Absence {
        places: &["plan"],
        says: "No scores and no real numbers: names, digests and whole numbers.",
        words: &[
            "f32",
            "f64",
            "faer",
            "Runtime",
            "crate::score",
            "crate::run",
        ],
    },
    Absence {
        places: &["surgery"],
        says: "No arithmetic on weights, no scores, no runtime, no files: numbers are moved, never computed.",
        words: &[
            "f32",
            "f64",
            "faer",
            "Runtime",
            "Session",
            "std::fs",
            "crate::files",
            "crate::score",
            "crate::run",
        ],
    },
    Absence {
        places: &["recover"],
        says: "No new operators, no scores, no plan: the graph stays, except for a bias where there was none.",
        words: &[
            "NodeProto",
            "GraphProto",
            "crate::score",
            "crate::plan",
            "crate::allocate",
            "crate::surgery",
        ],
    },
    Absence {
        places: &["gradient"],
        says: "No ONNX and no other room: arrays in, arrays out.",
        words: &["crate::", "onnx", "NodeProto", "TensorRef"],
    },
    Absence {
        places: &["train"],
        says: "No tensor kernels, no cut, no scores: it changes numbers of a model that is given.",
        words: &[
            "faer",
            "matmul",
            "crate::surgery",
            "crate::score",
            "crate::allocate",
            "crate::plan",
        ],
    },
    Absence {
        places: &["clean"],
        says: "No plan, no scores, no files: nothing goes that an output could tell.",
        words: &[
            "faer",
            "std::fs",
            "crate::plan",
            "crate::score",
            "crate::surgery",
        ],
    },
    Absence {
        places: &["run"],
        says: "No plan, no scores, no surgery: it runs whatever it is given.",
        words: &[
            "crate::plan",
            "crate::score",
            "crate::allocate",
            "crate::surgery",
            "faer",
        ],
    },
    Absence {
        places: &["run/lower"],
        says: "No engine: a lowering rewrites graphs for every runtime alike.",
        words: &[
            "tract_onnx",
            "tract_core",
            "tract_hir",
            "ort::",
            "Runtime",
            "Session",
            "std::fs",
        ],
    },
    Absence {
        places: &["dead"],
        says: "No runtime and no scores: what goes follows from the constants alone.",
        words: &[
            "Runtime",
            "Session",
            "faer",
            "std::fs",
            "crate::run",
            "crate::score",
            "crate::plan",
        ],
    },
    Absence {
        places: &["latency"],
        says: "No quality: neither drift nor scores.",
        words: &[
            "Drift",
            "faer",
            "crate::verify",
            "crate::score",
            "crate::recover",
        ],
    },
    Absence {
        places: &["evaluate"],
        says: "No choices: it compares what it is given with the original.",
        words: &[
            "crate::allocate",
            "crate::score",
            "crate::recover",
            "crate::surgery",
        ],
    },
    Absence {
        places: &["verify"],
        says: "No repair: nothing here improves what it measures.",
        words: &[
            "faer",
            "crate::recover",
            "crate::score",
            "crate::allocate",
            "std::fs",
        ],
    },
    Absence {
        places: &["prune"],
        says: "No files, no terminal, no reports.",
        words: &[
            "std::fs",
            "std::io",
            "crate::files",
            "crate::report",
            "crate::cli",
        ],
    },
    Absence {
        places: &["report"],
        says: "No models, no runtimes, no files: every number comes in.",
        words: &[
            "Model",
            "Runtime",
            "Session",
            "std::fs",
            "crate::model",
            "crate::run",
            "crate::analysis",
        ],
    },
    Absence {
        places: &["cli"],
        says: "No linear algebra and no protobuf.",
        words: &[
            "faer",
            "prost",
            "Linear",
            "NodeProto",
            "GraphProto",
            "ModelProto",
        ],
    },
];

/// What occurs in these places alone.
const CONFINED: &[Absence] = &[
    Absence {
        places: &["cli"],
        says: "Only the command line prints, parses arguments, catches signals, or uses `anyhow`.",
        words: &[
            "stdout",
            "stderr",
            "clap",
            "signal_hook",
            "indicatif",
            "anyhow",
        ],
    },
    Absence {
        places: &["run/tract"],
        says: "Only `run/tract` names tract.",
        words: &["tract_onnx", "tract_core", "tract_hir"],
    },
    Absence {
        places: &["run/ort", "run/mod.rs"],
        says: "Only `run/ort` names ONNX Runtime's bindings.",
        words: &["ort::"],
    },
    Absence {
        places: &[
            "cli/allocator.rs",
            "cli/stop.rs",
            "files/read.rs",
            "run/ort/value.rs",
            "run/tract/tensor.rs",
        ],
        says: "`unsafe` is confined to files at the border to other code: signals, memory maps, the allocator, tensors of a runtime.",
        words: &["unsafe"],
    },
];

/// How many bytes the comment or literal takes that the text begins with; 0 if it begins with code.
fn opaque(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let Some(inner) = raw[hashes..].strip_prefix('"') else {
            return 0;
        };
        let close = format!("\"{}", "#".repeat(hashes));
        return inner
            .find(&close)
            .map_or(rest.len(), |end| hashes + 2 + end + close.len());
    }
    if let Some(inner) = rest.strip_prefix('"') {
        let mut escaped = false;
        for (at, letter) in inner.char_indices() {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return at + 2,
                _ => {}
            }
        }
        return rest.len();
    }
    let mut letters = rest.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('\''), Some('\\'), Some(_)) => rest[3..].find('\'').map_or(0, |end| end + 4),
        (Some('\''), Some(letter), Some('\'')) => letter.len_utf8() + 2,
        _ => 0,
    }
}

/// The text without comments and literals.
fn code_of(text: &str) -> String {
    let (mut code, mut at) = (String::new(), 0);
    while let Some(letter) = text[at..].chars().next() {
        let length = opaque(&text[at..]);
        if length == 0 {
            code.push(letter);
            at += letter.len_utf8();
        } else {
            code.push(' ');
            at += length;
        }
    }
    code
}

/// How many bytes a text takes that begins with a brace, up to the brace that closes it.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Code without what is compiled for tests alone, and the names of test modules in files of their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some((before, item)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let stop = item.find(['{', ';']).unwrap_or(item.len());
        rest = if item[stop..].starts_with('{') {
            &item[stop + block(&item[stop..])..]
        } else {
            if let Some((_, name)) = item[..stop].split_once("mod ") {
                modules.push(name.trim().to_owned());
            }
            &item[stop..]
        };
    }
    kept.push_str(rest);
    (kept, modules)
}

/// Path below `src`, with slashes, and code of every file that is not a test.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found, mut tests) = (vec![root.clone()], Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let (code, modules) = without_tests(&code_of(&text));
                let is_door = ["mod.rs", "lib.rs", "main.rs"]
                    .iter()
                    .any(|door| path.ends_with(door));
                let home = if is_door {
                    folder.clone()
                } else {
                    path.with_extension("")
                };
                tests.extend(modules.iter().map(|module| home.join(module)));
                found.push((path, code));
            }
        }
    }
    found.retain(|(path, _)| {
        let module = path.with_extension("");
        !tests.iter().any(|test| module.starts_with(test))
    });
    let below = |path: &Path| {
        path.strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/")
    };
    found
        .iter()
        .map(|(path, code)| (below(path), code.clone()))
        .collect()
}

/// Whether a file is one of these places, or lies in one.
fn lies_in(file: &str, places: &[&str]) -> bool {
    places
        .iter()
        .any(|place| file == *place || file.starts_with(&format!("{place}/")))
}

/// Whether the word stands in the code, not as a part of a longer name.
fn holds(code: &str, word: &str) -> bool {
    let in_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(in_name);
        let after = code[at + word.len()..].chars().next().is_some_and(in_name);
        !(before && word.starts_with(in_name) || after && word.ends_with(in_name))
    })
}

#[test]
fn what_is_absent_from_a_room_is_absent() {
    let sources = sources();
    let mut wrong = Vec::new();
    for rule in ABSENT {
        for place in rule.places {
            let files = || sources.iter().filter(|(file, _)| lies_in(file, &[*place]));
            assert!(files().next().is_some(), "there is no src/{place}");
            for (file, code) in files() {
                for word in rule.words.iter().filter(|word| holds(code, word)) {
                    wrong.push(format!("src/{file} has `{word}`. {}", rule.says));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_confined_to_a_place_stands_nowhere_else() {
    let sources = sources();
    let mut wrong = Vec::new();
    for rule in CONFINED {
        for word in rule.words {
            let (inside, outside): (Vec<_>, Vec<_>) = sources
                .iter()
                .filter(|(_, code)| holds(code, word))
                .partition(|(file, _)| lies_in(file, rule.places));
            assert!(!inside.is_empty(), "`{word}` is not in {:?}", rule.places);
            for (file, _) in outside {
                wrong.push(format!("src/{file} has `{word}`. {}", rule.says));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_says_what_the_tests_hold() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(page).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for rule in ABSENT.iter().chain(CONFINED) {
        assert!(
            text.contains(rule.says),
            "ARCHITECTURE.md lacks: {}",
            rule.says
        );
    }
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    let text = concat!(
        "use a::B; // C\n/* D */ let e = \"F \\\" G\"; let h = r#\"I \" J\"#; let k = ('\\'', 'L', '\"');\n",
        "fn m<'n>(o: &'n P) {}\n#[cfg(test)]\nmod q;\n#[cfg(test)]\nmod r { fn s() { T } }\nfn u() {}\n",
    );
    let (code, modules) = without_tests(&code_of(text));
    for word in ["a::B", "let", "e", "h", "k", "m", "n", "P", "u"] {
        assert!(holds(&code, word), "{word} of {code}");
    }
    for word in ["B::", "C", "D", "F", "G", "I", "J", "L", "s", "T"] {
        assert!(!holds(&code, word), "{word} of {code}");
    }
    assert_eq!(modules, ["q"]);
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let mut places: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for (file, code) in sources() {
        let words: Vec<&str> = code.split_whitespace().collect();
        let named = words
            .windows(2)
            .filter(|pair| matches!(pair[0], "struct" | "enum" | "trait" | "union"));
        for pair in named {
            let name = pair[1]
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            places
                .entry(name.unwrap_or_default().to_owned())
                .or_default()
                .push(file.clone());
        }
    }
    assert!(places.len() > 500, "only {} types found", places.len());
    let double: Vec<String> = places
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(double.is_empty(), "{}", double.join("\n"));
}
