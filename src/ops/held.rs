//! Nodes that hold what they give: one of the two places where the format keeps tensors.

use super::meaning;
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};

/// Whether a node gives what its attributes hold.
pub fn holds_tensor(node: &NodeProto) -> bool {
    meaning(node).holds_tensor
}

/// The dense tensor of numbers that a node holds, in whichever of its attributes.
pub fn held_tensor(node: &NodeProto) -> Option<TensorRef> {
    if !holds_tensor(node) {
        return None;
    }
    let scalar = |dtype: Dtype, bytes: &[u8]| TensorRef {
        dtype,
        dims: Vec::new(),
        bytes: bytes::Bytes::copy_from_slice(bytes),
    };
    let attribute = node.attribute.first()?;
    match attribute.name() {
        "value" => TensorRef::from_proto(attribute.t.as_ref()?).ok(),
        "value_float" => Some(scalar(Dtype::Float, &attribute.f().to_le_bytes())),
        "value_int" => Some(scalar(Dtype::Int64, &attribute.i().to_le_bytes())),
        "value_floats" => Some(TensorRef::from_f32(
            vec![attribute.floats.len()],
            &attribute.floats,
        )),
        "value_ints" => Some(TensorRef::from_i64(
            vec![attribute.ints.len()],
            &attribute.ints,
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edit::NodeExt;
    use crate::proto::AttributeProto;

    #[test]
    fn nodes_that_hold_numbers_are_told_from_others() {
        let held = AttributeProto::ints("value_ints", &[4, 5]);
        let mut node = NodeProto::standard("Constant", &[], "c");
        node.set(held.clone());
        let tensor = held_tensor(&node).unwrap();
        assert_eq!(
            (tensor.dims, &*tensor.bytes),
            (
                vec![2],
                &[4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0][..]
            )
        );
        node.domain = Some("ai.onnx".into());
        assert!(holds_tensor(&node));
        node.domain = Some("com.example".into());
        assert!(!holds_tensor(&node) && held_tensor(&node).is_none());
        let mut node = NodeProto::standard("Identity", &[], "c");
        node.set(held);
        assert!(held_tensor(&node).is_none());
    }
}
