//! What runs models, and where ONNX Runtime is looked for.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Exit;
use super::values::EngineName;
use crate::progress::Memory;
use crate::run::{Engines, Fallback, LibraryError, OrtRuntime, Runtime, TractRuntime, libraries};

/// How a user gets the library.
const HOW: &str = "set ORT_DYLIB_PATH to the file of its library, 1.17 or newer, or install the Python package onnxruntime";
/// Asks Python for its folders; nothing is imported but what is built in.
const FOLDERS: &str = "import sys; print('\\n'.join(sys.path))";
/// How long Python may take to start.
const PATIENCE: Duration = Duration::from_secs(5);

/// What runs the models of a command, those that take no more than so much memory. `self_check` as for [`TractRuntime`].
/// Errors: ONNX Runtime is asked for and not at hand.
pub(super) fn runtime(
    engine: EngineName,
    self_check: bool,
    memory: Memory,
) -> anyhow::Result<Box<dyn Runtime>> {
    let tract = TractRuntime::new(self_check).within(memory);
    Ok(match engine {
        EngineName::Tract => Box::new(tract),
        EngineName::Auto => {
            let find = || {
                let how = || format!("ONNX Runtime would be used if it were found: {HOW}");
                onnxruntime().map_err(|_| LibraryError::NotAtHand(how()))
            };
            Box::new(Engines::new(tract, Box::new(find)))
        }
        EngineName::Ort => {
            let found = onnxruntime().and_then(|libraries| OrtRuntime::load(&libraries));
            let found = found.map(|runtime| runtime.within(memory));
            Box::new(found.map_err(|missing| {
                anyhow!("--runtime ort: ONNX Runtime is not at hand: {missing}; {HOW}")
            })?)
        }
    })
}

/// One of several models that does not run.
#[derive(Debug)]
pub(super) struct EngineFailure {
    /// Which: the first is the original.
    pub model: usize,
    /// Why, with the file's name.
    pub reason: String,
}

impl EngineFailure {
    /// The exit code: nothing can be said without the original, and what was made of it must run where that does.
    pub fn exit(&self) -> Exit {
        if self.model == 0 {
            Exit::Unverifiable
        } else {
            Exit::Missed
        }
    }

    /// Why, with a hint at the inputs where it is the original that does not take them.
    pub fn said(&self, hint: &str) -> String {
        let hint = if self.model == 0 { hint } else { "" };
        format!("{}{hint}", self.reason)
    }
}

/// What was done in one runtime.
pub(super) type Done<T> = anyhow::Result<Result<T, EngineFailure>>;

/// Does something with several models in a runtime, and where one of them does not run, all of it in what that falls back to.
/// Gives the runtime that did it.
pub(super) fn in_either<T>(
    runtime: &dyn Runtime,
    work: impl Fn(&dyn Runtime) -> Done<T>,
) -> Done<(T, &dyn Runtime)> {
    let first = match work(runtime)? {
        Ok(done) => return Ok(Ok((done, runtime))),
        Err(failure) => failure,
    };
    Ok(Err(match runtime.fallback() {
        Fallback::Nothing => first,
        Fallback::Missing(missing) => EngineFailure {
            reason: format!("{} ({missing})", first.reason),
            ..first
        },
        Fallback::Runtime(other) => match work(other)? {
            Ok(done) => return Ok(Ok((done, other))),
            // The runtime that came further says more.
            Err(second) if second.model < first.model => first,
            Err(second) if second.model > first.model => second,
            Err(second) if second.reason == first.reason => first,
            Err(second) => EngineFailure {
                reason: format!("{}; {}", first.reason, second.reason),
                ..first
            },
        },
    }))
}

/// Libraries of ONNX Runtime at hand: the file that ORT_DYLIB_PATH names, else that of the package in the folders that
/// `python3` (or `python`) says it imports from. Folders that depend on where the command was called are left out.
/// Errors: there are none.
pub fn onnxruntime() -> Result<Vec<PathBuf>, LibraryError> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Ok(vec![path.into()]);
    }
    for program in ["python3", "python"] {
        tracing::info!("asking {program} where its packages are, to look for ONNX Runtime");
        let folders = folders(program).unwrap_or_default();
        let found: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| libraries(&folder.join("onnxruntime").join("capi")))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(LibraryError::NotFound)
}

/// The folders that a Python imports from; `None` where there is none, or it does not answer.
fn folders(program: &str) -> Option<Vec<PathBuf>> {
    let mut command = Command::new(program);
    command
        .args(["-c", FOLDERS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let answered = wait(&mut child);
    if !answered {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    let mut answer = String::new();
    child.stdout.take()?.read_to_string(&mut answer).ok()?;
    let here = std::env::current_dir().unwrap_or_default();
    let fixed = |folder: &Path| folder.is_absolute() && folder != here;
    Some(
        answer
            .lines()
            .map(PathBuf::from)
            .filter(|folder| fixed(folder))
            .collect(),
    )
}

/// Whether a process ends well and in time.
fn wait(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return false,
        }
    }
    false
}
