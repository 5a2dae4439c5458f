//! Finding and loading the shared library.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::error::{LibraryError, OrtFailure};
use crate::run::quiet::quiet;

/// The library that was loaded, and its environment.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) version: String,
}

/// A process can load one library and make one environment, which lives as long as the process does (`ort` asks for that).
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Loads the first of some libraries that can be used; where one was loaded before, that one is given.
/// Errors: none of them can be used, with the reason of each.
pub(super) fn load(candidates: &[PathBuf]) -> Result<Loaded, LibraryError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = &*loaded {
        return Ok(loaded.clone());
    }
    let mut problems = Vec::new();
    for path in candidates {
        match open(path) {
            Ok(found) => {
                tracing::info!("ONNX Runtime {} of {}", found.version, path.display());
                *loaded = Some(found.clone());
                return Ok(found);
            }
            Err(problem) => {
                tracing::warn!(
                    "{} cannot be used as ONNX Runtime: {problem}",
                    path.display()
                );
                problems.push((path.clone(), problem.to_string()));
            }
        }
    }
    Err(if problems.is_empty() {
        LibraryError::NoneNamed
    } else {
        LibraryError::Unusable(problems)
    })
}

fn open(path: &Path) -> Result<Loaded, OrtFailure> {
    // A relative path would be looked for beside the program.
    let path = path.canonicalize()?;
    let made = quiet(|| -> Result<(Environment, String), OrtFailure> {
        let builder =
            ort::init_from(&path).map_err(|error| OrtFailure::Refused(error.to_string()))?;
        let log = Arc::new(
            |_: LogLevel, _: &str, _: &str, place: &str, message: &str| {
                tracing::debug!("ONNX Runtime, {place}: {message}")
            },
        );
        let builder = builder
            .with_name("onnx-prune")
            .with_telemetry(false)
            .with_logger(log);
        let environment = builder.build()?;
        environment.set_log_level(LogLevel::Error);
        Ok((environment, version(&path, ort::info())))
    });
    let (environment, version) = made??;
    Ok(Loaded {
        environment,
        version,
    })
}

/// The version, by what the library says of its build (a branch `rel-1.32.0`), else by its name (`libonnxruntime.so.1.32.0`).
fn version(path: &Path, build: &str) -> String {
    let digits = |text: &str| -> Option<String> {
        let start = text.find(|letter: char| letter.is_ascii_digit())?;
        let number: String = text
            .get(start..)?
            .chars()
            .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
            .collect();
        let number = number.trim_matches('.').to_owned();
        number.contains('.').then_some(number)
    };
    let branch = build
        .split("git-branch=")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap_or_default();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    digits(branch)
        .or_else(|| digits(&name))
        .unwrap_or_else(|| "of an unknown version".to_owned())
}

/// The libraries of ONNX Runtime in one folder, by their names; the other libraries of its package are left out.
pub fn libraries(folder: &Path) -> Vec<PathBuf> {
    let is_library = |name: &str| {
        let shared = name.strip_prefix("libonnxruntime.").is_some_and(|rest| {
            rest == "so" || rest.starts_with("so.") || rest == "dylib" || rest.ends_with(".dylib")
        });
        shared || name.eq_ignore_ascii_case("onnxruntime.dll")
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| is_library(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let name = Path::new("/x/libonnxruntime.so.1.32.0");
        assert_eq!(
            version(
                name,
                "ORT Build Info: git-branch=rel-1.31.2, git-commit-id=5"
            ),
            "1.31.2"
        );
        assert_eq!(
            version(
                name,
                "ORT Build Info: git-branch=HEAD, git-commit-id=26250ae1"
            ),
            "1.32.0"
        );
        assert_eq!(
            version(Path::new("/x/libonnxruntime.1.20.1.dylib"), ""),
            "1.20.1"
        );
    }

    #[test]
    fn libraries_are_known_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.1.3.0.dylib",
            "onnxruntime.dll",
            "x.so",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<String> = libraries(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "libonnxruntime.1.3.0.dylib",
                "libonnxruntime.so.1.32.0",
                "onnxruntime.dll"
            ]
        );
    }

    #[test]
    fn what_is_no_library_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.0.0");
        std::fs::write(&path, "no library").unwrap();
        assert!(open(&path).is_err() && open(&folder.path().join("none.so")).is_err());
    }
}
