//! Files of other kinds, told by their first bytes, and how to get an ONNX model from them.

/// What a file is, and what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub what: &'static str,
    pub hint: &'static str,
}

const fn is(what: &'static str, hint: &'static str) -> Foreign {
    Foreign { what, hint }
}

const PYTORCH: Foreign = is(
    "a PyTorch file",
    "export the model with torch.onnx.export(model, example, 'model.onnx')",
);
const TENSORFLOW: Foreign = is(
    "a TensorFlow model",
    "convert it with python -m tf2onnx.convert",
);
const KERAS: Foreign = is(
    "a Keras file",
    "convert it with python -m tf2onnx.convert, or model.export(path, format='onnx')",
);
const PACKED: &str = "unpack it first";

/// Bytes of a zip archive that are searched for the names of what it holds, at each end.
const SEARCHED: usize = 64 << 10;

/// Bytes that a kind of file begins with, after so many others.
const STARTS: &[(usize, &[u8], Foreign)] = &[
    (0, b"\x1f\x8b", is("a gzip archive", PACKED)),
    (0, b"\xfd7zXZ\x00", is("an xz archive", PACKED)),
    (0, b"BZh", is("a bzip2 archive", PACKED)),
    (0, b"\x28\xb5\x2f\xfd", is("a zstd archive", PACKED)),
    (0, b"7z\xbc\xaf\x27\x1c", is("a 7z archive", PACKED)),
    (0, b"Rar!", is("a rar archive", PACKED)),
    (257, b"ustar", is("a tar archive", PACKED)),
    (
        4,
        b"TFL3",
        is(
            "a TensorFlow Lite model",
            "convert it with python -m tf2onnx.convert --tflite FILE --output model.onnx",
        ),
    ),
    (
        4,
        b"ORTM",
        is(
            "a model in ONNX Runtime's own format",
            "take the .onnx file that it was made from",
        ),
    ),
    (0, b"\x89HDF\r\n", KERAS),
    (0, b"\x80\x02", PYTORCH),
    (0, b"\x80\x03", PYTORCH),
    (
        0,
        b"\x80\x04",
        is(
            "a pickled Python object",
            "export the model in it, with torch.onnx.export or skl2onnx",
        ),
    ),
    (
        0,
        b"\x80\x05",
        is(
            "a pickled Python object",
            "export the model in it, with torch.onnx.export or skl2onnx",
        ),
    ),
    (
        0,
        b"\x93NUMPY",
        is("a numpy array", "arrays are inputs, not a model"),
    ),
    (
        0,
        b"version https://git-lfs",
        is(
            "a git-lfs pointer",
            "fetch the file itself with git lfs pull",
        ),
    ),
    (
        0,
        b"GGUF",
        is(
            "a GGUF model",
            "it holds no graph; export the original model to ONNX, with optimum for example",
        ),
    ),
    (
        0,
        b"ftrt",
        is(
            "a TensorRT engine",
            "take the .onnx file that it was built from",
        ),
    ),
    (
        0,
        b"\x89PNG",
        is("a picture", "pictures are inputs, not a model"),
    ),
    (
        0,
        b"\xff\xd8\xff",
        is("a picture", "pictures are inputs, not a model"),
    ),
    (0, b"%PDF", is("a PDF file", "name the .onnx file")),
];

/// What a file is if it is no ONNX model for certain.
pub(super) fn foreign(bytes: &[u8]) -> Option<Foreign> {
    let starts = |(skipped, start, _): &&(usize, &[u8], Foreign)| {
        bytes
            .get(*skipped..)
            .is_some_and(|bytes| bytes.starts_with(start))
    };
    if let Some((.., found)) = STARTS.iter().find(starts) {
        return Some(*found);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Some(archive(bytes));
    }
    if is_safetensors(bytes) {
        return Some(is(
            "a safetensors file",
            "it holds weights and no graph; export the model with optimum-cli export onnx, or torch.onnx.export",
        ));
    }
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(512))?)
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head")
    {
        return Some(is(
            "a web page",
            "the download gave a page instead of the file; fetch the raw file",
        ));
    }
    if text.starts_with("<?xml") || text.starts_with("<net") {
        return Some(is(
            "an XML file, as OpenVINO writes them",
            "take the .onnx file that it was made from",
        ));
    }
    text.starts_with('{')
        .then_some(is("a JSON file", "name the .onnx file"))
}

/// What a message is that is no ONNX model: other kinds of files are protocol buffers too.
pub(super) fn other_message(bytes: &[u8]) -> Option<Foreign> {
    let holds = |words: &[u8]| {
        bytes
            .get(..bytes.len().min(SEARCHED))
            .is_some_and(|start| find(start, words))
    };
    // A saved model begins with its version and a graph with its name or the first node, which is most often a placeholder.
    if (bytes.starts_with(b"\x08\x01\x12") && holds(b"serve"))
        || (bytes.starts_with(b"\x0a") && (holds(b"Placeholder") || holds(b"\x12\x05Const")))
    {
        return Some(TENSORFLOW);
    }
    None
}

fn archive(bytes: &[u8]) -> Foreign {
    let ends = [
        bytes.get(..bytes.len().min(SEARCHED)),
        bytes.get(bytes.len().saturating_sub(SEARCHED)..),
    ];
    let holds = |name: &[u8]| ends.iter().flatten().any(|end| find(end, name));
    if holds(b"data.pkl") || holds(b"constants.pkl") {
        PYTORCH
    } else if holds(b"model.weights.h5") || holds(b"config.json") {
        KERAS
    } else if holds(b".npy") {
        is("a numpy archive", "arrays are inputs, not a model")
    } else {
        is("a zip archive", PACKED)
    }
}

/// The length of a header of JSON, then the header.
fn is_safetensors(bytes: &[u8]) -> bool {
    let length = bytes
        .first_chunk::<8>()
        .map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length >= 2 && length < bytes.len() as u64)
        && bytes.get(8..10) == Some(b"{\"")
}

fn find(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> &'static str {
        foreign(bytes)
            .or_else(|| other_message(bytes))
            .map_or("", |found| found.what)
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        assert_eq!(
            named(b"PK\x03\x04......model/data.pkl......"),
            "a PyTorch file"
        );
        assert_eq!(named(b"PK\x03\x04......config.json......"), "a Keras file");
        assert_eq!(named(b"PK\x03\x04......x.npy......"), "a numpy archive");
        assert_eq!(named(b"PK\x03\x04......other......"), "a zip archive");
        assert_eq!(named(b"\x1f\x8b\x08\x00"), "a gzip archive");
        assert_eq!(named(b"\x1c\x00\x00\x00TFL3"), "a TensorFlow Lite model");
        assert_eq!(named(b"\x89HDF\r\n\x1a\n"), "a Keras file");
        assert_eq!(
            named(b"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}          "),
            "a safetensors file"
        );
        assert_eq!(named(b"\n  <!DOCTYPE html><html>"), "a web page");
        assert_eq!(
            named(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
            "a git-lfs pointer"
        );
        assert_eq!(
            named(b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder"),
            "a TensorFlow model"
        );
        assert_eq!(
            named(b"\x08\x01\x12\x90\x01\x0a\x07\x22\x05serve"),
            "a TensorFlow model"
        );
        // What ONNX models begin with.
        assert_eq!(named(b"\x08\x08\x12\x07pytorch\x1a\x062.15.0:"), "");
    }
}
