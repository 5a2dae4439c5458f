//! Pictures in several views each: few pictures make more rows to fit to.

use std::sync::Arc;

use super::changed::Viewed;
use super::dataset::Dataset;
use crate::inputs::{Augment, DataError, Tensors, ViewedBatches, Views};
use crate::model::Model;
use crate::rng::rng;
use crate::run::{Runtime, Session, choose};

/// Runs that views make of fewer,
const RUNS: usize = 768;
/// and views of each input, at most, the input as it is among them.
const EACH: usize = 4;
/// Inputs that the original is asked about.
const ASKED: usize = 32;
/// The share of rows that must keep their class in a view;
const SAME: f64 = 0.8;
/// of outputs that are no scores, how far they may be off, as a share of what they are.
const FAR: f64 = 0.3;

/// The pictures that are fitted to, in views in which the original still sees what it saw; `None` where they stay as they are.
/// Errors: inputs that cannot be read.
pub fn viewed(
    model: &Model,
    data: &Dataset,
    runtime: &dyn Runtime,
    (augment, seed): (Augment, u64),
) -> Result<Option<Viewed>, DataError> {
    let inputs = &data.inputs;
    let each = (RUNS / inputs.count().max(1)).min(EACH);
    let Some(example) = inputs.example()?.filter(|_| each > 1 && !data.synthetic) else {
        return Ok(None);
    };
    let views = augment.of_calibration(&example);
    if views == Views::default() {
        return Ok(None);
    }
    let Ok(session) = choose(runtime, model, &example).session else {
        return Ok(None);
    };
    let count = inputs.count();
    let asked: Vec<Tensors> = (0..count.min(ASKED))
        .map(|at| inputs.fetch(at * count / count.min(ASKED)))
        .collect::<Result<_, _>>()?;
    let keeps = |views: Views| -> Result<bool, DataError> {
        Ok(is_seen_alike(&*session, &asked, views, seed).unwrap_or(false))
    };
    let views = views.kept(keeps)?;
    let rows = Arc::new(ViewedBatches::new(inputs.clone(), views, each, seed));
    Ok((views != Views::default()).then_some(Viewed { rows, views, each }))
}

/// Whether the first output of a model stays what it is in a view of some inputs. `None`: the model does not run.
fn is_seen_alike(
    session: &dyn Session,
    inputs: &[Tensors],
    views: Views,
    seed: u64,
) -> Option<bool> {
    let (mut rows, mut same, mut off, mut all) = (0.0, 0.0, 0.0, 0.0);
    let mut are_scores = true;
    for (at, plain) in inputs.iter().enumerate() {
        let seen = views.apply(plain, &mut rng(seed, &format!("look {at}")));
        let [plain, seen] = [plain, &seen].map(|inputs| session.run(inputs).ok());
        let (plain, seen) = (plain?.into_iter().next()?, seen?.into_iter().next()?);
        let classes = plain.dims.last().copied().unwrap_or(1);
        are_scores &= plain.dims.len() == 2 && classes > 1;
        let (plain, seen) = (plain.to_f64()?, seen.to_f64()?);
        for (plain, seen) in plain.iter().zip(&seen) {
            off += (plain - seen) * (plain - seen);
            all += plain * plain;
        }
        let pairs = plain
            .chunks(classes.max(1))
            .zip(seen.chunks(classes.max(1)));
        for (plain, seen) in pairs {
            rows += 1.0;
            same += f64::from(u8::from(largest(plain) == largest(seen)));
        }
    }
    Some(match are_scores {
        true => same >= SAME * rows,
        false => off <= FAR * FAR * all,
    })
}

fn largest(row: &[f64]) -> Option<usize> {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]))
}
