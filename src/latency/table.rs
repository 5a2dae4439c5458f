//! What single operators take, measured once and kept in a file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::measure::spread;
use crate::files;
use crate::model::Model;
use crate::run::{Runtime, Tensors};

/// Time for measuring one operator, and runs at most.
const BUDGET: Duration = Duration::from_millis(4);
const RUNS: usize = 25;

/// Milliseconds of operators in a runtime on a machine, by what they are and their shapes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The version of this format.
    pub format: u32,
    /// The runtime and its version.
    pub runtime: String,
    /// The processor.
    pub machine: String,
    /// Milliseconds.
    pub operators: BTreeMap<String, f64>,
}

/// A table that grows by what is asked for and is not there.
pub struct Measured<'a> {
    runtime: &'a dyn Runtime,
    path: Option<PathBuf>,
    table: Mutex<Table>,
}

impl<'a> Measured<'a> {
    /// Begins with what a file holds; one that is not there, of another runtime or another machine counts as empty.
    pub fn open(runtime: &'a dyn Runtime, path: Option<&Path>) -> Self {
        let empty = Table {
            format: 1,
            runtime: format!("{} {}", runtime.name(), runtime.version()),
            machine: machine(),
            operators: BTreeMap::new(),
        };
        let read =
            path.and_then(|path| serde_json::from_str::<Table>(&files::text(path).ok()?).ok());
        let fits = |table: &Table| {
            table.format == 1 && table.runtime == empty.runtime && table.machine == empty.machine
        };
        let table = read.filter(fits).unwrap_or(empty);
        Measured {
            runtime,
            path: path.map(Path::to_owned),
            table: Mutex::new(table),
        }
    }

    /// Milliseconds of a small model, its fastest run; `None` where the runtime does not run it.
    pub fn time(&self, key: &str, model: &Model, inputs: &Tensors) -> Option<f64> {
        if let Some(known) = self
            .table
            .lock()
            .ok()
            .and_then(|table| table.operators.get(key).copied())
        {
            return Some(known);
        }
        let session = self.runtime.prepare_variant(model, inputs).ok()?;
        let time = spread(&[&*session], inputs, RUNS, BUDGET)
            .ok()?
            .first()?
            .least;
        if let Ok(mut table) = self.table.lock() {
            table.operators.insert(key.to_owned(), time);
        }
        Some(time)
    }

    /// Writes the file, if there is one to write. Errors: it can not be written.
    pub fn save(&self) -> std::io::Result<()> {
        let (Some(path), Ok(table)) = (&self.path, self.table.lock()) else {
            return Ok(());
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let text = serde_json::to_string_pretty(&*table)?;
        files::write(path, |file| file.write_all(text.as_bytes())).map_err(std::io::Error::other)
    }
}

/// The processor's name, where the system tells it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'));
    named.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}
