//! What is known of a model that tract may not be able to run yet: by tract's own inference, and by the operators' rules.

use tract_onnx::tract_hir::infer::Factoid;

use super::analyse::analyse;
use super::guard::guard;
use super::skeleton::parse_hollow;
use super::support;
use super::tensor::{dtype, from_tract};
use crate::analysis::{self, Facts};
use crate::model::edit::NodeExt;
use crate::model::{Index, Model, Source};
use crate::ops::lookup;
use crate::proto::{ModelProto, NodeProto};
use crate::run::Unverifiable;
use crate::run::lower::{Infer, InferredFacts};

/// Elements of a value whose contents are read.
const LIMIT: usize = 4096;

/// Where the indices have no axis tract counts from minus one. It does nothing while their rank is not known.
const COUNTED: (&str, usize, usize) = ("GatherND", 1, 1);

/// Operators of which tract reads extents unchecked: the input and the axes that it must have.
const RANKED: &[(&str, usize, usize)] = &[
    ("AveragePool", 0, 3),
    ("BatchNormalization", 0, 2),
    ("Conv", 0, 3),
    ("Conv", 1, 3),
    ("ConvInteger", 0, 3),
    ("ConvInteger", 1, 3),
    ("ConvTranspose", 0, 3),
    ("ConvTranspose", 1, 3),
    COUNTED,
    ("GlobalAveragePool", 0, 2),
    ("GlobalLpPool", 0, 2),
    ("GlobalMaxPool", 0, 2),
    ("MaxPool", 0, 3),
    ("QLinearConv", 0, 3),
    ("QLinearConv", 3, 3),
];

/// Infers types, shapes and small contents: first by the operators' own rules, then by tract, which never sees a node that does
/// not fit or whose operands have an unknown rank where that matters. Operators that tract lacks or gets wrong count as unknown,
/// and so does `If`: both its branches would have to fit.
pub(in crate::run) fn infer(proto: &ModelProto) -> InferredFacts {
    // Each round tells ranks of nodes that the one before had to leave out.
    const ROUNDS: usize = 3;
    let mut known = by_rules(proto).known;
    let mut left_out = usize::MAX;
    for _ in 0..ROUNDS {
        let (seen, unranked) = hidden(proto, &known);
        if unranked >= left_out {
            break;
        }
        by_tract(&seen, &mut known);
        if unranked == 0 {
            break;
        }
        left_out = unranked;
    }
    known
}

/// What tract may see of a model, and how many nodes it may not see for want of a rank.
fn hidden(proto: &ModelProto, known: &InferredFacts) -> (ModelProto, usize) {
    let mut proto = proto.clone();
    let mut unranked = 0;
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        let misfit = node
            .output
            .iter()
            .any(|name| known.problems.contains_key(name));
        let open = !misfit && needs_rank(node, &|name| known.ranks.get(name).copied());
        unranked += usize::from(open);
        if misfit || open || support::problem(node).is_some() || node.key() == ("", "If") {
            node.op_type = Some("~Unknown".into());
            node.attribute.clear();
        }
        // A mask of truth values is an error to tract, and no shape depends on it.
        if node.key() == ("", "Attention")
            && let Some(mask) = node.input.get_mut(3)
        {
            mask.clear();
        }
    }
    (proto, unranked)
}

/// Whether tract would read extents of an operand that has not so many axes, or of which the rank is not known.
fn needs_rank(node: &NodeProto, rank: &dyn Fn(&str) -> Option<usize>) -> bool {
    let of_it = RANKED.iter().filter(|(op, ..)| node.key() == ("", *op));
    of_it
        .filter_map(|entry| Some((node.input(entry.1)?, entry)))
        .any(|(name, entry)| match rank(name) {
            Some(rank) => rank < entry.2,
            None => *entry != COUNTED,
        })
}

/// Adds what tract finds out beyond that: of some forms that are yet to be rewritten it has a wrong idea.
fn by_tract(proto: &ModelProto, known: &mut InferredFacts) {
    let Ok(mut parsed) = guard(|| parse_hollow(proto)) else {
        return;
    };
    let _ = guard(|| analyse(&mut parsed.model));
    for (name, outlet) in &parsed.outlets {
        let Ok(fact) = parsed.model.outlet_fact(*outlet) else {
            continue;
        };
        if let Some(theirs) = fact.datum_type.concretize().and_then(dtype) {
            known.dtypes.entry(name.clone()).or_insert(theirs);
        }
        if let Some(rank) = fact
            .shape
            .rank()
            .concretize()
            .and_then(|rank| usize::try_from(rank).ok())
        {
            known.ranks.entry(name.clone()).or_insert(rank);
        }
        let dims = fact.shape.concretize().and_then(|dims| {
            dims.iter()
                .map(|dim| dim.to_i64().ok())
                .collect::<Option<Vec<_>>>()
        });
        if let Some(dims) = dims {
            known.shapes.entry(name.clone()).or_insert(dims);
        }
        if let Some(value) = fact.value.concretize().filter(|value| value.len() <= LIMIT)
            && let Ok(contents) = guard(|| from_tract(&value))
        {
            known.contents.insert(name.clone(), contents);
        }
    }
}

/// What the operators' own rules say of a model.
#[derive(Default)]
struct KnownByRules {
    /// Types and shapes of the main graph, and what does not fit in it.
    known: InferredFacts,
    /// The first node, in any graph, that does not fit or whose operands' rank must be known and is not.
    refused: Option<RefusedNode>,
}

/// A node that tract must not see.
struct RefusedNode {
    node: NodeProto,
    /// What does not fit; `None`: a rank is not known.
    problem: Option<String>,
    main: bool,
}

/// Types and shapes of the main graph.
fn told(model: &Model, facts: &Facts) -> InferredFacts {
    let mut known = InferredFacts::default();
    for (value, entry) in model
        .index()
        .values()
        .filter(|(_, entry)| entry.graph == Index::MAIN)
    {
        let fact = facts.of(value);
        if let Some(dtype) = fact.dtype {
            known.dtypes.insert(entry.name.clone(), dtype);
        }
        if let Some(shape) = &fact.shape {
            known.ranks.insert(entry.name.clone(), shape.len());
        }
        let dims: Option<Vec<i64>> = fact
            .shape
            .as_ref()
            .and_then(|shape| shape.iter().map(|dim| dim.num()).collect());
        if let Some(dims) = dims {
            known.shapes.insert(entry.name.clone(), dims);
        }
    }
    known
}

fn by_rules(proto: &ModelProto) -> KnownByRules {
    let mut proto = proto.clone();
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        // One whose first turns are written out has inputs that are not the operator's.
        if node.key() == ("", "Loop") {
            node.op_type = Some("~Unknown".into());
            node.attribute.clear();
        }
    }
    let Ok(model) = Model::new(proto, Source::default()) else {
        return KnownByRules::default();
    };
    let facts = analysis::infer(&model, &analysis::Pins::new());
    let mut rules = KnownByRules {
        known: told(&model, &facts),
        refused: None,
    };
    for (id, entry) in model.index().nodes() {
        let node = model.node(id);
        let main = entry.graph == Index::MAIN;
        // An operator without a rule is none that does not fit.
        let problem = facts
            .problems
            .get(&id)
            .filter(|_| lookup(node.domain(), node.op_type()).is_some());
        if let Some(problem) = problem.filter(|_| main) {
            rules.known.problems.extend(
                node.output
                    .iter()
                    .map(|name| (name.clone(), problem.clone())),
            );
        }
        // A branch that is not taken need not fit, so long as tract can look at it.
        let problem =
            problem.filter(|_| main || RANKED.iter().any(|(op, ..)| node.key() == ("", *op)));
        let rank = |at: usize| facts.of(entry.input(at)?).shape.as_ref().map(Vec::len);
        let open = || {
            needs_rank(node, &|name| {
                rank(node.input.iter().position(|input| input == name)?)
            })
        };
        if rules.refused.is_none() && (problem.is_some() || open()) {
            rules.refused = Some(RefusedNode {
                node: node.clone(),
                problem: problem.cloned(),
                main,
            });
        }
    }
    rules
}

/// Refuses a model of which tract would read extents that are not there. Errors: the first node that does not fit by its own
/// rule, or whose operands' rank is not known.
pub(super) fn check(proto: &ModelProto, infer: &Infer) -> Result<(), Unverifiable> {
    let Some(RefusedNode {
        node,
        problem,
        main,
    }) = by_rules(proto).refused
    else {
        return Ok(());
    };
    if let Some(problem) = problem {
        return Err(Unverifiable::new(format!("{}: {problem}", node.label())));
    }
    let known = infer(proto);
    let ranked = |node: &NodeProto| !needs_rank(node, &|name| known.ranks.get(name).copied());
    let open = proto
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .find(|node| !ranked(node));
    match open.or(if main { None } else { Some(&node) }) {
        None => Ok(()),
        Some(node) => Err(Unverifiable::new(format!(
            "{}: the number of its input's axes is too small, or not known before it runs",
            node.label()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_and_ranks_that_are_not_there_are_not_read() {
        let node = |op: &str| NodeProto {
            op_type: Some(op.to_owned()),
            input: vec!["data".to_owned(), "at".to_owned()],
            ..Default::default()
        };
        let needs = |op: &str, at: Option<usize>| {
            needs_rank(&node(op), &|name| {
                if name == "at" { at } else { Some(3) }
            })
        };
        assert_eq!(
            [None, Some(2), Some(3)].map(|at| needs("Conv", at)),
            [true, true, false]
        );
        assert_eq!(
            [None, Some(0), Some(1)].map(|at| needs("GatherND", at)),
            [false, true, false]
        );
    }
}
