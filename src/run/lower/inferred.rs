//! What is known of the values of the main graph, given concrete inputs.

use std::collections::BTreeMap;

use crate::model::TensorRef;
use crate::proto::{Dtype, GraphProto, ModelProto};

/// What is known of values of the main graph, by name; what stands here is certain, what is missing is merely not known.
#[derive(Clone, Debug, Default)]
pub struct InferredFacts {
    /// Element types.
    pub dtypes: BTreeMap<String, Dtype>,
    /// Extents.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// How many axes there are, also where not all extents are known.
    pub ranks: BTreeMap<String, usize>,
    /// Elements of small tensors that do not depend on the contents of the inputs.
    pub contents: BTreeMap<String, TensorRef>,
    /// What does not fit, by the outputs of the node.
    pub problems: BTreeMap<String, String>,
}

/// Infers what is known of a model whose inputs have concrete shapes.
pub type Infer = dyn Fn(&ModelProto) -> InferredFacts + Send + Sync;

/// A value of the main graph that is known: a constant of it, or computed from such.
pub(super) fn constant_of(
    name: &str,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Option<TensorRef> {
    let constant = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name() == name)
        .and_then(|tensor| TensorRef::from_proto(tensor).ok());
    constant.or_else(|| known.contents.get(name).cloned())
}
