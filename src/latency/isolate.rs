//! One node of a model as a model of its own, at any of its widths, for measuring.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::analysis::{Analysis, Facts, Options, analyse};
use crate::facts::Fact;
use crate::model::{Model, NodeId, TensorRef, ValueId};
use crate::proto::{Dtype, GraphProto, NodeProto, ValueInfoProto};
use crate::relation::LabelId;
use crate::rng::rng;
use crate::run::Tensors;
use crate::surgery;

/// A node alone, all its widths free to shrink.
pub(super) struct IsolatedNode {
    model: Model,
    analysis: Analysis,
    example: Tensors,
    /// For each of the labels asked for its extent and the group that holds its indices.
    widths: Vec<(usize, usize)>,
}

impl IsolatedNode {
    /// Takes a node out of a model; `facts` are concrete. `None` where a shape is not known, or a label can not shrink by itself.
    pub fn new(
        model: &Model,
        facts: &Facts,
        constant: &[bool],
        node: NodeId,
        labels: &[LabelId],
    ) -> Option<Self> {
        let (message, entry) = (model.node(node), model.index().node(node));
        if !entry.subgraphs.is_empty() {
            return None;
        }
        let mut lifted = LiftedNode::new(message, facts);
        for (slot, value) in entry.inputs.iter().enumerate() {
            if let Some(value) = value {
                let constant = constant.get(value.index()).copied().unwrap_or(false);
                lifted.read(model, slot, *value, constant)?;
            }
        }
        for (slot, value) in entry.outputs.iter().enumerate() {
            if let Some(value) = value {
                lifted.give(slot, *value)?;
            }
        }
        let (graph, example) = lifted.finish();
        let (model, analysis) = analysed(model, graph)?;
        let (only, _) = model.index().nodes().next()?;
        let width = |label: &LabelId| {
            let space = analysis.spaces.label(only, *label);
            let extent = analysis.spaces.get(space).extent.count()?;
            let class = analysis.classes.carrier(space, 0)?.class;
            let group = analysis
                .groups
                .iter()
                .position(|group| group.classes.contains(&class))?;
            Some((extent, group))
        };
        let widths = labels.iter().map(width).collect::<Option<Vec<_>>>()?;
        Some(IsolatedNode {
            model,
            analysis,
            example,
            widths,
        })
    }

    /// The extents of the labels.
    pub fn extents(&self) -> Vec<usize> {
        self.widths.iter().map(|(extent, _)| *extent).collect()
    }

    /// The node at these extents, with inputs to run it on and a name that tells it from all others.
    pub fn at(&self, extents: &[usize]) -> Option<(String, Model, Tensors)> {
        let mut removed: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for ((full, group), extent) in self.widths.iter().zip(extents) {
            let units = self.analysis.groups.get(*group)?.units.len();
            let kept = ((units * extent) as f64 / *full as f64).round().max(1.0) as usize;
            if kept < units {
                removed.insert(*group, (kept as u32..units as u32).collect());
            }
        }
        let selection = self.analysis.select(
            removed
                .iter()
                .map(|(group, units)| (*group, units.as_slice())),
        );
        let model = surgery::apply(&self.model, &self.analysis, &selection, &[]).ok()?;
        let mut example = Tensors::new();
        for (name, tensor) in &self.example {
            let value = self.model.index().main_value(name)?;
            let kept: Vec<_> = (0..tensor.dims.len())
                .map(|axis| self.analysis.kept_axis(value, axis, &selection))
                .collect();
            example.insert(
                name.clone(),
                if kept.iter().all(Option::is_none) {
                    tensor.clone()
                } else {
                    tensor.select(&kept)
                },
            );
        }
        Some((key(&model, &example)?, model, example))
    }
}

/// A node on its way into a graph of its own.
struct LiftedNode<'a> {
    facts: &'a Facts,
    node: NodeProto,
    graph: GraphProto,
    /// Names that values got there.
    names: BTreeMap<ValueId, String>,
    example: Tensors,
}

impl<'a> LiftedNode<'a> {
    fn new(node: &NodeProto, facts: &'a Facts) -> Self {
        LiftedNode {
            facts,
            node: NodeProto {
                name: None,
                doc_string: None,
                ..node.clone()
            },
            graph: GraphProto {
                name: Some("operator".into()),
                ..Default::default()
            },
            names: BTreeMap::new(),
            example: Tensors::new(),
        }
    }

    /// Declares what the node reads in a slot: a stored constant as it is, others made up. `None` where a shape is not known.
    fn read(&mut self, model: &Model, slot: usize, value: ValueId, constant: bool) -> Option<()> {
        let name = self.node.input.get_mut(slot)?;
        if let Some(known) = self.names.get(&value) {
            name.clone_from(known);
            return Some(());
        }
        *name = format!("x{}", self.names.len());
        self.names.insert(value, name.clone());
        if let Some(tensor) = model.tensor_proto(value) {
            let mut tensor = tensor.clone();
            tensor.name = Some(name.clone());
            self.graph.initializer.push(tensor);
            return Some(());
        }
        let made = made_up(self.facts.of(value), name)?;
        if constant {
            self.graph.initializer.push(made.to_proto(name));
        } else {
            let input = declared(name, made.dtype, &made.dims);
            self.graph.input.push(input);
            self.example.insert(name.clone(), made);
        }
        Some(())
    }

    /// Declares what the node gives in a slot. `None` where its type or shape is not known.
    fn give(&mut self, slot: usize, value: ValueId) -> Option<()> {
        let name = self.node.output.get_mut(slot)?;
        *name = format!("y{slot}");
        let fact = self.facts.of(value);
        let output = declared(name, fact.dtype?, &dims(fact)?);
        self.graph.output.push(output);
        Some(())
    }

    /// The graph, and inputs to run it on.
    fn finish(mut self) -> (GraphProto, Tensors) {
        self.graph.node.push(self.node);
        (self.graph, self.example)
    }
}

/// A graph as a model, analysed with all axes of its inputs and outputs free to shrink.
fn analysed(model: &Model, graph: GraphProto) -> Option<(Model, Analysis)> {
    let ends = graph.input.iter().chain(&graph.output);
    let allowed: BTreeSet<(String, usize)> = ends
        .flat_map(|end| (0..8).map(|axis| (end.name().to_owned(), axis)))
        .collect();
    let model = model.with_graph(graph).ok()?;
    let options = Options {
        allowed,
        weightless: true,
        ..Default::default()
    };
    let analysis = analyse(&model, &options);
    Some((model, analysis))
}

/// What an operator is, for a table: its kind and shapes to read, and a digest of the rest.
fn key(model: &Model, example: &Tensors) -> Option<String> {
    let graph = model.proto.graph.as_ref()?;
    let mut hash = Sha256::new();
    for import in &model.proto.opset_import {
        hash.update(import.encode_to_vec());
    }
    // Small constants may decide what is computed; of large ones the shape does.
    const SMALL: usize = 64;
    let mut shapes = Vec::new();
    for tensor in &graph.initializer {
        let mut plain = tensor.clone();
        if tensor.dims.iter().product::<i64>() > SMALL as i64
            || Dtype::from_code(tensor.data_type()).is_none_or(Dtype::is_float)
        {
            (plain.raw_data, plain.float_data) = (None, Vec::new());
        }
        plain.metadata_props.clear();
        plain.doc_string = None;
        hash.update(plain.encode_to_vec());
        shapes.push((
            tensor.name().to_owned(),
            tensor
                .dims
                .iter()
                .map(i64::to_string)
                .collect::<Vec<_>>()
                .join("x"),
        ));
    }
    for (name, tensor) in example {
        hash.update(name.as_bytes());
        hash.update(tensor.dtype.name().as_bytes());
        shapes.push((
            name.clone(),
            tensor
                .dims
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("x"),
        ));
    }
    shapes.sort();
    graph
        .node
        .iter()
        .for_each(|node| hash.update(node.encode_to_vec()));
    let digest = crate::hash::hex(&hash.finalize()[..6]);
    let shapes: Vec<String> = shapes.into_iter().map(|(_, shape)| shape).collect();
    Some(format!(
        "{} {} {digest}",
        graph.node.last()?.op_type(),
        shapes.join(" ")
    ))
}

fn dims(fact: &Fact) -> Option<Vec<usize>> {
    fact.shape.as_ref()?.iter().map(|dim| dim.count()).collect()
}

/// Numbers of a fact's type and shape: real ones of an ordinary size, else zeros, which fit every table.
fn made_up(fact: &Fact, name: &str) -> Option<TensorRef> {
    let (dtype, dims) = (fact.dtype?, dims(fact)?);
    let elements: usize = dims.iter().product();
    if dtype == Dtype::Float {
        let mut random = rng(0, name);
        let numbers: Vec<f32> = (0..elements)
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        return Some(TensorRef::from_f32(dims, &numbers));
    }
    Some(TensorRef {
        dtype,
        dims,
        bytes: vec![0u8; dtype.bytes_for(elements)].into(),
    })
}

fn declared(name: &str, dtype: Dtype, dims: &[usize]) -> ValueInfoProto {
    let dims: Vec<i64> = dims.iter().map(|dim| *dim as i64).collect();
    ValueInfoProto::tensor(name, dtype.code(), Some(&dims))
}
