//! Facts of every value: rules' `infer`, driven over the graph and into its subgraphs.

use std::collections::BTreeMap;

use crate::facts::{Dim, Fact, contents_of};
use crate::model::{GraphId, Index, Model, NodeId, Origin, ValueId};
use crate::ops::{Branch, NodeView, lookup};
use crate::proto::{Dtype, ValueInfoProto, tensor_shape_proto::dimension::Value as DimValue, type_proto::Value as TypeValue};

/// Concrete extents for graph inputs, by name.
pub type Pins = BTreeMap<String, Vec<i64>>;

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
    let mut facts = seed(model, pins);
    let declared = Declared::new(model);
    graph(model, &declared, &mut facts, Index::MAIN);
    facts
}

/// What is known before any node: graph inputs and constants.
pub(super) fn seed(model: &Model, pins: &Pins) -> Facts {
    let mut facts = Facts { values: vec![Fact::default(); model.index().values().len()], problems: BTreeMap::new() };
    for (id, entry) in model.index().values() {
        let fact = match entry.origin {
            Origin::Input(position) if entry.graph == Index::MAIN => {
                let input = &model.graph(entry.graph).input[position as usize];
                pinned(declared(input), pins.get(&entry.name))
            }
            Origin::Initializer(_) => constant_fact(model, id),
            Origin::Sparse(position) => {
                model.graph(entry.graph).sparse_initializer.get(position as usize).map_or_else(Fact::default, |sparse| {
                    let dtype = sparse.values.as_ref().and_then(|values| Dtype::from_code(values.data_type()));
                    Fact::new(dtype, sparse.dims.iter().map(|dim| Dim::Num(*dim)).collect())
                })
            }
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
    let contents = if small { model.constant(value).and_then(|tensor| contents_of(&tensor)) } else { None };
    Fact::new(Dtype::from_code(tensor.data_type()), shape).with_contents(contents)
}

fn pinned(mut fact: Fact, pin: Option<&Vec<i64>>) -> Fact {
    if let Some(pin) = pin {
        fact.shape = Some(pin.iter().map(|dim| Dim::Num(*dim)).collect());
    }
    fact
}

/// The type that a `ValueInfoProto` declares. Extents without a name or number get a symbol of their own.
pub fn declared(info: &ValueInfoProto) -> Fact {
    let Some(TypeValue::TensorType(tensor)) = info.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) else {
        return Fact::default();
    };
    let dim = |(axis, dim): (usize, &crate::proto::tensor_shape_proto::Dimension)| match &dim.value {
        Some(DimValue::DimValue(number)) if *number > 0 => Dim::Num(*number),
        Some(DimValue::DimParam(name)) if !name.is_empty() => Dim::symbol(name),
        _ => Dim::symbol(&format!("?{}.{axis}", info.name())),
    };
    Fact {
        dtype: Dtype::from_code(tensor.elem_type()),
        shape: tensor.shape.as_ref().map(|shape| shape.dim.iter().enumerate().map(dim).collect()),
        contents: None,
    }
}

/// The file's own `value_info`, by graph and name.
pub(super) struct Declared<'a>(BTreeMap<(GraphId, &'a str), &'a ValueInfoProto>);

impl<'a> Declared<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        let infos = model.index().graphs().flat_map(|(id, _)| {
            let graph = model.graph(id);
            graph.value_info.iter().chain(&graph.output).map(move |info| ((id, info.name()), info))
        });
        Declared(infos.collect())
    }

    fn fact(&self, model: &Model, value: ValueId) -> Option<Fact> {
        let entry = model.index().value(value);
        self.0.get(&(entry.graph, entry.name.as_str())).map(|info| declared(info))
    }
}

fn graph(model: &Model, declared: &Declared, facts: &mut Facts, id: GraphId) {
    for node in &model.index().graph(id).nodes {
        for (branch, subgraph) in model.index().node(*node).subgraphs.iter().enumerate() {
            // What a step gives back may have other extents than what it was given, which a second look shows; the third
            // finds nothing new.
            for _ in 0..3 {
                if !enter(model, facts, *node, branch) {
                    break;
                }
                graph(model, declared, facts, *subgraph);
            }
        }
        let view = view(model, facts, *node, false);
        let results = results(&view);
        leave(model, declared, facts, *node, results);
    }
}

/// Gives the formal inputs of a node's subgraph their facts; says whether the subgraph must be looked at (again).
fn enter(model: &Model, facts: &mut Facts, node: NodeId, branch: usize) -> bool {
    let message = model.node(node);
    let entry = model.index().graph(model.index().node(node).subgraphs[branch]);
    // A subgraph without inputs has nothing to learn, one that was never seen has no facts yet.
    let fresh =
        entry.nodes.iter().flat_map(|node| &model.index().node(*node).outputs).flatten().all(|value| *facts.of(*value) == Fact::default());
    let Some(operator) = lookup(message.domain(), message.op_type()) else { return fresh };
    let formals = operator.formals(&view(model, facts, node, false), branch as u32);
    let mut news = fresh;
    for (value, fact) in entry.inputs.iter().zip(formals) {
        news |= *facts.of(*value) != fact;
        facts.set(*value, fact);
    }
    news
}

/// Facts of a node's outputs, by its rule.
pub(super) fn results(view: &NodeView) -> Result<Vec<Fact>, String> {
    match lookup(view.node.domain(), view.node.op_type()) {
        None => Err("no rule".to_owned()),
        Some(operator) => operator.infer(view).map_err(|error| error.to_string()),
    }
}

/// Records the facts of a node's outputs.
pub(super) fn leave(model: &Model, declared: &Declared, facts: &mut Facts, node: NodeId, results: Result<Vec<Fact>, String>) {
    let results = results.unwrap_or_else(|problem| {
        facts.problems.insert(node, problem);
        Vec::new()
    });
    let mut results = results.into_iter();
    for output in &model.index().node(node).outputs {
        let mut fact = results.next().unwrap_or_default();
        let Some(output) = output else { continue };
        if fact.shape.is_none()
            && let Some(known) = declared.fact(model, *output)
        {
            fact = Fact { dtype: fact.dtype.or(known.dtype), shape: known.shape, contents: None };
        }
        facts.set(*output, fact);
    }
}

/// What a rule sees of a node.
pub(super) fn view<'a>(model: &'a Model, facts: &'a Facts, id: NodeId, with_outputs: bool) -> NodeView<'a> {
    let entry = model.index().node(id);
    let node = model.node(id);
    let known = |values: &[Option<ValueId>]| values.iter().map(|value| value.map(|value| facts.of(value))).collect();
    let branch = |graph: &GraphId| {
        let entry = model.index().graph(*graph);
        Branch {
            attribute: entry.attribute.clone(),
            formals: entry.inputs.iter().map(|value| facts.of(*value).clone()).collect(),
            results: entry.outputs.iter().map(|value| facts.of(*value).clone()).collect(),
        }
    };
    NodeView {
        node,
        opset: model.opset(node.domain()),
        inputs: known(&entry.inputs),
        outputs: if with_outputs { known(&entry.outputs) } else { Vec::new() },
        branches: entry.subgraphs.iter().map(branch).collect(),
    }
}
