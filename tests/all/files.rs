//! What comes from files: what is kept on the way through, and what bad files are told.

use std::path::{Path, PathBuf};

use onnx_prune::analysis::Options;
use onnx_prune::model::{Limits, Model, TensorRef, load, save, text};
use onnx_prune::proto::tensor_proto::DataLocation;
use onnx_prune::proto::{
    Dtype, ModelProto, SparseTensorProto, StringStringEntryProto, TensorProto,
};
use onnx_prune::workspace::Workspace;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;

use crate::corpus::{corpus, fixtures};

/// A graph with one tensor large enough for a file of its own, and some that are not.
const SMALL: &str = r#"
    input x f32[n,3,8,8]
    const w f32[16,3,3,3]
    const v f32[4,16,1,1]
    const shape i64[2] = 0, -1
    y = Conv(x, w, _) {pads=[1,1,1,1]}
    r = Relu(y)
    z = Conv(r, v, _)
    g = GlobalAveragePool(z)
    out = Reshape(g, shape)
    output out f32[n,4]
"#;

fn message() -> ModelProto {
    text::message(SMALL).unwrap()
}

fn read(path: &Path) -> Model {
    load(path, Limits::default()).unwrap()
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Loading fails, and the text names the file, what is wrong, and (in brackets at its end) a way out.
fn refused(path: &Path, problem: &str) {
    let error = load(path, Limits::default()).expect_err(problem);
    let text = error.to_string();
    assert!(
        text.contains(&*path.file_name().unwrap().to_string_lossy()),
        "no file name: {text}"
    );
    assert!(text.contains(problem), "not '{problem}': {text}");
    assert!(
        text.ends_with(&format!("({})", error.hint())) && error.hint().len() > 10,
        "no way out: {text}"
    );
}

/// A message made bad by `edit` is refused.
fn refused_message(problem: &str, edit: impl FnOnce(&mut ModelProto)) {
    let mut message = message();
    edit(&mut message);
    let folder = tempfile::tempdir().unwrap();
    refused(
        &write(&folder, "bad.onnx", &message.encode_to_vec()),
        problem,
    );
}

/// The same of its first tensor.
fn refused_tensor(problem: &str, edit: impl FnOnce(&mut TensorProto)) {
    refused_message(problem, |message| {
        edit(&mut message.graph.as_mut().unwrap().initializer[0])
    });
}

fn refused_text(problem: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    refused(
        &write(
            &folder,
            "bad.onnx",
            &text::message(text).unwrap().encode_to_vec(),
        ),
        problem,
    );
}

fn models() -> Vec<PathBuf> {
    let folders = [
        Some(fixtures()),
        corpus().map(|root| root.join("data/models")),
    ];
    let entries = folders
        .into_iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn an_untouched_model_is_written_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for path in models() {
        let model = read(&path);
        assert!(
            model.source.unknown_fields.is_empty(),
            "{}: {:?}",
            path.display(),
            model.source.unknown_fields
        );
        let copy = folder.path().join("copy.onnx");
        save(&model, &copy).unwrap();
        let again = read(&copy);
        // Encoded, for numbers that are none are not equal to themselves.
        assert!(
            again.proto.encode_to_vec() == model.proto.encode_to_vec(),
            "{}",
            path.display()
        );
        let written = std::fs::read(&copy).unwrap();
        assert!(
            written == model.proto.encode_to_vec(),
            "{}: streaming differs from encoding",
            path.display()
        );
        assert_eq!(written.len() as u64, onnx_prune::model::encoded_len(&model));
    }
}

fn entry(key: &str, value: impl ToString) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.to_string()),
    }
}

/// Points a tensor to a file.
fn point(tensor: &mut TensorProto, entries: Vec<StringStringEntryProto>) {
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = entries;
}

/// The files with weights of a written model: `NAME.DIGEST.data`.
fn data_of(folder: &Path, name: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let own = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_prefix(name)
            .and_then(|rest| rest.strip_suffix(".data"))
            .is_some_and(|digest| digest.len() == 17)
    };
    paths.filter(own).collect()
}

#[test]
fn weights_in_a_file_of_their_own_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let whole = message();
    let mut message = whole.clone();
    let tensors = &mut message.graph.as_mut().unwrap().initializer;
    let mut data = vec![7u8; 64];
    // The first has an offset and a length, the second runs to the file's end.
    data.extend_from_slice(tensors[0].raw_data.as_ref().unwrap());
    point(
        &mut tensors[0],
        vec![
            entry("location", "w.bin"),
            entry("offset", 64),
            entry("length", data.len() - 64),
        ],
    );
    let offset = data.len();
    data.extend_from_slice(tensors[1].raw_data.as_ref().unwrap());
    point(
        &mut tensors[1],
        vec![
            entry("location", "w.bin"),
            entry("offset", offset),
            entry("checksum", "00"),
        ],
    );
    write(&folder, "w.bin", &data);
    let path = write(&folder, "model.onnx", &message.encode_to_vec());

    let model = read(&path);
    assert!(model.source.external);
    assert_eq!(
        model.source.total_bytes,
        (data.len() + message.encoded_len()) as u64
    );
    assert_eq!(model.proto, whole);
    // Also over the files that it reads from.
    for name in ["copy.onnx", "model.onnx"] {
        let copy = folder.path().join(name);
        save(&model, &copy).unwrap();
        let data = data_of(folder.path(), name);
        assert!(
            std::fs::metadata(&data[0]).unwrap().len() >= 16 * 27 * 4 && data.len() == 1,
            "{data:?}"
        );
        assert!(std::fs::metadata(&copy).unwrap().len() < 1500);
        let again = read(&copy);
        assert!(again.source.external);
        assert_eq!(again.proto, whole);
    }
    assert_eq!(model.proto, whole);
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 5, "temporary files are left: {names:?}");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixtures().join("digits_transformer.onnx")).unwrap();
    for length in [
        1,
        2,
        7,
        100,
        1000,
        whole.len() / 2,
        whole.len() - 1000,
        whole.len() - 1,
    ] {
        refused(
            &write(&folder, "short.onnx", &whole[..length]),
            "ONNX model",
        );
    }
    refused(
        &write(&folder, "text.onnx", b"<html>404 not found</html>"),
        "not an ONNX model",
    );
    refused(&write(&folder, "zeros.onnx", &[0; 64]), "not an ONNX model");
    refused(&write(&folder, "empty.onnx", b""), "the file is empty");
    refused(
        &write(
            &folder,
            "graphless.onnx",
            &ModelProto {
                ir_version: Some(8),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        "no graph",
    );
    refused(folder.path(), "folder");
    refused(&folder.path().join("missing.onnx"), "");
}

#[test]
fn external_weights_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inside")).unwrap();
    let outside = write(&folder, "outside.bin", &[0; 16 * 27 * 4]);
    let attempt = |location: &str, problem: &str| {
        let mut message = message();
        point(
            &mut message.graph.as_mut().unwrap().initializer[0],
            vec![entry("location", location)],
        );
        let path = folder.path().join("inside/model.onnx");
        std::fs::write(&path, message.encode_to_vec()).unwrap();
        refused(&path, problem);
    };
    attempt("gone.bin", "gone.bin");
    attempt("../outside.bin", "outside the model's folder");
    attempt("./../inside/../outside.bin", "outside the model's folder");
    attempt(outside.to_str().unwrap(), "outside the model's folder");
    attempt("", "external data");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, folder.path().join("inside/link.bin")).unwrap();
        attempt("link.bin", "outside the model's folder");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("inside/up")).unwrap();
        attempt("up/outside.bin", "outside the model's folder");
    }
    std::fs::write(folder.path().join("inside/small.bin"), [0; 8]).unwrap();
    attempt("small.bin", "has 8 bytes");
}

#[test]
fn external_ranges_outside_the_file_are_refused() {
    for (offset, length) in [
        ("4", "8"),
        ("0", "9"),
        ("18446744073709551615", "1"),
        ("9", "0"),
        ("-1", "4"),
        ("0", "many"),
    ] {
        let mut message = message();
        let entries = vec![
            entry("location", "w.bin"),
            entry("offset", offset),
            entry("length", length),
        ];
        point(&mut message.graph.as_mut().unwrap().initializer[0], entries);
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "w.bin", &[0; 8]);
        refused(
            &write(&folder, "bad.onnx", &message.encode_to_vec()),
            "external data",
        );
    }
    refused_tensor("without a location", |tensor| point(tensor, Vec::new()));
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    refused_tensor("unknown element type 99", |tensor| {
        tensor.data_type = Some(99)
    });
    refused_tensor("unknown element type 0", |tensor| tensor.data_type = None);
    refused_tensor("negative extent -3", |tensor| tensor.dims[1] = -3);
    refused_tensor("where its type and dims ask for 1728", |tensor| {
        tensor.raw_data = Some(vec![0; 5].into())
    });
    refused_tensor("where its type and dims ask for 1728", |tensor| {
        tensor.raw_data = None
    });
    refused_tensor("more than memory can address", |tensor| {
        tensor.dims = vec![i64::MAX; 3]
    });
    refused_tensor("more than memory can address", |tensor| {
        tensor.dims = vec![1 << 62, 2]
    });
    // Texts have no size in bytes, but a number.
    refused_tensor("has 0 texts", |tensor| {
        (tensor.data_type, tensor.dims) = (Some(Dtype::String.code()), vec![1 << 62, 2])
    });
    refused_tensor("claims", |tensor| tensor.dims = vec![1 << 40]);
}

#[test]
fn graphs_that_do_not_hold_together_are_refused() {
    refused_text(
        "'y' is defined twice",
        "input x f32[2]\ny = Relu(x)\ny = Tanh(x)\noutput y",
    );
    refused_text(
        "'x' is defined twice",
        "input x f32[2]\ninput x f32[2]\noutput x",
    );
    refused_text(
        "'c' is defined twice",
        "const c f32[2]\nconst c f32[2]\noutput c",
    );
    refused_text(
        "y reads 'nothing', which nothing produces",
        "input x f32[2]\ny = Add(x, nothing)\noutput y",
    );
    refused_text(
        "'z', which nothing produces",
        "input x f32[2]\ny = Relu(x)\noutput z",
    );
    refused_text(
        "depends on its own output",
        "input x f32[2]\na = Add(x, b)\nb = Relu(a)\noutput b",
    );
    refused_text(
        "depends on its own output",
        "input x f32[2]\na = Add(x, a)\noutput a",
    );
    refused_text(
        "IR version 2",
        "ir 2\ninput x f32[2]\ny = Relu(x)\noutput y",
    );
}

#[test]
fn typed_fields_and_raw_bytes_are_one_tensor() {
    let cases = [
        (
            TensorProto {
                float_data: vec![1.5, -2.0],
                ..Default::default()
            },
            Dtype::Float,
            2,
        ),
        (
            TensorProto {
                double_data: vec![1.5, -2.0],
                ..Default::default()
            },
            Dtype::Double,
            2,
        ),
        (
            TensorProto {
                int64_data: vec![i64::MIN, 5],
                ..Default::default()
            },
            Dtype::Int64,
            2,
        ),
        (
            TensorProto {
                uint64_data: vec![u64::MAX, 5],
                ..Default::default()
            },
            Dtype::Uint64,
            2,
        ),
        (
            TensorProto {
                uint64_data: vec![7, 5],
                ..Default::default()
            },
            Dtype::Uint32,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![-7, 5],
                ..Default::default()
            },
            Dtype::Int32,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![-7, 5],
                ..Default::default()
            },
            Dtype::Int16,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![-7, 5],
                ..Default::default()
            },
            Dtype::Int8,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![200, 5],
                ..Default::default()
            },
            Dtype::Uint8,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![1, 0],
                ..Default::default()
            },
            Dtype::Bool,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![0x3c00, 0xc000],
                ..Default::default()
            },
            Dtype::Float16,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![0x3f80, 0xc000],
                ..Default::default()
            },
            Dtype::Bfloat16,
            2,
        ),
        (
            TensorProto {
                int32_data: vec![0x38],
                ..Default::default()
            },
            Dtype::Float8e4m3fn,
            1,
        ),
        (
            TensorProto {
                int32_data: vec![0xf1, 0x02],
                ..Default::default()
            },
            Dtype::Int4,
            3,
        ),
        (
            TensorProto {
                int32_data: vec![0b11_10_01_00, 1],
                ..Default::default()
            },
            Dtype::Uint2,
            5,
        ),
    ];
    let raw: [&[u8]; 15] = [
        &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0],
        &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0],
        &[0, 0, 0, 0, 0, 0, 0, 0x80, 5, 0, 0, 0, 0, 0, 0, 0],
        &[
            255, 255, 255, 255, 255, 255, 255, 255, 5, 0, 0, 0, 0, 0, 0, 0,
        ],
        &[7, 0, 0, 0, 5, 0, 0, 0],
        &[0xf9, 255, 255, 255, 5, 0, 0, 0],
        &[0xf9, 255, 5, 0],
        &[0xf9, 5],
        &[200, 5],
        &[1, 0],
        &[0, 0x3c, 0, 0xc0],
        &[0x80, 0x3f, 0, 0xc0],
        &[0x38],
        &[0xf1, 2],
        &[0b11_10_01_00, 1],
    ];
    for ((typed, dtype, count), raw) in cases.into_iter().zip(raw) {
        let typed = TensorProto {
            dims: vec![count],
            data_type: Some(dtype.code()),
            ..typed
        };
        let raw = TensorRef {
            dtype,
            dims: vec![count as usize],
            bytes: raw.to_vec().into(),
        };
        assert_eq!(TensorRef::from_proto(&typed).unwrap(), raw);
        assert_eq!(TensorRef::from_proto(&raw.to_proto("t")).unwrap(), raw);
    }
}

#[test]
fn fields_of_a_newer_standard_are_reported() {
    use prost::encoding::{WireType, encode_key, string, uint64};
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = message().encode_to_vec();
    uint64::encode(99, &5, &mut bytes);
    assert_eq!(
        read(&write(&folder, "a.onnx", &bytes))
            .source
            .unknown_fields,
        ["ModelProto field 99"]
    );
    let message = message();
    let mut graph = message.graph.as_ref().unwrap().encode_to_vec();
    string::encode(99, &"new".to_owned(), &mut graph);
    let mut bytes = ModelProto {
        graph: None,
        ..message
    }
    .encode_to_vec();
    encode_key(7, WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(graph.len() as u64, &mut bytes);
    bytes.extend(graph);
    assert_eq!(
        read(&write(&folder, "b.onnx", &bytes))
            .source
            .unknown_fields,
        ["GraphProto field 99"]
    );
}

#[test]
fn old_styles_and_side_matter_are_kept() {
    let mut message = text::message(
        "ir 3\ninput x f32[2]\ninput w f32[2]\nconst w f32[2]\ny = Add(x, w)\noutput y",
    )
    .unwrap();
    message.metadata_props = vec![entry("author", "someone")];
    let graph = message.graph.as_mut().unwrap();
    graph.doc_string = Some("about".into());
    graph.metadata_props = vec![entry("pass", 3)];
    graph.node[0].metadata_props = vec![entry("scope", "layer.1")];
    let mut values = TensorRef::from_f32(vec![1], &[2.0]).to_proto("sparse");
    values.metadata_props = vec![entry("a", "b")];
    let indices = Some(TensorRef::from_i64(vec![1], &[3]).to_proto(""));
    graph.sparse_initializer = vec![SparseTensorProto {
        values: Some(values),
        indices,
        dims: vec![5],
    }];
    let folder = tempfile::tempdir().unwrap();
    let model = read(&write(&folder, "old.onnx", &message.encode_to_vec()));
    assert_eq!(
        model
            .index()
            .graph(onnx_prune::model::Index::MAIN)
            .inputs
            .len(),
        1
    );
    let copy = folder.path().join("copy.onnx");
    save(&model, &copy).unwrap();
    assert_eq!(read(&copy).proto, message);
}

#[test]
fn extents_beyond_all_measure_do_no_harm() {
    for extent in [
        "9223372036854775807",
        "-9223372036854775808",
        "4611686018427387904",
        "0",
        "-1",
    ] {
        let text = SMALL.replace(
            "f32[n,3,8,8]",
            &format!("f32[{extent},3,{extent},{extent}]"),
        );
        analysed(&text::message(&text).unwrap().encode_to_vec());
    }
}

/// Loads and analyses bytes, whatever they are.
fn analysed(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "flipped.onnx", bytes);
    if let Ok(model) = load(&path, Limits::default()) {
        let _ = Workspace::new(&model, &Options::default());
    }
}

/// A fixture, and the places of its bytes that are no weights.
fn structure(name: &str) -> (Vec<u8>, Vec<usize>) {
    let model = read(&fixtures().join(name));
    let bytes = &model.source.bytes;
    let mut weight = vec![false; bytes.len()];
    for raw in model
        .proto
        .graph
        .iter()
        .flat_map(|graph| &graph.initializer)
        .filter_map(|tensor| tensor.raw_data.as_ref())
    {
        // Small ones are shapes and axes, which matter.
        let start = raw.as_ptr() as usize - bytes.as_ptr() as usize;
        weight[start..start + raw.len()].fill(raw.len() > 64);
    }
    (
        bytes.to_vec(),
        (0..bytes.len()).filter(|at| !weight[*at]).collect(),
    )
}

fn flipped(bytes: &[u8], places: &[usize], flips: &[(prop::sample::Index, u8)]) {
    let mut bytes = bytes.to_vec();
    for (at, byte) in flips {
        bytes[places[at.index(places.len())]] = *byte;
    }
    analysed(&bytes);
}

fn flips() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("ONNX_PRUNE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(128)))]

    #[test]
    fn flipped_bytes_do_no_harm(flips in flips()) {
        let bytes = message().encode_to_vec();
        let places: Vec<usize> = (0..bytes.len()).collect();
        flipped(&bytes, &places, &flips);
    }

    #[test]
    fn flipped_bytes_of_fixtures_do_no_harm(name in prop::sample::select(vec!["digits_transformer.onnx", "digits_lstm.onnx"]), flips in flips()) {
        let (bytes, places) = structure(name);
        flipped(&bytes, &places, &flips);
    }
}
