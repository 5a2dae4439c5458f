//! A file as a graph, losslessly: the prost message *is* the model, plus an index of its names.
//!
//! Weights are ranges of the file's bytes ([`bytes::Bytes`], mapped where it is large); nothing is copied until it is changed.
//! Invariant: no operator names, no floats, no second representation of the graph.

pub mod edit;
mod ends;
mod error;
mod external;
mod extract;
mod foreign;
mod index;
mod load;
mod names;
mod rename;
mod resolve;
mod save;
mod tensor;
mod tensor_problem;
#[doc(hidden)]
pub mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use ends::Ends;
pub use error::LoadError;
pub use extract::extract_subgraph;
pub use index::{GraphEntry, GraphId, Index, NodeEntry, NodeId, Origin, ValueEntry, ValueId};
pub use load::{Limits, load};
pub use names::Names;
pub use rename::{bind, rename};
pub use save::{encoded_len, save, stage};
pub(crate) use tensor::bits_at;
pub use tensor::{TensorError, TensorRef};

use crate::files::Stamp;
use crate::proto::{GraphProto, ModelProto, NodeProto};

/// A model in memory.
#[derive(Clone, Debug)]
pub struct Model {
    /// The message itself. External weights are already attached as `raw_data` (mapped, not read).
    #[doc(hidden)]
    pub proto: ModelProto,
    /// Where it came from.
    #[doc(hidden)]
    pub source: Source,
    /// What is left of its inputs and outputs, where it was cut out of another model.
    #[doc(hidden)]
    pub ends: Ends,
    /// Shared by copies until one is indexed anew.
    index: Arc<Index>,
}

/// Where a model came from, and what its file looked like.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The `.onnx` file; empty for a model made in memory.
    pub path: PathBuf,
    /// The file's bytes (a memory map if it is large).
    pub bytes: bytes::Bytes,
    /// The files that were read, the model's own first, those with its external weights after it.
    pub files: Vec<Stamp>,
    /// Bytes on disk, external data included.
    pub total_bytes: u64,
    /// Whether weights stood in files of their own; saving then does the same.
    pub external: bool,
    /// Fields that this tool's schema does not know and therefore cannot write back.
    pub unknown_fields: Vec<String>,
}

impl Source {
    /// Errors: a large file has changed since it was opened, so that its bytes must not be touched any more.
    pub fn check(&self) -> Result<(), LoadError> {
        self.files.iter().try_for_each(|file| {
            file.check()
                .map_err(|error| LoadError::new(&file.path, error.into()))
        })
    }

    /// SHA-256 of the file, in hex.
    pub fn sha256(&self) -> String {
        crate::hash::sha256_hex(&self.bytes)
    }
}

#[doc(hidden)]
impl Model {
    /// Indexes a message. Errors: names that clash or are not produced, cycles.
    pub fn new(proto: ModelProto, source: Source) -> Result<Self, LoadError> {
        let index = Index::build(&proto).map_err(|kind| LoadError::new(&source.path, kind))?;
        Ok(Model {
            proto,
            source,
            ends: Ends::default(),
            index: Arc::new(index),
        })
    }

    /// A graph as a model of its own, under the versions of this one. Errors: names that clash or are not produced, cycles.
    pub(crate) fn with_graph(&self, graph: GraphProto) -> Result<Self, LoadError> {
        let ModelProto {
            ir_version,
            opset_import,
            ..
        } = &self.proto;
        let proto = ModelProto {
            ir_version: *ir_version,
            opset_import: opset_import.clone(),
            graph: Some(graph),
            ..Default::default()
        };
        Model::new(proto, Source::default())
    }

    /// The index of values, nodes and graphs.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Takes up the message's names again after an edit.
    pub fn reindex(&mut self) -> Result<(), LoadError> {
        let index = Index::build(&self.proto);
        self.index = Arc::new(index.map_err(|kind| LoadError::new(&self.source.path, kind))?);
        Ok(())
    }

    /// The file's name for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.source.path
    }

    /// The newest version of a domain's operators that the model may use; 1 when not declared.
    pub(crate) fn opset(&self, domain: &str) -> i64 {
        let same = |other: &str| normal_domain(other) == normal_domain(domain);
        self.proto
            .opset_import
            .iter()
            .filter(|import| same(import.domain()))
            .map(|import| import.version())
            .max()
            .unwrap_or(1)
    }

    /// One graph: the main one or a subgraph.
    pub fn graph(&self, id: GraphId) -> &GraphProto {
        let mut graph = match &self.proto.graph {
            Some(graph) => graph,
            None => return empty_graph(),
        };
        for &(node, attribute, position) in &self.index.graphs[id.index()].path {
            let attribute = &graph.node[node as usize].attribute[attribute as usize];
            graph = match position {
                Some(position) => &attribute.graphs[position as usize],
                None => match &attribute.g {
                    Some(graph) => graph,
                    None => return empty_graph(),
                },
            };
        }
        graph
    }

    /// One graph, to be edited; call [`Model::reindex`] when names or nodes changed.
    pub(crate) fn graph_mut(&mut self, id: GraphId) -> &mut GraphProto {
        let path = self.index.graphs[id.index()].path.clone();
        let mut graph = self.proto.graph.get_or_insert_default();
        for (node, attribute, position) in path {
            let attribute = &mut graph.node[node as usize].attribute[attribute as usize];
            graph = match position {
                Some(position) => &mut attribute.graphs[position as usize],
                None => attribute.g.get_or_insert_default(),
            };
        }
        graph
    }

    /// One node.
    pub(crate) fn node(&self, id: NodeId) -> &NodeProto {
        let entry = self.index.node(id);
        &self.graph(entry.graph).node[entry.position as usize]
    }

    /// One node, to be edited; call [`Model::reindex`] when its inputs, outputs or subgraphs changed.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut NodeProto {
        let entry = self.index.node(id);
        let (graph, position) = (entry.graph, entry.position as usize);
        &mut self.graph_mut(graph).node[position]
    }

    /// How plans call a node: its name, unless another in its graph is called so, else that of its first output; with the
    /// prefix of its subgraph.
    pub(crate) fn node_in_plan(&self, id: NodeId) -> String {
        let (entry, node) = (self.index.node(id), self.node(id));
        let by_output = node
            .output
            .iter()
            .find(|name| !name.is_empty())
            .filter(|_| !entry.has_own_name);
        format!(
            "{}{}",
            self.index.prefix(self, entry.graph),
            by_output.map_or(node.name(), String::as_str)
        )
    }

    /// How messages call a node: its name, else its first output's.
    pub(crate) fn node_label(&self, id: NodeId) -> &str {
        let node = self.node(id);
        if !node.name().is_empty() {
            return node.name();
        }
        node.output
            .iter()
            .find(|name| !name.is_empty())
            .map_or("(unnamed node)", String::as_str)
    }
}

/// `ai.onnx` is written as the empty string in most files.
pub fn normal_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn empty_graph() -> &'static GraphProto {
    static EMPTY: std::sync::OnceLock<GraphProto> = std::sync::OnceLock::new();
    EMPTY.get_or_init(GraphProto::default)
}
