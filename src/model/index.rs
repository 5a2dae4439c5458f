//! Names resolved once: which value a node reads, who produced it, who else reads it.

use std::collections::HashMap;

use super::error::LoadKind;
use crate::proto::{GraphProto, ModelProto};

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("Number of ", $what, ", in the order of the file.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// For indexing a `Vec` by id.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(NodeId, "a node, subgraphs included");
id!(ValueId, "a value, subgraphs included");
id!(GraphId, "a graph; the main graph is 0");

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An input of its graph (by position) without a default.
    Input(u32),
    /// An initializer of its graph (by position), also one that is listed as an input.
    Initializer(u32),
    /// A sparse initializer of its graph (by position).
    Sparse(u32),
    /// An output of a node.
    Output(NodeId, u32),
}

/// One value.
#[derive(Clone, Debug)]
pub struct ValueEntry {
    /// Its name in the file, unique within its scope.
    pub name: String,
    /// The graph that defines it.
    pub graph: GraphId,
    /// Where it comes from.
    pub origin: Origin,
    /// The nodes that read it and at which input, in order; readers in subgraphs included.
    pub readers: Vec<(NodeId, u32)>,
    /// Whether it is an output of its graph.
    pub is_output: bool,
    /// Whether it is an initializer that is listed among the inputs of its graph as well.
    pub is_listed: bool,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeEntry {
    /// The graph that holds it.
    pub graph: GraphId,
    /// Its place in that graph's list.
    pub position: u32,
    /// Whether it has a name, and no other node of its graph has the same.
    pub has_own_name: bool,
    /// Its inputs; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Its outputs; `None` where an optional one is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Its subgraphs, in the order of its attributes.
    pub subgraphs: Vec<GraphId>,
}

/// One graph.
#[derive(Clone, Debug)]
pub struct GraphEntry {
    /// The node whose subgraph this is; `None` for the main graph.
    pub parent: Option<NodeId>,
    /// The attribute that holds it (`then_branch`, `body` …); empty for the main graph.
    pub attribute: String,
    /// Its inputs without defaults, in order.
    pub inputs: Vec<ValueId>,
    /// Its outputs, in order.
    pub outputs: Vec<ValueId>,
    /// Its own nodes, producers before readers.
    pub nodes: Vec<NodeId>,
    /// The way down from the main graph: node, attribute, and place in `graphs` if it is a list.
    pub(super) path: Vec<(u32, u32, Option<u32>)>,
}

/// All graphs, nodes and values of a model.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub(super) graphs: Vec<GraphEntry>,
    nodes: Vec<NodeEntry>,
    values: Vec<ValueEntry>,
}

impl Index {
    /// The main graph.
    pub const MAIN: GraphId = GraphId(0);

    pub(super) fn build(model: &ModelProto) -> Result<Self, LoadKind> {
        let graph = model.graph.as_ref().ok_or(LoadKind::NoGraph)?;
        let mut builder = IndexBuilder {
            index: Index::default(),
            scopes: Vec::new(),
        };
        builder.graph(graph, None, String::new(), Vec::new())?;
        builder.index.nodes.shrink_to_fit();
        builder.index.values.shrink_to_fit();
        Ok(builder.index)
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &ValueEntry {
        &self.values[id.index()]
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &NodeEntry {
        &self.nodes[id.index()]
    }

    /// One graph.
    pub fn graph(&self, id: GraphId) -> &GraphEntry {
        &self.graphs[id.index()]
    }

    /// All values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &ValueEntry)> {
        self.values
            .iter()
            .enumerate()
            .map(|(id, entry)| (ValueId(id as u32), entry))
    }

    /// All nodes, in the order of the file, a node before those of its subgraphs.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &NodeEntry)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(id, entry)| (NodeId(id as u32), entry))
    }

    /// All graphs, the main one first.
    pub fn graphs(&self) -> impl ExactSizeIterator<Item = (GraphId, &GraphEntry)> {
        self.graphs
            .iter()
            .enumerate()
            .map(|(id, entry)| (GraphId(id as u32), entry))
    }

    /// The value of this name that the main graph defines.
    pub fn main_value(&self, name: &str) -> Option<ValueId> {
        self.values()
            .find(|(_, entry)| entry.graph == Self::MAIN && entry.name == name)
            .map(|(id, _)| id)
    }

    /// The values that the main graph defines, by name.
    pub fn main_values(&self) -> HashMap<&str, ValueId> {
        self.values()
            .filter(|(_, entry)| entry.graph == Self::MAIN)
            .map(|(id, entry)| (entry.name.as_str(), id))
            .collect()
    }

    /// `NODE/ATTRIBUTE/` for each subgraph around a graph, as plan files prefix names.
    pub fn prefix(&self, model: &super::Model, graph: GraphId) -> String {
        match self.graph(graph).parent {
            None => String::new(),
            Some(node) => {
                let outer = self.prefix(model, self.node(node).graph);
                format!(
                    "{outer}{}/{}/",
                    model.node_label(node),
                    self.graph(graph).attribute
                )
            }
        }
    }
}

struct IndexBuilder<'a> {
    index: Index,
    scopes: Vec<HashMap<&'a str, ValueId>>,
}

impl<'a> IndexBuilder<'a> {
    fn define(
        &mut self,
        name: &'a str,
        graph: GraphId,
        origin: Origin,
    ) -> Result<ValueId, LoadKind> {
        let id = ValueId(self.index.values.len() as u32);
        let scope = self.scopes.last_mut().ok_or(LoadKind::NoGraph)?;
        if scope.insert(name, id).is_some() {
            return Err(LoadKind::NameClash(name.to_owned()));
        }
        self.index.values.push(ValueEntry {
            name: name.to_owned(),
            graph,
            origin,
            readers: Vec::new(),
            is_output: false,
            is_listed: false,
        });
        Ok(id)
    }

    fn resolve(&self, name: &str) -> Option<ValueId> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied())
    }

    fn graph(
        &mut self,
        graph: &'a GraphProto,
        parent: Option<NodeId>,
        attribute: String,
        path: Vec<(u32, u32, Option<u32>)>,
    ) -> Result<GraphId, LoadKind> {
        let id = GraphId(self.index.graphs.len() as u32);
        self.index.graphs.push(GraphEntry {
            parent,
            attribute,
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            path: path.clone(),
        });
        self.scopes.push(HashMap::new());
        for (position, tensor) in graph.initializer.iter().enumerate() {
            self.define(tensor.name(), id, Origin::Initializer(position as u32))?;
        }
        for (position, sparse) in graph.sparse_initializer.iter().enumerate() {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            self.define(name, id, Origin::Sparse(position as u32))?;
        }
        for (position, input) in graph.input.iter().enumerate() {
            // Before IR version 4 every initializer is listed as an input too.
            let listed = self
                .scopes
                .last()
                .and_then(|scope| scope.get(input.name()).copied());
            if let Some(value) = listed.map(|value| &mut self.index.values[value.index()])
                && !matches!(value.origin, Origin::Input(_))
            {
                value.is_listed = true;
                continue;
            }
            let value = self.define(input.name(), id, Origin::Input(position as u32))?;
            self.index.graphs[id.index()].inputs.push(value);
        }
        let first = self.index.nodes.len() as u32;
        let mut called: HashMap<&str, u32> = HashMap::new();
        for node in &graph.node {
            *called.entry(node.name()).or_insert(0) += 1;
        }
        for (position, node) in graph.node.iter().enumerate() {
            let node_id = NodeId(first + position as u32);
            let mut outputs = Vec::with_capacity(node.output.len());
            for (slot, name) in node.output.iter().enumerate() {
                let defined = !name.is_empty();
                outputs.push(
                    defined
                        .then(|| self.define(name, id, Origin::Output(node_id, slot as u32)))
                        .transpose()?,
                );
            }
            self.index.nodes.push(NodeEntry {
                graph: id,
                position: position as u32,
                has_own_name: !node.name().is_empty() && called[node.name()] == 1,
                inputs: Vec::new(),
                outputs,
                subgraphs: Vec::new(),
            });
        }
        for (position, node) in graph.node.iter().enumerate() {
            let node_id = NodeId(first + position as u32);
            let mut inputs = Vec::with_capacity(node.input.len());
            for (slot, name) in node.input.iter().enumerate() {
                if name.is_empty() {
                    inputs.push(None);
                    continue;
                }
                let value = self.resolve(name).ok_or_else(|| LoadKind::NotProduced {
                    value: name.clone(),
                    node: label(node).to_owned(),
                })?;
                self.index.values[value.index()]
                    .readers
                    .push((node_id, slot as u32));
                inputs.push(Some(value));
            }
            self.index.nodes[node_id.index()].inputs = inputs;
            for (place, attribute) in node.attribute.iter().enumerate() {
                let lists = attribute
                    .graphs
                    .iter()
                    .enumerate()
                    .map(|(at, graph)| (graph, Some(at as u32)));
                for (subgraph, at) in attribute.g.iter().map(|graph| (graph, None)).chain(lists) {
                    let mut path = path.clone();
                    path.push((position as u32, place as u32, at));
                    let sub =
                        self.graph(subgraph, Some(node_id), attribute.name().to_owned(), path)?;
                    self.index.nodes[node_id.index()].subgraphs.push(sub);
                }
            }
        }
        for output in &graph.output {
            let value = self
                .resolve(output.name())
                .ok_or_else(|| LoadKind::NotProduced {
                    value: output.name().to_owned(),
                    node: "(graph output)".to_owned(),
                })?;
            self.index.values[value.index()].is_output = true;
            self.index.graphs[id.index()].outputs.push(value);
        }
        let order = self.sort(id, graph, first)?;
        self.index.graphs[id.index()].nodes = order;
        self.scopes.pop();
        Ok(id)
    }

    /// Kahn's algorithm over one graph; keeps the file's order where it is already one.
    fn sort(
        &self,
        graph: GraphId,
        message: &GraphProto,
        first: u32,
    ) -> Result<Vec<NodeId>, LoadKind> {
        let count = message.node.len();
        let mut needs: Vec<Vec<u32>> = vec![Vec::new(); count];
        for (local, needs) in needs.iter_mut().enumerate() {
            self.collect_needs(graph, NodeId(first + local as u32), needs);
            needs.sort_unstable();
            needs.dedup();
        }
        if needs
            .iter()
            .enumerate()
            .all(|(local, needs)| needs.iter().all(|need| (*need as usize) < local))
        {
            return Ok((0..count as u32)
                .map(|local| NodeId(first + local))
                .collect());
        }
        let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (local, needs) in needs.iter().enumerate() {
            for need in needs {
                readers[*need as usize].push(local);
            }
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..count).filter(|local| waiting[*local] == 0).collect();
        let mut order = Vec::with_capacity(count);
        while let Some(local) = ready.pop_first() {
            order.push(NodeId(first + local as u32));
            for reader in &readers[local] {
                waiting[*reader] -= 1;
                if waiting[*reader] == 0 {
                    ready.insert(*reader);
                }
            }
        }
        if order.len() == count {
            return Ok(order);
        }
        let stuck = (0..count).find(|local| waiting[*local] > 0).unwrap_or(0);
        Err(LoadKind::Cycle {
            node: label(&message.node[stuck]).to_owned(),
        })
    }

    /// The nodes of `graph` whose outputs a node reads, itself or inside its subgraphs, once for each time.
    fn collect_needs(&self, graph: GraphId, node: NodeId, needs: &mut Vec<u32>) {
        let entry = &self.index.nodes[node.index()];
        let mut need = |value: ValueId| {
            let value = &self.index.values[value.index()];
            if let (true, Origin::Output(producer, _)) = (value.graph == graph, value.origin) {
                needs.push(self.index.nodes[producer.index()].position);
            }
        };
        entry.inputs.iter().flatten().for_each(|value| need(*value));
        for subgraph in &entry.subgraphs {
            self.index.graphs[subgraph.index()]
                .outputs
                .iter()
                .for_each(|value| need(*value));
        }
        for subgraph in entry.subgraphs.clone() {
            for inner in self.index.graphs[subgraph.index()].nodes.clone() {
                self.collect_needs(graph, inner, needs);
            }
        }
    }
}

fn label(node: &crate::proto::NodeProto) -> &str {
    if node.name().is_empty() {
        node.output.first().map_or("(unnamed node)", String::as_str)
    } else {
        node.name()
    }
}
