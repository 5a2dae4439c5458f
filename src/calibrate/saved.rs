//! Statistics in a file: a numpy archive of sums, so that parts taken on several machines can be added.
//!
//! `model_sha256` (bytes of its hexadecimal text), `samples`, and for each activation matrix, by its key, `KEY/rows`,
//! `KEY/sum` (groups × columns) and `KEY/gram` (groups × columns × columns).

use std::io::{Seek, Write};
use std::path::Path;

use faer::Mat;

use sha2::{Digest, Sha256};

use super::{Moments, Statistics};
use crate::inputs::{DataError, Tensors, read_npz, write_archive};
use crate::model::TensorRef;
use crate::proto::Dtype;

const DIGEST: &str = "model_sha256";
const SAMPLES: &str = "samples";

impl Statistics {
    /// Writes them with the digest of the model that they are of. Errors: what the file system says.
    pub(crate) fn write(&self, file: impl Write + Seek, sha256: &str) -> std::io::Result<()> {
        let digest = TensorRef {
            dtype: Dtype::Uint8,
            dims: vec![sha256.len()],
            bytes: sha256.as_bytes().to_vec().into(),
        };
        let mut arrays = Tensors::new();
        arrays.insert(DIGEST.to_owned(), digest);
        arrays.insert(
            SAMPLES.to_owned(),
            TensorRef::from_i64(
                Vec::new(),
                &[i64::try_from(self.samples).unwrap_or(i64::MAX)],
            ),
        );
        for (key, moments) in &self.of {
            let (groups, columns) = (moments.gram.len(), moments.columns());
            let gram = moments.gram.iter().flat_map(|gram| {
                (0..columns)
                    .flat_map(move |row| (0..columns).map(move |column| gram[(row, column)]))
            });
            arrays.insert(
                format!("{key}/rows"),
                doubles(Vec::new(), [moments.rows].into_iter()),
            );
            arrays.insert(
                format!("{key}/sum"),
                doubles(vec![groups, columns], moments.sum.iter().copied()),
            );
            arrays.insert(
                format!("{key}/gram"),
                doubles(vec![groups, columns, columns], gram),
            );
        }
        write_archive(file, &arrays)
    }

    /// Reads them back. Errors: not readable, no file of statistics, or one of another model than that of the digest.
    pub fn read(path: &Path, sha256: &str) -> Result<Self, DataError> {
        let fail = |problem: String| DataError::of_statistics(path, problem);
        let arrays = read_npz(path)?;
        let whole = || fail("no file of statistics".to_owned());
        let digest = arrays.get(DIGEST).ok_or_else(whole)?;
        if digest.bytes != sha256.as_bytes() {
            let found = String::from_utf8_lossy(&digest.bytes);
            return Err(fail(format!(
                "of another model (sha256 {found}, this one has {sha256})"
            )));
        }
        let samples = arrays
            .get(SAMPLES)
            .and_then(|samples| samples.to_i64())
            .and_then(|samples| samples.first().copied());
        let samples = samples
            .and_then(|samples| usize::try_from(samples).ok())
            .ok_or_else(whole)?;
        let mut statistics = Statistics {
            samples,
            ..Default::default()
        };
        for key in arrays.keys().filter_map(|name| name.strip_suffix("/gram")) {
            let moments = moments(&arrays, key)
                .ok_or_else(|| fail(format!("the arrays of '{key}' do not fit together")))?;
            statistics.of.insert(key.to_owned(), moments);
        }
        Ok(statistics)
    }
}

impl Statistics {
    /// SHA-256 over the sums.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.samples.to_le_bytes());
        for (key, moments) in &self.of {
            hash.update(format!("{key}\0{}\0", moments.rows));
            moments
                .sum
                .iter()
                .for_each(|number| hash.update(number.to_le_bytes()));
            let entries = moments
                .gram
                .iter()
                .flat_map(|gram| gram.col_iter().flat_map(|column| column.iter().copied()));
            entries.for_each(|number| hash.update(number.to_le_bytes()));
        }
        crate::hash::hex(&hash.finalize())
    }
}

fn moments(arrays: &Tensors, key: &str) -> Option<Moments> {
    let numbers = |name: &str| {
        let array = arrays
            .get(&format!("{key}/{name}"))
            .filter(|array| array.dtype == Dtype::Double)?;
        let numbers = array.to_f64()?;
        numbers
            .iter()
            .all(|number| number.is_finite())
            .then(|| (array.dims.clone(), numbers))
    };
    let ((_, rows), (sums, sum), (dims, gram)) =
        (numbers("rows")?, numbers("sum")?, numbers("gram")?);
    let [groups, columns, across] = dims[..] else {
        return None;
    };
    let [rows] = rows[..] else { return None };
    if across != columns || sums != [groups, columns] || rows < 0.0 || groups * columns == 0 {
        return None;
    }
    let gram = gram
        .chunks_exact(columns * columns)
        .map(|gram| Mat::from_fn(columns, columns, |row, column| gram[row * columns + column]));
    Some(Moments {
        rows,
        sum,
        gram: gram.collect(),
        squares: Vec::new(),
    })
}

fn doubles(dims: Vec<usize>, numbers: impl Iterator<Item = f64>) -> TensorRef {
    TensorRef {
        dtype: Dtype::Double,
        dims,
        bytes: numbers
            .flat_map(f64::to_le_bytes)
            .collect::<Vec<_>>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::write_npz;

    #[test]
    fn what_is_written_reads_back_for_the_same_model() {
        let mut moments = Moments::new(2, 3);
        moments.add(&(0..24).map(|at| at as f32 / 7.0).collect::<Vec<_>>());
        let statistics = Statistics {
            samples: 4,
            of: [("a/b [w0,1] Σ2".to_owned(), moments)]
                .into_iter()
                .collect(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.stats");
        statistics
            .write(std::fs::File::create(&path).unwrap(), "12ab")
            .unwrap();
        assert_eq!(Statistics::read(&path, "12ab").unwrap(), statistics);
        let other = Statistics::read(&path, "12ac").unwrap_err().to_string();
        assert!(
            other.contains("of another model (sha256 12ab, this one has 12ac)"),
            "{other}"
        );
        write_npz(
            &path,
            &Tensors::from_iter([("x".to_owned(), TensorRef::from_i64(vec![], &[1]))]),
        )
        .unwrap();
        assert!(
            Statistics::read(&path, "12ab")
                .unwrap_err()
                .to_string()
                .contains("no file of statistics")
        );
    }

    #[test]
    fn arrays_that_do_not_fit_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let digest = TensorRef {
            dtype: Dtype::Uint8,
            dims: vec![1],
            bytes: b"d".to_vec().into(),
        };
        let arrays = [
            (DIGEST.to_owned(), digest),
            (SAMPLES.to_owned(), TensorRef::from_i64(vec![], &[1])),
            ("k/rows".to_owned(), doubles(vec![], [1.0].into_iter())),
            (
                "k/sum".to_owned(),
                doubles(vec![1, 2], [1.0, 2.0].into_iter()),
            ),
            (
                "k/gram".to_owned(),
                doubles(vec![1, 3, 3], [0.0; 9].into_iter()),
            ),
        ];
        write_npz(&path, &Tensors::from_iter(arrays)).unwrap();
        assert!(
            Statistics::read(&path, "d")
                .unwrap_err()
                .to_string()
                .contains("'k' do not fit")
        );
    }
}
