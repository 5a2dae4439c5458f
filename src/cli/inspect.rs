//! What could be pruned, what is frozen and why.

use super::args::Inspect;
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, advice, convert, data, defaults, output};
use crate::analysis::{Group, KeptTokens, Kind, Options};
use crate::progress::{Phase, Progress};
use crate::prune::Request;
use crate::report;
use crate::vocabulary;
use crate::workspace::Workspace;

pub(super) fn run(args: &Inspect, stop: &Stop) -> anyhow::Result<Exit> {
    let watch = Watch::new(&args.common, stop);
    watch.begin(Phase::Load, 0);
    let model = output::load(&args.model, &watch, stop)?;
    let mut report = convert::begin(&model, args.json);
    let wanted = data::wanted(&model, &data::pins(&args.input), None)?;
    let tokens = vocabulary::find(&model, &wanted).ok();
    let pins = wanted.shapes;
    convert::counted(&mut report, &model, &pins);
    watch.begin(Phase::Analyse, 0);
    let kinds = &defaults::kinds(&args.units, true);
    let request = Request {
        kinds: kinds.clone(),
        pins,
        allowed: advice::allowed(&model, &args.allow)?,
        ..Default::default()
    };
    let prepared = Workspace::owned(
        model,
        &Options {
            memory: watch.memory,
            ..request.options()
        },
    )?;
    let chosen = request.candidates(&prepared);
    convert::inspection(&mut report, &prepared, &request, &chosen);
    report.original = convert::cost(&prepared.cost.original(), None);
    report
        .remarks
        .extend(other_kinds(&prepared.analysis.groups, kinds));
    report.remarks.extend(tokens.as_ref().map(counted));
    if kinds.contains(&Kind::Layers) {
        report.remarks.push(layers(&prepared, &request, &chosen));
    }
    output::close(&mut report, &watch);
    output::print(&if args.json {
        report::json(&report)
    } else {
        report::inspection(&report)
    })?;
    Ok(Exit::Done)
}

/// What is to be said of the kinds of groups that nobody asked for.
fn other_kinds(groups: &[Group], asked: &[Kind]) -> Vec<String> {
    let mut remarks = Vec::new();
    for kind in [
        Kind::Channels,
        Kind::Heads,
        Kind::HeadDims,
        Kind::Width,
        Kind::Experts,
    ] {
        let count = groups.iter().filter(|group| group.kind == kind).count();
        if count > 0 && !asked.contains(&kind) {
            let lossy = match kind {
                Kind::Width | Kind::Experts => ", at a loss",
                _ => "",
            };
            remarks.push(format!(
                "{count} more of kind {kind}{lossy}: add {kind} to --units"
            ));
        }
    }
    remarks
}

/// What is to be said of a vocabulary.
fn counted(tokens: &KeptTokens) -> String {
    let inputs: Vec<&str> = tokens.ends.inputs.iter().map(String::as_str).collect();
    format!(
        "a vocabulary of {} tokens, by the ids of {}: --keep-tokens FILE keeps those that it lists",
        tokens.rows,
        inputs.join(", ")
    )
}

/// What is to be said of the groups that can go altogether.
fn layers(prepared: &Workspace, request: &Request, chosen: &[usize]) -> String {
    let whole = chosen
        .iter()
        .filter(|group| request.goes_whole(prepared, **group));
    let ids: Vec<&str> = whole
        .filter_map(|group| Some(prepared.analysis.groups.get(*group)?.id.as_str()))
        .collect();
    format!(
        "{} groups can go altogether, and with each its layer: {}",
        ids.len(),
        ids.join(", ")
    )
}
