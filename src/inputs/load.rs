//! The inputs of a model, batch by batch, wherever they come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::array::Array;
use super::columns::{Column, Columns, Wanted};
use super::error::DataErrorKind;
use super::recipe::{MadeAmount, Recipe};
use super::{DataError, InputSpec, Preprocess, Tensors, images, npz, testsets};
use crate::files;
use crate::model::TensorRef;

/// How inputs are read.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// At most so many samples.
    pub samples: Option<usize>,
    /// Samples per batch where the model leaves it open; `None`: 1.
    pub batch: Option<usize>,
    /// From stored numbers to the model's.
    pub preprocess: Preprocess,
}

/// Batches of inputs. Nothing is cut or converted before it is asked for.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// How many samples all batches hold together.
    pub samples: usize,
    /// Whether they were made up.
    pub synthetic: bool,
    /// What the user should know about how they were read.
    pub notes: Vec<String>,
    source: InputSource,
}

#[derive(Clone, Debug)]
enum InputSource {
    Columns {
        columns: Columns,
        places: Option<Vec<usize>>,
    },
    Sets {
        folders: Vec<PathBuf>,
        specs: Vec<InputSpec>,
    },
    Recipe(Recipe),
}

impl Inputs {
    fn columns(columns: Columns, places: Option<Vec<usize>>) -> Self {
        let (samples, notes) = (columns.batches * columns.per_batch, columns.notes.clone());
        Inputs {
            samples,
            synthetic: false,
            notes,
            source: InputSource::Columns { columns, places },
        }
    }

    pub(super) fn made(recipe: Recipe) -> Self {
        let samples = recipe.batches() * recipe.per_batch;
        Inputs {
            samples,
            synthetic: true,
            notes: Vec::new(),
            source: InputSource::Recipe(recipe),
        }
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        match &self.source {
            InputSource::Columns { columns, .. } => columns.batches,
            InputSource::Sets { folders, .. } => folders.len(),
            InputSource::Recipe(recipe) => recipe.batches(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One batch, counted from 0: a tensor for every input of the model.
    /// Errors: no such batch; a file that can not be read; numbers that do not fit the model's type.
    pub fn batch(&self, number: usize) -> Result<Tensors, DataError> {
        let missing = || {
            DataError::new(
                Path::new(""),
                DataErrorKind::Format(format!("there is no batch {number}")),
            )
        };
        if number >= self.len() {
            return Err(missing());
        }
        match &self.source {
            InputSource::Columns { columns, .. } => columns.batch(number),
            InputSource::Sets { folders, specs } => {
                testsets::read(folders.get(number).ok_or_else(missing)?, specs)
            }
            InputSource::Recipe(recipe) => recipe.batch(number),
        }
    }

    /// How many of what these are, what was cut out of pictures, and what is done to their numbers.
    pub(super) fn describe(&self) -> (String, String, String) {
        let many = |what: &str| {
            format!(
                "{} {what}{}",
                self.samples,
                if self.samples == 1 { "" } else { "s" }
            )
        };
        match &self.source {
            InputSource::Columns { columns, .. } => {
                let geometry = columns.geometry();
                (
                    many(if geometry.is_some() {
                        "picture"
                    } else {
                        "sample"
                    }),
                    geometry.unwrap_or_default(),
                    columns.scaling(),
                )
            }
            InputSource::Sets { .. } => (many("test set"), String::new(), String::new()),
            InputSource::Recipe(recipe) => {
                let what = match recipe.made {
                    MadeAmount::All => many("made-up sample"),
                    MadeAmount::Fewer => many("made-up sample") + ", as many as fit",
                    MadeAmount::Nothing => {
                        "nothing, as the model does not fit its inputs".to_owned()
                    }
                };
                (what, String::new(), String::new())
            }
        }
    }

    /// Whether they are zeros in place of numbers.
    pub(super) fn is_hollow(&self) -> bool {
        matches!(&self.source, InputSource::Recipe(recipe) if recipe.made == MadeAmount::Nothing)
    }

    /// Why the way in which a batch was prepared is doubtful.
    pub(super) fn doubt(&self, batch: &Tensors) -> Option<String> {
        match &self.source {
            InputSource::Columns { columns, .. } => columns.doubt(batch),
            _ => None,
        }
    }

    /// Whether a batch takes longer to make than to copy, so that it is worth keeping.
    pub fn slow(&self) -> bool {
        match &self.source {
            InputSource::Columns { columns, .. } => columns.slow(),
            InputSource::Sets { .. } => false,
            InputSource::Recipe(_) => true,
        }
    }

    /// Where the samples of a batch stand in the file or the sorted folder: what their labels are found by.
    pub fn places(&self, number: usize) -> Vec<usize> {
        match &self.source {
            InputSource::Columns { columns, places } => {
                let range = number * columns.per_batch..(number + 1) * columns.per_batch;
                match places {
                    Some(places) => places.get(range).unwrap_or_default().to_vec(),
                    None => range.collect(),
                }
            }
            _ => vec![number],
        }
    }
}

/// Reads inputs for a model: an `.npz` or `.npy` file, an image or a folder of them, or ONNX test sets, told apart by
/// what they contain. Errors name the file, the array and what was expected.
pub fn load(path: &Path, specs: &[InputSpec], options: &LoadOptions) -> Result<Inputs, DataError> {
    let metadata = files::metadata(path).map_err(|error| DataError::new(path, error))?;
    let sets = if metadata.is_dir() {
        testsets::find(path)?
    } else {
        None
    };
    if let Some(folders) = sets {
        return of_sets(folders, specs, options.samples);
    }
    let mut start = [0; 8];
    if metadata.is_file() {
        let read = std::fs::File::open(path)
            .and_then(|mut file| std::io::Read::read(&mut file, &mut start));
        read.map_err(|error| DataError::new(path, error))?;
    }
    if start.starts_with(b"PK") {
        let (columns, notes) = by_name(path, npz::open_npz(path)?, specs)?;
        let mut inputs = arranged(path, columns, None, options)?;
        inputs.notes.splice(0..0, notes);
        return Ok(inputs);
    }
    if start.starts_with(b"\x93NUMPY") {
        let [spec] = specs else {
            return Err(DataError::new(
                path,
                DataErrorKind::OneArray {
                    inputs: names(specs),
                },
            ));
        };
        let column = Column {
            spec: spec.clone(),
            name: spec.name.clone(),
            array: npz::open_npy(path)?,
        };
        return arranged(path, vec![column], None, options);
    }
    let (column, places) = images::read(path, specs, options.samples)?;
    arranged(path, vec![column], Some(places), options)
}

/// Test sets, at most so many. Errors: one that does not fit the model.
fn of_sets(
    mut folders: Vec<PathBuf>,
    specs: &[InputSpec],
    most: Option<usize>,
) -> Result<Inputs, DataError> {
    folders.truncate(most.unwrap_or(usize::MAX).max(1));
    // What does not fit the model is said at once, and not after half of the work.
    folders
        .iter()
        .try_for_each(|folder| testsets::read(folder, specs).map(|_| ()))?;
    let (samples, specs) = (folders.len(), specs.to_vec());
    Ok(Inputs {
        samples,
        synthetic: false,
        notes: Vec::new(),
        source: InputSource::Sets { folders, specs },
    })
}

/// Arrays, one for each input, in batches. Errors: they do not fit the model.
fn arranged(
    path: &Path,
    columns: Vec<Column>,
    places: Option<Vec<usize>>,
    options: &LoadOptions,
) -> Result<Inputs, DataError> {
    let wanted = Wanted {
        samples: options.samples,
        batch: options.batch,
    };
    let columns = Columns::arrange(path, columns, wanted, options.preprocess.clone())?;
    Ok(Inputs::columns(columns, places))
}

/// The files that are read when inputs are taken from a path, as far as that can be told without reading them.
pub fn sources(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    match testsets::find(path) {
        Ok(Some(folders)) => folders
            .iter()
            .flat_map(|folder| testsets::files(folder))
            .collect(),
        _ => images::files(path).unwrap_or_default(),
    }
}

/// The shapes of the arrays of a file, or of the tensors of the first of some test sets, by name; the only array of an `.npy`
/// has none. Nothing where that is no such file.
pub fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    if path.is_dir() {
        return testsets::find(path)
            .ok()
            .flatten()
            .and_then(|sets| Some(testsets::shapes(sets.first()?)))
            .unwrap_or_default();
    }
    if let Ok(shapes) = npz::npz_shapes(path) {
        return shapes.into_iter().collect();
    }
    npz::npy_shape(path)
        .map(|shape| BTreeMap::from([(String::new(), shape)]))
        .unwrap_or_default()
}

fn names(specs: &[InputSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}

/// Finds the array of every input: by its name; a single array for a single input; or numpy's `arr_0`, `arr_1` … in order.
fn by_name(
    path: &Path,
    mut arrays: IndexMap<String, Array>,
    specs: &[InputSpec],
) -> Result<(Vec<Column>, Vec<String>), DataError> {
    let found: Vec<String> = arrays.keys().cloned().collect();
    let missing: Vec<String> = names(specs)
        .into_iter()
        .filter(|name| !arrays.contains_key(name))
        .collect();
    let mut notes = Vec::new();
    let unnamed = found
        .iter()
        .enumerate()
        .all(|(place, name)| *name == format!("arr_{place}"));
    let by_place =
        found.len() == specs.len() && missing.len() == specs.len() && (specs.len() == 1 || unnamed);
    let mut column = |spec: &InputSpec, name: &str| {
        let array = arrays
            .swap_remove(name)
            .unwrap_or_else(|| TensorRef::from_f32(vec![0], &[]).into());
        Column {
            spec: spec.clone(),
            name: name.to_owned(),
            array,
        }
    };
    if by_place {
        let columns: Vec<Column> = specs
            .iter()
            .zip(&found)
            .map(|(spec, name)| column(spec, name))
            .collect();
        notes.extend(columns.iter().map(|column| {
            format!(
                "array '{}' is taken for input '{}'",
                column.name, column.spec.name
            )
        }));
        return Ok((columns, notes));
    }
    if !missing.is_empty() {
        return Err(DataError::new(
            path,
            DataErrorKind::Names { found, missing },
        ));
    }
    let columns = specs.iter().map(|spec| column(spec, &spec.name)).collect();
    let others: Vec<&str> = found
        .iter()
        .filter(|name| !specs.iter().any(|spec| spec.name == **name))
        .map(String::as_str)
        .collect();
    if !others.is_empty() {
        notes.push(format!("not used: {}", others.join(", ")));
    }
    Ok((columns, notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Dim;
    use crate::inputs::write_npz;
    use crate::proto::Dtype;

    fn spec(name: &str, dtype: Dtype, shape: &[&str]) -> InputSpec {
        let shape = shape
            .iter()
            .map(|dim| dim.parse().map_or_else(|_| Dim::symbol(dim), Dim::Num))
            .collect();
        InputSpec::new(name, dtype, shape)
    }

    fn floats(dims: &[usize]) -> TensorRef {
        TensorRef::from_f32(
            dims.to_vec(),
            &(0..dims.iter().product::<usize>())
                .map(|x| x as f32)
                .collect::<Vec<_>>(),
        )
    }

    fn loaded(
        arrays: &[(&str, TensorRef)],
        specs: &[InputSpec],
        options: &LoadOptions,
    ) -> Result<Inputs, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.npz");
        write_npz(
            &path,
            &arrays
                .iter()
                .map(|(name, array)| ((*name).to_owned(), array.clone()))
                .collect(),
        )
        .unwrap();
        load(&path, specs, options)
    }

    #[test]
    fn a_dynamic_batch_goes_sample_by_sample() {
        let inputs = loaded(
            &[("x", floats(&[5, 2]))],
            &[spec("x", Dtype::Float, &["n", "2"])],
            &LoadOptions::default(),
        )
        .unwrap();
        assert_eq!(
            (inputs.len(), inputs.samples, inputs.synthetic),
            (5, 5, false)
        );
        let batch = inputs.batch(3).unwrap();
        assert_eq!(
            (batch["x"].dims.as_slice(), batch["x"].to_f32().unwrap()),
            ([1, 2].as_slice(), vec![6.0, 7.0])
        );
        let few = LoadOptions {
            samples: Some(4),
            batch: Some(2),
            ..Default::default()
        };
        let inputs = loaded(
            &[("other", floats(&[5, 2]))],
            &[spec("x", Dtype::Float, &["n", "2"])],
            &few,
        )
        .unwrap();
        assert_eq!(
            (inputs.len(), inputs.samples, inputs.places(1)),
            (2, 4, vec![2, 3])
        );
        assert_eq!(inputs.notes[0], "array 'other' is taken for input 'x'");
    }

    #[test]
    fn a_fixed_batch_is_filled_or_refused() {
        let want = [spec("x", Dtype::Float, &["4", "2"])];
        let inputs = loaded(&[("x", floats(&[10, 2]))], &want, &LoadOptions::default()).unwrap();
        assert_eq!((inputs.len(), inputs.samples), (2, 8));
        assert!(inputs.notes[0].contains("last 2 samples"));
        let error = loaded(&[("x", floats(&[3, 2]))], &want, &LoadOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("3 samples, but the model's batch is fixed at 4"),
            "{error}"
        );
    }

    #[test]
    fn states_and_scalars_are_passed_whole() {
        let want = [
            spec("x", Dtype::Float, &["n", "2"]),
            spec("state", Dtype::Float, &["2", "1", "3"]),
            spec("sr", Dtype::Int64, &[]),
        ];
        let arrays = [
            ("x", floats(&[5, 2])),
            ("state", floats(&[2, 1, 3])),
            ("sr", TensorRef::from_i64(vec![], &[16000])),
        ];
        let inputs = loaded(&arrays, &want, &LoadOptions::default()).unwrap();
        assert_eq!(inputs.len(), 5);
        let batch = inputs.batch(4).unwrap();
        assert_eq!(
            (batch["state"].dims.len(), batch["sr"].to_i64().unwrap()),
            (3, vec![16000])
        );
        let arrays = [
            ("x", floats(&[5, 2])),
            ("state", floats(&[5, 2, 1, 3])),
            ("sr", TensorRef::from_i64(vec![5], &[1; 5])),
        ];
        assert_eq!(
            loaded(&arrays, &want, &LoadOptions::default())
                .unwrap()
                .batch(1)
                .unwrap()["state"]
                .dims,
            [2, 1, 3]
        );
    }

    #[test]
    fn arrays_without_a_common_axis_are_one_batch() {
        let want = [
            spec("x", Dtype::Float, &["t", "b", "2"]),
            spec("h0", Dtype::Float, &["1", "b", "4"]),
        ];
        let inputs = loaded(
            &[("x", floats(&[20, 3, 2])), ("h0", floats(&[1, 3, 4]))],
            &want,
            &LoadOptions::default(),
        )
        .unwrap();
        assert_eq!(
            (inputs.len(), inputs.batch(0).unwrap()["x"].dims.as_slice()),
            (1, [20, 3, 2].as_slice())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let want = [spec("input_ids", Dtype::Int64, &["n", "s"])];
        let error = loaded(
            &[("a", floats(&[1, 2])), ("b", floats(&[1, 2]))],
            &want,
            &LoadOptions::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("data.npz has arrays a, b; the model wants input_ids"),
            "{error}"
        );
        let want = [spec("x", Dtype::Float, &["n", "3", "8", "8"])];
        let error = loaded(
            &[("x", floats(&[2, 8, 8, 3]))],
            &want,
            &LoadOptions::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("array 'x' is float 2×8×8×3, the model wants float n×3×8×8"),
            "{error}"
        );
        assert!(error.contains("transpose(0, 3, 1, 2)"), "{error}");
    }

    #[test]
    fn bytes_are_scaled_and_channels_normalised() {
        let array = TensorRef {
            dtype: Dtype::Uint8,
            dims: vec![2, 3, 1, 1],
            bytes: vec![0, 51, 255, 0, 0, 0].into(),
        };
        let preprocess = Preprocess {
            scale: None,
            mean: vec![0.0, 0.2, 0.5],
            std: vec![1.0, 1.0, 0.5],
        };
        let options = LoadOptions {
            preprocess,
            ..Default::default()
        };
        let inputs = loaded(
            &[("x", array)],
            &[spec("x", Dtype::Float, &["n", "3", "1", "1"])],
            &options,
        )
        .unwrap();
        assert_eq!(
            inputs.batch(0).unwrap()["x"].to_f32().unwrap(),
            [0.0, 0.0, 1.0]
        );
    }
}
