//! The rules against the backend node tests of the onnx package: types, shapes and contents, and law 4.
//!
//! `cargo test --lib node_tests -- --nocapture` prints the share that is covered and lists the rest.

mod case;
mod reference;

use std::collections::BTreeMap;

use case::{Case, Stored, cases, folder};
use reference::Reference;

use super::{Failure, Run, hold, in_tract};
use crate::analysis::{Granularity, Pins, infer};
use crate::facts::{Element, Fact};
use crate::model::{Index, Model, Source, TensorRef};
use crate::proto::ModelProto;
use crate::run::Tensors;
use crate::verify::relative_error;

/// Operators of which some extents depend on the numbers, or on what the rules do not follow: optionals, text, the first form of
/// Scan, extents of 0.
const DATA_DEPENDENT: &[&str] = &[
    "Compress",
    "ImageDecoder",
    "Loop",
    "NonMaxSuppression",
    "OptionalGetElement",
    "RegexFullMatch",
    "Scan",
    "StringNormalizer",
    "StringSplit",
    "Unique",
];

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    /// Types or extents that cannot be told before the model runs.
    Unknown(String),
    NotRun(String),
    Failed(String),
}

/// What was found, by outcome, for a line each.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, Vec<String>>);

impl Tally {
    fn add(&mut self, case: &Case, outcome: Outcome) {
        let (title, note) = match outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Unknown(note) => ("unknown", note),
            Outcome::NotRun(note) => ("not run", note),
            Outcome::Failed(note) => ("failed", note),
        };
        self.0.entry(title).or_default().push(format!(
            "{} ({}): {note}",
            case.name,
            case.operators().join(",")
        ));
    }

    fn print(&self, title: &str) {
        let total: usize = self.0.values().map(Vec::len).sum();
        let counts: Vec<String> = self
            .0
            .iter()
            .map(|(outcome, cases)| format!("{} {outcome}", cases.len()))
            .collect();
        for (outcome, cases) in self.0.iter().filter(|(outcome, _)| **outcome != "passed") {
            cases
                .iter()
                .for_each(|case| eprintln!("{title}, {outcome}: {case}"));
        }
        eprintln!("{title}: of {total} node tests {}", counts.join(", "));
    }

    fn failed(&self) -> &[String] {
        self.0.get("failed").map_or(&[], Vec::as_slice)
    }
}

fn open(proto: ModelProto) -> Model {
    Model::new(proto, Source::default()).unwrap()
}

/// Holds what is inferred of each output against what is stored.
fn inferred(case: &Case, proto: ModelProto, symbols: &[(String, i64)]) -> Outcome {
    let model = open(proto);
    let facts = infer(&model, &Pins::new());
    // What goes wrong in a branch that is never taken does not matter; where it is taken an output is unknown.
    let mut problems = facts.problems.iter();
    if let Some((_, problem)) =
        problems.find(|(node, _)| model.index().node(**node).graph == Index::MAIN)
    {
        return match symbols.is_empty() {
            true => Outcome::Failed(problem.clone()),
            false => Outcome::Unknown(format!("too little is known of the extents: {problem}")),
        };
    }
    let mut unknown = None;
    for (at, (value, stored)) in model
        .index()
        .graph(Index::MAIN)
        .outputs
        .iter()
        .zip(&case.outputs)
        .enumerate()
    {
        match agrees(facts.of(*value), stored, symbols) {
            Outcome::Passed => {}
            Outcome::Failed(problem) => return Outcome::Failed(format!("output {at}: {problem}")),
            Outcome::NotRun(problem) => return Outcome::NotRun(format!("output {at}: {problem}")),
            Outcome::Unknown(problem) => unknown = Some(format!("output {at}: {problem}")),
        }
    }
    unknown.map_or(Outcome::Passed, Outcome::Unknown)
}

fn agrees(fact: &Fact, stored: &Stored, symbols: &[(String, i64)]) -> Outcome {
    let Some((dtype, dims)) = stored.kind() else {
        return Outcome::NotRun("no tensor".into());
    };
    match fact.dtype {
        Some(found) if found != dtype => {
            return Outcome::Failed(format!("type {found}, stored is {dtype}"));
        }
        _ => {}
    }
    let Some(shape) = &fact.shape else {
        return Outcome::Unknown("rank".into());
    };
    let told: Vec<Option<i64>> = shape.iter().map(|dim| dim.at(symbols)).collect();
    let wrong = told.len() != dims.len()
        || told
            .iter()
            .zip(dims)
            .any(|(told, dim)| told.is_some_and(|told| told != *dim as i64));
    if wrong {
        return Outcome::Failed(format!("shape {shape:?}, stored is {dims:?}"));
    }
    if let (Some(contents), Some(tensor)) = (&fact.contents, stored.tensor()) {
        let expected = tensor.to_f64().unwrap_or_default();
        if contents.0.len() != expected.len() {
            return Outcome::Failed(format!(
                "{} elements, stored are {}",
                contents.0.len(),
                expected.len()
            ));
        }
        for (element, expected) in contents.0.iter().zip(expected) {
            let found = match element {
                Element::Int(dim) => dim.at(symbols).map(|number| number as f64),
                other => other.real(),
            };
            let near = |found: f64| {
                found == expected
                    || found.is_nan() && expected.is_nan()
                    || (found - expected).abs() <= 1e-6 * expected.abs()
            };
            if found.is_some_and(|found| !near(found)) {
                return Outcome::Failed(format!(
                    "contents {:?}, stored is {expected} there",
                    contents.0
                ));
            }
        }
    }
    match (fact.dtype, told.iter().position(Option::is_none)) {
        (None, _) => Outcome::Unknown("type".into()),
        (_, Some(axis)) => Outcome::Unknown(format!("axis {axis}: {}", shape[axis])),
        _ => Outcome::Passed,
    }
}

/// Inputs that say what to do rather than what to do it with: whole numbers in a list.
fn is_operand(_: usize, tensor: &TensorRef) -> bool {
    matches!(tensor.dtype.name(), "int64" | "int32") && tensor.dims.len() <= 1
}

#[test]
fn inference_agrees() {
    let Some(folder) = folder() else { return };
    let only = std::env::var("ONNX_PRUNE_ONLY").ok();
    let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
    for case in cases(&folder, only.as_deref()) {
        tallies[0].add(&case, inferred(&case, case.constant(|_, _| true), &[]));
        tallies[1].add(&case, inferred(&case, case.proto.clone(), &[]));
        let (proto, symbols) = case.symbolic(is_operand);
        tallies[2].add(&case, inferred(&case, proto, &symbols));
    }
    let untold = |case: &&String| {
        !DATA_DEPENDENT
            .iter()
            .any(|operator| case.contains(&format!("({operator})")))
    };
    let untold: Vec<&String> = tallies[0]
        .0
        .get("unknown")
        .into_iter()
        .flatten()
        .filter(untold)
        .collect();
    assert!(
        untold.is_empty(),
        "shapes that are not told though everything is known: {untold:?}"
    );
    let titles = [
        "shapes, inputs as constants",
        "shapes, inputs fed",
        "shapes, symbols for extents",
    ];
    let mut failed = 0;
    for (tally, title) in tallies.iter().zip(titles) {
        tally.print(title);
        failed += tally.failed().len();
    }
    assert_eq!(
        failed, 0,
        "node tests that inference gets wrong; they are listed above"
    );
}

/// Law 4 on one way to share the inputs out among weights and what is fed.
fn law(run: Run, case: &Case, choose: impl Fn(usize, &TensorRef) -> bool) -> Outcome {
    let model = open(case.constant(choose));
    let names = case
        .proto
        .graph
        .iter()
        .flat_map(|graph| &graph.input)
        .map(|input| input.name().to_owned());
    let mut whole = Tensors::new();
    for (name, stored) in names.zip(&case.inputs) {
        let Some(tensor) = stored.tensor() else {
            return Outcome::NotRun("an input that is no tensor of numbers".into());
        };
        if model
            .index()
            .main_value(&name)
            .is_some_and(|value| model.index().graph(Index::MAIN).inputs.contains(&value))
        {
            whole.insert(name, tensor.clone());
        }
    }
    if let Err(reason) = runs(run, case, &model, &whole) {
        return Outcome::NotRun(reason);
    }
    let mut cuts = 0;
    for granularity in [Granularity::Coarse, Granularity::Fine] {
        // Of few units a random choice may be none.
        for seed in 0..4 {
            match hold(run, &model, &whole, granularity, seed) {
                Ok(cut) => cuts += usize::from(cut),
                Err(Failure::NotRun(reason)) => return Outcome::NotRun(reason),
                Err(Failure::Broken(problem)) => return Outcome::Failed(problem),
            }
        }
    }
    if cuts == 0 {
        Outcome::Unknown("nothing can be cut".into())
    } else {
        Outcome::Passed
    }
}

/// Whether the runtime computes what is stored: else it proves nothing.
fn runs(run: Run, case: &Case, model: &Model, whole: &Tensors) -> Result<(), String> {
    let found = run(model, whole)?;
    for (found, stored) in found.iter().zip(&case.outputs) {
        let Some(stored) = stored.tensor() else {
            return Err("an output that is no tensor of numbers".into());
        };
        let error = relative_error(stored, found, None);
        if error > 1e-2 {
            return Err(format!("the runtime's output is off by {error:.1e}"));
        }
    }
    Ok(())
}

/// Law 4 with all data fed and, as in networks, with only the first input fed: one that passes is enough.
fn laws(run: Run, case: &Case) -> Outcome {
    match (
        law(run, case, is_operand),
        law(run, case, |at, tensor| at > 0 || is_operand(at, tensor)),
    ) {
        (Outcome::Failed(problem), _) | (_, Outcome::Failed(problem)) => Outcome::Failed(problem),
        (Outcome::Passed, _) | (_, Outcome::Passed) => Outcome::Passed,
        (Outcome::Unknown(note), _) | (_, Outcome::Unknown(note)) => Outcome::Unknown(note),
        (other, _) => other,
    }
}

/// Law 4 on every second case from one on, and whether the reference implementation ran it.
fn every_second(cases: &[Case], from: usize) -> Vec<(Outcome, bool)> {
    let reference = Reference::start();
    let judged = |case| match (laws(&in_tract, case), &reference) {
        (Outcome::NotRun(_), Some(reference)) => (
            laws(&|model, feeds| reference.run(model, feeds), case),
            true,
        ),
        (outcome, _) => (outcome, false),
    };
    cases.iter().skip(from).step_by(2).map(judged).collect()
}

#[test]
fn cuts_are_exact() {
    let Some(folder) = folder() else { return };
    let only = std::env::var("ONNX_PRUNE_ONLY").ok();
    let cases = cases(&folder, only.as_deref());
    let (mut tally, mut by_reference) = (Tally::default(), 0);
    // By two at a time, each with a reference of its own.
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| every_second(&cases, 1));
        (every_second(&cases, 0), odd.join().unwrap())
    });
    let (mut even, mut odd) = (even.into_iter(), odd.into_iter());
    for (at, case) in cases.iter().enumerate() {
        let next = if at % 2 == 0 { even.next() } else { odd.next() };
        let (outcome, referred) = next.unwrap();
        by_reference += usize::from(referred);
        tally.add(case, outcome);
    }
    tally.print("law 4");
    eprintln!(
        "law 4: {by_reference} of them, which tract does not run, were given to the reference implementation"
    );
    assert_eq!(
        tally.failed().len(),
        0,
        "node tests in which a cut is not its mask; they are listed above"
    );
}
