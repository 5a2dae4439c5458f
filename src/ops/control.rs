//! Control flow. A value that crosses the boundary of a subgraph is the same value on both sides: its indices go together.
//! Captured values need nothing, for they are one value inside and outside.

mod facts;
mod ties;

use self::facts::{body, carried, declared, settled, single, stacked};
use self::ties::{carry, free_of, named, stack, tie, tie_slices};
use super::fit::freeze_port;
use super::frozen::{extent_in, outputs};
use super::meaning::{Control, Decides};
use super::{Branch, InferError, NodeView, Operator, Rule};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{Port, Reason, Relation};

/// If: either branch's results are the outputs.
struct If;

/// Loop: values carried from step to step, and outputs stacked from all steps.
struct Loop;

/// Scan: the same, over slices of inputs.
struct Scan;

const CONDITION: Reason = Reason::operator("condition of control flow");

/// Which branch runs, when the condition is known.
fn taken(node: &NodeView) -> Option<usize> {
    let [truth] = node.contents(0)?.numbers()?[..] else {
        return None;
    };
    let name = if truth != 0 {
        "then_branch"
    } else {
        "else_branch"
    };
    node.branches
        .iter()
        .position(|branch| branch.attribute == name)
}

impl Operator for If {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        if let Some(branch) = taken(node).and_then(|at| node.branches.get(at)) {
            return Ok(outputs(node, branch.results.iter().cloned()));
        }
        let [one, other] = &node.branches[..] else {
            return Ok(outputs(node, []));
        };
        let facts = one
            .results
            .iter()
            .zip(&other.results)
            .enumerate()
            .map(|(output, (a, b))| {
                let shape = match (&a.shape, &b.shape) {
                    (Some(a), Some(b)) if a.len() == b.len() => Some(
                        a.iter()
                            .zip(b)
                            .enumerate()
                            .map(|(axis, (a, b))| {
                                if a == b {
                                    a.clone()
                                } else {
                                    node.unknown(output, axis)
                                }
                            })
                            .collect(),
                    ),
                    _ => None,
                };
                Fact {
                    dtype: a.dtype.filter(|dtype| Some(*dtype) == b.dtype),
                    shape,
                    contents: a.contents.clone().filter(|contents| {
                        a.shape == b.shape && Some(contents) == b.contents.as_ref()
                    }),
                }
            });
        Ok(outputs(node, facts))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if node.branches.is_empty() {
            return node.frozen(Reason::operator("a subgraph that is not known"));
        }
        let mut builder = node.relation();
        freeze_port(&mut builder, node, 0, "cond", &CONDITION);
        let taken = taken(node);
        let count = node
            .branches
            .iter()
            .map(|branch| branch.results.len())
            .max()
            .unwrap_or(0);
        for output in 0..count {
            let mut ports = Vec::new();
            if named(node, output) {
                ports.push((Port::Out(output as u32), format!("y{output}")));
            }
            for (at, branch) in node
                .branches
                .iter()
                .enumerate()
                .filter(|(_, branch)| output < branch.results.len())
            {
                let port = Port::Result(at as u32, output as u32);
                let name = format!("{}{output}", branch.attribute.trim_end_matches("_branch"));
                match taken {
                    Some(runs) if runs != at => free_of(&mut builder, port, name),
                    _ => ports.push((port, name)),
                }
            }
            match named(node, output) {
                true => tie(&mut builder, ports),
                false => ports
                    .into_iter()
                    .for_each(|(port, name)| free_of(&mut builder, port, name)),
            }
        }
        builder.finish()
    }
}

impl Loop {
    /// How many values are carried.
    fn carried(node: &NodeView) -> usize {
        node.inputs.len().saturating_sub(2)
    }

    /// How often the body runs, if nothing can end it early.
    fn steps(node: &NodeView, branch: &Branch) -> Option<Dim> {
        let truth = |contents: Option<&Contents>| {
            contents.is_some_and(|contents| contents.numbers().as_deref() == Some(&[1]))
        };
        let starts = !node.has_input(1) || truth(node.contents(1));
        let goes_on = truth(
            branch
                .results
                .first()
                .and_then(|fact| fact.contents.as_ref()),
        );
        extent_in(node, 0).filter(|_| starts && goes_on)
    }
}

impl Operator for Loop {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(branch) = node.branches.first() else {
            return Ok(outputs(node, []));
        };
        let count = Self::carried(node);
        let facts = (0..node.node.output.len()).map(|output| {
            if output < count {
                return settled(node, branch, output, 2 + output, 2 + output, 1 + output);
            }
            let steps = Self::steps(node, branch).unwrap_or_else(|| node.unknown(output, 0));
            stacked(node, branch.results.get(1 + output), output, 0, steps)
        });
        Ok(facts.collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let Some(branch) = node.branches.first() else {
            return node.frozen(Reason::operator("a subgraph that is not known"));
        };
        let count = Self::carried(node);
        let mut builder = node.relation();
        freeze_port(&mut builder, node, 0, "trips", &CONDITION);
        freeze_port(&mut builder, node, 1, "cond", &CONDITION);
        for at in 0..count {
            carry(&mut builder, node, at, [2 + at, 2 + at, 1 + at]);
        }
        for output in count..branch.results.len().saturating_sub(1) {
            stack(&mut builder, node, output, 1 + output, 0);
        }
        for (port, name) in [
            (Port::Formal(0, 0), "step"),
            (Port::Formal(0, 1), "go"),
            (Port::Result(0, 0), "on"),
        ] {
            free_of(&mut builder, port, name.into());
        }
        builder.finish()
    }

    fn formal_facts(&self, node: &NodeView, branch: u32) -> Vec<Fact> {
        let graph = body(node);
        let step = single(graph, 0, Dtype::Int64, Element::Unknown);
        // The body runs only while the condition holds.
        let go = single(graph, 1, Dtype::Bool, Element::Bool(true));
        let values =
            (0..Self::carried(node)).map(|at| carried(node, branch, 2 + at, 2 + at, 1 + at));
        [step, go].into_iter().chain(values).collect()
    }
}

impl Scan {
    /// States and scanned inputs.
    fn counts(node: &NodeView) -> Option<(usize, usize)> {
        let scanned = usize::try_from(node.int("num_scan_inputs")?).ok()?;
        Some((node.inputs.len().checked_sub(scanned)?, scanned))
    }

    fn axis(node: &NodeView, attribute: &str, at: usize) -> i64 {
        node.ints(attribute)
            .and_then(|axes| axes.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// The first form has a batch axis that the body does not see.
    fn batched(node: &NodeView) -> bool {
        node.opset < 9
    }

    /// How often the body runs.
    fn steps(node: &NodeView, states: usize, scanned: usize) -> Option<Dim> {
        (0..scanned).find_map(|at| {
            let dims = node.shape(states + at)?;
            dims.get(NodeView::axis(
                Self::axis(node, "scan_input_axes", at),
                dims.len(),
            )?)
            .cloned()
        })
    }
}

impl Operator for Scan {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let (Some(branch), Some((states, scanned)), false) = (
            node.branches.first(),
            Self::counts(node),
            Self::batched(node),
        ) else {
            return Ok(outputs(node, []));
        };
        let facts = (0..node.node.output.len()).map(|output| {
            if output < states {
                return settled(node, branch, output, output, output, output);
            }
            let axis = Self::axis(node, "scan_output_axes", output - states);
            let steps = Self::steps(node, states, scanned)
                .unwrap_or_else(|| Dim::symbol(&format!("?{}.steps", node.node.name())));
            stacked(node, branch.results.get(output), output, axis, steps)
        });
        Ok(facts.collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if Self::batched(node) {
            return node.frozen(Reason::operator("a scan with a batch axis of its own"));
        }
        let (Some(branch), Some((states, scanned))) = (node.branches.first(), Self::counts(node))
        else {
            return node.frozen(Reason::operator("a subgraph that is not known"));
        };
        let mut builder = node.relation();
        for at in 0..states {
            carry(&mut builder, node, at, [at, at, at]);
        }
        for at in 0..scanned {
            let whole = (Port::In((states + at) as u32), format!("s{at}"));
            let slice = (Port::Formal(0, (states + at) as u32), format!("slice{at}"));
            tie_slices(
                &mut builder,
                whole,
                slice,
                Self::axis(node, "scan_input_axes", at),
            );
        }
        for output in states..branch.results.len() {
            stack(
                &mut builder,
                node,
                output,
                output,
                Self::axis(node, "scan_output_axes", output - states),
            );
        }
        builder.finish()
    }

    fn formal_facts(&self, node: &NodeView, branch: u32) -> Vec<Fact> {
        let (Some((states, scanned)), false) = (Self::counts(node), Self::batched(node)) else {
            let count = body(node).map_or(0, |graph| graph.input.len());
            return (0..count)
                .map(|at| Fact {
                    dtype: declared(body(node), at).0,
                    ..Fact::default()
                })
                .collect();
        };
        let slices = (0..scanned).map(|at| {
            let shape = node.shape(states + at).and_then(|dims| {
                let mut dims = dims.to_vec();
                dims.remove(NodeView::axis(
                    Self::axis(node, "scan_input_axes", at),
                    dims.len(),
                )?);
                Some(dims)
            });
            Fact {
                dtype: node.dtype(states + at),
                shape,
                contents: None,
            }
        });
        (0..states)
            .map(|at| carried(node, branch, at, at, at))
            .chain(slices)
            .collect()
    }
}

/// One branch runs, and gives the outputs.
const EITHER: Control = Control {
    own_results: 0,
    own_inputs: 0,
    feeds: false,
    carries: false,
    alternative: true,
};
/// The body's first result says whether to go on; it reads a count and a condition of its own.
const REPEATED: Control = Control {
    own_results: 1,
    own_inputs: 2,
    feeds: true,
    carries: true,
    alternative: false,
};
/// The body reads the states, and slices of what is scanned.
const SCANNED: Control = Control {
    own_results: 0,
    own_inputs: 0,
    feeds: true,
    carries: false,
    alternative: false,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("If", &If)
        .chooses(Decides::Always)
        .control(EITHER),
    Rule::onnx("Loop", &Loop).control(REPEATED),
    Rule::onnx("Scan", &Scan).control(SCANNED),
];

#[cfg(test)]
mod tests;
