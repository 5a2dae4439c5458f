//! The products whose weights may be zeroed, and why others stay as they are.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use super::pattern::{MaskShape, SparsityPattern};
use crate::linear::Linear;
use crate::model::Model;
use crate::proto::Dtype;

/// One product that takes part.
#[derive(Clone, Debug)]
pub struct SparsePart {
    /// How its weight is read as a matrix.
    pub view: Linear,
    /// What passes over the data call it: its output, where that is the plain sum; else its constant.
    pub layer: String,
    /// The constant that holds its weights.
    pub constant: String,
    /// Its matrices.
    pub shape: MaskShape,
}

/// Weights that stay as they are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LeftDense {
    /// The constant.
    pub weight: String,
    /// Its elements.
    pub elements: usize,
    /// Why.
    pub reason: String,
}

/// Sorts the products of a model.
pub(super) fn parts(
    model: &Model,
    views: &[Linear],
    pattern: SparsityPattern,
    exclude: &[Glob],
) -> (Vec<SparsePart>, Vec<LeftDense>) {
    let exclude: Vec<GlobMatcher> = exclude.iter().map(Glob::compile_matcher).collect();
    let (mut parts, mut left) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for view in views {
        let index = model.index();
        let constant = index.value(view.weight.constant).name.clone();
        let shape = MaskShape {
            groups: view.groups,
            rows: view.rows,
            columns: view.columns,
            taps: view.taps(),
        };
        if !seen.insert(constant.clone()) || shape.elements() == 0 {
            continue;
        }
        let named = |name: &str| exclude.iter().any(|glob| glob.is_match(name));
        let reason = if named(&constant) || named(model.node_label(view.node)) {
            Some("excluded".to_owned())
        } else {
            unfit(model, view, shape).or_else(|| pattern.misfit(shape))
        };
        match reason {
            Some(reason) => left.push(LeftDense {
                weight: constant,
                elements: shape.elements(),
                reason,
            }),
            None => parts.push(SparsePart {
                layer: view.output.map_or_else(
                    || constant.clone(),
                    |output| index.value(output).name.clone(),
                ),
                view: view.clone(),
                constant,
                shape,
            }),
        }
    }
    (parts, left)
}

/// Why the weights of a product can not be zeroed one by one.
fn unfit(model: &Model, view: &Linear, shape: MaskShape) -> Option<String> {
    if !view.weight.is_own() {
        return Some("several nodes read it".to_owned());
    }
    let Some(tensor) = model.constant(view.weight.constant) else {
        return Some("it is no constant".to_owned());
    };
    let readers = &model.index().value(view.weight.constant).readers;
    let direct = readers.iter().any(|(node, _)| *node == view.node);
    let packed = view.weight.is_packed();
    if direct && !packed && !tensor.dtype.is_float() {
        return Some("its operator reads it as whole numbers".to_owned());
    }
    let plain = matches!(
        tensor.dtype,
        Dtype::Float
            | Dtype::Double
            | Dtype::Float16
            | Dtype::Bfloat16
            | Dtype::Int8
            | Dtype::Uint8
            | Dtype::Int4
            | Dtype::Uint4
    );
    let whole = view.matrix(model).is_some_and(|matrix| {
        matrix.len() == shape.elements() && (packed || tensor.elements() == matrix.len())
    });
    (!plain || !whole).then(|| "its numbers are packed".to_owned())
}
