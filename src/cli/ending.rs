//! How a run of the main job ended, in a sentence.

use std::path::Path;

use super::args::Prune;
use super::watch::Watch;
use super::{Exit, gate};
use crate::report::{self, ExactnessVerdict, Report};

/// Says how the run ended, with the hint where the model does not run.
pub(super) fn say(
    watch: &Watch,
    (exit, hint): (Exit, &str),
    written: bool,
    args: &Prune,
    target: &Path,
    report: &Report,
) {
    if report.exactness.verdict == ExactnessVerdict::Inexact {
        super::complain(&format!(
            "{}. That is a fault of onnx-prune, so nothing is written; please report it, with the model or its graph and this command",
            report::told_exactness(report)
        ));
        return;
    }
    // Without the tables, the reason would be nowhere.
    let mut reasons = gate::failed(report);
    if args.common.quiet {
        reasons.extend(
            report
                .exactness
                .reason
                .iter()
                .filter(|_| exit == Exit::Unverifiable)
                .chain(&report.remarks)
                .cloned(),
        );
    }
    let reason = if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join("; "))
    };
    let ending = |force: &str| match (written, args.outputs.dry_run) {
        (true, _) => format!("wrote {} all the same", target.display()),
        (false, true) => "nothing written (--dry-run)".to_owned(),
        (false, false) => format!("nothing written ({force})"),
    };
    match exit {
        Exit::Missed => super::complain(&format!(
            "targets or thresholds are not met{reason}; {}",
            ending("--force writes all the same")
        )),
        Exit::Unverifiable => {
            super::complain(&format!(
                "the result could not be verified{reason}{hint}; {}",
                ending("--allow-unverified accepts it")
            ));
        }
        _ if written && args.output.is_none() => watch.say(&format!(
            "wrote {} (-o gives it another name)",
            target.display()
        )),
        _ if written => watch.say(&format!("wrote {}", target.display())),
        _ => watch.say("nothing written (--dry-run)"),
    }
}
