//! Building the index: every name is resolved where it is read, and nodes are put in an order of producers before readers.

use std::collections::HashMap;

use super::error::LoadKind;
use super::index::{GraphEntry, GraphId, Index, NodeEntry, NodeId, Origin, ValueEntry, ValueId};
use crate::proto::{GraphProto, ModelProto, NodeProto};

impl Index {
    /// Resolves all names of a model. Errors: no graph, a name that is given twice or that nothing gives, a circle of nodes.
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

    /// Reads a graph, and those in it.
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
        self.define_ends(graph, id)?;
        let first = self.index.nodes.len() as u32;
        self.define_nodes(graph, id)?;
        for (position, node) in graph.node.iter().enumerate() {
            let node_id = NodeId(first + position as u32);
            self.read_inputs(node, node_id)?;
            self.subgraphs(node, node_id, position as u32, &path)?;
        }
        self.mark_outputs(graph, id)?;
        let order = self.sort(id, graph, first)?;
        self.index.graphs[id.index()].nodes = order;
        self.scopes.pop();
        Ok(id)
    }

    /// Defines what a graph has without computing it: initializers and inputs.
    fn define_ends(&mut self, graph: &'a GraphProto, id: GraphId) -> Result<(), LoadKind> {
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
        Ok(())
    }

    /// Defines what a graph's nodes give.
    fn define_nodes(&mut self, graph: &'a GraphProto, id: GraphId) -> Result<(), LoadKind> {
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
        Ok(())
    }

    /// Resolves what a node reads. Errors: nothing gives it.
    fn read_inputs(&mut self, node: &NodeProto, id: NodeId) -> Result<(), LoadKind> {
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
                .push((id, slot as u32));
            inputs.push(Some(value));
        }
        self.index.nodes[id.index()].inputs = inputs;
        Ok(())
    }

    /// Reads the graphs in a node, which stands at `position` of a graph with this path.
    fn subgraphs(
        &mut self,
        node: &'a NodeProto,
        id: NodeId,
        position: u32,
        path: &[(u32, u32, Option<u32>)],
    ) -> Result<(), LoadKind> {
        for (place, attribute) in node.attribute.iter().enumerate() {
            let lists = attribute
                .graphs
                .iter()
                .enumerate()
                .map(|(at, graph)| (graph, Some(at as u32)));
            for (subgraph, at) in attribute.g.iter().map(|graph| (graph, None)).chain(lists) {
                let path = [path, &[(position, place as u32, at)]].concat();
                let sub = self.graph(subgraph, Some(id), attribute.name().to_owned(), path)?;
                self.index.nodes[id.index()].subgraphs.push(sub);
            }
        }
        Ok(())
    }

    /// Marks the values that a graph gives. Errors: nothing gives one.
    fn mark_outputs(&mut self, graph: &GraphProto, id: GraphId) -> Result<(), LoadKind> {
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
        Ok(())
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

fn label(node: &NodeProto) -> &str {
    if node.name().is_empty() {
        node.output.first().map_or("(unnamed node)", String::as_str)
    } else {
        node.name()
    }
}
