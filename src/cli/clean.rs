//! Lossless clean-up.

use super::args::Clean;
use super::watch::Watch;
use super::{Exit, output};
use crate::clean::{Options, clean};
use crate::progress::{Phase, Progress};

pub(super) fn run(args: &Clean) -> anyhow::Result<Exit> {
    output::check_output(&args.output, &[&args.model])?;
    let watch = Watch::new(&args.common);
    watch.begin(Phase::Load, 0);
    let mut model = output::load(&args.model, &watch)?;
    watch.begin(Phase::Cut, 0);
    let contents = crate::analysis::known(&model);
    let cleaned = clean(&mut model, Options { contents: Some(&contents), fold_norms: args.fold_norms })?;
    watch.begin(Phase::Save, 0);
    crate::model::save(&model, &args.output)?;
    watch.finish();
    if !args.common.quiet {
        output::print(&format!(
            "{} nodes and {} initializers removed ({} of them equal to others), {} constants folded, {} normalisations folded, {} bytes saved\n",
            cleaned.removed_nodes, cleaned.removed_initializers, cleaned.merged, cleaned.folded, cleaned.folded_norms, cleaned.bytes_saved
        ))?;
    }
    watch.say(&format!("wrote {}", args.output.display()));
    Ok(Exit::Done)
}
