//! What newcomers write, and what they mean.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use super::args::Cli;

/// Options of other tools by what they are called here.
const MEANT: &[(&[&str], &str)] = &[
    (
        &[
            "calib",
            "calib-data",
            "calibration",
            "calibration-data",
            "calib-dataset",
            "dataset",
            "input-data",
            "inputs",
            "images",
        ],
        "--data PATH",
    ),
    (
        &["val-data", "validation-data", "test-data", "eval-data"],
        "--verify-data PATH",
    ),
    (
        &[
            "out",
            "output-path",
            "output-model",
            "output-file",
            "save",
            "dest",
        ],
        "-o OUT.onnx (by default MODEL.pruned.onnx)",
    ),
    (
        &["model", "input-model", "onnx", "onnx-model"],
        "the model as a word of its own: onnx-prune MODEL.onnx",
    ),
    (
        &[
            "shape",
            "input-shape",
            "input-shapes",
            "overwrite-input-shape",
            "test-input-shape",
        ],
        "--input NAME=SHAPE",
    ),
    (
        &[
            "method",
            "criterion",
            "importance",
            "algorithm",
            "metric",
            "strategy",
        ],
        "--score NAME, or --target METRIC=VALUE",
    ),
    (
        &["finetune", "fine-tune", "retrain", "recovery"],
        "--recover least-squares",
    ),
    (
        &[
            "ignore",
            "skip",
            "exclude-layers",
            "ignored-layers",
            "skip-layers",
            "exclude-nodes",
        ],
        "--exclude GLOB",
    ),
    (
        &["include", "layers", "nodes", "only-layers"],
        "--only GLOB",
    ),
    (&["threshold", "tolerance", "max-error"], "--max-drift X"),
    (
        &[
            "iterative",
            "iterations",
            "iterative-steps",
            "epochs",
            "steps",
        ],
        "--rounds N",
    ),
    (
        &["round-to", "channel-round", "multiple", "divisor"],
        "--align N",
    ),
    (
        &["num-samples", "max-samples", "batch-size", "num-images"],
        "--samples N",
    ),
    (
        &["check", "validate"],
        "nothing: results are checked unless --no-verify is given",
    ),
    (
        &["device", "gpu", "cuda", "provider"],
        "nothing: no GPU is used",
    ),
];
/// Options of other tools that say how much goes.
const AMOUNTS: &[&str] = &[
    "ratio",
    "amount",
    "rate",
    "prune-ratio",
    "pruning-ratio",
    "prune-rate",
    "prune-amount",
    "percentage",
    "percent",
    "compression",
];

/// What a first word that is neither a file nor a subcommand was meant for.
pub(super) fn first_word(arguments: &[String]) -> Option<String> {
    let word = arguments.get(1)?;
    let plain = !word.is_empty()
        && word.chars().all(|character| {
            character.is_ascii_alphanumeric() || character == '-' || character == '_'
        });
    if !plain || word.starts_with('-') || Path::new(word).exists() || word == "help" {
        return None;
    }
    let names = subcommands();
    if names.iter().any(|name| name == word) {
        return None;
    }
    if let Some(near) = names.iter().find(|name| edits(name, word) <= 2) {
        return Some(format!(
            "there is no subcommand '{word}'; is '{near}' meant?"
        ));
    }
    let rest = arguments[2..].join(" ");
    let here = if rest.is_empty() {
        String::new()
    } else {
        format!(" (here: onnx-prune {rest})")
    };
    Some(format!(
        "there is no subcommand '{word}': write onnx-prune MODEL.onnx to prune{here}; the subcommands are {}",
        names.join(", ")
    ))
}

/// What a word after the model was meant for; `None` where something else is wrong.
pub(super) fn second_word(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let model_before = |at: &usize| Cli::try_parse_from(&arguments[..*at]).ok()?.prune.model;
    let (at, model) = (1..arguments.len())
        .filter(|at| arguments[*at] == *word)
        .find_map(|at| Some((at, model_before(&at)?)))?;
    let model = model.display();
    let rest: String = arguments[at + 1..]
        .iter()
        .map(|argument| format!(" {argument}"))
        .collect();
    if word == "prune" {
        return Some(format!(
            "there is no subcommand 'prune': write onnx-prune {model}{rest} to prune"
        ));
    }
    if subcommands().contains(word) || word == "help" {
        return Some(format!(
            "the subcommand comes before the model: onnx-prune {word} {model}{rest}"
        ));
    }
    if !word.ends_with(".onnx") {
        let near = subcommands()
            .into_iter()
            .find(|name| edits(name, word) <= 2)
            .map(|name| format!("; is this meant: onnx-prune {name} {model}{rest}?"));
        return Some(format!(
            "unexpected argument '{word}': there is a model already, '{model}', and no option takes it{} (--help lists all options)",
            near.unwrap_or_default()
        ));
    }
    let named = match Path::new(word).exists() {
        true => String::new(),
        false => format!("; -o {word} names the result"),
    };
    Some(format!(
        "one model is pruned at a time, here '{model}'; onnx-prune verify {model} {word} compares two, onnx-prune bench {model} {word} times them{named}"
    ))
}

fn subcommands() -> Vec<String> {
    Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// What to say of an option that there is not; `None` where something else is wrong.
pub(super) fn unknown_option(error: &clap::Error, arguments: &[String]) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = option
        .trim_start_matches('-')
        .split('=')
        .next()
        .unwrap_or_default()
        .replace('_', "-")
        .to_ascii_lowercase();
    let meant = if AMOUNTS.contains(&name.as_str()) {
        Some(amount(option, arguments))
    } else {
        MEANT
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()))
            .map(|(_, meant)| (*meant).to_owned())
    };
    let suggested = || match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(near)) => Some(near.clone()),
        _ => None,
    };
    let hint = meant
        .or_else(suggested)
        .map_or_else(String::new, |meant| format!("; is this meant: {meant}?"));
    let what = if option.starts_with('-') {
        ""
    } else {
        ": there is a model already, and no option takes it"
    };
    Some(format!(
        "unexpected argument '{option}'{what}{hint} (--help lists all options)"
    ))
}

/// How much is to remain where another tool asks how much is to go.
fn amount(option: &str, arguments: &[String]) -> String {
    let given = arguments.iter().enumerate().find_map(|(at, argument)| {
        match argument.strip_prefix(option) {
            Some("") => arguments.get(at + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        }
    });
    let share = given
        .and_then(|text| text.trim_end_matches('%').parse::<f64>().ok())
        .map(|number| if number > 1.0 { number / 100.0 } else { number });
    let left = share
        .filter(|share| (0.0..1.0).contains(share))
        .map_or(0.5, |share| ((1.0 - share) * 1e4).round() / 1e4);
    format!("--target macs={left}, the share that remains (or params=, bytes=, latency=, drift=)")
}

/// Edits from one word to another.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, character) in one.chars().enumerate() {
        let mut last = row[0];
        row[0] = at + 1;
        for (column, found) in other.iter().enumerate() {
            let changed = last + usize::from(*found != character);
            last = row[column + 1];
            row[column + 1] = changed.min(last + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        format!("onnx-prune {line}")
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn first_words_that_are_no_file_are_explained() {
        let said = |line: &str| first_word(&words(line));
        assert!(
            said("prune m.onnx --target macs=0.7")
                .unwrap()
                .contains("'prune': write onnx-prune MODEL.onnx")
        );
        assert!(
            said("quantize m.onnx")
                .unwrap()
                .contains("the subcommands are inspect, verify")
        );
        assert!(
            said("inspct m.onnx")
                .unwrap()
                .contains("is 'inspect' meant")
        );
        assert!(
            [
                "inspect m.onnx",
                "m.onnx",
                "./model --force",
                "--help",
                "help",
                "",
                "src"
            ]
            .iter()
            .all(|line| said(line).is_none())
        );
    }

    #[test]
    fn words_after_the_model_are_explained() {
        let said =
            |line: &str| second_word(&Cli::try_parse_from(words(line)).unwrap_err(), &words(line));
        for line in [
            "a.onnx b.onnx",
            "a.onnx -o c.onnx b.onnx",
            "-o c.onnx --target macs=0.5 a.onnx b.onnx",
            "a.onnx b.onnx --force",
        ] {
            let said = said(line).unwrap();
            assert!(
                said.starts_with("one model is pruned at a time, here 'a.onnx';")
                    && said.contains("verify a.onnx b.onnx compares two")
                    && said.contains("bench a.onnx b.onnx times them"),
                "{line}: {said}"
            );
        }
        let same = said("a.onnx a.onnx").unwrap();
        assert!(same.contains("verify a.onnx a.onnx compares"), "{same}");
        assert_eq!(
            said("a.onnx inspect --json").unwrap(),
            "the subcommand comes before the model: onnx-prune inspect a.onnx --json"
        );
        assert!(
            said("a.onnx verify b.onnx")
                .unwrap()
                .ends_with("onnx-prune verify a.onnx b.onnx")
        );
        assert!(
            said("a.onnx prune --force")
                .unwrap()
                .ends_with("write onnx-prune a.onnx --force to prune")
        );
        let near = said("a.onnx inspct --json").unwrap();
        assert!(
            near.contains("is this meant: onnx-prune inspect a.onnx --json?"),
            "{near}"
        );
        let other = said("a.onnx data.npz").unwrap();
        assert!(other.starts_with("unexpected argument 'data.npz'") && !other.contains("meant"));
        assert!(said("a.onnx --nonsense").is_none() && said("inspect a.onnx b.onnx").is_none());
    }

    #[test]
    fn options_of_other_tools_are_translated() {
        let said = |line: &str| {
            unknown_option(&Cli::try_parse_from(words(line)).unwrap_err(), &words(line)).unwrap()
        };
        assert!(said("m.onnx --amount .3").contains("--target macs=0.7,"));
        assert!(said("m.onnx --ratio=60").contains("--target macs=0.4,"));
        assert!(said("m.onnx --calibration_data x.npz").contains("--data PATH"));
        assert!(said("m.onnx --tarket macs=0.5").contains("--target"));
        assert!(said("m.onnx --zzz").starts_with("unexpected argument '--zzz' (--help"));
    }
}
