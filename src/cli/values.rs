//! Values of options, from text.

use std::path::{Path, PathBuf};

use super::option_error::OptionError;
use crate::allocate::{Align, Target};
use crate::analysis::Kind;
use crate::progress::Memory;
use crate::prune::{Allowance, Pattern};
use crate::recover::Method;
use crate::score::{SCORES, ScoreEntry};
use crate::train::OutputLoss;

/// What `--target` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum GoalText {
    Cost(Target),
    Drift(f64),
    /// The least share of inputs that keep their class.
    Agreement(f64),
}

/// Numbers in a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers(pub Vec<f64>);

/// Kinds of groups.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kinds {
    Named(Vec<Kind>),
    /// All that can be weighed against each other.
    Auto,
}

/// The shape of one input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pin {
    pub name: String,
    pub dims: Vec<i64>,
}

/// How the weights that stay are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    Nothing,
    With(Method),
    /// By least squares, then by training.
    Distill,
}

/// What training holds outputs against the original's by; `None`: by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LossText(pub Option<OutputLoss>);

/// How units are ranked.
#[derive(Clone, Debug)]
pub(super) enum Scoring {
    Name(&'static ScoreEntry),
    File(PathBuf),
}

/// What runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineName {
    /// tract, and ONNX Runtime for what tract lacks, where it is at hand.
    Auto,
    Tract,
    Ort,
}

/// How zeros are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Dense,
    /// As indices and numbers, where that is smaller.
    Sparse,
}

/// One part of the samples: those whose number leaves `number - 1` when divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub number: usize,
    pub of: usize,
}

pub(super) fn goal(text: &str) -> Result<GoalText, OptionError> {
    let (metric, value) = text.split_once('=').ok_or(OptionError::NoMetric)?;
    let number: f64 = value
        .parse()
        .map_err(|_| OptionError::Number(value.to_owned()))?;
    let fraction = || {
        if number > 0.0 && number <= 1.0 {
            Ok(number)
        } else {
            Err(OptionError::Fraction(metric.to_owned()))
        }
    };
    match metric {
        "macs" => Ok(GoalText::Cost(Target::Macs(fraction()?))),
        "params" => Ok(GoalText::Cost(Target::Params(fraction()?))),
        "bytes" => Ok(GoalText::Cost(Target::Bytes(fraction()?))),
        "drift" if number >= 0.0 && number.is_finite() => Ok(GoalText::Drift(number)),
        "drift" => Err(OptionError::Drift),
        "agreement" => Ok(GoalText::Agreement(
            fraction().map_err(|_| OptionError::Agreement)?,
        )),
        "latency" => Ok(GoalText::Cost(Target::Latency(fraction()?))),
        _ => Err(OptionError::Metric),
    }
}

pub(super) fn score(text: &str) -> Result<Scoring, OptionError> {
    if let Some(entry) = SCORES.iter().find(|entry| entry.name == text) {
        return Ok(Scoring::Name(entry));
    }
    let file = Path::new(text);
    if file
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
    {
        return Ok(Scoring::File(file.into()));
    }
    Err(OptionError::Score)
}

pub(super) fn engine(text: &str) -> Result<EngineName, OptionError> {
    match text {
        "auto" => Ok(EngineName::Auto),
        "tract" => Ok(EngineName::Tract),
        "ort" => Ok(EngineName::Ort),
        _ => Err(OptionError::Runtime),
    }
}

pub(super) fn storage(text: &str) -> Result<Storage, OptionError> {
    match text {
        "dense" => Ok(Storage::Dense),
        "sparse" => Ok(Storage::Sparse),
        _ => Err(OptionError::Storage),
    }
}

pub(super) fn sparsity(text: &str) -> Result<f64, OptionError> {
    share(text)
        .ok()
        .filter(|share| *share < 1.0)
        .ok_or(OptionError::Sparsity)
}

pub(super) fn shard(text: &str) -> Result<Shard, OptionError> {
    let wrong = || OptionError::Shard(text.to_owned());
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let (number, of): (usize, usize) = number
        .trim()
        .parse()
        .ok()
        .zip(of.trim().parse().ok())
        .ok_or_else(wrong)?;
    if (1..=of).contains(&number) {
        Ok(Shard { number, of })
    } else {
        Err(wrong())
    }
}

pub(super) fn recovery(text: &str) -> Result<Recovery, OptionError> {
    match text {
        "none" => Ok(Recovery::Nothing),
        "statistics" => Ok(Recovery::With(Method::Statistics)),
        "least-squares" => Ok(Recovery::With(Method::LeastSquares)),
        "distill" => Ok(Recovery::Distill),
        _ => Err(OptionError::Recovery),
    }
}

pub(super) fn loss(text: &str) -> Result<LossText, OptionError> {
    if text == "auto" {
        return Ok(LossText(None));
    }
    OutputLoss::named(text)
        .map(|loss| LossText(Some(loss)))
        .ok_or(OptionError::Loss)
}

pub(super) fn kinds(text: &str) -> Result<Kinds, OptionError> {
    if text.trim() == "auto" {
        return Ok(Kinds::Auto);
    }
    let kind = |name: &str| match name.trim() {
        "channels" => Ok(Kind::Channels),
        "heads" => Ok(Kind::Heads),
        "head-dims" => Ok(Kind::HeadDims),
        "width" => Ok(Kind::Width),
        "layers" => Ok(Kind::Layers),
        "directions" => Ok(Kind::Directions),
        "experts" => Ok(Kind::Experts),
        other => Err(OptionError::Kind(other.to_owned())),
    };
    text.split(',')
        .map(kind)
        .collect::<Result<_, _>>()
        .map(Kinds::Named)
}

pub(super) fn align(text: &str) -> Result<Align, OptionError> {
    match text.parse() {
        _ if text == "auto" => Ok(Align::Auto),
        Ok(0) | Err(_) => Err(OptionError::Align),
        Ok(number) => Ok(Align::Multiple(number)),
    }
}

pub(super) fn pattern(text: &str) -> Result<Pattern, OptionError> {
    Ok(text.parse()?)
}

pub(super) fn allowance(text: &str) -> Result<Allowance, OptionError> {
    Ok(Allowance::parse(text)?)
}

pub(super) fn pin(text: &str) -> Result<Pin, OptionError> {
    // Names may hold an equals sign, shapes do not.
    let (name, shape) = text.rsplit_once('=').ok_or(OptionError::NoShape)?;
    let dim = |dim: &str| dim.trim().parse().ok().filter(|dim| *dim > 0);
    let dims: Option<Vec<i64>> = shape.split(['x', 'X', '×', ',']).map(dim).collect();
    let dims = dims.ok_or_else(|| OptionError::Shape(shape.to_owned()))?;
    Ok(Pin {
        name: name.to_owned(),
        dims,
    })
}

pub(super) fn numbers(text: &str) -> Result<Numbers, OptionError> {
    text.split(',')
        .map(|number| {
            number
                .trim()
                .parse()
                .map_err(|_| OptionError::Number(number.to_owned()))
        })
        .collect::<Result<_, _>>()
        .map(Numbers)
}

pub(super) fn positive(text: &str) -> Result<usize, OptionError> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or(OptionError::Positive)
}

/// Bytes, with a unit or without: 1048576, 500MB, 4GiB, 1.5G.
pub(super) fn size(text: &str) -> Result<Memory, OptionError> {
    const UNITS: [(&str, f64); 13] = [
        ("", 1.0),
        ("b", 1.0),
        ("k", 1024.0),
        ("m", 1048576.0),
        ("g", 1073741824.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("kib", 1024.0),
        ("mib", 1048576.0),
        ("gib", 1073741824.0),
        ("tib", 1099511627776.0),
    ];
    let wrong = || OptionError::Size(text.to_owned());
    let at = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let bytes = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if bytes >= 1.0 && bytes.is_finite() {
        Ok(Memory(bytes as u64))
    } else {
        Err(wrong())
    }
}

pub(super) fn not_negative(text: &str) -> Result<f64, OptionError> {
    text.parse()
        .ok()
        .filter(|number: &f64| *number >= 0.0 && number.is_finite())
        .ok_or(OptionError::Negative)
}

pub(super) fn share(text: &str) -> Result<f64, OptionError> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or(OptionError::Share)
}

/// A pattern of names. Errors: not one.
pub(super) fn glob(text: &str) -> Result<globset::Glob, OptionError> {
    globset::Glob::new(text).map_err(|error| OptionError::Glob(error.kind().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(goal("macs=0.5"), Ok(GoalText::Cost(Target::Macs(0.5))));
        assert_eq!(goal("drift=0"), Ok(GoalText::Drift(0.0)));
        assert_eq!(goal("agreement=0.98"), Ok(GoalText::Agreement(0.98)));
        for wrong in [
            "macs",
            "macs=2",
            "macs=x",
            "drift=-1",
            "drift=nan",
            "latency=1.5",
            "agreement=98",
            "flops=1",
        ] {
            assert!(goal(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            pin("a=b=1x128"),
            Ok(Pin {
                name: "a=b".to_owned(),
                dims: vec![1, 128]
            })
        );
        assert!(pin("a=0x2").is_err() && pin("a=").is_err() && pin("a").is_err());
        assert_eq!(
            kinds("heads, width"),
            Ok(Kinds::Named(vec![Kind::Heads, Kind::Width]))
        );
        assert!(kinds("auto") == Ok(Kinds::Auto) && kinds("auto,heads").is_err());
        assert!(
            kinds("channels,layers,experts").is_ok()
                && kinds("blocks").is_err()
                && align("0").is_err()
        );
        assert_eq!(shard("2/3"), Ok(Shard { number: 2, of: 3 }));
        assert!(
            ["0/3", "4/3", "1", "a/2", "1/0"]
                .iter()
                .all(|wrong| shard(wrong).is_err())
        );
        assert!(
            matches!(score("own/Scores.JSON"), Ok(Scoring::File(file)) if file == Path::new("own/Scores.JSON"))
        );
        assert_eq!(
            ["4GiB", "500MB", " 7 ", "1.5k"].map(size),
            [4 << 30, 500_000_000, 7, 1536].map(|bytes| Ok(Memory(bytes)))
        );
        assert!(
            ["", "GB", "-1MB", "4 GX", "0", "1e400"]
                .iter()
                .all(|wrong| size(wrong).is_err())
        );
        assert_eq!(
            (loss("auto"), loss("kl")),
            (
                Ok(LossText(None)),
                Ok(LossText(Some(OutputLoss::Divergence)))
            )
        );
        assert!(
            loss("hinge").is_err_and(|said| said.to_string().contains("squared, embedding, kl"))
        );
        assert!(score("wanda").is_ok() && score("best").is_err());
        assert_eq!(
            goal("latency=0.6"),
            Ok(GoalText::Cost(Target::Latency(0.6)))
        );
        assert_eq!(
            (align("16"), align("auto")),
            (Ok(Align::Multiple(16)), Ok(Align::Auto))
        );
    }
}
