//! From a file to a model: mapped, decoded without copying, and checked.

use std::path::Path;

use prost::Message;

use super::error::LoadKind;
use super::external::External;
use super::foreign::{foreign, other_message};
use super::tensor_problem::TensorProblem;
use super::{LoadError, Model, Source};
use crate::files;
use crate::proto::{AttributeProto, GraphProto, ModelProto, TensorProto};

/// What a file may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that one tensor may claim; a hostile file could ask for any amount.
    pub tensor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tensor_bytes: 1 << 40,
        }
    }
}

/// Maps and decodes a model, attaches its external weights, and checks names and tensor sizes.
///
/// Errors: not readable, not protobuf, no graph, broken names, weights missing or outside the
/// model's folder, unknown element types, sizes that do not fit.
pub fn load(path: &Path, limits: Limits) -> Result<Model, LoadError> {
    let fail = |kind: LoadKind| LoadError::new(path, kind);
    let (bytes, stamp) = files::bytes(path).map_err(|error| fail(error.into()))?;
    if bytes.is_empty() {
        return Err(fail(LoadKind::Empty));
    }
    if let Some(other) = foreign(&bytes) {
        return Err(fail(LoadKind::Foreign(other)));
    }
    let other = |kind: LoadKind| fail(other_message(&bytes).map_or(kind, LoadKind::Foreign));
    let mut proto = ModelProto::decode(bytes.clone())
        .map_err(|error| other(LoadKind::NotProtobuf(error.to_string())))?;
    if proto.graph.is_none() {
        return Err(other(LoadKind::NoGraph));
    }
    if proto.ir_version.is_some_and(|version| version < 3) {
        return Err(fail(LoadKind::OldIr(proto.ir_version())));
    }
    // What was read node by node has room for as many again.
    if let Some(graph) = &mut proto.graph {
        graph.node.shrink_to_fit();
    }
    let unknown_fields = if proto.encoded_len() == bytes.len() {
        Vec::new()
    } else {
        unknown_fields(&proto, &bytes)
    };
    let mut external = External::new(path);
    each_tensor(&mut proto, &mut |tensor| {
        let result = external.attach(tensor).and_then(|()| check(tensor, limits));
        result.map_err(|problem| LoadKind::Tensor {
            tensor: tensor.name().to_owned(),
            problem,
        })
    })
    .map_err(fail)?;
    let source = Source {
        path: path.to_owned(),
        total_bytes: bytes.len() as u64 + external.total_bytes(),
        external: external.any(),
        files: std::iter::once(stamp).chain(external.stamps()).collect(),
        bytes,
        unknown_fields,
    };
    Model::new(proto, source)
}

/// Calls a function for every dense tensor of the model that may hold weights.
fn each_tensor<E>(
    model: &mut ModelProto,
    visit: &mut impl FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(graph) = &mut model.graph {
        in_graph(graph, visit)?;
    }
    for function in &mut model.functions {
        for attribute in function
            .node
            .iter_mut()
            .flat_map(|node| &mut node.attribute)
            .chain(&mut function.attribute_proto)
        {
            in_attribute(attribute, visit)?;
        }
    }
    Ok(())
}

fn in_graph<E>(
    graph: &mut GraphProto,
    visit: &mut impl FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    graph.initializer.iter_mut().try_for_each(&mut *visit)?;
    for sparse in &mut graph.sparse_initializer {
        sparse
            .values
            .iter_mut()
            .chain(sparse.indices.iter_mut())
            .try_for_each(&mut *visit)?;
    }
    graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.attribute)
        .try_for_each(|attribute| in_attribute(attribute, visit))
}

fn in_attribute<E>(
    attribute: &mut AttributeProto,
    visit: &mut impl FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    attribute
        .t
        .iter_mut()
        .chain(attribute.tensors.iter_mut())
        .try_for_each(&mut *visit)?;
    attribute
        .g
        .iter_mut()
        .chain(attribute.graphs.iter_mut())
        .try_for_each(|graph| in_graph(graph, visit))
}

fn check(tensor: &TensorProto, limits: Limits) -> Result<(), TensorProblem> {
    super::tensor::expected_bytes(tensor).and_then(|(expected, stored)| match stored {
        _ if expected as u64 > limits.tensor_bytes => Err(TensorProblem::Claims(expected)),
        Some(stored) if stored != expected => Err(TensorProblem::Bytes {
            stored,
            asked: expected,
        }),
        _ => Ok(()),
    })
}

/// Names the top-level fields (of the model and its graph) that the schema lacks, where that explains why
/// the message does not encode to the file's length; else says that something deeper is not known.
fn unknown_fields(model: &ModelProto, bytes: &[u8]) -> Vec<String> {
    const MODEL: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26];
    const GRAPH: &[u32] = &[1, 2, 5, 10, 11, 12, 13, 14, 15, 16];
    let mut names = Vec::new();
    for (field, body) in fields(bytes) {
        if !MODEL.contains(&field) {
            names.push(format!("ModelProto field {field}"));
        } else if field == 7 {
            names.extend(
                fields(body)
                    .filter(|(field, _)| !GRAPH.contains(field))
                    .map(|(field, _)| format!("GraphProto field {field}")),
            );
        }
    }
    names.sort();
    names.dedup();
    if names.is_empty() && model.encoded_len() < bytes.len() {
        // A longer encoding may also be a harmless, non-canonical one; the difference tells how much it is.
        names.push(format!(
            "{} bytes inside nodes or tensors",
            bytes.len() - model.encoded_len()
        ));
    }
    names
}

/// Walks one message's fields: number, and the bytes of length-delimited ones.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    std::iter::from_fn(move || {
        let (field, wire) = decode_key(&mut bytes).ok()?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut bytes).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => decode_varint(&mut bytes).ok()? as usize,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (body, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some((field, body))
    })
}
