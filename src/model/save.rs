//! From a model to a file: streamed field by field, so that weights go from the map to the disk without
//! standing in memory.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Model;
use crate::files::{FileError, Outputs, Place, Staged};
use crate::proto::{
    GraphProto, ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation,
};

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

/// Writes a model, and its weights beside it (`NAME.DIGEST.data`) where it had external weights or is too large for one
/// file. The files appear whole or not at all.
///
/// ```
/// use onnx_prune::{Limits, load, save};
///
/// let folder = tempfile::tempdir()?;
/// let model = load("fixtures/digits_lstm.onnx".as_ref(), Limits::default())?;
/// let copy = folder.path().join("copy.onnx");
/// save(&model, &copy)?;
/// assert_eq!(std::fs::read("fixtures/digits_lstm.onnx")?, std::fs::read(copy)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Errors: whatever the file system says; the model's own file has changed.
pub fn save(model: &Model, path: &Path) -> Result<(), FileError> {
    let outputs = Outputs::default();
    let place = outputs.claim(path, "the model")?;
    model
        .source
        .files
        .iter()
        .for_each(|file| outputs.spares(&file.path));
    let mut staged = Staged::new(&outputs);
    stage(model, &place, &mut staged)?;
    staged.commit()
}

/// Writes a model beside its place, to be committed with other outputs of the run. Errors: as [`save`].
pub fn stage(model: &Model, place: &Place, staged: &mut Staged) -> Result<(), FileError> {
    let unchanged = || model.source.check().map_err(io::Error::other);
    unchanged().map_err(|source| FileError::Io {
        path: place.given.clone(),
        source,
    })?;
    if model.source.external || encoded_len(model) > LARGEST_FILE {
        let (name, mut shadow) = staged.write_data(place, |out| externalise(&model.proto, out))?;
        locate(&mut shadow, &name);
        staged.write_model(place, |file| {
            write_model(&shadow, file).and_then(|()| unchanged())
        })
    } else {
        staged.write_model(place, |file| {
            write_model(&model.proto, file).and_then(|()| unchanged())
        })
    }
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
    out.write_all(
        &GraphProto {
            name: graph.name.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
    )?;
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

/// Writes the large tensors to `out` and gives back the model that points there (its bytes are shared, so the copy is
/// small). The place is to be named yet.
fn externalise(model: &ModelProto, out: &mut dyn Write) -> io::Result<ModelProto> {
    let mut shadow = model.clone();
    let mut offset = 0u64;
    for tensor in shadow
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.initializer)
    {
        if tensor
            .raw_data
            .as_ref()
            .is_none_or(|raw| raw.len() < EXTERNAL_FROM)
        {
            continue;
        }
        let raw = tensor.raw_data.take().unwrap_or_default();
        let padding = offset.next_multiple_of(EXTERNAL_ALIGN) - offset;
        io::copy(&mut io::Read::take(io::repeat(0), padding), out)?;
        offset += padding;
        out.write_all(&raw)?;
        tensor.external_data = vec![
            entry("offset", offset.to_string()),
            entry("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(DataLocation::External as i32);
        offset += raw.len() as u64;
    }
    Ok(shadow)
}

/// Names the file of external weights.
fn locate(model: &mut ModelProto, name: &str) {
    let tensors = model
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.initializer);
    tensors
        .filter(|tensor| tensor.data_location == Some(DataLocation::External as i32))
        .for_each(|tensor| {
            tensor
                .external_data
                .insert(0, entry("location", name.to_owned()))
        });
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    }
}
