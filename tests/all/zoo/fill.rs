//! Weights for a graph that was stripped of them, drawn as the notes in its tensors say.

use std::io::Read;

use onnx_prune::model::{Model, Source};
use onnx_prune::proto::{AttributeProto, Dtype, GraphProto, ModelProto, NodeProto, TensorProto};
use onnx_prune::rng::rng;
use prost::Message;
use rand::Rng;
use rayon::prelude::*;

use super::manifest::{Graph, Zoo};

/// A graph of the zoo, filled.
pub fn load(zoo: &Zoo, graph: &Graph) -> Result<Model, String> {
    load_by(zoo, graph, fill)
}

/// A graph of the zoo, all of whose weights are zeros that stand in memory once.
pub fn load_bare(zoo: &Zoo, graph: &Graph) -> Result<Model, String> {
    load_by(zoo, graph, zero)
}

fn load_by(zoo: &Zoo, graph: &Graph, fill: fn(&mut ModelProto)) -> Result<Model, String> {
    let path = zoo
        .folder
        .join("graphs")
        .join(format!("{}.onnx.gz", graph.name));
    let packed =
        std::fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let mut proto =
        ModelProto::decode(bytes::Bytes::from(bytes)).map_err(|error| error.to_string())?;
    fill(&mut proto);
    Model::new(proto, Source::default()).map_err(|error| error.to_string())
}

fn zero(model: &mut ModelProto) {
    let stripped = stripped(model);
    let length = |tensor: &TensorProto| {
        let dtype = Dtype::from_code(tensor.data_type()).unwrap();
        dtype.bytes_for(tensor.dims.iter().product::<i64>() as usize)
    };
    let longest = stripped
        .iter()
        .map(|(_, tensor)| length(tensor))
        .max()
        .unwrap_or(0);
    let zeros = bytes::Bytes::from(vec![0u8; longest]);
    for (_, tensor) in stripped {
        tensor.doc_string = None;
        tensor.raw_data = Some(zeros.slice(..length(tensor)));
    }
}

fn stripped(model: &mut ModelProto) -> Stripped<'_> {
    let mut stripped = Vec::new();
    model
        .graph
        .iter_mut()
        .for_each(|graph| in_graph(graph, &mut stripped));
    model
        .functions
        .iter_mut()
        .for_each(|function| in_nodes(&mut function.node, &mut stripped));
    stripped
}

/// Gives every stripped tensor its numbers, in the main graph, in subgraphs and in functions.
pub fn fill(model: &mut ModelProto) {
    stripped(model)
        .into_par_iter()
        .for_each(|(name, tensor)| draw(&name, tensor));
}

/// A name to draw by, and the tensor to fill.
type Stripped<'a> = Vec<(String, &'a mut TensorProto)>;

fn in_graph<'a>(graph: &'a mut GraphProto, found: &mut Stripped<'a>) {
    found.extend(
        graph
            .initializer
            .iter_mut()
            .filter(|tensor| is_stripped(tensor))
            .map(|tensor| (tensor.name().to_owned(), tensor)),
    );
    in_nodes(&mut graph.node, found);
}

fn in_nodes<'a>(nodes: &'a mut [NodeProto], found: &mut Stripped<'a>) {
    for node in nodes {
        let value = if node.op_type() == "Constant" {
            node.output.first().cloned()
        } else {
            None
        };
        for AttributeProto {
            name, t, g, graphs, ..
        } in &mut node.attribute
        {
            g.iter_mut()
                .chain(graphs)
                .for_each(|graph| in_graph(graph, found));
            if let (Some(value), Some(tensor), Some("value")) = (&value, t, name.as_deref())
                && is_stripped(tensor)
            {
                found.push((value.clone(), tensor));
            }
        }
    }
}

fn is_stripped(tensor: &TensorProto) -> bool {
    let empty = tensor.raw_data().is_empty()
        && tensor.float_data.is_empty()
        && tensor.double_data.is_empty()
        && tensor.int32_data.is_empty()
        && tensor.int64_data.is_empty()
        && tensor.external_data.is_empty();
    empty && tensor.doc_string().starts_with("fill: ") && tensor.dims.iter().product::<i64>() > 0
}

fn draw(name: &str, tensor: &mut TensorProto) {
    let rule = tensor.doc_string.take().unwrap();
    let mut words = rule.split_whitespace().skip(1);
    let kind = words.next().unwrap().to_owned();
    let numbers: Vec<f64> = words.map(|word| word.parse().unwrap()).collect();
    let dtype = Dtype::from_code(tensor.data_type()).unwrap();
    let count = tensor.dims.iter().product::<i64>() as usize;
    let mut rng = rng(0, name);
    let drawn = (0..count).map(|_| match (kind.as_str(), numbers.as_slice()) {
        ("uniform", [low, high]) => low + (high - low) * rng.random::<f64>(),
        ("normal", [mean, spread, low, high]) => {
            (mean + spread * normal(&mut rng)).clamp(*low, *high)
        }
        _ => panic!("'{rule}' is no rule to fill {name} by"),
    });
    tensor.raw_data = Some(encode(dtype, drawn).into());
}

/// A number of the standard normal distribution.
pub fn normal(rng: &mut impl Rng) -> f64 {
    // The first number must not be 0.
    let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Numbers as the bytes of a tensor, rounded to the nearest where the type is whole.
pub fn encode(dtype: Dtype, numbers: impl IntoIterator<Item = f64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        match dtype {
            Dtype::Float => bytes.extend((number as f32).to_le_bytes()),
            Dtype::Double => bytes.extend(number.to_le_bytes()),
            Dtype::Float16 => bytes.extend(half::f16::from_f64(number).to_le_bytes()),
            Dtype::Bfloat16 => bytes.extend(half::bf16::from_f64(number).to_le_bytes()),
            Dtype::Int8 => bytes.extend((number.round() as i8).to_le_bytes()),
            Dtype::Uint8 => bytes.push(number.round() as u8),
            Dtype::Int32 => bytes.extend((number.round() as i32).to_le_bytes()),
            Dtype::Int64 => bytes.extend((number.round() as i64).to_le_bytes()),
            Dtype::Bool => bytes.push(u8::from(number != 0.0)),
            other => panic!("tensors of type {other} are not filled yet"),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_prune::model::TensorRef;

    fn tensor_to_fill(name: &str, dtype: Dtype, rule: &str) -> TensorProto {
        TensorProto {
            name: Some(name.into()),
            dims: vec![40, 50],
            data_type: Some(dtype.code()),
            doc_string: Some(rule.into()),
            ..Default::default()
        }
    }

    #[test]
    fn draws_follow_the_rule_and_the_name() {
        let rule = "fill: normal 1 2 -3 4";
        let graph = GraphProto {
            initializer: vec![
                tensor_to_fill("a", Dtype::Float, rule),
                tensor_to_fill("b", Dtype::Float, rule),
                tensor_to_fill("c", Dtype::Uint8, "fill: uniform 10 20"),
                tensor_to_fill("d", Dtype::Bfloat16, rule),
                TensorProto {
                    doc_string: Some("no rule".into()),
                    ..tensor_to_fill("e", Dtype::Float, rule)
                },
            ],
            ..Default::default()
        };
        let mut model = ModelProto {
            graph: Some(graph),
            ..Default::default()
        };
        fill(&mut model);
        let tensors = &model.graph.unwrap().initializer;
        let numbers = |at: usize| {
            TensorRef::from_proto(&tensors[at])
                .unwrap()
                .to_f64()
                .unwrap()
        };
        let (a, b, c, d) = (numbers(0), numbers(1), numbers(2), numbers(3));
        let mean = a.iter().sum::<f64>() / 2000.0;
        let spread = (a.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 2000.0).sqrt();
        assert!(
            (mean - 1.0).abs() < 0.2 && (1.5..2.0).contains(&spread),
            "{mean} {spread}"
        );
        assert!(a.iter().chain(&d).all(|x| (-3.0..=4.0).contains(x)) && a != b);
        assert!(
            c.iter()
                .all(|x| (10.0..=20.0).contains(x) && x.fract() == 0.0)
        );
        assert_eq!(
            (tensors[0].doc_string(), tensors[4].doc_string()),
            ("", "no rule")
        );
    }
}
