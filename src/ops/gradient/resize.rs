//! Resizing by the nearest place or linearly, as the standard places the samples.

use super::{FunctionTable, axes, data, first, given};
use crate::gradient::{Arguments, AxisWeights, Function, Interpolation, Misfit};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[("", "Resize", resize), ("", "Upsample", resize)];

/// Where a place of the result lies in the data.
#[derive(Clone, Copy)]
enum Coordinates {
    HalfPixel,
    /// The same, but at 0 where there is one place.
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// Which place is the nearest.
#[derive(Clone, Copy)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// How one axis is resampled.
#[derive(Clone, Copy)]
struct Sampling {
    coordinates: Coordinates,
    /// `None`: linearly between two.
    nearest: Option<Rounding>,
}

impl Sampling {
    /// `None`: a way of which there is no function.
    fn of(node: &NodeView) -> Option<Self> {
        let old = node.node.op_type() == "Upsample" || node.opset < 11;
        let usual = if old { "asymmetric" } else { "half_pixel" };
        let named = node.string("coordinate_transformation_mode");
        let coordinates = match named.unwrap_or(usual) {
            "half_pixel" => Coordinates::HalfPixel,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            _ => return None,
        };
        let usual = if old { "floor" } else { "round_prefer_floor" };
        let rounding = match node.string("nearest_mode").unwrap_or(usual) {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            _ => return None,
        };
        let nearest = match node.string("mode").unwrap_or("nearest") {
            "nearest" => Some(rounding),
            "linear" => None,
            _ => return None,
        };
        Some(Sampling {
            coordinates,
            nearest,
        })
    }

    /// Where place `at` of `to` lies among `from` places.
    fn place(self, at: usize, [from, to]: [usize; 2], scale: f64) -> f64 {
        let at = at as f64;
        match self.coordinates {
            Coordinates::PytorchHalfPixel if to <= 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::AlignCorners if to <= 1 => 0.0,
            Coordinates::AlignCorners => at * (from as f64 - 1.0) / (to as f64 - 1.0),
            Coordinates::Asymmetric => at / scale,
        }
    }

    /// What each place is made of.
    fn weights(self, [from, to]: [usize; 2], scale: f64) -> Vec<Vec<(usize, f32)>> {
        let last = from.saturating_sub(1) as f64;
        let one = |at: usize| {
            let place = self.place(at, [from, to], scale);
            let Some(rounding) = self.nearest else {
                let place = place.clamp(0.0, last);
                let (below, share) = (place.floor(), place - place.floor());
                let above = (below + 1.0).min(last);
                return vec![
                    (below as usize, (1.0 - share) as f32),
                    (above as usize, share as f32),
                ];
            };
            let nearest = match rounding {
                Rounding::PreferFloor => (place - 0.5).ceil(),
                Rounding::PreferCeil => (place + 0.5).floor(),
                Rounding::Floor => place.floor(),
                Rounding::Ceil => place.ceil(),
            };
            vec![(nearest.clamp(0.0, last) as usize, 1.0)]
        };
        (0..to).map(one).collect()
    }
}

/// Sizes are stretched to; what keeps the ratio of sides, or smooths where places go, is not differentiated.
fn resize(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let sampling = Sampling::of(node)?;
    let ratio = node.string("keep_aspect_ratio_policy").unwrap_or("stretch");
    if ratio != "stretch" || node.int("antialias").unwrap_or(0) != 0 {
        return None;
    }
    let old = node.node.op_type() == "Upsample" || node.opset < 11;
    let attribute = node.attribute("scales");
    let attribute = attribute.map(|attribute| attribute.floats.clone());
    let which = node.ints("axes").map(<[i64]>::to_vec);
    let axes = move |inputs: &Arguments| {
        let dims = &data(inputs)?.dims;
        let which = match &which {
            Some(list) => axes(list, dims.len())?,
            None => (0..dims.len()).collect(),
        };
        let filled = |at: usize| given(inputs, at).filter(|list| !list.data.is_empty());
        let sizes = filled(3).filter(|_| !old).map(|sizes| sizes.integers());
        let scales = attribute
            .clone()
            .or_else(|| filled(if old { 1 } else { 2 }).map(|scales| scales.data.clone()));
        let one = |(at, axis): (usize, usize)| {
            let from = dims[axis];
            let (to, scale) = match (&sizes, &scales) {
                (Some(sizes), _) => {
                    let to = usize::try_from(*sizes.get(at)?).ok()?;
                    (to, to as f64 / from.max(1) as f64)
                }
                (None, Some(scales)) => {
                    let scale = f64::from(*scales.get(at)?);
                    ((from as f64 * scale).floor() as usize, scale)
                }
                (None, None) => return None,
            };
            let places = sampling.weights([from, to], scale);
            Some(AxisWeights { axis, places })
        };
        let found = which.into_iter().enumerate().map(one);
        let found: Option<Vec<AxisWeights>> = found.collect();
        let found = found.ok_or_else(|| Misfit(format!("{dims:?} is resized to nothing")))?;
        let changes = |weights: &AxisWeights| {
            let mut own = weights.places.iter().enumerate();
            let is_own = |(at, from): (usize, &Vec<(usize, f32)>)| from[..] == [(at, 1.0)];
            weights.places.len() != dims[weights.axis] || !own.all(is_own)
        };
        Ok(found.into_iter().filter(changes).collect())
    };
    first(output, Interpolation { axes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(coordinates: Coordinates, nearest: Option<Rounding>, to: usize) -> Vec<f32> {
        let sampling = Sampling {
            coordinates,
            nearest,
        };
        // Data 0, 1, 2, 3.
        let places = sampling.weights([4, to], to as f64 / 4.0);
        let sum = |from: &Vec<(usize, f32)>| from.iter().map(|(at, by)| *at as f32 * by).sum();
        places.iter().map(sum).collect()
    }

    #[test]
    fn samples_lie_where_the_standard_says() {
        // Those of the examples of the standard's Resize, along one axis.
        let linear = |coordinates| sampled(coordinates, None, 8);
        assert_eq!(
            linear(Coordinates::HalfPixel),
            [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
        );
        assert_eq!(
            linear(Coordinates::Asymmetric),
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
        );
        assert_eq!(
            sampled(Coordinates::AlignCorners, None, 7),
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
        );
        let nearest = |rounding| sampled(Coordinates::HalfPixel, Some(rounding), 2);
        // Places 0.5 and 2.5.
        assert_eq!(nearest(Rounding::PreferFloor), [0.0, 2.0]);
        assert_eq!(nearest(Rounding::PreferCeil), [1.0, 3.0]);
        assert_eq!(nearest(Rounding::Floor), [0.0, 2.0]);
        assert_eq!(nearest(Rounding::Ceil), [1.0, 3.0]);
    }
}
