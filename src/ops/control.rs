//! Control flow. A value that crosses the boundary of a subgraph is the same value on both sides: its indices go together.
//! Captured values need nothing, for they are one value inside and outside.

use super::fit::freeze_port;
use super::frozen::{extent_in, outputs};
use super::meaning::{Control, Decides};
use super::{Branch, InferError, NodeView, Operator, Rule};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::{Dtype, GraphProto, type_proto};
use crate::relation::{Builder, LabelId, Port, Reason, Relation};

/// If: either branch's results are the outputs.
struct If;

/// Loop: values carried from step to step, and outputs stacked from all steps.
struct Loop;

/// Scan: the same, over slices of inputs.
struct Scan;

const CONDITION: Reason = Reason::operator("condition of control flow");
const VARIES: Reason = Reason::operator("extent differs between branches or steps");
const STEPS: Reason = Reason::operator("steps of a loop");

/// Ties the axes of tensors that are one value.
fn tie(builder: &mut Builder, ports: Vec<(Port, String)>) {
    let shapes: Vec<Vec<Dim>> = ports
        .iter()
        .filter_map(|(port, _)| builder.shape(*port).map(<[Dim]>::to_vec))
        .collect();
    let Some(first) = shapes.first().filter(|_| shapes.len() == ports.len()) else {
        return ports
            .into_iter()
            .for_each(|(port, name)| free_of(builder, port, name));
    };
    if shapes.iter().any(|dims| dims.len() != first.len()) {
        return ports
            .into_iter()
            .for_each(|(port, name)| free_of(builder, port, name));
    }
    let common: Vec<Option<LabelId>> = (0..first.len())
        .map(|axis| {
            shapes
                .iter()
                .all(|dims| dims[axis] == first[axis])
                .then(|| builder.free("a", first[axis].clone()))
        })
        .collect();
    for ((port, name), dims) in ports.into_iter().zip(&shapes) {
        let axes: Vec<LabelId> = common
            .iter()
            .zip(dims)
            .map(|(label, dim)| label.unwrap_or_else(|| builder.fixed("", dim.clone(), VARIES)))
            .collect();
        builder.port(port, name, axes);
    }
}

/// Describes a tensor that nothing can be tied to: all its indices stay.
fn free_of(builder: &mut Builder, port: Port, name: String) {
    let dims = builder.shape(port).map(<[Dim]>::to_vec).unwrap_or_default();
    let axes: Vec<LabelId> = dims
        .into_iter()
        .map(|dim| builder.fixed("", dim, VARIES))
        .collect();
    builder.port(port, name, axes);
}

/// Ties a tensor to its slices across `axis`, which counts `steps`.
fn tie_slices(
    builder: &mut Builder,
    (whole, name): (Port, String),
    (slice, slice_name): (Port, String),
    axis: i64,
) {
    let dims = |builder: &Builder, port| builder.shape(port).map(<[Dim]>::to_vec);
    let (Some(mut all), Some(inner)) = (dims(builder, whole), dims(builder, slice)) else {
        free_of(builder, whole, name);
        return free_of(builder, slice, slice_name);
    };
    let (rank, fits) = (all.len(), all.len() == inner.len() + 1);
    let Some(axis) = NodeView::axis(axis, rank).filter(|_| fits) else {
        free_of(builder, whole, name);
        return free_of(builder, slice, slice_name);
    };
    let steps = builder.fixed("t", all.remove(axis), STEPS);
    let mut outer = Vec::new();
    let mut within = Vec::new();
    for (dim, other) in all.into_iter().zip(inner) {
        if dim == other {
            let label = builder.free("a", dim);
            outer.push(label);
            within.push(label);
        } else {
            outer.push(builder.fixed("", dim, VARIES));
            within.push(builder.fixed("", other, VARIES));
        }
    }
    outer.insert(axis, steps);
    builder.port(whole, name, outer);
    builder.port(slice, slice_name, within);
}

/// Whether the node names an output.
fn named(node: &NodeView, output: usize) -> bool {
    node.node
        .output
        .get(output)
        .is_some_and(|name| !name.is_empty())
}

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

fn body<'a>(node: &NodeView<'a>) -> Option<&'a GraphProto> {
    node.attribute("body")?.g.as_ref()
}

/// Element type and rank that a subgraph declares for one of its inputs.
fn declared(graph: Option<&GraphProto>, formal: usize) -> (Option<Dtype>, Option<usize>) {
    let value = graph.and_then(|graph| graph.input.get(formal)?.r#type.as_ref()?.value.as_ref());
    match value {
        Some(type_proto::Value::TensorType(tensor)) => (
            tensor.elem_type.and_then(Dtype::from_code),
            tensor.shape.as_ref().map(|shape| shape.dim.len()),
        ),
        _ => (None, None),
    }
}

/// A scalar, or the list of one that the subgraph declares.
fn single(graph: Option<&GraphProto>, formal: usize, dtype: Dtype, element: Element) -> Fact {
    let dims = if declared(graph, formal).1 == Some(1) {
        vec![Dim::Num(1)]
    } else {
        Vec::new()
    };
    Fact::new(Some(dtype), dims).with_contents(Contents::new(vec![element]))
}

/// What a carried value is at the start of any step. First as the input says; once the subgraph was inferred with that, an
/// extent that a step changes is unknown. Asked again and again, this settles: an extent that became unknown stays so.
fn carried(node: &NodeView, branch: u32, input: usize, formal: usize, result: usize) -> Fact {
    let start = node
        .input(input)
        .cloned()
        .unwrap_or_default()
        .with_contents(None);
    let known = node
        .branches
        .get(branch as usize)
        .and_then(|branch| Some((branch.formals.get(formal)?, branch.results.get(result)?)));
    let Some((before, after)) =
        known.filter(|(before, _)| before.dtype.is_some() || before.shape.is_some())
    else {
        return start;
    };
    let shape = match (&before.shape, &after.shape) {
        (Some(before), Some(after)) if before.len() == after.len() => {
            let name = body(node)
                .and_then(|graph| graph.input.get(formal))
                .map_or("", |input| input.name());
            let varying = |axis: usize| Dim::symbol(&format!("?{name}.{axis}"));
            Some(
                before
                    .iter()
                    .zip(after)
                    .enumerate()
                    .map(|(axis, (a, b))| if a == b { a.clone() } else { varying(axis) })
                    .collect(),
            )
        }
        _ => None,
    };
    Fact {
        dtype: start.dtype,
        shape,
        contents: None,
    }
}

/// What a carried value is after the last step: the extents that no step changes.
fn settled(
    node: &NodeView,
    branch: &Branch,
    output: usize,
    input: usize,
    formal: usize,
    result: usize,
) -> Fact {
    let dtype = node
        .dtype(input)
        .or_else(|| branch.results.get(result)?.dtype);
    let shapes = (
        node.shape(input),
        branch
            .formals
            .get(formal)
            .and_then(|fact| fact.shape.as_ref()),
        branch
            .results
            .get(result)
            .and_then(|fact| fact.shape.as_ref()),
    );
    let shape = match shapes {
        (Some(a), Some(b), Some(c)) if a.len() == b.len() && b.len() == c.len() => Some(
            (0..a.len())
                .map(|axis| {
                    if a[axis] == b[axis] && b[axis] == c[axis] {
                        a[axis].clone()
                    } else {
                        node.unknown(output, axis)
                    }
                })
                .collect(),
        ),
        _ => None,
    };
    Fact {
        dtype,
        shape,
        contents: None,
    }
}

/// A stack of one result of all steps. Extents that are not known before the subgraph runs have no meaning outside.
fn stacked(node: &NodeView, result: Option<&Fact>, output: usize, axis: i64, steps: Dim) -> Fact {
    let Some(Fact { dtype, shape, .. }) = result else {
        return Fact::default();
    };
    let shape = shape.as_ref().and_then(|inner| {
        let axis = NodeView::axis(axis, inner.len() + 1)?;
        let mut dims = inner.clone();
        dims.insert(axis, steps);
        let outside = |(at, dim): (usize, Dim)| {
            if at != axis && dim.to_string().contains('?') {
                node.unknown(output, at)
            } else {
                dim
            }
        };
        Some(dims.into_iter().enumerate().map(outside).collect())
    });
    Fact {
        dtype: *dtype,
        shape,
        contents: None,
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

/// Ties a carried value: input, formal input, result, output.
fn carry(
    builder: &mut Builder,
    node: &NodeView,
    output: usize,
    [input, formal, result]: [usize; 3],
) {
    let mut ports = vec![
        (Port::In(input as u32), format!("x{output}")),
        (Port::Formal(0, formal as u32), format!("in{output}")),
        (Port::Result(0, result as u32), format!("out{output}")),
    ];
    if named(node, output) {
        ports.push((Port::Out(output as u32), format!("y{output}")));
    }
    tie(builder, ports);
}

/// Ties a stacked output to the result of one step.
fn stack(builder: &mut Builder, node: &NodeView, output: usize, result: usize, axis: i64) {
    let slice = (Port::Result(0, result as u32), format!("out{output}"));
    match named(node, output) {
        true => tie_slices(
            builder,
            (Port::Out(output as u32), format!("y{output}")),
            slice,
            axis,
        ),
        false => free_of(builder, slice.0, slice.1),
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
