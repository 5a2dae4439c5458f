//! A family of models from one calibration.

use std::path::{Path, PathBuf};

use super::args::Prune;
use super::family::{SweepText, metric};
use super::places::{Places, with_word};
use super::prune::{self, PruneJob};
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, gate, output};
use crate::files::{Place, Staged};
use crate::progress::{Phase, Progress};
use crate::prune::{Outcome, Pruner, Request, SweepPoint, pareto_front};
use crate::report::{self, Check, CheckVerdict, ExactnessVerdict, Report, SweepRow};

/// One model of the sweep, and where it goes.
struct SweepMember {
    point: SweepPoint,
    path: PathBuf,
    places: Places,
}

/// What became of one.
struct SweptModel {
    report: Report,
    exit: Exit,
    written: bool,
}

/// Makes the family.
pub(super) fn run(
    args: &Prune,
    SweepText(points): &SweepText,
    stop: &Stop,
) -> anyhow::Result<Exit> {
    let (path, target) = &prune::ends(args)?;
    let (members, reports) = claim(args, target, points, stop)?;
    let watch = Watch::new(&args.common, stop);
    let mut job = PruneJob::read(args, (path, target), &watch, stop)?;
    let runtime = job.runtime.as_deref();
    let pruner = Pruner::new(&job.model, &job.data, runtime, watch.work());
    let run = |request: &Request| pruner.sweep(request, points);
    let found = prune::pruned(args, run, &mut job.request, &watch);
    let outcomes = match super::ran(found, &job.hint, &watch)? {
        Ok(outcomes) => outcomes,
        Err(exit) => return Ok(exit),
    };
    watch.begin(Phase::Save, 0);
    let mut staged = Staged::new(&stop.outputs);
    let mut finished = Vec::new();
    for (member, outcome) in members.iter().zip(&outcomes) {
        finished.push(finish(args, &job, member, outcome, &mut staged)?);
    }
    let mut report = together(&members, &finished);
    let exit = exit(&finished);
    output::close(&mut report, &watch);
    output::stage_reports(&report, &reports, &mut staged)?;
    if !args.common.quiet {
        output::print(&report::sweep(&report))?;
    }
    stop.commit(staged)?;
    say(&watch, (exit, &job.hint), args, &report);
    Ok(exit)
}

/// Claims a place for each model and its plan, and those of the reports. Errors: one that cannot be written, or is read.
fn claim(
    args: &Prune,
    target: &Path,
    points: &[SweepPoint],
    stop: &Stop,
) -> anyhow::Result<(Vec<SweepMember>, Vec<Place>)> {
    let mut members = Vec::new();
    for point in points {
        let word = point.to_string().replace('=', "-");
        members.push(SweepMember {
            point: *point,
            path: with_word(target, &word),
            places: Places::claim_one(target, &word, &args.outputs, stop)?,
        });
    }
    let reports = output::claim_reports(stop, &args.outputs.report)?;
    prune::reads(args, stop)?;
    Ok((members, reports))
}

/// Judges one model, and writes it beside its place if it stands.
fn finish(
    args: &Prune,
    job: &PruneJob,
    member: &SweepMember,
    outcome: &Outcome,
    staged: &mut Staged,
) -> anyhow::Result<SweptModel> {
    let request = job.request.at(member.point);
    let report = job.report(args, (&request, outcome), None);
    let exit = gate::exit(&report, outcome.reached, args.gate.allow_unverified);
    let inexact = report.exactness.verdict == ExactnessVerdict::Inexact;
    let stands = !inexact && (exit == Exit::Done || args.outputs.force);
    if stands {
        let places = &member.places;
        places.stage(&outcome.model, &outcome.plan.to_json(), staged)?;
    }
    Ok(SweptModel {
        report,
        exit,
        written: stands && !args.outputs.dry_run,
    })
}

/// One report of all: in detail that of the smallest model that stands, and a row and a check for each.
fn together(members: &[SweepMember], finished: &[SweptModel]) -> Report {
    let stands = |one: &&SweptModel| one.exit == Exit::Done;
    let detailed = finished.iter().rev().find(stands).or(finished.last());
    let mut report = detailed.map(|one| one.report.clone()).unwrap_or_default();
    report.checks = members.iter().zip(finished).map(check).collect();
    report.sweep = members
        .iter()
        .zip(finished)
        .map(|(member, one)| row(member, one))
        .collect();
    let first = members.first().map(|member| metric(&member.point));
    let cost = |row: &SweepRow| match first {
        Some("params") => row.params as f64,
        Some("bytes") => row.bytes as f64,
        Some("latency") => row.latency_ms.unwrap_or(f64::NAN),
        _ => row.macs as f64,
    };
    // What was refused is no choice.
    let bad = |row: &SweepRow| match (row.stands, row.accuracy) {
        (false, _) => f64::NAN,
        (true, Some(accuracy)) => -accuracy,
        (true, None) => row.drift.unwrap_or(f64::NAN),
    };
    let models: Vec<(f64, f64)> = report
        .sweep
        .iter()
        .map(|row| (cost(row), bad(row)))
        .collect();
    for (row, on_front) in report.sweep.iter_mut().zip(pareto_front(&models)) {
        row.on_front = on_front;
    }
    report
}

/// Whether one model stands, as a test case.
fn check((member, one): (&SweepMember, &SweptModel)) -> Check {
    let (verdict, message) = match one.exit {
        Exit::Done => (CheckVerdict::Pass, "met".to_owned()),
        Exit::Unverifiable => (CheckVerdict::Unverifiable, reasons(&one.report)),
        _ => (CheckVerdict::Fail, reasons(&one.report)),
    };
    Check {
        name: format!("--sweep {}", member.point),
        verdict,
        message,
    }
}

/// Why a model does not stand.
fn reasons(report: &Report) -> String {
    let mut reasons = gate::failed(report);
    match report.exactness.verdict {
        ExactnessVerdict::Inexact => reasons.push(report::told_exactness(report)),
        ExactnessVerdict::Unverifiable => reasons.extend(report.exactness.reason.clone()),
        _ => {}
    }
    if reasons.is_empty() {
        reasons.extend(report.remarks.iter().cloned());
    }
    reasons.join("; ")
}

fn row(member: &SweepMember, one: &SweptModel) -> SweepRow {
    let report = &one.report;
    let cost = report.pruned.unwrap_or_default();
    let outputs = &report.drift.outputs;
    let agreements = outputs.iter().filter_map(|output| output.top1_agreement);
    let kl = outputs.iter().filter_map(|output| output.kl);
    let ranks = outputs.iter().filter_map(|output| output.rank_correlation);
    SweepRow {
        target: member.point.to_string(),
        macs: cost.macs.unwrap_or_default(),
        params: cost.params,
        bytes: cost.bytes,
        latency_ms: cost.latency_ms,
        drift: report.drift.worst().map(|output| output.relative_l2),
        agreement: agreements.min_by(f64::total_cmp),
        kl: kl.max_by(f64::total_cmp),
        rank_correlation: ranks.min_by(f64::total_cmp),
        accuracy: report.drift.labelled.as_ref().map(|found| found.pruned),
        exactness: report.exactness.verdict,
        path: one.written.then(|| member.path.display().to_string()),
        stands: one.exit == Exit::Done,
        on_front: false,
    }
}

/// The worst of all: a target that is missed counts more than a result that could not be checked.
fn exit(finished: &[SweptModel]) -> Exit {
    let any = |exit: Exit| finished.iter().any(|one| one.exit == exit);
    match () {
        () if any(Exit::Missed) => Exit::Missed,
        () if any(Exit::Unverifiable) => Exit::Unverifiable,
        () => Exit::Done,
    }
}

/// Says how the run ended.
fn say(watch: &Watch, (exit, hint): (Exit, &str), args: &Prune, report: &Report) {
    let written = report.sweep.iter().filter(|row| row.path.is_some()).count();
    let all = report.sweep.len();
    let ending = match args.outputs.dry_run {
        true => "nothing written (--dry-run)".to_owned(),
        false => format!("wrote {written} of {all} models"),
    };
    let refused = match args.outputs.force {
        true => "",
        false => "; --force writes the others too",
    };
    let failed = gate::failed(report).join("; ");
    if report
        .sweep
        .iter()
        .any(|row| row.exactness == ExactnessVerdict::Inexact)
    {
        super::complain(&format!(
            "{failed}. That is a fault of onnx-prune; please report it, with the model or its graph and this command; {ending}"
        ));
        return;
    }
    match exit {
        Exit::Missed => super::complain(&format!(
            "targets or thresholds are not met: {failed}; {ending}{refused}"
        )),
        Exit::Unverifiable => super::complain(&format!(
            "the results could not be verified: {failed}{hint}; {ending}; --allow-unverified accepts them"
        )),
        _ => watch.say(&ending),
    }
}
