//! Made-up inputs to fit to and to judge by. What judges is of other kinds than what is fitted to, so that what is claimed of
//! a result holds on numbers unlike those that it was made with: real ones are unlike all that can be made up.

use super::{SPARED, held_out};
use crate::inputs::{
    DataError, InputKind, InputSpec, Inputs, Style, apart, hollow, synthetic_styled,
};
use crate::progress::Memory;

/// Operations that one pass over all inputs may take.
const OPERATIONS: f64 = 4e10;
/// Samples that are fitted to, at most; the least is what lets some be spared for judging.
const MOST: f64 = 96.0;
/// Samples kept apart, one for so many that are fitted to.
const APART: usize = 6;

/// Made-up inputs, and which runs of them are kept apart.
#[derive(Clone, Debug)]
pub struct MadeUp {
    /// All of them.
    pub inputs: Inputs,
    /// The runs that nothing is fitted to or chosen by, ascending.
    pub apart: Vec<usize>,
    /// Names of inputs of which the file does not tell which numbers come together.
    pub guessed: Vec<String>,
}

impl MadeUp {
    /// So many samples, some of them kept apart. The same seed makes the same. Errors: an input that cannot be made up, or that
    /// takes more memory than allowed.
    pub fn of(
        specs: &[InputSpec],
        samples: usize,
        seed: u64,
        memory: Memory,
    ) -> Result<Self, DataError> {
        let split = |runs: usize| apart(runs, runs);
        MadeUp::split(specs, samples, seed, memory, split)
    }

    /// As many as are worth their time for a model of so many multiply-accumulates. Errors: as [`MadeUp::of`].
    pub fn worth(
        specs: &[InputSpec],
        macs: f64,
        seed: u64,
        memory: Memory,
    ) -> Result<Self, DataError> {
        let fitted = (OPERATIONS / macs.max(1.0)).clamp(SPARED as f64, MOST) as usize;
        let split = |runs: usize| {
            let kept = if runs > APART {
                runs / (APART + 1)
            } else {
                runs / 2
            };
            (runs - kept..runs).collect()
        };
        MadeUp::split(specs, fitted + fitted.div_ceil(APART), seed, memory, split)
    }

    /// Zeros for a model that is not to be run. Errors: as [`MadeUp::of`].
    pub fn hollow(specs: &[InputSpec], memory: Memory) -> Result<Self, DataError> {
        Ok(MadeUp {
            inputs: hollow(specs, memory)?,
            apart: Vec::new(),
            guessed: Vec::new(),
        })
    }

    fn split(
        specs: &[InputSpec],
        samples: usize,
        seed: u64,
        memory: Memory,
        split: impl Fn(usize) -> Vec<usize>,
    ) -> Result<Self, DataError> {
        let inputs = synthetic_styled(specs, samples, seed, memory, |runs| {
            styles(runs, &split(runs))
        })?;
        // Which numbers come, and which come together, is not in the file, whatever their range.
        let unknown =
            |spec: &&InputSpec| spec.kind == InputKind::Indices && spec.dtype.is_integer();
        Ok(MadeUp {
            apart: split(inputs.len()),
            inputs,
            guessed: specs
                .iter()
                .filter(unknown)
                .map(|spec| spec.name.clone())
                .collect(),
        })
    }
}

/// The styles of so many runs: those kept apart, and those by which fits are judged, are of kinds that nothing is fitted to.
fn styles(runs: usize, apart: &[usize]) -> Vec<Style> {
    let fitted = runs - apart.len();
    let (mut place, mut seen, mut unseen) = (0, 0, [0, 0]);
    let next = |styles: &[Style], at: &mut usize| {
        *at += 1;
        styles[(*at - 1) % styles.len()]
    };
    let style = |run: usize| {
        if apart.binary_search(&run).is_ok() {
            return next(&Style::UNSEEN, &mut unseen[0]);
        }
        place += 1;
        if held_out(place - 1, fitted) {
            next(&Style::UNSEEN, &mut unseen[1])
        } else {
            next(&Style::FITTED, &mut seen)
        }
    };
    (0..runs).map(style).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Dim;
    use crate::proto::Dtype;

    fn specs() -> [InputSpec; 2] {
        let dims = |last: i64| vec![Dim::symbol("batch"), Dim::Num(last)];
        [
            InputSpec::new("x", Dtype::Float, dims(16)),
            InputSpec::new("codes", Dtype::Int64, dims(4)),
        ]
    }

    #[test]
    fn what_judges_is_of_kinds_that_nothing_is_fitted_to() {
        let kept: Vec<usize> = (96..112).collect();
        let styles = styles(112, &kept);
        let unseen = |style: &Style| Style::UNSEEN.contains(style);
        assert!((0..96).all(|run| unseen(&styles[run]) == held_out(run, 96)));
        assert!(kept.iter().all(|run| unseen(&styles[*run])));
        assert!(
            Style::UNSEEN
                .iter()
                .all(|style| styles[96..].contains(style))
        );
    }

    #[test]
    fn small_models_get_many_samples_and_large_ones_enough_to_judge() {
        let count = |macs: f64| {
            let made = MadeUp::worth(&specs(), macs, 0, Memory::default()).unwrap();
            (made.inputs.len() - made.apart.len(), made.apart.len())
        };
        assert_eq!([count(1e6), count(1e12)], [(96, 16), (48, 8)]);
        let dataset = MadeUp::of(&specs(), 24, 0, Memory::default())
            .unwrap()
            .dataset();
        assert_eq!(
            (
                dataset.inputs.count(),
                dataset.apart.map(|apart| apart.inputs.count())
            ),
            (16, Some(8))
        );
        assert_eq!(dataset.guessed, ["codes"]);
    }
}
