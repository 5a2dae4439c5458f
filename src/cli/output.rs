//! What goes to stdout, and where files go.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::stop::Stop;
use crate::files::{Place, Staged};
use crate::model::Model;
use crate::report::{self, Report};

/// Writes to stdout. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            bail!("cannot write to stdout: {error}")
        }
        _ => Ok(()),
    }
}

/// `MODEL.pruned.onnx` beside the model.
pub(super) fn default_output(model: &Path) -> PathBuf {
    beside(model, "pruned")
}

/// `MODEL.WORD.onnx` beside the model.
pub(super) fn beside(model: &Path, word: &str) -> PathBuf {
    let stem = model
        .file_stem()
        .unwrap_or(model.as_os_str())
        .to_string_lossy();
    model.with_file_name(format!("{stem}.{word}.onnx"))
}

/// Loads a model and says what could not be kept of it. Errors: it cannot be read, one of its files is to be written.
pub(super) fn load(path: &Path, watch: &super::watch::Watch, stop: &Stop) -> anyhow::Result<Model> {
    stop.outputs.reads(path, "the model")?;
    let model = crate::model::load(path, crate::model::Limits::default())?;
    if !model.source.unknown_fields.is_empty() {
        let names = model.source.unknown_fields.join(", ");
        watch.warn(&format!(
            "{}: fields that this version does not know would be lost: {names}",
            path.display()
        ));
    }
    model
        .source
        .files
        .iter()
        .skip(1)
        .try_for_each(|file| stop.outputs.reads(&file.path, "the model's external data"))?;
    Ok(model)
}

/// Ends the work: puts into its report what it took and what was warned of.
pub(super) fn close(report: &mut Report, watch: &super::watch::Watch) {
    report.seconds = watch.finish();
    report.warnings = watch.warnings();
    report.peak_rss_bytes = peak_rss_bytes();
}

/// Notes files that the command reads. Errors: one of them is to be written.
pub(super) fn reads<'a>(
    stop: &Stop,
    role: &str,
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> anyhow::Result<()> {
    files
        .into_iter()
        .try_for_each(|file| Ok(stop.outputs.reads(file, role)?))
}

/// Notes the files of inputs and labels. Errors: one of them is to be written.
pub(super) fn reads_data(
    stop: &Stop,
    data: Option<&PathBuf>,
    labels: Option<&PathBuf>,
) -> anyhow::Result<()> {
    let files = data
        .map(|path| crate::inputs::sources(path))
        .unwrap_or_default();
    reads(stop, "one of the inputs", &files)?;
    reads(stop, "the labels", labels)
}

/// Claims the places of reports. Errors: an unknown ending, a place that cannot be written.
pub(super) fn claim_reports(stop: &Stop, files: &[PathBuf]) -> anyhow::Result<Vec<Place>> {
    files
        .iter()
        .try_for_each(|path| report::check_ending(path))?;
    files
        .iter()
        .map(|path| Ok(stop.outputs.claim(path, "the report")?))
        .collect()
}

/// Writes reports, to be committed. Errors: what the file system says.
pub(super) fn stage_reports(
    report: &Report,
    places: &[Place],
    staged: &mut Staged,
) -> anyhow::Result<()> {
    for place in places {
        let text = report::text(report, &place.given)?;
        staged.write(place, |file| file.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// The kernel's high-water mark of this process's memory, mapped file pages included.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Where measured latencies are kept if the user does not say.
pub(super) fn latency_table() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join(env!("CARGO_PKG_NAME")).join("latencies.json"))
}
