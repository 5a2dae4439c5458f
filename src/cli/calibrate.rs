//! Statistics of a model's activations, to a file and back.

use std::path::PathBuf;

use anyhow::bail;

use super::args::Calibrate;
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, advice, data, engine, output};
use crate::analysis::Options;
use crate::calibrate::{Dataset, Statistics, cached, trimmed};
use crate::files::Staged;
use crate::model::Model;
use crate::progress::{Phase, Progress};
use crate::prune;

pub(super) fn run(args: &Calibrate, stop: &Stop) -> anyhow::Result<Exit> {
    let Some(path) = &args.data.data else {
        bail!("calibrate needs inputs; give them with --data")
    };
    let place = stop.outputs.claim(&args.output, "the file of statistics")?;
    output::reads_data(stop, Some(path), None)?;
    let watch = Watch::new(&args.common, stop);
    watch.begin(Phase::Load, 0);
    let model = output::load(&args.model, &watch, stop)?;
    let ends = data::wanted(
        &model,
        &data::pins(&args.data.input),
        args.data.data.as_deref(),
    )?;
    let inputs = data::read(path, &ends.specs, &args.data, &watch)?;
    // Whoever prunes by these statistics and gives the same inputs measures on those that are in no statistics.
    let apart = crate::inputs::apart(inputs.len(), inputs.samples);
    let runs = runs_of_shard(args, inputs.len(), &apart)?;
    let options = Options {
        pins: ends.shapes,
        memory: watch.memory,
        allowed: advice::allowed(&model, &args.allow)?,
        ..Default::default()
    };
    let runtime = engine::runtime(args.engine.runtime, true, watch.memory)?;
    let mut given = data::GivenData::told(&inputs)?;
    given.doubt(&model, &*runtime, &watch);
    let whole = Dataset::new(cached(inputs));
    let data = trimmed(&model, &whole, &*runtime)?.unwrap_or(whole);
    let batches = &*data.inputs;
    let gathered = prune::calibrate(&model, &options, batches, &runs, &*runtime, &watch.work());
    let statistics = match super::ran(gathered, "", &watch)? {
        Ok(statistics) => statistics,
        Err(exit) => return Ok(exit),
    };
    watch.begin(Phase::Save, 0);
    let mut staged = Staged::new(&stop.outputs);
    staged.write(&place, |file| {
        statistics.write(file, &model.source.sha256())
    })?;
    watch.finish();
    if !args.common.quiet {
        output::print(&format!(
            "inputs: {}\n{} samples, {} activation matrices; {} more are kept apart to measure on\n",
            given.line(),
            statistics.samples,
            statistics.of.len(),
            apart.len()
        ))?;
    }
    stop.commit(staged)?;
    watch.say(&format!("wrote {}", args.output.display()));
    Ok(Exit::Done)
}

/// The runs of so many that statistics are taken of: those of the shard that are not kept apart. Errors: there are none.
fn runs_of_shard(args: &Calibrate, count: usize, apart: &[usize]) -> anyhow::Result<Vec<usize>> {
    let takes = |number: &usize| {
        apart.binary_search(number).is_err()
            && args
                .shard
                .is_none_or(|shard| number % shard.of == shard.number - 1)
    };
    let runs: Vec<usize> = (0..count).filter(takes).collect();
    if runs.is_empty() {
        bail!("this shard has no samples: there are {count} runs in all");
    }
    Ok(runs)
}

/// Reads statistics and adds them up, in order. Errors: no statistics, or those of another model.
pub(super) fn read(files: &[PathBuf], model: &Model) -> anyhow::Result<Statistics> {
    let sha256 = model.source.sha256();
    let mut all = Statistics::default();
    for file in files {
        let part = Statistics::read(file, &sha256)?;
        if let Err(problem) = all.merge(&part) {
            bail!("{}: {problem}", file.display());
        }
    }
    Ok(all)
}
