//! Half precision becomes single, and whole numbers below eight bits become bytes: tract has neither.

use std::collections::BTreeMap;

use super::lowering::Lowering;
use crate::model::TensorRef;
use crate::model::edit::{NodeExt, each_graph};
use crate::proto::{AttributeProto, Dtype, GraphProto, NodeProto, TensorProto};
use crate::proto::{ValueInfoProto, type_proto};
use crate::run::Unverifiable;

/// Raises types everywhere: constants, declared types, and attributes that name a type.
pub(super) fn raise(lowering: &mut Lowering) -> Result<(), Unverifiable> {
    each_graph(lowering.graph(), &mut |graph| {
        let packed = packed(graph);
        graph.initializer.iter_mut().try_for_each(tensor)?;
        graph
            .input
            .iter_mut()
            .chain(&mut graph.output)
            .for_each(declared);
        for node in &mut graph.node {
            let bits = if node.op_type() == "QuantizeLinear" {
                node.input(2).and_then(|name| packed.get(name))
            } else {
                None
            };
            node.attribute
                .extend(bits.map(|bits| AttributeProto::int(BITS, *bits)));
            attributes(node)?;
        }
        Ok(())
    })
}

/// The attribute that remembers how many bits a node rounds to, where its type is raised to bytes.
pub(super) const BITS: &str = "bits of the result";

/// Constants of fewer than eight bits, and how many they have.
fn packed(graph: &GraphProto) -> BTreeMap<String, i64> {
    let bits = |tensor: &TensorProto| {
        let bits = Dtype::from_code(tensor.data_type()).map_or(0, |dtype| dtype.bits());
        (1..8).contains(&bits).then_some(bits as i64)
    };
    let initializers = graph
        .initializer
        .iter()
        .filter_map(|tensor| Some((tensor.name().to_owned(), bits(tensor)?)));
    let nodes = graph
        .node
        .iter()
        .filter(|node| node.op_type() == "Constant")
        .filter_map(|node| {
            let tensor = node
                .attribute
                .iter()
                .find_map(|attribute| attribute.t.as_ref())?;
            Some((node.output.first()?.clone(), bits(tensor)?))
        });
    initializers.chain(nodes).collect()
}

/// The type that stands for another; `None` where it may stay.
fn raised(dtype: Dtype) -> Option<Dtype> {
    match dtype {
        Dtype::Float16 | Dtype::Bfloat16 => Some(Dtype::Float),
        Dtype::Int4 | Dtype::Int2 => Some(Dtype::Int8),
        Dtype::Uint4 | Dtype::Uint2 => Some(Dtype::Uint8),
        _ => None,
    }
}

fn tensor(message: &mut TensorProto) -> Result<(), Unverifiable> {
    let name = message.name().to_owned();
    let Some(dtype) = Dtype::from_code(message.data_type()) else {
        return Err(Unverifiable::new(format!(
            "tensor '{name}' has an unknown type"
        )));
    };
    let Some(to) = raised(dtype) else {
        return Ok(());
    };
    let lost = || Unverifiable::new(format!("tensor '{name}' of type {dtype} can not be read"));
    let tensor = TensorRef::from_proto(message).map_err(|_| lost())?;
    *message = raise_tensor(&tensor, to).ok_or_else(lost)?.to_proto(&name);
    Ok(())
}

fn raise_tensor(tensor: &TensorRef, to: Dtype) -> Option<TensorRef> {
    if to == Dtype::Float {
        return Some(TensorRef::from_f32(tensor.dims.clone(), &tensor.to_f32()?));
    }
    let bytes: Vec<u8> = tensor
        .to_i64()?
        .into_iter()
        .map(|number| number as u8)
        .collect();
    Some(TensorRef {
        dtype: to,
        dims: tensor.dims.clone(),
        bytes: bytes.into(),
    })
}

fn declared(info: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        && let Some(to) = Dtype::from_code(tensor.elem_type()).and_then(raised)
    {
        tensor.elem_type = Some(to.code());
    }
}

fn attributes(node: &mut NodeProto) -> Result<(), Unverifiable> {
    let label = node.label();
    let op = node.op_type().to_owned();
    let mut bits = None;
    for attribute in &mut node.attribute {
        attribute
            .t
            .iter_mut()
            .chain(&mut attribute.tensors)
            .try_for_each(tensor)?;
        if let Some(dtype) = named_type(&op, attribute)
            && let Some(to) = raised(dtype)
        {
            if op == "QuantizeLinear" && to != Dtype::Float {
                bits = Some(AttributeProto::int(BITS, dtype.bits() as i64));
            } else if to != Dtype::Float {
                return Err(Unverifiable::new(format!(
                    "{label}: rounds to fewer than eight bits"
                )));
            }
            attribute.i = Some(i64::from(to.code()));
        }
    }
    node.attribute.extend(bits);
    Ok(())
}

/// The type that an attribute names, if that is what it is for.
fn named_type(op: &str, attribute: &AttributeProto) -> Option<Dtype> {
    let names = match attribute.name() {
        "to" => op == "Cast",
        "dtype" | "output_dtype" | "softmax_precision" => true,
        _ => false,
    };
    if names {
        Dtype::from_code(i32::try_from(attribute.i()).ok()?)
    } else {
        None
    }
}
