//! The copy of a model that is being lowered.

use crate::model::Names;
use crate::proto::{GraphProto, ModelProto};

/// State that all passes share.
pub(super) struct Lowering {
    pub(super) proto: ModelProto,
    pub(super) names: Names,
    /// Version of the standard's operators.
    pub(super) opset: i64,
    /// Names that must stay: graph outputs and taps.
    pub(super) wanted: Vec<String>,
    /// A node that could not be rewritten for want of a shape, a type or a content.
    pub(super) waiting: Option<String>,
}

impl Lowering {
    /// The main graph.
    pub(super) fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }
}
