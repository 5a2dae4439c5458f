//! All scores by name: what the command line, the pipeline and the README go by.

use std::fmt;
use std::sync::Arc;

use super::obs::Obs;
use super::variance::Variance;
use super::wanda::Wanda;
use super::{BatchNorm, GeometricMedian, Given, Lamp, Norm, Random, Score, Taylor};

/// What a score needs besides weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// Nothing: a model can be pruned without being run.
    Weights,
    /// Activations, those on made-up inputs where there are no others.
    AnyActivations,
    /// Activations on the user's inputs, or statistics of such.
    Activations,
    /// Derivatives of the outputs on the user's inputs.
    Derivatives,
}

/// One score.
#[derive(Debug)]
pub struct ScoreEntry {
    /// What it is called.
    pub name: &'static str,
    /// What it needs besides weights.
    pub needs: Needs,
    /// What a unit is worth by it.
    pub doc: &'static str,
    /// Why it is silent about a group, where it may be.
    pub silent: &'static str,
    /// Makes it; the number is the seed of what is random in it.
    pub make: fn(u64) -> Arc<dyn Score>,
}

const NO_READER: &str = "no product reads them whose weights stand in the file as they are";

/// All scores, those that look at activations first.
///
/// ```
/// use onnx_prune::{Needs, SCORES, Scorer};
///
/// for entry in SCORES {
///     println!("{}: {}", entry.name, entry.doc);
/// }
/// assert_eq!(Scorer::named("wanda", 0).map(|score| score.needs()), Some(Needs::Activations));
/// ```
#[rustfmt::skip]
pub static SCORES: &[ScoreEntry] = &[
    ScoreEntry { name: "obs", needs: Needs::AnyActivations, doc: "what its readers lose when the units that stay make up for it as well as they can", silent: NO_READER, make: |_| Arc::new(Obs) },
    ScoreEntry { name: "variance", needs: Needs::Activations, doc: "the variance that goes through it into its readers (FLAP)", silent: NO_READER, make: |_| Arc::new(Variance) },
    ScoreEntry { name: "wanda", needs: Needs::Activations, doc: "the squares of its inputs' norms times its readers' weights (Wanda)", silent: NO_READER, make: |_| Arc::new(Wanda) },
    ScoreEntry { name: "taylor", needs: Needs::Derivatives, doc: "what the outputs lose with it to first order, squared (Fisher information of masks)", silent: "no product reads them whose weights have derivatives", make: |_| Arc::new(Taylor) },
    ScoreEntry { name: "l2", needs: Needs::Weights, doc: "the norm of its weights", silent: NO_READER, make: |_| Arc::new(Norm::L2) },
    ScoreEntry { name: "l1", needs: Needs::Weights, doc: "the sum of its weights' absolute values", silent: NO_READER, make: |_| Arc::new(Norm::L1) },
    ScoreEntry { name: "bn", needs: Needs::Weights, doc: "the scale of its batch normalisation; the norm of its weights where there is none", silent: "no BatchNormalization holds their channels", make: |_| Arc::new(BatchNorm) },
    ScoreEntry { name: "lamp", needs: Needs::Weights, doc: "its squared norm over those of the units that are not smaller (LAMP)", silent: NO_READER, make: |_| Arc::new(Lamp) },
    ScoreEntry { name: "geometric-median", needs: Needs::Weights, doc: "the sum of its weights' distances from the other units' (FPGM)", silent: "their units hold no weights that can be compared", make: |_| Arc::new(GeometricMedian) },
    ScoreEntry { name: "random", needs: Needs::Weights, doc: "nothing: a baseline", silent: NO_READER, make: |seed| Arc::new(Random { seed }) },
];

/// A score, ready to use: one of [`SCORES`], numbers that are given, or one's own.
#[derive(Clone, Debug)]
pub struct Scorer {
    name: String,
    needs: Needs,
    silent: &'static str,
    seed: u64,
    score: Arc<dyn Score>,
}

impl Scorer {
    /// One of [`SCORES`], by its name; `seed` is that of what is random in it. `None`: there is no such score.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let entry = SCORES.iter().find(|entry| entry.name == name)?;
        Some(Scorer {
            name: entry.name.to_owned(),
            needs: entry.needs,
            silent: entry.silent,
            seed,
            score: (entry.make)(seed),
        })
    }

    /// Numbers that are given for each unit.
    pub fn given(given: Given) -> Self {
        Scorer::custom("of the file given", given)
    }

    /// One's own, by a name to speak of it. It looks at weights alone.
    pub fn custom(name: &str, score: impl Score + 'static) -> Self {
        Scorer {
            name: name.to_owned(),
            needs: Needs::Weights,
            silent: NO_READER,
            seed: 0,
            score: Arc::new(score),
        }
    }

    /// The norm of a unit's weights, `l2`: what other scores fall back to.
    pub fn norm() -> Self {
        Scorer::custom("l2", Norm::L2)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it needs besides weights.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The seed of what is random in it.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Why it is silent about a group, where it is.
    pub(crate) fn why_silent(&self) -> &'static str {
        self.silent
    }

    /// The score itself.
    pub(crate) fn score(&self) -> &dyn Score {
        &*self.score
    }
}

impl Default for Scorer {
    /// [`Scorer::norm`].
    fn default() -> Self {
        Scorer::norm()
    }
}

impl fmt::Display for Scorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_found_by_its_name() {
        for entry in SCORES {
            let scorer = Scorer::named(entry.name, 0).unwrap();
            assert_eq!((scorer.name(), scorer.needs()), (entry.name, entry.needs));
        }
        assert!(Scorer::named("best", 0).is_none());
        let norm = Scorer::norm();
        assert_eq!((norm.name(), norm.needs()), ("l2", Needs::Weights));
    }
}
