//! Made-up inputs of given sizes.

use std::collections::BTreeMap;

use onnx_prune::model::TensorRef;
use onnx_prune::proto::Dtype;
use onnx_prune::rng::rng;
use onnx_prune::run::Tensors;
use rand::Rng;

use super::fill::{encode, normal};
use super::manifest::{Axis, Graph, Input};

/// A tensor for every input; a name of two axes joined by `+` stands for their sum.
pub fn inputs(graph: &Graph, sizes: &BTreeMap<String, usize>) -> Tensors {
    graph
        .inputs
        .iter()
        .map(|input| (input.name.clone(), tensor(input, sizes)))
        .collect()
}

fn tensor(input: &Input, sizes: &BTreeMap<String, usize>) -> TensorRef {
    let size = |name: &str| sizes.get(name).copied();
    let extent = |(axis, example): (&Axis, &usize)| match axis {
        Axis::Number(number) => *number,
        Axis::Name(name) => size(name)
            .or_else(|| name.split('+').map(|part| size(part.trim())).sum())
            .unwrap_or(*example),
    };
    let dims: Vec<usize> = input.shape.iter().zip(&input.example).map(extent).collect();
    let mut rng = rng(dims.iter().sum::<usize>() as u64, &input.name);
    let mut draw = || match (input.low, input.high) {
        (Some(low), Some(high)) => low + (high - low) * rng.random::<f64>(),
        _ => normal(&mut rng),
    };
    let dtype = dtype(&input.dtype);
    let count = dims.iter().product();
    let numbers: Vec<f64> = (0..count)
        .map(|_| {
            if dtype.is_float() {
                draw()
            } else {
                draw().floor()
            }
        })
        .collect();
    TensorRef {
        dtype,
        dims,
        bytes: encode(dtype, numbers).into(),
    }
}

fn dtype(name: &str) -> Dtype {
    match name {
        "float32" => Dtype::Float,
        "float64" => Dtype::Double,
        "float16" => Dtype::Float16,
        "bfloat16" => Dtype::Bfloat16,
        "int32" => Dtype::Int32,
        "int64" => Dtype::Int64,
        "bool" => Dtype::Bool,
        other => panic!("inputs of type {other} are not made up yet"),
    }
}
