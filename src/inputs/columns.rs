//! Arrays cut into batches along their first axes.

use std::path::{Path, PathBuf};

use super::array::Array;
use super::error::DataErrorKind;
use super::spec::dims_text;
use super::{DataError, InputSpec, Preprocess, Tensors, preprocess};

/// How one array gives a tensor to every batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Split {
    /// The whole array, to every batch: a scalar, an initial state.
    Whole,
    /// So many consecutive entries of the first axis.
    Rows(usize),
    /// One entry of the first axis, which the model's input does not have.
    Stacked,
}

/// An array for one input.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub spec: InputSpec,
    /// What messages call it.
    pub name: String,
    pub array: Array,
}

/// Arrays for all inputs, and how they are cut.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    path: PathBuf,
    columns: Vec<(Column, Split)>,
    preprocess: Preprocess,
    /// How many batches there are.
    pub batches: usize,
    /// Samples in each.
    pub per_batch: usize,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What may be asked of the cutting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub samples: Option<usize>,
    pub batch: Option<usize>,
}

impl Columns {
    /// Decides how the arrays are cut. Errors: shapes that the model does not take, fewer samples than a fixed batch,
    /// means for channels that no input has.
    pub fn arrange(
        path: &Path,
        columns: Vec<Column>,
        wanted: Wanted,
        preprocess: Preprocess,
    ) -> Result<Self, DataError> {
        let fail = |kind: DataErrorKind| DataError::new(path, kind);
        let preprocess = concerning(preprocess, &columns).map_err(fail)?;
        let fixed_batch = columns.iter().find_map(|column| rows(column)?);
        let batch = fixed_batch.unwrap_or(wanted.batch.unwrap_or(1).max(1));
        let splits: Vec<Split> = columns
            .iter()
            .map(|column| split(column, batch).map_err(fail))
            .collect::<Result<_, _>>()?;
        let counts = counts(&columns, &splits);
        let first = counts.first().copied();
        let agree = counts.iter().all(|count| Some(*count) == first);
        if agree && first == Some(0) {
            return Err(fail(too_few(&columns, batch)));
        }
        let mut arranged = Columns {
            path: path.to_owned(),
            columns: columns.into_iter().zip(splits).collect(),
            preprocess,
            batches: 1,
            per_batch: 1,
            notes: Vec::new(),
        };
        match first {
            Some(count) if agree => arranged.cut(count, wanted.samples),
            _ => arranged.pass_whole(first.is_some()).map_err(fail)?,
        }
        Ok(arranged)
    }

    /// Cuts all arrays into so many batches, or as many as hold so many samples.
    fn cut(&mut self, count: usize, samples: Option<usize>) {
        let in_rows = self.columns.iter().find_map(|(column, split)| match split {
            Split::Rows(rows) => Some((column, (*rows).max(1))),
            _ => None,
        });
        self.per_batch = in_rows.map_or(1, |(_, rows)| rows);
        let rest = in_rows
            .and_then(|(column, rows)| Some(column.array.dims.first()? % rows))
            .unwrap_or(0);
        if rest > 0 {
            self.notes.push(format!(
                "the last {rest} samples fill no batch of {} and are left out",
                self.per_batch
            ));
        }
        self.batches = samples.map_or(count, |samples| {
            count.min((samples / self.per_batch).max(1))
        });
    }

    /// Passes all arrays as one batch, which the model has to take so. Errors: an input that does not.
    fn pass_whole(&mut self, differ: bool) -> Result<(), DataErrorKind> {
        let misfit = self
            .columns
            .iter()
            .find(|(column, _)| !InputSpec::fits(&column.spec.shape, &column.array.dims));
        if let Some((column, _)) = misfit {
            return Err(mismatch(column));
        }
        if differ {
            self.notes.push(
                "the arrays differ in their first axes, so they are passed as one batch".into(),
            );
        }
        let samples = self
            .columns
            .iter()
            .find_map(|(column, _)| column.array.dims.first().copied())
            .unwrap_or(1);
        self.per_batch = samples.max(1);
        self.columns
            .iter_mut()
            .for_each(|(_, split)| *split = Split::Whole);
        Ok(())
    }

    /// What is cut out of pictures; `None` where there are none.
    pub fn geometry(&self) -> Option<String> {
        self.columns
            .iter()
            .find_map(|(column, _)| column.array.geometry())
    }

    /// What is done to the numbers, in a clause; empty where nothing is.
    pub fn scaling(&self) -> String {
        let concerned = self
            .columns
            .iter()
            .find(|(column, _)| self.preprocess.concerns(&column.spec));
        concerned.map_or_else(String::new, |(column, _)| {
            self.preprocess.describe(column.array.dtype)
        })
    }

    /// Why means or standard deviations do not seem to be of these numbers.
    pub fn doubt(&self, batch: &Tensors) -> Option<String> {
        let concerned = self
            .columns
            .iter()
            .filter(|(column, _)| self.preprocess.concerns(&column.spec));
        concerned
            .filter_map(|(column, _)| {
                self.preprocess
                    .doubt(column.array.dtype, batch.get(&column.spec.name)?)
            })
            .next()
    }

    /// Whether a batch takes longer to make than to copy.
    pub fn slow(&self) -> bool {
        self.columns.iter().any(|(column, _)| column.array.slow())
    }

    /// The tensors of one batch. Errors: a file that can not be read, numbers that do not fit the model's type.
    pub fn batch(&self, number: usize) -> Result<Tensors, DataError> {
        let mut tensors = Tensors::new();
        for (Column { spec, name, array }, split) in &self.columns {
            let cut = match split {
                Split::Whole => Some(array.whole(&self.path)?),
                Split::Rows(rows) => array.cut(&self.path, number * rows, *rows, true)?,
                Split::Stacked => array.cut(&self.path, number, 1, false)?,
            };
            let cut = cut.ok_or_else(|| {
                DataError::new(
                    &self.path,
                    DataErrorKind::Format(format!("array '{name}' has no batch {number}")),
                )
            })?;
            // Means are meant for the input that has such channels; others are only converted.
            let preprocess = if self.preprocess.concerns(spec) {
                &self.preprocess
            } else {
                &Preprocess::default()
            };
            let tensor = preprocess
                .apply(name, cut, spec)
                .map_err(|kind| DataError::new(&self.path, kind))?;
            if let Some((what, place)) = preprocess::not_finite(&tensor, spec.kind) {
                let row = tensor
                    .bytes
                    .len()
                    .checked_div(tensor.dims.first().copied().unwrap_or(1))
                    .unwrap_or(0)
                    .max(1);
                let sample = if let Split::Rows(rows) = split {
                    number * rows + place / row
                } else {
                    number
                };
                return Err(DataError::new(
                    &self.path,
                    DataErrorKind::NotFinite {
                        array: name.clone(),
                        what,
                        sample,
                    },
                ));
            }
            tensors.insert(spec.name.clone(), tensor);
        }
        Ok(tensors)
    }
}

/// Entries of the first axis that the input fixes per batch; `None` when the array is not cut by rows.
fn rows(column: &Column) -> Option<Option<usize>> {
    match split(column, 1).ok()? {
        Split::Rows(_) => batch_extent(&column.spec).map(Some),
        _ => None,
    }
}

/// The fixed extent of the first axis. Some exporters write 0 where it is open.
fn batch_extent(spec: &InputSpec) -> Option<usize> {
    spec.shape.first()?.count().filter(|extent| *extent > 0)
}

fn split(column: &Column, batch: usize) -> Result<Split, DataErrorKind> {
    let (shape, dims) = (&column.spec.shape, &column.array.dims);
    if dims.is_empty() && shape.is_empty() {
        return Ok(Split::Whole);
    }
    if column.spec.fixed().as_ref() == Some(dims) {
        return Ok(Split::Whole);
    }
    if dims.is_empty() || shape.len() + 1 < dims.len() {
        return Err(mismatch(column));
    }
    if shape.len() == dims.len() && InputSpec::fits(&shape[1..], &dims[1..]) {
        return Ok(Split::Rows(batch_extent(&column.spec).unwrap_or(batch)));
    }
    if InputSpec::fits(shape, &dims[1..]) {
        Ok(Split::Stacked)
    } else {
        Err(mismatch(column))
    }
}

/// What is done to the numbers, as far as an array is concerned by it. Errors: settings that contradict each other, or that concern
/// no array.
fn concerning(preprocess: Preprocess, columns: &[Column]) -> Result<Preprocess, DataErrorKind> {
    preprocess.check()?;
    if columns
        .iter()
        .any(|column| preprocess.concerns(&column.spec))
    {
        return Ok(preprocess);
    }
    if preprocess != Preprocess::default() {
        return Err(DataErrorKind::Preprocess(
            "no input of the model has such an axis of channels".into(),
        ));
    }
    Ok(preprocess)
}

/// How many batches each array would give; arrays that are passed whole do not care.
fn counts(columns: &[Column], splits: &[Split]) -> Vec<usize> {
    columns
        .iter()
        .zip(splits)
        .filter_map(|(column, split)| match split {
            Split::Whole => None,
            Split::Rows(rows) => Some((column.array.dims.first()?) / (*rows).max(1)),
            Split::Stacked => column.array.dims.first().copied(),
        })
        .collect()
}

/// What is wrong with arrays that fill no batch.
fn too_few(columns: &[Column], batch: usize) -> DataErrorKind {
    let found = columns
        .iter()
        .filter_map(|column| column.array.dims.first().copied())
        .min()
        .unwrap_or(0);
    if found == 0 {
        DataErrorKind::Empty("the arrays are empty")
    } else {
        DataErrorKind::TooFew { found, batch }
    }
}

fn mismatch(column: &Column) -> DataErrorKind {
    let dims = &column.array.dims;
    let shape = &column.spec.shape;
    let moved = || {
        let last = dims.last()?;
        let mut moved = vec![*dims.first()?, *last];
        moved.extend(dims.get(1..dims.len() - 1)?);
        InputSpec::fits(shape.get(1..)?, &moved[1..]).then_some(())
    };
    let hint = if dims.len() == 4 && moved().is_some() {
        "its channels stand last: array.transpose(0, 3, 1, 2)"
    } else if dims.len() + 1 == shape.len() && InputSpec::fits(&shape[1..], dims) {
        "the axis of samples is missing: array[None]"
    } else {
        "the first axis counts the samples, the others must be the model's"
    };
    DataErrorKind::Shape {
        array: column.name.clone(),
        found: format!("{} {}", column.array.dtype, dims_text(dims)),
        expected: format!("{} for '{}'", column.spec.describe(), column.spec.name),
        hint,
    }
}
