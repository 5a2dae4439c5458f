//! Numbers for dynamic extents, where nobody gave any.

use std::collections::BTreeMap;

use super::InputSpec;
use super::spec::evaluate;
use crate::facts::Dim;

/// How long sequences are where nobody says it.
pub const SEQUENCE: i64 = 32;
/// Pixels of a picture's side, likewise.
const SIDE: i64 = 224;

/// Numbers by symbol.
pub type Extents = BTreeMap<String, i64>;

/// Numbers for every extent of every input, sequences being so long; the same symbol gets the same number everywhere, and these
/// the numbers that they are known to have.
pub(super) fn resolve(specs: &[InputSpec], sequence: i64, known: &Extents) -> Vec<Vec<usize>> {
    let mut chosen = known.clone();
    // Plain symbols first, so that sums of them (`past + sequence`) come out right.
    for (spec, axis, text) in open_axes(specs).filter(|(_, _, text)| !is_sum(text)) {
        chosen
            .entry(text.clone())
            .or_insert_with(|| choose(&text, spec, axis, sequence).0);
    }
    let number = |spec: &InputSpec, axis: usize, dim: &Dim| {
        let text = dim.to_string();
        let found = dim.num().or_else(|| {
            evaluate(&text, &|symbol| {
                let number = chosen.get(symbol).copied();
                Some(number.unwrap_or(choose(symbol, spec, axis, sequence).0))
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

/// The extents that are open: whose, which axis, and how they are written.
fn open_axes(specs: &[InputSpec]) -> impl Iterator<Item = (&InputSpec, usize, String)> {
    specs.iter().flat_map(|spec| {
        let axes = spec.shape.iter().enumerate();
        axes.filter(|(_, dim)| dim.num().is_none())
            .map(move |(axis, dim)| (spec, axis, dim.to_string()))
    })
}

impl InputSpec {
    /// One shape of each input, by name: all extents numbers, as made-up inputs have them. Sequences are so long, the same
    /// symbol is the same number everywhere, and these symbols have the numbers given.
    pub fn closed(
        specs: &[InputSpec],
        sequence: i64,
        known: &Extents,
    ) -> BTreeMap<String, Vec<i64>> {
        let shapes = resolve(specs, sequence, known)
            .into_iter()
            .map(|dims| dims.into_iter().map(|dim| dim as i64).collect());
        specs
            .iter()
            .map(|spec| spec.name.clone())
            .zip(shapes)
            .collect()
    }

    /// The symbols of the inputs, each once: those first for which a number is least to be told from how they are called and
    /// where they stand.
    pub fn open_symbols(specs: &[InputSpec]) -> Vec<String> {
        let mut symbols: Vec<(Sure, String)> = Vec::new();
        for (spec, axis, text) in open_axes(specs).filter(|(_, _, text)| !is_sum(text)) {
            if !symbols.iter().any(|(_, symbol)| *symbol == text) {
                symbols.push((choose(&text, spec, axis, SEQUENCE).1, text));
            }
        }
        // Of those alike the last input first: states and masks follow what they go with.
        symbols.reverse();
        symbols.sort_by_key(|(sure, _)| *sure);
        symbols.into_iter().map(|(_, symbol)| symbol).collect()
    }

    /// These shapes, open again where the symbol is part of what is declared.
    pub fn opened(
        specs: &[InputSpec],
        mut shapes: BTreeMap<String, Vec<i64>>,
        symbol: &str,
    ) -> BTreeMap<String, Vec<Dim>> {
        let parts = |dim: &Dim| {
            let text = dim.to_string();
            dim.num().is_none() && text.split(['+', '*']).any(|part| part.trim() == symbol)
        };
        let open = |spec: &InputSpec| {
            let numbers = shapes.remove(&spec.name).unwrap_or_default();
            let dims = spec.shape.iter().zip(numbers);
            let dims = dims.map(|(dim, number)| match parts(dim) {
                true => dim.clone(),
                false => Dim::Num(number),
            });
            (spec.name.clone(), dims.collect())
        };
        specs.iter().map(open).collect()
    }
}

/// How sure a number for a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// It is what many axes at this place have.
    Place,
    /// It is the first axis, which counts samples.
    First,
    /// It is told by a name.
    Name,
}

fn is_sum(text: &str) -> bool {
    text.contains(['+', '*'])
}

/// A number for one symbol: by its name, else by where it stands.
fn choose(symbol: &str, spec: &InputSpec, axis: usize, sequence: i64) -> (i64, Sure) {
    if let Some(number) = by_name(symbol, spec, axis, sequence) {
        return (number, Sure::Name);
    }
    if axis == 0 {
        return (1, Sure::First);
    }
    let rank = spec.shape.len();
    let number = if rank == 4 && (spec.dtype.is_float() || spec.dtype.bits() == 8) {
        let last = spec.shape.last().and_then(|dim| dim.num());
        let channels_last = matches!(last, Some(1 | 3 | 4));
        if axis == 1 && !channels_last { 3 } else { SIDE }
    } else {
        // Only what runs along the last axis without a name is likely to be sound.
        if axis + 1 == rank { sequence } else { SEQUENCE }
    };
    (number, Sure::Place)
}

/// A number that the names of a symbol and its input tell.
fn by_name(symbol: &str, spec: &InputSpec, axis: usize, sequence: i64) -> Option<i64> {
    const PAST: i64 = 8;
    const SOUND: i64 = 16000;
    let (name, rank) = (symbol.to_ascii_lowercase(), spec.shape.len());
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let is = |names: &[&str]| names.contains(&name.as_str());
    let sound = ["audio", "wave", "signal", "sound"]
        .iter()
        .any(|part| spec.name.to_ascii_lowercase().contains(part));
    if has(&["batch"]) || is(&["n", "b", "bs", "bsz"]) {
        Some(1)
    } else if has(&["past", "cache"]) {
        Some(PAST)
    } else if has(&["height", "width"]) || is(&["h", "w"]) {
        Some(SIDE)
    } else if has(&["channel"]) || is(&["c"]) {
        Some(3)
    } else if has(&["num_samples", "audio", "wave"])
        || (sound && rank <= 3 && axis + 1 == rank && axis > 0)
    {
        Some(SOUND)
    } else if has(&["seq", "token", "len", "time", "frame"]) || is(&["s", "t", "l"]) {
        Some(sequence)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            resolve(&specs, SEQUENCE, &Extents::new()),
            [vec![1, 32 + 8], vec![1, 32], vec![1, 3, 224, 224]]
        );
    }

    #[test]
    fn what_only_its_place_tells_is_least_sure() {
        let spec = |name: &str, shape: &[&str]| {
            let shape = shape.iter().map(|dim| Dim::symbol(dim)).collect();
            InputSpec::new(name, Dtype::Float, shape)
        };
        let specs = [
            spec("x", &["?x.0", "frames"]),
            spec("state", &["two", "?state.1", "?x.0 + frames"]),
        ];
        let symbols = InputSpec::open_symbols(&specs);
        assert_eq!(symbols, ["?state.1", "two", "?x.0", "frames"]);
        let known = Extents::from([("?state.1".to_owned(), 1), ("frames".to_owned(), 5)]);
        let shapes = InputSpec::closed(&specs, SEQUENCE, &known);
        assert_eq!(
            (&*shapes["x"], &*shapes["state"]),
            (&[1, 5][..], &[1, 1, 6][..])
        );
        let opened = InputSpec::opened(&specs, shapes, "frames");
        assert_eq!(opened["x"], [Dim::Num(1), Dim::symbol("frames")]);
        assert_eq!(opened["state"][2], Dim::symbol("?x.0 + frames"));
    }
}
