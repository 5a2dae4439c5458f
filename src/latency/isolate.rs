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
        let mut alone = NodeProto {
            name: None,
            doc_string: None,
            ..message.clone()
        };
        let mut graph = GraphProto {
            name: Some("operator".into()),
            ..Default::default()
        };
        let mut names: BTreeMap<ValueId, String> = BTreeMap::new();
        let mut example = Tensors::new();
        for (slot, name) in entry.inputs.iter().zip(&mut alone.input) {
            let Some(value) = slot else { continue };
            if let Some(known) = names.get(value) {
                *name = known.clone();
                continue;
            }
            *name = format!("x{}", names.len());
            names.insert(*value, name.clone());
            if let Some(tensor) = model.tensor_proto(*value) {
                let mut tensor = tensor.clone();
                tensor.name = Some(name.clone());
                graph.initializer.push(tensor);
                continue;
            }
            let fact = facts.of(*value);
            let made = made_up(fact, name)?;
            if constant.get(value.index()).copied().unwrap_or(false) {
                graph.initializer.push(made.to_proto(name));
            } else {
                graph.input.push(declared(name, made.dtype, &made.dims));
                example.insert(name.clone(), made);
            }
        }
        for (at, (slot, name)) in entry.outputs.iter().zip(&mut alone.output).enumerate() {
            let Some(value) = slot else { continue };
            *name = format!("y{at}");
            let fact = facts.of(*value);
            graph.output.push(declared(name, fact.dtype?, &dims(fact)?));
        }
        let ends = graph.input.iter().chain(&graph.output);
        let allowed: BTreeSet<(String, usize)> = ends
            .flat_map(|end| (0..8).map(|axis| (end.name().to_owned(), axis)))
            .collect();
        graph.node.push(alone);
        let model = model.with_graph(graph).ok()?;
        let analysis = analyse(
            &model,
            &Options {
                allowed,
                weightless: true,
                ..Default::default()
            },
        );
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
