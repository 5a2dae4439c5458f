//! The masked original: the model in which what a plan removes is silenced instead of removed.
//!
//! Each removed slice is zeroed where it is contracted, on the weight where that is a constant, else on the data; an operator
//! whose statistics would change (`lossy`) is run on the kept indices alone, and one that chooses among indices when it runs gets
//! −∞ for those that go. The pruned model must give the same outputs.

use std::collections::{BTreeMap, HashMap};

use super::zero::{Silence, Zero};
use crate::analysis::{Analysis, Selection, port_value};
use crate::model::{LoadError, Model, Names, NodeId, TensorRef, ValueId};
use crate::ops::make;
use crate::proto::{Dtype, NodeProto};
use crate::relation::{Fate, LabelId, Port, Term};

/// Builds the masked original of a selection. Errors: the masked graph is not valid (never expected).
pub fn masked(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
) -> Result<Model, LoadError> {
    let mut masker = Masker {
        model,
        analysis,
        selection,
        zeroed: BTreeMap::new(),
        edits: HashMap::new(),
        names: Names::of(model),
    };
    for (node, _) in model.index().nodes() {
        masker.node(node);
    }
    masker.build()
}

/// What happens round one node.
#[derive(Default)]
struct Edit {
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
    /// New names of inputs and outputs, by position.
    inputs: BTreeMap<usize, String>,
    outputs: BTreeMap<usize, String>,
    constants: Vec<(String, TensorRef)>,
}

/// Where a node is put.
enum Beside {
    Before,
    /// With the name that it gives its output, where that is given.
    Behind(Option<String>),
}

struct Masker<'a> {
    model: &'a Model,
    analysis: &'a Analysis,
    selection: &'a Selection,
    /// Constant, axis → the numbers that mean zero there.
    zeroed: BTreeMap<(ValueId, usize), Zero>,
    edits: HashMap<NodeId, Edit>,
    names: Names,
}

impl Masker<'_> {
    fn node(&mut self, node: NodeId) {
        let analysis = self.analysis;
        let relation = &analysis.relations[node.index()];
        let kept = analysis.kept_labels(node, self.selection);
        if kept.iter().all(Option::is_none) {
            return;
        }
        let is_cut = |label: &LabelId| kept[label.index()].is_some();
        let lossy: Vec<LabelId> = (0..relation.labels.len() as u32)
            .map(LabelId)
            .filter(|label| is_cut(label) && matches!(relation.label(*label).fate, Fate::Lossy(_)))
            .collect();
        if !lossy.is_empty() {
            self.narrow(node, &lossy);
        }
        for (at, label) in relation.labels.iter().enumerate() {
            if let Fate::Routed(routing) = &label.fate {
                self.silence_port(node, routing.by, &[LabelId(at as u32)], || Silence::Lowest);
            }
        }
        for term in &relation.terms {
            let summed: Vec<LabelId> = term.summed.iter().copied().filter(is_cut).collect();
            if !summed.is_empty() {
                self.silence(node, term, &summed);
            }
        }
    }

    fn silence(&mut self, node: NodeId, term: &Term, summed: &[LabelId]) {
        let model = self.model;
        let weight = term
            .weight
            .and_then(|port| Some((port, port_value(model, node, port)?)));
        if let Some((port, value)) =
            weight.filter(|(_, value)| model.tensor_proto(*value).is_some())
        {
            let zero = self.zero(node, term, port);
            for axis in self.axes_with(node, port, summed) {
                self.zeroed.insert((value, axis), zero.clone());
            }
            return;
        }
        // The weight, if it comes from another node, where the data is computed inside the operator (the state of a recurrent
        // layer), and where both are quantized: its zero point is known, and with zeros in the data a product with the data's
        // own zero point would be left.
        let is_quantized = |value: ValueId| {
            self.analysis
                .facts
                .of(value)
                .dtype
                .is_some_and(|dtype| !dtype.is_float())
        };
        let on_weight =
            weight.filter(|(_, value)| is_quantized(*value) || !matches!(term.data, Port::In(_)));
        let (port, zero) = on_weight.map_or((term.data, None), |(port, _)| (port, term.zero));
        let zero = zero.and_then(|port| match port {
            Port::In(at) => self
                .model
                .node(node)
                .input
                .get(at as usize)
                .filter(|name| !name.is_empty())
                .cloned(),
            _ => None,
        });
        self.silence_port(node, port, summed, || match &zero {
            Some(name) => Silence::ZeroPoint(name.clone()),
            None => Silence::Zero,
        });
    }

    /// Silences what goes of these labels in the data that a node reads.
    fn silence_port(
        &mut self,
        node: NodeId,
        port: Port,
        labels: &[LabelId],
        silence: impl Fn() -> Silence,
    ) {
        let Port::In(input) = port else { return };
        for axis in self.axes_with(node, port, labels) {
            self.silence_data(node, input as usize, axis, silence());
        }
    }

    /// What means zero in a term's constant: where each index of an axis has its own, the axis with the same layout.
    fn zero(&self, node: NodeId, term: &Term, weight: Port) -> Zero {
        let ports = &self.analysis.relations[node.index()].ports;
        let numbers = term
            .zero
            .and_then(|port| {
                self.model
                    .constant(port_value(self.model, node, port)?)?
                    .to_i64()
            })
            .unwrap_or_default();
        let layout = term.zero.and_then(|port| ports.get(&port)?.axes.first());
        let axis = layout.and_then(|layout| {
            ports
                .get(&weight)?
                .axes
                .iter()
                .position(|axis| axis == layout)
        });
        Zero {
            numbers,
            axis: axis.filter(|_| term.zero.is_some()),
        }
    }

    fn axes_with(&self, node: NodeId, port: Port, labels: &[LabelId]) -> Vec<usize> {
        let Some(layout) = self.analysis.relations[node.index()].ports.get(&port) else {
            return Vec::new();
        };
        let holds =
            |axis: &&crate::relation::Layout| axis.labels().any(|label| labels.contains(&label));
        layout
            .axes
            .iter()
            .enumerate()
            .filter(|(_, axis)| holds(axis))
            .map(|(at, _)| at)
            .collect()
    }

    fn fresh(&mut self, what: &str) -> String {
        self.names.numbered(&format!("onnx_prune_{what}_"), 1)
    }

    /// `Where(mask, data, silence)` before an input.
    fn silence_data(&mut self, node: NodeId, input: usize, axis: usize, silence: Silence) {
        let Some(value) = self.model.index().node(node).input(input) else {
            return;
        };
        let Some(kept) = self.analysis.kept_axis(value, axis, self.selection) else {
            return;
        };
        let fact = self.analysis.facts.of(value);
        let (Some(shape), Some(dtype)) = (&fact.shape, fact.dtype) else {
            return;
        };
        let length = shape[axis].count().unwrap_or(0);
        let mut dims = vec![1; shape.len()];
        dims[axis] = length;
        let mut mask = vec![0u8; length];
        kept.iter().for_each(|index| mask[*index as usize] = 1);
        let mask = TensorRef {
            dtype: Dtype::Bool,
            dims,
            bytes: mask.into(),
        };
        let (mask_name, output) = (self.fresh("mask"), self.fresh("masked"));
        let (zero_name, zero) = match (silence.number(dtype), silence) {
            (_, Silence::ZeroPoint(name)) => (name, None),
            (Some(number), _) => {
                let name = self.fresh("zero");
                (name.clone(), Some((name, number)))
            }
            (None, _) => return,
        };
        let source = self.input_name(node, input);
        let edit = self.edits.entry(node).or_default();
        edit.constants.push((mask_name.clone(), mask));
        edit.constants.extend(zero);
        edit.before
            .push(make::choose(&mask_name, &source, &zero_name, &output));
        edit.inputs.insert(input, output);
    }

    fn input_name(&self, node: NodeId, input: usize) -> String {
        let edited = self
            .edits
            .get(&node)
            .and_then(|edit| edit.inputs.get(&input).cloned());
        edited.unwrap_or_else(|| self.model.node(node).input[input].clone())
    }

    /// Runs a lossy operator on the kept indices alone. What comes back in place of the removed ones does not matter, for
    /// every reader contracts it away.
    fn narrow(&mut self, node: NodeId, lossy: &[LabelId]) {
        let entry = self.model.index().node(node).clone();
        for (input, value) in entry.inputs.iter().enumerate() {
            let Some(value) = value else { continue };
            for axis in self.axes_with(node, Port::In(input as u32), lossy) {
                let Some(kept) = self.analysis.kept_axis(*value, axis, self.selection) else {
                    continue;
                };
                let indices: Vec<i64> = kept.iter().map(|index| i64::from(*index)).collect();
                let source = self.input_name(node, input);
                let gathered = self.gather(node, source, axis, &indices, Beside::Before);
                self.edits
                    .entry(node)
                    .or_default()
                    .inputs
                    .insert(input, gathered);
            }
        }
        for (output, value) in entry.outputs.iter().enumerate() {
            let Some(value) = value else { continue };
            let axes = self.axes_with(node, Port::Out(output as u32), lossy);
            let cut: Vec<(usize, Vec<u32>)> = axes
                .into_iter()
                .filter_map(|axis| {
                    Some((axis, self.analysis.kept_axis(*value, axis, self.selection)?))
                })
                .collect();
            let last = cut.len();
            let mut source = self.fresh("narrow");
            if last > 0 {
                self.edits
                    .entry(node)
                    .or_default()
                    .outputs
                    .insert(output, source.clone());
            }
            for (at, (axis, kept)) in cut.into_iter().enumerate() {
                let length = self
                    .analysis
                    .facts
                    .of(*value)
                    .shape
                    .as_ref()
                    .and_then(|shape| shape[axis].count())
                    .unwrap_or(0);
                let position = |index: u32| kept.binary_search(&index).map_or(0, |at| at as i64);
                let indices: Vec<i64> = (0..length as u32).map(position).collect();
                let target = (at + 1 == last).then(|| self.model.node(node).output[output].clone());
                source = self.gather(node, source, axis, &indices, Beside::Behind(target));
            }
        }
    }

    /// Puts a gather beside a node; gives the name of what it gives.
    fn gather(
        &mut self,
        node: NodeId,
        source: String,
        axis: usize,
        indices: &[i64],
        side: Beside,
    ) -> String {
        let name = self.fresh("indices");
        let (before, target) = match side {
            Beside::Before => (true, None),
            Beside::Behind(target) => (false, target),
        };
        let output = target.unwrap_or_else(|| self.fresh("gathered"));
        let edit = self.edits.entry(node).or_default();
        edit.constants.push((
            name.clone(),
            TensorRef::from_i64(vec![indices.len()], indices),
        ));
        // Its output may have the name of the node that it stands behind.
        let message = NodeProto {
            name: Some(format!("{name}_gather")),
            ..make::gather(&source, &name, axis as i64, &output)
        };
        if before {
            edit.before.push(message)
        } else {
            edit.after.push(message)
        }
        output
    }

    fn build(mut self) -> Result<Model, LoadError> {
        let mut masked = self.model.clone();
        let zeroed: Vec<((ValueId, usize), Zero)> =
            std::mem::take(&mut self.zeroed).into_iter().collect();
        for ((value, axis), zero) in zeroed {
            self.zero_constant(&mut masked, value, axis, &zero);
        }
        let mut edits: Vec<(NodeId, Edit)> = std::mem::take(&mut self.edits).into_iter().collect();
        // Inner graphs (higher ids) first, and from the last node on, so that places and paths stay valid.
        edits.sort_by_key(|(node, _)| {
            let entry = self.model.index().node(*node);
            std::cmp::Reverse((entry.graph, entry.position))
        });
        for (node, edit) in edits {
            let entry = self.model.index().node(node);
            let (id, position) = (entry.graph, entry.position as usize);
            let graph = masked.graph_mut(id);
            let message = &mut graph.node[position];
            edit.inputs
                .into_iter()
                .for_each(|(at, name)| message.input[at] = name);
            edit.outputs
                .into_iter()
                .for_each(|(at, name)| message.output[at] = name);
            graph.initializer.extend(
                edit.constants
                    .iter()
                    .map(|(name, tensor)| tensor.to_proto(name)),
            );
            graph.node.splice(position + 1..position + 1, edit.after);
            graph.node.splice(position..position, edit.before);
        }
        masked.reindex()?;
        Ok(masked)
    }

    fn zero_constant(&self, masked: &mut Model, value: ValueId, axis: usize, zero: &Zero) {
        let Some(kept) = self.analysis.kept_axis(value, axis, self.selection) else {
            return;
        };
        let Some(target) = masked.tensor_proto_mut(value) else {
            return;
        };
        let Ok(tensor) = TensorRef::from_proto(target) else {
            return;
        };
        let name = target.name().to_owned();
        *target = zero.silenced(tensor, axis, &kept).to_proto(&name);
    }
}
