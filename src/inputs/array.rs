//! An array of samples whose rows are read from where they lie when they are asked for: a large one never stands in memory
//! whole, not even as pages of a mapped file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::DataError;
use super::column_major::row_major;
use super::pictures::Pictures;
use crate::model::TensorRef;
use crate::proto::Dtype;

/// An array, its first axis over samples unless the model takes it whole.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    source: ArraySource,
}

#[derive(Clone, Debug)]
enum ArraySource {
    Memory(Bytes),
    /// Elements from a place of a file on, entry after entry of the first axis.
    File {
        file: Arc<Mutex<File>>,
        start: u64,
        layout: FileLayout,
    },
    Pictures(Arc<Pictures>),
}

/// How numbers lie in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileLayout {
    /// Whether each has its last byte first.
    pub swapped: bool,
    /// Whether each entry of the first axis is in column-major order.
    pub fortran: bool,
}

impl Array {
    /// Numbers in a file, entry after entry of the first axis, from `start` on.
    pub fn filed(
        dtype: Dtype,
        dims: Vec<usize>,
        file: Arc<Mutex<File>>,
        start: u64,
        layout: FileLayout,
    ) -> Self {
        Array {
            dtype,
            dims,
            source: ArraySource::File {
                file,
                start,
                layout,
            },
        }
    }

    /// Images, of which each is decoded whenever it is asked for.
    pub fn pictures(dims: Vec<usize>, pictures: Pictures) -> Self {
        Array {
            dtype: Dtype::Uint8,
            dims,
            source: ArraySource::Pictures(Arc::new(pictures)),
        }
    }

    /// What is cut out of pictures; `None` where there are none.
    pub fn geometry(&self) -> Option<String> {
        if let ArraySource::Pictures(pictures) = &self.source {
            Some(pictures.describe())
        } else {
            None
        }
    }

    /// Whether an entry takes longer to make than to copy.
    pub fn slow(&self) -> bool {
        matches!(self.source, ArraySource::Pictures(_))
    }

    /// All of it. Errors: the file, `path`, can not be read.
    pub fn whole(&self, path: &Path) -> Result<TensorRef, DataError> {
        let bytes = self.entries(path, 0, self.dims.first().copied().unwrap_or(1))?;
        Ok(TensorRef {
            dtype: self.dtype,
            dims: self.dims.clone(),
            bytes,
        })
    }

    /// Entries `start..start + count` of the first axis; the axis itself goes when `keep_axis` is false. `None` where the
    /// array has not so many. Errors: the file can not be read.
    pub fn cut(
        &self,
        path: &Path,
        start: usize,
        count: usize,
        keep_axis: bool,
    ) -> Result<Option<TensorRef>, DataError> {
        let Some((first, rest)) = self.dims.split_first() else {
            return Ok(None);
        };
        if start.checked_add(count).is_none_or(|end| end > *first) {
            return Ok(None);
        }
        let mut dims = rest.to_vec();
        if keep_axis {
            dims.insert(0, count);
        }
        Ok(Some(TensorRef {
            dtype: self.dtype,
            dims,
            bytes: self.entries(path, start, count)?,
        }))
    }

    fn entries(&self, path: &Path, start: usize, count: usize) -> Result<Bytes, DataError> {
        let size = self.dtype.bits() / 8;
        let inner = self.dims.get(1..).unwrap_or_default();
        let row = inner.iter().product::<usize>() * size;
        match &self.source {
            ArraySource::Memory(bytes) => Ok(bytes
                .slice((start * row).min(bytes.len())..((start + count) * row).min(bytes.len()))),
            ArraySource::File {
                file,
                start: begin,
                layout,
            } => {
                let mut bytes = vec![0; count * row];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file
                    .seek(SeekFrom::Start(begin + (start * row) as u64))
                    .and_then(|_| file.read_exact(&mut bytes));
                drop(file);
                read.map_err(|error| DataError::new(path, error))?;
                if layout.swapped {
                    bytes
                        .chunks_exact_mut(size.max(1))
                        .for_each(<[u8]>::reverse);
                }
                if layout.fortran && inner.len() > 1 {
                    for entry in bytes.chunks_exact_mut(row.max(1)) {
                        let sorted = row_major(entry, inner, size);
                        entry.copy_from_slice(&sorted);
                    }
                }
                Ok(bytes.into())
            }
            ArraySource::Pictures(pictures) => Ok(pictures.decode(start..start + count)?.into()),
        }
    }
}

impl From<TensorRef> for Array {
    fn from(tensor: TensorRef) -> Self {
        Array {
            dtype: tensor.dtype,
            dims: tensor.dims,
            source: ArraySource::Memory(tensor.bytes),
        }
    }
}
