//! The constants of a model, wherever the format keeps them: initializers, and nodes that hold what they give.
//!
//! Those that readers share by chance are told apart, those of functions stand in the main graph once their calls are inlined,
//! and [`Origins`] says what the file calls them. Invariant: constants are moved and renamed, never computed.

mod calls;
mod error;
pub mod functions;
mod origins;
mod unshare;

pub use error::InlineError;
pub use origins::{Copies, Family, Origins};
pub use unshare::{Sharing, equal_copies, reshare, shared, unshare};

use crate::model::edit::NodeExt;
use crate::model::{Model, Origin, TensorRef, ValueId};
use crate::ops::{held_tensor, holds_tensor};
use crate::proto::{AttributeProto, NodeProto, TensorProto};

#[doc(hidden)]
impl Model {
    /// The tensor message behind a constant value: an initializer, or the `value` of a node that holds it.
    pub(crate) fn tensor_proto(&self, value: ValueId) -> Option<&TensorProto> {
        let entry = self.index().value(value);
        match entry.origin {
            Origin::Initializer(position) => {
                self.graph(entry.graph).initializer.get(position as usize)
            }
            Origin::Output(node, 0) => held_attribute(self.node(node))?.t.as_ref(),
            _ => None,
        }
    }

    /// The same, to be edited in place (dims and bytes; not its name).
    pub fn tensor_proto_mut(&mut self, value: ValueId) -> Option<&mut TensorProto> {
        let entry = self.index().value(value);
        let (graph, origin) = (entry.graph, entry.origin);
        match origin {
            Origin::Initializer(position) => {
                self.graph_mut(graph).initializer.get_mut(position as usize)
            }
            Origin::Output(node, 0) => {
                held_attribute(self.node(node))?;
                let attribute = self
                    .node_mut(node)
                    .attribute
                    .iter_mut()
                    .find(|attribute| attribute.name() == "value")?;
                attribute.t.as_mut()
            }
            _ => None,
        }
    }

    /// The constant tensor behind a value: type, dims, and its bytes as they lie in the file.
    pub fn constant(&self, value: ValueId) -> Option<TensorRef> {
        let entry = self.index().value(value);
        if let Origin::Output(node, 0) = entry.origin {
            return held_tensor(self.node(node));
        }
        TensorRef::from_proto(self.tensor_proto(value)?).ok()
    }
}

fn held_attribute(node: &NodeProto) -> Option<&AttributeProto> {
    if holds_tensor(node) {
        node.attribute("value")
    } else {
        None
    }
}
