//! Every family's cases, one line each: an operator with its inputs and attributes, and the relation of that node.
//!
//! The laws hold every line against the rule and the runtime, the coverage test looks for operators without one, and
//! `docs/operators.md` is printed from the first of each operator.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::case::OpCase;
use super::lookup;
use super::registry::rules;
use super::rule::Rule;

/// Operators whose relation is that of the graphs that they hold, which a line does not show, with what a reader is told.
const OF_GRAPHS: &[(&str, &str)] = &[
    ("If", "each branch's results are the outputs"),
    (
        "Loop",
        "the body's formal inputs and results are the inputs and outputs, step after step",
    ),
    (
        "Scan",
        "the body's formal inputs are the states and slices of what is scanned",
    ),
];

/// A line of a table.
struct Line {
    text: String,
    relation: String,
}

impl Line {
    fn case(&self) -> OpCase {
        self.text.parse().unwrap_or_else(|error| panic!("{error}"))
    }
}

fn path(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/ops/cases/{family}.txt"))
}

fn lines(family: &str) -> Vec<Line> {
    let table = std::fs::read_to_string(path(family)).unwrap();
    let line = |line: &str| {
        let (text, relation) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        Line {
            text: text.to_owned(),
            relation: relation.to_owned(),
        }
    };
    table.lines().map(line).collect()
}

macro_rules! families {
    ($($family:ident),* $(,)?) => {
        /// The families that have a table.
        const FAMILIES: &[&str] = &[$(stringify!($family)),*];

        $(
            #[test]
            fn $family() {
                check(stringify!($family));
            }
        )*
    };
}

families!(
    attention,
    conv,
    conv_causal,
    einsum,
    elementwise,
    expand,
    gather,
    image,
    join,
    linear_attention,
    matmul,
    matmul_blocks,
    matmul_packed,
    matrix,
    microsoft_attention,
    microsoft_group_query,
    microsoft_moe,
    microsoft_moe_quantized,
    microsoft_multi_head,
    microsoft_position,
    microsoft_ragged,
    ml,
    norm,
    norm_fused,
    packed,
    pad,
    permute,
    pool,
    quant,
    quant_linear,
    recurrent,
    reduce,
    reshape,
    resize,
    rotary,
    scatter,
    sequence,
    shape,
    signal,
    slice,
    softmax
);

fn updates() -> bool {
    std::env::var_os("ONNX_PRUNE_UPDATE").is_some()
}

/// Every line of a family reads back as it is written, states its relation, and keeps the laws. With `ONNX_PRUNE_UPDATE` set the
/// relations are written anew, to be looked through.
fn check(family: &str) {
    if updates() {
        let relation = |case: &OpCase| {
            case.view(|view| {
                let operator = lookup(view.node.domain(), view.node.op_type()).unwrap();
                operator.relate(view).to_string()
            })
        };
        let table: String = lines(family)
            .iter()
            .map(|line| format!("{} => {}\n", line.text, relation(&line.case())))
            .collect();
        std::fs::write(path(family), table).unwrap();
    }
    let lines = lines(family);
    assert!(!lines.is_empty(), "{family} has no cases");
    for line in lines {
        let case = line.case();
        assert_eq!(case.to_string(), line.text);
        case.expect_relation(&line.relation);
    }
}

/// The relation of the first case of each operator.
fn examples() -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for line in FAMILIES.iter().flat_map(|family| lines(family)) {
        let node = line.case().named();
        let key = (node.domain().to_owned(), node.op_type().to_owned());
        found.entry(key).or_insert(line.relation);
    }
    found
}

fn example<'a>(examples: &'a BTreeMap<(String, String), String>, rule: &Rule) -> Option<&'a str> {
    let key = (rule.domain.to_owned(), rule.op_type.to_owned());
    examples.get(&key).map(String::as_str)
}

#[test]
fn every_operator_has_a_case() {
    let examples = examples();
    let missing: Vec<String> = rules()
        .filter(|rule| rule.operator.frozen_reason().is_none())
        .filter(|rule| example(&examples, rule).is_none())
        .filter(|rule| !OF_GRAPHS.iter().any(|(name, _)| *name == rule.op_type))
        .map(|rule| format!("{}:{}", rule.domain, rule.op_type))
        .collect();
    assert!(missing.is_empty(), "operators without a case: {missing:?}");
}

/// Versions since which each definition of an operator holds, from the list that `tests/operators.py` prints.
fn versions() -> BTreeMap<(&'static str, &'static str), String> {
    let list = include_str!("../../tests/operators.txt");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split(' ');
            let domain = words.next()?;
            let domain = if domain == "ai.onnx" { "" } else { domain };
            let key = (domain, words.next()?);
            Some((key, words.collect::<Vec<_>>().join(", ")))
        })
        .collect()
}

/// Where an operator is specified.
fn link(domain: &str, op_type: &str) -> String {
    let page = match domain {
        "com.microsoft" => {
            let page =
                "https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md";
            return format!("{page}#{domain}.{op_type}");
        }
        "" => format!("onnx__{op_type}"),
        _ => format!("onnx_{}_{op_type}", domain.replace('.', "")),
    };
    format!("https://onnx.ai/onnx/operators/{page}.html")
}

const HEAD: &str = "# Operators

Every operator that has a rule, with the versions since which each of its definitions holds and the relation of one example:
inputs → outputs, each axis as a sum of products of labels, then what is summed. Labels joined by `·` are factors of one axis,
by `+` segments of it; `u{2..6}` are chosen indices of `u`. In some nothing may go, and the reason stands there.
Printed by the tests from the cases that rules are proved with; do not edit.
";

fn page() -> String {
    let (examples, versions) = (examples(), versions());
    let mut sorted: Vec<&Rule> = rules().collect();
    sorted.sort_by_key(|rule| (rule.domain, rule.op_type));
    sorted.dedup_by_key(|rule| (rule.domain, rule.op_type));
    let (mut page, mut last) = (HEAD.to_owned(), None);
    for rule in sorted {
        let Rule {
            domain, op_type, ..
        } = *rule;
        if last != Some(domain) {
            let title = if domain.is_empty() { "ai.onnx" } else { domain };
            let columns = "| operator | since | example |\n|---|---|---|";
            write!(page, "\n## {title}\n\n{columns}\n").unwrap();
            last = Some(domain);
        }
        let of_graphs = OF_GRAPHS.iter().find(|(name, _)| *name == op_type);
        let shown = match (rule.operator.frozen_reason(), example(&examples, rule)) {
            (Some(reason), _) => format!("all stays: {reason}"),
            (None, Some(relation)) => format!("`{relation}`"),
            (None, None) => of_graphs.map_or("–", |(_, told)| told).to_owned(),
        };
        let (name, since) = match versions.get(&(domain, op_type)) {
            Some(since) => (
                format!("[{op_type}]({})", link(domain, op_type)),
                since.as_str(),
            ),
            // Exporters write it without a schema.
            None => (op_type.to_owned(), "–"),
        };
        writeln!(page, "| {name} | {since} | {shown} |").unwrap();
    }
    page
}

/// `ONNX_PRUNE_UPDATE=1 cargo test --lib the_page_of_operators` writes it anew.
#[test]
fn the_page_of_operators_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let page = page();
    if updates() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/operators.md is out of date; run ONNX_PRUNE_UPDATE=1 cargo test --lib the_page_of_operators"
    );
}
