//! The option that says in which views inputs are seen.

use clap::Args;

use crate::inputs::Augment;
use crate::plan::Fit;

/// In which views inputs are seen.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ViewArgs {
    /// Views of inputs that weights are fitted to and trained by: none, a list of flip, crop, colour, mix (of pictures) and splice
    /// (of sentences, in training), used where the original still sees what it saw, or auto, which is all but colour in
    /// training and none elsewhere. As the plan says, or auto, if not given
    #[arg(long, value_name = "VIEWS")]
    augment: Option<Augment>,
}

impl ViewArgs {
    /// Those that are asked for, or were when weights were fitted before.
    pub fn augment(&self, planned: Option<&Fit>) -> Augment {
        let planned = || planned?.augment.as_ref()?.parse().ok();
        self.augment.or_else(planned).unwrap_or_default()
    }
}
