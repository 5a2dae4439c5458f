//! Numbers for the extents that a model leaves open: the shapes at which operations are counted, and that made-up inputs have.

use std::cmp::Reverse;

use crate::analysis::{Pins, implied};
use crate::constants::functions;
use crate::cost::{ShapeTrial, trial};
use crate::facts::Dim;
use crate::inputs::{Extents, InputSpec, SEQUENCE};
use crate::model::Model;

/// How long sequences are taken to be, each tried where the model does not take the ones before: words, then frames and seconds
/// of sound.
const SEQUENCES: [i64; 3] = [SEQUENCE, 512, 16000];
/// Symbols for which other numbers are tried than names and places tell.
const MOST: usize = 8;

/// One shape of each input, every extent a number: those declared, and for the others what names and places tell. Where these
/// shapes do not go together, what the operators imply; where nothing is computed at them, longer sequences.
pub(super) fn shapes(model: &Model, specs: &[InputSpec]) -> Pins {
    let usual = InputSpec::closed(specs, SEQUENCE, &Extents::new());
    if specs.iter().all(|spec| spec.fixed().is_some()) {
        return usual;
    }
    let inlined = functions::inlined(model).ok().flatten();
    let model = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    let mut best: Option<Shaped> = None;
    let mut tried = None;
    for sequence in SEQUENCES {
        let first = InputSpec::closed(specs, sequence, &Extents::new());
        // Without an axis for sequences their length changes nothing.
        if tried.replace(first.clone()) == Some(first) {
            break;
        }
        let next = Shaped::agreed(model, specs, sequence);
        let fits_better = |best: &Shaped| next.trial.misfits < best.trial.misfits;
        if next.trial.macs > 0.0 && best.as_ref().is_none_or(fits_better) {
            best = Some(next);
        }
        if best.as_ref().is_some_and(|best| best.trial.misfits == 0) {
            break;
        }
    }
    best.map_or(usual, |best| best.shapes)
}

/// Shapes of the inputs, and what they come to.
struct Shaped {
    known: Extents,
    shapes: Pins,
    trial: ShapeTrial,
}

impl Shaped {
    fn new(model: &Model, specs: &[InputSpec], sequence: i64, known: Extents) -> Self {
        let shapes = InputSpec::closed(specs, sequence, &known);
        Shaped {
            trial: trial(model, &shapes),
            known,
            shapes,
        }
    }

    /// Shapes with sequences of this length; where nodes do not take them, with numbers that operators imply instead of guesses
    /// as long as more nodes take these.
    fn agreed(model: &Model, specs: &[InputSpec], sequence: i64) -> Self {
        let mut best = Shaped::new(model, specs, sequence, Extents::new());
        if best.trial.misfits == 0 {
            return best;
        }
        for symbol in InputSpec::open_symbols(specs).into_iter().take(MOST) {
            let opened = InputSpec::opened(specs, best.shapes.clone(), &symbol);
            let candidates = implied(model, &opened, &Dim::symbol(&symbol));
            let counts = candidates.into_iter().filter(|number| *number > 0);
            let tried = counts.map(|number| {
                let mut known = best.known.clone();
                known.insert(symbol.clone(), number);
                Shaped::new(model, specs, sequence, known)
            });
            let better = tried.filter(|other| other.trial.misfits < best.trial.misfits);
            // Of those alike the largest: an extent of 1 goes with all others.
            if let Some(found) = better.max_by_key(|other| Reverse(other.trial.misfits)) {
                best = found;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::{ModelInputs, declared_inputs};
    use crate::model::text;

    fn found(text: &str) -> ModelInputs {
        let (model, pins) = (text::model(text).unwrap(), Pins::new());
        ModelInputs::new(&model, declared_inputs(&model, &pins, None), &pins).unwrap()
    }

    #[test]
    fn sequences_are_as_long_as_the_model_takes_them() {
        let frames = |window: i64| {
            let net = format!(
                "input x f32[batch,1,frames]\nconst w f32[2,1,{window}]\ny = Conv(x, w)\noutput y"
            );
            found(&net).shapes["x"][2]
        };
        assert_eq!(
            [8, 256, 4000, 70000].map(frames),
            [SEQUENCE, 512, 16000, SEQUENCE]
        );
    }

    #[test]
    fn a_state_goes_with_what_it_is_the_state_of() {
        let net = "input x f32[a,3]\ninput h f32[1,m,4]\nconst w f32[1,16,3]\nconst r f32[1,16,4]\nconst zero i64[1] = 0
            u = Unsqueeze(x, zero)\ny, z = LSTM(u, w, r, , , h) {hidden_size=4}\noutput y";
        let inputs = found(net);
        assert_eq!(inputs.shapes["x"], [1, 3]);
        assert_eq!(inputs.shapes["h"], [1, 1, 4]);
        // The specification stays open for inputs of other sizes; what is made up has these shapes.
        assert!(inputs.guesses() && inputs.specs[1].fixed().is_none());
        assert_eq!(inputs.closed()[1].fixed(), Some(vec![1, 1, 4]));
        // Where they go together as they are, nothing is changed.
        let alone = net.replace("input x f32[a,3]", "input x f32[32,3]");
        assert_eq!(found(&alone).shapes["h"], [1, 32, 4]);
    }

    #[test]
    fn an_extent_is_what_its_reader_takes() {
        let net = "input x f32[n,features]\ninput v f32[n,16]\nconst w f32[12,16]\nh = MatMul(x, w)\ny = Add(h, v)\noutput y";
        assert_eq!(found(net).shapes["x"], [1, 12]);
        assert_eq!(found(net).shapes["v"], [1, 16]);
    }
}
