//! What goes to stdout, and where files go.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::model::Model;

/// Writes to stdout. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => bail!("cannot write to stdout: {error}"),
        _ => Ok(()),
    }
}

/// `MODEL.pruned.onnx` beside the model.
pub(super) fn default_output(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or(model.as_os_str()).to_string_lossy();
    model.with_file_name(format!("{stem}.pruned.onnx"))
}

/// Refuses to write over a file that is read. Errors: they are the same, the folder does not exist.
pub(super) fn check_output(output: &Path, read: &[&Path]) -> anyhow::Result<()> {
    for input in read {
        if same_file(output, input) {
            bail!("{}: the output is the file that is read; name another with -o", output.display());
        }
    }
    check_folder(output)?;
    if output.is_dir() {
        bail!("{}: this is a folder; name a file with -o", output.display());
    }
    Ok(())
}

/// Errors: the folder that a file is to go to does not exist.
pub(super) fn check_folder(output: &Path) -> anyhow::Result<()> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{}: there is no folder {}", output.display(), folder.display());
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    if a == b {
        return true;
    }
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (std::fs::metadata(a), std::fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt;
        // Hard links are the same file under other names.
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Loads a model and says what could not be kept of it.
pub(super) fn load(path: &Path, watch: &super::watch::Watch) -> anyhow::Result<Model> {
    let model = crate::model::load(path, crate::model::Limits::default())?;
    if !model.source.unknown_fields.is_empty() {
        let names = model.source.unknown_fields.join(", ");
        watch.warn(&format!("{}: fields that this version does not know would be lost: {names}", path.display()));
    }
    Ok(model)
}

/// The kernel's high-water mark of this process's memory, mapped file pages included.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Where measured latencies are kept if the user does not say.
pub(super) fn latency_table() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join(env!("CARGO_PKG_NAME")).join("latencies.json"))
}
