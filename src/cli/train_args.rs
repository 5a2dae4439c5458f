//! Options of training.

use clap::Args;

use super::values::{self, LossText};

/// How weights are trained.
#[derive(Clone, Debug, Args)]
pub(super) struct TrainArgs {
    /// Steps of training, with --recover distill; by the size of the model if not given
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub steps: Option<usize>,
    /// What training holds outputs against the original's by, with --recover distill: squared (the numbers as they are, such as
    /// logits), embedding (directions, as cosines compare them), kl (Kullback-Leibler divergence of the classes), or auto: embedding
    /// for rows of length one, kl for probabilities, else squared
    #[arg(long, value_name = "NAME", value_parser = values::loss)]
    pub loss: Option<LossText>,
    /// Go on with training that was stopped or killed, from OUT.checkpoint, which --recover distill writes every few minutes;
    /// with the same model, data and options
    #[arg(long)]
    pub resume: bool,
}
