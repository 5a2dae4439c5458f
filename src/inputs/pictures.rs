//! Image files, decoded when they are asked for: short side resized to the model's, then the centre cut out.

use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::DataError;
use super::error::DataErrorKind;

/// How the model wants an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PixelLayout {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub channels_last: bool,
}

impl PixelLayout {
    fn bytes(self) -> usize {
        self.channels * self.height * self.width
    }
}

/// Image files, and how the model wants them.
#[derive(Debug)]
pub(super) struct Pictures {
    pub files: Vec<PathBuf>,
    pub layout: PixelLayout,
}

impl Pictures {
    /// `RGB, short side 224, centre crop`.
    pub fn describe(&self) -> String {
        let PixelLayout {
            channels,
            height,
            width,
            ..
        } = self.layout;
        let colours = match channels {
            1 => "grey",
            4 => "RGBA",
            _ => "RGB",
        };
        let size = if height == width {
            format!("short side {height}")
        } else {
            format!("shrunk to cover {height}×{width}")
        };
        format!("{colours}, {size}, centre crop")
    }

    /// The pixels of some of them, image after image. Errors: one that can not be decoded.
    pub fn decode(&self, numbers: Range<usize>) -> Result<Vec<u8>, DataError> {
        let mut pixels = Vec::with_capacity(numbers.len() * self.layout.bytes());
        for file in self.files.get(numbers).unwrap_or_default() {
            let image = decode(file, self.layout)
                .map_err(|problem| DataError::new(file, DataErrorKind::Format(problem)))?;
            pixels.extend(image);
        }
        Ok(pixels)
    }
}

fn decode(file: &Path, layout: PixelLayout) -> Result<Vec<u8>, String> {
    let bytes = crate::files::read(file).map_err(|error| error.to_string())?;
    let reader = image::ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let image = reader.decode().map_err(|error| error.to_string())?;
    let (width, height) = (image.width(), image.height());
    let (pixel, pixels) = match layout.channels {
        1 => (PixelType::U8, grey(&image.into_rgb8().into_raw())),
        4 => (PixelType::U8x4, image.into_rgba8().into_raw()),
        _ => (PixelType::U8x3, image.into_rgb8().into_raw()),
    };
    let source = ImageRef::new(width, height, &pixels, pixel).map_err(|error| error.to_string())?;
    let side =
        |side: usize| u32::try_from(side).map_err(|_| "the model's image is too large".to_owned());
    let mut target = Image::new(side(layout.width)?, side(layout.height)?, pixel);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .fit_into_destination(None)
        .use_alpha(false);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| error.to_string())?;
    let interleaved = target.into_vec();
    if layout.channels_last || layout.channels == 1 {
        return Ok(interleaved);
    }
    Ok((0..layout.channels)
        .flat_map(|channel| {
            interleaved
                .iter()
                .skip(channel)
                .step_by(layout.channels)
                .copied()
        })
        .collect())
}

/// Luma as ITU-R 601 weighs it, which is what image classifiers for grey images were trained with.
fn grey(rgb: &[u8]) -> Vec<u8> {
    rgb.chunks_exact(3)
        .map(|pixel| {
            ((u32::from(pixel[0]) * 19595
                + u32::from(pixel[1]) * 38470
                + u32::from(pixel[2]) * 7471
                + 0x8000)
                >> 16) as u8
        })
        .collect()
}
