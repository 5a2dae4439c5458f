//! How zeros are stored, and what they are worth on disk.

use std::collections::BTreeSet;
use std::io::{Result, Write};

use prost::Message;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::model::{Index, LoadError, Model, TensorRef};
use crate::proto::{SparseTensorProto, TensorProto};

/// Bytes of an index.
const INDEX: usize = 8;
/// The first version of the format whose graphs hold sparse constants.
const SINCE: i64 = 5;

/// Stores constants of the main graph in which zeros take more room than indices as sparse ones; says how many.
/// Errors: none on a model that was indexed.
pub fn store_sparse(
    model: &mut Model,
    names: &BTreeSet<String>,
) -> std::result::Result<usize, LoadError> {
    if model.proto.ir_version() < SINCE {
        return Ok(0);
    }
    let graph = model.graph_mut(Index::MAIN);
    // What a caller may replace is an input too, and those are dense.
    let given: BTreeSet<String> = graph
        .input
        .iter()
        .map(|input| input.name().to_owned())
        .collect();
    let mut stored = Vec::new();
    graph.initializer.retain(|tensor| {
        let wanted = names.contains(tensor.name()) && !given.contains(tensor.name());
        match wanted.then(|| sparse(tensor)).flatten() {
            Some(sparse) => {
                stored.push(sparse);
                false
            }
            None => true,
        }
    });
    let count = stored.len();
    graph.sparse_initializer.extend(stored);
    model.reindex()?;
    Ok(count)
}

/// A tensor as indices and numbers; `None` where that is not smaller.
fn sparse(message: &TensorProto) -> Option<SparseTensorProto> {
    let tensor = TensorRef::from_proto(message).ok()?;
    let size = tensor.dtype.bits() / 8;
    if size == 0 || !tensor.dtype.bits().is_multiple_of(8) {
        return None;
    }
    let (mut indices, mut values) = (Vec::new(), Vec::new());
    for (at, element) in tensor.bytes.chunks_exact(size).enumerate() {
        if element.iter().any(|byte| *byte != 0) {
            indices.push(at as i64);
            values.extend_from_slice(element);
        }
    }
    if indices.len() * (size + INDEX) >= tensor.bytes.len() {
        return None;
    }
    let count = indices.len();
    let values = TensorRef {
        dtype: tensor.dtype,
        dims: vec![count],
        bytes: values.into(),
    };
    let mut named = values.to_proto(message.name());
    named.doc_string.clone_from(&message.doc_string);
    named.metadata_props.clone_from(&message.metadata_props);
    Some(SparseTensorProto {
        values: Some(named),
        indices: Some(TensorRef::from_i64(vec![count], &indices).to_proto("")),
        dims: message.dims.clone(),
    })
}

/// Counts what is written.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Bytes of a model under deflate (what zip, gzip and HTTP use), weights of its own files included. `None`: it can not be
/// encoded.
pub fn deflated(model: &Model) -> Option<u64> {
    let mut writer = ZipWriter::new_stream(Counter::default());
    let options = SimpleFileOptions::default().large_file(true);
    writer.start_file("model.onnx", options).ok()?;
    writer.write_all(&model.proto.encode_to_vec()).ok()?;
    Some(writer.finish().ok()?.into_inner().0)
}
