//! From a model to a file: streamed field by field, so that weights go from the map to the disk without
//! standing in memory; written beside the target and renamed, so that there is never half a file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{Model, SaveError};
use crate::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};

/// Protobuf messages over this size are not readable everywhere.
const LARGEST_FILE: u64 = (1 << 31) - (1 << 20);
/// Tensors of at least this size go to the external file, where there is one.
const EXTERNAL_FROM: usize = 1024;
/// Alignment of tensors in an external file, so that readers can map them.
const EXTERNAL_ALIGN: u64 = 4096;

/// Bytes that the model takes as one file.
pub fn encoded_len(model: &Model) -> u64 {
    model.proto.encoded_len() as u64
}

/// Writes a model, and `NAME.data` beside it where the model had external weights or is too large for one
/// file. The files appear whole or not at all. Errors: whatever the file system says.
pub fn save(model: &Model, path: &Path) -> Result<(), SaveError> {
    let error = |source: io::Error| SaveError { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".onnx-prune-").tempfile_in(folder).map_err(error)?;
    let mut data = None;
    if model.source.external || encoded_len(model) > LARGEST_FILE {
        let name = path.file_name().map_or_else(|| "weights.data".into(), |name| format!("{}.data", name.to_string_lossy()));
        let mut file = tempfile::Builder::new().prefix(".onnx-prune-").tempfile_in(folder).map_err(error)?;
        let shadow = externalise(&model.proto, &name, file.as_file_mut()).map_err(error)?;
        write_model(&shadow, &mut temporary).map_err(error)?;
        data = Some((file, folder.join(name)));
    } else {
        write_model(&model.proto, &mut temporary).map_err(error)?;
    }
    if let Some((file, target)) = data {
        readable(file.as_file()).map_err(error)?;
        file.persist(target).map_err(|failed| error(failed.error))?;
    }
    readable(temporary.as_file()).map_err(error)?;
    temporary.persist(path).map_err(|failed| error(failed.error))?;
    Ok(())
}

/// Temporary files are private to the user; a model is an ordinary file.
fn readable(file: &std::fs::File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

/// Fields in tag order, which is prost's own: the bytes equal `encode_to_vec`'s.
fn write_model(model: &ModelProto, file: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let Some(graph) = &model.graph else {
        out.write_all(&model.encode_to_vec())?;
        return out.flush();
    };
    // What stands before the graph's tag (7) and what stands after it. Only the small fields are copied.
    let before = ModelProto {
        ir_version: model.ir_version,
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        domain: model.domain.clone(),
        model_version: model.model_version,
        doc_string: model.doc_string.clone(),
        ..Default::default()
    };
    let after = ModelProto {
        opset_import: model.opset_import.clone(),
        metadata_props: model.metadata_props.clone(),
        training_info: model.training_info.clone(),
        functions: model.functions.clone(),
        configuration: model.configuration.clone(),
        ..Default::default()
    };
    out.write_all(&before.encode_to_vec())?;
    header(&mut out, 7, graph.encoded_len())?;
    write_graph(graph, &mut out)?;
    out.write_all(&after.encode_to_vec())?;
    out.flush()
}

fn write_graph(graph: &GraphProto, out: &mut impl Write) -> io::Result<()> {
    for node in &graph.node {
        write_message(out, 1, node)?;
    }
    out.write_all(&GraphProto { name: graph.name.clone(), ..Default::default() }.encode_to_vec())?;
    for tensor in &graph.initializer {
        header(out, 5, tensor.encoded_len())?;
        write_tensor(tensor, out)?;
    }
    let rest = GraphProto {
        doc_string: graph.doc_string.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        value_info: graph.value_info.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        metadata_props: graph.metadata_props.clone(),
        ..Default::default()
    };
    out.write_all(&rest.encode_to_vec())
}

fn write_message(out: &mut impl Write, tag: u32, message: &impl Message) -> io::Result<()> {
    header(out, tag, message.encoded_len())?;
    out.write_all(&message.encode_to_vec())
}

/// A tensor with its bytes taken out, then its bytes straight from where they lie. `raw_data` has tag 9: the
/// fields with lower tags go before, the others after.
fn write_tensor(tensor: &TensorProto, out: &mut impl Write) -> io::Result<()> {
    let Some(raw) = &tensor.raw_data else {
        return out.write_all(&tensor.encode_to_vec());
    };
    let before = TensorProto {
        dims: tensor.dims.clone(),
        data_type: tensor.data_type,
        segment: tensor.segment,
        float_data: tensor.float_data.clone(),
        int32_data: tensor.int32_data.clone(),
        string_data: tensor.string_data.clone(),
        int64_data: tensor.int64_data.clone(),
        name: tensor.name.clone(),
        ..Default::default()
    };
    let after = TensorProto {
        double_data: tensor.double_data.clone(),
        uint64_data: tensor.uint64_data.clone(),
        doc_string: tensor.doc_string.clone(),
        external_data: tensor.external_data.clone(),
        data_location: tensor.data_location,
        metadata_props: tensor.metadata_props.clone(),
        ..Default::default()
    };
    out.write_all(&before.encode_to_vec())?;
    header(out, 9, raw.len())?;
    out.write_all(raw)?;
    out.write_all(&after.encode_to_vec())
}

fn header(out: &mut impl Write, tag: u32, length: usize) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(key_len(tag) + encoded_len_varint(length as u64));
    encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encode_varint(length as u64, &mut bytes);
    out.write_all(&bytes)
}

/// Writes the large tensors to `file` and gives back the model that points there (its bytes are shared, so
/// the copy is small).
fn externalise(model: &ModelProto, name: &str, file: &mut std::fs::File) -> io::Result<ModelProto> {
    let mut shadow = model.clone();
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let mut offset = 0u64;
    for tensor in shadow.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.raw_data.as_ref().is_none_or(|raw| raw.len() < EXTERNAL_FROM) {
            continue;
        }
        let raw = tensor.raw_data.take().unwrap_or_default();
        let padding = offset.next_multiple_of(EXTERNAL_ALIGN) - offset;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut out)?;
        offset += padding;
        out.write_all(&raw)?;
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.external_data =
            vec![entry("location", name.to_owned()), entry("offset", offset.to_string()), entry("length", raw.len().to_string())];
        tensor.data_location = Some(DataLocation::External as i32);
        offset += raw.len() as u64;
    }
    out.flush()?;
    Ok(shadow)
}
