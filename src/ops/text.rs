//! Strings, and n-grams counted in them: tables in attributes, no features that could go.

use super::broadcast::broadcast_shape;
use super::frozen::{FrozenOperator, outputs};
use super::{InferError, NodeView, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;

const TEXT: &str = "works on text";

fn shaped(node: &NodeView, dtype: Dtype) -> Fact {
    Fact {
        dtype: Some(dtype),
        shape: node.shape(0).map(<[Dim]>::to_vec),
        contents: None,
    }
}

/// Stop words are left out, so that the last axis may shorten.
fn normalized(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let mut fact = shaped(node, Dtype::String);
    let stops = node
        .attribute("stopwords")
        .is_some_and(|words| !words.strings.is_empty());
    if let Some((axis, last)) = fact
        .shape
        .as_mut()
        .and_then(|dims| dims.iter_mut().enumerate().next_back())
        .filter(|_| stops)
    {
        *last = node.unknown(0, axis);
    }
    Ok(outputs(node, [fact]))
}

/// One more axis, as long as the most parts, and the counts of parts.
fn parts(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let counts = shaped(node, Dtype::Int64);
    let mut split = shaped(node, Dtype::String);
    if let Some(dims) = &mut split.shape {
        dims.push(node.unknown(0, dims.len()));
    }
    Ok(outputs(node, [split, counts]))
}

/// The last axis becomes one number per n-gram.
fn counted(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let grams = node
        .ints("ngram_indexes")
        .and_then(|indices| indices.iter().max())
        .map(|last| Dim::Num(last.saturating_add(1)));
    let shape = node.shape(0).zip(grams).and_then(|(dims, grams)| {
        Some(
            dims.split_last()?
                .1
                .iter()
                .cloned()
                .chain([grams])
                .collect(),
        )
    });
    Ok(outputs(
        node,
        [Fact {
            dtype: Some(Dtype::Float),
            shape,
            contents: None,
        }],
    ))
}

/// The extents that both texts broadcast to.
fn joined(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let shape = match (node.shape(0), node.shape(1)) {
        (Some(a), Some(b)) => Some(broadcast_shape(&[a, b])?),
        _ => None,
    };
    Ok(outputs(
        node,
        [Fact {
            dtype: Some(Dtype::String),
            shape,
            contents: None,
        }],
    ))
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx(
        "RegexFullMatch",
        &FrozenOperator {
            reason: TEXT,
            infer: |node| Ok(outputs(node, [shaped(node, Dtype::Bool)])),
        },
    ),
    Rule::onnx(
        "StringConcat",
        &FrozenOperator {
            reason: TEXT,
            infer: joined,
        },
    ),
    Rule::onnx(
        "StringNormalizer",
        &FrozenOperator {
            reason: TEXT,
            infer: normalized,
        },
    ),
    Rule::onnx(
        "StringSplit",
        &FrozenOperator {
            reason: TEXT,
            infer: parts,
        },
    ),
    Rule::onnx(
        "TfIdfVectorizer",
        &FrozenOperator {
            reason: "n-grams are attributes",
            infer: counted,
        },
    ),
    Rule::microsoft(
        "NGramRepeatBlock",
        &FrozenOperator {
            reason: "n-grams of tokens",
            infer: |node| Ok(outputs(node, [node.input(1).cloned().unwrap_or_default()])),
        },
    ),
    Rule::microsoft(
        "MurmurHash3",
        &FrozenOperator {
            reason: TEXT,
            infer: |node| Ok(outputs(node, [shaped(node, Dtype::Uint32)])),
        },
    ),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn shapes_go_on() {
        OpCase::op("StringSplit")
            .outputs(2)
            .input("2x3")
            .expect_shapes("2x3x?out0.2 2x3");
        OpCase::op("RegexFullMatch")
            .input("2x3")
            .expect_shapes("2x3");
        OpCase::op("StringConcat")
            .input("2x3")
            .input("3")
            .expect_shapes("2x3");
        OpCase::op("TfIdfVectorizer")
            .ints("ngram_indexes", &[0, 4, 2])
            .input("i64:nx7")
            .expect_shapes("nx5");
    }
}
