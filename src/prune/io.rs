//! Inputs and outputs of the model that may shrink, because the user says so, and what became of them.

use globset::{Glob, GlobMatcher};

use super::PruneError;
use super::patterns::{PatternError, glob};
use crate::analysis::{Allowed, Analysis, Pins, Selection, infer};
use crate::facts::Dim;
use crate::model::{Index, Model, ValueId};

/// Inputs and outputs that may shrink, as the user names them; [`allowed`] finds their axes in a model.
///
/// ```
/// use onnx_prune::prune::{Allowance, allowed};
/// use onnx_prune::{Limits, load};
///
/// let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
/// let axes = allowed(&model, &[Allowance::parse("input:1")?])?;
/// assert_eq!(axes.into_iter().collect::<Vec<_>>(), [("input".to_owned(), 1)]);
/// assert!(allowed(&model, &[Allowance::parse("nothing")?]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Allowance {
    text: String,
    whole: Glob,
    /// The text without the number of an axis at its end, and that number.
    axis: Option<(String, Glob, i64)>,
}

/// An input or output whose shape changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangedEnd {
    /// Its name.
    pub name: String,
    /// Its extents in the original.
    pub from: Vec<Dim>,
    /// Its extents in the pruned model.
    pub to: Vec<Dim>,
}

impl Allowance {
    /// Reads `NAME`, a glob over names, or `NAME:AXIS`. Errors: no glob.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parts = text
            .rsplit_once(':')
            .and_then(|(name, axis)| Some((name, axis.parse().ok()?)));
        let axis = parts
            .map(|(name, axis)| Ok((name.to_owned(), glob(name)?, axis)))
            .transpose()?;
        Ok(Allowance {
            text: text.to_owned(),
            whole: glob(text)?,
            axis,
        })
    }
}

/// The axes that allowances stand for: those of known extent, for others never lose slices. A name may end in a colon and a
/// number; what is called just that goes before an axis of that number.
///
/// Errors: an allowance that fits no input or output, an axis that is not there or whose extent is not fixed.
pub fn allowed(model: &Model, allowances: &[Allowance]) -> Result<Allowed, PruneError> {
    let mut allowed = Allowed::new();
    if allowances.is_empty() {
        return Ok(allowed);
    }
    let facts = infer(model, &Pins::new());
    let ends = ends(model);
    let named = |name: &str, glob: &Glob| -> Vec<ValueId> {
        let glob: GlobMatcher = glob.compile_matcher();
        let matches = |value: &&ValueId| {
            let own = &model.index().value(**value).name;
            own == name || glob.is_match(own)
        };
        ends.iter().filter(matches).copied().collect()
    };
    for allowance in allowances {
        let whole = named(&allowance.text, &allowance.whole);
        let (found, axis) = match &allowance.axis {
            Some((name, glob, axis)) if whole.is_empty() => (named(name, glob), Some(*axis)),
            _ => (whole, None),
        };
        if found.is_empty() {
            return Err(PruneError::NoSuchEnd {
                text: allowance.text.clone(),
                ends: names(model, &ends),
            });
        }
        for value in found {
            let name = &model.index().value(value).name;
            let shape = facts.of(value).shape.clone().unwrap_or_default();
            let axes = fixed_axes(name, &shape, axis)?;
            allowed.extend(axes.into_iter().map(|axis| (name.clone(), axis)));
        }
    }
    Ok(allowed)
}

/// The axes of known extent, or the one that is meant, which counts from the end where it is below zero. Errors: that one is
/// not there or has no known extent.
fn fixed_axes(name: &str, shape: &[Dim], axis: Option<i64>) -> Result<Vec<usize>, PruneError> {
    let fixed = |axis: &usize| shape.get(*axis).is_some_and(|dim| dim.count().is_some());
    let Some(axis) = axis else {
        return Ok((0..shape.len()).filter(fixed).collect());
    };
    let place = if axis < 0 {
        axis + shape.len() as i64
    } else {
        axis
    };
    match usize::try_from(place).ok().filter(fixed) {
        Some(place) => Ok(vec![place]),
        None => Err(PruneError::NoSuchAxis {
            name: name.to_owned(),
            axis,
            shape: shape
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("×"),
        }),
    }
}

/// Inputs and outputs that a selection leaves in another shape.
pub fn changed_ends(model: &Model, analysis: &Analysis, selection: &Selection) -> Vec<ChangedEnd> {
    let one = |value: ValueId| {
        let from = analysis.facts.of(value).shape.clone()?;
        let left = |(axis, dim): (usize, &Dim)| {
            analysis
                .new_extent(value, axis, selection)
                .unwrap_or_else(|| dim.clone())
        };
        let to: Vec<Dim> = from.iter().enumerate().map(left).collect();
        (from != to).then(|| ChangedEnd {
            name: model.index().value(value).name.clone(),
            from,
            to,
        })
    };
    ends(model).into_iter().filter_map(one).collect()
}

/// What the user should know where inputs or outputs lost slices.
pub(super) fn remark(changed: &[ChangedEnd]) -> Option<String> {
    let first = changed.first()?;
    let more = if changed.len() > 1 {
        format!(" and {} more inputs and outputs", changed.len() - 1)
    } else {
        String::new()
    };
    Some(format!(
        "'{}'{more} changed shape: what is fed and compared are the slices that stay",
        first.name
    ))
}

/// Graph inputs that no constant stands for, and graph outputs.
fn ends(model: &Model) -> Vec<ValueId> {
    let main = model.index().graph(Index::MAIN);
    let mut ends: Vec<ValueId> = main
        .inputs
        .iter()
        .copied()
        .filter(|input| model.tensor_proto(*input).is_none())
        .collect();
    for output in &main.outputs {
        if !ends.contains(output) {
            ends.push(*output);
        }
    }
    ends
}

fn names(model: &Model, ends: &[ValueId]) -> String {
    ends.iter()
        .map(|value| model.index().value(*value).name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    #[test]
    fn names_globs_and_axes_are_told_apart() {
        let model = text::model(
            "input x f32[n,3]\ninput k:0 f32[n,2,4]\nconst w f32[3,2]\ny = MatMul(x, w)\nk1 = Identity(k:0)\noutput y\noutput k1",
        )
        .unwrap();
        let found = |text: &str| -> Result<Vec<(String, usize)>, String> {
            let allowances = [Allowance::parse(text).unwrap()];
            allowed(&model, &allowances)
                .map(|axes| axes.into_iter().collect())
                .map_err(|error| error.to_string())
        };
        let axes = |name: &str, axes: &[usize]| {
            Ok(axes.iter().map(|axis| (name.to_owned(), *axis)).collect())
        };
        assert_eq!(found("k:0"), axes("k:0", &[1, 2]));
        assert_eq!(found("k:0:1"), axes("k:0", &[1]));
        assert_eq!(found("k1:-1"), axes("k1", &[2]));
        assert_eq!(found("k*").unwrap().len(), 4);
        assert!(
            found("z").unwrap_err().contains("there are x, k:0, y, k1"),
            "{:?}",
            found("z")
        );
        assert!(
            found("x:0").unwrap_err().contains("n×3"),
            "{:?}",
            found("x:0")
        );
        assert!(found("x:2").is_err());
    }
}
