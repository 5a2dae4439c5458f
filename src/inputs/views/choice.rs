//! Which views inputs are to be seen in.

use std::fmt;
use std::str::FromStr;

use super::{Views, are_pictures};
use crate::inputs::Tensors;

/// Which views inputs are to be seen in.
///
/// ```
/// use onnx_prune::Augment;
///
/// let some: Augment = "flip,mix".parse()?;
/// assert_eq!(some.to_string(), "flip, mix");
/// assert_eq!("none".parse(), Ok(Augment::Never));
/// assert!("turn".parse::<Augment>().is_err());
/// # Ok::<(), onnx_prune::AugmentError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Augment {
    /// Where measurements say that it helps: all that are possible in training, none elsewhere.
    #[default]
    Auto,
    /// As they are.
    Never,
    /// In these, where the original still sees what it saw.
    Only(Views),
}

/// A word that names no view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no view: auto, none, or a list of flip, crop, colour, mix and splice")]
pub struct AugmentError(String);

impl FromStr for Augment {
    type Err = AugmentError;

    fn from_str(text: &str) -> Result<Self, AugmentError> {
        let mut views = Views::default();
        match text.trim() {
            "auto" => return Ok(Augment::Auto),
            "none" => return Ok(Augment::Never),
            _ => {}
        }
        for word in text.split(',').map(str::trim) {
            let view = match word {
                "flip" => &mut views.flip,
                "crop" => &mut views.shift,
                "colour" => &mut views.colour,
                "mix" => &mut views.mix,
                "splice" => &mut views.splice,
                _ => return Err(AugmentError(word.to_owned())),
            };
            *view = true;
        }
        Ok(Augment::Only(views))
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Augment::Auto => f.write_str("auto"),
            Augment::Never => f.write_str("none"),
            Augment::Only(views) => views.fmt(f),
        }
    }
}

impl Augment {
    /// The views that inputs of this kind are learnt from in, before the original was asked.
    pub(crate) fn of_training(&self, example: &Tensors) -> Views {
        match self {
            Augment::Auto => Views::possible(example),
            Augment::Never => Views::default(),
            Augment::Only(views) => every(example).and(*views),
        }
    }

    /// The views of pictures that weights are fitted to in, before the original was asked: those that somebody asked for. No
    /// measurement says yet that they help where nobody did.
    pub(crate) fn of_calibration(&self, example: &Tensors) -> Views {
        let of_pictures = Views {
            flip: true,
            shift: true,
            colour: true,
            mix: true,
            splice: false,
        };
        match self {
            Augment::Auto | Augment::Never => Views::default(),
            Augment::Only(views) => every(example).and(of_pictures).and(*views),
        }
    }
}

/// All views of inputs of a kind.
fn every(example: &Tensors) -> Views {
    Views {
        colour: example.values().any(are_pictures),
        ..Views::possible(example)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorRef;

    #[test]
    fn views_are_those_that_are_asked_for_and_possible() {
        let example = |dims: Vec<usize>| {
            let count = dims.iter().product();
            Tensors::from_iter([("x".to_owned(), TensorRef::from_f32(dims, &vec![1.0; count]))])
        };
        let of = |text: &str, dims: &[usize]| {
            let augment: Augment = text.parse().unwrap();
            augment.of_training(&example(dims.to_vec())).to_string()
        };
        let (picture, features) = (&[1, 3, 32, 32], &[1, 10]);
        assert_eq!(of("auto", picture), "flip, crop, mix");
        assert_eq!(of("none", picture), "none");
        assert_eq!(of("colour,crop,splice", picture), "crop, colour");
        assert_eq!(of("flip,crop,colour,mix", features), "none");
    }
}
