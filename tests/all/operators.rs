//! Every operator of the standard has a rule, if only one that says why nothing may go.

use std::path::Path;

use onnx_prune::ops::lookup;
use onnx_prune::ops::registry::rules;

/// Domain and name of every operator that `tests/operators.py` found.
fn listed() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operators.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            (
                words.next().unwrap().to_owned(),
                words.next().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn every_operator_has_a_rule() {
    let listed = listed();
    assert!(
        listed
            .iter()
            .filter(|(domain, _)| domain == "ai.onnx")
            .count()
            > 200,
        "the list is cut short"
    );
    let missing: Vec<&(String, String)> = listed
        .iter()
        .filter(|(domain, name)| lookup(domain, name).is_none())
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} operators without a rule: {missing:?}",
        missing.len(),
        listed.len()
    );
    eprintln!("operators: all {} of the list have a rule", listed.len());
}

/// A rule under a name that no one uses would never be looked up.
#[test]
fn every_rule_is_of_an_operator() {
    // Names that exporters and optimizers write without a schema.
    const UNLISTED: &[(&str, &str)] = &[
        ("", "SimplifiedLayerNormalization"),
        ("com.microsoft", "LayerNormalization"),
        ("com.microsoft", "SimplifiedLayerNormalization"),
    ];
    let listed = listed();
    let domain = |domain: &str| {
        if domain.is_empty() {
            "ai.onnx".to_owned()
        } else {
            domain.to_owned()
        }
    };
    let known = |rule: &&onnx_prune::ops::Rule| {
        listed.contains(&(domain(rule.domain), rule.op_type.to_owned()))
            || UNLISTED.contains(&(rule.domain, rule.op_type))
    };
    let strange: Vec<String> = rules()
        .filter(|rule| !known(rule))
        .map(|rule| format!("{}:{}", rule.domain, rule.op_type))
        .collect();
    assert!(
        strange.is_empty(),
        "rules for operators that are not in the list: {strange:?}"
    );
}
