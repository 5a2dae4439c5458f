//! Facts of every value: rules' `infer`, driven over the graph and into its subgraphs.

use std::collections::BTreeMap;

use crate::facts::{Dim, Fact, contents_of};
use crate::model::{GraphId, Index, Model, NodeId, Origin, ValueId};
use crate::ops::{Branch, Flow, InferError, NodeView, flow, lookup};
use crate::proto::{
    Dtype, ValueInfoProto, tensor_shape_proto::dimension::Value as DimValue,
    type_proto::Value as TypeValue,
};

/// Concrete extents for graph inputs, by name.
pub type Pins = BTreeMap<String, Vec<i64>>;

/// Extents for graph inputs, by name; a symbol where one is left open.
pub type InputShapes = BTreeMap<String, Vec<Dim>>;

/// Facts by value, and what went wrong by node.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    values: Vec<Fact>,
    /// Nodes whose outputs could not be worked out, with the reason.
    pub problems: BTreeMap<NodeId, String>,
}

impl Facts {
    /// The fact of one value.
    pub fn of(&self, value: ValueId) -> &Fact {
        &self.values[value.index()]
    }

    pub(super) fn set(&mut self, value: ValueId, fact: Fact) {
        self.values[value.index()] = fact;
    }
}

/// Works out what is known of every value. Total: where a rule fails or is missing, the file's own `value_info`
/// is believed, and else nothing is known.
pub fn infer(model: &Model, pins: &Pins) -> Facts {
    let numbers = |dims: &Vec<i64>| dims.iter().map(|dim| Dim::Num(*dim)).collect();
    let shapes = pins
        .iter()
        .map(|(name, dims)| (name.clone(), numbers(dims)));
    infer_open(model, &shapes.collect())
}

/// The same, where some extents of these shapes are open.
pub(super) fn infer_open(model: &Model, shapes: &InputShapes) -> Facts {
    let mut facts = seed(model, shapes);
    let declared = Declared::new(model);
    graph(model, &declared, &mut facts, Index::MAIN);
    facts
}

/// What is known before any node: graph inputs and constants.
pub(super) fn seed(model: &Model, shapes: &InputShapes) -> Facts {
    let mut facts = Facts {
        values: vec![Fact::default(); model.index().values().len()],
        problems: BTreeMap::new(),
    };
    for (id, entry) in model.index().values() {
        let fact = match entry.origin {
            Origin::Input(position) if entry.graph == Index::MAIN => {
                let input = &model.graph(entry.graph).input[position as usize];
                let fact = declared(input);
                Fact {
                    shape: shapes.get(&entry.name).cloned().or(fact.shape),
                    ..fact
                }
            }
            Origin::Initializer(_) => constant_fact(model, id),
            Origin::Sparse(position) => model
                .graph(entry.graph)
                .sparse_initializer
                .get(position as usize)
                .map_or_else(Fact::default, |sparse| {
                    let dtype = sparse
                        .values
                        .as_ref()
                        .and_then(|values| Dtype::from_code(values.data_type()));
                    Fact::new(
                        dtype,
                        sparse.dims.iter().map(|dim| Dim::Num(*dim)).collect(),
                    )
                }),
            _ => continue,
        };
        facts.set(id, fact);
    }
    facts
}

/// The fact of an initializer, with its contents when it is small.
pub(super) fn constant_fact(model: &Model, value: ValueId) -> Fact {
    let Some(tensor) = model.tensor_proto(value) else {
        return Fact::default();
    };
    let shape: Vec<Dim> = tensor.dims.iter().map(|dim| Dim::Num(*dim)).collect();
    let small = tensor.dims.iter().product::<i64>() <= crate::facts::Contents::LIMIT as i64;
    let contents = if small {
        model
            .constant(value)
            .and_then(|tensor| contents_of(&tensor))
    } else {
        None
    };
    Fact::new(Dtype::from_code(tensor.data_type()), shape).with_contents(contents)
}

/// The type that a `ValueInfoProto` declares. Extents without a name or number get a symbol of their own.
pub fn declared(info: &ValueInfoProto) -> Fact {
    let Some(TypeValue::TensorType(tensor)) = info
        .r#type
        .as_ref()
        .and_then(|r#type| r#type.value.as_ref())
    else {
        return Fact::default();
    };
    let dim = |(axis, dim): (usize, &crate::proto::tensor_shape_proto::Dimension)| match &dim.value
    {
        Some(DimValue::DimValue(number)) if *number > 0 => Dim::Num(*number),
        Some(DimValue::DimParam(name)) if !name.is_empty() => Dim::symbol(name),
        _ => Dim::symbol(&format!("?{}.{axis}", info.name())),
    };
    Fact {
        dtype: Dtype::from_code(tensor.elem_type()),
        shape: tensor
            .shape
            .as_ref()
            .map(|shape| shape.dim.iter().enumerate().map(dim).collect()),
        contents: None,
    }
}

/// The file's own `value_info`, by graph and name.
pub(super) struct Declared<'a>(BTreeMap<(GraphId, &'a str), &'a ValueInfoProto>);

impl<'a> Declared<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        let infos = model.index().graphs().flat_map(|(id, _)| {
            let graph = model.graph(id);
            graph
                .value_info
                .iter()
                .chain(&graph.output)
                .map(move |info| ((id, info.name()), info))
        });
        Declared(infos.collect())
    }

    fn fact(&self, model: &Model, value: ValueId) -> Option<Fact> {
        let entry = model.index().value(value);
        self.0
            .get(&(entry.graph, entry.name.as_str()))
            .map(|info| declared(info))
    }
}

fn graph(model: &Model, declared: &Declared, facts: &mut Facts, id: GraphId) {
    for node in &model.index().graph(id).nodes {
        for (branch, subgraph) in model.index().node(*node).subgraphs.iter().enumerate() {
            // First with what comes in, then with what the subgraph makes of it, until that agrees.
            let mut entered = enter(model, facts, *node, branch, true);
            for _ in 0..ROUNDS {
                if !entered {
                    break;
                }
                graph(model, declared, facts, *subgraph);
                entered = enter(model, facts, *node, branch, false);
            }
        }
        let view = view(model, facts, *node, false);
        let results = results(&view);
        leave(model, declared, facts, *node, results);
    }
}

/// How often a subgraph is inferred anew at most: an extent that a step changes is unknown in the second round already.
const ROUNDS: usize = 4;

/// Gives the formal inputs of a node's subgraph their facts; true when these are new (always, the first time).
fn enter(model: &Model, facts: &mut Facts, node: NodeId, branch: usize, first: bool) -> bool {
    let message = model.node(node);
    let Some(operator) = lookup(message.domain(), message.op_type()) else {
        return first;
    };
    let mut view = view(model, facts, node, false);
    if first {
        // Nothing is known of the subgraph yet.
        view.branches.clear();
    }
    let formals = operator.formal_facts(&view, branch as u32);
    let subgraph = model.index().node(node).subgraphs[branch];
    let mut changed = first;
    for (value, fact) in model.index().graph(subgraph).inputs.iter().zip(formals) {
        changed |= *facts.of(*value) != fact;
        facts.set(*value, fact);
    }
    changed
}

/// Why nothing is known of what a node gives.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFacts {
    #[error("no rule")]
    NoRule,
    #[error(transparent)]
    Rule(#[from] InferError),
    #[error("its output would have the extent {0}")]
    Negative(i64),
}

/// Facts of a node's outputs, by its rule.
pub(super) fn results(view: &NodeView) -> Result<Vec<Fact>, NoFacts> {
    let operator = lookup(view.node.domain(), view.node.op_type()).ok_or(NoFacts::NoRule)?;
    let facts = operator.infer(view)?;
    let dims = facts
        .iter()
        .filter_map(|fact| fact.shape.as_ref())
        .flatten();
    match dims.filter_map(Dim::num).find(|extent| *extent < 0) {
        Some(extent) => Err(NoFacts::Negative(extent)),
        None => Ok(facts),
    }
}

/// Records the facts of a node's outputs.
pub(super) fn leave(
    model: &Model,
    declared: &Declared,
    facts: &mut Facts,
    node: NodeId,
    results: Result<Vec<Fact>, NoFacts>,
) {
    let results = results.unwrap_or_else(|problem| {
        facts.problems.insert(node, problem.to_string());
        Vec::new()
    });
    let mut results = results.into_iter();
    for output in &model.index().node(node).outputs {
        let mut fact = results.next().unwrap_or_default();
        let Some(output) = output else { continue };
        if fact.shape.is_none()
            && let Some(known) = declared.fact(model, *output)
        {
            fact = Fact {
                dtype: fact.dtype.or(known.dtype),
                shape: known.shape,
                contents: None,
            };
        }
        facts.set(*output, fact);
    }
}

/// What a rule sees of a node.
pub(crate) fn view<'a>(
    model: &'a Model,
    facts: &'a Facts,
    id: NodeId,
    with_outputs: bool,
) -> NodeView<'a> {
    let entry = model.index().node(id);
    let node = model.node(id);
    let known = |values: &[Option<ValueId>]| {
        values
            .iter()
            .map(|value| value.map(|value| facts.of(value)))
            .collect()
    };
    let branch = |graph: &GraphId| {
        let entry = model.index().graph(*graph);
        Branch {
            attribute: entry.attribute.clone(),
            formals: entry
                .inputs
                .iter()
                .map(|value| facts.of(*value).clone())
                .collect(),
            results: entry
                .outputs
                .iter()
                .map(|value| facts.of(*value).clone())
                .collect(),
        }
    };
    NodeView {
        node,
        opset: model.opset(node.domain()),
        inputs: known(&entry.inputs),
        outputs: if with_outputs {
            known(&entry.outputs)
        } else {
            Vec::new()
        },
        branches: entry.subgraphs.iter().map(branch).collect(),
        magnitudes: flow(node) == Flow::Averaged && magnitudes(model, facts, id),
    }
}

/// Whether a node's first input is the square or the norm of a value that is no difference (which is how a mean is taken off).
fn magnitudes(model: &Model, facts: &Facts, id: NodeId) -> bool {
    let source = |node: NodeId, input: usize| {
        let mut value = model.index().node(node).input(input)?;
        loop {
            match model.index().value(value).origin {
                Origin::Output(node, 0)
                    if matches!(flow(model.node(node)), Flow::Converted | Flow::Same) =>
                {
                    value = model.index().node(node).input(0)?;
                }
                Origin::Output(node, _) => return Some((value, Some(node))),
                _ => return Some((value, None)),
            }
        }
    };
    let Some((_, Some(magnitude))) = source(id, 0) else {
        return false;
    };
    let Some((base, producer)) = source(magnitude, 0) else {
        return false;
    };
    let is_one = match flow(model.node(magnitude)) {
        Flow::Magnitude => true,
        Flow::Mul => source(magnitude, 1).is_some_and(|(other, _)| other == base),
        Flow::Power => {
            let exponent = model.index().node(magnitude).input(1);
            let elements = exponent.and_then(|exponent| facts.of(exponent).contents.as_ref());
            elements.is_some_and(
                |elements| matches!(&elements.0[..], [element] if element.real() == Some(2.0) || element.dim() == Some(Dim::Num(2))),
            )
        }
        _ => false,
    };
    is_one && producer.is_none_or(|producer| flow(model.node(producer)) != Flow::Sub)
}
