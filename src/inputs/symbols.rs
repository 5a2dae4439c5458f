//! Numbers for dynamic extents, where nobody gave any.

use std::collections::BTreeMap;

use super::InputSpec;
use super::spec::evaluate;

/// How long sequences are where nobody says it.
pub(super) const SEQUENCE: i64 = 32;

/// Numbers for every extent of every input, sequences being so long; the same symbol gets the same number everywhere.
pub(super) fn resolve(specs: &[InputSpec], sequence: i64) -> Vec<Vec<usize>> {
    let mut chosen: BTreeMap<String, i64> = BTreeMap::new();
    // Plain symbols first, so that sums of them (`past + sequence`) come out right.
    for spec in specs {
        for (axis, dim) in spec.shape.iter().enumerate() {
            let text = dim.to_string();
            if dim.num().is_none() && !is_sum(&text) {
                chosen
                    .entry(text.clone())
                    .or_insert_with(|| choose(&text, spec, axis, sequence));
            }
        }
    }
    let number = |spec: &InputSpec, axis: usize, dim: &crate::facts::Dim| {
        let text = dim.to_string();
        let found = dim.num().or_else(|| {
            evaluate(&text, &|symbol| {
                Some(
                    chosen
                        .get(symbol)
                        .copied()
                        .unwrap_or(choose(symbol, spec, axis, sequence)),
                )
            })
        });
        usize::try_from(found.unwrap_or(1)).unwrap_or(1)
    };
    specs
        .iter()
        .map(|spec| {
            spec.shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| number(spec, axis, dim))
                .collect()
        })
        .collect()
}

impl InputSpec {
    /// The shapes that made-up inputs have, by name.
    pub fn made_up(specs: &[InputSpec]) -> BTreeMap<String, Vec<i64>> {
        Self::with_sequences(specs, SEQUENCE)
    }

    /// The same, sequences being so long.
    pub(super) fn with_sequences(specs: &[InputSpec], sequence: i64) -> BTreeMap<String, Vec<i64>> {
        let shapes = resolve(specs, sequence)
            .into_iter()
            .map(|dims| dims.into_iter().map(|dim| dim as i64).collect());
        specs
            .iter()
            .map(|spec| spec.name.clone())
            .zip(shapes)
            .collect()
    }
}

fn is_sum(text: &str) -> bool {
    text.contains(['+', '*'])
}

/// A number for one symbol: by its name, else by where it stands.
fn choose(symbol: &str, spec: &InputSpec, axis: usize, sequence: i64) -> i64 {
    const PAST: i64 = 8;
    const SIDE: i64 = 224;
    const SOUND: i64 = 16000;
    let (name, rank) = (symbol.to_ascii_lowercase(), spec.shape.len());
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let is = |names: &[&str]| names.contains(&name.as_str());
    let float = spec.dtype.is_float();
    let sound = ["audio", "wave", "signal", "sound"]
        .iter()
        .any(|part| spec.name.to_ascii_lowercase().contains(part));
    if has(&["batch"]) || is(&["n", "b", "bs", "bsz"]) {
        1
    } else if has(&["past", "cache"]) {
        PAST
    } else if has(&["height", "width"]) || is(&["h", "w"]) {
        SIDE
    } else if has(&["channel"]) || is(&["c"]) {
        3
    } else if has(&["num_samples", "audio", "wave"])
        || (sound && rank <= 3 && axis + 1 == rank && axis > 0)
    {
        SOUND
    } else if has(&["seq", "token", "len", "time", "frame"]) || is(&["s", "t", "l"]) {
        sequence
    } else if axis == 0 {
        1
    } else if rank == 4 && (float || spec.dtype.bits() == 8) {
        let last = spec.shape.last().and_then(|dim| dim.num());
        let channels_last = matches!(last, Some(1 | 3 | 4));
        if axis == 1 && !channels_last { 3 } else { SIDE }
    } else {
        // Only what runs along the last axis without a name is likely to be sound.
        if axis + 1 == rank { sequence } else { SEQUENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Dim;
    use crate::proto::Dtype;

    #[test]
    fn symbols_agree_and_sums_add_up() {
        let spec = |name: &str, dtype, shape: &[&str]| {
            InputSpec::new(
                name,
                dtype,
                shape.iter().map(|dim| Dim::symbol(dim)).collect(),
            )
        };
        let specs = [
            spec("mask", Dtype::Int64, &["batch", "past_len + seq"]),
            spec("input_ids", Dtype::Int64, &["batch", "seq"]),
            spec("pixels", Dtype::Float, &["a1", "b1", "c1", "d1"]),
        ];
        assert_eq!(
            resolve(&specs, SEQUENCE),
            [vec![1, 32 + 8], vec![1, 32], vec![1, 3, 224, 224]]
        );
    }
}
