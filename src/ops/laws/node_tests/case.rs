//! Reading the backend node tests of the onnx package, as `tests/node_tests.py` writes them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use crate::model::TensorRef;
use crate::proto::tensor_shape_proto::dimension::Value::DimParam;
use crate::proto::{Dtype, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto, type_proto};

/// One node test.
pub struct Case {
    pub name: String,
    /// As it is stored, but for the declared types of what nodes compute: these are to be found.
    pub proto: ModelProto,
    /// The stored inputs, in the order of the graph's.
    pub inputs: Vec<Stored>,
    /// The stored outputs.
    pub outputs: Vec<Stored>,
}

/// A stored value.
pub enum Stored {
    Tensor(TensorRef),
    /// Text has no raw form: its type and extents only.
    Text(Vec<usize>),
    /// A sequence, a map or an optional.
    Other,
}

impl Stored {
    pub fn tensor(&self) -> Option<&TensorRef> {
        match self {
            Stored::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Element type and extents of a tensor.
    pub fn kind(&self) -> Option<(Dtype, &[usize])> {
        match self {
            Stored::Tensor(tensor) => Some((tensor.dtype, &tensor.dims)),
            Stored::Text(dims) => Some((Dtype::String, dims)),
            Stored::Other => None,
        }
    }
}

/// The folder of the node tests, or a visible note that it is not here.
pub fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("ONNX_PRUNE_NODE_TESTS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| root.join("target/node_tests"));
    let found = folder.is_dir();
    if !found {
        eprintln!(
            "SKIP: no node tests at {} (python tests/node_tests.py FOLDER; ONNX_PRUNE_NODE_TESTS=FOLDER)",
            folder.display()
        );
    }
    found.then_some(folder)
}

/// All node tests in the order of their names; `only` narrows them to names that contain it.
pub fn cases(folder: &Path, only: Option<&str>) -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let wanted = |path: &PathBuf| {
        path.is_dir() && only.is_none_or(|only| path.to_string_lossy().contains(only))
    };
    paths
        .iter()
        .filter(|path| wanted(path))
        .map(|path| read(path))
        .collect()
}

fn read(folder: &Path) -> Case {
    let mut proto = ModelProto::decode(Bytes::from(
        std::fs::read(folder.join("model.onnx")).unwrap(),
    ))
    .unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let stored = |kind: &str, infos: &[ValueInfoProto]| {
        let path = |at: usize| folder.join(format!("test_data_set_0/{kind}_{at}.pb"));
        infos
            .iter()
            .enumerate()
            .map(|(at, info)| value(&path(at), info))
            .collect()
    };
    let (inputs, outputs) = (
        stored("input", &graph.input),
        stored("output", &graph.output),
    );
    graph.value_info.clear();
    graph
        .output
        .iter_mut()
        .for_each(|output| output.r#type = None);
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    Case {
        name,
        proto,
        inputs,
        outputs,
    }
}

fn value(path: &Path, info: &ValueInfoProto) -> Stored {
    if !matches!(
        info.r#type.as_ref().and_then(|kind| kind.value.as_ref()),
        Some(type_proto::Value::TensorType(_))
    ) {
        return Stored::Other;
    }
    let message = TensorProto::decode(Bytes::from(std::fs::read(path).unwrap())).unwrap();
    match TensorRef::from_proto(&message) {
        _ if message.data_type() == Dtype::String.code() => {
            Stored::Text(message.dims.iter().map(|dim| *dim as usize).collect())
        }
        Ok(tensor) => Stored::Tensor(tensor),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

impl Case {
    /// The types of the operators in it, each once.
    pub fn operators(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .proto
            .graph
            .iter()
            .flat_map(|graph| &graph.node)
            .map(|node| node.op_type().to_owned())
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// The model with those inputs as constants that `choose` says.
    pub fn constant(&self, choose: impl Fn(usize, &TensorRef) -> bool) -> ModelProto {
        let mut proto = self.proto.clone();
        let graph = proto.graph.as_mut().unwrap();
        let inputs = std::mem::take(&mut graph.input);
        for (at, (input, stored)) in inputs.into_iter().zip(&self.inputs).enumerate() {
            match stored {
                Stored::Tensor(tensor) if choose(at, tensor) => {
                    graph.initializer.push(tensor.to_proto(input.name()))
                }
                _ => graph.input.push(input),
            }
        }
        proto
    }

    /// The model with extents above 1 of its inputs replaced by symbols, and what the symbols stand for. `constant` inputs
    /// are kept as such.
    pub fn symbolic(
        &self,
        constant: impl Fn(usize, &TensorRef) -> bool,
    ) -> (ModelProto, Vec<(String, i64)>) {
        let mut proto = self.constant(constant);
        let mut symbols = Vec::new();
        for (at, input) in proto.graph.as_mut().unwrap().input.iter_mut().enumerate() {
            let Some(shape) = shape_mut(input) else {
                continue;
            };
            for (axis, dim) in shape.dim.iter_mut().enumerate() {
                let Some(number) = dim
                    .value
                    .as_ref()
                    .and_then(number)
                    .filter(|number| *number > 1)
                else {
                    continue;
                };
                symbols.push((format!("s{at}_{axis}"), number));
                dim.value = Some(DimParam(format!("s{at}_{axis}")));
            }
        }
        (proto, symbols)
    }
}

fn number(value: &crate::proto::tensor_shape_proto::dimension::Value) -> Option<i64> {
    match value {
        crate::proto::tensor_shape_proto::dimension::Value::DimValue(number) => Some(*number),
        DimParam(_) => None,
    }
}

fn shape_mut(info: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    match info.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_mut(),
        _ => None,
    }
}
