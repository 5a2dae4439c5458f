//! Folders of photographs: which files they are, and how the model wants them.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::array::Array;
use super::columns::Column;
use super::error::DataErrorKind;
use super::pictures::{Pictures, PixelLayout};
use super::{DataError, InputSpec};

/// Height and width where the model leaves them open.
const SIDE: usize = 224;
/// Folders in folders (one per class) are followed so deep.
const DEPTH: usize = 4;

/// Opens an image, or all of a folder in the order of their paths; each is decoded when it is asked for. With a cap, they are taken evenly from the whole
/// folder, for folders are often sorted by class; their places in the sorted list are returned.
///
/// An image is shrunk or enlarged (bilinear, with antialiasing) until it just covers the model's height × width, and the
/// middle is kept; no further border is cut off.
pub(super) fn read(
    path: &Path,
    specs: &[InputSpec],
    cap: Option<usize>,
) -> Result<(Column, Vec<usize>), DataError> {
    let files = found(path)?;
    let spec = only(path, specs)?;
    let layout = layout(spec).ok_or_else(|| {
        let wants = format!("input '{}' is {}", spec.name, spec.describe());
        DataError::new(
            path,
            DataErrorKind::Format(format!(
                "images have batch, channels, height and width; {wants}"
            )),
        )
    })?;
    let count = cap.unwrap_or(files.len()).clamp(1, files.len());
    let places: Vec<usize> = (0..count)
        .map(|number| number * files.len() / count)
        .collect();
    let files: Vec<PathBuf> = places
        .iter()
        .filter_map(|place| files.get(*place).cloned())
        .collect();
    // What is no image at all is said at once, and not after half of the work.
    files.par_iter().try_for_each(|file| check(file))?;
    let PixelLayout {
        channels,
        height,
        width,
        channels_last,
    } = layout;
    let dims = if channels_last {
        vec![count, height, width, channels]
    } else {
        vec![count, channels, height, width]
    };
    let column = Column {
        spec: spec.clone(),
        name: "images".into(),
        array: Array::pictures(dims, Pictures { files, layout }),
    };
    Ok((column, places))
}

/// The images at a path. Errors: it cannot be listed, or there are none.
fn found(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let empty = |why| DataError::new(path, DataErrorKind::Empty(why));
    let files = match path.is_dir() {
        true => files(path).map_err(|error| DataError::new(path, error))?,
        false if is_image(path) => vec![path.to_owned()],
        false => return Err(empty("neither an archive of arrays nor an image")),
    };
    if files.is_empty() {
        return Err(empty(
            "the folder has no .jpg or .png images and no test_data_set_* folders",
        ));
    }
    Ok(files)
}

/// The only input of a model. Errors: it has several, or none.
fn only<'a>(path: &Path, specs: &'a [InputSpec]) -> Result<&'a InputSpec, DataError> {
    let [spec] = specs else {
        let inputs = specs.iter().map(|spec| spec.name.clone()).collect();
        return Err(DataError::new(
            path,
            DataErrorKind::Names {
                found: vec!["(images)".into()],
                missing: inputs,
            },
        ));
    };
    Ok(spec)
}

/// Reads as much of a file as tells whether it is an image. Errors: it is none.
fn check(file: &Path) -> Result<(), DataError> {
    let opened =
        crate::files::open(file).map(|file| image::ImageReader::new(std::io::BufReader::new(file)));
    let size = opened
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(|error| error.to_string());
    let size = size.and_then(|reader| reader.into_dimensions().map_err(|error| error.to_string()));
    size.map(|_| ())
        .map_err(|problem| DataError::new(file, DataErrorKind::Format(problem)))
}

/// The images of a folder. Errors: it cannot be listed.
pub(super) fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    list(folder, DEPTH, &mut files)?;
    files.sort();
    Ok(files)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["jpg", "jpeg", "png"].iter().any(|known| ending == *known))
}

fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if depth > 1 {
                list(&path, depth - 1, files)?;
            }
        } else if is_image(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn layout(spec: &InputSpec) -> Option<PixelLayout> {
    let dims: Vec<Option<usize>> = spec.shape.iter().map(|dim| dim.count()).collect();
    // Without a batch axis, every image is an input of its own.
    let sides = match dims.as_slice() {
        [_, a, b, c] => [*a, *b, *c],
        [a, b, c] => [*a, *b, *c],
        _ => return None,
    };
    let side = |dim: Option<usize>| dim.unwrap_or(SIDE);
    let first = |channels| PixelLayout {
        channels,
        height: side(sides[1]),
        width: side(sides[2]),
        channels_last: false,
    };
    let last = |channels| PixelLayout {
        channels,
        height: side(sides[0]),
        width: side(sides[1]),
        channels_last: true,
    };
    match (sides[0], sides[2]) {
        (Some(channels @ (1 | 3)), _) => Some(first(channels)),
        (_, Some(channels @ (1 | 3))) => Some(last(channels)),
        (Some(4), _) => Some(first(4)),
        (_, Some(4)) => Some(last(4)),
        (None, _) => Some(first(3)),
        _ => None,
    }
    .filter(|layout| layout.height > 0 && layout.width > 0)
}

#[cfg(test)]
mod tests {
    use super::super::{LoadOptions, load};
    use super::*;
    use crate::facts::Dim;
    use crate::proto::Dtype;

    fn spec(dtype: Dtype, shape: &[i64]) -> InputSpec {
        InputSpec::new(
            "x",
            dtype,
            shape
                .iter()
                .map(|dim| {
                    if *dim < 0 {
                        Dim::symbol("n")
                    } else {
                        Dim::Num(*dim)
                    }
                })
                .collect(),
        )
    }

    /// Left half red, right half blue; the outer quarters black.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let picture = image::RgbImage::from_fn(32, 16, |x, _| match x {
            8..16 => image::Rgb([255, 0, 0]),
            16..24 => image::Rgb([0, 0, 255]),
            _ => image::Rgb([0, 0, 0]),
        });
        picture.save(folder.path().join("b.png")).unwrap();
        std::fs::create_dir(folder.path().join("class")).unwrap();
        picture.save(folder.path().join("class/a.png")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not an image").unwrap();
        folder
    }

    #[test]
    fn the_centre_stays_and_channels_go_first() {
        let folder = folder();
        let inputs = load(
            folder.path(),
            &[spec(Dtype::Float, &[-1, 3, 4, 4])],
            &LoadOptions::default(),
        )
        .unwrap();
        assert_eq!(inputs.len(), 2);
        let batch = inputs.batch(0).unwrap();
        assert_eq!(batch["x"].dims, [1, 3, 4, 4]);
        let pixels = batch["x"].to_f32().unwrap();
        assert!(
            pixels[0] > 0.8 && pixels[3] < 0.2,
            "red on the left: {pixels:?}"
        );
        assert!(
            pixels[32] < 0.2 && pixels[35] > 0.8,
            "blue on the right: {pixels:?}"
        );
    }

    #[test]
    fn channels_last_bytes_and_grey_are_read() {
        let folder = folder();
        let options = LoadOptions {
            samples: Some(1),
            ..Default::default()
        };
        let inputs = load(
            folder.path(),
            &[spec(Dtype::Uint8, &[1, 4, 4, 3])],
            &options,
        )
        .unwrap();
        let batch = inputs.batch(0).unwrap();
        assert_eq!(
            (batch["x"].dims.as_slice(), batch["x"].dtype, inputs.len()),
            ([1, 4, 4, 3].as_slice(), Dtype::Uint8, 1)
        );
        assert!(batch["x"].bytes[0] > 150 && batch["x"].bytes[11] > 150);
        let inputs = load(
            &folder.path().join("b.png"),
            &[spec(Dtype::Float, &[1, 1, 4, 4])],
            &LoadOptions::default(),
        )
        .unwrap();
        let red = inputs.batch(0).unwrap()["x"].to_f32().unwrap()[0];
        assert!((0.2..0.31).contains(&red), "red is dark: {red}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = folder();
        std::fs::write(folder.path().join("c.png"), "broken").unwrap();
        let error = load(
            folder.path(),
            &[spec(Dtype::Float, &[-1, 3, 4, 4])],
            &LoadOptions::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("c.png"), "{error}");
        assert!(
            load(
                folder.path(),
                &[spec(Dtype::Float, &[-1, 10])],
                &LoadOptions::default()
            )
            .is_err()
        );
    }
}
