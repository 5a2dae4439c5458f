//! Shape operands made to hold new numbers, by walking back to the constants that they come from.

use std::collections::BTreeMap;

use super::infer::{Facts, view};
use super::packed_rows::Repack;
use super::patch::{patch_tensor, patched, written_down};
use crate::facts::{Dim, Fact};
use crate::model::{GraphId, Model, Names, NodeId, Origin, TensorRef, ValueId};
use crate::ops::{Demand, back, lookup};
use crate::proto::NodeProto;

/// Operands that were replaced, and nodes to be inserted. Nodes keep their places until the end, so that the index
/// of the model stays valid meanwhile.
#[derive(Debug, Default)]
pub(super) struct Operands {
    pub(super) replaced: BTreeMap<(NodeId, u32), Fact>,
    /// By graph and by the place of the node behind which they go; of those behind one node the last to run stands first.
    pub(super) inserts: Vec<(GraphId, u32, NodeProto)>,
    /// Copies made before, so that equal demands on one value share one copy.
    copies: BTreeMap<ValueId, Vec<CopiedNodes>>,
    /// The same of bytes that were packed anew.
    pub(super) repacked: Vec<(ValueId, Repack, String)>,
    names: Names,
}

/// The elements that a copy was made for, its name, and what is known of it.
type CopiedNodes = (Vec<Option<Dim>>, String, Fact);

/// What a value is to hold.
#[derive(Clone, Copy)]
struct WantedContents<'a> {
    value: ValueId,
    elements: &'a [Option<Dim>],
    /// Whether the elements are all that it may hold.
    whole: bool,
    /// How many nodes lie between it and the operand that asks for it.
    depth: usize,
}

/// Why an operand cannot be rewritten.
type Why = String;

impl Operands {
    pub(super) fn new(model: &Model) -> Self {
        Operands {
            names: Names::of(model),
            ..Default::default()
        }
    }

    /// Puts replaced operands into a view's inputs.
    pub(super) fn substitute<'a>(&'a self, node: NodeId, inputs: &mut Vec<Option<&'a Fact>>) {
        for ((_, input), fact) in self.replaced.range((node, 0)..=(node, u32::MAX)) {
            let at = *input as usize;
            if inputs.len() <= at {
                inputs.resize(at + 1, None);
            }
            inputs[at] = Some(fact);
        }
    }

    /// Inserts the copied nodes behind their originals.
    pub(super) fn insert_nodes(mut self, model: &mut Model) {
        // One that was asked for later stands nearer to its original.
        self.inserts.reverse();
        self.inserts
            .sort_by_key(|(graph, position, _)| (*graph, *position));
        let mut by_graph: BTreeMap<GraphId, Vec<(u32, NodeProto)>> = BTreeMap::new();
        self.inserts
            .into_iter()
            .for_each(|(graph, position, node)| {
                by_graph.entry(graph).or_default().push((position, node))
            });
        // Paths of subgraphs count nodes, so inner graphs (which have higher ids) are edited before outer ones.
        for (graph, inserts) in by_graph.into_iter().rev() {
            let nodes = &mut model.graph_mut(graph).node;
            let mut inserts = inserts.into_iter().peekable();
            for (position, node) in std::mem::take(nodes).into_iter().enumerate() {
                nodes.push(node);
                while let Some((_, node)) = inserts.next_if(|(at, _)| *at as usize == position) {
                    nodes.push(node);
                }
            }
        }
    }

    /// Makes an input of a node hold what is demanded.
    pub(super) fn satisfy(
        &mut self,
        model: &mut Model,
        facts: &Facts,
        node: NodeId,
        demand: &Demand,
    ) -> Result<(), Why> {
        let entry = model.index().node(node);
        let graph = entry.graph;
        let Some(value) = entry.input(demand.input as usize) else {
            return self.append(model, node, demand);
        };
        let fact = self
            .replaced
            .get(&(node, demand.input))
            .unwrap_or_else(|| facts.of(value))
            .clone();
        if holds(&fact, &demand.elements, demand.whole) {
            return Ok(());
        }
        let wanted = WantedContents {
            value,
            elements: &demand.elements,
            whole: demand.whole,
            depth: 0,
        };
        let (name, fact) = self.provide(model, facts, graph, wanted)?;
        model.node_mut(node).input[demand.input as usize] = name;
        self.replaced.insert((node, demand.input), fact);
        Ok(())
    }

    /// A node that did without an optional shape operand gets one.
    fn append(&mut self, model: &mut Model, node: NodeId, demand: &Demand) -> Result<(), Why> {
        let numbers: Option<Vec<i64>> = demand
            .elements
            .iter()
            .map(|element| element.as_ref()?.num())
            .collect();
        let numbers = numbers.ok_or("an operand that is not given")?;
        let tensor = TensorRef::from_i64(vec![numbers.len()], &numbers);
        let graph = model.index().node(node).graph;
        let base = format!("{}_sizes", model.node_label(node));
        let (name, fact) = self.initializer(model, graph, &base, &tensor);
        let inputs = &mut model.node_mut(node).input;
        while inputs.len() <= demand.input as usize {
            inputs.push(String::new());
        }
        inputs[demand.input as usize] = name;
        self.replaced.insert((node, demand.input), fact);
        Ok(())
    }

    /// Gives an input of a node a constant.
    pub(super) fn write(
        &mut self,
        model: &mut Model,
        node: NodeId,
        input: u32,
        tensor: &TensorRef,
    ) {
        let base = format!("{}_number", model.node_label(node));
        let (name, fact) = self.initializer(model, model.index().node(node).graph, &base, tensor);
        if let Some(slot) = model.node_mut(node).input.get_mut(input as usize) {
            *slot = name;
            self.replaced.insert((node, input), fact);
        }
    }

    pub(super) fn initializer(
        &mut self,
        model: &mut Model,
        graph: GraphId,
        base: &str,
        tensor: &TensorRef,
    ) -> (String, Fact) {
        let name = self.fresh(base);
        model
            .graph_mut(graph)
            .initializer
            .push(tensor.to_proto(&name));
        let shape = tensor.dims.iter().map(|dim| Dim::from(*dim)).collect();
        (
            name,
            Fact::new(Some(tensor.dtype), shape).with_contents(crate::facts::contents_of(tensor)),
        )
    }

    pub(super) fn fresh(&mut self, base: &str) -> String {
        self.names.numbered(&format!("{base}_cut"), 1)
    }

    /// A value that holds the wanted elements: the same one changed in place if nobody else reads it, else a copy.
    fn provide(
        &mut self,
        model: &mut Model,
        facts: &Facts,
        graph: GraphId,
        wanted: WantedContents,
    ) -> Result<(String, Fact), Why> {
        let WantedContents {
            value, elements, ..
        } = wanted;
        if holds(facts.of(value), elements, wanted.whole) {
            return Ok((
                model.index().value(value).name.clone(),
                facts.of(value).clone(),
            ));
        }
        if let Some((_, name, fact)) = self
            .copies
            .get(&value)
            .into_iter()
            .flatten()
            .find(|(held, ..)| held == elements)
        {
            return Ok((name.clone(), fact.clone()));
        }
        let (name, fact) = match self.trace(model, facts, wanted) {
            Ok(traced) => traced,
            // However it is computed, what is known to be plain numbers can be written down as such, and what is not can be
            // read from it, number by number.
            Err(why) => match written_down(facts.of(value), elements) {
                Some(tensor) => {
                    let base = model.index().value(value).name.clone();
                    self.initializer(model, graph, &base, &tensor)
                }
                None => self.assemble(model, facts, value, elements).ok_or(why)?,
            },
        };
        self.copies
            .entry(value)
            .or_default()
            .push((elements.to_vec(), name.clone(), fact.clone()));
        Ok((name, fact))
    }

    /// The same, by changing the constants that the value is computed from.
    fn trace(
        &mut self,
        model: &mut Model,
        facts: &Facts,
        wanted: WantedContents,
    ) -> Result<(String, Fact), Why> {
        let WantedContents {
            value,
            elements,
            whole,
            depth,
        } = wanted;
        let entry = model.index().value(value).clone();
        let stuck = || format!("'{}', which is computed from something else", entry.name);
        if depth > 32 {
            return Err(stuck());
        }
        if let Some(tensor) = model.constant(value) {
            let (tensor, fact) =
                patch_tensor(&tensor, facts.of(value), elements, whole).ok_or_else(stuck)?;
            let (name, _) = self.initializer(model, entry.graph, &entry.name, &tensor);
            return Ok((name, fact));
        }
        let Origin::Output(node, 0) = entry.origin else {
            return Err(stuck());
        };
        let changes = self
            .sources(model, facts, node, elements)
            .ok_or_else(stuck)?;
        let mut inputs = Vec::new();
        for Demand {
            input, elements, ..
        } in changes
        {
            let source = model
                .index()
                .node(node)
                .input(input as usize)
                .ok_or_else(stuck)?;
            let wanted = WantedContents {
                value: source,
                elements: &elements,
                whole: false,
                depth: depth + 1,
            };
            let (name, _) = self.provide(model, facts, entry.graph, wanted)?;
            inputs.push((input, name));
        }
        let name = self.copy(model, node, &entry.name, inputs);
        Ok((name, patched(facts.of(value), elements)))
    }

    /// Puts a copy of a node behind it that reads other values at some inputs; gives the name of its one output.
    fn copy(
        &mut self,
        model: &Model,
        node: NodeId,
        output: &str,
        inputs: Vec<(u32, String)>,
    ) -> String {
        let mut copy = model.node(node).clone();
        for (input, name) in inputs {
            copy.input[input as usize] = name;
        }
        let name = self.fresh(output);
        copy.output = vec![name.clone()];
        copy.name = Some(self.fresh(model.node_label(node)));
        let entry = model.index().node(node);
        self.inserts.push((entry.graph, entry.position, copy));
        name
    }

    /// What the inputs of a shape-computing node must hold so that its output holds the wanted elements.
    fn sources(
        &self,
        model: &Model,
        facts: &Facts,
        node: NodeId,
        wanted: &[Option<Dim>],
    ) -> Option<Vec<Demand>> {
        let inputs = &model.index().node(node).inputs;
        let value = |input: u32| inputs.get(input as usize).copied().flatten();
        let is_constant =
            |input: u32| value(input).is_some_and(|value| model.constant(value).is_some());
        let mut demands = back(&view(model, facts, node, false), wanted, &is_constant)?;
        if demands.len() > 1 {
            demands.retain(|demand| {
                !value(demand.input)
                    .is_some_and(|value| holds(facts.of(value), &demand.elements, false))
            });
        }
        Some(demands)
    }

    /// Gives a Reshape whose target cannot be traced a constant one: 0 copies an extent that stays in place, one -1
    /// stands for one that is known only at run time.
    pub(super) fn reshape_by_constant(
        &mut self,
        model: &mut Model,
        old: &Facts,
        original: &Model,
        node: NodeId,
        demand: &Demand,
    ) -> bool {
        let entry = original.index().node(node);
        let message = original.node(node);
        let lists_extents = lookup(message.domain(), message.op_type()).is_some_and(|operator| {
            operator.shape_operand(&view(original, old, node, true)) == Some(demand.input)
        });
        if !lists_extents {
            return false;
        }
        let shape = |value: Option<ValueId>| value.and_then(|value| old.of(value).shape.clone());
        let (Some(input), Some(output)) = (shape(entry.input(0)), shape(entry.output(0))) else {
            return false;
        };
        let mut free = 1;
        let mut target = Vec::new();
        for (axis, dim) in output.iter().enumerate() {
            let wanted = demand.elements.get(axis).cloned().flatten();
            match wanted.unwrap_or_else(|| dim.clone()) {
                Dim::Num(number) => target.push(number),
                symbolic if input.get(axis) == Some(&symbolic) => target.push(0),
                _ if free > 0 => {
                    free -= 1;
                    target.push(-1);
                }
                _ => return false,
            }
        }
        let tensor = TensorRef::from_i64(vec![target.len()], &target);
        let base = format!("{}_target", original.node_label(node));
        let (name, fact) = self.initializer(model, entry.graph, &base, &tensor);
        let message = model.node_mut(node);
        message
            .attribute
            .retain(|attribute| attribute.name() != "allowzero");
        message.input[1] = name;
        self.replaced.insert((node, 1), fact);
        true
    }
}

/// Whether a fact's contents are what is wanted.
fn holds(fact: &Fact, wanted: &[Option<Dim>], whole: bool) -> bool {
    if wanted.iter().all(Option::is_none) && !whole {
        return true;
    }
    let Some(elements) = fact.contents.as_ref() else {
        return false;
    };
    elements.0.len() == wanted.len()
        && elements
            .0
            .iter()
            .zip(wanted)
            .all(|(element, wanted)| wanted.is_none() || element.dim() == *wanted)
}
