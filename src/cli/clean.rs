//! Lossless clean-up.

use super::args::Clean;
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, output};
use crate::analysis::Options;
use crate::dead::clean;
use crate::files::Staged;
use crate::progress::{Phase, Progress};

pub(super) fn run(args: &Clean, stop: &Stop) -> anyhow::Result<Exit> {
    let place = stop.outputs.claim(&args.output, "the clean model")?;
    let watch = Watch::new(&args.common, stop);
    watch.begin(Phase::Load, 0);
    let mut model = output::load(&args.model, &watch, stop)?;
    watch.begin(Phase::Cut, 0);
    let options = Options {
        memory: watch.memory,
        ..Default::default()
    };
    let (cleaned, dead) = clean(&mut model, args.fold_norms, &options)?;
    watch.begin(Phase::Save, 0);
    let mut staged = Staged::new(&stop.outputs);
    crate::model::stage(&model, &place, &mut staged)?;
    watch.finish();
    if !args.common.quiet {
        output::print(&format!(
            "{} nodes and {} initializers removed ({} of them equal to others), {} constants folded, {} normalisations folded, {} bytes saved\n",
            cleaned.removed_nodes,
            cleaned.removed_initializers,
            cleaned.merged,
            cleaned.folded,
            cleaned.folded_norms,
            cleaned.bytes_saved
        ))?;
        if !dead.is_empty() {
            output::print(&format!("dead: {dead} removed\n"))?;
        }
    }
    stop.commit(staged)?;
    watch.say(&format!("wrote {}", args.output.display()));
    Ok(Exit::Done)
}
