//! Names that a person knows.

use crate::model::{Model, NodeId, ValueId};
use crate::ops::{Flow, flow};

/// The name of a weight; where an exporter numbered it, that of the node that computes with it.
pub(super) fn of_weight(model: &Model, weight: ValueId) -> &str {
    let name = &model.index().value(weight).name;
    if !is_numbered(name) {
        return name;
    }
    reader(model, weight)
        .map(|node| model.node(node).name())
        .filter(|node| !node.is_empty() && !is_numbered(node))
        .unwrap_or(name)
}

/// The first node that computes with a value, past those that only lay it out anew.
fn reader(model: &Model, value: ValueId) -> Option<NodeId> {
    const STEPS: usize = 4;
    let mut value = value;
    for _ in 0..STEPS {
        let (node, _) = *model.index().value(value).readers.first()?;
        let lays_out = matches!(
            flow(model.node(node)),
            Flow::Same | Flow::Converted | Flow::Reshaped | Flow::Permuted | Flow::Dequantized
        );
        if !lays_out {
            return Some(node);
        }
        value = model.index().node(node).output(0)?;
    }
    None
}

/// Whether a name is an exporter's count and says nothing: `onnx::Conv_1001`, `val_76`, `const_fold_opt__12`, `318`.
fn is_numbered(name: &str) -> bool {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let stem = stem.trim_matches('_').to_ascii_lowercase();
    let counted = [
        "",
        "const",
        "constant",
        "const_fold_opt",
        "initializer",
        "t",
        "tensor",
        "tmp",
        "val",
        "value",
    ];
    stem.starts_with("onnx::") || counted.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    #[test]
    fn counts_are_no_names() {
        for name in [
            "onnx::Conv_1001",
            "onnx::MatMul_7",
            "val_76",
            "_val_3",
            "318",
            "const_fold_opt__12",
            "t12",
        ] {
            assert!(is_numbered(name), "{name}");
        }
        for name in [
            "conv1.weight",
            "layer_2",
            "w1",
            "onnx::weight",
            "/Constant_output_0",
            "fc",
            "p_conv1_weight",
        ] {
            assert!(!is_numbered(name), "{name}");
        }
    }

    #[test]
    fn a_numbered_weight_is_called_after_its_node() {
        let model = text::model(
            "input x f32[n,4]\nconst val_3 f32[8,4]\nconst named f32[8,3]\nt = Transpose(val_3) {perm=[1,0]}\nhidden = MatMul(x, t)\ny = MatMul(hidden, named)\noutput y",
        )
        .unwrap();
        let of = |name: &str| of_weight(&model, model.index().main_value(name).unwrap());
        assert_eq!([of("val_3"), of("named")], ["hidden", "named"]);
    }
}
