//! Mutations that know the format: fields dropped, renamed, doubled or made extreme; and bytes flipped.

use onnx_prune::proto::attribute_proto::AttributeType;
use onnx_prune::proto::tensor_proto::DataLocation;
use onnx_prune::proto::tensor_shape_proto::{Dimension, dimension};
use onnx_prune::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto, ValueInfoProto,
    type_proto,
};
use prost::Message;
use rand::Rng;

/// Whole numbers at which arithmetic on extents, ranks and offsets goes wrong.
const EXTREMES: [i64; 22] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    127,
    255,
    256,
    65_535,
    (1 << 24) + 1,
    i32::MAX as i64,
    1 << 31,
    i32::MIN as i64,
    1 << 32,
    1 << 40,
    1 << 53,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
];

/// Names that no file should hold.
const NAMES: [&str; 6] = ["", "x", "../../etc/passwd", "a\0b", "NaN", "\u{202e}name"];

fn extreme(random: &mut impl Rng) -> i64 {
    EXTREMES[random.random_range(0..EXTREMES.len())]
}

fn pick<'a, T>(list: &'a mut [T], random: &mut impl Rng) -> Option<&'a mut T> {
    if list.is_empty() {
        None
    } else {
        Some(&mut list[random.random_range(0..list.len())])
    }
}

fn remove<T>(list: &mut Vec<T>, random: &mut impl Rng) {
    if !list.is_empty() {
        list.remove(random.random_range(0..list.len()));
    }
}

fn double<T: Clone>(list: &mut Vec<T>, random: &mut impl Rng) {
    if let Some(item) = pick(list, random).cloned() {
        list.insert(random.random_range(0..=list.len()), item);
    }
}

/// A model's bytes after one to four mutations of its message and, one time in five, of its bytes.
/// `operators`: names that node types are exchanged for.
pub fn mutated(base: &ModelProto, operators: &[String], random: &mut impl Rng) -> Vec<u8> {
    let mut model = base.clone();
    for _ in 0..random.random_range(1..=4) {
        message(&mut model, operators, random);
    }
    let mut bytes = model.encode_to_vec();
    if random.random_ratio(1, 5) {
        self::bytes(&mut bytes, random);
    }
    bytes
}

/// One mutation of raw bytes: flipped, cut off, left out, repeated.
pub fn bytes(bytes: &mut Vec<u8>, random: &mut impl Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = random.random_range(0..bytes.len());
    let end = (at + random.random_range(1..64)).min(bytes.len());
    match random.random_range(0..4) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            for _ in 0..random.random_range(1..=8) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
    }
}

fn message(model: &mut ModelProto, operators: &[String], random: &mut impl Rng) {
    match random.random_range(0..40) {
        0 => model.ir_version = Some(extreme(random)),
        1 => {
            if let Some(import) = pick(&mut model.opset_import, random) {
                import.version = Some(if random.random() {
                    random.random_range(1..30)
                } else {
                    extreme(random)
                });
            }
        }
        2 => remove(&mut model.opset_import, random),
        3 => function(model, random),
        _ => {
            let Some(main) = &mut model.graph else { return };
            let mut place = random.random_range(0..graphs(main));
            if let Some(graph) = nth(main, &mut place) {
                in_graph(graph, operators, random);
            }
        }
    }
}

/// A function that shadows an operator of the graph: its body is the graph's own nodes, so that it may call itself.
fn function(model: &mut ModelProto, random: &mut impl Rng) {
    let Some(graph) = &mut model.graph else {
        return;
    };
    let body = graph.node.clone();
    let Some(node) = pick(&mut graph.node, random) else {
        return;
    };
    node.domain = Some("local".to_owned());
    model.functions.push(FunctionProto {
        name: node.op_type.clone(),
        domain: node.domain.clone(),
        input: (0..node.input.len())
            .map(|at| {
                body.first()
                    .and_then(|first| first.input.get(at).cloned())
                    .unwrap_or_default()
            })
            .collect(),
        output: body
            .last()
            .map(|last| last.output.clone())
            .unwrap_or_default(),
        node: body,
        opset_import: model.opset_import.clone(),
        ..Default::default()
    });
    model.opset_import.push(OperatorSetIdProto {
        domain: Some("local".to_owned()),
        version: Some(1),
    });
}

/// The number of graphs in a graph, itself included.
fn graphs(graph: &GraphProto) -> usize {
    let inner = graph
        .node
        .iter()
        .flat_map(|node| &node.attribute)
        .filter_map(|attribute| attribute.g.as_ref());
    1 + inner.map(graphs).sum::<usize>()
}

fn nth<'a>(graph: &'a mut GraphProto, place: &mut usize) -> Option<&'a mut GraphProto> {
    if *place == 0 {
        return Some(graph);
    }
    *place -= 1;
    let inner = graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.attribute)
        .filter_map(|attribute| attribute.g.as_mut());
    for graph in inner {
        let found = nth(graph, place);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The name of some value of a graph.
fn name(graph: &GraphProto, random: &mut impl Rng) -> String {
    let mut names: Vec<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    names.extend(graph.initializer.iter().map(TensorProto::name));
    names.extend(
        graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str)),
    );
    names.extend(NAMES);
    names[random.random_range(0..names.len())].to_owned()
}

fn in_graph(graph: &mut GraphProto, operators: &[String], random: &mut impl Rng) {
    let other = name(graph, random);
    match random.random_range(0..20) {
        0 => remove(&mut graph.node, random),
        1 => remove(&mut graph.initializer, random),
        2 => remove(&mut graph.input, random),
        3 => remove(&mut graph.output, random),
        4 => remove(&mut graph.value_info, random),
        5 => double(&mut graph.node, random),
        6 => double(&mut graph.initializer, random),
        7 => double(&mut graph.output, random),
        8 if graph.node.len() > 1 => {
            let (one, two) = (
                random.random_range(0..graph.node.len()),
                random.random_range(0..graph.node.len()),
            );
            graph.node.swap(one, two);
        }
        9 => declare(graph, other, random),
        10 => sparse(graph, random),
        11 => nest(graph, random),
        12 => {
            let kinds = graph
                .input
                .iter_mut()
                .chain(&mut graph.output)
                .chain(&mut graph.value_info);
            let mut kinds: Vec<&mut ValueInfoProto> = kinds.collect();
            if let Some(info) = pick(&mut kinds, random) {
                value_info(info, other, random);
            }
        }
        13..=15 => {
            if let Some(tensor) = pick(&mut graph.initializer, random) {
                self::tensor(tensor, other, random);
            }
        }
        _ => {
            if let Some(node) = pick(&mut graph.node, random) {
                self::node(node, other, operators, random);
            }
        }
    }
}

/// Says of a value what it is, rightly or not.
fn declare(graph: &mut GraphProto, name: String, random: &mut impl Rng) {
    let mut list: Vec<ValueInfoProto> = graph.input.iter().chain(&graph.output).cloned().collect();
    if let Some(info) = pick(&mut list, random) {
        let info = ValueInfoProto {
            name: Some(name),
            ..info.clone()
        };
        if random.random() {
            graph.value_info.push(info)
        } else {
            graph.input.push(info)
        }
    }
}

fn sparse(graph: &mut GraphProto, random: &mut impl Rng) {
    if graph.initializer.is_empty() {
        return;
    }
    let values = graph
        .initializer
        .remove(random.random_range(0..graph.initializer.len()));
    let numbers: Vec<i64> = (0..random.random_range(0..6))
        .map(|_| extreme(random))
        .collect();
    let dims = vec![numbers.len() as i64];
    let indices = TensorProto {
        dims,
        data_type: Some(7),
        int64_data: numbers,
        ..Default::default()
    };
    graph.sparse_initializer.push(SparseTensorProto {
        dims: values.dims.clone(),
        values: Some(values),
        indices: Some(indices),
    });
}

/// Puts a copy of a graph into an attribute of one of its nodes.
fn nest(graph: &mut GraphProto, random: &mut impl Rng) {
    if graph.encoded_len() > 20_000 {
        return;
    }
    let inner = graph.clone();
    let Some(node) = pick(&mut graph.node, random) else {
        return;
    };
    let name = ["body", "then_branch", "else_branch"][random.random_range(0..3)];
    node.op_type = Some(["If", "Loop", "Scan"][random.random_range(0..3)].to_owned());
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(inner),
        ..Default::default()
    });
}

fn value_info(info: &mut ValueInfoProto, name: String, random: &mut impl Rng) {
    match random.random_range(0..8) {
        0 => info.name = Some(name),
        1 => info.r#type = None,
        _ => {
            let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
            else {
                return;
            };
            match random.random_range(0..4) {
                0 => tensor.shape = None,
                1 => tensor.elem_type = Some(random.random_range(-1..30)),
                _ => shape(tensor.shape.get_or_insert_default(), random),
            }
        }
    }
}

fn shape(shape: &mut TensorShapeProto, random: &mut impl Rng) {
    let made = |value| Dimension {
        value,
        ..Default::default()
    };
    match random.random_range(0..5) {
        0 => remove(&mut shape.dim, random),
        1 => double(&mut shape.dim, random),
        2 => shape
            .dim
            .push(made(Some(dimension::Value::DimParam("n".to_owned())))),
        3 => shape.dim.push(made(None)),
        _ => {
            let value = extreme(random);
            if let Some(dim) = pick(&mut shape.dim, random) {
                dim.value = Some(dimension::Value::DimValue(value));
            }
        }
    }
}

fn tensor(tensor: &mut TensorProto, name: String, random: &mut impl Rng) {
    match random.random_range(0..10) {
        0 => tensor.name = Some(name),
        1 => tensor.data_type = Some(random.random_range(-1..30)),
        2 => remove(&mut tensor.dims, random),
        3 => double(&mut tensor.dims, random),
        4 | 5 => {
            let value = extreme(random);
            if let Some(dim) = pick(&mut tensor.dims, random) {
                *dim = value;
            }
        }
        6 => external(tensor, random),
        _ => content(tensor, random),
    }
}

fn external(tensor: &mut TensorProto, random: &mut impl Rng) {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry(
            "location",
            NAMES[random.random_range(0..NAMES.len())].to_owned(),
        ),
        entry("offset", extreme(random).to_string()),
        entry("length", extreme(random).to_string()),
    ];
}

/// Numbers of a tensor: extreme ones, too few, too many, none.
fn content(tensor: &mut TensorProto, random: &mut impl Rng) {
    let mut raw = tensor.raw_data.take().unwrap_or_default().to_vec();
    match random.random_range(0..4) {
        0 => bytes(&mut raw, random),
        1 => raw.fill(if random.random() { 0xff } else { 0 }),
        2 => return,
        _ => {
            let width = if tensor.data_type() == 7 { 8 } else { 4 };
            if raw.len() >= width {
                let at = random.random_range(0..raw.len() / width) * width;
                let number = extreme(random).to_le_bytes();
                raw[at..at + width].copy_from_slice(&number[..width]);
            }
        }
    }
    tensor.raw_data = Some(raw.into());
}

fn node(node: &mut NodeProto, name: String, operators: &[String], random: &mut impl Rng) {
    match random.random_range(0..14) {
        0 | 1 => node.op_type = Some(operators[random.random_range(0..operators.len())].clone()),
        2 => {
            node.domain = Some(
                ["", "com.microsoft", "ai.onnx.ml", "local"][random.random_range(0..4)].to_owned(),
            )
        }
        3 => node.name = Some(name),
        4 => remove(&mut node.input, random),
        5 => double(&mut node.input, random),
        6 => node.input.push(name),
        7 => remove(&mut node.output, random),
        8 => node.output.push(name),
        9 => {
            if let Some(output) = pick(&mut node.output, random) {
                *output = name;
            }
        }
        10 => {
            if let Some(input) = pick(&mut node.input, random) {
                *input = name;
            }
        }
        11 => remove(&mut node.attribute, random),
        _ => {
            if let Some(attribute) = pick(&mut node.attribute, random) {
                self::attribute(attribute, random);
            }
        }
    }
}

fn attribute(attribute: &mut AttributeProto, random: &mut impl Rng) {
    match random.random_range(0..8) {
        0 => attribute.r#type = Some(random.random_range(-1..16)),
        1 => remove(&mut attribute.ints, random),
        2 => double(&mut attribute.ints, random),
        3 => {
            attribute.f = Some(
                [
                    0.0,
                    -1.0,
                    f32::NAN,
                    f32::INFINITY,
                    f32::MIN_POSITIVE,
                    f32::MAX,
                ][random.random_range(0..6)],
            )
        }
        4 => {
            attribute.s = Some(
                NAMES[random.random_range(0..NAMES.len())]
                    .as_bytes()
                    .to_vec()
                    .into(),
            )
        }
        5 => attribute.i = Some(extreme(random)),
        _ => {
            let value = extreme(random);
            match pick(&mut attribute.ints, random) {
                Some(number) => *number = value,
                None => attribute.i = Some(value),
            }
        }
    }
}
