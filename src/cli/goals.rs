//! What a run of the main job is to reach, and options that contradict each other.

use anyhow::bail;

use super::args::Prune;
use super::training;
use super::values::{GoalText, Recovery};
use crate::allocate::{Align, Target};
use crate::recover::Method;
use crate::score::{Needs, Scorer};

/// The targets of size and time, the drift allowed, the least of those asked for, and the agreement, the most.
pub(super) fn goals(args: &Prune) -> (Vec<Target>, Option<f64>, Option<f64>) {
    let (mut targets, mut drift, mut agreement) = (Vec::new(), None, None);
    for goal in &args.target {
        match goal {
            GoalText::Cost(target) => targets.push(*target),
            GoalText::Drift(allowed) => drift = Some(drift.unwrap_or(f64::INFINITY).min(*allowed)),
            GoalText::Agreement(least) => agreement = Some(agreement.unwrap_or(0.0f64).max(*least)),
        }
    }
    (targets, drift, agreement)
}

/// Errors: options that contradict each other; `quality` is the drift or agreement that was asked for.
pub(super) fn check(
    args: &Prune,
    targets: &[Target],
    quality: Option<f64>,
    score: &Scorer,
) -> anyhow::Result<()> {
    if quality.is_some() && !targets.is_empty() && args.no_verify {
        bail!(
            "--target drift=… or agreement=… beside a target of size is checked by running the models; leave out --no-verify"
        );
    }
    let timed = targets
        .iter()
        .any(|target| matches!(target, Target::Latency(_)))
        || args.align == Some(Align::Auto);
    if timed && args.no_verify {
        bail!("latencies are measured by running the model; leave out --no-verify");
    }
    let (data, stats) = (args.data.data.is_some(), !args.stats.is_empty());
    if args.judged.labels.is_some() && !data && args.judged.verify_data.is_none() {
        bail!("--labels are the classes of inputs; give these with --data or --verify-data");
    }
    if score.needs() == Needs::Activations && !data && !stats && args.plan.is_none() {
        bail!(
            "--score {score} is computed from activations: give inputs with --data, or statistics with --stats"
        );
    }
    if score.needs() == Needs::Derivatives && !data && args.plan.is_none() {
        bail!("--score {score} is computed from gradients of the outputs: give inputs with --data");
    }
    training::check(&args.train, args.recover, &args.data, &args.judged)?;
    if args.recover == Some(Recovery::With(Method::Statistics)) && !data && stats {
        bail!(
            "--recover statistics compares outputs, so it needs --data; --stats alone are enough for least-squares"
        );
    }
    Ok(())
}
