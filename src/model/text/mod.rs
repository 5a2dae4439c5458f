//! Small graphs written as text, for tests:
//!
//! ```text
//! opset 17
//! input x f32[n,3,8,8]
//! const w f32[4,3,3,3]            # random, by its name
//! const shape i64[2] = 0, -1      # or these numbers
//! const var f32[4] = positive     # or random between 0.5 and 1.5
//! const q i4[4,8] = full          # or random whole numbers of all that the type holds
//! y = Conv(x, w, _) {pads=[1,1,1,1]}
//! z, mask = com.example.Odd(y, shape) {alpha=0.5, mode="a", then_branch=@taken}
//! output z
//! graph taken                     # a subgraph; it may read what stands outside
//! r = Relu(x)
//! output r
//! end
//! ```
//!
//! `_` leaves an optional input or output out. A node's name is that of its first output. Attributes may also stand where
//! ONNX's own text puts them, `y = Conv <pads = [1, 1]> (x, w)`; [`function`] reads functions in that form.

mod constant;
mod error;
mod statement;

use std::collections::BTreeMap;

use constant::constant;
pub use error::TextError;
pub use statement::function;
use statement::node;

use super::{Model, Source};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor, Value};
use crate::proto::{
    Dtype, GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// Builds a model from its text. Errors name the line.
pub fn model(text: &str) -> Result<Model, TextError> {
    Model::new(message(text)?, Source::default())
        .map_err(|error| TextError::Graph(error.to_string()))
}

/// Builds the message alone, without checking names. Errors name the line.
pub fn message(text: &str) -> Result<ModelProto, TextError> {
    let mut parser = Parser {
        graphs: BTreeMap::new(),
        open: vec![("main".into(), GraphProto::default())],
        opset: 17,
        ir: 8,
    };
    for line in text.lines() {
        let stripped = line.split('#').next().unwrap_or("").trim();
        if !stripped.is_empty() {
            parser.line(stripped).map_err(|problem| TextError::Line {
                line: line.trim().to_owned(),
                problem: Box::new(problem),
            })?;
        }
    }
    let mut graph = match parser.open.pop() {
        Some((_, graph)) if parser.open.is_empty() => graph,
        _ => return Err(TextError::Endless),
    };
    graph.name = Some("main".into());
    insert_subgraphs(&mut graph, &parser.graphs)?;
    let mut domains: Vec<String> = Vec::new();
    collect_domains(&graph, &mut domains);
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    let opset_import = std::iter::once(import("", parser.opset))
        .chain(domains.iter().map(|domain| import(domain, 1)))
        .collect();
    Ok(ModelProto {
        ir_version: Some(parser.ir),
        opset_import,
        graph: Some(graph),
        ..Default::default()
    })
}

struct Parser {
    graphs: BTreeMap<String, GraphProto>,
    open: Vec<(String, GraphProto)>,
    opset: i64,
    ir: i64,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), TextError> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let current = self.open.len().checked_sub(1).ok_or(TextError::End)?;
        let graph = &mut self.open[current].1;
        match word {
            "opset" => self.opset = version(rest)?,
            "ir" => self.ir = version(rest)?,
            "input" => graph.input.push(value_info(rest)?),
            "output" => graph.output.push(value_info(rest)?),
            "value" => graph.value_info.push(value_info(rest)?),
            "const" => graph.initializer.push(constant(rest)?),
            "graph" => {
                let name = rest.to_owned();
                self.open.push((
                    name.clone(),
                    GraphProto {
                        name: Some(name),
                        ..Default::default()
                    },
                ));
            }
            "end" if current > 0 => {
                if let Some((name, graph)) = self.open.pop() {
                    self.graphs.insert(name, graph);
                }
            }
            _ => graph.node.push(node(line)?),
        }
        Ok(())
    }
}

fn version(text: &str) -> Result<i64, TextError> {
    text.parse().map_err(|_| TextError::Missing("version"))
}

fn insert_subgraphs(
    graph: &mut GraphProto,
    graphs: &BTreeMap<String, GraphProto>,
) -> Result<(), TextError> {
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        let Some(subgraph) = &mut attribute.g else {
            continue;
        };
        let mut found = graphs
            .get(subgraph.name())
            .cloned()
            .ok_or_else(|| TextError::NoGraph(subgraph.name().to_owned()))?;
        insert_subgraphs(&mut found, graphs)?;
        *subgraph = found;
    }
    Ok(())
}

fn collect_domains(graph: &GraphProto, domains: &mut Vec<String>) {
    for node in &graph.node {
        if !node.domain().is_empty() && !domains.iter().any(|domain| domain == node.domain()) {
            domains.push(node.domain().to_owned());
        }
        node.attribute
            .iter()
            .filter_map(|attribute| attribute.g.as_ref())
            .for_each(|graph| collect_domains(graph, domains));
    }
}

fn dtype(text: &str) -> Result<Dtype, TextError> {
    Ok(match text {
        "f32" => Dtype::Float,
        "f64" => Dtype::Double,
        "f16" => Dtype::Float16,
        "bf16" => Dtype::Bfloat16,
        "i64" => Dtype::Int64,
        "i32" => Dtype::Int32,
        "i16" => Dtype::Int16,
        "u16" => Dtype::Uint16,
        "i8" => Dtype::Int8,
        "u8" => Dtype::Uint8,
        "i4" => Dtype::Int4,
        "u4" => Dtype::Uint4,
        "bool" => Dtype::Bool,
        _ => return Err(TextError::NoType(text.to_owned())),
    })
}

/// `f32[n,3]` as its parts.
fn typed(text: &str) -> Result<(Dtype, Vec<&str>), TextError> {
    let (kind, dims) = text
        .trim()
        .split_once('[')
        .ok_or(TextError::Missing("type like f32[2,3]"))?;
    let dims = dims
        .strip_suffix(']')
        .ok_or(TextError::Missing("closing bracket"))?;
    Ok((
        dtype(kind)?,
        dims.split(',')
            .map(str::trim)
            .filter(|dim| !dim.is_empty())
            .collect(),
    ))
}

fn value_info(text: &str) -> Result<ValueInfoProto, TextError> {
    let (name, kind) = text.split_once(' ').unwrap_or((text, ""));
    let mut info = ValueInfoProto {
        name: Some(name.into()),
        ..Default::default()
    };
    if !kind.trim().is_empty() {
        let (dtype, dims) = typed(kind)?;
        let dim = |dim: &&str| {
            let value = dim.parse().map_or_else(
                |_| dimension::Value::DimParam((*dim).into()),
                dimension::Value::DimValue,
            );
            Dimension {
                value: Some(value),
                ..Default::default()
            }
        };
        let shape = TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        };
        let tensor = Tensor {
            elem_type: Some(dtype.code()),
            shape: Some(shape),
        };
        info.r#type = Some(TypeProto {
            value: Some(Value::TensorType(tensor)),
            ..Default::default()
        });
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_with_a_branch_is_five_lines() {
        let model = model(
            r#"
            input x f32[n,3,8,8]
            input c bool[]
            const w f32[4,3,3,3]
            y = Conv(x, w, _) {pads=[1,1,1,1], group=1, auto_pad="NOTSET"}
            z = If(c) {then_branch=@a, else_branch=@b}
            k = Constant() {value=i64[2]:7}
            output z f32[n,4,8,8]
            graph a
            r = Relu(y)
            output r
            end
            graph b
            r = com.example.Odd(y) {alpha=0.5}
            output r
            end
            "#,
        )
        .unwrap();
        assert_eq!(
            (model.index().graphs().len(), model.opset("com.example")),
            (3, 1)
        );
        let w = model.index().main_value("w").unwrap();
        assert_eq!(model.constant(w).unwrap().dims, [4, 3, 3, 3]);
        let k = model.index().main_value("k").unwrap();
        assert_eq!(model.constant(k).unwrap().to_i64().unwrap(), [7, 7]);
    }

    #[test]
    fn mistakes_name_the_line() {
        assert!(
            model("input x f99[2]")
                .unwrap_err()
                .to_string()
                .contains("f99")
        );
        assert!(model("y = Relu(x)\noutput y").is_err());
    }
}
