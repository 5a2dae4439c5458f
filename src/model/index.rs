//! Names resolved once: which value a node reads, who produced it, who else reads it.

use std::collections::HashMap;

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

impl NodeEntry {
    /// The value at an input, where one is given.
    pub fn input(&self, slot: usize) -> Option<ValueId> {
        self.inputs.get(slot).copied().flatten()
    }

    /// The value at an output, where one is given.
    pub fn output(&self, slot: usize) -> Option<ValueId> {
        self.outputs.get(slot).copied().flatten()
    }
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
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) values: Vec<ValueEntry>,
}

impl Index {
    /// The main graph.
    pub const MAIN: GraphId = GraphId(0);

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
