//! numpy's files: `.npy` holds one array, `.npz` is a zip of them.

use std::io::{Cursor, Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::error::Kind;
use super::{DataError, Tensors};
use crate::model::TensorRef;
use crate::proto::Dtype;

/// Reads an `.npy` file. The bytes stay in the mapped file unless their order must change.
/// Errors: not readable, no numpy array, an element type that no tensor has.
pub fn read_npy(path: &Path) -> Result<TensorRef, DataError> {
    let bytes = crate::model::map(path).map_err(|error| DataError::new(path, error))?;
    parse_npy(bytes).map_err(|problem| DataError::new(path, Kind::Format(problem)))
}

/// Reads all arrays of an `.npz` file, in the file's order; those that are not compressed stay in the map.
/// Errors: as [`read_npy`], naming the array; no zip.
pub fn read_npz(path: &Path) -> Result<Tensors, DataError> {
    let map = crate::model::map(path).map_err(|error| DataError::new(path, error))?;
    let fail = |problem: String| DataError::new(path, Kind::Format(problem));
    let mut archive = zip::ZipArchive::new(Cursor::new(map.clone())).map_err(|error| fail(format!("no .npz file: {error}")))?;
    let mut arrays = Tensors::new();
    for entry in 0..archive.len() {
        let mut entry = archive.by_index(entry).map_err(|error| fail(format!("a damaged .npz file: {error}")))?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().strip_suffix(".npy").unwrap_or(entry.name()).to_owned();
        let stored = entry.compression() == zip::CompressionMethod::Stored && !entry.encrypted();
        let range = entry.data_start().filter(|_| stored).map(|start| (start, start.saturating_add(entry.size())));
        let bytes = match range {
            Some((start, end)) if start <= end && end <= map.len() as u64 => map.slice(start as usize..end as usize),
            _ => {
                // The size that the file claims is not believed: the buffer grows as bytes really come.
                let mut bytes = Vec::with_capacity(entry.size().min(1 << 26) as usize);
                entry.read_to_end(&mut bytes).map_err(|error| fail(format!("array '{name}': {error}")))?;
                bytes.into()
            }
        };
        arrays.insert(name.clone(), parse_npy(bytes).map_err(|problem| fail(format!("array '{name}': {problem}")))?);
    }
    Ok(arrays)
}

fn parse_npy(bytes: Bytes) -> Result<TensorRef, String> {
    let mut reader = Cursor::new(bytes.clone());
    let header = NpyHeader::from_reader(&mut reader).map_err(|error| format!("no numpy array: {error}"))?;
    let descr = header.dtype();
    let unsupported = || format!("element type {} is not supported; save numbers or truth values", descr.descr());
    let DType::Plain(kind) = &descr else { return Err(unsupported()) };
    let dtype = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Bool, 1) => Dtype::Bool,
        (TypeChar::Int, 1) => Dtype::Int8,
        (TypeChar::Int, 2) => Dtype::Int16,
        (TypeChar::Int, 4) => Dtype::Int32,
        (TypeChar::Int, 8) => Dtype::Int64,
        (TypeChar::Uint, 1) => Dtype::Uint8,
        (TypeChar::Uint, 2) => Dtype::Uint16,
        (TypeChar::Uint, 4) => Dtype::Uint32,
        (TypeChar::Uint, 8) => Dtype::Uint64,
        (TypeChar::Float, 2) => Dtype::Float16,
        (TypeChar::Float, 4) => Dtype::Float,
        (TypeChar::Float, 8) => Dtype::Double,
        _ => return Err(unsupported()),
    };
    let dims: Option<Vec<usize>> = header.shape().iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let size = dtype.bits() / 8;
    let start = reader.position() as usize;
    let end = dims
        .as_ref()
        .and_then(|dims| dims.iter().try_fold(size, |product, dim| product.checked_mul(*dim)))
        .and_then(|length| start.checked_add(length));
    let (Some(dims), Some(end)) = (dims, end) else { return Err("its shape is larger than memory can address".into()) };
    if end > bytes.len() {
        return Err(format!("cut off: {} bytes of numbers where {} are expected", bytes.len().saturating_sub(start), end - start));
    }
    let mut bytes = bytes.slice(start..end);
    if kind.endianness() == Endianness::Big && size > 1 {
        bytes = bytes.chunks_exact(size).flat_map(|element| element.iter().rev().copied()).collect::<Vec<_>>().into();
    }
    if header.order() == Order::Fortran && dims.len() > 1 {
        bytes = row_major(&bytes, &dims, size).into();
    }
    Ok(TensorRef { dtype, dims, bytes })
}

/// Elements in column-major order, put into row-major order.
fn row_major(bytes: &[u8], dims: &[usize], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(dims.len());
    dims.iter().fold(size, |stride, dim| {
        strides.push(stride);
        stride * dim
    });
    let mut sorted = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    for _ in 0..bytes.len() / size {
        sorted.extend_from_slice(bytes.get(at..at + size).unwrap_or_default());
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    sorted
}

/// Writes one array. Errors: what the file system says, and element types that numpy lacks.
pub fn write_npy(path: &Path, tensor: &TensorRef) -> Result<(), DataError> {
    let bytes = npy_header(tensor).ok_or_else(|| DataError::new(path, no_numpy_type("array", tensor.dtype)))?;
    let mut file = std::fs::File::create(path).map_err(|error| DataError::new(path, error))?;
    file.write_all(&bytes).and_then(|()| file.write_all(&tensor.bytes)).map_err(|error| DataError::new(path, error))
}

/// Writes arrays by name, compressed. Errors: as [`write_npy`].
pub fn write_npz(path: &Path, tensors: &Tensors) -> Result<(), DataError> {
    let file = std::fs::File::create(path).map_err(|error| DataError::new(path, error))?;
    write_archive(path, file, tensors)
}

pub(super) fn write_archive(path: &Path, file: impl Write + Seek, tensors: &Tensors) -> Result<(), DataError> {
    let zip_error = |error: zip::result::ZipError| DataError::new(path, Kind::Format(error.to_string()));
    let mut archive = zip::ZipWriter::new(file);
    for (name, tensor) in tensors {
        let header = npy_header(tensor).ok_or_else(|| DataError::new(path, no_numpy_type(name, tensor.dtype)))?;
        let large = tensor.bytes.len() as u64 >= u64::from(u32::MAX);
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated).large_file(large);
        archive.start_file(format!("{name}.npy"), options).map_err(zip_error)?;
        archive.write_all(&header).and_then(|()| archive.write_all(&tensor.bytes)).map_err(|error| DataError::new(path, error))?;
    }
    archive.finish().map_err(zip_error)?;
    Ok(())
}

fn no_numpy_type(name: &str, dtype: Dtype) -> Kind {
    Kind::Format(format!("array '{name}': numpy has no {dtype}"))
}

/// Magic, version 1.0, and the description padded so that the numbers start at a multiple of 64.
fn npy_header(tensor: &TensorRef) -> Option<Vec<u8>> {
    let descr = match tensor.dtype {
        Dtype::Bool => "|b1",
        Dtype::Int8 => "|i1",
        Dtype::Uint8 => "|u1",
        Dtype::Int16 => "<i2",
        Dtype::Uint16 => "<u2",
        Dtype::Int32 => "<i4",
        Dtype::Uint32 => "<u4",
        Dtype::Int64 => "<i8",
        Dtype::Uint64 => "<u8",
        Dtype::Float16 => "<f2",
        Dtype::Float => "<f4",
        Dtype::Double => "<f8",
        _ => return None,
    };
    let shape: String = tensor.dims.iter().map(|dim| format!("{dim},")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', length - 10 - text.len() - 1));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
    header.extend(text.bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: &str, shape: &str, body: &[u8]) -> Bytes {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend(body);
        bytes.into()
    }

    #[test]
    fn orders_and_byte_orders_are_evened_out() {
        let fortran = parse_npy(npy("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!((fortran.dims.as_slice(), &fortran.bytes[..]), ([2, 3].as_slice(), [1, 2, 3, 4, 5, 6].as_slice()));
        let big = parse_npy(npy(">i2", "False", "(2,)", &[0, 1, 1, 0])).unwrap();
        assert_eq!(big.to_i64().unwrap(), [1, 256]);
        let scalar = parse_npy(npy("<f4", "False", "()", &1.5f32.to_le_bytes())).unwrap();
        assert_eq!((scalar.dims.len(), scalar.to_f32().unwrap()), (0, vec![1.5]));
    }

    #[test]
    fn damaged_arrays_are_refused() {
        assert!(parse_npy(npy("<f4", "False", "(2,)", &[0; 7])).unwrap_err().contains("cut off"));
        assert!(parse_npy(npy("|O", "False", "(2,)", &[0; 16])).unwrap_err().contains("not supported"));
        assert!(parse_npy(npy("<f8", "False", "(4611686018427387904, 8)", &[])).is_err());
        assert!(parse_npy(Bytes::from_static(b"PK")).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = Tensors::from_iter([
            ("a".to_owned(), TensorRef::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, f32::NAN.min(4.0)])),
            ("b/c".to_owned(), TensorRef::from_i64(vec![], &[7])),
        ]);
        let path = folder.path().join("x.npz");
        write_npz(&path, &tensors).unwrap();
        assert_eq!(read_npz(&path).unwrap(), tensors);
        let path = folder.path().join("x.npy");
        write_npy(&path, &tensors["a"]).unwrap();
        assert_eq!(read_npy(&path).unwrap(), tensors["a"]);
    }

    #[test]
    fn files_of_numpy_are_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let arrays = read_npz(&fixtures.join("digits_test.npz")).unwrap();
        assert_eq!(arrays["input"].dims, [500, 1, 8, 8]);
        assert_eq!(read_npy(&fixtures.join("digits_test_labels.npy")).unwrap().dims, [500]);
    }
}
