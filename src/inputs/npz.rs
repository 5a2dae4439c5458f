//! numpy's files: `.npy` holds one array, `.npz` is a zip of them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use indexmap::IndexMap;

use super::array::{Array, FileLayout};
use super::column_major::{row_major, rows_first};
use super::error::DataErrorKind;
use super::npy_header::{Header, LONGEST as HEADER};
use super::{DataError, Tensors};
use crate::files;
use crate::model::TensorRef;
use crate::proto::Dtype;

/// Bytes of a compressed array that are held in memory; what is larger goes to a temporary file.
const INFLATED: u64 = 64 << 20;

/// Reads an `.npy` file. Errors: not readable, no numpy array, an element type that no tensor has.
pub fn read_npy(path: &Path) -> Result<TensorRef, DataError> {
    open_npy(path)?.whole(path)
}

/// Reads all arrays of an `.npz` file, in the file's order. Errors: as [`read_npy`], naming the array; no zip.
pub fn read_npz(path: &Path) -> Result<Tensors, DataError> {
    open_npz(path)?
        .into_iter()
        .map(|(name, array)| Ok((name, array.whole(path)?)))
        .collect()
}

/// Opens an `.npy` file. Its numbers stay there until they are asked for; a large array in column-major order is put into rows
/// in a temporary file. Errors: as [`read_npy`].
pub(super) fn open_npy(path: &Path) -> Result<Array, DataError> {
    let (mut stream, file) = files::open(path)
        .and_then(|stream| Ok((stream, files::open(path)?)))
        .map_err(|error| DataError::new(path, error))?;
    let size = file
        .metadata()
        .map_err(|error| DataError::new(path, error))?
        .len();
    let stored = StoredEntry {
        file: Arc::new(Mutex::new(file)),
        start: 0,
        size,
    };
    opened(&mut stream, INFLATED, Some(stored)).map_err(|problem| wrong(path, problem))
}

/// Opens all arrays of an `.npz` file, in the file's order. The numbers of those that are not compressed stay there until
/// they are asked for; a large one that is compressed is inflated to a temporary file, and one in column-major order is put
/// into rows there; a small one is read to memory. Errors: as [`read_npz`].
pub(super) fn open_npz(path: &Path) -> Result<IndexMap<String, Array>, DataError> {
    let file = files::open(path).map_err(|error| DataError::new(path, error))?;
    let total = file
        .metadata()
        .map_err(|error| DataError::new(path, error))?
        .len();
    let file = Arc::new(Mutex::new(file));
    of_entries(path, |entry| {
        let plain = entry.compression() == zip::CompressionMethod::Stored && !entry.encrypted();
        let size = entry.size();
        let start = entry
            .data_start()
            .filter(|start| plain && start.checked_add(size).is_some_and(|end| end <= total));
        let stored = start.map(|start| StoredEntry {
            file: file.clone(),
            start,
            size,
        });
        opened(entry, INFLATED, stored)
    })
}

/// The shapes of all arrays of an `.npz` file, by name; only their headers are read. Errors: as [`read_npz`].
pub(super) fn npz_shapes(path: &Path) -> Result<IndexMap<String, Vec<usize>>, DataError> {
    of_entries(path, |entry| Ok(header(entry)?.0.dims))
}

/// The shape of the array of an `.npy` file. Errors: as [`read_npy`].
pub(super) fn npy_shape(path: &Path) -> Result<Vec<usize>, DataError> {
    let mut file = files::open(path).map_err(|error| DataError::new(path, error))?;
    let (header, _) = header(&mut file).map_err(|problem| wrong(path, problem))?;
    Ok(header.dims)
}

fn wrong(path: &Path, problem: String) -> DataError {
    DataError::new(path, DataErrorKind::Format(problem))
}

/// What is made of every array of an `.npz` file, by name, in the file's order.
fn of_entries<T>(
    path: &Path,
    make: impl Fn(&mut zip::read::ZipFile<BufReader<File>>) -> Result<T, String>,
) -> Result<IndexMap<String, T>, DataError> {
    let stream = files::open(path).map_err(|error| DataError::new(path, error))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(stream))
        .map_err(|error| wrong(path, format!("no .npz file: {error}")))?;
    let mut made = IndexMap::new();
    for entry in 0..archive.len() {
        let mut entry = archive
            .by_index(entry)
            .map_err(|error| wrong(path, format!("a damaged .npz file: {error}")))?;
        if entry.is_dir() {
            continue;
        }
        let name = entry
            .name()
            .strip_suffix(".npy")
            .unwrap_or(entry.name())
            .to_owned();
        let one = make(&mut entry)
            .map_err(|problem| wrong(path, format!("array '{name}': {problem}")))?;
        made.insert(name, one);
    }
    Ok(made)
}

/// Where an array lies in a file as it is.
struct StoredEntry {
    file: Arc<Mutex<File>>,
    start: u64,
    size: u64,
}

/// What a stream's beginning says, and what was read of it.
fn header(stream: &mut impl Read) -> Result<(Header, Vec<u8>), String> {
    let mut bytes = Vec::new();
    stream
        .take(HEADER)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok((Header::read(&bytes)?, bytes))
}

/// An array from a stream of bytes: left where it is `stored`, else held in memory if it has no more than `limit` bytes.
/// However much the stream has, no more is read than the header tells.
fn opened(
    stream: &mut impl Read,
    limit: u64,
    stored: Option<StoredEntry>,
) -> Result<Array, String> {
    let (header, mut bytes) = header(stream)?;
    let is_large = header.end as u64 > limit;
    if let Some(stored) = stored.filter(|_| is_large || !header.fortran) {
        header.fits(stored.size)?;
        return header.filed(stored.file, stored.start);
    }
    // The size that an archive claims is not believed: memory grows as bytes really come.
    let mut rest = stream.take((header.end as u64).saturating_sub(bytes.len() as u64));
    if is_large {
        let mut copied = || -> std::io::Result<(File, u64)> {
            let mut file = tempfile::tempfile()?;
            file.write_all(&bytes)?;
            let more = std::io::copy(&mut rest, &mut file)?;
            Ok((file, bytes.len() as u64 + more))
        };
        let (file, length) =
            copied().map_err(|error| format!("cannot be inflated to a temporary file: {error}"))?;
        header.fits(length)?;
        return header.filed(Arc::new(Mutex::new(file)), 0);
    }
    rest.read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    header.array(&bytes.into()).map(Array::from)
}

impl Header {
    /// The array in memory, in row-major order. Errors: the file is cut off.
    fn array(self, bytes: &Bytes) -> Result<TensorRef, String> {
        self.fits(bytes.len() as u64)?;
        let size = self.dtype.bits() / 8;
        let mut bytes = bytes.slice(self.start..self.end);
        if self.swapped {
            bytes = bytes
                .chunks_exact(size)
                .flat_map(|element| element.iter().rev().copied())
                .collect::<Vec<_>>()
                .into();
        }
        if self.fortran {
            bytes = row_major(&bytes, &self.dims, size).into();
        }
        Ok(TensorRef {
            dtype: self.dtype,
            dims: self.dims,
            bytes,
        })
    }

    /// The array in a file, in which the header stands at `offset`. Errors: a temporary file that cannot be written.
    fn filed(self, file: Arc<Mutex<File>>, offset: u64) -> Result<Array, String> {
        let start = offset + self.start as u64;
        let (file, start) = if self.fortran {
            let rows = rows_first(&file, start, &self.dims, self.dtype.bits() / 8)
                .map_err(|error| format!("cannot be put into rows in a temporary file: {error}"))?;
            (Arc::new(Mutex::new(rows)), 0)
        } else {
            (file, start)
        };
        let layout = FileLayout {
            swapped: self.swapped,
            fortran: self.fortran,
        };
        Ok(Array::filed(self.dtype, self.dims, file, start, layout))
    }
}

/// Writes one array. Errors: what the file system says, and element types that numpy lacks.
pub fn write_npy(path: &Path, tensor: &TensorRef) -> Result<(), DataError> {
    let header = npy_header(tensor).ok_or_else(|| no_numpy_type("array", tensor.dtype));
    let fill = |file: &mut File| {
        file.write_all(&header?)
            .and_then(|()| file.write_all(&tensor.bytes))
    };
    files::write(path, fill).map_err(|error| DataError::new(path, std::io::Error::other(error)))
}

/// Writes arrays by name, compressed. Errors: as [`write_npy`].
pub fn write_npz(path: &Path, tensors: &Tensors) -> Result<(), DataError> {
    files::write(path, |file| write_archive(file, tensors))
        .map_err(|error| DataError::new(path, std::io::Error::other(error)))
}

/// Writes arrays by name into an archive. Errors: as [`write_npy`].
pub fn write_archive(file: impl Write + Seek, tensors: &Tensors) -> std::io::Result<()> {
    let mut archive = zip::ZipWriter::new(file);
    for (name, tensor) in tensors {
        let header = npy_header(tensor).ok_or_else(|| no_numpy_type(name, tensor.dtype))?;
        let large = tensor.bytes.len() as u64 >= u64::from(u32::MAX);
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .large_file(large);
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&header)?;
        archive.write_all(&tensor.bytes)?;
    }
    archive.finish()?;
    Ok(())
}

fn no_numpy_type(name: &str, dtype: Dtype) -> std::io::Error {
    std::io::Error::other(format!("array '{name}': numpy has no {dtype}"))
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
    use std::io::Cursor;

    use super::*;

    fn parse_npy(bytes: Bytes) -> Result<TensorRef, String> {
        opened(&mut Cursor::new(bytes), INFLATED, None)?
            .whole(Path::new(""))
            .map_err(|error| error.to_string())
    }

    fn npy(descr: &str, fortran: &str, shape: &str, body: &[u8]) -> Bytes {
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend(body);
        bytes.into()
    }

    #[test]
    fn orders_and_byte_orders_are_evened_out() {
        let fortran = parse_npy(npy("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(
            (fortran.dims.as_slice(), &fortran.bytes[..]),
            ([2, 3].as_slice(), [1, 2, 3, 4, 5, 6].as_slice())
        );
        let big = parse_npy(npy(">i2", "False", "(2,)", &[0, 1, 1, 0])).unwrap();
        assert_eq!(big.to_i64().unwrap(), [1, 256]);
        let scalar = parse_npy(npy("<f4", "False", "()", &1.5f32.to_le_bytes())).unwrap();
        assert_eq!(
            (scalar.dims.len(), scalar.to_f32().unwrap()),
            (0, vec![1.5])
        );
    }

    #[test]
    fn what_memory_is_not_to_hold_is_read_from_files() {
        let numbers: Vec<u8> = (0..40).collect();
        let path = Path::new("");
        for descr in ["<i2", ">i2"] {
            let bytes = npy(descr, "False", "(5, 4)", &numbers);
            let held = parse_npy(bytes.clone()).unwrap();
            let limit = bytes.len() as u64 - 7;
            let inflated = opened(&mut Cursor::new(bytes.clone()), limit, None).unwrap();
            assert_eq!(inflated.whole(path).unwrap(), held);
            let cut = bytes.slice(..limit as usize + 3);
            let cut = opened(&mut Cursor::new(cut), limit, None);
            assert!(cut.unwrap_err().contains("cut off"));
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("x.npy");
            std::fs::write(&file, &bytes).unwrap();
            let rows = open_npy(&file)
                .unwrap()
                .cut(&file, 3, 2, true)
                .unwrap()
                .unwrap();
            assert_eq!(
                (rows.dims.as_slice(), rows.to_i64().unwrap()),
                ([2, 4].as_slice(), held.to_i64().unwrap()[12..].to_vec())
            );
            assert!(
                open_npy(&file)
                    .unwrap()
                    .cut(&file, 4, 2, true)
                    .unwrap()
                    .is_none()
            );
        }
    }

    #[test]
    fn no_more_is_read_than_the_header_tells() {
        let mut bytes = npy("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6]).to_vec();
        let end = bytes.len() as u64;
        bytes.resize(1 << 22, 0);
        let mut stream = Cursor::new(bytes.clone());
        // More than a header's length is not read ahead either.
        for limit in [INFLATED, end - 1] {
            let array = opened(&mut stream, limit, None).unwrap();
            assert_eq!(array.dims, [2, 3]);
            assert!(stream.position() <= HEADER);
            stream.set_position(0);
        }
    }

    #[test]
    fn a_large_array_in_column_major_order_is_read_as_a_small_one_is() {
        let numbers: Vec<u8> = (0..48).collect();
        let path = Path::new("");
        for descr in ["<i2", ">i2"] {
            let bytes = npy(descr, "True", "(4, 3, 2)", &numbers);
            let held = parse_npy(bytes.clone()).unwrap();
            let filed = opened(&mut Cursor::new(bytes.clone()), 40, None).unwrap();
            assert_eq!(filed.whole(path).unwrap(), held);
            let entry = filed.cut(path, 2, 1, false).unwrap().unwrap();
            assert_eq!(
                (entry.dims.as_slice(), &entry.bytes[..]),
                ([3, 2].as_slice(), &held.bytes[24..36])
            );
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("x.npy");
            std::fs::write(&file, &bytes).unwrap();
            let stored = StoredEntry {
                file: Arc::new(Mutex::new(File::open(&file).unwrap())),
                start: 0,
                size: bytes.len() as u64,
            };
            let left = opened(&mut Cursor::new(bytes), 40, Some(stored)).unwrap();
            assert_eq!(left.whole(path).unwrap(), held);
            assert_eq!(npy_shape(&file).unwrap(), [4, 3, 2]);
        }
    }

    #[test]
    fn damaged_arrays_are_refused() {
        assert!(
            parse_npy(npy("<f4", "False", "(2,)", &[0; 7]))
                .unwrap_err()
                .contains("cut off")
        );
        assert!(
            parse_npy(npy("|O", "False", "(2,)", &[0; 16]))
                .unwrap_err()
                .contains("not supported")
        );
        assert!(parse_npy(npy("<f8", "False", "(4611686018427387904, 8)", &[])).is_err());
        assert!(parse_npy(Bytes::from_static(b"PK")).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = Tensors::from_iter([
            (
                "a".to_owned(),
                TensorRef::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, f32::NAN.min(4.0)]),
            ),
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
        assert_eq!(
            read_npy(&fixtures.join("digits_test_labels.npy"))
                .unwrap()
                .dims,
            [500]
        );
    }
}
